"""Traces of sampling: interpolation, the end of the spectrum, sharpness, noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BANDS = 17
LOWEST, NYQUIST = 0.02, 0.5
SMALL = 1e-3


@lru_cache(16)
def _rings(height: int, width: int) -> tuple[Floats, NDArray[np.int64], Floats, Floats, Floats]:
    """Window; of each place of the half spectrum its band, its frequency in cycles/px along the radius and along the
    larger axis, and its weight."""
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    down, across = np.abs(np.fft.fftfreq(height))[:, None], np.fft.rfftfreq(width)[None]
    frequency, axis = np.hypot(down, across), np.maximum(down, across)
    edges = np.geomspace(LOWEST, NYQUIST, BANDS + 1)
    band = np.digitize(frequency, edges)  # 0 and BANDS + 1: outside
    weight = np.full(frequency.shape, 2.0, np.float32)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    return window, band, frequency.astype(np.float32), axis.astype(np.float32), weight


def spectrum(luma: Floats) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Log energies of 17 logarithmic bands, (17,), and what the end of the spectrum says."""
    window, band, frequency, axis, weight = _rings(*luma.shape)
    power = np.abs(np.fft.rfft2((luma - luma.mean()) * window).astype(np.complex64)) ** 2 * weight
    count = np.bincount(band.ravel(), weight.ravel(), BANDS + 2)[1:-1]
    energy = np.bincount(band.ravel(), power.ravel(), BANDS + 2)[1:-1]
    bands = np.log(energy / np.maximum(count, 1) + SMALL)

    def level(low: float, high: float) -> float:
        chosen = (frequency >= low) & (frequency < high)
        return float(np.log(power[chosen].sum() / max(weight[chosen].sum(), 1) + SMALL))

    def usual(low: float, high: float) -> float:
        chosen = power[(axis >= low) & (axis < high)]
        return float(np.median(np.log(chosen + SMALL))) if chosen.size else 0.0

    total = power.sum() + SMALL
    return bands, {
        "native_scale.end": level(0.44, 0.47) - level(0.31, 0.34),
        "native_scale.bend": usual(0.30, 0.40) - usual(0.16, 0.24),
        "native_scale.corner": level(0.50, 0.70) - level(0.20, 0.30),
        "high_frequency_energy.share": float(np.log(power[frequency > 0.25].sum() / total + 1e-9)),
    }


def interpolation(luma: Floats) -> dict[str, float]:
    """Periods and correlations of second differences (Gallagher 2005; Mahdian and Saic 2008), along both axes."""
    peaks, first, second = [], [], []
    for one in (luma, luma.T):
        if one.shape[1] < 16:
            return {"resampling.peak": 0.0, "resampling.lag_1": 0.0, "resampling.lag_2": 0.0}
        difference = one[:, 2:] - 2 * one[:, 1:-1] + one[:, :-2]
        profile = np.log(np.abs(difference).mean(0) + 0.1)
        parts = np.abs(np.fft.rfft((profile - profile.mean()) * np.hanning(len(profile))))
        parts = parts[max(3, len(parts) // 8) :]
        peaks.append(float(np.log(parts.max() / (np.median(parts) + 1e-6) + 1e-6)))
        energy = float((difference * difference).mean()) + SMALL
        first.append(float((difference[:, 1:] * difference[:, :-1]).mean()) / energy)
        second.append(float((difference[:, 2:] * difference[:, :-2]).mean()) / energy)
    return {
        "resampling.peak": max(peaks),
        "resampling.lag_1": float(np.mean(first)),
        "resampling.lag_2": float(np.mean(second)),
    }


def sharpness(luma: Floats) -> dict[str, float]:
    """Mean absolute fourth differences over first ones, as a logarithm: independent of contrast and of large shapes."""
    fourth, first = (sum(float(np.abs(np.diff(luma, order, axis)).mean()) for axis in (0, 1)) for order in (4, 1))
    return {"high_frequency_energy.fourth": float(np.log((fourth + 0.05) / (first + 0.05)))}


def noise(luma: Floats, chroma: Floats) -> dict[str, float]:
    """Estimates of noise: MAD of the diagonal details (Donoho and Johnstone 1994), Immerkaer 1996, quiet blocks."""
    second = luma[:, 2:] - 2 * luma[:, 1:-1] + luma[:, :-2]
    both = second[2:] - 2 * second[1:-1] + second[:-2]
    rows, columns = luma.shape[0] // 4, luma.shape[1] // 4
    blocks = luma[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4)
    return {
        "noise_level.details": float(np.log(np.median(np.abs(_diagonal(luma))) + 0.05)),
        "noise_level.chroma": float(np.log(np.median(np.abs(_diagonal(chroma))) + 0.05)),
        "noise_level.immerkaer": float(np.log(np.abs(both).mean() + 0.05)),
        "noise_level.quiet": float(np.log(np.quantile(blocks.std((1, 3)), 0.1) + 0.05)),
    }


def _diagonal(plane: Floats) -> Floats:
    """Diagonal details of Haar's transform, not reduced."""
    return (plane[1:, 1:] - plane[1:, :-1] - plane[:-1, 1:] + plane[:-1, :-1]) / 2
