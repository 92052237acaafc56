"""Small JSON files that vouch for themselves, and the reading of files that may be anything.

`check` in such a file is a digest of all its other bytes, so that no edit of it goes unseen, whatever the keys are.
What the engine wrote in an earlier format has no `check` or another `format`: it is old, which is no damage.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import OldFormatError

FORMAT_VERSION = 2
"""Raise it when the engine changes the meaning of stored rows."""

ZARR_BYTES = 2**20
RECIPE_BYTES = 2**24
CARD_BYTES = 2**26
"""Files that are larger than this are damage; none is written."""

BLANK = "0" * 32


def seal(data: Mapping[str, Any], inside: str | None = None) -> bytes:
    """JSON text of the data with `format` and `check` added, at the top or in the object `inside`."""
    marks = {"format": FORMAT_VERSION, "check": BLANK}
    whole = {**data, **marks} if inside is None else {**data, inside: {**data[inside], **marks}}
    text = (json.dumps(whole, indent=2, sort_keys=True) + "\n").encode()
    return text.replace(_marked(BLANK), _marked(_digest(text)), 1)


def read_sealed(path: Path, most: int, known: tuple[str, ...], inside: str | None = None) -> dict[str, Any]:
    """The data of such a file, or of the object `inside` of it, which has at least the keys `known`.

    Raises OldFormatError for a file of another format, ValueError for one that is not what was written, OSError.
    """
    text = read_regular(path, most)
    data = parse(text)
    found = data.get(inside) if inside is not None and isinstance(data, dict) else data
    if not isinstance(found, dict) or not all(name in found for name in known):
        raise ValueError(f"it lacks {' or '.join(known)}")
    if "check" not in found and "format" not in found:
        raise OldFormatError(f"{path} is of a format before {FORMAT_VERSION}; it is not read any more")
    check = found.get("check")
    if not isinstance(check, str) or _digest(text.replace(_marked(check), _marked(BLANK), 1)) != check:
        raise ValueError("its text does not have the digest that stands in it")
    if found["format"] != FORMAT_VERSION:
        raise OldFormatError(f"{path} is of format {found['format']}, this version reads {FORMAT_VERSION}")
    return found


def read_regular(path: Path | str, most: int) -> bytes:
    """Bytes of an ordinary file; ValueError for a pipe, a folder or one of more than `most` bytes."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size:,} bytes, expected at most {most:,}")
    with io.open(path, "rb") as file:  # noqa: UP020
        return file.read(most)


def parse(text: bytes) -> Any:
    """JSON data; ValueError for any other text."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _marked(check: str) -> bytes:
    return f'"check": "{check}"'.encode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[: len(BLANK)]
