"""Glow: an invertible network between images and normal numbers (Kingma and Dhariwal 2018, arXiv:1807.03039).

Each level squeezes 2 x 2 pixels into channels, then repeats a step of flow (table 1 of the paper): actnorm, an
invertible 1 x 1 convolution, and a coupling, in which half of the channels changes the other half. All levels but the
last give half of their channels to the latents, whose distribution depends on the other half. Details that the paper
leaves open (scales of logarithms, a map of the border, the order of channels) are those of the authors' code.

Images are (N, 3, H, W) float32, here -0.5..0.5 (`encode`, `decode`), outside -1..1; latents are (N, d), a level after
the other, each with channels last, as the authors' programs hold them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.networks.initial_weights import normal
from stages.generators.glow_latents import of_own_stream, read_directions, shared
from stages.generators.layers import rounding_uint8
from stages.weights.weights_file import WeightsError

NOISES: tuple[str, ...] = ()  # the latents are the only source of randomness
LOG_SCALE = 3.0  # factor on stored logarithms
TEMPERATURE = 0.7
RATE = 20.0  # 1 / deviation of new kernels
WORST_CONDITION = 1e6  # of a 1x1 convolution


class ActNorm(nn.Module):
    """(x + bias) exp(3 logs), per channel (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.logs = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias[:, None, None]) * (self.logs * LOG_SCALE).exp()[:, None, None]

    def inverse(self, y: Tensor) -> Tensor:
        return y * (self.logs * -LOG_SCALE).exp()[:, None, None] - self.bias[:, None, None]

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Mean 0 and deviation 1 per channel for this batch (data-dependent initialization)."""
        self.bias.copy_(-x.mean(dim=(0, 2, 3)))
        deviation = x.var(dim=(0, 2, 3), correction=0).sqrt()
        self.logs.copy_((deviation + 1e-6).log() / -LOG_SCALE)


class Bordered(nn.Module):
    """A 3 x 3 convolution that also sees a map of ones around the image; without a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(self.first_values(outputs, inputs + 1, 3, 3))

    def first_values(self, *shape: int) -> Tensor:
        return normal(*shape, rate=RATE)

    def forward(self, x: Tensor) -> Tensor:
        border = F.pad(torch.zeros_like(x[:, :1]), (1, 1, 1, 1), value=1.0)
        return F.conv2d(torch.cat([F.pad(x, (1, 1, 1, 1)), border], dim=1), self.weight)


class ZeroConvolution(Bordered):
    """One that begins as zero: (y + bias) exp(3 logs)."""

    def first_values(self, *shape: int) -> Tensor:
        return torch.zeros(shape)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.logs = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) + self.bias[:, None, None]) * (self.logs * LOG_SCALE).exp()[:, None, None]


class Pointwise(nn.Module):
    """A 1 x 1 convolution, without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(width, width, 1, 1, rate=RATE))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


class Coupling(nn.Module):
    """The network inside a coupling; `begin` is that of its normalizations, on the way."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = Bordered(inputs, width), ActNorm(width)
        self.conv2, self.norm2 = Pointwise(width), ActNorm(width)
        self.last = ZeroConvolution(width, outputs)

    def forward(self, x: Tensor, begin: bool = False) -> Tensor:
        for convolution, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = convolution(x)
            if begin:
                norm.begin(x)
            x = F.relu(norm(x))
        return self.last(x)  # type: ignore[no-any-return]


class Step(nn.Module):
    """A step of flow; the matrix of its 1 x 1 convolution multiplies rows of channels from the right."""

    def __init__(self, channels: int, width: int, affine: bool) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        matrix = normal(channels, channels)
        self.matrix = nn.Parameter(matrix if matrix.is_meta else torch.linalg.qr(matrix)[0])
        self.affine, half = affine, channels // 2
        self.coupling = Coupling(half, channels if affine else half, width)
        self._kept: tuple[Any, Tensor] | None = None

    def forward(self, x: Tensor, begin: bool = False) -> tuple[Tensor, Tensor]:
        """The changed image, and the logarithm of the volume's change (N,)."""
        if begin:
            self.norm.begin(x)
        pixels = x.shape[2] * x.shape[3]
        logarithm = pixels * (self.norm.logs.sum() * LOG_SCALE + torch.linalg.slogdet(self.matrix)[1])
        a, b = mixed(self.norm(x), self.matrix).chunk(2, dim=1)
        change = self.coupling(a, begin)
        if not self.affine:
            return torch.cat([a, b + change], dim=1), logarithm.expand(len(x))
        shift, scale = change[:, 0::2], change[:, 1::2] + 2
        inside = F.logsigmoid(scale).flatten(1).sum(dim=1)
        return torch.cat([a, (b + shift) * scale.sigmoid()], dim=1), logarithm + inside

    def inverse(self, y: Tensor) -> Tensor:
        a, b = y.chunk(2, dim=1)
        change = self.coupling(a)
        b = b / (change[:, 1::2] + 2).sigmoid() - change[:, 0::2] if self.affine else b - change
        return self.norm.inverse(mixed(torch.cat([a, b], dim=1), self.inverted()))

    def inverted(self) -> Tensor:
        """The inverse of the matrix, computed in double precision on the CPU, and kept while the matrix is the same."""
        matrix = self.matrix
        key = (id(matrix), matrix._version, matrix.data_ptr(), matrix.device)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, torch.linalg.inv(matrix.detach().double().cpu()).float().to(matrix.device)
        return self._kept[1]


