"""Where in a picture a network finds what it decides by: maps of its cells, brought to 0..1 and to a picture's size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.contract import built

if TYPE_CHECKING:
    from torch import Tensor

    from detectors import published_family
    from detectors.composition import Config
    from detectors.contract import State
    from detectors.transfers import Fetched


LOOKING = threading.Lock()
"""Of networks that are changed while they are looked into; each is kept for that alone, as long as its state."""


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


def check_places(config: Config | published_family.Config, state: State) -> None:
    """Raises ValueError where a network has no maps, or their cells are no places of a picture."""
    from detectors.preprocessing import kind_of

    steps = config.preprocessing
    shape, axes = tuple(state.plain.get("shape", ())), tuple(state.plain.get("axes", ()))
    if len(shape) == 1 or (axes and kind_of(axes) == "spectrum") or (steps is not None and steps.spectrum is not None):
        raise ValueError(f"it reads frequencies ('{config.feature}'), which are no places of a picture")
    if config.family == "published":
        from detectors import published_family

        if config.preprocessing is not None and config.preprocessing.tile is not None:
            raise ValueError("it repeats small pictures, so that cells have several places")
        network, title = published_family.empty(config, state.plain.get("sizes")), config.network
    else:
        from detectors.composed import without_values

        network, title = without_values(config, shape, axes).network, config.network.title
    if getattr(network, "maps", None) is None:
        raise ValueError(f"its network, {title}, has no maps")


def of_rows(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """What each cell of the last maps adds to the decisions of rows as stored (n, ...): (n, h, w), above 0 = fake.

    Maps times the gradient of the decision, summed over channels (Draelos and Carin 2020): where the head is a mean and
    a linear layer, the class activation map. Raises ValueError where cells are no places of a picture.
    """
    from detectors.composed import loaded
    from detectors.transfers import sent

    check_places(config, state)
    shape, axes = tuple(state.plain["shape"]), tuple(state.plain["axes"])
    key = "heat", config.model_dump_json(), device
    network = built(state, key, lambda: loaded(config, shape, axes, state.tensors, device))

    def decide(rows: Tensor) -> Tensor:
        return config.head.decision(network(rows))

    found = []
    for start in range(0, len(features), config.micro_batch):
        rows = sent(features[start : start + config.micro_batch], device)
        found.append(_heat(network.network, rows, decide))
    return np.concatenate([one.array() for one in found])


def of_published(
    config: published_family.Config, state: State, features: NDArray[Any], device: str = "cpu"
) -> NDArray[np.float32]:
    """The same of a published detector, row by row. A picture that it looks at in tiles is looked at as a whole."""
    import torch

    from detectors import published_family
    from detectors.transfers import sent

    check_places(config, state)
    key = "heat", config.model_dump_json(), device
    network = built(state, key, lambda: published_family.loaded(config, state, device))

    def decide(x: Tensor) -> Tensor:
        output = network(x)
        if config.decision == "cells of fake, real":
            shares = output.softmax(dim=1).mean(dim=(2, 3)).clamp_min(torch.finfo(output.dtype).tiny).log()
            return shares[:, 0] - shares[:, 1]
        if config.decision == "fake, real":
            return output[:, 0] - output[:, 1]
        return output[:, 0] if config.decision == "logit" else -output[:, 0]

    rows = np.asarray(published_family.prepared(config, state, features))
    found = [_heat(network, sent(row[None], device), decide) for row in rows]
    return np.concatenate([one.array() for one in found])


def _heat(network: Any, x: Tensor, decide: Callable[[Tensor], Tensor]) -> Fetched:
    """(n, h, w) float32 of what `decide` gives for x, through the maps of a network."""
    import torch

    from detectors.transfers import Fetched

    network.requires_grad_(False)
    kept = []
    with LOOKING:
        maps_of = network.maps

        def watched(x: Tensor) -> Tensor:
            kept.append(maps_of(x).detach().requires_grad_())
            return kept[-1]

        network.maps = watched
        try:
            decision = decide(x).sum()
        finally:
            del network.maps
    (slopes,) = torch.autograd.grad(decision, kept[0])
    return Fetched((kept[0] * slopes).sum(dim=1).detach().float())
