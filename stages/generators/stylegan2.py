"""StyleGAN2: mapping and synthesis network (Karras et al. 2020, arXiv:1912.04958, sections 2-4).

Written from the paper in plain torch operations. Tensors have the names of the public torch version of the network
(stylegan2-ada-pytorch, Karras et al. 2020, arXiv:2006.06676), so that its weights load by name; the discriminator is in
`stylegan2_discriminator`, the conversion of other public forms in `stylegan2_official`. All computation is in float32:
half precision blocks of a training run are a matter of speed and are not repeated here.

Notation: images are (N, 3, H, W) float32, about -1..1, RGB; z, w and labels are (N, dimensions) float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks.initial_weights import normal
from stages.generators import layers as shared
from stages.generators import low_pass, paddings
from stages.generators.layers import SLOPE, normalize, resolutions, truncating_uint8
from stages.generators.paddings import ZEROS, bordered

FloatArray = NDArray[np.float32]

NETWORKS = ("skip", "resnet", "orig")  # ways to combine resolutions, figure 7 of the paper
LABELS = ("embed", "concat")  # ways to give a label to the mapping network
NOISES: tuple[str, ...] = ("per-seed", "const", "none")
FIR = (1.0, 3.0, 3.0, 1.0)  # resampling filter, appendix B


def channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at one resolution."""
    return min(channel_base // resolution, channel_max)


def widths(resolution: int, channel_base: int, channel_max: int, features: Sequence[int] | None) -> dict[int, int]:
    """Feature maps by side 4, 8, ..., `resolution`: `features` if given, else those of `channels`.

    Raises ValueError if these are not as many positive numbers as there are sides.
    """
    sides = resolutions(resolution)
    if features is None:
        features = [channels(side, channel_base, channel_max) for side in sides]
    if len(features) != len(sides) or min(features) < 1:
        raise ValueError(f"{resolution} pixels need {len(sides)} positive numbers of feature maps, not {features}")
    return dict(zip(sides, features, strict=True))


def activate(
    x: Tensor, bias: Tensor | None, *, linear: bool = False, gain: float = 1, clamp: float | None = None
) -> Tensor:
    """Add the bias, apply the leaky rectifier (times sqrt 2, keeping the variance), scale by `gain` and clamp."""
    if bias is not None:
        x = x + bias.reshape(1, -1, *[1] * (x.ndim - 2))
    if not linear:
        x, gain_here = F.leaky_relu(x, SLOPE), gain * math.sqrt(2)
    else:
        gain_here = gain
    if gain_here != 1:
        x = x * gain_here
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def filtered(x: Tensor, pad: tuple[int, int], stride: int = 1) -> Tensor:
    """Low-pass filter: both axes with FIR/8 after zero padding (before, after), then every `stride`-th pixel."""
    return low_pass.filtered(x, low_pass.kernel_of(FIR, x.dtype, x.device), pad, stride)


def upsample(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C, 2H, 2W): zeros between pixels, then the filter with gain 4."""
    n, c, h, w = x.shape
    spread = x.new_zeros((n, c, h, 2, w, 2))
    spread[:, :, :, 0, :, 0] = x * 4
    return filtered(spread.reshape(n, c, 2 * h, 2 * w), (2, 1))


def downsample(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C, H/2, W/2): the filter, then every second pixel."""
    return filtered(x, (1, 1), stride=2)


class Linear(nn.Module):
    """Fully connected layer with equalized learning rate: weights are stored at unit variance, scaled at run time."""

    def __init__(self, inputs: int, outputs: int, *, linear: bool = True, rate: float = 1, bias: float = 0) -> None:
        super().__init__()
        self.linear, self.rate = linear, rate
        self.weight = nn.Parameter(normal(outputs, inputs, rate=rate))
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))

    def forward(self, x: Tensor) -> Tensor:
        x = x @ (self.weight * (self.rate / math.sqrt(self.weight.shape[1]))).T
        bias = self.bias if self.rate == 1 else self.bias * self.rate
        return activate(x, bias, linear=self.linear)


