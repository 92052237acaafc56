"""Correlation with the fingerprint of a class (Marra et al. 2019, arXiv:1812.11842; baseline "PRNU" of He et al. 2021).

The fingerprint of a class is the maximum likelihood estimate from the noise of its training rows (Chen, Fridrich,
Goljan and Lukas 2008, as in GANDCTAnalysis, 988c4c3), or their plain mean. Photographs of many cameras have no pattern
in common; so by default the score is the correlation with the fakes' fingerprint alone, and `difference` is the
released rule, whose sign tells the class with the larger correlation. One fingerprint stands for all fakes of the
training view: a fingerprint per generator is a `train` node per generator.

Scale and threshold come from validation rows. Training rows cannot give them: their own noise is in the fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.noise_pattern import correlations, pattern

BLOCK_BYTES = 1 << 25
CLASSES = ("real", "fake")
"""By label."""

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(DetectorConfig):
    """Settings of a fingerprint's estimate and of the decision."""

    family: Literal["prnu"] = Field("prnu", description="the family; written out unless `preset` is")
    feature: str = Field("prnu", description="field of noise residuals, H x W")
    terms: str | None = Field(
        "prnu_terms",
        description="field of the terms of the fingerprint, 2 x 3 x H x W, read in training only; null: the "
        "fingerprint is the plain mean of the residuals (Marra et al. 2019)",
    )
    rule: Literal["fake", "difference"] = Field(
        "fake", description="fake: correlation with the fakes' fingerprint; difference: less that with the reals'"
    )

    @property
    def fit_fields(self) -> dict[str, str]:
        """Setting -> field."""
        return {"feature": self.feature} | ({"terms": self.terms} if self.terms is not None else {})

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """The axes are places, not frequencies."""
        if len(shape) == 2 and axes not in ((), ("row", "column")):
            raise ValueError(
                f"a fingerprint wants residuals of places (row, column), and '{self.feature}' has the axes "
                f"({', '.join(axes)}); choose prnu"
            )

    def check_fields(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Residuals, and terms of the same sides."""
        feature, terms = shapes["feature"], shapes.get("terms")
        if len(feature) != 2:
            found = " x ".join(str(side) for side in feature) or "a single number"
            raise ValueError(f"a fingerprint wants residuals H x W, and '{self.feature}' has {found}; choose prnu")
        if terms is not None and terms != (2, 3, *feature):
            found = " x ".join(str(side) for side in terms) or "a single number"
            raise ValueError(f"the terms of a fingerprint are 2 x 3 x H x W, and '{self.terms}' has {found}")


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"{'fingerprint' if config.rule == 'fake' else 'two fingerprints'} on {config.feature}"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    sides = feature or ("height", "width")
    return dict.fromkeys(CLASSES, sides)


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Fingerprints `real` and `fake`, (H, W) float32, from `train`; calibration from `val`."""
    source = train if config.terms is None else train.field(config.terms)
    config.check_fields({"feature": train.shape} | ({} if config.terms is None else {"terms": source.shape}))
    sums, counts = _sums(source, train.labels, control)
    if config.terms is None:
        estimates = [total / count for total, count in zip(sums, counts, strict=True)]
    else:
        # one in the denominator keeps pixels that are dark or saturated everywhere finite
        ratios = np.stack([products / (weights + 1) for products, weights in sums])
        estimates = list(pattern(ratios))
    tensors = {name: one.astype(np.float32) for name, one in zip(CLASSES, estimates, strict=True)}
    state = State(tensors)
    decisions = [decision(config, state, block) for block in val.blocks(_rows(val.shape))]
    slope, intercept = platt(np.concatenate(decisions), val.labels)
    control.report(len(train), len(train))
    return State(tensors, {"slope": slope, "intercept": intercept, "images": dict(zip(CLASSES, counts, strict=True))})


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """Correlation, or difference of correlations, (n,) float64 before calibration; higher = more fake."""
    names = ("fake",) if config.rule == "fake" else ("fake", "real")
    found = correlations(features, np.stack([state.tensors[name] for name in names]))
    return found[:, 0] if config.rule == "fake" else found[:, 0] - found[:, 1]


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for residuals (n, H, W) as stored."""
    del device  # a few sums per row: always the processor
    return calibrated(decision(config, state, features), state.plain)


def _sums(rows: Examples, labels: NDArray[np.uint8], control: Control) -> tuple[NDArray[np.float64], list[int]]:
    """Sum over the rows of either class, (2, *shape), one row after another; and how many there are."""
    sums, done = np.zeros((len(CLASSES), *rows.shape)), 0
    for block in rows.blocks(_rows(rows.shape)):
        for row in block:
            sums[labels[done]] += row
            done += 1
        control.report(done, len(rows))
    return sums, [int((labels == label).sum()) for label in range(len(CLASSES))]


def _rows(shape: tuple[int, ...]) -> int:
    """Rows to read at a time."""
    return max(1, BLOCK_BYTES // (4 * int(np.prod(shape))))
