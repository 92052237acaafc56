"""Stage `invert`: of each real photograph the image that a generator comes nearest to it, as a fake of the same group.

Chai et al. 2020 (section 4.1) train on samples together with such reprojections, whose content is that of the reals;
how theirs were made is not published. Here a latent is found by gradient descent from the best of some random ones, so
that each image is in the generator's range; with method latent+residuals changes behind its first layers follow, after
Bau et al. 2019, and images are out of it. The start may also be what an encoder tells (`train_encoder`), as theirs.
Nothing is fitted across rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

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
from stages.generators import frozen, generator_file
from stages.generators.weights import Header
from stages.images.photographs import check_real, check_side
from stages.resynthesis import distance_settings
from stages.resynthesis.distance_settings import EMBEDDED

if TYPE_CHECKING:
    from torch import Tensor

INVERSION, RESIDUALS = "stages.generators.inversion", "stages.generators.layer_residuals"
ENCODER = "stages.generators.encoder"


LAYERED = ("progan",)
"""Families whose layers `RESIDUALS` knows."""


class InvertConfig(StageConfig):
    """Which generator, which error, for how long."""

    checkpoint: str = file_setting(
        description="the generator: a training node, a weights file of any supported form, or MANIFEST.yaml#ENTRY"
    )
    label_index: int | None = setting(None, ge=0, description="class of a conditional generator")
    method: Literal["latent", "latent+residuals"] = setting(
        "latent",
        description="what is looked for: a latent; or then also changes behind the first three layers of a ProGAN, "
        "whose images no latent gives",
    )
    error: Literal["absolute", "squared"] = setting(
        "absolute", description="of pixels (-1 to 1): mean absolute or mean squared difference"
    )
    perceptual_weight: float = setting(1.0, ge=0, description="of the distance in a perceptual network")
    perceptual: str | None = file_setting(
        None, description=f"that network: VGG-19, or the small one, {EMBEDDED}, if left out"
    )
    heads: str | None = distance_settings.heads_setting()
    latent_weight: float = setting(0.001, ge=0, description="of the mean square of the latent")
    steps: int = setting(500, ge=1, description="steps of Adam")
    learning_rate: float = setting(0.05, gt=0, description="of Adam at the start; it falls to 0 along a cosine")
    residual_weight: float = setting(
        1.0, ge=0, description="latent+residuals: of the mean square of each layer's change"
    )
    residual_steps: int = setting(3000, ge=1, description="latent+residuals: further steps of Adam")
    residual_learning_rate: float = setting(
        0.01, gt=0, description="latent+residuals: of Adam; halved after 27, 40 and 60 % of these steps"
    )
    starts: int = setting(32, ge=1, description="random latents of which the best is the start")
    micro_batch: int = setting(8, ge=1, le=1024, description="images per run of the networks")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The small network where one is needed."""
        return distance_settings.with_network(data, not isinstance(data, dict) or data.get("perceptual_weight", 1.0))

    @model_validator(mode="after")
    def _no_idle_key(self) -> InvertConfig:
        wanted = self.perceptual_weight > 0
        distance_settings.check(self.perceptual, self.heads, wanted, "perceptual_weight: 0")
        for name in ("residual_weight", "residual_steps", "residual_learning_rate"):
            if name in self.chosen() and self.method == "latent":
                raise ValueError(f"{name} has no effect with method latent; drop it")
        return self