class Convolution(nn.Module):
    """Convolution with equalized learning rate, of the discriminator and of residual shortcuts."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        resample: Literal["", "up", "down"] = "",
        linear: bool = False,
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resample, self.linear, self.clamp = resample, linear, clamp
        self.weight = nn.Parameter(normal(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, gain: float = 1) -> Tensor:
        size = self.weight.shape[-1]
        weight = self.weight / math.sqrt(self.weight[0].numel())
        if self.resample == "down" and size == 1:
            x = F.conv2d(downsample(x), weight)
        elif self.resample == "down":
            x = F.conv2d(filtered(x, (2, 2)), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=size // 2)
            x = upsample(x) if self.resample == "up" else x
        return activate(x, self.bias, linear=self.linear, gain=gain, clamp=self.clamp)


class MappingNetwork(nn.Module):
    """z (and a label) to w: normalized, concatenated, then fully connected layers at a hundredth of the learning rate.

    With `z_dim` 0 it maps labels only, as the conditional discriminator wants; then it may have no layers.
    labels  "embed": an affine map of the label, normalized apart from z, as in stylegan2-ada; "concat": a linear map to
            as many numbers as z has, normalized together with z, as in the first TensorFlow version
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        *,
        layers: int = 8,
        features: int | None = None,
        embedding: int | None = None,
        labels: str = "embed",
        rate: float = 0.01,
        average: bool = True,
    ) -> None:
        super().__init__()
        if layers not in range(1 if z_dim else 0, 65):
            raise ValueError(f"a mapping network has 1 to 64 layers, not {layers!r}")
        if labels not in LABELS or (labels == "concat" and embedding):
            raise ValueError(
                f"labels are mapped by {' or '.join(LABELS)}, the latter without a width, not {labels!r} {embedding!r}"
            )
        self.z_dim, self.c_dim = z_dim, c_dim
        label_width, self.concat = 0, None
        if c_dim and labels == "concat":
            label_width = z_dim
            self.concat = shared.Linear(c_dim, z_dim, gain=math.sqrt(c_dim), bias=False)  # the scale is 1
        elif c_dim:
            label_width = embedding or w_dim
            self.embed = Linear(c_dim, label_width)
        if layers == 0 and label_width != w_dim:
            raise ValueError(f"without layers, labels are embedded as {w_dim} numbers, not {label_width}")
        widths = [z_dim + label_width, *[features or w_dim] * (layers - 1), w_dim]
        self.layers = layers
        for index in range(layers):
            self.add_module(f"fc{index}", Linear(widths[index], widths[index + 1], linear=False, rate=rate))
        if average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        if self.c_dim and label is None:
            raise ValueError(f"this network is conditional: it needs a label of width {self.c_dim}")
        if self.concat is not None and z is not None:
            x = normalize(torch.cat([z, self.concat(label)], dim=1))
        else:
            parts = [normalize(z)] if self.z_dim and z is not None else []
            if self.c_dim:
                parts.append(normalize(self.embed(label)))
            x = torch.cat(parts, dim=1)
        for index in range(self.layers):
            x = self.get_submodule(f"fc{index}")(x)
        return x


