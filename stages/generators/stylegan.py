"""StyleGAN: mapping network and a synthesis network that grows (Karras et al. 2019, arXiv:1812.04948).

Written from the paper in plain torch operations: section 2 and figure 1 for the layers, appendix B for truncation,
appendix C for the details. It grows as ProGAN does (see `progan`), and `lod` has the same meaning. Arguments that only
a foreign version of the network needs say so. The discriminator is in `stylegan_discriminator`.

Notation: images are (N, colors, H, W) float32, about -1..1, RGB; z, w and one-hot labels are (N, dimensions) float32.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks.initial_weights import normal
from stages.generators import low_pass, paddings
from stages.generators.growing import level_of, upsample, widths
from stages.generators.layers import SLOPE, Linear, normalize, resolutions, truncating_uint8
from stages.generators.paddings import ZEROS, Convolution, bordered

FloatArray = NDArray[np.float32]
Fused = Literal["auto"] | bool | int
Noise = Sequence[Tensor] | Literal["const", "none"]

NOISES: tuple[str, ...] = ("per-seed", "const", "none")
FUSED_FROM = 128  # pixels: from this side on the authors upsample and convolve in one step


def is_fused(fused: Fused, side: int) -> bool:
    """Whether the layer whose larger side is `side` resamples and convolves in one strided step."""
    if fused == "auto":
        return side >= FUSED_FROM
    if isinstance(fused, bool):
        return fused
    if type(fused) is not int or fused < 8 or fused & (fused - 1):
        raise ValueError(f"fused is the first side, 8, 16, ..., or one of 'auto', true and false, not {fused!r}")
    return side >= fused


def blur_filter(x: Tensor) -> Tensor:
    """[1, 2, 1] / 4 along both axes, (1, 1, 3, 3) (section 2; Zhang 2019, arXiv:1904.11486)."""
    return low_pass.kernel_of((0.25, 0.5, 0.25), x.dtype, x.device)


def blur(x: Tensor, kernel: Tensor | None = None, padding: str = ZEROS) -> Tensor:
    """Low-pass filter; kernel (C, 1, 3, 3) other than the usual one."""
    given = blur_filter(x) if kernel is None else kernel
    return bordered(lambda maps: low_pass.filtered(maps, given, (1, 1)), x, padding)


class MappingNetwork(nn.Module):
    """z (and a label) to w (N, w_dim): fully connected layers at a hundredth of the learning rate.

    A label is embedded linearly, to as many numbers as z has; both are scaled together to unit mean square.
    """

    w_avg: Tensor

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, *, layers: int, features: int, rate: float, normalize_latents: bool
    ) -> None:
        super().__init__()
        if layers not in range(1, 65):
            raise ValueError(f"a mapping network has 1 to 64 layers, not {layers!r}")
        self.z_dim, self.c_dim, self.layers, self.normalize_latents = z_dim, c_dim, layers, normalize_latents
        if c_dim:
            self.embed = Linear(c_dim, z_dim, gain=math.sqrt(c_dim), bias=False)  # the gain undoes the scaling
        sizes = [2 * z_dim if c_dim else z_dim, *[features] * (layers - 1), w_dim]
        for index in range(layers):
            self.add_module(f"fc{index}", Linear(sizes[index], sizes[index + 1], rate=rate))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = z
        if self.c_dim:
            if label is None:
                raise ValueError(f"this network is conditional: it needs a label of width {self.c_dim}")
            x = torch.cat([z, self.embed(label)], dim=1)
        x = normalize(x) if self.normalize_latents else x
        for index in range(self.layers):
            x = F.leaky_relu(self.get_submodule(f"fc{index}")(x), SLOPE)
        return x


class Epilogue(nn.Module):
    """What follows each convolution: noise, bias, leaky rectifier, instance normalization, style (figure 1b).

    The style scales and shifts each normalized feature map (AdaIN, equation 1); its factors are learned as differences
    from 1. Without `stored` there is no map of constant noise.
    """

    noise_const: Tensor

    def __init__(self, channels: int, w_dim: int, side: int, *, epsilon: float, stored: bool) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.noise_strength = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.affine = Linear(w_dim, 2 * channels, gain=1)
        if stored:
            self.register_buffer("noise_const", normal(side, side))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, *, bias: bool = True) -> Tensor:
        if noise is not None:
            x = x + noise * self.noise_strength[:, None, None]
        x = x + self.bias[:, None, None] if bias else x
        x = F.instance_norm(F.leaky_relu(x, SLOPE), eps=self.epsilon)
        scale, shift = self.affine(w)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift


class Block(nn.Module):
    """The layers of one resolution: the learned constant (no inputs) or an upsampling layer, a second layer, colors.

    early_bias     the bias of the upsampling layer is added before its blur
    stored_filter  the blur's filter is a tensor of the network
    """

    filter: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        side: int,
        colors: int,
        *,
        fused: bool,
        epsilon: float,
        stored_noise: bool,
        early_bias: bool,
        stored_filter: bool,
        padding: str,
    ) -> None:
        super().__init__()
        self.early_bias, self.padding = early_bias, padding
        if inputs:
            self.conv0 = Convolution(inputs, outputs, resample="up", fused=fused, bias=False, padding=padding)
        else:
            self.const = nn.Parameter(torch.ones(outputs, side, side))
        kernel = blur_filter(torch.empty(1)).repeat(outputs, 1, 1, 1) if inputs and stored_filter else None
        self.register_buffer("filter", kernel)
        self.style0 = Epilogue(outputs, w_dim, side, epsilon=epsilon, stored=stored_noise)
        self.conv1 = Convolution(outputs, outputs, bias=False, padding=padding)
        self.style1 = Epilogue(outputs, w_dim, side, epsilon=epsilon, stored=stored_noise)
        self.torgb = Convolution(outputs, colors, 1, gain=1)

    def forward(self, x: Tensor | None, w: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
        """`w` (N, 2, w_dim) and two maps of noise, or None, for the two layers."""
        if x is None:
            x = self.style0(self.const.expand(len(w), -1, -1, -1), w[:, 0], noise[0])
        elif self.early_bias:
            x = blur(self.conv0(x) + self.style0.bias[:, None, None], self.filter, self.padding)
            x = self.style0(x, w[:, 0], noise[0], bias=False)
        else:
            x = self.style0(blur(self.conv0(x), self.filter, self.padding), w[:, 0], noise[0])
        return self.style1(self.conv1(x), w[:, 1], noise[1])


class SynthesisNetwork(nn.Module):
    """w to an image: blocks b4, b8, ... of growing resolution, each with its own layer to colors."""

    def __init__(
        self,
        w_dim: int,
        resolution: int,
        colors: int,
        width: Mapping[int, int],
        fused: Fused,
        *,
        shared_noise: bool,
        early_bias: bool,
        stored_filter: bool,
        epsilon: float,
        padding: str,
    ) -> None:
        super().__init__()
        self.resolution, self.sides, self.shared_noise = resolution, resolutions(resolution), shared_noise
        inputs = 0
        for side in self.sides:
            block = Block(
                inputs,
                width[side],
                w_dim,
                side,
                colors,
                fused=is_fused(fused, side),
                epsilon=epsilon,
                stored_noise=not shared_noise,
                early_bias=early_bias,
                stored_filter=stored_filter,
                padding=padding if side == resolution else ZEROS,
            )
            self.add_module(f"b{side}", block)
            inputs = width[side]

    def blocks(self) -> list[Block]:
        return [self.get_submodule(f"b{side}") for side in self.sides]  # type: ignore[misc]

    def maps(self, noise: Noise, index: int) -> Sequence[Tensor | None]:
        """Noise of the two layers of one block."""
        if isinstance(noise, str):
            if noise == "none":
                return None, None
            if self.shared_noise:
                raise ValueError("this network has no stored noise; its noise is 'per-seed' or 'none', not 'const'")
            block = self.blocks()[index]
            return block.style0.noise_const, block.style1.noise_const
        if self.shared_noise:
            return noise[index], noise[index]
        return noise[2 * index : 2 * index + 2]

    def forward(self, w: Tensor, noise: Noise = "const", *, lod: float = 0.0, native: bool = False) -> Tensor:
        """`w` (N, styles, w_dim); other arguments as in `Generator.forward`."""
        level, fraction = level_of(w.new_tensor(lod), lod, self.resolution)
        blocks = self.blocks()[: len(self.sides) - level]
        x: Tensor | None = None
        coarser: Tensor | None = None
        for index, block in enumerate(blocks):
            if fraction and index == len(blocks) - 1:
                coarser = upsample(self.blocks()[index - 1].torgb(x))
            x = block(x, w[:, 2 * index : 2 * index + 2], self.maps(noise, index))
        image: Tensor = blocks[-1].torgb(x)
        image = image if coarser is None else image.lerp(coarser, fraction)
        return image if native else upsample(image, 1 << level)


class Generator(nn.Module):
    """z and label to an image. The keyword arguments are the `architecture` of a weights file.

    fused          upsample and convolve in one strided step; "auto": from 128 pixels on; a number: from this side on
    features       feature maps at 4, 8, ... pixels, for networks that do not follow the rule of the authors
    shared_noise   both layers of a resolution add the same map, and none is stored (style-based-gan-pytorch)
    early_bias     an upsampling layer adds its bias before the blur (style-based-gan-pytorch)
    stored_filter  the low-pass filter after upsampling is a tensor of the file (style-based-gan-pytorch)
    norm_epsilon   added to the variance by the instance normalization
    padding        what layers of the last block see beyond a border, one of `paddings.PADDINGS`
    """

    lod: Tensor

    def __init__(
        self,
        *,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        resolution: int,
        colors: int = 3,
        fmap_base: float = 8192,
        fmap_decay: float = 1.0,
        fmap_max: int = 512,
        features: Sequence[int] | None = None,
        fused: Fused = "auto",
        mapping_layers: int = 8,
        mapping_features: int = 512,
        mapping_rate: float = 0.01,
        normalize_latents: bool = True,
        shared_noise: bool = False,
        early_bias: bool = False,
        stored_filter: bool = False,
        norm_epsilon: float = 1e-8,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.resolution = z_dim, c_dim, w_dim, resolution
        self.styles, self.shared_noise = 2 * len(resolutions(resolution)), shared_noise
        self.mapping = MappingNetwork(
            z_dim,
            c_dim,
            w_dim,
            layers=mapping_layers,
            features=mapping_features,
            rate=mapping_rate,
            normalize_latents=normalize_latents,
        )
        self.synthesis = SynthesisNetwork(
            w_dim,
            resolution,
            colors,
            widths(resolution, fmap_base, fmap_decay, fmap_max, features),
            fused,
            shared_noise=shared_noise,
            early_bias=early_bias,
            stored_filter=stored_filter,
            epsilon=norm_epsilon,
            padding=paddings.check(padding),
        )
        self.register_buffer("lod", torch.zeros(()))

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes (1, side, side) of the noise maps in stored order: 4, 4, 8, 8, ..., or each once if shared."""
        return noise_shapes(self.resolution, self.shared_noise)

    def truncate(self, w: Tensor, psi: float, cutoff: int | None) -> Tensor:
        """(N, w_dim) to (N, styles, w_dim), the first `cutoff` styles (None: all) drawn to the average by `psi`."""
        w = w[:, None].repeat(1, self.styles, 1)
        if psi != 1:
            w[:, :cutoff] = self.mapping.w_avg.lerp(w[:, :cutoff], psi)
        return w

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: Noise = "const",
        lod: float | None = None,
        native: bool = False,
    ) -> Tensor:
        """Images, unclamped, of the full resolution; with `native` of the resolution that `lod` computes.

        noise  "const": the maps stored with the weights; "none"; or maps (N, 1, side, side), see `noise_shapes`
        lod    0 (finished) to log2(resolution) - 2 (4x4 pixels); None: the one stored with the weights
        """
        if not isinstance(noise, str) and [tuple(map_.shape[1:]) for map_ in noise] != self.noise_shapes():
            raise ValueError(f"noise maps have shapes {self.noise_shapes()}, not {[tuple(m.shape[1:]) for m in noise]}")
        styles = self.truncate(self.mapping(z, label), psi, cutoff)
        return self.synthesis(styles, noise, lod=float(self.lod) if lod is None else lod, native=native)


