"""Mean spectra of each source of images as arrays and pictures: what upsampling leaves behind, seen without a detector.

Wang et al. 2020 (figure 7), Frank et al. 2020 and their successors show such pictures; they differ in what is averaged,
so all three definitions of `stages.spectra.spectrum_means` are written. Rows stream through in blocks: memory does not
grow with their number. What is finished is kept in scratch, so a killed run goes on from there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from pipeline.atomic import write_bytes, write_json
from pipeline.errors import StageError
from pipeline.stage import SPLITS, FitContext, Input, Kind, Rows, Schema, Stage, StageConfig, setting
from stages.images.image_field import SMALLEST, image_size
from stages.spectra.spectrum_means import EPSILON, Picture, SpectrumSums, definitions
from stages.training.passes import Passes, State, Step, packed
from stages.training.row_order import in_order

FORMAT = 1
CARD = "card.json"
READ_BYTES = 8 * 2**20
"""Images that are read at once."""

DARKEST, BRIGHTEST = 1.0, 99.9
"""Percentiles that become black and white."""


class MeanSpectraConfig(StageConfig):
    """Which pictures."""

    pictures: tuple[Picture, ...] = setting(
        ("high_pass",),
        description="any of high_pass (spectrum of gray less its 5 x 5 median), fft2d (of gray), dct2d (DCT of gray)",
        min_length=1,
        strict=False,  # a list in YAML
    )

    @field_validator("pictures")
    @classmethod
    def _in_one_order(cls, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        if len(set(pictures)) < len(pictures):
            raise ValueError(f"pictures {', '.join(pictures)} name one twice; name each once")
        return tuple(name for name in EPSILON if name in pictures)


class MeanSpectra(Stage):
    """Artifact: NNN.npz per source (float32 arrays "picture/definition"), card.json, and a PNG of each array."""

    name: ClassVar[str] = "mean_spectra"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "mean spectra"
    Config: ClassVar[type[StageConfig]] = MeanSpectraConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows with an `image` of one size; as many of each source")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "pillow")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "source")
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def schema(self, config: MeanSpectraConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the inputs have no images of one size."""
        image_size(inputs["of"], self.name, SMALLEST)
        return {}

    def fit(self, config: MeanSpectraConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the arrays, their pictures and `card.json`."""
        view: Any = views["of"]
        found = _series(in_order(view))
        if not found:
            raise StageError("the view 'of' holds no rows, expected at least one image; widen its `where` or `take`")
        height, width = image_size(view.fields, self.name, SMALLEST)
        passes = Passes(ctx, sum(len(one.rows) for one in found))
        size, step = max(1, READ_BYTES // view.fields["image"].row_bytes), _adding(config.pictures, height, width)
        for number, one in enumerate(found):
            state = passes.run(f"{number:03d}", one.rows, "image", size, step)
            means = {name: _sums(state, name, height, width).means(len(one.rows)) for name in config.pictures}
            flat = {f"{name}/{kind}": array for name, kinds in means.items() for kind, array in kinds.items()}
            write_bytes(ctx.out / _file(number), packed(flat))
        card = {
            "format": FORMAT,
            "kind": "mean spectra",
            "height": height,
            "width": width,
            "pictures": {name: {"epsilon": EPSILON[name], "means": definitions(name)} for name in config.pictures},
            "series": [one.described(_file(number)) for number, one in enumerate(found)],
            "levels": _draw(config, ctx.out, found),
            "warnings": _warnings(found),
        }
        write_json(ctx.out / CARD, card)
        ctx.facts.update({name: card[name] for name in ("pictures", "warnings")})
        ctx.facts["rows"] = {f"{number:03d} {one.source}": len(one.rows) for number, one in enumerate(found)}


@dataclass(frozen=True)
class Series:
    """Rows of one source and one chain of steps."""

    label: int
    source: str
    chain: bytes
    steps: tuple[Mapping[str, Any], ...]
    rows: Rows

    def described(self, file: str) -> dict[str, Any]:
        """Plain data for the card."""
        kind = "fake" if self.label else "real"
        return {"file": file, "label": kind, "source": self.source, "rows": len(self.rows),
                "chain": self.chain.hex(), "steps": [dict(step) for step in self.steps]}  # fmt: skip


def _series(rows: Rows) -> list[Series]:
    """Reals first, then by source and number of steps; perturbed images never join those they came from."""
    labels, sources, numbers = rows.column("label"), rows.column("source"), rows.part_numbers
    parts = rows.parts
    keys = {(int(label), str(source), int(part)) for label, source, part in zip(labels, sources, numbers, strict=True)}
    found = []
    for label, source, part in sorted(
        keys, key=lambda key: (*key[:2], len(parts[key[2]].steps), bytes(parts[key[2]].chain))
    ):
        mine = rows.where((labels == label) & (sources == source) & (numbers == part))
        found.append(Series(label, source, bytes(parts[part].chain), parts[part].steps, mine))
    return found


def _file(number: int) -> str:
    return f"{number:03d}.npz"


def _warnings(found: list[Series]) -> list[str]:
    counts = sorted({len(one.rows) for one in found})
    if len(counts) == 1:
        return []
    return [
        f"Sources have {counts[0]} to {counts[-1]} rows: mean_complex and mean_signed fall with the square root of the "
        "number, so compare sources with equal numbers only."
    ]


def _adding(pictures: tuple[Picture, ...], height: int, width: int) -> Step:
    """Adds images to the sums of each picture."""

    def step(state: State, images: NDArray[np.uint8], before: int) -> None:
        del before
        for name in pictures:
            sums = _sums(state, name, height, width)
            sums.add(images)
            state |= {f"{name}/{key}": array for key, array in sums.state().items()}

    return step


def _sums(state: State, name: Picture, height: int, width: int) -> SpectrumSums:
    sums = SpectrumSums(name, height, width)
    kept = {key: state[f"{name}/{key}"] for key in sums.state() if f"{name}/{key}" in state}
    if kept:
        sums.load(kept)
    return sums


def _draw(config: MeanSpectraConfig, out: Path, found: list[Series]) -> dict[str, list[float]]:
    """Write a gray PNG per array, in one range of levels for all series of a definition; returns these ranges."""
    ranges = {}
    for key in (f"{picture}/{name}" for picture in config.pictures for name in definitions(picture)):
        limits = [np.percentile(values, [DARKEST, BRIGHTEST]) for values in _arrays(out, key, len(found))]
        low, high = float(min(pair[0] for pair in limits)), float(max(pair[1] for pair in limits))
        for number, values in enumerate(_arrays(out, key, len(found))):
            source = re.sub(r"[^A-Za-z0-9._-]+", "-", found[number].source).strip("-.")
            write_bytes(out / f"{number:03d}-{source}-{key.replace('/', '-')}.png", picture(values, low, high))
        ranges[key] = [low, high]
    return ranges


def _arrays(out: Path, key: str, count: int) -> Iterator[NDArray[np.float32]]:
    for number in range(count):
        with np.load(out / _file(number), allow_pickle=False) as file:
            yield file[key]


def picture(values: NDArray[np.float32], low: float, high: float) -> bytes:
    """PNG of (H, W), one pixel per frequency: `low` and less is black, `high` and more is white."""
    from PIL import Image

    shares = (values.astype(np.float64) - low) / max(high - low, 1e-12)
    levels = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG", optimize=False, compress_level=9)
    return buffer.getvalue()
