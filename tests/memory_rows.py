"""Rows in memory with the interface of `pipeline.dataset.Dataset`, for tests of stages that read whole views."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Dataset, Part
from pipeline.stage import MAP, MAPS, PICTURE, Field, FitContext, Stage

AXES = {2: MAP, 3: MAPS}
"""Axes of the maps of these tests by their number."""


class MemoryRows(Dataset):
    """A dataset whose values lie in arrays instead of shards."""

    def __init__(self, parts: list[Part], table: dict[str, NDArray[Any]], values: dict[str, NDArray[Any]]) -> None:
        super().__init__(None, parts, table)
        self.values = values
        self.places = np.arange(len(self.ids))

    def take(self, index: NDArray[np.integer[Any]]) -> MemoryRows:
        chosen = super().take(index)
        result = MemoryRows.__new__(MemoryRows)
        result.__dict__.update(chosen.__dict__)
        result.values, result.places = self.values, self.places[np.asarray(index)]
        return result

    def seen_by(self, stage: type[Stage]) -> MemoryRows:
        """The same with the columns alone that a run gives the stage."""
        table = {name: self.column(name) for name in stage.uses_columns if name in self.columns}
        found = MemoryRows(self.parts, table, self.values)
        found.places = self.places
        return found

    def array(self, field: str, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[Any]:
        self._field(field)  # refuses what the parts do not share, as rows in shards do
        places = self.places if rows is None else self.places[np.asarray(rows)]
        return self.values[field][places]

    def digests(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.void]:
        places = self.places if rows is None else self.places[np.asarray(rows)]
        texts = (b"".join(self.values[name][place].tobytes() for name in sorted(self.values)) for place in places)
        return np.frombuffer(b"".join(hashlib.sha256(text).digest()[:16] for text in texts), dtype="V16")


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def rows_of(
    source: str,
    label: int,
    values: dict[str, NDArray[Any]],
    steps: tuple[dict[str, Any], ...] = (),
    split: str | None = None,
) -> MemoryRows:
    """Rows of one chain; splits go round train, train, val, test unless `split` is given."""
    count = len(next(iter(values.values())))
    ids = np.frombuffer(b"".join(digest(f"{source} {number}") for number in range(count)), dtype="V16")
    schema = {
        name: Field(
            str(array.dtype), array.shape[1:], axes=PICTURE if name == "image" else AXES.get(array.ndim - 1, ())
        )
        for name, array in values.items()
    }
    round_robin = np.array(["train", "train", "val", "test"])[np.arange(count) % 4]
    table = {
        "label": np.full(count, label, dtype=np.uint8),
        "split": round_robin if split is None else np.full(count, split),
        "source": np.full(count, source),
        "domain": np.full(count, "domain"),
        "group": ids,
    }
    part = Part("spectrum", digest(f"chain of {source} {steps}"), schema, ids, steps)
    return MemoryRows([part], table, values)


def union(*datasets: MemoryRows) -> MemoryRows:
    """All rows, one after another; zeros stand where some of them lack a field."""
    parts = [part for dataset in datasets for part in dataset.parts]
    table = {name: np.concatenate([one.column(name) for one in datasets]) for name in datasets[0].columns}
    kinds = {name: field for part in parts for name, field in part.schema.items()}
    values = {name: np.concatenate([_values(one, name, kind) for one in datasets]) for name, kind in kinds.items()}
    return MemoryRows(parts, table, values)


def _values(rows: MemoryRows, name: str, kind: Field) -> NDArray[Any]:
    return rows.array(name) if name in rows.fields else np.zeros((len(rows), *kind.shape), kind.dtype)


def context(folder: Path, stage: str, **more: Any) -> FitContext:
    """A context with empty folders for files and progress."""
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    return FitContext(0, stage, out=out, scratch=scratch, **more)


def step(stage: str, **config: Any) -> dict[str, Any]:
    """One entry of a lineage."""
    born = {"origin": stage in ("ingest", "sample", "translate", "upsample"), "content": stage == "ingest"}
    return {"stage": stage, "node": stage, "config": config, "files": {}, "artifacts": {}, "environment": {}, **born}
