"""`verify: pixels`: decode each image of a published data set and compare its pixels with what the set's list states.

A list outlives its archives: copies of CelebA-HQ as JPEG files lie beside true ones, and nothing but the pixels tells.
What was compared is remembered by the content of images and list, so that only a first plan decodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.inputs.scan import decoded, encoded
from pipeline.sentences import counted
from pipeline.stage import ID, RowError, row_setting
from stages.images.decoding import decode
from stages.images.readers.choosing import chosen, readers
from stages.images.readers.contract import Found, Pixels

VERIFY: tuple[Any, Any] = (
    Literal["none", "pixels"],
    row_setting(
        "none",
        description="pixels: decode each image and compare the MD5 of its pixels with the one that the data set's list "
        "states; a row that differs fails",
    ),
)
MAX_PIXELS = 100_000_000
SHOWN = 5


@dataclass(frozen=True)
class Verified:
    """says: one clause on how many images agree; problems: row -> why it does not."""

    says: str
    problems: Mapping[int, str]


def verified(config: Any, found: Found, stated: Pixels, scan: Any) -> Verified:
    """Compare the pixels of all rows that can be read and have a digest. Raises nothing for images that differ."""
    rows = [row for row, digest in enumerate(stated.md5) if digest and row not in found.problems]
    read, list_name = readers()[chosen(config)].read, stated.list.name

    def compare(number: int) -> bytes:
        row = rows[number]
        location, wanted = str(found.locations[row]), stated.md5[row]
        try:
            content = read(config, location)
            if hashlib.sha256(content).digest()[: ID.itemsize] != found.ids[row].tobytes():
                raise RowError("changed since it was listed; plan again")
            pixels = decode(content, MAX_PIXELS, exif_rotate=False)
        except (OSError, ValueError) as error:
            raise RowError(str(error)) from error
        digest = hashlib.md5(_bytes(pixels, stated.planes), usedforsecurity=False).hexdigest()
        if digest != wanted:
            raise RowError(
                f"its pixels have the MD5 {digest}, and {stated.name} of {list_name} is {wanted}; get the file again"
            )
        return b""

    def compute() -> dict[str, NDArray[Any]]:
        _, reasons = scan.digests(f"comparing pixels with {list_name}", len(rows), compare)
        return {"rows": np.array(list(reasons), np.int64), "reasons": encoded(list(reasons.values()))}

    mark = hashlib.sha256(found.ids[rows].tobytes() + "".join(stated.md5).encode()).hexdigest()
    table = scan.cached(f"pixels\0{stated.name}\0{mark}", stated.list, compute)
    numbers = table["rows"].tolist()
    problems = {rows[number]: reason for number, reason in zip(numbers, decoded(table["reasons"]), strict=True)}
    return Verified(_said(found, stated, len(rows), problems), problems)


def _bytes(pixels: NDArray[np.uint8], planes: bool) -> bytes:
    return pixels.transpose(2, 0, 1).tobytes() if planes else pixels.tobytes()


def _said(found: Found, stated: Pixels, compared: int, problems: Mapping[int, str]) -> str:
    """How many images agree, which do not, and of how many nothing is stated."""
    agree = compared - len(problems)
    text = f"{stated.name} of {agree:,} of {counted(len(stated.md5), 'image')}, by {stated.list.name}"
    names = [PurePosixPath(str(found.locations[row])).name for row in list(problems)[:SHOWN]]
    if problems:
        more = ", ..." if len(problems) > SHOWN else ""
        text += f"; not of {counted(len(problems), 'image')}: {', '.join(names)}{more}"
    silent = sum(not digest for digest in stated.md5)
    return text + (f"; none is stated of {counted(silent, 'image')}" if silent else "")
