"""GenImage: `GENERATOR[/INNER]/{train,val}/{ai,nature}/FILE`, with or without the inner folder; domains are generators.

Its photographs keep the names that ImageNet gave them, so that exchanged classes are seen.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from pipeline.errors import ConfigError
from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.naming import SPLIT_WORDS, class_table
from stages.images.readers.places import Place, classes, columns_of, joined, parts_of, split_of

INNER = re.compile(r"imagenet_.+", re.IGNORECASE)
PHOTOGRAPH = re.compile(r"(n\d{8}_\d+|ILSVRC2012_\w+_\d{8})\.\w+", re.IGNORECASE)


def _fits(tree: Tree) -> bool:
    leaves = [parts for parts in map(parts_of, tree.folders) if parts and parts[-1].lower() in ("ai", "nature")]
    return 2 * len(leaves) >= max(len(tree.folders), 1) and all(split_of(parts) for parts in leaves)


def _columns(tree: Tree, config: Any) -> Columns:
    words = classes(tree, class_table(config.labels))
    _refuse_exchanged(tree, words)

    def place(folder: str) -> Place:
        parts = parts_of(folder)
        at = next((number for number, part in enumerate(parts) if part.lower() in SPLIT_WORDS), len(parts) - 1)
        above = parts[:at]
        if len(above) > 1 and INNER.fullmatch(above[-1]):
            del above[-1]
        return Place(words[folder], joined(above[-1:]), split_of(parts))

    columns = columns_of(tree, place)
    columns.notes += benchmark_notes("genimage", tree.paths, columns.domain)
    return columns


def _refuse_exchanged(tree: Tree, words: dict[str, str]) -> None:
    """Raise ConfigError where the files of a class `ai` have the names of photographs, and those of `nature` do not."""
    count: Counter[tuple[str, str]] = Counter()
    photographs: Counter[tuple[str, str]] = Counter()
    for path in tree.paths:
        folder, _, name = path.rpartition("/")
        key = folder.rpartition("/")[0], words[folder]
        count[key] += 1
        photographs[key] += bool(PHOTOGRAPH.fullmatch(name))
    for above in sorted({key[0] for key in count}):
        real, fake = (above, "real"), (above, "fake")
        if count[real] and 2 * photographs[fake] > count[fake] and 2 * photographs[real] < count[real]:
            raise ConfigError(
                f"{tree.shown}: {above}/ai holds {photographs[fake]:,} files named like photographs of ImageNet, "
                f"{above}/nature only {photographs[real]:,} of {count[real]:,}: the folders of classes seem exchanged; "
                "rename them, or set labels: {ai: real, nature: fake}"
            )


LAYOUT = Layout("genimage", _fits, _columns)
