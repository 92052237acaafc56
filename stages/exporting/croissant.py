"""The export as Croissant 1.0 describes data sets: JSON-LD that names files with digests, columns, licences, lineage.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html; who made it public, where and when is told by those
who do, so that these three stand in it only where they were given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as day
from pathlib import Path
from typing import Any

from pipeline.contents import file_sha256
from pipeline.errors import ConfigError
from stages.exporting.contract import COLUMNS, Given

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
    )},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}  # fmt: skip
"""That of the specification, word for word: its reference implementation compares it."""


@dataclass(frozen=True)
class Publication:
    """Who publishes, where and when (YYYY-MM-DD); "": not told."""

    creator: str = ""
    url: str = ""
    date: str = ""

    def check(self) -> None:
        """Raises ConfigError for a date or an address that is none."""
        try:
            given = day.fromisoformat(self.date).isoformat() if self.date else ""
        except ValueError:
            given = "none"
        if given != self.date:
            raise ConfigError(f"--date is '{self.date}'; expected the day of publication as YYYY-MM-DD")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ConfigError(f"--url is '{self.url}'; expected an address that begins with https://")

    @property
    def lacking(self) -> list[str]:
        return [name for name in ("creator", "url", "date") if not getattr(self, name)]


def file_object(name: str, encoding: str, about: str) -> dict[str, Any]:
    """A file of the export; its digest and size are added at the end."""
    return {"@type": "cr:FileObject", "@id": name, "name": name, "description": about, "contentUrl": name,
            "encodingFormat": encoding}  # fmt: skip


def file_set(name: str, encoding: str, includes: str, inside: Sequence[str] = ()) -> dict[str, Any]:
    """Files by a pattern, in the folder or in archives of it."""
    found: dict[str, Any] = {"@type": "cr:FileSet", "@id": name, "name": name}
    if inside:
        found["containedIn"] = [{"@id": one} for one in inside]
    return {**found, "encodingFormat": encoding, "includes": includes}


def record_set(fields: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The rows as records."""
    return {"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": list(fields)}


def record_field(name: str, about: str, kind: str, source: Mapping[str, Any], axes: int = 0) -> dict[str, Any]:
    """A field of records. source: where it stands in which files; axes: of a value, each a list."""
    found = {"@type": "cr:Field", "@id": f"rows/{name}", "name": name, "description": about, "dataType": kind,
             "source": source}  # fmt: skip
    return {**found, "repeated": True} if axes else found


def column_fields(source: Mapping[str, Any], names: Iterable[str] = COLUMNS) -> list[dict[str, Any]]:
    """The columns of a table as fields. source: the files, {"fileObject" or "fileSet": {"@id": ...}}."""
    return [
        record_field(name, COLUMNS.get(name, name), "sc:Text", {**source, "extract": {"column": name}})
        for name in names
    ]


def metadata(
    given: Given, folder: Path, description: str, licences: Sequence[str], publication: Publication,
    distribution: Sequence[dict[str, Any]], record_sets: Sequence[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Plain data of croissant.json. Digests are taken of the files in the folder."""
    for one in distribution:
        if one["@type"] == "cr:FileObject":
            place = folder / one["contentUrl"]
            one |= {"contentSize": f"{place.stat().st_size} B", "sha256": file_sha256(place)}
    told: dict[str, Any] = {}
    if publication.creator:
        told["creator"] = {"@type": "sc:Organization", "name": publication.creator}
    if publication.url:
        told["url"] = publication.url
    if publication.date:
        told["datePublished"] = publication.date
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": _plain(given.node),
        "description": description,
        "license": list(licences),
        **told,
        "distribution": list(distribution),
        "recordSet": list(record_sets),
    }


def _plain(name: str) -> str:
    """A node's name in letters, digits and hyphens: `spectra[images]` is `spectra-images`."""
    return "-".join("".join(one if one.isalnum() else " " for one in name).split())
