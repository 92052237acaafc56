"""One number per image against a threshold: the baseline that learns nothing, or only a direction, from training rows.

Made for the mean residual: fakes are harder to rebuild than the photographs that the re-synthesizer knows (He et al.
2021, Fig. 3 and 4); and for one element of a profile, which was enough for the CelebA set of Durall et al. 2019. Scale
and threshold come from validation rows, as those of all detectors; which class has the larger values is a setting, so
that a baseline that points the wrong way shows as one, unless the training rows are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.calibration import calibrated, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State
from detectors.profiles import NORMALIZATIONS, Normalization, check_profile, prepared

Index = Annotated[int, Field(ge=0)]

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""


class Config(DetectorConfig):
    """Which number, and where the fakes are."""

    family: Literal["threshold"] = Field("threshold", description="the family; written out unless `preset` is")
    feature: str = Field(
        "residual_pixel_mean", description="field of one number per row, or with `element` of profiles"
    )
    element: Index | Annotated[tuple[Index, ...], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="of a profile: which element, from 0; or [first, end]: the mean of the elements from the first "
        "up to, but not with, the end",
    )
    normalization: Normalization = Field("none", description=f"of a profile, {NORMALIZATIONS}")
    length: int | None = Field(None, ge=8, description="resample profiles to this length; null: native length")
    larger: Literal["fake", "real", "learned"] = Field(
        "fake",
        description="class that has the larger values; learned: the one whose training rows do, by the area under the "
        "ROC curve",
    )

    @property
    def resamples(self) -> bool:
        """With a `length`, profiles of images of any size."""
        return self.length is not None

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Config:
        for name, idle in (("normalization", "none"), ("length", None)):
            if self.element is None and getattr(self, name) != idle:
                raise ValueError(f"'{name}' has no effect without 'element'; remove it, or name an element")
        first, end = self.span or (0, 1)
        if not first < end <= (self.length or end):
            raise ValueError(
                f"'element' is {self.element}; expected one or [first, end] within the profile, first < end"
            )
        return self

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows are single numbers, or with `element` profiles that have it."""
        del axes
        if self.span is None:
            if shape:
                found = " x ".join(str(side) for side in shape)
                raise ValueError(
                    f"a threshold needs one number per row, but '{self.feature}' is {found}; choose another"
                )
            return
        check_profile(shape, self.length)
        elements = self.length or shape[0]
        if self.span[1] > elements:
            raise ValueError(
                f"'element' is {self.element}, but '{self.feature}' has {elements} elements, from 0; choose another"
            )

    @property
    def span(self) -> tuple[int, int] | None:
        """First element and end."""
        if isinstance(self.element, int):
            return self.element, self.element + 1
        return None if self.element is None else (self.element[0], self.element[1])


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    if config.span is None:
        return f"threshold on {config.feature}"
    first, end = config.span
    return f"threshold on {config.feature}[{first if end == first + 1 else f'{first}:{end}'}]"


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors; feature: shape of a row that it learned from, if its card says so."""
    return {}


def flaw(config: Config, state: State) -> str:
    """What of a state cannot be: a clause, or ""."""
    larger = state.plain.get("larger")
    learned = config.larger == "learned" and larger not in ("fake", "real")
    return f"its 'larger' is {str(larger)[:40]}, expected fake or real" if learned else ""


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """Calibration on `val`; the training rows are used for a learned direction alone, the seed never."""
    plain: dict[str, Any] = {}
    if config.larger == "learned":
        plain["larger"] = _larger(_numbers(config, train.array()), train.labels)
    slope, intercept = platt(decision(config, State({}, plain), val.array()), val.labels)
    control.report(1, 1)
    return State({}, {"slope": slope, "intercept": intercept, **plain})


def _larger(numbers: NDArray[np.float64], labels: NDArray[np.uint8]) -> Literal["fake", "real"]:
    """The class with the larger mean rank; of equal ones fake."""
    from scipy.stats import rankdata

    ranks = rankdata(numbers)
    return "fake" if ranks[labels == 1].mean() >= ranks[labels == 0].mean() else "real"


def decision(config: Config, state: State, features: NDArray[Any]) -> NDArray[np.float64]:
    """The number (n,) float64, negative where real images have the larger ones. Raises ValueError for other shapes."""
    larger = state.plain["larger"] if config.larger == "learned" else config.larger
    return (1.0 if larger == "fake" else -1.0) * _numbers(config, features)


def _numbers(config: Config, features: NDArray[Any]) -> NDArray[np.float64]:
    config.check(features.shape[1:], ())
    if config.span is not None:
        first, end = config.span
        return prepared(features, config.normalization, config.length)[:, first:end].mean(axis=1)
    return np.asarray(features, dtype=np.float64)


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for numbers (n,) or profiles (n, native) as stored."""
    del device
    return calibrated(decision(config, state, features), state.plain)
