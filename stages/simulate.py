"""Photographs that a network gives back, as fakes: AutoGAN's simulator, or a re-synthesizer.

An image shows what its photograph shows, so it has its group, split and domain; what differs is what the network
leaves. A detector that was trained on such pairs has seen no generator's images: AutoGAN (Zhang et al. 2019,
arXiv:1907.06515) shows it a generator's upsampling, a re-synthesizer (He et al. 2021) what rebuilding from the means of
4 x 4 blocks loses and adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
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
    Promise,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.generators import generator_file
from stages.generators.families import check_maker
from stages.images.image_field import image_size
from stages.images.photographs import check_real, check_side
from stages.resynthesis.scale import SCALE
from stages.training.networks import in_micro_batches, prepare
from stages.weights import safetensors_file
from stages.weights.weights_file import WeightsError, is_safetensors

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, REBUILDING = "stages.resynthesis.weights", "stages.resynthesis.rebuilding"
"""What re-synthesizers need; imported for them alone, so that it is in no recipe of an AutoGAN's fakes."""


class SimulateConfig(StageConfig):
    """Settings of `simulate`."""

    checkpoint: str = file_setting(
        description="an AutoGAN, or a re-synthesizer as `model` of residual: a .safetensors file, a published torch "
        "file, MANIFEST.yaml#ENTRY, or a training node"
    )
    micro_batch: int = setting(8, ge=1, le=1024, description="images per run of the network")


class Simulate(Stage):
    """Rows with an `image` in, the same given back by a network out, as fakes: field `image` (H, W, 3) uint8 RGB."""

    name: ClassVar[str] = "simulate"
    kind: ClassVar[Kind] = Kind.EXPAND
    origin: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = SimulateConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input(
            "rows", description="real rows with an `image` of the AutoGAN's size, or of sides of multiples of 4"
        ),
        "checkpoint": Input(
            "artifact",
            required=False,
            takes=("generator", "re-synthesizer"),
            description="the AutoGAN or the re-synthesizer",
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "safetensors")
    network: ClassVar[bool] = True
    block_rows: ClassVar[int] = 64

    def schema(self, config: SimulateConfig, inputs: Mapping[str, Any]) -> Schema:
        """`image` of the same size; raises ValueError where it is none of the network's."""
        height, width = image_size(inputs["of"], self.name)
        if not resynthesizes(inputs["checkpoint"]):
            check_side(self.name, "of", inputs["of"], generator_file.read_header(inputs["checkpoint"]).resolution)
        elif height % SCALE or width % SCALE:
            raise ValueError(
                f"{self.name}: the images of 'of' have {height} x {width} px, and a re-synthesizer needs multiples of "
                f"{SCALE}; put equalize with such a size before it"
            )
        return {"image": Field("uint8", (height, width, 3), "sRGB, 0..255", PICTURE)}

    def modules(self, config: SimulateConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        checkpoint = files["checkpoint"]
        if resynthesizes(checkpoint):
            return (WEIGHTS, REBUILDING, *import_module(WEIGHTS).modules(checkpoint))
        return generator_file.modules(checkpoint)

    def least_rows(self, config: SimulateConfig) -> int:
        return config.micro_batch

    def check(self, config: SimulateConfig, files: Mapping[str, Path]) -> None:
        checkpoint = files["checkpoint"]
        if resynthesizes(checkpoint):
            import_module(WEIGHTS).read_header(checkpoint)
        else:
            check_maker(self.name, checkpoint, generator_file.read_header(checkpoint))

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
        path = place(ctx)
        family, network = load(path, ctx.device)
        sums: list[Tensor] = []

        def images(rows: Mapping[str, NDArray[Any]]) -> Fetched:
            made = family.render(network, {"source": sent(rows["source"], ctx.device)})
            sums.append(made.sum())
            return Fetched(family.to_uint8(made))

        found = in_micro_batches(images, {"source": batch.inputs[0]["image"]}, config.micro_batch)
        generator_file.refuse_infinite(self.name, path, sums)
        return {"image": found}


def resynthesizes(checkpoint: Path | Promise) -> bool:
    """Whether a checkpoint is, or will be, a re-synthesizer; what is none is read as a generator."""
    weights = import_module(WEIGHTS)
    if isinstance(checkpoint, Promise):
        return checkpoint.facts.get("network") == weights.NETWORK
    if is_safetensors(checkpoint):
        about, _ = safetensors_file.read_header(checkpoint)
        return isinstance(about, dict) and about.get("network") == weights.NETWORK
    try:
        weights.read_header(checkpoint)
    except WeightsError:
        return False
    return True


def place(ctx: Context) -> Path:
    """Where the network lies: a file, or in the artifact of a node."""
    path: Path = import_module(WEIGHTS).place(ctx)
    return path if path.is_file() else generator_file.place(ctx)


def load(path: Path, device: str) -> tuple[Any, Any]:
    """Module with `render` and `to_uint8`, and the network on its device. Raises WeightsError."""
    if resynthesizes(path):
        return import_module(REBUILDING), import_module(WEIGHTS).load(path, device)
    family, generator, _ = generator_file.load(path, device)
    return family, generator
