"""Fakes: images of a generator, one per seed.

A seed is a latent and thus an image; two generators with the same seed share the latent, so that they are one group and
never lie in two splits. The latent comes from numpy's RandomState(seed), as in the official samplers (Karras et al.
2020, arXiv:1912.04958, and its public code). All noise is by default redrawn for each seed: noise maps stored with the
weights would print one pattern on every image, which a detector could learn instead of the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.errors import StageError
from pipeline.stage import (
    FAKE,
    ID,
    SPLITS,
    Batch,
    Context,
    Field,
    Kind,
    Schema,
    SourceRows,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)
from stages.generators import weights
from stages.networks import in_micro_batches, prepare

SEEDS = 1 << 32  # numpy's RandomState takes seeds below


class SampleConfig(StageConfig):
    """Settings of `sample`."""

    checkpoint: str = file_setting(description="weights: a .safetensors file, or MANIFEST.yaml#ENTRY")
    count: int = row_setting(ge=1, description="number of images")
    seeds: int = row_setting(0, ge=0, description="first seed; image k has seed seeds + k")
    splits: dict[str, float] | None = row_setting(None, description="fractions of train, val and test")
    truncation_psi: float = setting(1.0, description="1: no truncation; smaller: nearer to the average image")
    truncation_cutoff: int | None = setting(None, ge=1, description="truncate only this many first layers (none: all)")
    noise: Literal["per-seed", "const", "none"] = setting(
        "per-seed", description="noise maps: drawn for each seed, the ones stored with the weights, or none"
    )
    label_index: int | None = setting(None, ge=0, description="class of a conditional generator")
    micro_batch: int = setting(8, ge=1, le=1024, description="images per run of the network")

    @model_validator(mode="after")
    def _consistent(self) -> SampleConfig:
        if self.seeds + self.count > SEEDS:
            raise ValueError(f"the last seed is {self.seeds + self.count - 1}; seeds must be below {SEEDS}")
        if self.truncation_cutoff is not None and self.truncation_psi == 1:
            raise ValueError("truncation_cutoff has no effect at truncation_psi 1; set truncation_psi or drop it")
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
    libraries = ("numpy", "torch", "safetensors")
    network = True
    block_rows = 64

    def schema(self, config: SampleConfig, inputs: Mapping[str, Any]) -> Schema:
        side = weights.read_header(Path(inputs["checkpoint"])).resolution
        return {"image": Field("uint8", (side, side, 3), "sRGB, 0..255")}

    def modules(self, config: SampleConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        return (weights.read_header(Path(files["checkpoint"])).module,)

    def check(self, config: SampleConfig, files: Mapping[str, Path]) -> None:
        path = Path(files["checkpoint"])
        header = weights.read_header(path)
        classes, index = header.dimensions["c_dim"], config.label_index
        if classes and (index is None or index >= classes):
            raise ValueError(f"sample: {path} is conditional; label_index is {index}, expected 0 to {classes - 1}")
        if not classes and index is not None:
            raise ValueError(f"sample: {path} is unconditional, so label_index {index} has no effect; drop it")
        layers = 2 * header.resolution.bit_length() - 4
        if config.truncation_cutoff is not None and config.truncation_cutoff > layers:
            raise ValueError(f"sample: truncation_cutoff is {config.truncation_cutoff}; {path} has {layers} layers")

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

        prepare(ctx.device, ctx.threads)
        path = Path(ctx.files["checkpoint"])
        status = path.stat()
        family, generator, header = _loaded(path, status.st_mtime_ns, status.st_size, ctx.device)
        label = torch.zeros((config.micro_batch, header.dimensions["c_dim"]), device=ctx.device)
        if config.label_index is not None:
            label[:, config.label_index] = 1

        def images(rows: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
            drawn = [family.draw(header.architecture, int(seed), config.noise) for seed in rows["seed"]]
            inputs = {name: torch.from_numpy(np.stack([row[name] for row in drawn])) for name in drawn[0]}
            inputs = {name: values.to(ctx.device) for name, values in inputs.items()}
            made = family.render(
                generator,
                {**inputs, "label": label},
                psi=config.truncation_psi,
                cutoff=config.truncation_cutoff,
                noise=config.noise,
            )
            if not bool(torch.isfinite(made).all()):
                raise StageError(f"sample: {path} makes values that are not finite; its weights are unusable")
            return family.to_uint8(made).cpu().numpy()  # type: ignore[no-any-return]

        return {"image": in_micro_batches(images, {"seed": batch.payload["seed"]}, config.micro_batch)}


@lru_cache(maxsize=1)
def _loaded(path: Path, modified_ns: int, size: int, device: str) -> tuple[Any, Any, weights.Header]:
    """Family module, generator on its device, header; kept for the next batch while the file is the same."""
    family, generator = weights.load(path)
    return family, generator.to(device), weights.read_header(path)


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
