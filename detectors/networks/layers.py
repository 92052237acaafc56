"""Layers that score a row by itself and draw from the training's own generator; their tensors are those of torch's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.transfers import sent

MOST = 1 << 22
"""Products that are held at once."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, training: bool) -> Tensor:
    """(n, inputs) times (outputs, inputs), plus (outputs,).

    A matrix product may add in another order in another row of the batch. So outside a training each value is a sum of
    its own, the same bytes whatever stands beside or before the row.
    """
    if training:
        return F.linear(x, weight, bias)
    parts = weight.split(max(1, MOST // max(1, x.numel())))
    found = torch.cat([(x[:, None] * part).sum(dim=2) for part in parts], dim=1)
    return found if bias is None else found + bias


class Linear(nn.Linear):
    """`nn.Linear`, see `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, self.training)


class Dropout(nn.Dropout):
    """`nn.Dropout`, whose draws come from `random`, a generator on the CPU that survives a kill with the training."""

    random: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self.random) >= self.p
        return x * sent(kept, x.device) / (1 - self.p)


def draw_from(network: nn.Module, seed: int) -> torch.Generator | None:
    """The generator that all dropouts of a network draw from, from now on; None where it has none."""
    dropouts = [module for module in network.modules() if isinstance(module, Dropout)]
    if not dropouts:
        return None
    random = torch.Generator()
    random.manual_seed(seed)
    for one in dropouts:
        one.random = random
    return random
