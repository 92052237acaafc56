"""NPR (Tan et al. 2024): the first two stages of a ResNet-50 on how pixels differ from their nearest neighbor."""

from __future__ import annotations

from torch import Tensor

from detectors.networks.input_filters import npr
from detectors.networks.resnet import ResNet


class NPR(ResNet):
    """(N, 3, H, W) normalized pictures of even sides to a logit (N, 1)."""

    def __init__(self) -> None:
        super().__init__(50, kernel=3, strides=(1, 2), head="fc1")

    def maps(self, x: Tensor) -> Tensor:
        """(N, 512, h, w) before the head."""
        return super().maps(npr(x))
