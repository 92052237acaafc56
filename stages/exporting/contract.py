"""What a format of exports is, and the rows that it is given.

A format is a module of this room that says so as `FORMAT`, and a line in `stages.FORMATS`. It fills a folder with its
files; what every export has (card, Croissant, attributions) and that it appears whole is the business of `export`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.dataset import Dataset
from pipeline.stage import PICTURE, SPLITS, Field

LABELS = ("real", "fake")
"""By label."""

COLUMNS = {
    "id": "32 hexadecimal digits: the row, for life",
    "label": "real or fake",
    "split": "train, val or test",
    "group": "32 hexadecimal digits: rows that no split may divide",
    "domain": "kind of picture",
    "source": "node of the pipeline that the row was born in",
    "chain": "32 hexadecimal digits: all that the values depend on, see README.md",
    "file": "the file that the row came from, if it came from one",
    "licence": "as its source states it",
}
"""What is told of each row."""

ATTRIBUTED = ("author", "url", "provenance")
"""Columns that attributions have besides."""

BLOCK_BYTES, BLOCK_ROWS = 32 * 2**20, 4096
"""Values in memory at once, at most (or one row), and rows in one."""


def is_picture(field: Field) -> bool:
    """Whether rows are pictures of 8 bits, gray or RGB, which a PNG holds to the bit."""
    return np.dtype(field.dtype) == np.uint8 and field.axes == PICTURE and field.shape[2] in (1, 3)


def png(values: NDArray[np.uint8]) -> bytes:
    """A picture, (H, W, 1 or 3) uint8, as PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Given:
    """What is exported.

    node    what the pipeline calls the rows
    where   the condition that chose them, "": none
    fields  by name, those that are exported
    seed    of the pipeline
    """

    node: str
    where: str
    rows: Dataset
    fields: Mapping[str, Field]
    seed: int

    @property
    def picture(self) -> str:
        """The field of pictures. Raises StopIteration where there is none."""
        return next(name for name, one in self.fields.items() if is_picture(one))

    def by_split(self) -> Iterator[tuple[str, Given]]:
        """The rows of each split that has some."""
        for name in SPLITS:
            some = self.rows.split(name)
            if len(some):
                yield name, replace(self, rows=some)

    def part(self, start: int, stop: int) -> Given:
        """Rows of a range, which may end behind the last one."""
        return replace(self, rows=self.rows.take(np.arange(start, min(stop, len(self.rows)))))

    def blocks(self, row_bytes: int | None = None) -> Iterator[NDArray[np.int64]]:
        """Positions of rows that fit into memory together; row_bytes: of one, default: of all fields."""
        size = sum(one.row_bytes for one in self.fields.values()) if row_bytes is None else row_bytes
        step = min(max(BLOCK_BYTES // max(size, 1), 1), BLOCK_ROWS)
        for start in range(0, len(self.rows), step):
            yield np.arange(start, min(start + step, len(self.rows)))

    def told(self, positions: NDArray[np.int64], names: Iterable[str] = COLUMNS) -> dict[str, list[str]]:
        """Columns of some rows as texts that any encoding of UTF-8 takes."""
        some = self.rows.take(positions)
        return {name: _DIGITS[name](some) if name in _DIGITS else _texts(some.column(name)) for name in names}


def _chains(rows: Dataset) -> list[str]:
    chains = [part.chain.hex() for part in rows.parts]
    return [chains[number] for number in rows.part_numbers.tolist()]


_DIGITS: Mapping[str, Callable[[Dataset], list[str]]] = {
    "id": lambda rows: [one.hex() for one in ids.to_bytes(rows.ids)],
    "label": lambda rows: [LABELS[label] for label in rows.column("label").tolist()],
    "group": lambda rows: [one.hex() for one in ids.to_bytes(rows.column("group"))],
    "chain": _chains,
}
"""Columns that are no texts in the row table."""


def _texts(column: NDArray[Any]) -> list[str]:
    texts = column.tolist()
    return [one if one.isascii() else one.encode("utf-8", "backslashreplace").decode() for one in texts]


@dataclass(frozen=True)
class Format:
    """One kind of export.

    about     what it is, for the help and the card
    write     (what, empty folder) -> writes the files; yields now and then how many more cells (rows x fields) are done
    describe  (what, folder) -> `distribution` and `recordSet` of Croissant; FileObjects without digest and size
    again     how it is read, in Markdown; EXPORT stands for the folder
    pictures  takes one field of pictures and no other
    needs     library, and extra that installs it; "": none
    """

    about: str
    write: Callable[[Given, Path], Iterator[int]]
    describe: Callable[[Given, Path], tuple[list[dict[str, Any]], list[dict[str, Any]]]]
    again: str
    pictures: bool = False
    needs: tuple[str, str] = ("", "")
