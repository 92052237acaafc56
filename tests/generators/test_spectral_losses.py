"""The losses of +R and +A against published vectors, slow loops, closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.generators.losses import Logistic, Wasserstein
from stages.generators.spectral import (
    Profile,
    SpectralDiscriminator,
    entropy,
    gradient_norm_ratio,
    profile_distance,
    regularization,
    starting_weight,
    target_profile,
)
from stages.spectra import profiles as stored_profiles


def noise(side, rows=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def smooth(side, rows=2, seed=0, passes=2):
    """Noise under repeated neighbor means, with a weak high end as generated images have it."""
    images = noise(side, rows, seed) / 255
    for _ in range(passes):
        images = (images + np.roll(images, 1, 1) + np.roll(images, 1, 2) + np.roll(images, (1, 1), (1, 2))) / 4
    return tensor(np.round(images * 255))


def tensor(images, dtype=torch.float64):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1).to(dtype)


def slow_profile(image):
    """The convention one frequency at a time: sums of exponentials, no FFT. (H, H, 3) uint8 -> (rings,), scaled."""
    side = len(image)
    gray = image.astype(np.float64) @ [0.299, 0.587, 0.114] / 255
    place = np.arange(side)
    rings: dict[int, list[float]] = {}
    for v in range(side):
        for u in range(side // 2 + 1):
            wave = np.exp(-2j * np.pi * (v * place[:, None] + u * place[None, :]) / side)
            value = 20 * math.log(abs((gray * wave).sum()) ** 2 + 1e-8)
            rings.setdefault(math.floor(math.hypot(min(v, side - v), u)), []).append(value)
    raw = np.array([np.mean(rings[ring]) for ring in range(len(rings))])
    return (raw - raw.min()) / (raw.max() - raw.min())


@pytest.mark.parametrize("side", [8, 15, 16, 32])
def test_profiles_equal_sums_of_waves(side):
    images = noise(side)
    found = Profile(side)(tensor(images))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, [slow_profile(image) for image in images], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("side", "length"), [(32, 23), (64, 46), (128, 91), (256, 182)])
def test_profiles_have_the_published_length_and_a_range_of_0_to_1(side, length):
    found = Profile(side)(tensor(noise(side), torch.float32))
    assert found.shape == (2, length)
    assert found.dtype == torch.float32
    assert torch.equal(found.amin(dim=1), torch.zeros(2))
    assert torch.equal(found.amax(dim=1), torch.ones(2))


@pytest.mark.golden("spectrum", "case_*.npz")
def test_profiles_equal_those_of_public_code_and_of_the_spectrum_stage(golden):
    image = golden["img"]
    side = image.shape[1]
    if image.shape[0] != side:
        with pytest.raises(ValueError, match=f"set up for images .N, 3, {side}, {side}., found .1, 3, "):
            Profile(side)(tensor(image[None]))
        return
    found = Profile(side)(tensor(image[None], torch.float32))[0].numpy()
    raw = stored_profiles.profiles(image[None], "jung21", np.float64)[0]
    np.testing.assert_allclose(found, (raw - raw.min()) / (raw.max() - raw.min()), rtol=0, atol=1e-5)
    if side % 2 == 0 and "jung_minmax" in golden:
        np.testing.assert_allclose(found, golden["jung_minmax"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [4, 5])
def test_gradients_of_profiles_equal_finite_differences_to_second_order(side):
    images = tensor(noise(side, rows=1)).requires_grad_()
    profile = Profile(side)
    assert torch.autograd.gradcheck(profile, images)
    assert torch.autograd.gradgradcheck(profile, images)


def test_damping_bounds_the_slope_of_weak_coefficients_and_changes_no_value():
    """Against differences of |F|^2 / (|F|^2 + half the ring's mean power), the latter held fixed, with another FFT."""
    side, damping, step = 8, 0.5, 1e-6
    images = tensor(noise(side, rows=3))
    exact, damped = Profile(side), Profile(side, damping)
    torch.testing.assert_close(damped(images), exact(images), rtol=0, atol=0)
    down = np.minimum(np.arange(side), side - np.arange(side))
    ring = np.floor(np.hypot(down[:, None], np.arange(side // 2 + 1))).astype(int)

    def power(pixels):
        gray = np.einsum("nchw,c->nhw", (pixels + 1) / 2, [0.299, 0.587, 0.114])
        return np.abs(np.fft.rfft2(gray)) ** 2

    start = images.numpy()
    mean = np.array([power(start)[:, ring == r].mean() for r in range(ring.max() + 1)])
    fixed = power(start) + damping * mean[ring] + 1e-8
    seen = images.clone().requires_grad_(True)
    wanted_ring = 3
    damped.logs(seen)[:, wanted_ring].sum().backward()
    for n, c, y, x in [(0, 0, 0, 0), (1, 1, 3, 5), (2, 2, 7, 2)]:
        moved = [start.copy(), start.copy()]
        moved[0][n, c, y, x] += step
        moved[1][n, c, y, x] -= step
        values = [20 * (power(one) / fixed)[n][ring == wanted_ring].mean() for one in moved]
        assert seen.grad[n, c, y, x].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-7)


def test_profile_of_an_image_does_not_depend_on_its_batch():
    """But for the last bit of the logarithm, which vectors and their remainders round differently on some CPUs."""
    images = tensor(noise(32, rows=5), torch.float32)
    profile = Profile(32)
    torch.testing.assert_close(profile(images)[3:4], profile(images[3:4]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [-1.0, 0.3, 1.0])
def test_constant_images_give_finite_profiles_losses_and_gradients(level):
    images = torch.full((2, 3, 16, 16), level, requires_grad=True)
    found = Profile(16)(images)
    loss = regularization(found, torch.linspace(1, 0, 12))
    loss.backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(images.grad).all()
    np.testing.assert_allclose(found.detach(), np.eye(12)[[0, 0]] * (level > -1), atol=1e-6)


def test_autocast_does_not_round_profiles_losses_and_scores():
    images = tensor(noise(32), torch.float32)
    discriminator, profile, target = SpectralDiscriminator(32, hidden=5), Profile(32), torch.linspace(1, 0, 23)
    with torch.no_grad():
        exact = discriminator(images), profile(images), regularization(profile(images), target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = discriminator(images), profile(images), regularization(profile(images), target)
    for a, b in zip(exact, found, strict=True):
        assert torch.equal(a, b)


def test_target_is_the_mean_over_images_whatever_the_batches():
    images = tensor(noise(16, rows=7), torch.float32)
    expected = np.mean([slow_profile(image) for image in noise(16, rows=7)], axis=0)
    for given in (images, images.split(3), iter(images.split(2))):
        found = target_profile(given)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_target_needs_images():
    with pytest.raises(ValueError, match="there are none"):
        target_profile([])


def test_regularization_is_the_cross_entropy_above_its_floor():
    random = np.random.default_rng(1)
    p, t = random.uniform(0.05, 0.95, (3, 6)), random.uniform(0.05, 0.95, 6)
    total = 0.0
    for row in p:
        for pk, tk in zip(row, t, strict=True):
            total -= tk * math.log(pk / tk) + (1 - tk) * math.log((1 - pk) / (1 - tk))
    assert regularization(torch.from_numpy(p), torch.from_numpy(t)).item() == pytest.approx(total / 18, abs=1e-12)


def test_regularization_keeps_profiles_off_0_and_1():
    found = regularization(torch.tensor([[0.0, 1.0]]), torch.tensor([0.5, 1.0])).item()
    assert found == pytest.approx((-0.5 * math.log(1e-6) - math.log(2)) / 2, abs=1e-4)


def test_regularization_by_l1_is_the_mean_distance():
    p, t = torch.tensor([[0.1, 0.9], [0.5, 0.4]]), torch.tensor([0.2, 0.4])
    assert regularization(p, t, "l1").item() == pytest.approx((0.1 + 0.5 + 0.3 + 0) / 4)


@pytest.mark.parametrize("kind", ["cross-entropy", "l1"])
def test_regularization_is_zero_at_the_target(kind):
    target = torch.tensor([1.0, 0.7, 0.3, 0.0])
    assert regularization(target.repeat(3, 1), target, kind).item() == pytest.approx(0, abs=3e-6)


def test_entropy_is_that_of_a_coin():
    assert entropy(torch.tensor([0.5, 0.5])).item() == pytest.approx(math.log(2))
    assert entropy(torch.tensor([0.0, 1.0])).item() == 0


def test_float32_gradients_of_the_regularization_are_close_to_float64():
    profile, target = Profile(64), Profile(64)(smooth(64, seed=1)).mean(dim=0)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        images = smooth(64).to(dtype).requires_grad_()
        gradients.append(torch.autograd.grad(regularization(profile(images), target.to(dtype)), images)[0].double())
    exact, found = gradients
    assert (found - exact).abs().max() < 1e-3 * exact.abs().max()


@pytest.mark.parametrize("kind", ["cross-entropy", "l1"])
def test_regularization_teaches_a_filter_the_blur_of_real_images(kind):
    def blurred(share, seed):
        images = torch.randn((16, 3, 16, 16), generator=torch.Generator().manual_seed(seed))
        for axis in (2, 3):
            images = images + share * (images.roll(1, axis) + images.roll(-1, axis))
        return images

    target, profile = target_profile(blurred(0.3, 1000)), Profile(16)
    share = nn.Parameter(torch.tensor(0.05))
    optimizer = torch.optim.Adam([share], lr=0.03)
    for step in range(40):
        optimizer.zero_grad()
        regularization(profile(blurred(share, step)), target, kind).backward()
        optimizer.step()
    assert share.item() == pytest.approx(0.3, abs=0.05)


def test_gradient_norm_ratio_is_over_all_trained_parameters():
    a, b = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    unused, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1), requires_grad=False)
    adversarial, spectral = (3 * a + 4 * b + frozen).sum(), (2 * a).sum()
    given = [a, b, unused, frozen]
    assert gradient_norm_ratio(adversarial, spectral, given) == pytest.approx(2 / 5)
    assert gradient_norm_ratio(adversarial, spectral, given, weight=10) == pytest.approx(4)
    assert a.grad is None
    weight = starting_weight(gradient_norm_ratio(adversarial, spectral, given), 0.3)
    assert gradient_norm_ratio(adversarial, spectral, given, weight) == pytest.approx(0.3)
    (adversarial + weight * spectral).backward()  # the graphs are still there


def test_gradient_norm_ratio_without_an_adversarial_gradient_is_infinite():
    a = nn.Parameter(torch.ones(1))
    assert gradient_norm_ratio((0 * a).sum(), a.sum(), [a]) == math.inf


@pytest.mark.parametrize("unweighted", [0.0, math.inf, math.nan])
def test_no_starting_weight_without_both_gradients(unweighted):
    with pytest.raises(ValueError, match="give the weight"):
        starting_weight(unweighted)


def test_spectral_discriminator_is_one_dense_layer_with_equalized_rate():
    images = noise(16)
    network = SpectralDiscriminator(16)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in state.items()} == {"output.weight": (1, 12), "output.bias": (1,)}
    expected = [slow_profile(image) @ state["output.weight"][0] / math.sqrt(12) for image in images]
    np.testing.assert_allclose(network(tensor(images, torch.float32)).detach()[:, 0], expected, atol=1e-5)


def test_spectral_discriminator_with_a_hidden_layer():
    images = noise(16)
    network = SpectralDiscriminator(16, hidden=7)
    nn.init.normal_(network.hidden.bias)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    expected = []
    for image in images:
        x = state["hidden.weight"] @ slow_profile(image) * math.sqrt(2 / 12) + state["hidden.bias"]
        expected.append(np.where(x > 0, x, 0.2 * x) @ state["output.weight"][0] / math.sqrt(7))
    np.testing.assert_allclose(network(tensor(images, torch.float32)).detach()[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("loss", [Logistic(10.0), Wasserstein()])
def test_spectral_discriminator_learns_under_both_losses_with_their_gradient_penalties(loss):
    torch.manual_seed(0)
    network, random = SpectralDiscriminator(16), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, betas=(0.0, 0.99))
    for step in range(40):
        reals, fakes = smooth(16, 8, seed=2 * step, passes=1).float(), smooth(16, 8, seed=2 * step + 1).float()
        value, _ = loss.discriminator(network, reals, fakes, step, random)
        optimizer.zero_grad()
        value.backward()
        assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
        optimizer.step()
    reals, fakes = smooth(16, 50, seed=1001, passes=1).float(), smooth(16, 50, seed=1002).float()
    assert (network(reals) > network(fakes).max()).float().mean() > 0.9


def test_profile_distance_is_the_sum_over_rings():
    a, b = torch.tensor([1.0, 0.5, 0.25]), torch.tensor([1.0, 0.25, 0.75], requires_grad=True)
    assert profile_distance(a, b) == pytest.approx(0.75)


@pytest.mark.gpu
def test_gpu_repeats_the_gradient_to_the_bit_and_agrees_with_the_cpu():
    images, target = smooth(64, rows=8).float(), torch.linspace(1, 0, 46)
    profile = Profile(64)
    found = []
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for device in ("cpu", "cuda", "cuda"):
            given = images.to(device).requires_grad_()
            loss = regularization(profile.to(device)(given), target.to(device))
            found.append(torch.autograd.grad(loss, given)[0].cpu())
    finally:
        torch.use_deterministic_algorithms(deterministic)
    assert torch.equal(found[1], found[2])
    assert (found[0] - found[1]).abs().max() < 1e-3 * found[0].abs().max()
