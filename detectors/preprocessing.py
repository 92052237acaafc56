"""What becomes of a row as stored before a network sees it: the network's first layer, on the device.

It repeats `detectors.normalization` in torch, so that batches that lie in GPU memory stay there; what is learned about
it (statistics of coefficients) is saved with the weights. Resizing weighs pixels as Pillow does and, of uint8 rows,
rounds to whole numbers after each pass, so that a published preprocessing of files can be repeated on stored rows. The
files themselves are `published_preprocessing`'s, which calls Pillow or OpenCV for each: there the last bit counts.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors import parts
from detectors.contract import Control, Examples
from detectors.framing import middle, resized_sides
from detectors.normalization import Band, Moments, inverse_deviation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

KINDS = ("image", "residual", "spectrum")
"""What rows of pixels or maps may be."""

FREQUENCY = " frequency"
"""End of the name of an axis along which frequencies stand, not places."""

BLOCK_VALUES = 1 << 20
"""Coefficients of one block of rows whose statistics are taken at once."""

SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""Half widths of filters, in pixels."""


class Resize(parts.Settings):
    """All rows to one size."""

    size: int = Field(ge=1, description="pixels")
    sides: Literal["shorter", "both"] = Field(
        default="shorter", description="shorter: the other in proportion, rounded down; both: squeezed to a square"
    )
    filter: Literal["bilinear", "bicubic", "lanczos"] = Field(default="lanczos", description="as Pillow's, antialiased")


class CenterCrop(parts.Settings):
    """The middle of a row."""

    size: int = Field(ge=1, description="width and height, pixels")
    padding: Literal["refuse", "zeros"] = Field(
        default="refuse", description="of rows that are smaller: an error, or zeros around them"
    )


class Preprocessing(parts.Settings):
    """Resize, crop, transform, scale, normalize: in this order."""

    resize: Resize | None = Field(default=None, description="null: rows as stored")
    crop: CenterCrop | None = Field(default=None, description="null: whole rows")
    scaling: Literal["none", "unit", "symmetric", "percentile", "standardize"] = Field(
        default="none",
        description="none: as stored; unit: x / 255; symmetric: x / 127.5 - 1; percentile: 5th to 95th percentile of "
        "each row and channel to [-1, 1], clipped; standardize: per coefficient, with training statistics",
    )
    spectrum: Literal["log_fourier"] | None = Field(
        default=None,
        description="of images, in place of their pixels before scaling: log_fourier, ln(|FFT2(x / 255)| + 1e-3) of "
        "each channel, zero frequency first (AutoGAN); null: none",
    )
    band: Band | None = Field(
        default=None,
        description="with percentile: frequencies of an FFT-2d map that stay, the others become 0; null: all",
    )
    mean: tuple[float, ...] | None = Field(
        default=None, description="of each channel, subtracted after scaling; null: none"
    )
    deviation: tuple[float, ...] | None = Field(default=None, description="of each channel, divided by; null: none")

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Preprocessing:
        if self.band is not None and self.scaling != "percentile":
            raise ValueError(f"'band' has no effect with scaling '{self.scaling}'; remove it")
        if self.scaling == "standardize" and (self.resize or self.crop):
            raise ValueError("'standardize' needs rows as stored; remove 'resize' and 'crop', or scale otherwise")
        if self.spectrum is not None and self.scaling not in ("none", "percentile"):
            raise ValueError(f"'spectrum' cannot go with scaling '{self.scaling}'; scale by percentile")
        if (self.mean is None) != (self.deviation is None) or len(self.mean or ()) != len(self.deviation or ()):
            raise ValueError("'mean' and 'deviation' need as many numbers each; give both or neither")
        if self.deviation is not None and min(self.deviation) <= 0:
            raise ValueError(f"'deviation' is {self.deviation}; expected numbers above 0")
        return self

    @property
    def one_size(self) -> bool:
        """Whether rows of all sizes come out alike."""
        return self.crop is not None or (self.resize is not None and self.resize.sides == "both")


def kind_of(axes: tuple[str, ...]) -> str:
    """Which of KINDS rows with these axes are."""
    if any(axis.endswith(FREQUENCY.strip()) for axis in axes):
        return "spectrum"
    return "image" if axes[-1:] == ("channel",) else "residual"


