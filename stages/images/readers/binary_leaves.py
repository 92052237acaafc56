"""Trees whose last folders say real or fake: ForenSynths, AIGCDetectBenchmark, UniversalFakeDetect, AIGIBench, WildRF.

They lie alike, `[SPLIT/]GENERATOR[/CLASS]/{0_real,1_fake}/FILE`, so that only the names of their sets tell them apart.
"""

from __future__ import annotations

from typing import Any

from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.naming import SPLIT_WORDS, class_table
from stages.images.readers.places import Place, classes, columns_of, joined, parts_of, split_of


def _fits(tree: Tree) -> bool:
    """Half of the folders or more are called like a class."""
    table = class_table({})
    leaves = [parts[-1].lower() in table for parts in map(parts_of, tree.folders) if parts]
    return 2 * sum(leaves) >= max(len(tree.folders), 1)


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
