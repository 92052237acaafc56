"""Masks of facial features for StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, appendix on the networks).

A landmark network (an hourglass with coordinate channels, Wang et al. 2019, arXiv:1904.07399; coordinates: Liu et al.
2018, arXiv:1807.03247) gives 98 heatmaps of a face. Shifted, sharpened and added up they are two masks: one of all
features and one without chin, eyebrows and mouth. Tensors have the names of the authors' checkpoints; the network is
only evaluated, so that its batch normalizations have no counters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256  # pixels of the face that the network was trained on
LANDMARKS = 98
FEATURES = 256
DEPTH = 4  # of the hourglass


class FrozenNorm(nn.Module):
    """Batch normalization by stored statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


class PyramidBlock(nn.Module):
    """Three convolutions of outputs / 2, / 4 and / 4 maps, one behind the other and concatenated, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        self.bn1, self.conv1 = FrozenNorm(inputs), nn.Conv2d(inputs, half, 3, padding=1, bias=False)
        self.bn2, self.conv2 = FrozenNorm(half), nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3, self.conv3 = FrozenNorm(quarter), nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(FrozenNorm(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        return torch.cat([first, second, third], dim=1) + self.downsample(x)


def with_coordinates(x: Tensor) -> Tensor:
    """Three more maps: row and column from -1 to 1, and the distance from the middle over its maximum."""
    n, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device)[None].expand(height, width)
    radius = (rows.square() + columns.square()).sqrt()
    maps = torch.stack([rows, columns, radius / radius.max()])
    return torch.cat([x, maps.expand(n, -1, -1, -1)], dim=1)


class CoordinateConvolution(nn.Module):
    """Convolution that also sees where it is."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + 3, outputs, size, stride=stride, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(with_coordinates(x))


class Hourglass(nn.Module):
    """Blocks at falling and rising resolution, with a branch at each."""

    def __init__(self) -> None:
        super().__init__()
        self.coordconv = CoordinateConvolution(FEATURES, FEATURES, 1)
        for level in range(1, DEPTH + 1):
            for part in ("b1", "b2", "b3", *["b2_plus"] * (level == 1)):
                self.add_module(f"{part}_{level}", PyramidBlock(FEATURES, FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        return self._level(DEPTH, self.coordconv(x))

    def _level(self, level: int, x: Tensor) -> Tensor:
        def run(part: str, features: Tensor) -> Tensor:
            return self.get_submodule(f"{part}_{level}")(features)

        low = run("b2", F.avg_pool2d(x, 2))
        low = run("b2_plus", low) if level == 1 else self._level(level - 1, low)
        return run("b1", x) + F.interpolate(run("b3", low), scale_factor=2, mode="nearest")


class LandmarkNetwork(nn.Module):
    """Faces (N, 3, 256, 256) in 0..1 to heatmaps (N, 99, 64, 64); the last one is the outline of all features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = CoordinateConvolution(3, 64, 7, stride=2), FrozenNorm(64)
        self.conv2, self.conv3 = PyramidBlock(64, 128), PyramidBlock(128, 128)
        self.conv4 = PyramidBlock(128, FEATURES)
        self.m0 = Hourglass()
        self.top_m_0 = PyramidBlock(FEATURES, FEATURES)
        self.conv_last0, self.bn_end0 = nn.Conv2d(FEATURES, FEATURES, 1), FrozenNorm(FEATURES)
        self.l0 = nn.Conv2d(FEATURES, LANDMARKS + 1, 1)

    def forward(self, faces: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(faces)))
        x = self.conv4(self.conv3(F.avg_pool2d(self.conv2(x), 2)))
        x = self.top_m_0(self.m0(x))
        return self.l0(F.relu(self.bn_end0(self.conv_last0(x))))


# First and last channel, pixels to move up (circular), power.
SHARPENED = (
    (8, 24, 0, 3),  # chin
    (33, 50, -7, 2),  # eyebrows
    (55, 59, 8, 4),  # nostrils
    (77, 81, -8, 4),  # upper lip
    (83, 87, 8, 4),  # lower lip
    (88, 95, -2, 3),  # inner lips
)
DROPPED = ((0, 7), (25, 32), (33, 33), (46, 46), (76, 76), (82, 82))
NOSE, EYES = slice(52, 55), slice(60, 76)
ONLY_COARSE = ((8, 24), (33, 50), (76, 95))  # chin, eyebrows and mouth: not in the second mask


def raised(x: Tensor, pixels: int) -> Tensor:
    """Content moved up by so many pixels, around the border."""
    return x.roll(-pixels, dims=2)


def combined(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps (N, 98, 256, 256) to the two masks (N, 1, 256, 256) in 0..1."""
    x = torch.where(heatmaps < 0.1, 0.0, heatmaps)
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    x = (x - low) / (high - low + 1e-6)
    for first, last, pixels, power in SHARPENED:
        x[:, first : last + 1] = raised(x[:, first : last + 1], pixels) ** power
    for first, last in DROPPED:
        x[:, first : last + 1] = 0
    x[:, NOSE] = raised(x[:, NOSE], 4)
    x[:, EYES] = raised(x[:, EYES], -8) ** 3 + raised(x[:, EYES], -24)
    fine = x.clone()
    for first, last in ONLY_COARSE:
        fine[:, first : last + 1] = 0
    return x.sum(dim=1, keepdim=True).clamp(0, 1), fine.sum(dim=1, keepdim=True).clamp(0, 1)


def edge_masks(network: LandmarkNetwork, source: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of faces (N, 3, H, W) in -1..1: for features of side 32, and for those of larger sides; float32.

    Computed in float64, because threshold, scaling and powers enlarge the rounding of the heatmaps, and the high-pass
    filter that of the masks: in float32 the images would differ by machine and number of threads.
    """
    state = {name: tensor.double() for name, tensor in network.state_dict().items()}
    faces = F.interpolate(source.double(), size=(SIDE, SIDE), mode="bilinear") * 0.5 + 0.5
    heatmaps: Tensor = torch.func.functional_call(network, state, (faces,))[:, :LANDMARKS]
    coarse, fine = combined(F.interpolate(heatmaps, size=(SIDE, SIDE), mode="bilinear", align_corners=True))
    return coarse.float(), fine.float()
