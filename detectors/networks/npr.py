"""NPR (Tan et al. 2024): the first two stages of a ResNet-50 on how pixels differ from their nearest neighbor."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from detectors.networks.input_filters import check_even, npr
from detectors.networks.resnet import ResNet


class NPR(ResNet):
    """(N, channels, H, W) normalized pictures of even sides to logits (N, outputs)."""

    def __init__(self, outputs: int = 1, channels: int = 3) -> None:
        super().__init__(50, outputs, channels, kernel=3, strides=(1, 2), head="fc1")

    def maps(self, x: Tensor) -> Tensor:
        """(N, 512, h, w) before the head."""
        return super().maps(npr(x))


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A new network. Raises ValueError where sides are odd."""
    del settings
    check_even(sides)
    return NPR(outputs, channels)