def convolution(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    """Of the same side, or of twice the side, filtered."""
    if up:
        return filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2) * 4, (1, 1))
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def modulated_convolution(
    x: Tensor, weight: Tensor, style: Tensor, *, up: bool, demodulate: bool, padding: str = ZEROS
) -> Tensor:
    """Equations 1-3: weights scaled by the style of each image, then to unit norm.

    A convolution is linear, so that input and output channels are scaled instead: one convolution for all images.
    """
    x = bordered(lambda maps: convolution(maps, weight, up), x * style[:, :, None, None], padding)
    if demodulate:
        norm = torch.rsqrt(style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8)
        x = x * norm[:, :, None, None]
    return x


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and leaky rectifier (figure 2d)."""

    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        resolution: int,
        *,
        up: bool = False,
        clamp: float | None = None,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        self.up, self.clamp, self.padding = up, clamp, padding
        self.affine = Linear(w_dim, inputs, bias=1)
        self.weight = nn.Parameter(normal(outputs, inputs, 3, 3))
        self.register_buffer("noise_const", normal(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1) -> Tensor:
        style = self.affine(w)
        x = modulated_convolution(x, self.weight, style, up=self.up, demodulate=True, padding=self.padding)
        if noise is not None:
            x = x + noise * self.noise_strength
        return activate(x, self.bias, gain=gain, clamp=self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to colors, without demodulation and noise."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Linear(w_dim, inputs, bias=1)
        self.weight = nn.Parameter(normal(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) / math.sqrt(self.weight.shape[1])
        x = modulated_convolution(x, self.weight, style, up=False, demodulate=False)
        return activate(x, self.bias, linear=True, clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """The layers of one resolution: the learned constant or an upsampling layer, a second layer, colors, shortcut."""

    const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        resolution: int,
        colors: int,
        network: str,
        last: bool,
        clamp: float | None,
        padding: str,
    ) -> None:
        super().__init__()
        self.first, self.residual, self.padding = inputs == 0, network == "resnet" and inputs > 0, padding
        if self.first:
            self.const = nn.Parameter(normal(outputs, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=True, clamp=clamp, padding=padding)
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, clamp=clamp, padding=padding)
        self.torgb = ToRGB(outputs, colors, w_dim, clamp) if last or network == "skip" else None
        if self.residual:
            self.skip = Convolution(inputs, outputs, 1, resample="up", linear=True, bias=False)

    def layers(self) -> list[SynthesisLayer]:
        return [self.conv1] if self.first else [self.conv0, self.conv1]

    def forward(
        self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor | None]:
        """`w` (N, layers + 1, w_dim); `noise` one entry per layer."""
        gain = math.sqrt(0.5) if self.residual else 1
        if self.first or x is None:
            x = self.const.expand(len(w), -1, -1, -1)
            x = self.conv1(x, w[:, 0], noise[0])
        else:
            shortcut = bordered(partial(self.skip, gain=gain), x, self.padding) if self.residual else None
            x = self.conv0(x, w[:, 0], noise[0])
            x = self.conv1(x, w[:, 1], noise[1], gain=gain)
            x = x if shortcut is None else shortcut + x
        image = bordered(upsample, image, self.padding) if image is not None else None
        if self.torgb is not None:
            color = self.torgb(x, w[:, len(noise)])
            image = color if image is None else image + color
        return x, image


class SynthesisNetwork(nn.Module):
    """w to an image: blocks b4, b8, ... of growing resolution."""

    def __init__(
        self,
        w_dim: int,
        widths: Mapping[int, int],
        colors: int,
        network: str,
        clamp: float | None,
        padding: str,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"a StyleGAN2 generator is one of {', '.join(NETWORKS)}, not {network!r}")
        self.sizes = list(widths)
        inputs = 0
        for size, outputs in widths.items():
            last = size == self.sizes[-1]
            beyond = padding if last else ZEROS
            block = SynthesisBlock(inputs, outputs, w_dim, size, colors, network, last, clamp, beyond)
            self.add_module(f"b{size}", block)
            inputs = outputs

    def blocks(self) -> list[SynthesisBlock]:
        return [self.get_submodule(f"b{size}") for size in self.sizes]  # type: ignore[misc]

    def forward(self, w: Tensor, noise: Sequence[Tensor] | Literal["const", "none"]) -> Tensor:
        """`w` (N, styles, w_dim); `noise` as in `Generator.forward`."""
        x: Tensor | None = None
        image: Tensor | None = None
        first_style = first_noise = 0
        for block in self.blocks():
            layers = block.layers()
            if isinstance(noise, str):
                maps = [layer.noise_const if noise == "const" else None for layer in layers]
            else:
                maps = list(noise[first_noise : first_noise + len(layers)])
            x, image = block(x, image, w[:, first_style : first_style + len(layers) + 1], maps)
            first_style, first_noise = first_style + len(layers), first_noise + len(layers)
        assert image is not None  # the last block always has colors
        return image


class Generator(nn.Module):
    """z and label to an image. The keyword arguments are the `architecture` of a weights file.

    network         one of NETWORKS
    features        feature maps at 4, 8, ... pixels; None: min(channel_base / side, channel_max)
    mapping_...     see `MappingNetwork`
    conv_clamp      bound of the values of feature maps and colors, or None
    padding         what layers of the last block see beyond a border, one of `paddings.PADDINGS`
    """

    def __init__(
        self,
        *,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        resolution: int,
        colors: int = 3,
        network: str = "skip",
        channel_base: int = 32768,
        channel_max: int = 512,
        features: Sequence[int] | None = None,
        mapping_layers: int = 8,
        mapping_features: int | None = None,
        mapping_embedding: int | None = None,
        mapping_labels: str = "embed",
        mapping_rate: float = 0.01,
        conv_clamp: float | None = None,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.resolution = z_dim, c_dim, w_dim, resolution
        maps = widths(resolution, channel_base, channel_max, features)
        self.styles = 2 * len(maps)
        self.mapping = MappingNetwork(
            z_dim,
            c_dim,
            w_dim,
            layers=mapping_layers,
            features=mapping_features,
            embedding=mapping_embedding,
            labels=mapping_labels,
            rate=mapping_rate,
        )
        self.synthesis = SynthesisNetwork(w_dim, maps, colors, network, conv_clamp, paddings.check(padding))

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes (1, side, side) of the noise maps in stored order: 4, 8, 8, 16, 16, ..."""
        return noise_shapes(self.resolution)

    def truncate(self, w: Tensor, psi: float, cutoff: int | None) -> Tensor:
        """(N, w_dim) to (N, styles, w_dim), the first `cutoff` styles (None: all) drawn to the average by `psi`."""
        w = w[:, None].repeat(1, self.styles, 1)
        if psi != 1:
            average: Tensor = self.mapping.w_avg  # type: ignore[assignment]
            w[:, :cutoff] = average.lerp(w[:, :cutoff], psi)
        return w

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: Sequence[Tensor] | Literal["const", "none"] = "const",
    ) -> Tensor:
        """Images (N, 3, H, W), unclamped.

        noise  "const": the maps stored with the weights; "none"; or maps (N, 1, side, side), see `noise_shapes`.
        """
        if not isinstance(noise, str) and [tuple(map_.shape[1:]) for map_ in noise] != self.noise_shapes():
            raise ValueError(f"noise maps have shapes {self.noise_shapes()}, not {[tuple(m.shape[1:]) for m in noise]}")
        return self.synthesis(self.truncate(self.mapping(z, label), psi, cutoff), noise)


