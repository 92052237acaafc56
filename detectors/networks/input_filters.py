"""What some published networks do to their input before the first convolution: functions of (N, C, H, W) floats.

They act on the normalized picture (the first two spectra: on its values 0..255) and have nothing to learn.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.transfers import constant

GRADIENTS = {
    "x_grad": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "y_grad": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "left_diag": ((0, 1, 2), (-1, 0, 1), (-2, -1, 0)),
    "right_diag": ((-2, -1, 0), (-1, 0, 1), (0, 1, 2)),
}
"""Sobel's kernels in four directions, as LaDeDa names them."""


def nearest_residual(x: Tensor) -> Tensor:
    """x less its half-size copy, enlarged again, both by the nearest pixel; sides must be even (Tan et al. 2024)."""
    check_even((x.shape[-2], x.shape[-1]))
    return x - F.interpolate(x[..., ::2, ::2], scale_factor=2, mode="nearest")


def check_even(sides: tuple[int, int]) -> None:
    """Raise ValueError where (height, width) of pictures for `nearest_residual` are odd."""
    if sides[0] % 2 or sides[1] % 2:
        raise ValueError(
            f"neighboring pixel relations need even sides, not {sides[0]} x {sides[1]}; drop the last row or column, "
            "or resize"
        )


def npr(x: Tensor) -> Tensor:
    """The input of NPR: `nearest_residual` times 2/3."""
    return nearest_residual(x) * 2 / 3


def median_around(x: Tensor) -> Tensor:
    """The fifth of the nine values around each, where 0 stands for its own; zeros outside.

    FerretNet subtracts it from x.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    around = [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return torch.stack([*around, torch.zeros_like(x)]).sort(dim=0).values[4]


def gradient(x: Tensor, direction: str) -> Tensor:
    """Each channel correlated with a kernel of GRADIENTS; zeros outside (LaDeDa)."""
    numbers = tuple(float(one) for row in GRADIENTS[direction] for one in row)
    kernel = constant(numbers, x.dtype, x.device).view(3, 3).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def log_fourier(pixels: Tensor) -> Tensor:
    """Values 0..255 to ln(|F| + 1e-3) of the values / 255, zero frequency first, in double precision (AutoGAN)."""
    scaled = (pixels.float() / 255).double()
    return torch.log(torch.fft.fft2(scaled).abs() + 1e-3)


def cosine_matrix(side: int, device: torch.device) -> Tensor:
    """The orthonormal DCT-II (side, side) as float64: row k has the k-th cosine."""
    places = torch.arange(side, dtype=torch.float64, device=device)
    matrix = torch.cos(math.pi / side * places[:, None] * (places + 0.5)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def cosine_transform(pixels: Tensor) -> Tensor:
    """Orthonormal DCT-II over the rows and the columns of each channel, float64 (Frank et al. 2020)."""
    height, width = pixels.shape[-2:]
    rows, columns = (cosine_matrix(side, pixels.device) for side in (height, width))
    return rows @ pixels.double() @ columns.T


def log_cosine(pixels: Tensor) -> Tensor:
    """ln(|DCT| + 1e-12) of values 0..255, float64 (Frank et al. 2020; FreDect of AIGCDetectBenchmark)."""
    return torch.log(cosine_transform(pixels).abs() + 1e-12)
