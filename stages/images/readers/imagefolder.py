"""ImageNet, ImageWoof and their like: `{train,val}/CLASS/FILE`; what is real is the node's `label`."""

from __future__ import annotations

from typing import Any

from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.naming import SPLIT_WORDS
from stages.images.readers.places import Place, columns_of, joined, parts_of, split_of


def _fits(tree: Tree) -> bool:
    """Every image lies in a class below a split."""
    return all(split_of(parts[:-1]) for parts in map(parts_of, tree.folders))


def _columns(tree: Tree, config: Any) -> Columns:
    def place(folder: str) -> Place:
        parts = parts_of(folder)
        at = next((number for number, part in enumerate(parts) if part.lower() in SPLIT_WORDS), -1)
        return Place("", joined(parts[at + 1 :]), split_of(parts))

    columns = columns_of(tree, place)
    columns.notes += benchmark_notes(config.layout, tree.paths, columns.domain)
    return columns


LAYOUT = Layout("imagefolder", _fits, _columns)
