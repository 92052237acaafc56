"""Parquet files with a column of images, struct<bytes, path>, as the Hugging Face hub keeps data sets.

The bytes are taken from the file itself; a `path` is a name and is never opened. Classes come from the names in the
metadata, or from a text column, never from numbers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import kept_while_same
from pipeline.errors import SourceError
from pipeline.inputs.scan import decoded, encoded
from pipeline.libraries import needed
from pipeline.sentences import counted
from pipeline.stage import RowError, row_setting
from stages.images.readers.contract import Columns, Found, Reader, ids_of
from stages.images.readers.naming import split_of_file
from stages.images.readers.opened import files_ending

_LOCK = threading.Lock()

SETTINGS: dict[str, tuple[Any, Any]] = {
    "image_column": (str | None, row_setting(None, description="of several columns of images, the one that counts")),
    "label_column": (str | None, row_setting(None, description="the column of classes, if it is not called label")),
}


def _library() -> Any:
    needed("pyarrow", "parquet", "Parquet files")
    import pyarrow.parquet

    return pyarrow.parquet


class Table:
    """An open file: which column holds images, and which one classes."""

    def __init__(self, path: Path, image: str | None, label: str | None) -> None:
        """Raises SourceError where the file is damaged or has no column of images."""
        self.path = path
        library = _library()
        try:
            self.file = library.ParquetFile(path, memory_map=True)
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: is no whole Parquet file ({' '.join(str(error).split())})") from error
        self.schema = self.file.schema_arrow
        self.stated = _stated(self.schema.metadata or {})
        self.image = self._image_column(image)
        self.label = self._label_column(label)

    def _image_column(self, asked: str | None) -> str:
        lists = [one.name for one in self.schema if "struct<bytes:" in str(one.type) and "list" in str(one.type)]
        found = [name for name, one in self.stated.items() if one.get("_type") == "Image" and name not in lists]
        found = found or [one.name for one in self.schema if str(one.type).startswith("struct<bytes: ")]
        if asked is not None and asked not in found:
            raise SourceError(f"{self.path}: image_column {asked!r} is none of its columns of images {found}")
        if asked is None and len(found) != 1:
            several = f"has the columns of images {', '.join(found)}; name one with image_column"
            none = f"has no column struct<bytes, path> of images, but {', '.join(self.schema.names)}"
            of_lists = f"has lists of images in {', '.join(lists)}, expected one image for each row"
            raise SourceError(f"{self.path}: {several if found else of_lists if lists else none}")
        return asked or found[0]

    def _label_column(self, asked: str | None) -> str | None:
        if asked is not None and asked not in self.schema.names:
            raise SourceError(f"{self.path}: label_column {asked!r} is none of its columns {self.schema.names}")
        classes = [name for name, one in self.stated.items() if one.get("_type") == "ClassLabel"]
        return asked or ("label" if "label" in self.schema.names else classes[0] if len(classes) == 1 else None)

    def words(self, column: str) -> list[str]:
        """Values of a column as texts; numbers of a class by their names."""
        names = self.stated.get(column, {}).get("names")
        values = self._read(column).to_pylist()
        if isinstance(names, list):
            return ["" if value is None or not 0 <= value < len(names) else str(names[value]) for value in values]
        return ["" if value is None else str(value) for value in values]

    def _read(self, column: str) -> Any:
        try:
            return self.file.read(columns=[column])[column]
        except (OSError, ValueError) as error:
            raise SourceError(f"{self.path}: the column {column!r} cannot be read ({error})") from error

    def row_counts(self) -> list[int]:
        return [self.file.metadata.row_group(group).num_rows for group in range(self.file.num_row_groups)]

    def group(self, number: int) -> Any:
        """Values of the images of a row group."""
        try:
            with _LOCK:
                return self.file.read_row_group(number, columns=[self.image])[self.image]
        except (OSError, ValueError) as error:
            raise RowError(f"row group {number} of {self.path} is damaged ({error})") from error

    def content(self, values: Any, row: int) -> bytes:
        """Bytes of an image. Raises RowError where there are none."""
        value = values[row].as_py()
        if value is None or value.get("bytes") is None:
            outside = value is not None and value.get("path")
            what = f"names the file {value['path']!r} in place of bytes" if outside else "is empty"
            raise RowError(f"the image {what}; nothing outside of a Parquet file is opened")
        content: bytes = value["bytes"]
        return content


def _stated(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Column -> what the metadata of the hub say of it."""
    try:
        found = json.loads(metadata.get(b"huggingface", b"{}"))
        stated = found["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: one for name, one in stated.items() if isinstance(one, dict)} if isinstance(stated, dict) else {}


@kept_while_same(64)
def _open(path: Path, image: str | None, label: str | None) -> Table:
    return Table(path, image, label)


@lru_cache(maxsize=4)
def _group(table: Table, number: int) -> Any:
    """The row group that was read last, as its rows stand together."""
    return table.group(number)


def _listed(path: Path, config: Any, scan: Any) -> dict[str, NDArray[Any]]:
    table = _open(path, config.image_column, config.label_column)
    counts = table.row_counts()
    places = [(group, row) for group, count in enumerate(counts) for row in range(count)]

    def read(number: int) -> bytes:
        group, row = places[number]
        return table.content(_group(table, group), row)

    digests, reasons = scan.digests(f"reading {path.name}", len(places), read)
    columns = {} if table.label is None else {"labels": encoded(table.words(table.label))}
    if config.domain_by in table.schema.names:
        columns["domains"] = encoded(table.words(config.domain_by))
    return {
        "groups": np.array(counts, np.int64),
        "digests": digests,
        "bad": np.array(list(reasons), np.int64),
        "reasons": encoded(list(reasons.values())),
        **columns,
    }


def _rows(config: Any, scan: Any) -> Found:
    _library()
    place: Path = scan.source(config.parquet)
    files = files_ending(place, (".parquet",), "a Parquet file")
    locations: list[str] = []
    split: list[str] = []
    words: dict[str, list[str]] = {"labels": [], "domains": []}
    problems: dict[int, str] = {}
    digests = []
    for path in files:
        key = f"parquet\0{path}\0{config.image_column}\0{config.label_column}\0{config.domain_by}"
        table = scan.cached(key, path, lambda path=path: _listed(path, config, scan))
        start = len(locations)
        problems |= {start + int(row): text for row, text in zip(table["bad"], decoded(table["reasons"]), strict=True)}
        for group, count in enumerate(table["groups"].tolist()):
            locations += [f"parquet:{path}#{group}.{row}" for row in range(count)]
        count = len(locations) - start
        split += [split_of_file(path, place)] * count
        for name, column in words.items():
            column += decoded(table[name]) if name in table else [""] * count
        digests.append(table["digests"])
    more = {config.domain_by: words["domains"]} if any(words["domains"]) else {}
    return Found(
        config.parquet,
        ids_of(np.concatenate(digests)),
        locations,
        columns=Columns(label=words["labels"] if any(words["labels"]) else None, split=split, more=more),
        problems=problems,
        container=f"encoded images in {counted(len(files), 'Parquet file')}",
    )


def _read(config: Any, location: str) -> bytes:
    path, _, place = location.removeprefix("parquet:").rpartition("#")
    group, _, row = place.partition(".")
    try:
        table = _open(Path(path), config.image_column, config.label_column)
        return table.content(_group(table, int(group)), int(row))
    except SourceError as error:
        raise RowError(str(error)) from error


READER = Reader(
    "a Parquet file with a column of images, or a folder of such files, as the Hugging Face hub has them",
    _rows,
    _read,
    settings=SETTINGS,
    paths=False,
    suffixes=(".parquet",),
    folders=True,
)
