"""LMDB databases of encoded images, as LSUN publishes them: `CATEGORY_{train,val}_lmdb/data.mdb`.

The library maps the file into memory, where one that is cut off ends the process with a bus error. So both meta pages
are read first, and the file has to be as long as the newer one says.
"""

from __future__ import annotations

import os
import re
import struct
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.scan import decoded, encoded
from pipeline.libraries import needed
from pipeline.sentences import counted
from pipeline.stage import RowError, row_setting
from stages.images.readers.contract import Columns, Found, Reader, ids_of
from stages.images.readers.opened import Opened

FOLDER = re.compile(r"(?:(?P<category>.+)_)?(?P<split>train|val|test)_lmdb")
MAGIC, VERSION = 0xBEEFC0DE, 1
META = struct.Struct("<16xII16xI92xQQ")
"""Behind the header of a page: magic, version, page size, last page, number of the transaction."""
HEXADECIMAL = "0x"
BEFORE = len("lmdb:")

SETTINGS: dict[str, tuple[Any, Any]] = {
    "first": (int | None, row_setting(None, description="entries at most, in the order of their keys", ge=1)),
}


def check_whole(path: Path) -> None:
    """Raise SourceError where a data file is no LMDB, or shorter than its meta pages say."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(META.size)
        if len(first) < META.size:
            raise SourceError(f"{path}: has {size:,} bytes, expected an LMDB data file; copy or download it again")
        magic, version, page, last, transaction = META.unpack(first)
        if magic != MAGIC or version != VERSION or not 512 <= page <= 65536 or page & (page - 1):
            raise SourceError(f"{path}: does not begin like an LMDB data file of version 1; correct the path")
        file.seek(page)
        second = file.read(META.size)
    if len(second) == META.size:
        other = META.unpack(second)
        if other[0] == MAGIC and other[4] > transaction:
            last = other[3]
    if size < (last + 1) * page:
        raise SourceError(
            f"{path}: is cut off, it has {size:,} bytes and its pages need {(last + 1) * page:,}; download it again"
        )


class _Transaction(threading.local):
    """Each thread's own way to get a value; its transaction lives as long as this."""

    get: Any = None


class Database:
    """An open database; each thread reads in a transaction of its own, which lasts until the file is touched."""

    def __init__(self, path: str) -> None:
        """Raises SourceError where the file is damaged, ConfigError where the library is missing."""
        library = needed("lmdb", "lsun", "LMDB databases")
        data = _data_file(path)
        check_whole(Path(data))
        self.path, self.error = path, library.Error
        try:
            self.environment = library.open(
                path, subdir=data != path, readonly=True, lock=False, readahead=False, max_readers=1024
            )
            self.entries: int = self.environment.stat()["entries"]
        except library.Error as error:
            raise SourceError(f"{path}: cannot be opened as an LMDB database ({error})") from error
        self._local = _Transaction()

    def keys(self, most: int | None) -> list[str]:
        """The first `most` keys in their order. Raises SourceError where a page is damaged."""
        try:
            with self.environment.begin() as transaction:
                keys = transaction.cursor().iternext(keys=True, values=False)
                return [_shown(key) for key in islice(keys, most)]
        except self.error as error:
            raise SourceError(f"{self.path}: its keys cannot be read ({error}); download it again") from error

    def value(self, key: str) -> bytes:
        """Raises RowError where there is none, or its page is damaged."""
        local = self._local
        try:
            if local.get is None:
                local.get = self.environment.begin().get
            found: bytes | None = local.get(_key(key))
        except self.error as error:
            raise RowError(f"the entry {key} of {self.path} cannot be read ({error})") from error
        if found is None:
            raise RowError(f"{self.path} has no entry {key}")
        return found


def _data_file(path: str) -> str:
    return f"{path}/data.mdb" if os.path.isdir(path) else path


DATABASES = Opened(Database, most=1024, file=_data_file, close=lambda database: database.environment.close())


def _shown(key: bytes) -> str:
    """A key as part of a location."""
    if key.isascii() and key.decode().isprintable() and not key.startswith(HEXADECIMAL.encode()):
        return key.decode()
    return HEXADECIMAL + key.hex()


def _key(shown: str) -> bytes:
    return shown.encode() if shown[:2] != HEXADECIMAL else bytes.fromhex(shown[2:])


def _listed(path: str, most: int | None, scan: Any) -> dict[str, NDArray[Any]]:
    database = DATABASES.get(path)
    keys = database.keys(most)
    if most is None and database.entries != len(keys):
        raise SourceError(
            f"{path}: says that it has {database.entries:,} entries, its pages hold {len(keys):,}; get it again"
        )
    digests, reasons = scan.digests(f"reading {Path(path).name}", len(keys), lambda row: database.value(keys[row]))
    return {
        "keys": encoded(keys),
        "digests": digests,
        "bad": np.array(list(reasons), np.int64),
        "reasons": encoded(list(reasons.values())),
    }


def _databases(place: Path) -> list[Path]:
    """The database itself, or those of the folders in it."""
    if place.is_file() or (place / "data.mdb").is_file():
        return [place]
    found = sorted(path.parent for path in place.glob("*/data.mdb")) if place.is_dir() else []
    if not found:
        raise ConfigError(f"{place}: expected an LMDB folder (with data.mdb), or a folder of them; correct the path")
    return found


def _rows(config: Any, scan: Any) -> Found:
    databases = _databases(scan.source(config.lmdb))
    locations: list[str] = []
    split: list[str] = []
    domain: list[str] = []
    problems: dict[int, str] = {}
    digests = []
    for path in databases:
        data = path / "data.mdb" if path.is_dir() else path
        check_whole(data)
        key = f"lmdb entries\0{path}\0{config.first}"
        table = scan.cached(key, data, lambda path=path: _listed(str(path), config.first, scan))
        keys, reasons = decoded(table["keys"]), decoded(table["reasons"])
        problems |= {len(locations) + int(row): text for row, text in zip(table["bad"], reasons, strict=True)}
        named = FOLDER.fullmatch(path.name)
        locations += [f"lmdb:{path}#{key}" for key in keys]
        split += [named["split"] if named else ""] * len(keys)
        domain += [(named["category"] or "") if named else ""] * len(keys)
        digests.append(table["digests"])
    if not locations:
        raise ConfigError(f"{config.lmdb}: has no entry, expected images")
    return Found(
        config.lmdb,
        ids_of(np.concatenate(digests)),
        locations,
        columns=Columns(split=split, domain=domain),
        problems=problems,
        notes=[f"the first {config.first:,} entries of each database at most"] if config.first else [],
        container=f"encoded images in {counted(len(databases), 'LMDB database')}",
    )


def _read(config: Any, location: str) -> bytes:
    mark = location.rfind("#")
    path, key = location[BEFORE:mark], location[mark + 1 :]
    try:
        return DATABASES.get(path).value(key)
    except SourceError as error:
        raise RowError(str(error)) from error


READER = Reader(
    "an LMDB database of encoded images, or a folder of them, as LSUN has", _rows, _read, settings=SETTINGS,
    paths=False, suffixes=(".mdb",), folders=True,
)  # fmt: skip