def layout(shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[str, tuple[int, int, int]]:
    """("first" or "last", (C, H, W)): where a row's channels are; a curve is a map of one row.

    Raises ValueError unless it is a curve, a map or a picture.
    """
    if len(shape) == 1:
        return "first", (1, 1, shape[0])
    places = tuple(axis.removesuffix(FREQUENCY) for axis in axes)
    if places == ("row", "column"):
        return "first", (1, shape[0], shape[1])
    if places == ("channel", "row", "column"):
        return "first", (shape[0], shape[1], shape[2])
    if places == ("row", "column", "channel"):
        return "last", (shape[2], shape[0], shape[1])
    named = f"the axes ({', '.join(axes)})" if axes else "axes that nobody named"
    raise ValueError(
        f"a CNN reads maps with the axes (row, column), (channel, row, column) or (row, column, channel), not rows of "
        f"shape {shape} with {named}; choose another "
        "feature, or name the axes in the `Field` of its stage"
    )


def sides_of(settings: Preprocessing, channels: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of what the network sees of rows of this size. Raises ValueError where rows do not fit."""
    if settings.mean is not None and len(settings.mean) not in (1, channels):
        raise ValueError(f"'mean' has {len(settings.mean)} numbers, but the rows have {channels} channels")
    if settings.resize is not None:
        height, width = resized_sides(height, width, settings.resize.size, settings.resize.sides)
    if settings.crop is not None:
        size = settings.crop.size
        if settings.crop.padding == "refuse" and min(height, width) < size:
            raise ValueError(
                f"rows of {height} x {width} are smaller than the crop of {size}; take a smaller crop, resize before "
                "it, or allow `padding: zeros`"
            )
        height = width = size
    return height, width


def statistics(train: Examples, control: Control) -> dict[str, NDArray[np.float32]]:
    """Mean and inverse population deviation (shape of a row): those given, or of all training rows of both classes.

    A coefficient that never varies gets scale 0, so it becomes 0 instead of NaN.
    """
    if control.moments is not None:
        mean, variance = control.moments
    else:
        moments = Moments()
        for block in train.blocks(max(1, BLOCK_VALUES // int(np.prod(train.shape)))):
            moments.update(block)
        mean, variance = moments.mean, moments.variance
    return {"mean": mean.astype(np.float32), "scale": inverse_deviation(variance)}


def apply(
    settings: Preprocessing, rows: Tensor, order: str, learned: tuple[Tensor, Tensor] | None, kept: Tensor | None
) -> Tensor:
    """Rows as stored (n, *shape) to (n, C, h, w) float32.

    order    where the channels are, as `layout` says
    learned  mean and scale of each coefficient, with scaling `standardize`
    kept     (h, w) bool: frequencies of the band
    """
    import torch

    from detectors.transfers import constant

    values = _floats(settings, rows, order) if learned is None else rows.float()
    if learned is not None:
        values = (values - learned[0]) * learned[1]
    if values.ndim == 2:
        values = values.unsqueeze(1)
    values = values.unsqueeze(1) if values.ndim == 3 else values if order == "first" else values.movedim(-1, 1)
    if settings.resize is not None:
        values = resized(values, settings.resize, whole=rows.dtype == torch.uint8)
    if settings.crop is not None:
        values = cropped(values, settings.crop.size)
    if settings.spectrum is not None:
        from detectors.networks.input_filters import log_fourier

        values = log_fourier(values)
    if settings.scaling == "unit":
        values = values / 255
    elif settings.scaling == "symmetric":
        values = values / 127.5 - 1
    elif settings.scaling == "percentile":
        values = percentile_scaled(values)
    values = values.float()
    if kept is not None:
        values = torch.where(kept, values, 0)
    if settings.mean is not None and settings.deviation is not None:
        mean, deviation = (
            constant(one, torch.float32, values.device)[:, None, None] for one in (settings.mean, settings.deviation)
        )
        values = (values - mean) / deviation
    return values


def _floats(settings: Preprocessing, rows: Tensor, order: str) -> Tensor:
    """float32; where nothing but values changes on the way to the network, in its memory order too, by one kernel."""
    import torch

    moved = settings.resize or settings.crop or settings.spectrum or settings.scaling == "percentile"
    if moved or rows.ndim != 4 or order != "first" or rows.is_contiguous(memory_format=torch.channels_last):
        return rows.float()
    return rows.to(torch.float32, memory_format=torch.channels_last)


def percentile_scaled(images: Tensor) -> Tensor:
    """(n, C, H, W) to [-1, 1] by the 5th and 95th percentile of each image and channel, clipped; a flat map is 0."""
    import torch

    flat = images.flatten(2)
    ranked = flat.sort(dim=2).values
    low, high = (_percentile(ranked, share) for share in (0.05, 0.95))
    spread = high - low
    scaled = 2 * ((flat - low) / torch.where(spread > 0, spread, 1) - 0.5)
    return torch.where(spread > 0, scaled.clamp(-1, 1), 0).reshape(images.shape)


def _percentile(ranked: Tensor, share: float) -> Tensor:
    """Linear interpolation between neighbors of sorted values, as numpy's default; keeps the last axis."""
    import torch

    place = share * (ranked.shape[-1] - 1)
    below = int(place)
    above = min(below + 1, ranked.shape[-1] - 1)
    return torch.lerp(ranked[..., below : below + 1], ranked[..., above : above + 1], place - below)


def cropped(images: Tensor, size: int) -> Tensor:
    """The middle (n, C, size, size) of (n, C, H, W), zeros where the image is smaller; halves as torchvision rounds."""
    from torch.nn.functional import pad

    (rows, top), (columns, left) = (middle(side, size) for side in images.shape[2:])
    if any(rows + columns):
        images = pad(images, (*columns, *rows))
    return images[:, :, top : top + size, left : left + size]


def resized(images: Tensor, resize: Resize, whole: bool) -> Tensor:
    """(n, C, H, W) to the sides that `resize` says: columns first, then rows; `whole`: rounded, 0 to 255."""
    height, width = images.shape[2:]
    sides = resized_sides(height, width, resize.size, resize.sides)
    for axis, side in ((3, sides[1]), (2, sides[0])):
        if images.shape[axis] != side:
            images = _along(images, axis, side, resize.filter)
            if whole:
                images = (images + 0.5).floor().clamp(0, 255)
    return images


def _along(images: Tensor, axis: int, side: int, name: str) -> Tensor:
    """Weighted sums along one axis, tap by tap: no sum depends on a row's place in the batch."""
    total: Tensor | None = None
    for index, factor in _taps_on(images.device, images.shape[axis], side, name):
        shape = [1] * images.ndim
        shape[axis] = side
        part = images.index_select(axis, index) * factor.reshape(shape)
        total = part if total is None else total + part
    assert total is not None
    return total


@cache
def _taps_on(device: torch.device, length: int, side: int, name: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """Places (side,) int64 and weights (side,) float32 of each tap, copied to a device once."""
    import torch

    places, weights = taps(length, side, name)
    with torch.inference_mode(False):
        return tuple(
            (torch.from_numpy(np.ascontiguousarray(place)).to(device), torch.from_numpy(weight).float().to(device))
            for place, weight in zip(places.T, weights.T, strict=True)
        )


def taps(length: int, side: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which places of `length` make each of `side` new ones, (side, taps) int64, and their weights, float64, sum 1.

    The filter is as wide as the pixels of the smaller image are apart; beyond the border nothing is counted.
    """
    step = length / side
    wide = max(step, 1.0)
    centers = (np.arange(side) + 0.5) * step
    first = np.maximum((centers - SUPPORTS[name] * wide + 0.5).astype(np.int64), 0)
    end = np.minimum((centers + SUPPORTS[name] * wide + 0.5).astype(np.int64), length)
    places = first[:, None] + np.arange(int((end - first).max()))
    weights = _filter(name, (places + 0.5 - centers[:, None]) / wide)
    weights[places >= end[:, None]] = 0.0
    return np.minimum(places, length - 1), weights / weights.sum(axis=1, keepdims=True)


def _filter(name: str, distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Value of a filter at distances in pixels: triangle, Keys' cubic with a = -1/2, or Lanczos with three lobes."""
    x = np.abs(distance)
    if name == "bilinear":
        return np.maximum(1 - x, 0)
    if name == "bicubic":
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0))
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)
