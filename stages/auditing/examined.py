"""What is known of one row of an audit, and of all rows of two classes as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.auditing.coding import Coding, coding
from stages.auditing.pixels import Picture, picture
from stages.images.containers import inspect
from stages.images.decoding import decode

MOST_PIXELS = 100_000_000
"""Of files whose header claims more nothing is decoded."""


@dataclass(frozen=True)
class Row:
    """One image.

    name      as the user is told, without the class; file: whether it is a file, or an entry of one
    problem   why it cannot be read; "": it can
    coding    facts of its file; None for arrays, which have none
    picture   of its pixels; None where they are not known
    group     rows of one contributor; split, domain: "" where not known
    named     whether whoever made the file named it: entries of a table or a database have keys
    """

    name: str
    file: bool = False
    problem: str = ""
    coding: Coding | None = None
    picture: Picture | None = None
    group: str = ""
    split: str = ""
    domain: str = ""
    named: bool = True


def of_content(content: bytes, max_pixels: int = MOST_PIXELS) -> tuple[Coding, Picture]:
    """Facts of a file. Raises ValueError with one sentence where it cannot be decoded."""
    container = inspect(content)
    pixels = decode(content, max_pixels)
    steps = container.quantization[0] if container.codec == "jpeg" else None
    return coding(content, container), picture(pixels, steps)


@dataclass
class Rows:
    """All rows of both classes, reals first. labels: (n,) uint8; groups: (n,) int64, one number for each group."""

    rows: Sequence[Row]
    labels: NDArray[np.uint8]
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)
