"""Learn a spectrum equalization (+E) from training rows: mean log spectra of reals and of fakes in, an artifact out.

`equalize_spectrum` applies it. The definition is in `stages/spectra/spectrum_gain.py`. Which fakes the mean is taken
over is a view: fakes of several generators in one view share one gain, and then only their common mean becomes that of
the reals. A second pass over the training fakes measures what the equalization does: the gap that is left, before and
after rounding to 8 bits, and how much it changes the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_bytes, write_json
from pipeline.errors import StageError
from pipeline.stage import FAKE, REAL, FitContext, Input, Kind, Rows, Schema, Stage, StageConfig, setting
from stages.images.image_field import SMALLEST, image_size
from stages.spectra import spectrum_gain
from stages.spectra.equalization_file import CARD, FILE, describe, pack
from stages.spectra.spectrum_gain import Array, Equalization
from stages.training.passes import Passes, State
from stages.training.row_order import in_order

FEW_ROWS = 100
"""Rows of a class below which its mean spectrum is noisy at the innermost rings."""

LARGE_GAIN = 10.0
"""Gains above are noise rather than a trace of a generator."""

READ_ROWS, READ_BYTES = 64, 32 << 20
"""Rows that are read at once, or fewer large ones."""

Measure = Callable[[State, NDArray[np.uint8], int], None]
"""Takes one more image into a state; the number is that of the images so far, this one included."""


class FitEqualizationConfig(StageConfig):
    """What is learned, and what becomes of it."""

    shape: Literal["radial", "2d"] = setting(
        "radial", description="radial: a gain per ring of frequencies; 2d: one per frequency, removes grid peaks too"
    )
    channels: Literal["separate", "gray"] = setting(
        "separate", description="separate: gains for R, G and B; gray: those of the luma for all three"
    )
    gain_per: Literal["set", "image"] = setting(
        "set", description="set: from the mean spectrum of the fakes; image: from each image's own (stronger)"
    )
    pool_below: int = setting(
        1, ge=1, le=64, description="rings of smaller radius share one gain: 4 for fewer than 100 images; 1: none do"
    )
    largest_gain: float | None = setting(
        None, ge=1, le=1e6, description="gains stay between 1 / largest_gain and largest_gain; none: no limit"
    )


class FitEqualization(Stage):
    """Artifact: equalization.safetensors (mean spectra and settings) and card.json (counts, gaps, PSNR)."""

    name: ClassVar[str] = "fit_equalization"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "equalization"
    Config: ClassVar[type[StageConfig]] = FitEqualizationConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input("rows", description="rows of both classes with images of one size; only train rows are read")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "safetensors")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    splits: ClassVar[tuple[str, ...]] = ("train",)

    def schema(self, config: FitEqualizationConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the inputs have no images of one size."""
        image_size(inputs["on"], self.name, SMALLEST)
        return {}

    def promise(self, config: FitEqualizationConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Everything but the arrays."""
        empty = np.zeros((0, 0))
        return describe(_equalization(config, *image_size(inputs["on"], self.name, SMALLEST), empty, empty))

    def fit(
        self, config: FitEqualizationConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext
    ) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        view: Any = views["on"]
        rows = in_order(view.split("train"))
        reals, fakes = (rows.where(rows.column("label") == label) for label in (REAL, FAKE))
        counts = {"real": _counts(reals), "fake": _counts(fakes)}
        _check_classes(counts)
        height, width = image_size(rows.fields, self.name, SMALLEST)
        passes = Passes(ctx, len(reals) + 2 * len(fakes))
        target = _pass(passes, "target", reals, _spectrum_mean(config))["mean"]
        of_fakes = _pass(passes, "source", fakes, _spectrum_mean(config))
        source = of_fakes["mean"]
        equalization = _equalization(config, height, width, target, source)
        effect = _pass(passes, "effect", fakes, _effect_of(equalization))
        profiles = {"target": target, "source": source}
        if config.shape == "2d":
            profiles = {name: spectrum_gain.ring_means(logs, height, width) for name, logs in profiles.items()}
        profiles |= {name: effect[name] for name in ("unrounded", "rounded")}
        kept = {f"profile_{name}": array for name, array in profiles.items()}
        write_bytes(ctx.out / FILE, pack(equalization, **kept))
        gain = equalization.gain[:, spectrum_gain.rings(height, width).ring > 0]
        gains = {"least": float(gain.min()), "largest": float(gain.max())}
        facts = {
            **describe(equalization),
            "counts": counts,
            "gap_nepers": {
                "before": _gap(profiles, "source"),
                "before_rounding": _gap(profiles, "unrounded"),
                "after_rounding": _gap(profiles, "rounded"),
                "largest_after_rounding": float(np.abs(profiles["rounded"] - profiles["target"])[:, 1:].max()),
            },
            "empty_amplitudes": int(of_fakes["empty"]),
            "psnr_db": {"mean": float(effect["psnr"]), "least": float(effect["least_psnr"])},
            "gains": gains,
            "warnings": _warnings(counts, config, gains["largest"]),
        }
        write_json(ctx.out / CARD, facts)
        ctx.facts.update(facts)


def _equalization(config: FitEqualizationConfig, height: int, width: int, target: Array, source: Array) -> Equalization:
    return Equalization(
        height, width, config.shape, config.channels, config.gain_per, config.pool_below, config.largest_gain,
        target, source,
    )  # fmt: skip


def _counts(rows: Rows) -> dict[str, int]:
    """Rows per source."""
    names, numbers = np.unique(rows.column("source"), return_counts=True)
    return {str(name): int(number) for name, number in zip(names, numbers, strict=True)}


def _check_classes(counts: Mapping[str, Mapping[str, int]]) -> None:
    for name, sources in counts.items():
        if not sources:
            raise StageError(
                f"the training rows of 'on' hold no {name} images, expected both classes; add {name} rows to the view"
            )


def _warnings(counts: Mapping[str, Mapping[str, int]], config: FitEqualizationConfig, largest: float) -> list[str]:
    """What a reader of the numbers should know, one sentence each."""
    found = []
    for name, sources in counts.items():
        number = sum(sources.values())
        if number < FEW_ROWS:
            where = "at the innermost rings" if config.shape == "radial" else "at every frequency"
            helps = "pool_below: 4" if config.shape == "radial" else "largest_gain"
            idle = config.pool_below >= 4 if config.shape == "radial" else config.largest_gain is not None
            found.append(
                f"The mean spectrum of {number} {name} images is noisy {where}, {FEW_ROWS} or more are better"
                f"{'' if idle else f'; {helps} helps'}."
            )
    if len(counts["fake"]) > 1:
        found.append(
            f"Fakes of {len(counts['fake'])} sources share one gain: only their common mean becomes that of the reals."
        )
    if largest > LARGE_GAIN:
        found.append(
            f"Gains reach {largest:.0f}: an amplitude of zero in one of few images does that; largest_gain limits them."
        )
    return found


def _pass(passes: Passes, name: str, rows: Rows, measure: Measure) -> State:
    """The state after all images of the rows, one after the other. Raises Interrupted after saving."""

    def step(state: State, images: NDArray[np.uint8], before: int) -> None:
        for number, image in enumerate(images, start=before + 1):
            measure(state, image, number)

    size = max(1, min(READ_ROWS, READ_BYTES // rows.fields["image"].row_bytes))
    return passes.run(name, rows, "image", size, step)


def _average(state: State, name: str, value: Array, number: int) -> None:
    """Welford's running mean."""
    mean = state.setdefault(name, np.zeros_like(value))
    mean += (value - mean) / number


def _spectrum_mean(config: FitEqualizationConfig) -> Measure:
    """Mean over a class of ring means (C, R) or of log amplitudes (C, H, W // 2 + 1), and the number of empty cells."""

    def measure(state: State, image: NDArray[np.uint8], number: int) -> None:
        height, width = image.shape[:2]
        logs = spectrum_gain.log_amplitudes(spectrum_gain.spectra(image), config.channels)
        state["empty"] = state.get("empty", np.zeros((), np.int64)) + spectrum_gain.empty_cells(logs, width)
        mean = spectrum_gain.ring_means(logs, height, width) if config.shape == "radial" else logs
        _average(state, "mean", mean, number)

    return measure


def _effect_of(equalization: Equalization) -> Measure:
    """Mean profiles of equalized images before and after rounding, mean and least PSNR to the originals."""

    def measure(state: State, image: NDArray[np.uint8], number: int) -> None:
        exact = spectrum_gain.equalized(image, equalization)
        levels = spectrum_gain.rounded(exact)
        ratio = np.array(spectrum_gain.psnr(image, levels))
        _average(state, "unrounded", spectrum_gain.profile(exact, equalization.channels), number)
        _average(state, "rounded", spectrum_gain.profile(levels, equalization.channels), number)
        _average(state, "psnr", ratio, number)
        state["least_psnr"] = np.minimum(state.get("least_psnr", ratio), ratio)

    return measure


def _gap(profiles: Mapping[str, Array], name: str) -> float:
    """Mean absolute difference to the reals over channels and rings; the innermost, the mean color, does not count."""
    return float(np.abs(profiles[name] - profiles["target"])[:, 1:].mean())
