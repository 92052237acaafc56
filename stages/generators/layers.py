"""Layers that several generator families share, in plain torch operations.

Equalized learning rate: weights are stored at unit variance and scaled at run time by gain / sqrt(fan-in) (Karras et
al. 2018, arXiv:1710.10196, section 4.1). Images and features are (N, C, H, W) float32.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks.initial_weights import normal

SLOPE = 0.2  # of the leaky rectifier


def resolutions(resolution: int) -> list[int]:
    """4, 8, ... up to `resolution`; raises ValueError if it is not a power of two from 8 to 4096."""
    if resolution not in (1 << power for power in range(3, 13)):
        raise ValueError(f"the resolution of this generator is a power of two from 8 to 4096, not {resolution!r}")
    return [1 << power for power in range(2, resolution.bit_length())]


def normalize(x: Tensor) -> Tensor:
    """Scale to unit mean square over axis 1: each row of (N, C), each pixel of (N, C, H, W)."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


class Linear(nn.Module):
    """Fully connected layer with equalized learning rate; weight (outputs, inputs), no activation.

    rate  learning rate relative to the other layers: it scales weight and bias at run time (StyleGAN's mapping).
    """

    def __init__(
        self, inputs: int, outputs: int, *, gain: float = math.sqrt(2), rate: float = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.scale, self.rate = gain / math.sqrt(inputs) * rate, rate
        self.weight = nn.Parameter(normal(outputs, inputs, rate=rate))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.weight * self.scale).T
        return x if self.bias is None else x + self.bias * self.rate


class Convolution(nn.Module):
    """Convolution with equalized learning rate that may double or halve the image; no activation.

    The weight is (outputs, inputs, size, size) in every case. "up": nearest neighbor, then convolution; "down":
    convolution, then the mean of 2x2 pixels. With `fused` both steps are one strided convolution with the kernel summed
    over its four shifts, the form in which larger released networks were trained.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        gain: float = math.sqrt(2),
        resample: Literal["", "up", "down"] = "",
        fused: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.scale, self.resample, self.fused = gain / math.sqrt(inputs * size * size), resample, fused
        self.weight = nn.Parameter(normal(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.resample and self.fused:
            wide = F.pad(weight, (1, 1, 1, 1))
            wide = wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]
            if self.resample == "up":
                x = F.conv_transpose2d(x, wide.transpose(0, 1), stride=2, padding=1)
            else:
                x = F.conv2d(x, wide * 0.25, stride=2, padding=1)
        else:
            x = F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
            x = F.avg_pool2d(x, 2) if self.resample == "down" else x
        return x if self.bias is None else x + self.bias[:, None, None]


class BatchNorm(nn.Module):
    """Batch normalization; with classes, gain and bias are those of an image's class (Dumoulin et al. 2017).

    Unlike torch's it counts no batches, so that all it keeps are floating-point numbers.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, classes: int = 0, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        shape = (classes, features) if classes else (features,)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if self.weight.ndim == 1:
            return self._normalized(x, self.weight, self.bias)
        if label is None:
            raise ValueError(f"this network is conditional: it needs a label of width {len(self.weight)}")
        gain, bias = ((label @ one)[:, :, None, None] for one in (self.weight, self.bias))
        return self._normalized(x, None, None) * gain + bias

    def _normalized(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        running = self.running_mean, self.running_var
        return F.batch_norm(x, *running, weight, bias, self.training, momentum=0.1, eps=self.epsilon)


class MinibatchDeviation(nn.Module):
    """More feature maps: standard deviation over groups of images (Karras et al. 2018, section 3).

    Image i of n belongs to group i mod (n / group); group None: the whole batch.
    """

    def __init__(self, group: int | None = 4, features: int = 1) -> None:
        super().__init__()
        self.group, self.features = group, features

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        group = n if self.group is None else min(self.group, n)
        if n % group:
            raise ValueError(f"the discriminator compares groups of {group} images, and {n} is no multiple of that")
        y = x.reshape(group, n // group, self.features, c // self.features, h, w)
        deviation = (y.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(2, 3, 4))
        return torch.cat([x, deviation[:, :, None, None].repeat(group, 1, h, w)], dim=1)


def flooring_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float to (N, H, W, 3) uint8 by the rule of SNGAN and others: clip 127.5 x + 127.5 and truncate."""
    return (images * 127.5 + 127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def truncating_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float to (N, H, W, 3) uint8 by the rule of the StyleGANs: clip 127.5 x + 128 and truncate."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def rounding_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float to (N, H, W, 3) uint8 by ProGAN's rule: round 127.5 x + 127.5 half to even and clip."""
    return (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