def mixed(x: Tensor, matrix: Tensor) -> Tensor:
    """Channels times a matrix, at each pixel."""
    return F.conv2d(x, matrix.T[:, :, None, None])


class Embedding(nn.Module):
    """A label's share in the distribution of the last level: (label @ weight + bias) exp(3 logs)."""

    def __init__(self, classes: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.logs = nn.Parameter(torch.zeros(outputs))

    def forward(self, label: Tensor) -> Tensor:
        return (label @ self.weight + self.bias) * (self.logs * LOG_SCALE).exp()


class Generator(nn.Module):
    """The flow. The keyword arguments are the `architecture` of a weights file.

    bits       images have 2^bits levels per color
    learn_top  the mean and deviation of the last level's latents are learned
    """

    def __init__(
        self,
        *,
        resolution: int,
        levels: int,
        depth: int,
        width: int,
        c_dim: int = 0,
        coupling: str = "additive",
        bits: int = 8,
        learn_top: bool = True,
        colors: int = 3,
    ) -> None:
        super().__init__()
        if levels < 1 or resolution < 1 or resolution % (1 << min(levels, 32)):
            raise ValueError(f"{levels} levels need sides that are multiples of 2^{levels}, not {resolution!r}")
        if coupling not in ("additive", "affine") or not 1 <= bits <= 8:
            raise ValueError(f"coupling is {coupling!r} and bits {bits!r}; expected additive or affine, and 1 to 8")
        self.resolution, self.c_dim, self.w_dim, self.colors, self.bits = resolution, c_dim, 0, colors, bits
        self.levels, self.splits = nn.ModuleList(), nn.ModuleList()
        channels = colors
        for level in range(levels):
            channels *= 4
            self.levels.append(nn.ModuleList(Step(channels, width, coupling == "affine") for _ in range(depth)))
            if level < levels - 1:
                channels //= 2
                self.splits.append(ZeroConvolution(channels, 2 * channels))
        self.top = ZeroConvolution(2 * channels, 2 * channels) if learn_top else None
        self.embedding = Embedding(c_dim, 2 * channels) if c_dim else None
        self.channels = channels

    def shapes(self) -> list[tuple[int, int, int]]:
        """(H, W, C) of each level's latents, of images of `resolution`."""
        return latent_shapes(self.resolution, len(self.levels), self.colors)

    def prior(self, like: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation of the last level's latents, in the shape of `like`."""
        if self.embedding is not None and label is None:
            raise ValueError(f"this network is conditional: it needs a label of width {self.c_dim}")
        h = torch.cat([torch.zeros_like(like)] * 2, dim=1)
        h = h if self.top is None else self.top(h)
        if self.embedding is not None and label is not None:
            h = h + self.embedding(label)[:, :, None, None]
        mean, logs = h.chunk(2, dim=1)
        return mean, logs

    def encode(self, x: Tensor, label: Tensor | None = None, begin: bool = False) -> tuple[list[Tensor], Tensor]:
        """Normal numbers of each level (N, C, H, W) of images in -0.5..0.5, and their ln p(x) (N,).

        begin  normalizations begin with this batch
        """
        found, logarithm = [], x.new_zeros(len(x))
        for number, steps in enumerate(self.levels):
            x = F.pixel_unshuffle(x, 2)
            for step in steps:  # type: ignore[attr-defined]
                x, change = step(x, begin)
                logarithm = logarithm + change
            if number < len(self.splits):
                x, z = x.chunk(2, dim=1)
                h = self.splits[number](x)
                mean, logs = h[:, 0::2], h[:, 1::2]
            else:
                z, (mean, logs) = x, self.prior(x, label)
            found.append((z - mean) * (-logs).exp())
            logarithm = logarithm - (0.5 * (found[-1].square() + math.log(2 * math.pi)) + logs).flatten(1).sum(dim=1)
        return found, logarithm

    def decode(self, normals: list[Tensor], label: Tensor | None = None) -> Tensor:
        """Images of the normal numbers of each level, about -0.5..0.5."""
        mean, logs = self.prior(normals[-1], label)
        x = mean + logs.exp() * normals[-1]
        for number in reversed(range(len(self.levels))):
            if number < len(self.splits):
                h = self.splits[number](x)
                x = torch.cat([x, h[:, 0::2] + h[:, 1::2].exp() * normals[number]], dim=1)
            for step in reversed(self.levels[number]):  # type: ignore[call-overload]
                x = step.inverse(x)
            x = F.pixel_shuffle(x, 2)
        return x

    def forward(self, eps: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (N, colors, H, W) about -1..1, unclamped and of all shades, of latents (N, d)."""
        parts = eps.split([math.prod(shape) for shape in self.shapes()], dim=1)
        pieces = zip(parts, self.shapes(), strict=True)
        normals = [part.reshape(len(eps), *shape).permute(0, 3, 1, 2).contiguous() for part, shape in pieces]
        return self.decode(normals, label) * 2

    def worst_condition(self) -> float:
        """Largest condition number of a 1 x 1 convolution."""
        steps = [step for level in self.levels for step in level]  # type: ignore[attr-defined]
        return max(torch.linalg.cond(step.matrix.detach().double().cpu()).item() for step in steps)


def latent_shapes(resolution: int, levels: int, colors: int = 3) -> list[tuple[int, int, int]]:
    """(H, W, C) of each level's latents."""
    found = [(resolution >> level, resolution >> level, (colors << level)) for level in range(1, levels)]
    side = resolution >> levels
    return [*((h, w, c) for h, w, c in found), (side, side, colors << (levels + 1))]


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def accept(where: str, generator: Generator) -> None:
    """Raise WeightsError for a flow that cannot be inverted with the precision of its numbers."""
    condition = generator.worst_condition()
    if not condition <= WORST_CONDITION:
        raise WeightsError(
            f"{where} has a 1x1 convolution of condition number {condition:.2g}; above {WORST_CONDITION:.0e} images "
            "are rounding errors"
        )


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: none."""
    return 0


def drawing(given: Mapping[str, Any], directions: Path | None = None) -> dict[str, Any]:
    """Arguments of `draw`, from the settings of `sample` for this family."""
    return {**given, "directions": directions}


def draw(
    architecture: Mapping[str, Any],
    seed: int,
    noise: str = "none",
    *,
    temperature: float = TEMPERATURE,
    bits: int | None = None,
    shared_stream: int | None = None,
    directions: Path | None = None,
) -> dict[str, NDArray[np.float32]]:
    """What one image is made from: "eps" (d,), and "levels" () per color.

    temperature    standard deviation of the latents
    bits           2^bits levels; none: those of the architecture
    shared_stream  seed of one stream for all images, of which this is number `seed`; none: RandomState(seed) is its own
    directions     a file of directions, one of which is added by a random amount in -1..1
    """
    values = architecture.get("colors", 3) * architecture["resolution"] ** 2
    along = None if directions is None else read_directions(directions, values)
    if shared_stream is None:
        normals, tag, amount = of_own_stream(seed, values, along)
    else:
        normals, tag, amount = shared(shared_stream, values).image(seed)
    eps = temperature * normals
    if along is not None:
        eps = eps + amount * along[tag]
    levels = 2.0 ** (bits or architecture.get("bits", 8))
    return {"eps": eps.astype(np.float32), "levels": np.array(levels, np.float32)}


@torch.no_grad()
def render(
    generator: Generator,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: str = "none",
) -> Tensor:
    """Images (N, 3, H, W) float32 about -1..1, unclamped, reduced to their levels per color, of drawn rows.

    psi, cutoff and noise are those of other families; psi and cutoff must keep their values.
    """
    if psi != 1 or cutoff is not None:
        raise ValueError(f"a Glow has no styles to truncate: psi is 1 and cutoff is none, not {psi:g} and {cutoff}")
    levels = rows["levels"][:, None, None, None]
    shades = ((generator(rows["eps"], rows.get("label")) / 2 + 0.5) * levels).floor() * (256 / levels)
    return shades / 127.5 - 1


to_uint8 = rounding_uint8
