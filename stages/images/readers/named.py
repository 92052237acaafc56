"""A place that a user names and a reader knows, such as a tar file or an LMDB database, outside of any pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.inputs.names_alone import NamesAlone
from stages.images.readers.choosing import ingest_config, reader_of, readers
from stages.images.readers.contract import Found


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
