"""What sources say of rows besides values: their file, and what attributions need, as texts made when asked for.

A row that a stage gave values of its own (a translation, an upsampled picture) has no file, but owes attribution to
what it was made from: to the rows of the sources above it, and to checkpoints that a manifest states a licence of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.planning.selection import Branch, Selection, Side

FILE, LICENCE = "file", "licence"
COLUMNS = (FILE, LICENCE, "author", "url", "provenance")

OF_ENTRIES = {LICENCE: "licence", "provenance": "origin"}
"""Column -> what an entry of a manifest of checkpoints calls it."""

Told = Callable[[NDArray[np.int64]], list[str]]
"""Positions in a selection -> a text each."""


class Texts:
    """One text per row, (n,): made where an array of them is asked for. Indexing selects rows."""

    def __init__(self, parts: Sequence[Told], part: NDArray[np.int32], row: NDArray[np.int64]) -> None:
        self._parts, self._part, self._row = parts, part, row

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, rows: Any) -> Texts:
        return Texts(self._parts, self._part[rows], self._row[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = np.empty(len(self), object)
        for number, tell in enumerate(self._parts):
            mine = np.flatnonzero(self._part == number)
            found[mine] = tell(self._row[mine])
        return found.astype(str if dtype is None else dtype)


def texts_of(selections: Sequence[Selection], words: Sequence[str], base: Path) -> dict[str, Texts]:
    """Column -> the texts of all rows. words: sources by number; base: folder of the pipeline file."""
    sizes = [len(one) for one in selections]
    part = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    row = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, np.int64)
    told: dict[str, list[Told]] = {name: [] for name in COLUMNS}
    for selection in selections:
        places = [place for side in selection.sides for place in _places(side, words)]
        told[FILE].append(_files(selection.sides[0], words, base))
        for name in COLUMNS[1:]:
            told[name].append(_joined([_said(place, name) for place in places]))
    return {name: Texts(parts, part, row) for name, parts in told.items()}


def _born_here(branch: Branch, words: Sequence[str]) -> bool:
    sources = branch.rows.source
    return not branch.sides or branch.stage.origin or (len(sources) > 0 and words[int(sources[0])] == branch.node)


def _places(side: Side, words: Sequence[str]) -> Iterator[Side]:
    """Where the rows of a side, or what they were made of, were born: sources, and whatever gives rows values."""
    branch = side.branch
    if _born_here(branch, words):
        yield side
    for above in branch.sides:
        yield from _places(Side(above.branch, above.positions[side.positions]), words)


def _said(place: Side, name: str) -> Told | str:
    """A text for each row, or the same for all."""
    branch = place.branch
    if branch.positions is not None and name in branch.told:
        column, entries = branch.told[name], branch.positions[place.positions]
        return lambda rows: [column[entry] for entry in entries[rows].tolist()]
    key = OF_ENTRIES.get(name, "")
    of_files = {str(file.entry[key]) for file in branch.files.values() if file.entry.get(key)}
    return "; ".join(sorted(of_files)) or (branch.licence if name == LICENCE else "")


def _joined(said: Sequence[Told | str]) -> Told:
    """What all of them say, each once."""
    always = [one for one in said if isinstance(one, str)]
    by_row = [one for one in said if not isinstance(one, str)]

    def tell(rows: NDArray[np.int64]) -> list[str]:
        columns = [one(rows) for one in by_row] or [[""] * len(rows)]
        return [_once((*always, *texts)) for texts in zip(*columns, strict=True)]

    return tell


def _once(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _files(side: Side, words: Sequence[str], base: Path) -> Told:
    """The file of each row of one that has come from it by steps that happen to one image; else "".

    The path starts at the pipeline file's folder; of a file outside, at the folder or archive that its source names.
    """
    branch, positions = side.branch, side.positions
    while branch.sides and not _born_here(branch, words):
        one = branch.sides[0]
        branch, positions = one.branch, one.positions[positions]
    if branch.positions is None or "location" not in branch.payload:
        return lambda rows: [""] * len(rows)
    locations, names = branch.payload["location"], branch.told.get(FILE)
    entries, inside = branch.positions[positions], f"{base}/"

    def tell(rows: NDArray[np.int64]) -> list[str]:
        chosen = entries[rows].tolist()
        return [_place(str(locations[entry]), names[entry] if names else "", inside) for entry in chosen]

    return tell


def _place(location: str, name: str, inside: str) -> str:
    kind, path = ("", location) if location.startswith("/") else location.partition("/")[::2]
    path = path if not kind else f"/{path}"
    if path.startswith(inside):
        return kind + path[len(inside) :]
    return name or kind + path.rpartition("/")[2]