def noise_shapes(resolution: int) -> list[tuple[int, int, int]]:
    """Shapes of the noise maps of a generator of this resolution, in stored order."""
    return [(1, size, size) for size in resolutions(resolution) for _ in range(1 if size == 4 else 2)]


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: two for each side 4, 8, ..., `resolution`."""
    return 2 * len(resolutions(architecture["resolution"]))


def draw(
    architecture: Mapping[str, Any], seed: int, noise: Literal["per-seed", "const", "none"]
) -> dict[str, FloatArray]:
    """What one image is made from: z (z_dim,) and, with "per-seed", noise0, noise1, ... (1, side, side), float32.

    One numpy RandomState(seed) gives z, then all noise maps in stored order, as the official TensorFlow code does.
    """
    state = np.random.RandomState(seed)
    rows = {"z": state.randn(1, architecture["z_dim"])[0].astype(np.float32)}
    if noise == "per-seed":
        for index, shape in enumerate(noise_shapes(architecture["resolution"])):
            rows[f"noise{index}"] = state.randn(1, *shape)[0].astype(np.float32)
    return rows


@torch.no_grad()
def render(
    generator: Generator,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: Literal["per-seed", "const", "none"] = "per-seed",
) -> Tensor:
    """Images (N, 3, H, W) float32, unclamped, of drawn rows: "z", "label" if conditional, "noise0", ..."""
    maps: Sequence[Tensor] | Literal["const", "none"]
    maps = [rows[f"noise{index}"] for index in range(len(generator.noise_shapes()))] if noise == "per-seed" else noise
    return generator(rows["z"], rows.get("label"), psi=psi, cutoff=cutoff, noise=maps)


to_uint8 = truncating_uint8
