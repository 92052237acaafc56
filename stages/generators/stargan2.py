"""StarGAN v2: translation of a photograph to another domain (Choi et al. 2020, arXiv:1912.01865, section 2.1).

Written in plain torch operations. Four networks make one generator: the translating network, the mapping network (a
latent to a style), the style encoder (a photograph to a style) and, for faces, a landmark network whose masks carry
edges of the source past the bottleneck (`stargan2_masks`). Tensors have the names of the authors' checkpoints behind
the name of their network: "generator.encode.0.conv1.weight". The discriminator is in `stargan2_discriminator`.

Notation: images are (N, 3, H, W) float32, about -1..1, RGB; latents (N, z_dim) and styles (N, w_dim) float32;
domains (N,) int64 from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.generators import paddings
from stages.generators.layers import SLOPE
from stages.generators.paddings import ZEROS, bordered
from stages.generators.stargan2_masks import LandmarkNetwork, edge_masks

FloatArray = NDArray[np.float32]
Masks = tuple[Tensor, Tensor]

NOISES: tuple[str, ...] = ()
WIDTH_TIMES_RESOLUTION = 1 << 14  # of the authors' networks: 64 maps at 256 pixels
EDGE_SIDES = (32, 64, 128)  # sides of features that get edges of the source
AVERAGED_LATENTS = 10_000  # for the average style


def widths(resolution: int, width: int | None, max_width: int, halvings: int) -> list[int]:
    """Feature maps before the first and after each halving of the image, doubling up to `max_width`."""
    if resolution not in (1 << power for power in range(5, 13)):
        raise ValueError(f"the resolution of a StarGAN2 network is a power of two from 32 to 4096, not {resolution!r}")
    first = max(WIDTH_TIMES_RESOLUTION // resolution, 1) if width is None else width
    if first < 1 or max_width < 1:
        raise ValueError(f"a StarGAN2 network has widths of at least 1, not width {first}, max_width {max_width}")
    found = [first]
    for _ in range(halvings):
        found.append(min(found[-1] * 2, max_width))
    return found


def initialize(network: nn.Module) -> None:
    """He initialization for rectifiers by fan-in, biases 0, of the authors' training; none on torch's meta device."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def chosen(rows: Sequence[Tensor], domain: Tensor) -> Tensor:
    """From one (N, C) tensor per domain, the row of each image's domain; raises ValueError for an unknown domain."""
    if domain.ndim != 1 or len(domain) != len(rows[0]):
        raise ValueError(f"one domain for each of {len(rows[0])} images is needed, not the shape {tuple(domain.shape)}")
    on_host = domain.device.type == "cpu"  # a GPU would have to be waited for; it refuses such an index by itself
    if on_host and domain.numel() and not 0 <= int(domain.min()) <= int(domain.max()) < len(rows):
        found = sorted(set(domain.tolist()))
        raise ValueError(f"this network has the domains 0 to {len(rows) - 1}, not all of {found}")
    return torch.stack(list(rows), dim=1)[torch.arange(len(domain), device=domain.device), domain]


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, with or without halving and instance normalization."""

    def __init__(self, inputs: int, outputs: int, *, normalized: bool = False, down: bool = False) -> None:
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = nn.InstanceNorm2d(inputs, affine=True) if normalized else nn.Identity()
        self.norm2 = nn.InstanceNorm2d(inputs, affine=True) if normalized else nn.Identity()
        self.conv1x1 = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.conv1x1(x)
        shortcut = F.avg_pool2d(shortcut, 2) if self.down else shortcut
        x = self.conv1(F.leaky_relu(self.norm1(x), SLOPE))
        x = F.avg_pool2d(x, 2) if self.down else x
        x = self.conv2(F.leaky_relu(self.norm2(x), SLOPE))
        return (x + shortcut) / math.sqrt(2)


class AdaptiveNorm(nn.Module):
    """Instance normalization, then scale and shift by the style (AdaIN): (1 + gamma) x + beta."""

    def __init__(self, features: int, w_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(w_dim, 2 * features)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gamma, beta = self.fc(style)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * F.instance_norm(x) + beta


class StyledBlock(nn.Module):
    """Two convolutions behind adaptive normalizations, with or without doubling.

    A network that gets edges of the source (`edges`) has no shortcut, but its checkpoints store the layer.
    """

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, *, up: bool = False, edges: bool = False, padding: str = ZEROS
    ) -> None:
        super().__init__()
        self.up, self.edges, self.padding = up, edges, padding
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1 = AdaptiveNorm(inputs, w_dim)
        self.norm2 = AdaptiveNorm(outputs, w_dim)
        self.conv1x1 = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def _sized(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        main = bordered(self.conv1, self._sized(F.leaky_relu(self.norm1(x, style), SLOPE)), self.padding)
        main = bordered(self.conv2, F.leaky_relu(self.norm2(main, style), SLOPE), self.padding)
        return main if self.edges else (main + self.conv1x1(self._sized(x))) / math.sqrt(2)


def high_pass(x: Tensor, divisor: float) -> Tensor:
    """Laplacian over 3x3 pixels (8 in the middle, -1 around; zeros outside), divided."""
    kernel = torch.full((3, 3), -1.0, dtype=x.dtype, device=x.device)
    kernel[1, 1] = 8
    return F.conv2d(x, (kernel / divisor).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


class Translator(nn.Module):
    """Source image and style to an image: halving blocks, four at the bottleneck, doubling blocks."""

    def __init__(
        self,
        resolution: int,
        w_dim: int,
        width: int | None,
        max_width: int,
        w_hpf: float,
        colors: int,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        self.w_hpf = w_hpf
        halvings = int(math.log2(resolution)) - 4 + (w_hpf > 0)
        sizes = widths(resolution, width, max_width, halvings)
        steps, bottom, edges = list(pairwise(sizes)), sizes[-1], w_hpf > 0
        self.from_rgb = nn.Conv2d(colors, sizes[0], 3, padding=1)
        self.encode = nn.ModuleList(
            [ResidualBlock(small, large, normalized=True, down=True) for small, large in steps]
            + [ResidualBlock(bottom, bottom, normalized=True) for _ in range(2)]
        )
        self.decode = nn.ModuleList(
            [StyledBlock(bottom, bottom, w_dim, edges=edges) for _ in range(2)]
            + [
                StyledBlock(
                    large, small, w_dim, up=True, edges=edges, padding=padding if number == len(steps) else ZEROS
                )
                for number, (small, large) in enumerate(reversed(steps), 1)
            ]
        )
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(sizes[0], affine=True), nn.LeakyReLU(SLOPE), nn.Conv2d(sizes[0], colors, 1)
        )
        initialize(self)

    def forward(self, image: Tensor, style: Tensor, masks: Masks | None = None) -> Tensor:
        """Images (N, colors, H, W), unclamped; `masks` are those of `Generator.masks`."""
        x, kept = self.from_rgb(image), {}
        for block in self.encode:
            if masks is not None and x.shape[2] in EDGE_SIDES:
                kept[x.shape[2]] = x
            x = block(x)
        for block in self.decode:
            x = block(x, style)
            side = x.shape[2]
            if masks is not None and side in kept:
                mask = F.interpolate(masks[0 if side == 32 else 1], size=(side, side), mode="bilinear")
                x = x + high_pass(mask * kept[side], self.w_hpf)
        return self.to_rgb(x)


class MappingNetwork(nn.Module):
    """Latent and domain to a style: four shared layers, then four of each domain."""

    def __init__(self, z_dim: int, w_dim: int, c_dim: int, width: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(*self._layers([z_dim] + [width] * 4))
        self.unshared = nn.ModuleList(
            [nn.Sequential(*self._layers([width] * 4), nn.Linear(width, w_dim)) for _ in range(c_dim)]
        )
        initialize(self)

    @staticmethod
    def _layers(sizes: Sequence[int]) -> list[nn.Module]:
        pairs = pairwise(sizes)
        return [layer for inputs, outputs in pairs for layer in (nn.Linear(inputs, outputs), nn.ReLU())]

    def forward(self, z: Tensor, domain: Tensor) -> Tensor:
        h = self.shared(z)
        return chosen([head(h) for head in self.unshared], domain)


def trunk(resolution: int, width: int | None, max_width: int, colors: int) -> tuple[list[nn.Module], int]:
    """Layers of the style encoder and the discriminator down to 1x1 pixel, and their number of outputs."""
    sizes = widths(resolution, width, max_width, int(math.log2(resolution)) - 2)
    steps = pairwise(sizes)
    return [
        nn.Conv2d(colors, sizes[0], 3, padding=1),
        *[ResidualBlock(small, large, down=True) for small, large in steps],
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(sizes[-1], sizes[-1], 4),
        nn.LeakyReLU(SLOPE),
    ], sizes[-1]


class StyleEncoder(nn.Module):
    """Reference image and domain to a style."""

    def __init__(self, resolution: int, w_dim: int, c_dim: int, width: int | None, max_width: int, colors: int) -> None:
        super().__init__()
        layers, features = trunk(resolution, width, max_width, colors)
        self.shared = nn.Sequential(*layers)
        self.unshared = nn.ModuleList([nn.Linear(features, w_dim) for _ in range(c_dim)])
        initialize(self)

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        h = self.shared(image).flatten(1)
        return chosen([head(h) for head in self.unshared], domain)


class Generator(nn.Module):
    """The networks that translate images. The keyword arguments are the `architecture` of a weights file.

    z_dim, w_dim, c_dim   width of latents, width of styles, number of domains
    width, max_width      feature maps at full resolution (None: the authors' 2^14 / resolution) and their limit
    w_hpf                 divisor of the source's edges; 0: none are carried over
    fan                   a landmark network for the masks of these edges is part of the generator
    padding               what layers of the last block see beyond a border, one of `paddings.PADDINGS`
    """

    def __init__(
        self,
        *,
        resolution: int,
        c_dim: int,
        z_dim: int = 16,
        w_dim: int = 64,
        width: int | None = None,
        max_width: int = 512,
        mapping_width: int = 512,
        w_hpf: float = 0.0,
        fan: bool = False,
        colors: int = 3,
        padding: str = ZEROS,
    ) -> None:
        super().__init__()
        if c_dim < 1:
            raise ValueError(f"StarGAN2 translates between domains: c_dim is at least 1, not {c_dim!r}")
        if w_hpf < 0 or (fan and (w_hpf == 0 or colors != 3)):
            found = f"w_hpf {w_hpf!r}, fan {fan!r}, colors {colors!r}"
            raise ValueError(
                f"a StarGAN2 has w_hpf >= 0, and a landmark network only with w_hpf > 0 and RGB; not {found}"
            )
        self.resolution, self.z_dim, self.w_dim, self.c_dim, self.w_hpf = resolution, z_dim, w_dim, c_dim, w_hpf
        self.generator = Translator(resolution, w_dim, width, max_width, w_hpf, colors, paddings.check(padding))
        self.mapping_network = MappingNetwork(z_dim, w_dim, c_dim, mapping_width)
        self.style_encoder = StyleEncoder(resolution, w_dim, c_dim, width, max_width, colors)
        self.fan = LandmarkNetwork() if fan else None

    def style_of_latent(self, z: Tensor, domain: Tensor) -> Tensor:
        """Styles (N, w_dim) of latents (N, z_dim)."""
        return self.mapping_network(z, domain)

    def style_of_reference(self, images: Tensor, domain: Tensor) -> Tensor:
        """Styles (N, w_dim) of reference images (N, 3, H, W)."""
        return self.style_encoder(images, domain)

    @torch.no_grad()
    def average_style(self, domain: Tensor, latents: Tensor | None = None) -> Tensor:
        """(N, w_dim): mean style of each domain over `latents` (M, z_dim).

        None: the first 10,000 rows of standard normal numbers of numpy's RandomState(0), as float32.
        """
        if latents is None:
            drawn = np.random.RandomState(0).randn(AVERAGED_LATENTS, self.z_dim).astype(np.float32)
            latents = torch.from_numpy(drawn).to(domain.device)
        known, place = domain.unique(return_inverse=True)
        means = [self.mapping_network(latents, index.expand(len(latents))).mean(dim=0) for index in known]
        return torch.stack(means)[place]

    def truncate(self, style: Tensor, domain: Tensor, psi: float, latents: Tensor | None = None) -> Tensor:
        """Styles drawn to the average one of their domain: average + psi (style - average)."""
        return style if psi == 1 else self.average_style(domain, latents).lerp(style, psi)

    def masks(self, source: Tensor) -> Masks | None:
        """Two masks (N, 1, 256, 256) of facial features in 0..1, for features of side 32 and for larger ones.

        None if the network carries no edges over or has no landmark network.
        """
        if self.fan is None or self.w_hpf == 0:
            return None
        with torch.no_grad():
            return edge_masks(self.fan, source)

    def translate(self, source: Tensor, style: Tensor, masks: Masks | None = None) -> Tensor:
        """Images (N, 3, H, W), unclamped: the content of `source` (N, 3, H, W) in the style (N, w_dim)."""
        side = self.resolution
        if source.shape[2:] != (side, side):
            raise ValueError(f"this StarGAN2 translates images of {side}x{side} pixels, not {tuple(source.shape[2:])}")
        return self.generator(source, style, masks)

    forward = translate


def styles(architecture: Mapping[str, Any]) -> int:
    """0: truncation cannot be cut off at a layer."""
    return 0


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def _refuse_noise(noise: str | None) -> None:
    if noise not in (None, "none"):
        raise ValueError(f"StarGAN2 has no noise maps: its noise is None, not {noise!r}")


def draw(architecture: Mapping[str, Any], seed: int, noise: str | None = None) -> dict[str, FloatArray]:
    """The latent z (z_dim,) float32 of one image, from numpy's RandomState(seed)."""
    _refuse_noise(noise)
    return {"z": np.random.RandomState(seed).randn(1, architecture.get("z_dim", 16))[0].astype(np.float32)}


@torch.no_grad()
def render(
    generator: Generator,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: str | None = None,
) -> Tensor:
    """Images (N, 3, H, W) float32, unclamped, of rows "source", "domain" and either "z" or "reference".

    psi draws styles of latents to the average style of their domain; a style of a reference stays as it is.
    """
    _refuse_noise(noise)
    if cutoff is not None:
        raise ValueError(f"StarGAN2 has one style for all layers: its truncation has no cutoff, not {cutoff!r}")
    if ("z" in rows) == ("reference" in rows):
        raise ValueError(f'a translation needs either "z" or "reference", found the rows {sorted(rows)}')
    if "reference" in rows and psi != 1:
        raise ValueError(f"the style of a reference image is not truncated: psi is 1, not {psi!r}")
    source, domain = rows["source"], rows["domain"].long()
    if "z" in rows:
        style = generator.truncate(generator.style_of_latent(rows["z"], domain), domain, psi)
    else:
        style = generator.style_of_reference(rows["reference"], domain)
    return generator.translate(source, style, generator.masks(source))


def to_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float to (N, H, W, 3) uint8 by the rule: y = (x + 1) / 2 clipped to 0..1, floor(255 y + 0.5)."""
    y = ((images + 1) / 2).clamp(0, 1)
    return (y * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
