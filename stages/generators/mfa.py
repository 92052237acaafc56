"""A mixture of factor analyzers over whole images (Richardson and Weiss 2018, arXiv:1805.12462): "GMM" in Chai et al.

An image is mu + A z of a component, a vector of all its values with channels first, in 0..1. Published samples leave
the noise of pixels out. `mfa_densities` has densities and the step of a fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.generators.mfa_densities import Mixture

NOISES: tuple[str, ...] = ()  # there are no noise maps


class Generator(nn.Module):
    """Means, loadings, logarithms of noise variances, and logits of the weights of all components.

    z_dim  factors of a component
    noise  "scalar": one variance for each component; "diagonal": one for each of its values
    """

    def __init__(
        self, *, components: int, z_dim: int, resolution: int, c_dim: int = 0, noise: str = "scalar", colors: int = 3
    ) -> None:
        super().__init__()
        values = colors * resolution * resolution
        if c_dim:
            raise ValueError(f"a mixture of factor analyzers has no classes: c_dim is 0, not {c_dim!r}")
        if noise not in ("scalar", "diagonal"):
            raise ValueError(f"noise is {noise!r}, expected scalar or diagonal")
        if components < 1 or not 0 < z_dim < values:
            raise ValueError(f"{components} components of {z_dim} factors are impossible with {values} values")
        self.z_dim, self.c_dim, self.w_dim, self.resolution, self.colors = z_dim, 0, 0, resolution, colors
        self.means = nn.Parameter(torch.zeros(components, values))
        self.loadings = nn.Parameter(torch.zeros(components, values, z_dim))
        self.log_noise = nn.Parameter(torch.zeros((components, values) if noise == "diagonal" else (components,)))
        self.logits = nn.Parameter(torch.zeros(components))
        self._kept: tuple[object, Tensor] | None = None

    def mixture(self) -> Mixture:
        """The same numbers as a density, float64."""
        weights = self.logits.detach().double().softmax(dim=0)
        return Mixture(weights, *(one.detach().double() for one in (self.means, self.loadings, self.log_noise.exp())))

    @torch.no_grad()
    def take(self, mixture: Mixture) -> None:
        """Take over a density's numbers."""
        self.logits.copy_(mixture.weights.log())
        self.means.copy_(mixture.means)
        self.loadings.copy_(mixture.loadings)
        self.log_noise.copy_(mixture.noise.log())

    def edges(self) -> Tensor:
        """Cumulative weights (K,), float64, kept while the logits are the same; added up on the CPU, as a GPU has no
        order in which it adds."""
        logits = self.logits
        key = (id(logits), logits._version, logits.data_ptr(), logits.device)
        if self._kept is None or self._kept[0] != key:
            weights = logits.detach().cpu().double().softmax(dim=0)
            self._kept = key, weights.cumsum(dim=0).to(logits.device)
        return self._kept[1]

    def component(self, u: Tensor) -> Tensor:
        """Components (N,) int64 of uniform numbers (N,) in 0..1, by the inverse of their cumulative weights."""
        edges = self.edges()
        return torch.searchsorted(edges, u.double(), right=True).clamp(max=len(edges) - 1)

    def forward(self, component: Tensor, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (N, colors, H, W) about 0..1, of components (N,), latents (N, z_dim), and noise (N, d) or none."""
        x = self.means[component] + (self.loadings[component] * z[:, None]).sum(dim=2)
        if noise is not None:
            deviation = (self.log_noise / 2).exp()[component]
            x = x + (deviation if deviation.ndim == 2 else deviation[:, None]) * noise
        return x.reshape(len(x), self.colors, self.resolution, self.resolution)


def build(architecture: Mapping[str, Any]) -> Generator:
    """The generator of an `architecture`; unknown keys raise TypeError, impossible values ValueError."""
    return Generator(**architecture)


def styles(architecture: Mapping[str, Any]) -> int:
    """Number of styles that truncation can cut off: none."""
    return 0


def drawing(given: Mapping[str, Any], directions: Path | None = None) -> dict[str, Any]:
    """Arguments of `draw`, from the settings of `sample` for this family."""
    return {"pixels": given.get("noise", False)}


def draw(
    architecture: Mapping[str, Any], seed: int, noise: str = "none", *, pixels: bool = False
) -> dict[str, NDArray[Any]]:
    """What an image is made from, of numpy's RandomState(seed): "u" () uniform, "z" (z_dim,), with `pixels` "noise"."""
    state = np.random.RandomState(seed)
    rows: dict[str, NDArray[Any]] = {"u": np.array(state.random_sample())}
    rows["z"] = state.standard_normal(architecture["z_dim"]).astype(np.float32)
    if pixels:
        values = architecture.get("colors", 3) * architecture["resolution"] ** 2
        rows["noise"] = state.standard_normal(values).astype(np.float32)
    return rows


@torch.no_grad()
def render(
    generator: Generator,
    rows: Mapping[str, Tensor],
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
    noise: str = "none",
) -> Tensor:
    """Images (N, 3, H, W) float32 about -1..1, unclamped, of drawn rows.

    psi, cutoff and noise are those of other families; psi and cutoff must keep their values.
    """
    if psi != 1 or cutoff is not None:
        raise ValueError(f"a mixture has no styles to truncate: psi is 1 and cutoff is none, not {psi:g} and {cutoff}")
    return generator(generator.component(rows["u"]), rows["z"], rows.get("noise")) * 2 - 1


def to_uint8(images: Tensor) -> Tensor:
    """(N, 3, H, W) float to (N, H, W, 3) uint8: x in 0..1, clipped, floor(255 x + 0.5)."""
    x = (images / 2 + 0.5).clamp(0, 1)
    return (x * 255 + 0.5).floor().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
