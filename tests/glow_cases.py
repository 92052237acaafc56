"""Small Glows: variables as the authors' program names and shapes them, with random values."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def variables(
    *,
    levels: int = 2,
    depth: int = 2,
    width: int = 4,
    affine: bool = False,
    top: bool = True,
    classes: int = 0,
    seed: int = 0,
) -> dict[str, Array]:
    """Name -> float32 values, in the order in which the program makes them; channels last, kernels (h, w, in, out)."""
    state, found, channels = np.random.RandomState(seed), {}, 3

    def normal(name: str, *sides: int, deviation: float = 0.1) -> None:
        found[f"model/{name}"] = state.normal(0, deviation, sides).astype(np.float32)

    def zero(name: str, inputs: int, outputs: int) -> None:
        normal(f"{name}/W", 3, 3, inputs + 1, outputs)
        normal(f"{name}/b", 1, 1, 1, outputs)
        normal(f"{name}/logs", 1, outputs)

    def norm(name: str, size: int) -> None:
        normal(f"{name}/actnorm_center/b", 1, 1, 1, size)
        normal(f"{name}/actnorm_scale/logs", 1, 1, 1, size)

    for level in range(levels):
        channels *= 4
        for step in range(depth):
            name, half = f"{level}/{step}", channels // 2
            norm(name, channels)
            matrix = np.linalg.qr(state.normal(size=(channels, channels)))[0] * state.uniform(0.7, 1.4, channels)
            found[f"model/{name}/invconv/W"] = matrix.astype(np.float32)
            normal(f"{name}/f1/l_1/W", 3, 3, half + 1, width)
            norm(f"{name}/f1/l_1", width)
            normal(f"{name}/f1/l_2/W", 1, 1, width, width, deviation=0.4)
            norm(f"{name}/f1/l_2", width)
            zero(f"{name}/f1/l_last", width, channels if affine else half)
        if level < levels - 1:
            channels //= 2
            zero(f"pool{level}/conv", channels, 2 * channels)
    if top:
        zero("prior/p", 2 * channels, 2 * channels)
    if classes:
        normal("prior/y_emb/W", classes, 2 * channels)
        normal("prior/y_emb/b", 1, 2 * channels)
        normal("prior/y_emb/logs", 1, 2 * channels)
    return found


def squeezed(x: Array) -> Array:
    """(H, W, C) to (H/2, W/2, 4C): channel c * 4 + row * 2 + column."""
    height, width, channels = x.shape
    found = np.zeros((height // 2, width // 2, 4 * channels))
    for row in range(height):
        for column in range(width):
            for channel in range(channels):
                found[row // 2, column // 2, channel * 4 + row % 2 * 2 + column % 2] = x[row, column, channel]
    return found


def convolved(x: Array, kernel: Array) -> Array:
    """3 x 3, with a last input channel that is one on a border around the image and zero inside."""
    height, width, channels = x.shape
    padded = np.zeros((height + 2, width + 2, channels + 1))
    padded[..., -1] = 1
    padded[1:-1, 1:-1] = np.concatenate([x, np.zeros((height, width, 1))], axis=2)
    found = np.zeros((height, width, kernel.shape[3]))
    for row in range(3):
        for column in range(3):
            found += padded[row : row + height, column : column + width] @ kernel[row, column]
    return found


def encoded(
    given: dict[str, Array], x: Array, *, levels: int, depth: int, affine: bool, label: int | None = None
) -> list[Array]:
    """Normal numbers (H, W, C) of each level of one image (H, W, 3) in -0.5..0.5, float64, an operation at a time."""
    v = {name.removeprefix("model/"): array.astype(np.float64) for name, array in given.items()}

    def normalized(y: Array, name: str) -> Array:
        return (y + v[f"{name}/actnorm_center/b"][0]) * np.exp(3 * v[f"{name}/actnorm_scale/logs"][0])

    def from_zero(y: Array, name: str) -> Array:
        return (convolved(y, v[f"{name}/W"]) + v[f"{name}/b"][0]) * np.exp(3 * v[f"{name}/logs"])

    found = []
    for level in range(levels):
        x = squeezed(x)
        for step in range(depth):
            name, half = f"{level}/{step}", x.shape[2] // 2
            x = normalized(x, name) @ v[f"{name}/invconv/W"]
            a, b = x[..., :half], x[..., half:]
            h = np.maximum(normalized(convolved(a, v[f"{name}/f1/l_1/W"]), f"{name}/f1/l_1"), 0)
            h = np.maximum(normalized(h @ v[f"{name}/f1/l_2/W"][0, 0], f"{name}/f1/l_2"), 0)
            h = from_zero(h, f"{name}/f1/l_last")
            b = (b + h[..., 0::2]) / (1 + np.exp(-h[..., 1::2] - 2)) if affine else b + h
            x = np.concatenate([a, b], axis=2)
        if level < levels - 1:
            x, z = x[..., : x.shape[2] // 2], x[..., x.shape[2] // 2 :]
            h = from_zero(x, f"pool{level}/conv")
            found.append((z - h[..., 0::2]) / np.exp(h[..., 1::2]))
    h = np.zeros((*x.shape[:2], 2 * x.shape[2]))
    h = from_zero(h, "prior/p") if "prior/p/W" in v else h
    if label is not None:
        h = h + (v["prior/y_emb/W"][label] + v["prior/y_emb/b"][0]) * np.exp(3 * v["prior/y_emb/logs"][0])
    return [*found, (x - h[..., : x.shape[2]]) / np.exp(h[..., x.shape[2] :])]
