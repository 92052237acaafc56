"""Small convolutional network on maps or pixels (Frank et al. 2020, with batch normalization).

3 x 3 convolutions with average pooling between them and one dense unit per output, which sees all places (a spectrum's
frequencies) or their means (an image).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """(N, channels, H, W) floats to logits (N, outputs).

    widths  channels of the convolutions
    places  "all": the dense unit has a weight for each place; "mean": for each channel

    Raises ValueError where (H, W) is too small for the poolings.
    """

    def __init__(self, channels: int, sides: tuple[int, int], outputs: int, widths: tuple[int, ...], places: str):
        super().__init__()
        self.places = places
        height, width = sides
        stages: list[nn.Module] = []
        for number, wide in enumerate(widths):
            if number:
                stages.append(nn.AvgPool2d(2))
                height, width = height // 2, width // 2
            stages += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        if min(height, width) < 1:
            raise ValueError(f"rows of {sides[0]} x {sides[1]} are too small for {len(widths)} widths; give fewer")
        self.features = nn.Sequential(*stages)
        several = (outputs,) if outputs > 1 else ()
        self.weight = nn.Parameter(torch.empty(*several, channels * (height * width if places == "all" else 1)))
        self.bias = nn.Parameter(torch.empty(several))

    def maps(self, x: Tensor) -> Tensor:
        """(N, channels of the last convolution, h, w)."""
        found: Tensor = self.features(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        flat = maps.mean(dim=(2, 3)) if self.places == "mean" else maps.contiguous().flatten(1)
        # a sum per row, not a matrix product, whose order of additions may depend on the place in the batch
        if self.weight.ndim == 1:
            return ((flat * self.weight).sum(dim=1) + self.bias)[:, None]
        return (flat[:, None] * self.weight).sum(dim=2) + self.bias


def build(settings: Any, channels: int, sides: tuple[int, int], outputs: int) -> nn.Module:
    """A network with the weights of torch's default generator: the dense unit's first, then the convolutions'."""
    device = torch.empty(0).device  # that of a new tensor, which is what counts
    with torch.device("meta"):
        network = SmallCnn(channels, sides, outputs, settings.widths, settings.places)
    if device.type == "meta":  # shapes are asked for
        return network
    network = network.to_empty(device=device)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name == "weight" or tensor.ndim == 4:
                fan_in = tensor.shape[-1] if name == "weight" else tensor[0].numel()
                drawn = torch.randn(tensor.shape)
                tensor.copy_(drawn * (1.0 if name == "weight" else 2.0**0.5) / fan_in**0.5)
            else:  # of batch normalization: scale and running variance 1, the rest 0
                tensor.fill_(1 if name.endswith(("weight", "running_var")) else 0)
    return network
