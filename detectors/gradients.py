"""A detector of pictures as a function through which gradients flow back into the picture.

Its own preprocessing of files rounds to whole levels, which has no slope; here nothing is rounded, and another size is
reached by an antialiased bicubic filter. So it is a stand-in: what is reported of a detector comes from its own way.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from detectors.framing import middle, resized_sides

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from detectors.contract import State


class Judge:
    """A frozen detector of pictures. Raises ValueError where its score has no slope along a picture."""

    def __init__(self, config: Any, state: State, device: str) -> None:
        if config.family == "cnn":
            from detectors import cnn

            config, state = cnn.composed(config), cnn.with_prefix(state)
        check_slope(config, state)
        self.config, self.state = config, state
        self.network: nn.Module
        if config.family == "published":
            from detectors import published_family

            self.network = published_family.loaded(config, state, device)
        else:
            from detectors.composed import loaded

            shape, axes = tuple(state.plain["shape"]), tuple(state.plain["axes"])
            self.network = loaded(config, shape, axes, state.tensors, device)
        self.network.requires_grad_(False)

    def fake_logits(self, images: Tensor) -> Tensor:
        """(N, cells) of pictures (N, 3, H, W) RGB, -1..1: logits of fake before any calibration, above 0 = fake.

        One column where the detector decides for a whole picture. Values beyond the range are cut off, as in a file.
        """
        levels = ((images.float() + 1) * 127.5).clamp(0, 255)
        if self.config.family == "published":
            return _of_published(self.network(_prepared(self.config.preprocessing, levels)), self.config.decision)
        height, width, _ = self.state.plain["shape"]
        outputs = self.network(_sized(levels, (height, width)).movedim(1, 3))
        if self.config.head.kind == "patches":
            return (outputs[:, 1] - outputs[:, 0]).flatten(1)  # type: ignore[no-any-return]
        return self.config.head.decision(outputs)[:, None]  # type: ignore[no-any-return]


def check_slope(config: Any, state: State) -> None:
    """Raise ValueError where a picture's gradient does not exist."""
    from detectors.preprocessing import kind_of

    if config.family == "published":
        steps = config.preprocessing
        if steps is None:
            raise ValueError(f"it reads '{config.feature}', which is no picture")
        unlike = [name for name in ("tile", "spectrum", "even", "parts") if getattr(steps, name)]
        if unlike:
            raise ValueError(f"its preprocessing has '{unlike[0]}', which has no stand-in")
        return
    if config.family != "deep":
        raise ValueError(f"the family '{config.family}' is no network of pictures")
    shape, axes = tuple(state.plain.get("shape", ())), tuple(state.plain.get("axes", ()))
    if len(shape) != 3 or shape[2] != 3 or kind_of(axes) != "image":
        raise ValueError(f"it reads '{config.feature}' {shape}, which is no picture")


def _sized(levels: Tensor, sides: tuple[int, int]) -> Tensor:
    from torch.nn.functional import interpolate

    from detectors.transfers import elsewhere

    if tuple(levels.shape[2:]) == sides:
        return levels
    if elsewhere(levels.device):  # a GPU has no order in which it would add up the slopes of torch's own function
        rows, columns = (_weights(*one, levels.device) for one in zip(levels.shape[2:], sides, strict=True))
        return rows @ levels @ columns.T
    return interpolate(levels, size=sides, mode="bicubic", antialias=True, align_corners=False)


@cache
def _weights(length: int, side: int, device: torch.device) -> Tensor:
    """The same filter along one axis as a matrix (side, length), copied to a device once."""
    import torch

    from detectors.preprocessing import taps

    places, weights = taps(length, side, "bicubic")
    found = np.zeros((side, length))
    np.add.at(found, (np.arange(side)[:, None], places), weights)
    with torch.inference_mode(False):
        return torch.from_numpy(found).float().to(device)


def _prepared(steps: Any, levels: Tensor) -> Tensor:
    """Resize, crop, scale and normalize as the published steps do, without rounding."""
    import torch
    from torch.nn.functional import pad

    from detectors.transfers import constant

    height, width = levels.shape[2:]
    if steps.resize is not None:
        levels = _sized(
            levels, resized_sides(height, width, steps.resize, "both" if steps.shape == "square" else "shorter")
        )
    if steps.crop is not None:
        (rows, top), (columns, left) = (middle(side, steps.crop) for side in levels.shape[2:])
        levels = pad(levels, (*columns, *rows))[:, :, top : top + steps.crop, left : left + steps.crop]
    if steps.order == "bgr":
        levels = levels.flip(1)
    values = levels / 255 if steps.levels == 1 else levels
    if steps.statistics is None:
        return values
    mean, deviation = (constant(tuple(one), torch.float32, values.device)[:, None, None] for one in steps.statistics)
    return (values - mean) / deviation


def _of_published(outputs: Tensor, decision: str) -> Tensor:
    if decision == "cells of fake, real":
        return (outputs[:, 0] - outputs[:, 1]).flatten(1)
    if decision == "fake, real":
        return (outputs[:, 0] - outputs[:, 1])[:, None]
    return outputs[:, :1] if decision == "logit" else -outputs[:, :1]
