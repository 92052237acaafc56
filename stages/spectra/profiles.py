"""1D spectra of image batches: azimuthal profiles in three published conventions, row and column projections.

Baseline "1D spectrum" of He et al. 2021, after Durall et al. 2019 and 2020 and Jung and Keuper 2021. The conventions
differ in gray conversion, scale, amplitude, center and bins, and never mix:

durall19  8-bit luma, 20 ln |F + 1e-8|, rings around the middle of the shifted array, which is half a pixel off the DC
          cell for even sizes; the innermost ring (DC) and the outermost are left out (DeepFakeDetection, aaff429)
durall20  the same rings and amplitude on float luma of x / 127.5 - 1 (UpConv, 999b856)
jung21    float luma of x / 255, 20 ln(|F|^2 + 1e-8), rings around DC, all of them, over the half plane of a real FFT,
          where most coefficients stand for two and count once (SpectralGAN, 497cc04)

All are means of the logarithm over whole-pixel rings, corners included, at native length and not normalized: resampling
and scaling happen when a detector loads them.

The FFT runs on the weighted sum of R, G and B, a whole number, less its rounded mean: so a weak coefficient is not
drowned by the mean, and float32 stays within 2e-3 of float64. Scale, offset and epsilon of the convention are put back
afterwards, which is the same because an FFT is linear. The rings of an image size are one sparse matrix on the half
plane of a real FFT, made by folding the full plane onto it (for even sizes the Durall rings fold once more, onto a
quarter): no mask per ring is held and no image is sorted.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stages.images.planes import blocks, opencv_gray, remove_level, weighted_sum

Convention = Literal["durall19", "durall20", "jung21"]

EPSILON = 1e-8


class Luma(NamedTuple):
    """Gray value = scale * (weighted sum of R, G, B - zero)."""

    weights: tuple[int, int, int] | None  # None: OpenCV's rounded 8-bit gray
    scale: float
    zero: float


LUMA: dict[str, Luma] = {
    "durall19": Luma(None, 1.0, 0.0),
    "durall20": Luma((2989, 5870, 1140), 1 / (10000 * 127.5), 9999 * 127.5),
    "jung21": Luma((299, 587, 114), 1 / (1000 * 255), 0.0),
}


def profile_length(height: int, width: int, convention: Convention) -> int:
    """Number of rings of an image size: 88 for the Durall conventions and 91 for jung21 at 128 px, for example."""
    if convention == "jung21":
        return int(math.sqrt((height // 2) ** 2 + (width // 2) ** 2)) + 1
    return int(math.sqrt((height - 1) ** 2 + (width - 1) ** 2) / 2) - 1


def line_spectra(
    images: NDArray[np.uint8], convention: Convention | None, projected: bool, dtype: DTypeLike = np.float32
) -> dict[str, NDArray[np.floating[Any]]]:
    """Azimuthal profiles and projections, not normalized. (N, H, W, 3) uint8 RGB -> arrays of `dtype` by name.

    profile                      (N, profile_length), unless convention is None
    row_profile, column_profile  (N, H) and (N, W) if projected: 20 ln |F| of the durall19 spectrum, as the mean over
                                 horizontal frequencies (DC at H // 2) and over vertical ones (DC at W // 2)

    The projections are a project definition; with durall19 they share its FFT.
    """
    rows, height, width, _ = images.shape
    lengths = {} if convention is None else {"profile": profile_length(height, width, convention)}
    lengths |= {"row_profile": height, "column_profile": width} if projected else {}
    found = {name: np.empty((rows, length), dtype) for name, length in lengths.items()}
    for part in blocks(rows, height * width * np.dtype(dtype).itemsize):
        if convention is not None:
            logs = log_half_planes(images[part], convention, dtype)
            found["profile"][part] = ring_means(logs, width, convention)
        if projected:
            if convention != "durall19":
                logs = log_half_planes(images[part], "durall19", dtype)
            found["row_profile"][part], found["column_profile"][part] = axis_means(logs, width)
    return found


def profiles(
    images: NDArray[np.uint8], convention: Convention, dtype: DTypeLike = np.float32
) -> NDArray[np.floating[Any]]:
    """Azimuthal log profiles. (N, H, W, 3) uint8 RGB -> (N, profile_length) of `dtype`, 20 ln |F|, not normalized."""
    return line_spectra(images, convention, projected=False, dtype=dtype)["profile"]


def log_half_planes(
    images: NDArray[np.uint8], convention: Convention, dtype: DTypeLike = np.float32
) -> NDArray[np.floating[Any]]:
    """ln of the amplitude (jung21: of the power) with the convention's epsilon. -> (N, H, W // 2 + 1), not shifted.

    In the Durall conventions epsilon is added to the complex coefficient, that is to its real part, which it shares
    with its conjugate; so the half plane still stands for the whole.
    """
    import scipy.fft

    luma = LUMA[convention]
    planes = opencv_gray(images, dtype) if luma.weights is None else weighted_sum(images, luma.weights, dtype)
    level = remove_level(planes)
    spectrum = scipy.fft.rfft2(planes, workers=1, overwrite_x=True)
    spectrum[:, 0, 0] += (level - luma.zero) * planes[0].size
    if convention == "jung21":
        logs = np.abs(spectrum)
        logs *= logs
        logs += EPSILON / luma.scale**2
    else:
        spectrum += EPSILON / luma.scale
        logs = np.abs(spectrum)
    np.log(logs, out=logs)
    logs += math.log(luma.scale) * (2 if convention == "jung21" else 1)
    return logs  # type: ignore[no-any-return]


def ring_means(logs: NDArray[Any], width: int, convention: Convention) -> NDArray[Any]:
    """20 times the mean of each ring. (N, H, W // 2 + 1) logs -> (N, profile_length) float64.

    Sums are in float64, over a row of the sparse matrix in fixed order, so the bytes of an image depend on it alone.
    """
    rows, height, _ = logs.shape
    rings = _rings(height, width, convention)
    cells = _quarter(logs) if rings.quartered else logs
    pixels = cells.reshape(rows, -1).T.astype(np.float64, order="C")
    return (rings.matrix @ pixels).T * (20 / rings.counts)  # type: ignore[no-any-return]


def _quarter(logs: NDArray[Any]) -> NDArray[Any]:
    """Sums of the four mirror images of each cell around (-1/2, -1/2), which lie in one Durall ring at even sizes.

    Cell (k, l) of the quarter adds up the frequencies (k, l), (-k-1, l), (k, -l-1) and (-k-1, -l-1); the last two are
    conjugates of (-k, l+1) and (k+1, l+1), which the half plane holds. (N, H, W / 2 + 1) -> (N, H / 2, W / 2).
    """
    middle = logs.shape[1] // 2
    cells = logs[:, :middle, :-1] + logs[:, : middle - 1 : -1, :-1]
    cells += logs[:, 1 : middle + 1, 1:]
    cells[:, 0] += logs[:, 0, 1:]
    cells[:, 1:] += logs[:, :middle:-1, 1:]
    return cells  # type: ignore[no-any-return]


def axis_means(logs: NDArray[Any], width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """20 times the mean over columns and over rows of the full shifted plane. -> (N, H) and (N, W) float64."""
    _, height, half = logs.shape
    paired = logs[:, :, 1 : half - 1 + width % 2].sum(axis=2, dtype=np.float64)  # columns that stand for two
    own = logs[:, :, 0] + (0 if width % 2 else logs[:, :, -1])
    opposite = -np.arange(height) % height  # row of the conjugate coefficients
    row_means = (own + paired + paired[:, opposite]) * (20 / width)
    column_means = logs.sum(axis=1, dtype=np.float64) * (20 / height)
    mirror = np.abs(np.arange(width) - width // 2)
    return np.roll(row_means, height // 2, axis=1), column_means[:, mirror]


class Rings(NamedTuple):
    """Which cells of the half plane (or of its folded quarter) of an image size make up which ring."""

    matrix: Any  # scipy CSR array (rings, cells): how often a cell lies in a ring
    counts: NDArray[np.float64]  # (rings,) pixels of each ring
    quartered: bool


@lru_cache(maxsize=16)
def _rings(height: int, width: int, convention: Convention) -> Rings:
    from scipy.sparse import csr_array

    half = width // 2 + 1
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    quartered = convention != "jung21" and height % 2 == 0 and width % 2 == 0
    if convention == "jung21":
        columns = columns[:, :half]
        ring = np.sqrt(np.minimum(rows, height - rows) ** 2 + columns**2).astype(np.int64)
        cell = rows * half + columns
    elif quartered:
        rows, columns = rows[: height // 2], columns[:, : width // 2]
        ring = _durall_ring(2 * rows + 1, 2 * columns + 1)
        cell = rows * (width // 2) + columns
    else:
        down = 2 * ((rows + height // 2) % height) - (height - 1)
        across = 2 * ((columns + width // 2) % width) - (width - 1)
        ring = _durall_ring(down, across)
        folded = columns >= half
        cell = np.where(folded, -rows % height, rows) * half + np.where(folded, width - columns, columns)
    length = profile_length(height, width, convention)
    kept = (ring >= 0) & (ring < length)
    shape = (length, int(cell.max()) + 1)
    matrix = csr_array((np.ones(int(kept.sum())), (ring[kept], cell[kept])), shape=shape)
    return Rings(matrix, np.asarray(matrix.sum(axis=1)) * (4 if quartered else 1), quartered)


def _durall_ring(down: NDArray[np.int64], across: NDArray[np.int64]) -> NDArray[np.int64]:
    """Output element of doubled distances from the middle (whole numbers, so the radius is rounded only once)."""
    return (np.sqrt(across**2 + down**2) / 2).astype(np.int64) - 1