@torch.no_grad()
def mean_style(mapping: MappingNetwork, batches: int = 10, size: int = 1024) -> Tensor:
    """Mean w (w_dim,) float32 of the z of numpy's RandomState(0), for unconditional weights without a running average.

    Computed in float64, so that processors hardly differ.
    """
    state, mapping = np.random.RandomState(0), copy.deepcopy(mapping).double()
    means = [mapping(torch.from_numpy(state.randn(size, mapping.z_dim))).mean(dim=0) for _ in range(batches)]
    return torch.stack(means).mean(dim=0).float()


def noise_shapes(resolution: int, shared: bool = False) -> list[tuple[int, int, int]]:
    """Shapes of the noise maps of a generator of this resolution, in stored order."""
    return [(1, side, side) for side in resolutions(resolution) for _ in range(1 if shared else 2)]


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off."""
    return 2 * len(resolutions(architecture["resolution"]))


def draw(architecture: Mapping[str, Any], seed: int, noise: str) -> dict[str, FloatArray]:
    """What one image is made from: z (z_dim,) and, with "per-seed", noise0, noise1, ... (1, side, side), float32.

    One numpy RandomState(seed) gives z, then all noise maps in stored order.
    """
    state = np.random.RandomState(seed)
    rows = {"z": state.randn(1, architecture["z_dim"])[0].astype(np.float32)}
    if noise == "per-seed":
        shapes = noise_shapes(architecture["resolution"], architecture.get("shared_noise", False))
        for index, shape in enumerate(shapes):
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
    maps: Noise
    maps = [rows[f"noise{index}"] for index in range(len(generator.noise_shapes()))] if noise == "per-seed" else noise
    return generator(rows["z"], rows.get("label"), psi=psi, cutoff=cutoff, noise=maps)


to_uint8 = truncating_uint8
