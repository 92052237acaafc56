"""Distances to held-out photographs against double loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stages.generators import held_out_metrics as metrics
from stages.generators.spectral import Profile
from stages.resynthesis.perceptual_networks import PerceptualNetwork, small


def points(count: int, dimensions: int, seed: int, moved: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(moved, 1, (count, dimensions))


def test_precision_and_recall_are_those_of_balls_around_each_point() -> None:
    reals, fakes, nearest = points(23, 3, 0), points(17, 3, 1, 0.7), 2

    def covered(inner: np.ndarray, outer: np.ndarray) -> float:
        found = 0
        for one in inner:
            hit = False
            for index, center in enumerate(outer):
                others = sorted(math.dist(center, other) for k, other in enumerate(outer) if k != index)
                hit = hit or math.dist(center, one) <= others[nearest - 1]
            found += hit
        return found / len(inner)

    precision, recall = metrics.precision_and_recall(reals, fakes, nearest)
    assert (precision, recall) == (covered(fakes, reals), covered(reals, fakes))
    assert 0 < recall < 1
    assert 0 < precision < 1
    assert precision != recall


def test_precision_and_recall_of_points_on_a_line() -> None:
    """Reals at 0, 1, 2, 3 reach 2, 1, 1 and 2 with two others; of the fakes 4.5 alone is within reach, of 3."""
    reals = np.array([[0.0], [1.0], [2.0], [3.0]])
    fakes = np.array([[4.5], [5.5], [60.0], [61.0]])
    assert metrics.precision_and_recall(reals, fakes, 2)[0] == 0.25
    assert metrics.precision_and_recall(reals, reals, 2) == (1.0, 1.0)
    doubled = np.repeat(np.array([[0.0], [9.0]]), 3, axis=0)  # points at one place reach nothing but that place
    assert metrics.precision_and_recall(doubled, np.array([[0.0], [1.0], [9.0], [5.0]]), 2)[0] == 0.5


def test_the_kernel_distance_is_the_unbiased_one() -> None:
    reals, fakes = points(7, 4, 2), points(9, 4, 3, 0.5)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((sum(x * y for x, y in zip(a, b, strict=True)) / 4 + 1) ** 3)

    def within(rows: np.ndarray) -> float:
        pairs = [kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return sum(pairs) / len(pairs)

    between = [kernel(a, b) for a in reals for b in fakes]
    expected = within(reals) + within(fakes) - 2 * sum(between) / len(between)
    assert metrics.kernel_distance(reals, fakes) == pytest.approx(expected, rel=1e-12)


def test_two_halves_of_one_kind_have_no_kernel_distance_in_the_mean() -> None:
    """Unbiased: over many draws the mean is 0 within its error, where the biased estimate would be well above."""
    found = [metrics.kernel_distance(points(12, 2, seed), points(12, 2, 1000 + seed)) for seed in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))
    assert np.min(found) < 0


@pytest.mark.parametrize(("reals", "fakes"), [(1, 5), (5, 1)])
def test_too_few_points_are_refused(reals: int, fakes: int) -> None:
    with pytest.raises(ValueError, match=f"found {reals} reals and {fakes} fakes"):
        metrics.kernel_distance(points(reals, 2, 0), points(fakes, 2, 1))
    with pytest.raises(ValueError, match=r"a radius reaches 3 others, but there are 1 (reals|fakes); give more"):
        metrics.precision_and_recall(points(reals, 2, 0), points(fakes, 2, 1))


def test_features_are_the_means_of_all_stages() -> None:
    torch.manual_seed(0)
    network = PerceptualNetwork(small((2, 3, 2, 3, 2)))
    images = np.random.default_rng(4).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    found = metrics.described(network, images)
    x = torch.from_numpy(images[3].astype(np.float32) / 255).permute(2, 0, 1)[None]
    means = []
    for layer in network.features:
        x = layer(x)
        if isinstance(layer, torch.nn.ReLU):  # each stage has one convolution and ends with its rectifier
            means += [float(plane.mean()) for plane in x[0].detach()]
    assert [len(stage[3]) for stage in found] == [2, 3, 2, 3, 2]
    assert np.concatenate([stage[3] for stage in found]) == pytest.approx(means, abs=1e-5)


def test_stages_have_one_spread_each_and_channels_that_say_nothing_no_weight() -> None:
    reference = [points(40, 2, 8) * 3 + 7, points(40, 3, 9)]
    reference[1][:, 2] = 0  # dead on the photographs, alive on what is compared with them
    scaled = metrics.standardized(reference, reference)
    assert scaled.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    for part in (scaled[:, :2], scaled[:, 2:]):
        assert np.square(part).mean() == pytest.approx(1)
    others = [reference[0] + 1, reference[1] + [0, 0, 0.5]]
    moved = metrics.standardized(others, reference) - scaled
    spreads = []
    for stage in reference:
        squares = [(value - stage[:, k].mean()) ** 2 for row in stage for k, value in enumerate(row)]
        spreads.append(math.sqrt(sum(squares) / len(squares)))
    assert moved[0] == pytest.approx([1 / spreads[0], 1 / spreads[0], 0, 0, 0.5 / spreads[1]])
    assert (metrics.standardized([np.ones((3, 2))], [np.ones((3, 2))]) == 0).all()


def test_a_gain_is_what_the_mean_profile_came_nearer_and_clear_beyond_two_deviations() -> None:
    random = np.random.default_rng(5)
    reals, groups = random.normal(0, 0.1, (60, 4)), np.repeat(np.arange(12), 5)
    noise = random.normal(0, 0.1, (50, 4))
    found = metrics.profile_gain(reals, groups, noise + 1.0, noise + 0.25)
    distances = [sum(abs((noise[:, k] + d).mean() - reals[:, k].mean()) for k in range(4)) for d in (1.0, 0.25)]
    assert found.distances == pytest.approx(distances)
    assert found.value == pytest.approx(3.0)
    assert found.clear
    same = metrics.profile_gain(reals, groups, noise, noise)
    assert (same.value, same.deviation, same.clear) == (0.0, 0.0, False)
    other = random.normal(0, 0.1, (50, 4))
    assert not metrics.profile_gain(reals, groups, noise, other).clear  # as near as chance lets them be
    with pytest.raises(ValueError, match=r"profiles of the same latents are compared, found \(50, 4\) and \(49, 4\)"):
        metrics.profile_gain(reals, groups, noise, other[:49])


def test_photographs_of_a_group_stand_or_fall_together() -> None:
    """One group of equal photographs says as much as one photograph: the deviation is that of the few groups."""
    random = np.random.default_rng(6)
    few = np.repeat(random.normal(0, 1, (6, 3)), 40, axis=0)
    one, other = np.full((30, 3), 5.0), np.full((30, 3), -5.0)  # so that the gain is twice the photographs' mean
    together = metrics.profile_gain(few, np.repeat(np.arange(6), 40), other, one).deviation
    apart = metrics.profile_gain(few, np.arange(240), other, one).deviation
    assert together > 3 * apart
    sums = 2 * few[::40].sum(axis=1)  # the gain of each group; Rubin 1981: variance over resamples, of 6 groups
    assert together == pytest.approx(math.sqrt(np.var(sums) / 7), rel=0.1)


def test_profiles_are_those_of_the_spectral_losses() -> None:
    images = np.random.default_rng(7).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    expected = Profile(16)(torch.from_numpy(images[69:].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2))
    assert metrics.profiles(images)[69] == pytest.approx(expected[0].numpy(), abs=1e-5)
