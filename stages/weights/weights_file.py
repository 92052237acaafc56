"""What all weights files of this project have in common: safetensors, with one JSON text in the header's metadata."""

from __future__ import annotations

from pathlib import Path

METADATA_KEY = "touchstone"
"""Name of the JSON text."""

HEADER_LIMIT = 8 << 20
"""Bytes; the largest network of the papers needs 40 KiB. A file whose header is larger is none of ours."""


class WeightsError(ValueError):
    """A weights file is not what it should be; one sentence, begins with the file's path."""


def begins_like_safetensors(path: Path) -> bool:
    """Whether the first bytes are those of a safetensors file; raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_LIMIT


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: it is named or begins so. Raises WeightsError."""
    return path.suffix == ".safetensors" or begins_like_safetensors(path)
