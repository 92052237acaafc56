"""Where in a picture a network finds what it decides by: maps of its cells, brought to 0..1 and to a picture's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from detectors.composition import Config
    from detectors.contract import State


def class_activation(maps: Tensor, weight: Tensor) -> Tensor:
    """(N, h, w): cells (N, C, h, w) before a mean and a linear layer, weighted by its row (C,) of a class.

    Their mean and the layer's bias make the logit (Zhou et al. 2016).
    """
    return (maps * weight[:, None, None]).sum(dim=1)


def scaled(maps: Tensor) -> Tensor:
    """(N, h, w) from the least to the largest value of each map, to 0..1; a flat map is 0."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    spread = high - low
    return (maps - low) / spread.masked_fill(spread == 0, 1)


def positive(maps: Tensor) -> Tensor:
    """What speaks for the class, (N, h, w) to 0..1; zeros where nothing does (Grad-CAM divides 0 by 0 there)."""
    return scaled(maps.clamp_min(0))


def enlarged(maps: Tensor, sides: tuple[int, int]) -> Tensor:
    """(N, h, w) to (N, *sides), bilinear between the middles of pixels, as OpenCV does."""
    from torch.nn.functional import interpolate

    return interpolate(maps[:, None], size=sides, mode="bilinear", align_corners=False)[:, 0]


def of_rows(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """What each cell of the last maps adds to the decisions of rows as stored (n, ...): (n, h, w), above 0 = fake.

    Maps times the gradient of the decision, summed over channels (Draelos and Carin 2020): where the head is a mean and
    a linear layer, the class activation map. Raises ValueError where cells are no places of a picture.
    """
    import torch

    from detectors.composed import loaded
    from detectors.preprocessing import kind_of

    shape, axes = tuple(state.plain["shape"]), tuple(state.plain["axes"])
    if len(shape) == 1 or kind_of(axes) == "spectrum" or config.preprocessing.spectrum is not None:
        raise ValueError(f"it reads frequencies ('{config.feature}'), which are no places of a picture")
    network = loaded(config, shape, axes, state.tensors, device).requires_grad_(False)
    inner: Any = network.network
    if not hasattr(inner, "maps"):
        raise ValueError(f"its network, {config.network.title}, has no maps")
    maps_of, kept, found = inner.maps, [], []

    def watched(x: Tensor) -> Tensor:
        kept.append(maps_of(x).detach().requires_grad_())
        return kept[-1]

    inner.maps = watched
    for start in range(0, len(features), config.micro_batch):
        rows = torch.from_numpy(np.ascontiguousarray(features[start : start + config.micro_batch])).to(device)
        decision = config.head.decision(network(rows)).sum()
        maps = kept.pop()
        (slopes,) = torch.autograd.grad(decision, maps)
        found.append((maps * slopes).sum(dim=1).detach().float().cpu().numpy())
    return np.concatenate(found)
