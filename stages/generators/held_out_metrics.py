"""How near generated images come to photographs that the generator never saw, by features of a perceptual network.

Precision and recall after Kynkaanniemi et al. 2019 (arXiv:1904.06991, section 2), the kernel distance after Binkowski
et al. 2018 (arXiv:1801.01401, section 4). Theirs see features of Inception; here they are what a small perceptual
network says of an image, so that the numbers compare between generators of this project and with nothing else.

Features are (N, D) float64; images (N, H, W, 3) uint8 RGB. Nothing is drawn but the weights of `profile_gain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stages.resynthesis.perceptual_networks import PerceptualNetwork

Images = NDArray[np.uint8]
Features = NDArray[np.float64]

NEIGHBORS = 3
"""Published; the radius around an image reaches so many others of its own kind."""
BATCH = 64
RESAMPLES = 1000
LEAST_SPREAD = 1e-6


class Gain(NamedTuple):
    """By how much one generator is nearer to a mean profile than another, and how sure that is.

    value      distance of the other less that of the one: above 0 the one is nearer
    deviation  standard deviation of `value` over resamples
    distances  of the other and of the one
    """

    value: float
    deviation: float
    distances: tuple[float, float]

    @property
    def clear(self) -> bool:
        """More than two deviations."""
        return self.value > 2 * self.deviation


def described(network: PerceptualNetwork, images: Images) -> list[Features]:
    """Means over space of each of the five stages of the network. -> five times (N, channels of the stage)."""
    import torch

    found: dict[int, list[Any]] = {}
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            pixels = torch.from_numpy(images[start : start + BATCH].transpose(0, 3, 1, 2) / np.float32(255))
            for number, maps in network.stages(pixels, range(1, len(network.bounds))).items():
                found.setdefault(number, []).append(maps.mean(dim=(2, 3)).double())
    return [torch.cat(found[number]).numpy() for number in sorted(found)]


def standardized(stages: Sequence[Features], reference: Sequence[Features]) -> Features:
    """Stages side by side, each less the mean of the reference and over the reference's spread. -> (N, D).

    The spread is one number per stage, the root mean square of all its deviations: a channel that says next to nothing
    of the reference must not weigh more than the others.
    """
    parts = []
    for stage, known in zip(stages, reference, strict=True):
        mean = known.mean(axis=0)
        parts.append((stage - mean) / max(float(np.sqrt(np.square(known - mean).mean())), LEAST_SPREAD))
    return np.concatenate(parts, axis=1)


def precision_and_recall(reals: Features, fakes: Features, neighbors: int = NEIGHBORS) -> tuple[float, float]:
    """Share of fakes within the reach of a real, and of reals within the reach of a fake.

    Each point reaches as far as its `neighbors`-th nearest other of its own kind; what lies exactly there is reached.
    Raises ValueError where one kind has no so many others.
    """
    for name, points in (("reals", reals), ("fakes", fakes)):
        if len(points) <= neighbors:
            raise ValueError(f"a radius reaches {neighbors} others, but there are {len(points)} {name}; give more")
    between = _squared_distances(reals, fakes)
    precision = (between <= _reach(reals, neighbors)[:, None]).any(axis=0).mean()
    recall = (between <= _reach(fakes, neighbors)[None]).any(axis=1).mean()
    return float(precision), float(recall)


def kernel_distance(reals: Features, fakes: Features) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy for the kernel (x . y / D + 1)^3; 0 or below = alike.

    Raises ValueError for fewer than two of a kind.
    """
    if min(len(reals), len(fakes)) < 2:
        raise ValueError(f"the distance needs two of each kind, found {len(reals)} reals and {len(fakes)} fakes")
    same = [_kernel(points, points) for points in (reals, fakes)]
    means = [(one.sum() - np.trace(one)) / (len(one) * (len(one) - 1)) for one in same]
    return float(means[0] + means[1] - 2 * _kernel(reals, fakes).mean())


def profile_gain(reals: Features, groups: NDArray[Any], other: Features, one: Features, seed: int = 0) -> Gain:
    """Whether `one` is nearer than `other` to the mean of the reals, by the sum over rings of |difference of means|.

    reals       profiles (N, rings), and their groups (N,): photographs of a group stand or fall together
    other, one  profiles (M, rings) of two generators, row k of both from the same latent, which stand or fall together
    The resamples are those of the Bayesian bootstrap (Rubin 1981): exponential weights of groups and of latents.
    Raises ValueError where the latents are not as many.
    """
    if other.shape != one.shape:
        raise ValueError(f"profiles of the same latents are compared, found {other.shape} and {one.shape}")
    numbers = np.unique(groups, return_inverse=True)[1]
    random = np.random.RandomState(seed)
    of_groups = random.standard_exponential((RESAMPLES, int(numbers.max()) + 1))
    of_latents = random.standard_exponential((RESAMPLES, len(one)))
    weights = [np.concatenate([np.ones((1, drawn.shape[1])), drawn]) for drawn in (of_groups, of_latents)]
    target = _means(weights[0][:, numbers], reals)
    distances = [np.abs(_means(weights[1], found) - target).sum(axis=1) for found in (other, one)]
    gains = distances[0] - distances[1]
    return Gain(float(gains[0]), float(gains[1:].std()), (float(distances[0][0]), float(distances[1][0])))


def profiles(images: Images) -> Features:
    """Profiles of images as `stages.generators.spectral.Profile` gives them. -> (N, rings)."""
    import torch

    from stages.generators.spectral import Profile

    profile = Profile(images.shape[1])
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    found = [profile(torch.from_numpy(part.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)) for part in parts]
    return torch.cat(found).double().numpy()


def _means(weights: NDArray[np.float64], values: Features) -> Features:
    """One weighted mean of the rows per row of weights."""
    means: Features = weights @ values / weights.sum(axis=1, keepdims=True)
    return means


def _squared_distances(a: Features, b: Features) -> Features:
    """(N, D) and (M, D) to (N, M)."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * (a @ b.T)
    return np.maximum(squares, 0)


def _reach(points: Features, neighbors: int) -> Features:
    """Squared distance of each point to its k-th nearest other."""
    squares = _squared_distances(points, points)
    np.fill_diagonal(squares, -1)  # before all others, also before those that lie at the same place
    reach: Features = np.partition(squares, neighbors, axis=1)[:, neighbors]
    return reach


def _kernel(a: Features, b: Features) -> Features:
    kernel: Features = (a @ b.T / a.shape[1] + 1) ** 3
    return kernel
