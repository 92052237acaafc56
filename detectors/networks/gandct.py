"""Networks of Frank et al. 2020 on DCT coefficients; layers have the names of Keras, see `keras_tensors`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """(N, channels, H, W) standardized coefficients to logits (N, outputs): 3 x 3 convolutions 3, 8, 16 and 32."""

    def __init__(self, shape: tuple[int, int, int], outputs: int = 1) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv2d = nn.Conv2d(channels, 3, 3, padding=1)
        self.conv2d_1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2d_2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv2d_3 = nn.Conv2d(16, 32, 3, padding=1)
        self.dense = nn.Linear(32 * (height // 4) * (width // 4), outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2d_1(torch.relu(self.conv2d(x))))
        x = torch.relu(self.conv2d_2(F.avg_pool2d(x, 2)))
        x = torch.relu(self.conv2d_3(F.avg_pool2d(x, 2)))
        logits: Tensor = self.dense(_flat(x))
        return logits


class Linear(nn.Module):
    """(N, channels, H, W) standardized coefficients to logits (N, outputs): the ridge and logistic regressions."""

    def __init__(self, shape: tuple[int, int, int], outputs: int = 1) -> None:
        super().__init__()
        self.dense = nn.Linear(shape[0] * shape[1] * shape[2], outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense(_flat(x))
        return logits


def _flat(x: Tensor) -> Tensor:
    """Row, column, channel."""
    return x.permute(0, 2, 3, 1).flatten(1)
