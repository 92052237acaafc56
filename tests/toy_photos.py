"""Photographs of noise and a tiny StarGAN2 for tests of translations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from pipeline.stage import Batch, Context, Field, Input, Kind, SourceRows, Stage, StageConfig, row_setting
from stages.generators import stargan2, weights

SIDE = 32
ARCHITECTURE: dict[str, Any] = {
    "resolution": SIDE, "z_dim": 4, "w_dim": 8, "c_dim": 3, "width": 4, "max_width": 8, "mapping_width": 16
}  # fmt: skip
NAMES = ("cat", "dog", "wild")


def identity(number: int) -> bytes:
    return hashlib.sha256(f"photo {number}".encode()).digest()[:16]


def photo(row_id: bytes) -> np.ndarray[Any, Any]:
    return np.random.default_rng(list(row_id)).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


class PhotosConfig(StageConfig):
    count: int = row_setting(12, description="rows")
    first: int = row_setting(0, description="first number")
    label: int = row_setting(0, description="label")
    domains: list[str] = row_setting(["cat", "dog"], description="domain of row n: number n modulo their count")
    splits: list[str] = row_setting(["train", "test"], description="likewise, changing more slowly")


class Photos(Stage):
    """Noise instead of photographs; groups of one."""

    name, kind, Config = "photos", Kind.SOURCE, PhotosConfig
    side: ClassVar[int] = SIDE

    def schema(self, config: PhotosConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (self.side, self.side, 3), "sRGB, 0..255")}

    def discover(self, config: PhotosConfig, scan: Any) -> SourceRows:
        numbers = range(config.first, config.first + config.count)
        return SourceRows(
            np.frombuffer(b"".join(identity(number) for number in numbers), "V16"),
            config.label,
            [f"person {number}" for number in numbers],
            [config.splits[number // len(config.domains) % len(config.splits)] for number in numbers],
            [config.domains[number % len(config.domains)] for number in numbers],
            licence="toys 1",
        )

    def compute(self, config: PhotosConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        return {"image": np.stack([photo(bytes(row)) for row in batch.ids])}


class Invert(Stage):
    """Every level from the other end."""

    name, kind, Config = "invert", Kind.MAP, StageConfig
    inputs: ClassVar[Any] = {"of": Input("rows")}

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": inputs["of"]["image"]}

    def compute(self, config: Any, batch: Batch, ctx: Context) -> dict[str, Any]:
        return {"image": 255 - batch.inputs[0]["image"]}


class LargePhotos(Photos):
    side: ClassVar[int] = 2 * SIDE

    def compute(self, config: PhotosConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        return {"image": super().compute(config, batch, ctx)["image"].repeat(2, axis=1).repeat(2, axis=2)}


def save(path: Path, domains: tuple[str, ...] = NAMES, **more: Any) -> Path:
    """A StarGAN2 with random weights whose styles show."""
    torch.manual_seed(3)
    generator = stargan2.Generator(**{**ARCHITECTURE, **more})
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in generator.state_dict().items()}
    for name in tensors:
        if name.startswith("generator.") and name.endswith("fc.weight"):
            tensors[name] *= 3
    weights.save(path, "stargan2", {**ARCHITECTURE, **more}, tensors, domains=domains)
    return path


def expanded(*parents: bytes, index: int) -> bytes:
    text = b"touchstone/expand" + len(parents).to_bytes(8, "little") + b"".join(parents) + index.to_bytes(8, "little")
    return hashlib.sha256(text).digest()[:16]
