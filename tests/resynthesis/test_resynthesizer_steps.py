"""Steps of the training of a re-synthesizer: patches, rates, measurements; alone and together with a classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_rows import rows_of
from safetensors import safe_open
from small_resynthesizers import JOINT, both, config, differing, fit, perceptual_network, photos, pixels, started, state

from stages.resynthesis import reconstruction
from stages.resynthesis.downsampling import downsample
from stages.resynthesis.joint import cross_entropy
from stages.resynthesis.patches import Patches
from stages.resynthesis.rdn import RDN
from stages.resynthesis.reconstruction import Schedule, center


@pytest.fixture(scope="module")
def perceptual_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perceptual_network(tmp_path_factory.mktemp("perceptual"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), side=st.sampled_from((8, 12)), mirrors=st.sampled_from(("all", "horizontal", "none")))
def test_a_patch_is_a_part_of_its_image_that_begins_at_a_multiple_of_4(seed: int, side: int, mirrors: str) -> None:
    images = pixels(3, seed, 16, 20)
    random = torch.Generator().manual_seed(seed)
    drawn = Patches(rows_of("p", 0, {"image": images}), "cpu", random, side, mirrors).draw(4).numpy()
    turns = {"none": (0,), "horizontal": (0, 4), "all": tuple(range(8))}[mirrors]
    windows = [
        image[top : top + side, left : left + side]
        for image in images for top in range(0, 17 - side, 4) for left in range(0, 21 - side, 4)
    ]  # fmt: skip
    allowed = {
        np.ascontiguousarray(np.rot90(window[:, ::-1] if turn > 3 else window, turn % 4).transpose(2, 0, 1)).tobytes()
        for window in windows
        for turn in turns
    }
    assert drawn.shape == (4, 3, side, side)
    assert {np.ascontiguousarray(patch).tobytes() for patch in drawn} <= allowed


def test_all_places_and_orientations_are_drawn() -> None:
    image = pixels(1, 0, 16, 24)
    rows = rows_of("p", 0, {"image": image})
    drawn = Patches(rows, "cpu", torch.Generator().manual_seed(0), 8).draw(2000).numpy()
    found, counts = np.unique(drawn.reshape(2000, -1), axis=0, return_counts=True)
    assert len(found) == 3 * 5 * 8
    assert counts.min() >= 4  # 16.7 expected
    whole = Patches(rows, "cpu", torch.Generator().manual_seed(0), None).draw(50)
    assert whole.shape == (50, 3, 16, 24)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 4  # not square: mirrored, never turned


def test_rates_are_halved_and_measurements_evenly_spaced() -> None:
    schedule = Schedule(total=1000, halve=300, validations=4)
    assert [schedule.factor(seen) for seen in (0, 299, 300, 599, 600, 900)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    due = [seen for seen in range(0, 1000, 30) if schedule.validates(seen, seen + 30)]
    assert due == [240, 480, 720, 990]
    training = started(config(batch=2, kimg=0.01, halve_kimg=0.004, learning_rate=0.25, validations=1), photos())
    rates = []
    for seen in range(0, 10, 2):
        training.step(seen)
        rates.append(training.optimizers["resynthesizer"].param_groups[0]["lr"])
    assert rates == [0.25, 0.25, 0.125, 0.125, 0.0625]


def test_halvings_count_from_the_end_of_the_warm_up() -> None:
    """A classifier that learns alone first uses up no part of the rates: 10 images at full rate, then halvings."""
    settings = {**JOINT, "kimg": 0.012, "halve_kimg": 0.008, "learning_rate": 0.25}
    joint = {"classifier": "compact", "learning_rate": 0.5, "warm_up_kimg": 0.01}
    training = started(config(**{**settings, "joint": joint}), both())
    rates = []
    for seen in range(0, 32, 4):
        training.set_rates(seen)
        rates.append([training.optimizers[name].param_groups[0]["lr"] for name in ("resynthesizer", "classifier")])
    assert rates == [[0.25, 0.5]] * 5 + [[0.125, 0.25]] * 2 + [[0.0625, 0.125]]


def test_one_step_is_one_of_adam_on_the_mean_difference_to_the_original() -> None:
    """The first step of Adam moves each weight by the rate against the sign of its gradient."""
    training = started(config(task="SR", mirrors=False), photos(4, None))
    before = state(training.network)
    drawn = Patches(training.patches.rows, "cpu", torch.Generator().manual_seed(0), 16, "none").draw(2)
    sums = drawn.numpy().astype(np.int64).reshape(2, 3, 4, 4, 4, 4).sum(axis=(3, 5))
    reduced = torch.from_numpy((sums / 16 / 255).astype(np.float32))
    torch.manual_seed(0)
    same = RDN(4, 4, 1, 1)
    loss = (same(reduced) - drawn / 255).abs().mean()
    loss.backward()
    seen, numbers = training.step(0)
    assert (seen, numbers["loss"]) == (2, pytest.approx(float(loss.detach()), rel=1e-5))
    for name, parameter in same.named_parameters():
        assert parameter.grad is not None
        moved = training.network.state_dict()[name] - before[name]
        clear = parameter.grad.abs() > 1e-5
        torch.testing.assert_close(moved[clear], -1e-4 * parameter.grad[clear].sign(), rtol=0, atol=2e-6)


def test_held_out_images_are_enlarged_whole_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of("p", 0, {"image": pixels(12, 0, 16, 20)})
    training = started(config(patch=16), rows)
    found = training.validate()
    images = rows.split("val").array("image")
    with torch.no_grad():
        made = training.network(downsample(torch.from_numpy(images))).permute(0, 2, 3, 1).numpy()
    squares = ((np.clip(np.round(made * 255), 0, 255) - images) ** 2).mean(axis=(1, 2, 3))
    assert found["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / squares)), abs=0.01)
    assert set(found) == {"psnr", "psnr_bicubic"}
    monkeypatch.setattr(reconstruction, "BLOCK_PIXELS", 1)
    assert training.validate()["psnr"] == pytest.approx(found["psnr"], abs=1e-3)
    degraded = training.fidelity("SR+D")
    assert degraded == training.fidelity("SR+D")  # the same noise each time
    assert degraded["psnr_bicubic"] != found["psnr_bicubic"]


def test_a_picture_shows_the_center() -> None:
    images = torch.arange(36 * 20).reshape(1, 1, 36, 20)
    assert torch.equal(center(images, 16), images[:, :, 8:24, 0:16])
    assert torch.equal(center(images, 64), images)


# Joint training


def test_a_joint_step_trains_both_networks_and_leaves_the_perceptual_one(perceptual_file: Path) -> None:
    for feature in ("pixel", "stage1", "stage5"):
        given = config(**{**JOINT, "joint": {"classifier": "compact", "feature": feature}}, perceptual="p", task="SR+C")
        training = started(given, both(), perceptual=perceptual_file)
        fixed = training.loss.network
        before = {"sr": state(training.network), "classifier": state(training.classifier), "fixed": state(fixed)}
        _, numbers = training.step(0)
        assert set(before["sr"]) - differing(before["sr"], state(training.network)) == set()
        assert {"fc.weight", "convolutions.0.weight"} <= differing(before["classifier"], state(training.classifier))
        assert not differing(before["fixed"], state(fixed))
        assert all(parameter.grad is None for parameter in fixed.parameters())
        assert {"classification", "accuracy", "loss", "pixel", "stage5"} <= set(numbers)


def test_the_joint_loss_is_that_of_equation_2(perceptual_file: Path) -> None:
    given = config(**{**JOINT, "joint": {"classifier": "compact", "feature": "stage2", "weight": 0.7}}, perceptual="p")
    training = started(given, both(), perceptual=perceptual_file)
    training.classifier.eval()
    images = torch.from_numpy(pixels(5, 3).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor([0, 1, 0, 1, 0])
    original = images / 255
    made = training.network(F.avg_pool2d(images.float(), 4) / 255)
    stages = training.loss.network.stages
    residual = (stages(made, [2])[2] - stages(original, [2])[2]).abs()
    classified = F.cross_entropy(training.classifier(residual), labels)
    rebuilt = training.loss(made[labels == 0], original[labels == 0])[0]
    total, terms = training.losses(images, labels)
    assert float(total.detach()) == pytest.approx(float((classified + 0.7 * rebuilt).detach()), rel=1e-5)
    assert float(terms["classification"]) == pytest.approx(float(classified.detach()), rel=1e-5)
    right = (training.classifier(residual).argmax(1) == labels).float().mean()
    assert float(terms["accuracy"]) == pytest.approx(float(right))
    one_real = torch.tensor([0, 1, 1, 1, 1])
    total, terms = training.losses(images, one_real)
    assert float(total.detach()) == float(terms["classification"])
    assert "pixel" not in terms
    gradients = torch.autograd.grad(total, list(training.network.parameters()))
    assert all((gradient != 0).any() for gradient in gradients)  # the classifier's loss reaches the re-synthesizer


def test_features_come_from_clean_images_and_reconstruction_from_degraded_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    for task in ("SR", "SR+C+D"):
        training = started(config(**JOINT, task=task), both())
        training.classifier.eval()
        kept: list[Any] = []
        inner = training.network.forward
        monkeypatch.setattr(
            training.network, "forward", lambda x, inner=inner, kept=kept: (kept.append(x), inner(x))[1]
        )
        images = torch.from_numpy(pixels(40, 3).transpose(0, 3, 1, 2).copy())
        _, terms = training.losses(images, torch.tensor([0, 1] * 20))
        clean, degraded = kept
        assert torch.equal(clean, downsample(images))
        assert len(degraded) == 20
        seen.append((float(terms["classification"]), float(terms["pixel"]), torch.equal(degraded, clean[::2])))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]
    assert (seen[0][2], seen[1][2]) == (True, False)


def test_reconstruction_counts_real_images_only() -> None:
    training = started(config(**JOINT), both())
    training.classifier.eval()
    images = torch.from_numpy(pixels(6, 3).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    other = images.clone()
    other[labels == 1] = 255 - other[labels == 1]
    first, second = training.losses(images, labels)[1], training.losses(other, labels)[1]
    assert float(first["pixel"]) == float(second["pixel"])
    assert float(first["classification"]) != float(second["classification"])


def test_in_the_warm_up_only_the_classifier_learns_and_both_are_measured() -> None:
    training = started(config(**{**JOINT, "validations": 1}, mirrors=False), both(16))
    before = {"sr": state(training.network), "classifier": state(training.classifier)}
    _, numbers = training.step(0, train_generator=False)
    assert not differing(before["sr"], state(training.network))
    assert "fc.weight" in differing(before["classifier"], state(training.classifier))
    assert set(numbers) == {"classification", "accuracy"}
    before["classifier"] = state(training.classifier)
    found = training.validate()
    assert set(found) == {"psnr", "psnr_bicubic", "held_out_accuracy"}
    assert not differing(before["classifier"], state(training.classifier))  # nor its running statistics
    training.classifier.eval()
    right = []
    for rows, label in ((training.held_out, 0), (training.held_out_fakes, 1)):
        images = torch.from_numpy(rows.array("image"))
        assert len(images) == 4
        residual = training.residual(downsample(images), images.permute(0, 3, 1, 2))
        right.append(float((training.classifier(residual).argmax(1) == label).float().mean()))
    assert found["held_out_accuracy"] == sum(right) / 2
    training.classifier.train()
    training.validate()
    assert training.classifier.training


def test_half_of_a_batch_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, reals in ((4, 2), (5, 3)):
        training = started(config(**{**JOINT, "batch": batch}, mirrors=False), both())
        calls: list[Any] = []
        inner = training.losses
        monkeypatch.setattr(training, "losses", lambda *a, inner=inner, calls=calls: (calls.append(a), inner(*a))[1])
        training.step(0)
        images, labels, _ = calls[0]
        assert labels.tolist() == [0] * reals + [1] * (batch - reals)
        known = {label: {row.tobytes() for row in pixels(8, label)} for label in (0, 1)}
        for image, label in zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True):
            assert np.ascontiguousarray(image).tobytes() in known[label]


def test_cross_entropy_is_that_of_torch() -> None:
    logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_a_joint_training_keeps_its_classifier(tmp_path: Path) -> None:
    settings = {**JOINT, "joint": {"classifier": "compact", "warm_up_kimg": 0.008}, "kimg": 0.008}
    made = fit(tmp_path, config(**settings), both())
    card, log = json.loads(made["card.json"]), json.loads(made["log.json"])
    assert card["steps"] == 4
    assert ["pixel" in entry for entry in log] == [False, False, True, True]
    assert card["rows"] == {"real": {"train": 4, "val": 2}, "fake": {"train": 4, "val": 2}}
    assert "held_out_accuracy" in card["figures"]
    with safe_open(tmp_path / "out" / "classifier.safetensors", "np") as file:
        about = json.loads(file.metadata()["touchstone"])
        assert file.get_tensor("fc.weight").shape == (2, 128)
    assert (about["network"], about["feature"], about["classes"]) == ("compact", "pixel", ["real", "fake"])
