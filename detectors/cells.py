"""What each cell of a network says that decides by cells, and which places of its input a cell sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from detectors.contract import State
    from detectors.networks.receptive_field import Field

AnyConfig = Any
"""Of `detectors.deep` or of `detectors.published_family`."""


def speaks_by_cells(config: AnyConfig) -> bool:
    """Whether a detector's decision is made of one for each cell."""
    if config.family == "published":
        return bool(config.decision == "cells of fake, real")
    return bool(config.family == "deep" and config.head.kind == "patches")


def seen(config: AnyConfig, state: State, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[Field, Field]]:
    """Height and width of the network's input for rows of this shape, and the fields of its cells there.

    Raises ValueError where the detector does not decide by cells.
    """
    from detectors.networks.receptive_field import fields_of

    if not speaks_by_cells(config):
        raise ValueError("it decides for a whole picture, not for its cells; take a detector with the head 'patches'")
    if config.family == "published":
        from detectors import published_family

        _, height, width = config.preprocessing(np.zeros(shape, np.uint8)).shape
        return (height, width), fields_of(published_family.empty(config, state.plain.get("sizes")))
    from detectors import preprocessing
    from detectors.composed import without_values

    axes = tuple(state.plain["axes"])
    _, (channels, height, width) = preprocessing.layout(shape, axes)
    sides = preprocessing.sides_of(config.preprocessing, channels, height, width)
    return sides, fields_of(without_values(config, shape, axes).network, channels)


def probabilities(config: AnyConfig, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """(n, h, w): of each cell the probability of fake, before any calibration, of rows as stored (n, ...)."""
    import torch

    if config.family == "published":
        from detectors import published_family
        from detectors.transfers import Fetched, sent

        network = published_family.network_of(config, state, device)
        parts = []
        with torch.inference_mode():
            for rows in features:  # one by one, as their sizes may differ after the published resize
                logits = network(sent(published_family.prepared(config, state, rows[None]), device))
                parts.append(Fetched((logits[:, 0] - logits[:, 1]).double().sigmoid()))
        return np.concatenate([one.array() for one in parts])
    from detectors.composed import read
    from detectors.deep import network_of

    def of_cells(outputs: Tensor) -> Tensor:
        return (outputs[:, 1] - outputs[:, 0]).double().sigmoid()

    return read(network_of(config, state, device), [features], config.micro_batch, of_cells)
