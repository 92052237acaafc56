"""Stage `residual`: what a re-synthesizer cannot rebuild of an image (He et al. 2021, section 3).

An image x is reduced to the means of its 4 x 4 blocks and rebuilt from them by a network that knows photographs only:
y. The residual |y - x| of pixels, or of a stage of a perceptual network, is what the paper's detectors see; its mean
alone already separates fakes from photographs in part (their Fig. 3 and 4), without any training.

One pass makes all levels asked for: each image is rebuilt once, and the perceptual network runs only as deep as the
deepest stage. All is computed in float32. What is stored is float16: a value above its largest finite number becomes
that number and is counted; a row whose residual is not finite fails.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from pipeline.stage import (
    MAPS,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    setting,
)
from stages.images.image_field import image_size
from stages.resynthesis import weights
from stages.resynthesis.scale import SCALE
from stages.training.networks import prepare

if TYPE_CHECKING:
    from torch import Tensor

    from detectors.transfers import Fetched

Level = Literal["pixel", "stage1", "stage2", "stage3", "stage4", "stage5"]
LEVELS: tuple[Level, ...] = ("pixel", "stage1", "stage2", "stage3", "stage4", "stage5")

PERCEPTUAL = "stages.resynthesis.perceptual"
EMBEDDED = "manifests/networks.yaml#perceptual-small"

LARGEST = float(np.finfo(np.float16).max)
MICRO_BATCH = {"cpu": (1 << 16, 16), "cuda": (1 << 19, 512)}
"""Most pixels and rows of a micro-batch by kind of device: on a CPU what stays in its cache, on a GPU what fills it."""


class ResidualConfig(StageConfig):
    """Which networks, which levels."""

    model: str = file_setting(
        description="the re-synthesizer: a .safetensors file, a published torch file, MANIFEST.yaml#ENTRY, or a "
        "training node"
    )
    levels: tuple[Level, ...] = setting(
        ("pixel",),
        description="any of pixel and stage1 to stage5 of the perceptual network",
        min_length=1,
        strict=False,  # a list in YAML
    )
    perceptual: str | None = file_setting(
        None,
        description=f"the perceptual network of the stages: VGG-19 as .pth or .safetensors, MANIFEST.yaml#ENTRY, or "
        f"the small one, {EMBEDDED}, if left out",
    )
    orientation: Literal["original", "flipped"] = setting(
        "original", description="flipped: of the image with left and right exchanged"
    )
    maps: bool = setting(
        True, description="false: the mean of each residual alone is stored, a few bytes in place of tens of kilobytes"
    )
    micro_batch: int | None = setting(
        None, ge=1, le=1024, description="images per run of the networks; if left out, by the size of the images"
    )

    @field_validator("levels")
    @classmethod
    def _in_one_order(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if len(set(levels)) < len(levels):
            raise ValueError(f"levels {', '.join(levels)} name one twice; name each once")
        return tuple(name for name in LEVELS if name in levels)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The small network where a stage is asked for."""
        if not isinstance(data, dict) or not isinstance(data.get("levels", ()), list | tuple):
            return data
        if data.get("perceptual") is None and set(map(str, data.get("levels", ()))) & set(LEVELS[1:]):
            return {**data, "perceptual": EMBEDDED}
        return data

    @model_validator(mode="after")
    def _no_idle_key(self) -> ResidualConfig:
        if self.perceptual is not None and self.levels == ("pixel",):
            raise ValueError("perceptual has no effect without a stage in levels; ask for one or leave it out")
        return self


