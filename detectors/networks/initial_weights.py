"""First values of new networks, as the papers' programs draw them from torch's generator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def normal(*shape: int, rate: float = 1) -> Tensor:
    """Standard normal values over `rate`, float32, from torch's generator.

    On the meta device nothing is drawn: torch would load its compiler for that, which takes seconds.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_() / rate


def kaiming(network: nn.Module) -> None:
    """Convolutions from N(0, 2 / (k k outputs)) (torchvision, He et al. 2021, LaDeDa); the rest as torch does."""
    for module in _layers(network):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def glorot(network: nn.Module) -> None:
    """Convolutions and linear layers from Glorot's uniform distribution, biases 0 (Keras)."""
    for module in _layers(network):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def xavier(network: nn.Module, gain: float = 0.02) -> None:
    """Convolutions and linear layers from Xavier's normal, scales of batch normalization from N(1, gain^2), biases 0
    (patch-forensics of Chai et al. 2020; its text does not say so).
    """
    for module in _layers(network):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """All modules; none of a network without values (on torch's meta device), which would take a second."""
    if not any(parameter.is_meta for parameter in network.parameters()):
        yield from network.modules()
