"""Fakes of AutoGAN's simulator: photographs that a generator gives back (Zhang et al. 2019, arXiv:1907.06515).

An image shows what its photograph shows, so it has its group, split and domain; what differs is what the generator's
upsampling leaves. A detector that was trained on such pairs has seen no generator's images, only its structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import (
    FAKE,
    PICTURE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Parents,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.generators import generator_file
from stages.generators.families import check_maker
from stages.images.photographs import check_real, check_side
from stages.training.networks import in_micro_batches, prepare

if TYPE_CHECKING:
    from torch import Tensor


class SimulateConfig(StageConfig):
    """Settings of `simulate`."""

    checkpoint: str = file_setting(
        description="an AutoGAN: a .safetensors file, an official checkpoint, MANIFEST.yaml#ENTRY, or a node"
    )
    micro_batch: int = setting(8, ge=1, le=1024, description="images per run of the network")


class Simulate(Stage):
    """Rows with an `image` in, the same given back by a generator out, as fakes: field `image` (H, W, 3) uint8 RGB."""

    name: ClassVar[str] = "simulate"
    kind: ClassVar[Kind] = Kind.EXPAND
    origin: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = SimulateConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="real rows with an `image` of the network's size"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="the AutoGAN"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "safetensors")
    network: ClassVar[bool] = True
    block_rows: ClassVar[int] = 64

    def schema(self, config: SimulateConfig, inputs: Mapping[str, Any]) -> Schema:
        """`image` of the same size; raises ValueError where it is not the network's."""
        side = generator_file.read_header(inputs["checkpoint"]).resolution
        check_side(self.name, "of", inputs["of"], side)
        return {"image": Field("uint8", (side, side, 3), "sRGB, 0..255", PICTURE)}

    def modules(self, config: SimulateConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        return generator_file.modules(files["checkpoint"])

    def least_rows(self, config: SimulateConfig) -> int:
        return config.micro_batch

    def check(self, config: SimulateConfig, files: Mapping[str, Path]) -> None:
        check_maker(self.name, files["checkpoint"], generator_file.read_header(files["checkpoint"]))

    def children(
        self,
        config: SimulateConfig,
        files: Mapping[str, Path],
        parents: Parents,
        partners: Parents | None,
        seed: int,
    ) -> Children:
        """One fake for each photograph."""
        del config, files, partners, seed
        check_real(self.name, "of", parents)
        return Children(np.arange(len(parents)), np.zeros(len(parents), dtype=np.int64), label=FAKE)

    def compute(self, config: SimulateConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        from detectors.transfers import Fetched, sent

        prepare(ctx.device, ctx.threads)
        path = generator_file.place(ctx)
        family, generator, _ = generator_file.load(path, ctx.device)

        sums: list[Tensor] = []

        def images(rows: Mapping[str, NDArray[Any]]) -> Fetched:
            made = family.render(generator, {"source": sent(rows["source"], ctx.device)})
            sums.append(made.sum())
            return Fetched(family.to_uint8(made))

        found = in_micro_batches(images, {"source": batch.inputs[0]["image"]}, config.micro_batch)
        generator_file.refuse_infinite(self.name, path, sums)
        return {"image": found}