class Residual(Stage):
    """Images in; per level the residual (C, H, W) float16 and its mean float32 out, or the mean alone."""

    name: ClassVar[str] = "residual"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = ResidualConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows with an image"),
        "model": Input("artifact", required=False, takes="re-synthesizer", description="the re-synthesizer"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "safetensors")
    network: ClassVar[bool] = True
    block_rows: ClassVar[int] = MICRO_BATCH["cuda"][1]

    def modules(self, config: ResidualConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """Modules of the networks in the files; the perceptual ones only where a stage is asked for."""
        found = weights.modules(files["model"]) if "model" in files else ()
        if config.perceptual is not None and "perceptual" in files:
            found += (PERCEPTUAL, *importlib.import_module(PERCEPTUAL).modules(files["perceptual"]))
        return found

    def least_rows(self, config: ResidualConfig) -> int:
        """A micro-batch, or the largest that the size of the images may lead to on a CPU."""
        return config.micro_batch or MICRO_BATCH["cpu"][1]

    def check(self, config: ResidualConfig, files: Mapping[str, Any]) -> None:
        """The files hold networks of the right kind."""
        weights.read_header(files["model"])
        if "perceptual" in files:
            importlib.import_module(PERCEPTUAL).read_header(files["perceptual"])

    def schema(self, config: ResidualConfig, inputs: Mapping[str, Any]) -> Schema:
        """Per level `residual_LEVEL_mean` and, with `maps`, `residual_LEVEL`; then `residual_clipped`, a count, too."""
        height, width = _sides(inputs["of"], config.levels)
        found: dict[str, Field] = {}
        for level in config.levels:
            shape, units = (3, height, width), "|y - x|, RGB in 0..1"
            if level != "pixel":
                header = importlib.import_module(PERCEPTUAL).read_header(inputs["perceptual"])
                number = LEVELS.index(level) - 1
                stride = header.strides[number]
                shape = (header.channels[number], height // stride, width // stride)
                units = f"|{level}(y) - {level}(x)|, {header.family}"
            if config.maps:
                found[field_of(level)] = Field("float16", shape, units, MAPS)
            found[f"{field_of(level)}_mean"] = Field("float32", (), f"mean of {units}")
        if config.maps:
            found["residual_clipped"] = Field(
                "int32", (), "values of all levels that are stored as 65504, the largest float16"
            )
        return found

    def compute(self, config: ResidualConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Residuals of `image`, (n, H, W, 3) uint8 RGB; a row whose residual is not finite fails."""
        from detectors.transfers import Fetched

        prepare(ctx.device, ctx.threads)
        model = weights.load(weights.place(ctx, "model"), ctx.device)
        perceptual = None
        if config.perceptual is not None:
            perceptual = importlib.import_module(PERCEPTUAL).load(ctx.files["perceptual"], ctx.device)
        images = batch.inputs[0]["image"]
        size = config.micro_batch or micro_batch(images.shape[1:3], ctx.device)
        found: dict[str, NDArray[Any]] = {}
        waiting: Mapping[str, Fetched] | None = None
        start = 0
        for rows in micro_batches(images, size):
            made = residuals(model, perceptual, rows, config, ctx.device)
            if waiting is not None:  # read after the next micro-batch has been queued: a GPU never waits
                _keep(found, waiting, start, len(images))
                start += size
            waiting = {name: Fetched(tensor) for name, tensor in made.items()}
        assert waiting is not None  # a batch has at least one row
        _keep(found, waiting, start, len(images))
        _refuse_infinite(config, found, ctx)
        if not config.maps:
            return found
        clipped = np.stack([_clipped(found[field_of(level)]) for level in config.levels]).sum(axis=0, dtype=np.int32)
        return {**found, "residual_clipped": clipped}


def field_of(level: Level) -> str:
    """Name of a level's field."""
    return f"residual_{level}"


def micro_batch(sides: Sequence[int], device: str) -> int:
    """Rows of a micro-batch of images of these sides: a power of two."""
    pixels, most = MICRO_BATCH["cuda" if device.startswith("cuda") else "cpu"]
    fitting = max(pixels // (sides[0] * sides[1]), 1)
    return min(1 << (fitting.bit_length() - 1), most)


def micro_batches(images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Groups of exactly `size` rows, views where possible; the last one repeats its last row until it is full."""
    for start in range(0, len(images), size):
        rows = images[start : start + size]
        yield rows if len(rows) == size else images[np.minimum(np.arange(start, start + size), len(images) - 1)]


def residuals(
    model: Any, perceptual: Any, images: NDArray[np.uint8], config: ResidualConfig, device: str
) -> dict[str, Tensor]:
    """Fields of a micro-batch (n, H, W, 3), as tensors on the device.

    The images become float32 once. Memory order is channels last throughout, which is that of the images.
    """
    import torch
    import torch.nn.functional as F

    from detectors.transfers import sent
    from stages.resynthesis.downsampling import by_255, channels_first

    with torch.inference_mode():
        given = sent(images, device)
        values = channels_first(given.flip(2) if config.orientation == "flipped" else given).float()
        rebuilt = model(by_255(F.avg_pool2d(values, SCALE)))
        original = values.div_(torch.full((), 255.0, device=device))  # in place of by_255: one array less
        pairs: dict[str, Sequence[Tensor]] = {}
        if perceptual is not None:
            wanted = [LEVELS.index(level) for level in config.levels if level != "pixel"]
            both = torch.cat([rebuilt, original])
            pairs = {LEVELS[stage]: maps.chunk(2) for stage, maps in perceptual.stages(both, wanted).items()}
        pairs["pixel"] = rebuilt, original
        found: dict[str, Tensor] = {}
        for level in config.levels:
            residual = pairs[level][0].sub_(pairs[level][1]).abs_()  # nothing else reads the first any more
            found[f"{field_of(level)}_mean"] = residual.permute(0, 2, 3, 1).flatten(1).mean(dim=1)
            if not config.maps:
                continue
            half = residual.clamp_(max=LARGEST).to(torch.float16)
            found[field_of(level)] = half.contiguous() if half.is_cuda else half  # on a CPU when it is copied anyway
    return found


def _keep(found: dict[str, NDArray[Any]], made: Mapping[str, Fetched], start: int, count: int) -> None:
    """Copy a micro-batch's rows to their place among `count` rows."""
    for name, fetched in made.items():
        array = fetched.array()
        if name not in found:
            found[name] = np.empty((count, *array.shape[1:]), dtype=array.dtype)
        found[name][start : start + len(array)] = array[: count - start]


def _clipped(residuals: NDArray[np.float16]) -> NDArray[np.int32]:
    """(n,) how many values of each row (n, C, H, W) are the largest float16."""
    full = residuals.view(np.uint16) == np.float16(LARGEST).view(np.uint16)  # as integers, which is much faster
    counts = full.reshape(len(full), -1).sum(axis=1) if full.any() else np.zeros(len(full))
    return counts.astype(np.int32)


def _refuse_infinite(config: ResidualConfig, found: Mapping[str, NDArray[Any]], ctx: Context) -> None:
    means = np.stack([found[f"{field_of(level)}_mean"] for level in config.levels])
    for row in np.flatnonzero(~np.isfinite(means).all(axis=0)).tolist():
        ctx.fail(row, "its residual is not finite; the weights of the re-synthesizer or the perceptual network are bad")


def _sides(fields: Schema, levels: Sequence[Level]) -> tuple[int, int]:
    """Height and width of the input's images; ValueError if they are none, or of sides that do not fit."""
    height, width = image_size(fields, Residual.name)
    if height % SCALE or width % SCALE:
        nearest = max(SCALE, min(height, width) // SCALE * SCALE)
        raise ValueError(
            f"residual takes means of {SCALE} x {SCALE} blocks, and the images are {height} x {width}; equalize to a "
            f"multiple of {SCALE}, e.g. size: {nearest}"
        )
    deepest = max((1 << LEVELS.index(level)) // 2 for level in levels)
    if min(height, width) < deepest:
        raise ValueError(
            f"{levels[-1]} has one value per {deepest} x {deepest} pixels, and the images are {height} x {width}; "
            f"equalize to {deepest} or more, or leave {levels[-1]} out"
        )
    return height, width
