"""What a reader and a layout are, seen from `ingest`.

A reader is one kind of source: it lists images without decoding a pixel and gives the encoded bytes of one of them. A
layout reads classes, domains, splits and groups from the paths of a source and from the lists that lie beside them.
Neither is part of a recipe: whoever computes compares the bytes with the row's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import ID

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = (".png", *JPEG_SUFFIXES, ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".avif")
VIDEO_SUFFIXES = (".mp4", ".mov")


class Locations(Sequence[str]):
    """Places of rows as texts, `before + name + after`, made when asked for; integer arrays and slices select some."""

    def __init__(self, before: str, names: Sequence[str]) -> None:
        self._before = before
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, (int, np.integer)):
            return self._before + self._names[int(rows)]
        if isinstance(rows, slice):
            return Locations(self._before, self._names[rows])
        picked = np.arange(len(self))[rows]
        return Locations(self._before, [self._names[row] for row in picked.tolist()])

    def __iter__(self) -> Iterator[str]:
        return (self._before + name for name in self._names)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(list(self), dtype=object if dtype is None else dtype)


class Numbers(Sequence[str]):
    """The texts of 0, 1, ... without a list of them."""

    def __init__(self, count: int) -> None:
        self._rows = range(count)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Any:
        return [str(row) for row in self._rows[rows]] if isinstance(rows, slice) else str(self._rows[rows])


def ids_of(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """(n,) V16, the first halves of (n, 32) uint8 digests."""
    return np.ascontiguousarray(digests[:, : ID.itemsize]).view(ID)[:, 0]


@dataclass(frozen=True)
class Pixels:
    """Digests of pixels that a list of a data set states.

    name    what the list calls them
    list    the file
    md5     one per row, 32 hexadecimal digits in lower case; "": none is stated
    planes  of (3, H, W) uint8 RGB; else of (H, W, 3)
    """

    name: str
    list: Path
    md5: Sequence[str]
    planes: bool


@dataclass
class Columns:
    """What a source says of its rows, one entry per row; None: nothing.

    label    words that say what a row is, looked up in a table of names; "": nothing
    split    "train", "val", "test" or ""
    domain, group  words; "" in `group`: the row is its own group
    more     further columns by name that a domain may be made of (`domain_by`)
    keep     rows that count, ascending; None: all
    told     "licence", "author", "url" or "provenance" -> what is said of each row, "": nothing
    pixels   digests of pixels, where `verify` asks for them and a list states them
    """

    label: Sequence[str] | None = None
    split: Sequence[str] | None = None
    domain: Sequence[str] | None = None
    group: Sequence[str] | None = None
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: Sequence[int] | None = None
    notes: list[str] = field(default_factory=list)
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pixels: Pixels | None = None


@dataclass
class Found:
    """Rows of a source as its reader lists them.

    shown      what messages call the source
    locations  where each row's bytes lie, for `Reader.read`
    paths      names with "/" between folders, from which classes, domains and groups may be made; None: rows have none
    root       the folder that paths start at, if it is one on the disk
    problems   row number -> why it cannot be read
    container  what holds the images, for people; "": files of their own
    title      what a list of rows calls itself
    line       row number -> file and line that name the row
    """

    shown: str
    ids: NDArray[np.void]
    locations: Sequence[str]
    paths: Sequence[str] | None = None
    root: Path | None = None
    columns: Columns = field(default_factory=Columns)
    problems: Mapping[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    container: str = ""
    title: str = ""
    line: Callable[[int], str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.locations, Locations):  # the engine picks places by integer arrays
            self.locations = Locations("", self.locations)


@dataclass(frozen=True)
class Reader:
    """One kind of source.

    description  of the setting that names the source
    rows         (config, scan) -> Found; raises ConfigError or SourceError with one sentence
    read         (config, location) -> the encoded bytes; raises RowError or OSError
    kind         type of the setting
    settings     further settings by name: (type, pydantic field)
    paths        whether rows have file names
    suffixes     endings of the files that are such a source, in lower case
    folders      whether a folder of such files is one source
    member       (file, name) -> content of that member of an archive, or None; raises RowError
    """

    description: str
    rows: Callable[[Any, Any], Found]
    read: Callable[[Any, str], bytes]
    kind: Any = str
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    paths: bool = True
    suffixes: tuple[str, ...] = ()
    folders: bool = False
    member: Callable[[Path, str], bytes | None] = lambda place, name: None


@dataclass(frozen=True)
class Tree:
    """Paths of a source as a layout sees them.

    paths    of all images, sorted as the reader lists them
    folders  distinct folders among them
    root     the folder on the disk; None: the source is no folder
    shown    what messages call the source
    """

    paths: Sequence[str]
    folders: Sequence[str]
    root: Path | None
    shown: str
    scan: Any


@dataclass(frozen=True)
class Layout:
    """How a published data set lies on a disk.

    title    what notes call it
    fits     whether a tree is of this kind
    columns  (tree, config) -> Columns; raises ConfigError with one sentence
    settings further settings by name: (type, pydantic field)
    videos   (folder) -> whether its rows are videos
    """

    title: str
    fits: Callable[[Tree], bool]
    columns: Callable[[Tree, Any], Columns]
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    videos: Callable[[Path], bool] = lambda folder: False
