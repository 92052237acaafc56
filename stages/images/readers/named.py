"""A place that a user names and a reader knows, such as a tar file or an LMDB database, outside of any pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inputs.scan import Scan
from stages.images.readers.choosing import ingest_config, reader_of, readers
from stages.images.readers.contract import Found


class NamesAlone(Scan):
    """A look at inputs for those who ask for no ids: of containers and manifests nothing is read to make a digest."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, None)

    def digests(self, text: str, count: int, read: Callable[[int], bytes]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Zeros, and no reasons: who reads a row learns them."""
        return np.zeros((count, 32), np.uint8), {}


@dataclass(frozen=True)
class Named:
    """config: of `ingest`; found: rows as the reader lists them; names: of the rows, below the place."""

    config: Any
    found: Found
    names: list[str]

    def read(self, row: int) -> bytes:
        """Encoded bytes of a row. Raises RowError or OSError."""
        location = str(self.found.locations[row])
        name = "" if location.startswith("/") else location.partition(":")[0]
        return reader_of(name).read(self.config, location)


@cache
def _config_of_ingest() -> Any:
    return ingest_config()


def named(place: Path, kind: str) -> Named:
    """The rows of a place. Raises ConfigError, SourceError or OSError where it is none of this kind."""
    place = place.absolute()
    links = {"follow_links": True} if "follow_links" in readers()[kind].settings else {}
    config = _config_of_ingest().model_validate({kind: str(place), **links})
    found = readers()[kind].rows(config, NamesAlone(place.parent))
    if kind == "manifest":
        return Named(config, found, list(found.paths or ()))
    before = f"{kind}:{place}"
    return Named(config, found, [str(one).removeprefix(before)[1:] for one in found.locations])
