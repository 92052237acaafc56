"""Load-time normalizations of stored spectra: from raw logarithms to what a published classifier saw.

The shards hold raw log spectra; what follows is the preprocessing of a detector and is saved with it. All functions are
pure, take rows along the first axis and never return NaN or infinity for finite input: where a published formula
divides by zero (a constant image, an empty spectrum), the row becomes zeros and its flag is set.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FLAT = 1e-4
"""A profile whose spread is below this part of its largest magnitude carries rounding only."""

LEAST_POINTS = 4
"""Of a profile that a cubic spline goes through."""

Band = Literal["low", "mid", "high"]
Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def resample(profiles: Floats, length: int) -> Floats:
    """Cubic spline through each profile (not-a-knot), read at `length` points; both end points are kept.

    (N, native) -> (N, length) of the same dtype. As `griddata(method="cubic")` in Durall et al. 2019, which uses 80
    points for CelebA and 300 for FaceForensics.
    """
    from scipy.interpolate import CubicSpline

    native = profiles.shape[-1]
    if native < LEAST_POINTS or length < 2:
        raise ValueError(
            f"cannot resample profiles of {native} points to {length}; "
            f"a cubic spline needs at least {LEAST_POINTS} points and gives at least 2"
        )
    spline = CubicSpline(np.linspace(0, length, native), profiles.astype(np.float64), axis=-1, bc_type="not-a-knot")
    return spline(np.linspace(0, length, length)).astype(profiles.dtype)  # type: ignore[no-any-return]


def divide_by_first(profiles: Floats) -> tuple[Floats, Flags]:
    """Each profile over its first element (Durall et al. 2019). (N, K) -> (N, K), and flags (N,) of a first element 0.

    Not invariant to the intensity scale: profiles of levels 0-255 and of 0-1 give different features.
    """
    first = profiles[:, :1]
    empty = first == 0
    return np.where(empty, 0, profiles / np.where(empty, 1, first)), empty[:, 0]


def min_max(profiles: Floats) -> tuple[Floats, Flags]:
    """Each profile scaled to 0-1 (Durall et al. 2020, Jung and Keuper 2021). (N, K) -> (N, K), flags (N,).

    A flat profile (of a constant image, or with a spread that is rounding only) becomes zeros and is flagged.
    """
    low, high = profiles.min(axis=1, keepdims=True), profiles.max(axis=1, keepdims=True)
    flat = high - low <= FLAT * np.maximum(np.abs(low), np.abs(high))
    return np.where(flat, 0, (profiles - low) / np.where(flat, 1, high - low)), flat[:, 0]


def percentile_scale(maps: Floats, low: float = 5, high: float = 95) -> tuple[NDArray[np.float32], Flags]:
    """Each plane scaled so that its percentiles `low` and `high` become -1 and 1, clipped (Zhang et al. 2019, AutoGAN).

    (N, C, H, W) raw logs -> (N, C, H, W) float32 in -1 to 1, and flags (N, C) of planes with equal percentiles (zeros).
    Logs of double precision are scaled in it.
    """
    values = maps.astype(np.result_type(maps, np.float32))
    flat_planes = values.reshape(*values.shape[:2], -1)
    bottom, top = np.percentile(flat_planes, [low, high], axis=-1).astype(values.dtype)[..., None, None]
    flat = top <= bottom
    values -= bottom
    values *= 2 / np.where(flat, 1, top - bottom)
    values -= 1
    np.clip(values, -1, 1, out=values)
    return np.where(flat, 0, values).astype(np.float32), flat[..., 0, 0]


def keep_band(maps: NDArray[np.float32], band: Band) -> NDArray[np.float32]:
    """Scaled, unshifted FFT maps with all frequencies but one band set to zero, that is mid-gray (AutoGAN modes 1-3).

    (..., H, W) -> (..., H, W).
    """
    return np.where(band_mask(maps.shape[-2], maps.shape[-1], band), maps, np.float32(0))


def band_mask(height: int, width: int, band: Band) -> Flags:
    """Which frequencies of an unshifted map belong to a band, (H, W).

    At 224 px and with DC in the middle, `low` is the square from 57 to 177 (not quite
    centered in the published code), `high` all outside the square from 21 to 203, `mid` the rest; other sizes in
    proportion.
    """
    masks = [_square(size, first, last) for size in (height, width) for first, last in ((57, 177), (21, 203))]
    inner = masks[0][:, None] & masks[2][None, :]
    outer = masks[1][:, None] & masks[3][None, :]
    kept = {"low": inner, "mid": outer & ~inner, "high": ~outer}[band]
    return np.fft.ifftshift(kept)  # type: ignore[no-any-return]


def _square(size: int, first: int, last: int) -> Flags:
    places = np.arange(size)
    return (places >= round(first * size / 224)) & (places < round(last * size / 224))


class Moments:
    """Mean and population variance per coefficient over a set, in one pass of batches (Welford; Chan's merge).

    Used for the standardization of DCT maps (Frank et al. 2020). The statistics are of the values given, so feed logs
    where logs are to be standardized, and rows of the training split only.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(())
        self.squares: NDArray[np.float64] = np.zeros(())  # sum of squared deviations from the mean

    def update(self, rows: Floats) -> None:
        """Take in a batch; rows along the first axis."""
        if not len(rows):
            return
        values = rows.astype(np.float64)
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self.squares = self.squares + squares + shift * shift * (self.count * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    @property
    def variance(self) -> NDArray[np.float64]:
        """Population variance, M2 / n. Raises ValueError before the first row."""
        if self.count == 0:
            raise ValueError("no rows to take statistics of; expected at least one training row")
        return self.squares / self.count


def standardize(rows: Floats, mean: Floats, variance: Floats) -> NDArray[np.float32]:
    """(x - mean) / sqrt(variance) per coefficient, in float32; a coefficient that never varies becomes zero."""
    return (rows.astype(np.float32) - mean.astype(np.float32)) * inverse_deviation(variance)


def inverse_deviation(variance: Floats) -> NDArray[np.float32]:
    """1 / sqrt(variance) per coefficient, and 0 for one that never varies."""
    constant = variance <= 0
    return np.where(constant, 0, 1 / np.sqrt(np.where(constant, 1, variance))).astype(np.float32)
