"""Mean spectra of each source of images as arrays and pictures: what upsampling leaves behind, seen without a detector.

Wang et al. 2020 (figure 7), Frank et al. 2020 and their successors show such pictures; they differ in what is averaged,
so all three definitions of `stages.spectra.spectrum_means` are written. Rows stream through in blocks: memory does not
grow with their number. What is finished is kept in scratch, so a killed run goes on from there.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from pipeline.atomic import write_bytes
from pipeline.errors import Interrupted, StageError
from pipeline.stage import SPLITS, FitContext, Input, Kind, Schema, Stage, StageConfig, setting
from stages.images.image_field import SMALLEST, image_size
from stages.spectra.spectrum_means import EPSILON, Picture, SpectrumSums, definitions
from stages.training.row_order import in_order

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

FORMAT = 1
CARD = "card.json"
PROGRESS = "progress.npz"
READ_BYTES, SAVE_ROWS = 8 * 2**20, 4096
"""Images that are read at once; rows between two savings of the sums."""

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

    def fit(
        self, config: MeanSpectraConfig, views: Mapping[str, Dataset | Mapping[str, Dataset]], ctx: FitContext
    ) -> None:
        """Write the arrays, their pictures and `card.json`."""
        view: Any = views["of"]
        found = _series(in_order(view))
        if not found:
            raise StageError("the view 'of' holds no rows, expected at least one image; widen its `where` or `take`")
        height, width = image_size(view.fields, self.name, SMALLEST)
        passes = _Passes(config, ctx, sum(len(one.rows) for one in found))
        for number, one in enumerate(found):
            write_bytes(ctx.out / _file(number), passes.run(number, one.rows))
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
        text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write_bytes(ctx.out / CARD, text.encode(errors="backslashreplace"))
        ctx.facts.update({name: card[name] for name in ("pictures", "warnings")})
        ctx.facts["rows"] = {f"{number:03d} {one.source}": len(one.rows) for number, one in enumerate(found)}


@dataclass(frozen=True)
class Series:
    """Rows of one source and one chain of steps."""

    label: int
    source: str
    chain: bytes
    steps: tuple[Mapping[str, Any], ...]
    rows: Dataset

    def described(self, file: str) -> dict[str, Any]:
        """Plain data for the card."""
        kind = "fake" if self.label else "real"
        return {"file": file, "label": kind, "source": self.source, "rows": len(self.rows),
                "chain": self.chain.hex(), "steps": [dict(step) for step in self.steps]}  # fmt: skip


def _series(rows: Dataset) -> list[Series]:
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


class _Passes:
    """One pass over each series; the sums of the one at hand and the results of those before survive a kill."""

    def __init__(self, config: MeanSpectraConfig, ctx: FitContext, total: int) -> None:
        self.config, self.ctx, self.total = config, ctx, total
        self.done = 0
        self.progress = ctx.scratch / PROGRESS

    def run(self, number: int, rows: Dataset) -> bytes:
        """The file of a series. Raises Interrupted after saving."""
        path = self.ctx.scratch / _file(number)
        if not path.is_file():
            sums = self._summed(number, rows)
            means = {picture: one.means(len(rows)) for picture, one in sums.items()}
            write_bytes(path, _packed(means))
        self.done += len(rows)
        self.ctx.report(self.done, self.total)
        return path.read_bytes()

    def _summed(self, number: int, rows: Dataset) -> dict[Picture, SpectrumSums]:
        height, width = image_size(rows.fields, MeanSpectra.name, SMALLEST)
        sums = {picture: SpectrumSums(picture, height, width) for picture in self.config.pictures}
        step = max(1, READ_BYTES // rows.fields["image"].row_bytes)
        for first in range(self._restored(number, sums), len(rows), step):
            last = min(first + step, len(rows))
            images = rows.array("image", np.arange(first, last))
            for one in sums.values():
                one.add(images)
            stopping = self.ctx.stopping()
            if stopping or last // SAVE_ROWS > first // SAVE_ROWS:
                about = {"series": np.array(number), "rows": np.array(last)}
                write_bytes(self.progress, _packed({"": about} | {name: one.state() for name, one in sums.items()}))
            if stopping:
                raise Interrupted("averaging stopped; the rows so far are kept and the same command goes on")
            self.ctx.report(self.done + last, self.total)
        return sums

    def _restored(self, number: int, sums: Mapping[Picture, SpectrumSums]) -> int:
        """Rows of this series that the kept sums hold; the sums are loaded."""
        if not self.progress.is_file():
            return 0
        with np.load(self.progress, allow_pickle=False) as file:
            if int(file["/series"]) != number:
                return 0
            for picture, one in sums.items():
                one.load({name: file[f"{picture}/{name}"] for name in one.state()})
            return int(file["/rows"])


def _packed(named: Mapping[Any, Mapping[str, NDArray[Any]]]) -> bytes:
    """Arrays "outer/inner" as one .npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    flat = {f"{outer}/{inner}": array for outer, arrays in named.items() for inner, array in arrays.items()}
    np.savez(buffer, allow_pickle=False, **flat)  # type: ignore[arg-type]
    return buffer.getvalue()


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
