"""What all weights files of this project have in common: safetensors, with one JSON text in the header's metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

METADATA_KEY = "touchstone"
"""Name of the JSON text."""

HEADER_LIMIT = 8 << 20
"""Bytes; the largest network of the papers needs 40 KiB. A file whose header is larger is none of ours."""

USES = {
    "generator": "a generator; use it as `checkpoint` of sample or translate",
    "rdn": "a re-synthesizer; use it as `model` of residual",
    "perceptual": "a perceptual network; use it as `perceptual` of residual",
}
"""Network in a description -> what it is, and the setting that takes it."""


class WeightsError(ValueError):
    """A weights file is not what it should be; one sentence, begins with the file's path."""


def refuse_other(path: Path, about: Any, wanted: str) -> None:
    """Raise WeightsError, which says where the file belongs, if its description is that of another network."""
    if not isinstance(about, Mapping):
        return
    network = about.get("network", "generator" if "family" in about else None)
    if isinstance(network, str) and network != wanted and network in USES:
        raise WeightsError(f"{path} is {USES[network]}")


def printable(text: str, longest: int = 100) -> str:
    """Text of a file as sentences and outputs show it: on one line, other than printable characters escaped, cut."""
    short = text if len(text) <= longest else text[:longest] + "..."
    return short if short.isprintable() else repr(short)[1:-1]


def shown(value: Any) -> str:
    """`value` of a file in a sentence: printable text or a number, else its type, as nested values could be endless."""
    if isinstance(value, str):
        short = printable(value)
        return repr(value) if short == value else f"'{short}'"
    return repr(value) if isinstance(value, int | float | type(None)) else f"a {type(value).__name__}"


def listed(names: Collection[str], most: int = 6) -> str:
    """The first `most` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, list(names)[:most])) + more


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
