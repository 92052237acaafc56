"""DiffusionForensics: `[images/]{train,val,test}/SUBJECT/{real,GENERATOR}/FILE`, beside it `recons` and `dire`.

Reconstructions and their differences are made of the images and are no rows of their own. The folder of a class is
`real`, or else the name of a generator.
"""

from __future__ import annotations

from typing import Any

from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.naming import SPLIT_WORDS
from stages.images.readers.places import Place, columns_of, joined, parts_of

IMAGES, DERIVED = "images", ("recons", "dire")
SUBJECTS = frozenset({"lsun_bedroom", "imagenet", "celebahq"})


def _inner(folder: str) -> list[str]:
    """(split, subject, class, ...) of a folder; [] where it is none."""
    parts = parts_of(folder)
    parts = parts[1:] if parts and parts[0] in (IMAGES, *DERIVED) else parts
    return parts if len(parts) > 2 and parts[0] in SPLIT_WORDS and parts[1].lower() in SUBJECTS else []


def _fits(tree: Tree) -> bool:
    return all(_inner(folder) for folder in tree.folders)


def _columns(tree: Tree, config: Any) -> Columns:
    def place(folder: str) -> Place:
        parts = _inner(folder)
        if not parts or parts_of(folder)[0] in DERIVED:
            return Place("real", ".", skip=True)
        real = parts[2].lower() == "real"
        return Place("real" if real else "fake", joined(parts[1:2] if real else parts[1:3]), SPLIT_WORDS[parts[0]])

    columns = columns_of(tree, place)
    kept = columns.keep if columns.keep is not None else range(len(tree.paths))
    assert columns.domain is not None
    columns.notes += benchmark_notes("diffusionforensics", tree.paths, [columns.domain[row] for row in kept])
    return columns


LAYOUT = Layout("diffusionforensics", _fits, _columns)
