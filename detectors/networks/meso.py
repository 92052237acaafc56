"""MesoInception4 (Afchar et al. 2018); layers have the names of the published Keras file, see `keras_tensors`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks import layers
from detectors.networks.initial_weights import glorot

EPSILON = 1e-3  # of batch normalization in Keras
REDUCTION = 32


class MesoInception4(nn.Module):
    """(N, channels, *sides) values 0..1 to logits (N, outputs). In the published files, of 256 x 256, class 1 is real.

    Two inception stages (1 x 1, and 3 x 3 at distances 1, 2 and 3, all behind ReLU, channels joined), two 5 x 5
    convolutions, each followed by batch normalization and the largest of 2, 2, 2 and 4 squared; two dense layers.
    """

    def __init__(self, sides: tuple[int, int] = (256, 256), outputs: int = 1, channels: int = 3) -> None:
        super().__init__()
        number, inputs = 0, channels
        for widths in ((1, 4, 4, 2), (2, 4, 4, 2)):
            for distance, width in enumerate(widths):
                number += 1
                self.add_module(f"conv2d_{number}", nn.Conv2d(inputs, width, 1))
                if distance:
                    number += 1
                    further = nn.Conv2d(width, width, 3, padding=distance, dilation=distance)
                    self.add_module(f"conv2d_{number}", further)
            inputs = sum(widths)
        self.conv2d_15 = nn.Conv2d(inputs, 16, 5, padding=2)
        self.conv2d_16 = nn.Conv2d(16, 16, 5, padding=2)
        self.batch_normalization_1 = nn.BatchNorm2d(11, eps=EPSILON, momentum=0.01)
        self.batch_normalization_2 = nn.BatchNorm2d(12, eps=EPSILON, momentum=0.01)
        self.batch_normalization_3 = nn.BatchNorm2d(16, eps=EPSILON, momentum=0.01)
        self.batch_normalization_4 = nn.BatchNorm2d(16, eps=EPSILON, momentum=0.01)
        self.dropout = layers.Dropout(0.5)
        self.dense_1 = layers.Linear(16 * (sides[0] // REDUCTION) * (sides[1] // REDUCTION), 16)
        self.dense_2 = layers.Linear(16, outputs)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 16, h, w) before the head."""
        x = F.max_pool2d(self.batch_normalization_1(self._inception(1, x)), 2)
        x = F.max_pool2d(self.batch_normalization_2(self._inception(8, x)), 2)
        x = F.max_pool2d(self.batch_normalization_3(torch.relu(self.conv2d_15(x))), 2)
        return F.max_pool2d(self.batch_normalization_4(torch.relu(self.conv2d_16(x))), 4)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.maps(x).permute(0, 2, 3, 1).flatten(1)  # row, column, channel
        hidden = F.leaky_relu(self.dense_1(self.dropout(flat)), 0.1)
        logits: Tensor = self.dense_2(self.dropout(hidden))
        return logits

    def _inception(self, first: int, x: Tensor) -> Tensor:
        """Seven convolutions from number `first` on: one alone, then three pairs."""
        convolutions = [self.get_submodule(f"conv2d_{first + place}") for place in range(7)]
        branches = [torch.relu(convolutions[0](x))]
        for narrow, wide in zip(convolutions[1::2], convolutions[2::2], strict=True):
            branches.append(torch.relu(wide(torch.relu(narrow(x)))))
        return torch.cat(branches, dim=1)


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network, its weights drawn as Keras does. Raises ValueError where rows are too small."""
    del settings
    if min(sides) < REDUCTION:
        raise ValueError(
            f"MesoInception4 needs rows of {REDUCTION} x {REDUCTION} or more, not {sides[0]} x {sides[1]}; resize"
        )
    network = MesoInception4(sides, outputs, channels)
    glorot(network)
    return network
