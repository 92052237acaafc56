"""Parquet files, one for each split: pictures as struct<bytes, path>, all else as numbers or lists of fixed size.

The metadata say what the Hugging Face hub's library asks of them: which column holds images, and the classes' names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.exporting.contract import COLUMNS, LABELS, Format, Given, is_picture, png
from stages.exporting.croissant import column_fields, file_set, record_field, record_set

NUMBERS = {"i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}
"""Kind of a dtype -> type of Croissant."""


def _write(given: Given, folder: Path) -> Iterator[int]:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    for split, some in given.by_split():
        writer = None
        try:
            for positions in some.blocks():
                columns = _columns(arrow, some, positions)
                table = arrow.table(columns).replace_schema_metadata({"huggingface": _features(given)})
                if writer is None:
                    writer = parquet.ParquetWriter(folder / f"{split}-00000-of-00001.parquet", table.schema)
                writer.write_table(table)
                yield len(positions) * len(given.fields)
        finally:
            if writer is not None:
                writer.close()


def _columns(arrow: Any, given: Given, positions: NDArray[np.int64]) -> dict[str, Any]:
    told = given.told(positions)
    found = {name: arrow.array(texts, arrow.string()) for name, texts in told.items()}
    found["label"] = arrow.array([LABELS.index(word) for word in told["label"]], arrow.int64())
    for name, field in given.fields.items():
        values = given.rows.array(name, positions)
        if is_picture(field):
            contents = arrow.array([png(one) for one in values], arrow.binary())
            paths = arrow.array([f"{one}.png" for one in told["id"]], arrow.string())
            found[name] = arrow.StructArray.from_arrays([contents, paths], ["bytes", "path"])
        else:
            found[name] = arrow.array(values.reshape(-1))
            for size in reversed(field.shape):
                found[name] = arrow.FixedSizeListArray.from_arrays(found[name], size)
    return found


def _features(given: Given) -> str:
    pictures = {name: {"_type": "Image"} for name, field in given.fields.items() if is_picture(field)}
    features = {"label": {"names": list(LABELS), "_type": "ClassLabel"}, **pictures}
    return json.dumps({"info": {"features": features}})


def _describe(given: Given, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    source = {"fileSet": {"@id": "files"}}
    fields = column_fields(source, [name for name in COLUMNS if name != "label"])
    label = {**source, "extract": {"column": "label"}}
    fields.append(record_field("label", "1: fake, 0: real", "sc:Integer", label))
    for name, field in given.fields.items():
        extract: dict[str, Any] = {**source, "extract": {"column": name}}
        if is_picture(field):
            extract["transform"] = {"jsonPath": "bytes"}
        kind = "sc:ImageObject" if is_picture(field) else NUMBERS[np.dtype(field.dtype).kind]
        shape = "" if is_picture(field) else f" {field.shape}"
        about = f"{field.dtype}{shape} {field.units}".strip()
        fields.append(record_field(name, about, kind, extract, 0 if is_picture(field) else len(field.shape)))
    return [file_set("files", "application/x-parquet", "*.parquet")], [record_set(fields)]


FORMAT = Format(
    "a Parquet file for each split: pictures as PNG, all else as lists of fixed size",
    _write,
    _describe,
    """\
```yaml
photos: {stage: ingest, parquet: EXPORT} # of pictures
```

```python
from glob import glob

import pyarrow.parquet

rows = pyarrow.parquet.read_table(glob("EXPORT/*.parquet"))  # or pandas.read_parquet of one; label: 1 = fake
```""",
    needs=("pyarrow", "parquet"),
)
