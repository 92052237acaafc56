"""Mathematics of camera fingerprints: Wiener filters, grids and correlation of noise residuals.

The steps are those of the PRNU toolbox of the Binghamton group (Goljan, Fridrich and Filler 2009) as two public ports
take them: prnu-python (91e1585) and the baseline of GANDCTAnalysis (988c4c3). Arrays are float32 or float64 and keep
their dtype; every sum runs over one row's values in a fixed order, so a row's bytes do not depend on its neighbors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

GRAY = (0.29893602, 0.58704307, 0.11402090)
"""Weights of R, G and B in the toolbox."""

RADII = (1, 2, 3, 4)
"""Half widths of the square windows of the local energy: 3, 5, 7 and 9 px."""


def gray(planes: Floats) -> Floats:
    """Weighted sum of the channels. (N, 3, H, W) -> (N, H, W)."""
    red, green, blue = (planes.dtype.type(weight) for weight in GRAY)
    return planes[:, 0] * red + planes[:, 1] * green + planes[:, 2] * blue


def pattern(planes: Floats) -> Floats:
    """What may be a fingerprint in the noise: gray, without grids, filtered. (N, 3, H, W) -> (N, H, W)."""
    return dft_wiener(without_grids(gray(planes)))


def without_grids(planes: Floats) -> Floats:
    """Each of the four grids of every second pixel with means of rows and columns 0. (N, H, W) -> (N, H, W).

    It removes what all sensors (and all generators of one make) share: rows, columns and the pattern of demosaicing.
    """
    result = np.empty_like(planes)
    for top in (0, 1):
        for left in (0, 1):
            grid = np.ascontiguousarray(planes[:, top::2, left::2])
            rows = _mean(grid, 2)
            grid -= _mean(rows, 1)
            result[:, top::2, left::2] = grid - _mean(grid, 2) - _mean(grid, 1)
    return result


def dft_wiener(planes: Floats) -> Floats:
    """Suppress periodic patterns: keep of each DFT coefficient what is not above the noise. (N, H, W) -> (N, H, W).

    The variance of the noise is the sample variance of the row itself. A row without any noise stays zero.
    """
    import scipy.fft

    count, height, width = planes.shape
    flat = np.ascontiguousarray(planes).reshape(count, -1)
    variance = flat.var(axis=1, ddof=1, dtype=np.float64).astype(planes.dtype)
    spectrum = scipy.fft.fft2(planes, axes=(-2, -1), workers=1)
    magnitude = np.abs(spectrum)
    magnitude *= planes.dtype.type(1 / np.sqrt(height * width))
    spectrum *= wiener_gain(magnitude, variance[:, None, None])
    return np.ascontiguousarray(scipy.fft.ifft2(spectrum, axes=(-2, -1), workers=1, overwrite_x=True).real)


def wiener_gain(values: Floats, variance: Floats | float) -> Floats:
    """Share of noise of a given variance in each value, 0 to 1: variance / (signal + variance). (..., H, W), same out.

    The signal is the least local energy above the variance in windows of 3 to 9 px (Mihcak, Kozintsev and Ramchandran
    1999); pixels outside count as 0. Where there is neither signal nor noise the share is 0.
    """
    noise = np.asarray(variance, dtype=values.dtype)
    gain = _least_energy(values)
    gain -= noise
    np.maximum(gain, 0, out=gain)
    gain += noise
    np.divide(noise, gain, out=gain, where=gain > 0)
    return gain


def correlations(residuals: Floats, fingerprints: Floats) -> NDArray[np.float64]:
    """Normalized correlation of aligned patterns. (N, H, W) and (K, H, W) -> (N, K), -1 to 1; 0 for an empty pattern.

    Raises ValueError unless all are of one size.
    """
    if residuals.shape[1:] != fingerprints.shape[1:]:
        raise ValueError(
            f"residuals of {_size(residuals)} cannot be compared with fingerprints of {_size(fingerprints)} px; a "
            "fingerprint fits images of its own size and crop only: give both the same equalize node"
        )
    patterns = [np.ascontiguousarray(one, dtype=np.float64).ravel() for one in fingerprints]
    norms = [float(np.sqrt(np.square(one).sum())) for one in patterns]
    result = np.zeros((len(residuals), len(patterns)))
    for row, residual in enumerate(residuals):  # one at a time: float64 copies of large images stay small
        values = np.ascontiguousarray(residual, dtype=np.float64).ravel()
        norm = float(np.sqrt(np.square(values).sum()))
        for column, one in enumerate(patterns):
            scale = norm * norms[column]
            result[row, column] = (values * one).sum() / scale if scale > 0 else 0.0
    return result


def _least_energy(values: Floats) -> Floats:
    """Mean square over the window in which it is least. Windows grow by a ring at a time, so none is summed twice."""
    height, width = values.shape[-2:]
    edge = RADII[-1]
    energy = np.zeros((*values.shape[:-2], height + 2 * edge, width + 2 * edge), values.dtype)
    np.square(values, out=energy[..., edge : edge + height, edge : edge + width])
    wide = energy[..., edge : edge + width].copy()  # sums over 2 * radius + 1 columns
    least = np.full(values.shape, np.inf, values.dtype)
    for radius in RADII:
        wide += energy[..., edge - radius : edge - radius + width]
        wide += energy[..., edge + radius : edge + radius + width]
        square = wide[..., edge : edge + height, :].copy()
        for step in range(1, radius + 1):
            square += wide[..., edge - step : edge - step + height, :]
            square += wide[..., edge + step : edge + step + height, :]
        square *= values.dtype.type(1 / (2 * radius + 1) ** 2)
        np.minimum(least, square, out=least)
    return least


def _mean(planes: Floats, axis: int) -> Floats:
    return planes.mean(axis=axis, keepdims=True, dtype=np.float64).astype(planes.dtype)


def _size(planes: Floats) -> str:
    return " x ".join(str(side) for side in planes.shape[1:])
