"""Find the images that go in: a folder, a manifest, a zip file, whatever `stages.READERS` knows.

No pixel is decoded here. A row's id is the digest of its file's bytes, so that renaming, moving, packing or relabeling
a file computes nothing again, and nothing about paths, labels or splits is part of the recipe; nor are the readers, as
the bytes that they give are compared with the id. What is computed per row are
facts of the container (codec, native size, JPEG quantization tables, EXIF), which the audit compares between classes:
published detectors have partly learned such facts and not the generator (Grommelt et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Batch, Context, Kind, RowError, Schema, SourceRows, Stage, StageConfig
from stages.images.containers import FACTS

CHOOSING, NAMING = "stages.images.readers.choosing", "stages.images.readers.naming"
"""Looked up by name, and so outside of all recipes."""

IngestConfig: Any = import_module(CHOOSING).ingest_config()


@cache
def _reader(name: str) -> Any:
    """The reader of locations that begin with a name and a colon, or of plain paths."""
    return import_module(CHOOSING).reader_of(name)


class Ingest(Stage):
    """Rows of images in files; `compute` gives container facts, and later stages read the bytes."""

    name: ClassVar[str] = "ingest"
    kind: ClassVar[Kind] = Kind.SOURCE
    Config: ClassVar[type[StageConfig]] = IngestConfig
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    places: ClassVar[tuple[str, ...]] = ("folder", "manifest", "zip", "tfrecord", "tar", "lmdb", "parquet", "lists")
    content: ClassVar[bool] = True

    def schema(self, config: Any, inputs: Mapping[str, Schema]) -> Schema:
        """Container facts; see `stages.images.containers.FACTS`."""
        return dict(FACTS)

    def discover(self, config: Any, scan: Any) -> SourceRows:
        """Rows of the one source that is given. Raises ConfigError for a bad manifest or setting."""
        choosing = import_module(CHOOSING)
        found = choosing.readers()[choosing.chosen(config)].rows(config, scan)
        rows: SourceRows = import_module(NAMING).source_rows(config, found, scan)
        return rows

    def read(self, config: Any, location: str) -> bytes:
        """Bytes of a row; whatever has no file of its own, such as an array, comes as PPM or PGM."""
        name = "" if location.startswith("/") else location.partition(":")[0]
        content: bytes = _reader(name).read(config, location)
        return content

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """One array per fact; a file that is no image fails its row."""
        from stages.images.containers import inspect

        facts = {name: np.zeros((len(batch), *item.shape), item.dtype) for name, item in FACTS.items()}
        for row in range(len(batch)):
            try:
                values = inspect(batch.read(row)).facts()
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
                continue
            for name, value in values.items():
                facts[name][row] = value
        return facts
