"""Maps that somebody else made: pictures whose values are classes, as CelebAMask-HQ has them, named by a list.

Each line of the list is `PICTURE,MAP`: a file of the data set, or the id of a row in hexadecimal digits, and the file
of its map (PNG of one channel, or with a palette). Names are relative to the list, or to a folder beside it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import NamedFiles, kept_while_same
from stages.features import ids_of_files

_ID = re.compile(r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{32})?")


@kept_while_same(8)
def lines(path: Path) -> tuple[tuple[str, str], ...]:
    """Picture and map of each line. Raises ValueError with file and line."""
    found: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = [word.strip() for word in line.split(",")]
        if not line.strip():
            continue
        if len(words) != 2 or not all(words):
            raise ValueError(f"{path}:{number} has {len(words)} entries, expected two: PICTURE,MAP")
        if words[0] in found:
            raise ValueError(f"{path}:{number} names '{words[0]}' a second time; keep one line")
        found[words[0]] = words[1]
    if not found:
        raise ValueError(f"{path} has no line PICTURE,MAP")
    return tuple(found.items())


def named(path: Path, folder: str) -> NamedFiles:
    """All files of a list but pictures that are told by their ids."""
    files = [name for pair in lines(path) for name in pair if not _ID.fullmatch(name)]
    return NamedFiles(path.parent / folder, files)


@kept_while_same(8)
def maps_by_id(path: Path, folder: str) -> dict[bytes, Path]:
    """Id of a row -> file of its map."""
    place = path.parent / folder
    found = {}
    for picture, one in lines(path):
        whose = bytes.fromhex(picture)[:16] if _ID.fullmatch(picture) else ids_of_files(place, [picture])[0]
        found[whose] = place / one
    return found


def read_map(path: Path, classes: int) -> NDArray[np.uint8]:
    """(H, W) values below `classes`. Raises ValueError with one sentence."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise ValueError(f"its map {path.name} has the channels {image.mode}, expected one channel of classes")
            values = np.asarray(image, np.uint8)
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"its map {path.name} cannot be read: {error}") from None
    if values.max() >= classes:
        raise ValueError(f"its map {path.name} has the value {values.max()}, expected classes 0 to {classes - 1}")
    return values
