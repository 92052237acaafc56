"""Fakes: images of a generator, one per seed.

A seed is a latent and thus an image; two generators with the same seed share the latent, so that they are one group and
never lie in two splits. The latent comes from numpy's RandomState(seed), as in the official samplers (Karras et al.
2020, arXiv:1912.04958, and its public code). All noise is by default redrawn for each seed: noise maps stored with the
weights would print one pattern on every image, which a detector could learn instead of the generator.

Numpy draws on the CPU while the network runs: the noise of a large image takes longer than one micro-batch of it may.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.stage import (
    FAKE,
    ID,
    PICTURE,
    SPLITS,
    Batch,
    Context,
    Field,
    Input,
    Kind,
    Schema,
    SourceRows,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)
from stages.generators import generator_file, latent_shifts
from stages.generators.families import check_drawing, check_maker, marks
from stages.generators.weights import Header
from stages.training.networks import prepare

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = 1 << 32  # numpy's RandomState takes seeds below
MICRO_BATCH, GPU_MICRO_BATCH = 8, 32
GPU_PIXELS = 1 << 21  # of a micro-batch that fill a GPU
AHEAD = 2  # micro-batches that are drawn before they are needed
DRAWERS = 8  # threads that draw for a GPU, at most; for a CPU one is enough


class SampleConfig(StageConfig):
    """Settings of `sample`."""

    checkpoint: str = file_setting(
        description="a .safetensors file, an official checkpoint, MANIFEST.yaml#ENTRY, or a training node"
    )
    count: int = row_setting(ge=1, description="number of images")
    seeds: int = row_setting(0, ge=0, description="first seed; image k has seed seeds + k")
    splits: dict[str, float] | None = row_setting(None, description="fractions of train, val and test")
    truncation_psi: float | Literal["default"] = setting(
        1.0,
        description="1: no truncation; smaller: nearer to the average image; default: what the checkpoint suggests",
    )
    truncation_cutoff: int | None = setting(None, ge=1, description="truncate only this many first layers (none: all)")
    noise: Literal["per-seed", "const", "none"] = setting(
        "per-seed",
        description="noise maps, if the generator has any: drawn for each seed, those of the checkpoint, or none",
    )
    label_index: int | None = setting(None, ge=0, description="class of a conditional generator")
    drawing: dict[str, bool | int | float] = setting(
        {}, description="further settings of the generator's family (docs/generators.md), such as {temperature: 0.7}"
    )
    directions: str | None = file_setting(
        None, description="directions of attributes in the latents of a Glow, an .npy file: each image gets one of them"
    )
    shift_scale: float = setting(
        1.0, description="of `shift`: 1 exaggerates what makes images look fake, -1 suppresses it"
    )
    micro_batch: int | None = setting(
        None,
        ge=1,
        le=1024,
        description=f"images per run of the network; if left out {MICRO_BATCH}, on a GPU {GPU_MICRO_BATCH} up to 256 "
        "pixels",
    )

    @model_validator(mode="after")
    def _consistent(self) -> SampleConfig:
        if self.seeds + self.count > SEEDS:
            raise ValueError(f"the last seed is {self.seeds + self.count - 1}; seeds must be below {SEEDS}")
        if self.truncation_cutoff is not None and self.truncation_psi in (1, "default"):
            raise ValueError(
                f"truncation_cutoff has no effect at truncation_psi {self.truncation_psi}; set truncation_psi to "
                "another number or drop it"
            )
        if self.splits is not None:
            unknown = sorted(set(self.splits) - set(SPLITS))
            total = sum(self.splits.values())
            if unknown or min(self.splits.values(), default=-1) < 0 or abs(total - 1) > 1e-6:
                raise ValueError(f"splits are fractions of {', '.join(SPLITS)} that add up to 1, not {self.splits}")
        return self


class Sample(Stage):
    """Source of generated images: field `image` (H, W, 3) uint8 RGB."""

    name = "sample"
    kind = Kind.SOURCE
    Config = SampleConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "checkpoint": Input("artifact", required=False, takes="generator", description="the generator"),
        "shift": Input(
            "artifact", required=False, takes="latent shift", description="a 'latent_shift' of the generator"
        ),
    }
    libraries = ("numpy", "torch", "safetensors")
    network = True
    block_rows = 512

    def schema(self, config: SampleConfig, inputs: Mapping[str, Any]) -> Schema:
        header = generator_file.read_header(inputs["checkpoint"])
        side = header.resolution
        if "shift" in inputs:
            latent_shifts.check_fits(self.name, inputs["shift"], header)
        elif "shift_scale" in config.chosen():
            raise ValueError("sample: shift_scale has no effect without shift; name a 'latent_shift' node, or drop it")
        return {"image": Field("uint8", (side, side, 3), "sRGB, 0..255", PICTURE)}

    def modules(self, config: SampleConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        return generator_file.modules(files["checkpoint"])

    def leaves(self, config: SampleConfig, files: Mapping[str, Any]) -> Mapping[str, str]:
        return marks(generator_file.read_header(files["checkpoint"]), config.drawing)

    def least_rows(self, config: SampleConfig) -> int:
        return (1 + AHEAD) * (config.micro_batch or MICRO_BATCH)

    def check(self, config: SampleConfig, files: Mapping[str, Path]) -> None:
        path = files["checkpoint"]
        header = generator_file.read_header(path)
        check_maker(self.name, path, header)
        if header.architecture.get("colors", 3) != 3:
            raise ValueError(f"sample: {path} makes images of {header.architecture['colors']} colors, expected RGB")
        self._check_label(config, path, header)
        check_drawing(config.drawing, "directions" in files, path, header)
        styles, cutoff = layers(header), truncation(config, header)[1]
        if not styles and config.truncation_psi not in (1, "default"):
            raise ValueError(
                f"sample: {path} has no styles to truncate; drop truncation_psi, which is {config.truncation_psi}"
            )
        if cutoff is not None and styles and cutoff > styles:
            raise ValueError(f"sample: truncation_cutoff is {cutoff}; {path} has {styles} layers")
        if (
            config.noise == "const"
            and header.shapes
            and not any(name.endswith("noise_const") for name in header.shapes)
        ):
            raise ValueError(f"sample: {path} has no stored noise maps, so noise: const is not possible; drop it")

    def _check_label(self, config: SampleConfig, path: Path, header: Header) -> None:
        classes, index = header.dimensions["c_dim"], config.label_index
        if classes and (index is None or index >= classes):
            raise ValueError(f"sample: {path} is conditional; label_index is {index}, expected 0 to {classes - 1}")
        if not classes and index is not None:
            raise ValueError(f"sample: {path} is unconditional, so label_index {index} has no effect; drop it")

    def discover(self, config: SampleConfig, scan: Any) -> SourceRows:
        seeds = np.arange(config.seeds, config.seeds + config.count, dtype=np.int64)
        return SourceRows(
            id=digests((b"touchstone/seed", b"sample"), seeds),
            label=FAKE,
            group=digests((b"touchstone/latent",), seeds),
            payload={"seed": seeds},
            splits=config.splits,
        )

    def compute(self, config: SampleConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        import torch

        from detectors.transfers import Fetched

        prepare(ctx.device, ctx.threads)
        path = generator_file.place(ctx)
        family, generator, header = generator_file.load(path, ctx.device)
        psi, cutoff = truncation(config, header)
        shift = latent_shifts.shift_of(ctx, config.shift_scale)
        generator = generator if shift is None else generator_file.apart(generator)
        size = config.micro_batch or micro_batch(header.resolution, ctx.device)
        label = torch.zeros((size, header.dimensions["c_dim"]), device=ctx.device)
        if config.label_index is not None:
            label[:, config.label_index] = 1

        own = getattr(family, "drawing", None)
        more = own(config.drawing, ctx.files.get("directions")) if own else {}

        def draw(seed: int) -> Mapping[str, NDArray[np.float32]]:
            return family.draw(header.architecture, seed, config.noise, **more)  # type: ignore[no-any-return]

        images, sums, waiting = [], [], None
        for inputs in drawn_ahead(draw, batch.payload["seed"], size, ctx.device):
            with latent_shifts.moved(shift, generator, {**inputs, "label": label}) as given:
                made = family.render(generator, given, psi=psi, cutoff=cutoff, noise=config.noise)
            sums.append(made.sum())
            if waiting is not None:  # read after the next micro-batch has been queued: the device never waits
                images.append(waiting.array())
            waiting = Fetched(family.to_uint8(made))
        assert waiting is not None  # a batch has at least one row
        images.append(waiting.array())
        generator_file.refuse_infinite(self.name, path, sums)
        return {"image": np.concatenate(images)[: len(batch)]}


def micro_batch(side: int, device: str) -> int:
    """Images per run of a network that makes them of this side."""
    if not device.startswith("cuda"):
        return MICRO_BATCH
    return min(max(GPU_PIXELS // side**2, MICRO_BATCH), GPU_MICRO_BATCH)


def layers(header: Header) -> int:
    """Layers of a generator that have a style and noise, two for each resolution; 0 where there is no style."""
    return 2 * header.resolution.bit_length() - 4 if header.dimensions["w_dim"] else 0


def truncation(config: SampleConfig, header: Header) -> tuple[float, int | None]:
    """psi and cutoff: those of the config, or what the checkpoint suggests."""
    if config.truncation_psi == "default":
        return float(header.truncation["psi"]), header.truncation["cutoff"]
    return config.truncation_psi, config.truncation_cutoff


def drawn_ahead(
    draw: Callable[[int], Mapping[str, NDArray[np.float32]]], seeds: NDArray[np.int64], size: int, device: str
) -> Iterator[dict[str, Tensor]]:
    """What `draw` makes of the seeds, stacked by `size` of them on the device; threads draw some micro-batches ahead.

    Each micro-batch is full, the last one repeats its last seed: kernels, and so the bytes of a row, depend on the
    number of rows.
    """
    import torch

    from detectors.transfers import stacked

    on_gpu = torch.device(device).type == "cuda"
    groups = [seeds[start : start + size].tolist() for start in range(0, len(seeds), size)]
    with ThreadPoolExecutor(min(DRAWERS, os.cpu_count() or 1) if on_gpu else 1) as pool:
        waiting: deque[Sequence[Future[Mapping[str, NDArray[np.float32]]]]] = deque()
        for number in range(len(groups)):
            for group in groups[number + len(waiting) : number + AHEAD + 1]:
                waiting.append([pool.submit(draw, seed) for seed in group])
            rows = [future.result() for future in waiting.popleft()]
            rows += rows[-1:] * (size - len(rows))
            yield stacked(rows, device)


def digests(parts: tuple[bytes, ...], seeds: NDArray[np.int64]) -> NDArray[np.void]:
    """First 16 bytes of the SHA-256 of the length-prefixed parts and the decimal seed, for each seed (n,) V16."""
    prefix = sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts))
    lengths = [length.to_bytes(8, "little") for length in range(20)]
    found = bytearray()
    for seed in seeds.tolist():
        text = b"%d" % seed
        digest = prefix.copy()
        digest.update(lengths[len(text)] + text)
        found += digest.digest()[:16]
    return np.frombuffer(bytes(found), dtype=ID)
