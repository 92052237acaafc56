"""Densities of a mixture of factor analyzers, and one step of its fit (Richardson and Weiss 2018, arXiv:1805.12462).

Component k is a Gaussian with mean mu and covariance A A' + D of low rank plus a diagonal; D = s^2 I in a fit (Tipping
and Bishop 1999, mixtures of probabilistic PCA). Inverses and determinants are of l x l matrices (Woodbury). Everything
is float64, rows of x are (N, d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WEIGHTS = ("exact", "released")
LEAST_NOISE = 1e-6
"""Variance that a fit leaves to each component at least: with fewer images than factors it would become 0."""


@dataclass(frozen=True)
class Mixture:
    """K components of l factors: weights (K,), means (K, d), loadings (K, d, l), noise variances (K,) or (K, d)."""

    weights: Tensor
    means: Tensor
    loadings: Tensor
    noise: Tensor

    def of_features(self, chosen: Tensor) -> Mixture:
        """Of these coordinates (int64, may repeat), as if they were all."""
        noise = self.noise if self.noise.ndim == 1 else self.noise[:, chosen]
        return Mixture(self.weights, self.means[:, chosen], self.loadings[:, chosen], noise)

    def precision(self) -> Tensor:
        """1 / noise, (K, d)."""
        return (self.noise if self.noise.ndim == 2 else self.noise[:, None].expand_as(self.means)).reciprocal()


@dataclass(frozen=True)
class Moments:
    """Sums over images that a step of the fit needs: r (K,), r x (K, d), r x (x'A) (K, d, l), r |x|^2 (K,)."""

    r: Tensor
    rx: Tensor
    rxxa: Tensor
    rxx: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.r + other.r, self.rx + other.rx, self.rxxa + other.rxxa, self.rxx + other.rxx)


def _inner(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Cholesky factors of L = I + A' D^-1 A, (K, l, l), and D^-1 A, (K, d, l)."""
    scaled = mixture.loadings * mixture.precision()[:, :, None]
    inner = mixture.loadings.mT @ scaled
    return torch.linalg.cholesky(inner + torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)), scaled


def _projected(matrices: Tensor, x: Tensor) -> Tensor:
    """x' B of each component, (N, d) and (K, d, l) to (N, K, l), as one product."""
    components, values, factors = matrices.shape
    return (x @ matrices.transpose(0, 1).reshape(values, components * factors)).reshape(len(x), components, factors)


def log_densities(mixture: Mixture, x: Tensor) -> Tensor:
    """ln N(x; mu, A A' + D) of each image under each component, (N, K); without weights."""
    factor, scaled = _inner(mixture)
    precision, means = mixture.precision(), mixture.means
    t = _projected(scaled, x) - (means[:, None] @ scaled)[:, 0]
    inside = torch.linalg.solve_triangular(factor, t.permute(1, 2, 0), upper=False).square().sum(dim=1).T
    distances = x.square() @ precision.T - 2 * x @ (precision * means).T + (precision * means.square()).sum(dim=1)
    log_determinants = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=1) - precision.log().sum(dim=1)
    return -0.5 * (means.shape[1] * math.log(2 * math.pi) + log_determinants + distances - inside)


def log_joint(mixture: Mixture, x: Tensor, weights: str = "exact") -> Tensor:
    """`log_densities` plus the logarithm of the weights, (N, K).

    weights  "released": plus the weights themselves, which is what the published program computes
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; expected {' or '.join(WEIGHTS)}")
    return log_densities(mixture, x) + (mixture.weights.log() if weights == "exact" else mixture.weights)


def log_likelihoods(mixture: Mixture, x: Tensor, weights: str = "exact") -> Tensor:
    """ln p(x), (N,)."""
    return log_joint(mixture, x, weights).logsumexp(dim=1)


def responsibilities(mixture: Mixture, x: Tensor, weights: str = "exact") -> Tensor:
    """Probability of each component given the image, (N, K)."""
    return log_joint(mixture, x, weights).softmax(dim=1)


def reconstruct(mixture: Mixture, x: Tensor, observed: Tensor | None = None, weights: str = "exact") -> Tensor:
    """Posterior mean mu + A E[z | x] under the likeliest component, (N, d). observed: coordinates that are known."""
    seen = mixture if observed is None else mixture.of_features(observed)
    x = x if observed is None else x[:, observed]
    component = log_joint(seen, x, weights).argmax(dim=1)
    factor, scaled = _inner(seen)
    t = scaled[component].mT @ (x - seen.means[component])[:, :, None]
    latents = torch.cholesky_solve(t, factor[component])
    return mixture.means[component] + (mixture.loadings[component] @ latents)[:, :, 0]


def moments(mixture: Mixture, x: Tensor, r: Tensor) -> Moments:
    """Of images x and their responsibilities r (N, K)."""
    projected = _projected(mixture.loadings, x) * r[:, :, None]  # r x'A
    rxxa = (x.T @ projected.reshape(len(x), -1)).reshape(x.shape[1], *projected.shape[1:]).transpose(0, 1)
    return Moments(r.sum(dim=0), r.T @ x, rxxa, r.T @ x.square().sum(dim=1))


def maximized(mixture: Mixture, found: Moments) -> Mixture:
    """The mixture after one step of expectation and maximization, from the moments of all images.

    Tipping and Bishop 1999, appendix C; raises ValueError for a noise that differs by coordinate.
    """
    if mixture.noise.ndim != 1:
        raise ValueError("a fit has one noise variance for each component")
    r, old = found.r[:, None], mixture.loadings
    means = found.rx / r
    covariance = found.rxxa / r[:, :, None] - means[:, :, None] * (means[:, None] @ old)  # S A
    eye = torch.eye(old.shape[2], dtype=old.dtype, device=old.device) * mixture.noise[:, None, None]  # s^2 I
    inverse = torch.linalg.inv(old.mT @ old + eye)  # of M
    loadings = covariance @ torch.linalg.inv(eye + inverse @ old.mT @ covariance)
    trace = found.rxx / found.r - means.square().sum(dim=1)  # of S
    noise = (trace - (loadings * (covariance @ inverse)).sum(dim=(1, 2))) / old.shape[1]
    return Mixture(found.r / found.r.sum(), means, loadings, noise.clamp(min=LEAST_NOISE))


def principal(x: Tensor, factors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), loadings (d, factors) and noise variance () of probabilistic PCA of few images.

    Tipping and Bishop 1999, equations 7 and 8; the sign of each column of the loadings means nothing.
    """
    count, values = x.shape
    if not factors + 1 < count:
        raise ValueError(f"{factors} factors need {factors + 2} images or more, found {count}")
    mean = x.mean(dim=0)
    _, singular, directions = torch.linalg.svd(x - mean, full_matrices=False)
    variances = singular.square() / (count - 1)
    noise = (variances[factors:].sum() / (values - factors)).clamp(min=LEAST_NOISE)
    return mean, directions[:factors].T * (variances[:factors] - noise).clamp(min=0).sqrt(), noise
