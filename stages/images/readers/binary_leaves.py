"""Trees whose folders say real or fake, most often the last ones: ForenSynths, AIGCDetectBenchmark, AIGIBench,
UniversalFakeDetect, WildRF.

They lie alike, `[SPLIT/]GENERATOR[/CLASS]/{0_real,1_fake}/FILE`, so that only the names of their sets tell them apart.
"""

from __future__ import annotations

from typing import Any

from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.naming import SPLIT_WORDS, class_table
from stages.images.readers.places import Place, classes, columns_of, joined, parts_of, split_of


def _fits(tree: Tree) -> bool:
    """Half of the folders or more are called like a class, or all lie in folders of both classes."""
    table = class_table({})
    words = [[table.get(part.lower(), "") for part in parts_of(folder)] for folder in tree.folders]
    if 2 * sum(bool(one and one[-1]) for one in words) >= max(len(words), 1):
        return True
    return all(map(any, words)) and {"real", "fake"} <= {word for one in words for word in one}


def _columns(tree: Tree, config: Any) -> Columns:
    table = class_table(config.labels)
    words = classes(tree, table)

    rests = {}
    for folder in tree.folders:
        parts = parts_of(folder)
        last = max(number for number, part in enumerate(parts) if part.lower() in table)
        rests[folder] = [part for number, part in enumerate(parts) if number != last]
    by_split = all(split_of(rest[:1]) for rest in rests.values())  # else `train` is a vehicle

    def place(folder: str) -> Place:
        rest = rests[folder]
        return Place(words[folder], joined(rest[by_split:]), split_of(rest[:by_split]))

    columns = columns_of(tree, place)
    columns.notes += benchmark_notes(config.layout, tree.paths, columns.domain, frozenset(SPLIT_WORDS))
    return columns


LAYOUT = Layout("binary leaves", _fits, _columns)
