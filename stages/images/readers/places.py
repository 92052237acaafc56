"""Layouts that are read from folders alone: what a folder says is worked out once and holds for all of its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.sentences import counted
from pipeline.spelling import normalized
from stages.images.readers.contract import Columns, Tree
from stages.images.readers.naming import SPLIT_WORDS, by_folder


@dataclass(frozen=True)
class Place:
    """What a folder says: a word for the class ("": nothing), a split or "", and whether its images do not count."""

    label: str
    domain: str
    split: str = ""
    skip: bool = False


def parts_of(folder: str) -> list[str]:
    """Names of the folders on a way."""
    return normalized(folder).split("/") if folder else []


def columns_of(tree: Tree, place: Callable[[str], Place]) -> Columns:
    """Columns of all images by their folders."""
    places = {folder: place(folder) for folder in tree.folders}
    rows = [places[path.rpartition("/")[0]] for path in tree.paths]
    keep = [row for row, one in enumerate(rows) if not one.skip]
    if not keep:
        raise ConfigError(f"{tree.shown}: found no image that counts in this layout")
    return Columns(
        label=[one.label for one in rows] if any(one.label for one in rows) else None,
        split=[one.split for one in rows],
        domain=[one.domain for one in rows],
        keep=None if len(keep) == len(rows) else keep,
        notes=[f"{counted(len(rows) - len(keep), 'image')} left out by the layout"] if len(keep) < len(rows) else [],
    )


def classes(tree: Tree, table: dict[str, str]) -> dict[str, str]:
    """Folder -> "real" or "fake"; raises ConfigError naming those that say neither."""
    words = by_folder([f"{folder}/*" if folder else "*" for folder in tree.folders], table, tree.shown, "the layout")
    return dict(zip(tree.folders, words, strict=True))


def split_of(parts: list[str]) -> str:
    """Split by the first folder that is called like one; "" without."""
    return next((SPLIT_WORDS[part.lower()] for part in parts if part.lower() in SPLIT_WORDS), "")


def joined(parts: list[str]) -> str:
    """Name of a domain; "." where no folder is left."""
    return "/".join(parts) or "."
