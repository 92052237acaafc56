"""One .npz file of plain arrays, an array for each column and field; it is written as a stream, never held in memory.

A .npz is a zip file of arrays whose heads say dtype and shape, and both are known before any value is read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stages.exporting.contract import COLUMNS, Format, Given
from stages.exporting.croissant import file_object

FILE = "rows.npz"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of members: the same rows give the same bytes."""


def _write(given: Given, folder: Path) -> Iterator[int]:
    with zipfile.ZipFile(folder / FILE, "w") as archive:
        for name in COLUMNS:
            _write_texts(archive, given, name)
        for name, field in given.fields.items():
            dtype = np.dtype(field.dtype).newbyteorder("<")
            with _member(archive, name, zipfile.ZIP_STORED) as file:
                _head(file, dtype, (len(given.rows), *field.shape))
                for positions in given.blocks(field.row_bytes):
                    file.write(given.rows.array(name, positions).astype(dtype, copy=False).tobytes())
                    yield len(positions)


def _write_texts(archive: zipfile.ZipFile, given: Given, name: str) -> None:
    """A column; labels as uint8, 1 = fake. Texts of one width deflate to little."""
    if name == "label":
        columns: Iterable[NDArray[Any]] = [given.rows.column(name)]
        dtype = np.dtype(np.uint8)
    else:
        width = max((len(text) for some in _column(given, name) for text in some), default=0)
        dtype = np.dtype(f"<U{max(width, 1)}")
        columns = (np.array(some, dtype) for some in _column(given, name))
    with _member(archive, name, zipfile.ZIP_DEFLATED) as file:
        _head(file, dtype, (len(given.rows),))
        for values in columns:
            file.write(values.tobytes())


def _column(given: Given, name: str) -> Iterator[list[str]]:
    return (given.told(positions, [name])[name] for positions in given.blocks(0))


def _member(archive: zipfile.ZipFile, name: str, method: int) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
    info.compress_type = method
    return archive.open(info, "w", force_zip64=True)


def _head(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, about)  # type: ignore[no-untyped-call]


def _describe(given: Given, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return [file_object(FILE, "application/x-npz", "arrays of one length: a column or a field each")], []


FORMAT = Format(
    "one file of numpy arrays",
    _write,
    _describe,
    """\
```python
import numpy as np

rows = np.load("EXPORT/rows.npz", allow_pickle=False)  # an array for each column and field; label: 1 = fake
```""",
)