class Invert(Stage):
    """Rows with an `image` in; `image`, `latent`, `loss`, `steps`, `psnr`, `distance`, `in_range` of inversions out."""

    name: ClassVar[str] = "invert"
    kind: ClassVar[Kind] = Kind.EXPAND
    origin: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = InvertConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="real rows with an `image` of the generator's size"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="the generator"),
        "encoder": Input(
            "artifact",
            required=False,
            takes="encoder",
            description="a 'train_encoder' node of this generator: what it tells of a photograph is the start",
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "safetensors")
    random: ClassVar[bool] = True
    network: ClassVar[bool] = True
    block_rows: ClassVar[int] = 64

    def schema(self, config: InvertConfig, inputs: Mapping[str, Any]) -> Schema:
        """Raises ValueError where the images are not of the generator's size."""
        header = generator_file.read_header(inputs["checkpoint"])
        side = header.resolution
        if config.method == "latent+residuals" and header.family not in LAYERED:
            raise ValueError(
                f"invert: {inputs['checkpoint']} is of family {header.family}, of whose layers method latent+residuals "
                f"knows nothing, only of {', '.join(LAYERED)}; use method latent"
            )
        check_side(self.name, "of", inputs["of"], side)
        if "encoder" in inputs:
            check_encoder(config, inputs["encoder"], header)
        return {
            "image": Field("uint8", (side, side, 3), "sRGB, 0..255", PICTURE),
            "latent": Field("float32", (header.dimensions["z_dim"],), "the latent of the image"),
            "loss": Field("float32", (), "what was minimized"),
            "steps": Field("int32", (), "steps of the descent"),
            "psnr": Field("float32", (), "dB, of the image against its photograph"),
            "distance": Field("float32", (), "relative distance in the perceptual network, or LPIPS; 0 without one"),
            "in_range": Field("uint8", (), "1: the generator's image of the latent; 0: with changes behind its layers"),
        }

    def modules(self, config: InvertConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The generator's, the descent's, and those of the distance."""
        more = (RESIDUALS,) if config.method == "latent+residuals" else ()
        return (
            INVERSION,
            ENCODER,
            *more,
            *generator_file.modules(files["checkpoint"]),
            *distance_settings.modules(files),
        )

    def least_rows(self, config: InvertConfig) -> int:
        return config.micro_batch

    def check(self, config: InvertConfig, files: Mapping[str, Path]) -> None:
        """The file holds a generator with a latent."""
        path = files["checkpoint"]
        frozen.check_latent(self.name, path, generator_file.read_header(path), config.label_index)

    def children(
        self,
        config: InvertConfig,
        files: Mapping[str, Path],
        parents: Parents,
        partners: Parents | None,
        seed: int,
    ) -> Children:
        """One fake per row. Raises ValueError where a row is a fake."""
        del files, partners, seed
        check_real(self.name, "of", parents)
        return Children(np.arange(len(parents)), np.zeros(len(parents), np.int64), label=FAKE)

    def compute(self, config: InvertConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A row whose loss is not finite fails."""
        from stages.resynthesis.perceptual_distance import distance_of
        from stages.training.networks import in_micro_batches, prepare

        prepare(ctx.device, ctx.threads)
        generator = frozen.FrozenGenerator(generator_file.place(ctx), ctx.device, config.label_index)
        network, heads = distance_settings.paths(ctx.files)
        apart = None if network is None else distance_of(network, ctx.device, heads)
        starts = _starts(config, generator, batch, ctx)
        side = generator.header.resolution
        kinds = np.dtype([
            ("image", np.uint8, (side, side, 3)), ("latent", np.float32, generator.z_dim), ("loss", np.float32),
            ("steps", np.int32), ("psnr", np.float32), ("distance", np.float32), ("in_range", np.uint8),
        ])  # fmt: skip

        def inverted(rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
            return _inverted(config, generator, apart, rows["image"], rows["starts"], kinds)

        arrays = {"image": batch.inputs[0]["image"], "starts": starts}
        found = in_micro_batches(inverted, arrays, config.micro_batch)
        for row in np.flatnonzero(~np.isfinite(found["loss"])).tolist():
            ctx.fail(row, f"its loss is {found['loss'][row]} after {config.steps} steps; lower learning_rate")
        return {name: np.ascontiguousarray(found[name]) for name in kinds.names or ()}


def check_encoder(config: InvertConfig, promise: Promise, header: Header) -> None:
    """Raise ValueError unless a node's encoder sees images of this generator, and random starts are left out."""
    if "starts" in config.chosen():
        raise ValueError("invert: starts has no effect with 'encoder', which says where to begin; drop it")
    learned, found = (promise.facts["side"], promise.facts["z_dim"]), (header.resolution, header.dimensions["z_dim"])
    if learned != found:
        raise ValueError(
            f"invert: the encoder of {promise} tells latents of {learned[1]} numbers from {learned[0]} pixels, but the "
            f"generator makes {found[0]} pixels of {found[1]} numbers; train it on this generator"
        )


def _starts(config: InvertConfig, generator: frozen.FrozenGenerator, batch: Batch, ctx: Context) -> NDArray[np.float32]:
    """(n, k, z_dim): random latents of each row, or the one that an encoder tells."""
    if "encoder" not in ctx.artifacts:
        drawn = [ctx.rng(one, "latent").standard_normal((config.starts, generator.z_dim)) for one in batch.ids]
        return np.stack(drawn).astype(np.float32)
    import torch

    from stages.training.networks import in_micro_batches

    module: Any = import_module(ENCODER)
    (artifact,) = ctx.artifacts["encoder"]
    encoder = module.read(artifact.path, ctx.device)

    def told(rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        images = torch.from_numpy(rows["image"]).to(ctx.device).movedim(3, 1).float() / 127.5 - 1
        found: NDArray[np.float32] = module.told_latents(encoder, images).cpu().numpy()
        return found[:, None]

    return in_micro_batches(told, {"image": batch.inputs[0]["image"]}, config.micro_batch)


def _inverted(
    config: InvertConfig,
    generator: frozen.FrozenGenerator,
    apart: Any,
    images: NDArray[np.uint8],
    starts: NDArray[np.float32],
    kinds: np.dtype[Any],
) -> NDArray[Any]:
    """Entries (n,) of a micro-batch of photographs (n, side, side, 3) from latents (n, starts, z_dim)."""
    import torch

    from detectors.transfers import Fetched, sent
    from stages.generators.inversion import descended, penalized, refined
    from stages.resynthesis.fidelity import psnr

    wanted = sent(images, generator.device).movedim(3, 1).float() / 127.5 - 1

    def objective(z: Tensor) -> Tensor:
        made = generator(z)
        error = (made - wanted).abs() if config.error == "absolute" else (made - wanted).square()
        total = error.flatten(1).mean(dim=1)
        if apart is not None:
            total = total + config.perceptual_weight * apart(wanted, made)
        return penalized(total, z, config.latent_weight)

    z, losses = descended(objective, sent(starts, generator.device), config.steps, config.learning_rate)
    found = np.zeros(len(images), kinds)
    found["steps"], found["in_range"] = config.steps, config.method == "latent"
    changed: AbstractContextManager[None] = nullcontext()
    if config.method == "latent+residuals":
        layers: Any = import_module(RESIDUALS)
        network, family = generator.generator, generator.header.family

        def changing(z: Tensor, residuals: Sequence[Tensor]) -> Tensor:
            with layers.added(network, family, residuals):
                total = objective(z)
            return total + config.residual_weight * sum(one.square().flatten(1).mean(dim=1) for one in residuals)

        z, residuals, losses = refined(
            changing, z, layers.zeros(network, family, generator, z), config.residual_steps,
            config.residual_learning_rate,
        )  # fmt: skip
        found["steps"] += config.residual_steps
        changed = layers.added(network, family, residuals)
    with torch.no_grad(), changed:
        made = generator(z)
        told = {"latent": Fetched(z), "loss": Fetched(losses)}
        if apart is not None:
            told["distance"] = Fetched(apart(wanted, made))
        found["image"] = generator.pixels(made)
    for name, one in told.items():
        found[name] = one.array()
    found["psnr"] = psnr(torch.from_numpy(found["image"].copy()), torch.from_numpy(images)).numpy()
    return found
