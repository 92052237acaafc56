"""The losses of +R and +A against values of public code and of plain autograd without a clamp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detectors import normalization
from stages.generators.losses import Logistic
from stages.generators.spectral import Profile, SpectralDiscriminator, profile_distance, regularization, target_profile
from stages.spectra import profiles

RELEASED_LOG = 100.0
"""torch's cross-entropy takes no logarithm below -100: what a profile's exact 0 and 1 cost without a clamp."""


def tensor(images, dtype=torch.float64):
    """(N, H, W, 3) uint8 to (N, 3, H, W) in -1..1."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1).to(dtype)


def images_of(golden, kind):
    """The images of a class; their key ends in their side."""
    (match,) = golden.matches(rf"{kind}\d+")
    return golden[match[0]]


def upconv(images):
    return normalization.min_max(profiles.profiles(images, "durall20", np.float64))[0]


@pytest.mark.golden("spectrum", "loss_RA.npz")
def test_profiles_of_the_losses_equal_the_public_ones(golden):
    for key, images in (("upconv_real", "real"), ("upconv_fake", "fake")):
        np.testing.assert_allclose(upconv(images_of(golden, images)), golden[key], rtol=0, atol=1e-6, err_msg=key)
    profile = Profile(images_of(golden, "fake").shape[1])
    np.testing.assert_allclose(profile(tensor(images_of(golden, "fake"))), golden["jung_fake"], rtol=0, atol=1e-6)
    target = target_profile(tensor(images_of(golden, "real")))
    np.testing.assert_allclose(target, golden["jung_real_mean"][0], rtol=0, atol=1e-6)
    distance = profile_distance(torch.from_numpy(golden["jung_fake"].mean(axis=0)), target)
    mean_gap = np.abs(golden["jung_fake"].mean(axis=0) - golden["jung_real_mean"][0]).sum()
    assert distance == pytest.approx(mean_gap, abs=1e-5)


@pytest.mark.golden("spectrum", "loss_RA.npz")
def test_cross_entropies_of_the_released_code_and_of_the_paper_differ_and_are_both_met(golden):
    """The released code swaps the arguments and pairs images; the paper compares with the mean real profile."""
    real, fake = (torch.from_numpy(upconv(images_of(golden, key))) for key in ("real", "fake"))
    rows = min(len(real), len(fake))
    released = F.binary_cross_entropy(real[:rows], fake[:rows]).item()
    assert released == pytest.approx(float(golden["bce_released_code"]), abs=1e-6)
    paper = F.binary_cross_entropy(fake, real.mean(dim=0).expand_as(fake)).item()
    assert paper == pytest.approx(float(golden["bce_paper_form"]), abs=1e-6)


@pytest.mark.golden("spectrum", "loss_RA.npz")
def test_regularization_equals_autograd_without_a_clamp_wherever_profiles_are_not_0_or_1(golden):
    images = tensor(images_of(golden, "fake")).requires_grad_()
    target = torch.from_numpy(golden["jung_real_mean"][0])
    found = Profile(images.shape[-1])(images)
    (gradient,) = torch.autograd.grad(regularization(found, target), images)
    # published for x in 0..1, which is half as long as -1..1
    np.testing.assert_allclose(2 * gradient, golden["R_grad_fake"], rtol=0, atol=1e-5)
    assert np.abs(golden["R_grad_fake"]).max() > 1e-4
    expected = float(golden["R_loss_centred"]) * found.numel()
    total = 0.0
    for row in found.detach():
        ends = torch.where(row == 0, target, 1 - target)[(row == 0) | (row == 1)]
        assert len(ends) == 2
        expected -= RELEASED_LOG * ends.sum().item()
        inner = (row > 0) & (row < 1)
        kept = target[inner]
        floor = F.binary_cross_entropy(kept, kept)
        total += ((regularization(row[inner][None], kept) + floor) * len(kept)).item()
    assert total == pytest.approx(expected, abs=1e-6 * found.numel())


@pytest.mark.golden("spectrum", "loss_RA.npz")
def test_regularization_by_l1_is_the_published_sum_over_rings_and_images(golden):
    found = Profile(images_of(golden, "fake").shape[1])(tensor(images_of(golden, "fake")))
    target = torch.from_numpy(golden["jung_real_mean"][0])
    loss = regularization(found, target, "l1").item() * found.numel()
    assert loss == pytest.approx(float(golden["jung_l1_sum"]), abs=1e-6 * found.numel())


@pytest.mark.golden("spectrum", "loss_RA.npz")
def test_spectral_discriminator_with_given_weights_equals_the_published_scores_and_losses(golden):
    reals, fakes = tensor(images_of(golden, "real"), torch.float32), tensor(images_of(golden, "fake"), torch.float32)
    network = SpectralDiscriminator(reals.shape[-1])
    rings = golden["A_weight"].shape[1]
    with torch.no_grad():  # the layer scales its weights by one over the root of their number
        network.output.weight.copy_(torch.from_numpy(golden["A_weight"] * np.sqrt(rings)))
        network.output.bias.copy_(torch.from_numpy(golden["A_bias"]))
        for key, images in (("A_logit_real", reals), ("A_logit_fake", fakes)):
            np.testing.assert_allclose(network(images)[:, 0], golden[key], rtol=0, atol=1e-5, err_msg=key)
        loss = Logistic(gamma=0.0)
        value, _ = loss.discriminator(network, reals, fakes, 0, torch.Generator())
        assert value.item() == pytest.approx(float(golden["A_loss_D"]), abs=1e-5)
        assert loss.generator(network(fakes)).item() == pytest.approx(float(golden["A_loss_G"]), abs=1e-5)
