"""Adversarial losses against closed forms, slow loops and the outputs of the authors' code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_files import Golden
from small_games import photos, recipe_of
from torch import Tensor

from stages.generators import official
from stages.generators.games import NoiseGame
from stages.generators.losses import Logistic, Wasserstein
from stages.generators.training_images import TrainingImages
from stages.train_generator import new_network
from stages.weights.filling import fill

SHAPE = (5, 3, 4, 4)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def batches(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=random), torch.randn(SHAPE, generator=random) + 0.3


def linear(seed: int = 1) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """a, and D(x) = a.x + 0.7."""
    a = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(seed)) * 0.2
    return a, lambda x: (x * a).sum(dim=(1, 2, 3))[:, None] + 0.7


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def random() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 10.0])
@pytest.mark.parametrize(("interval", "step", "weight"), [(1, 0, 1), (1, 7, 1), (16, 0, 16), (16, 5, 0), (16, 32, 16)])
def test_logistic_loss_of_a_linear_discriminator(gamma: float, interval: int, step: int, weight: int) -> None:
    a, scores = linear()
    reals, fakes = batches()
    loss, log = Logistic(gamma, interval).discriminator(scores, reals, fakes, step, random())
    real, fake = ((x.double() * a.double()).sum(dim=(1, 2, 3)).numpy() + 0.7 for x in (reals, fakes))
    adversarial = softplus(fake).mean() + softplus(-real).mean()
    norm = float(a.double().square().sum())
    assert loss.item() == pytest.approx(adversarial + gamma / 2 * weight * norm, rel=1e-5)
    assert log["discriminator"] == pytest.approx(adversarial, rel=1e-5)
    assert log.get("r1") == (pytest.approx(norm, rel=1e-5) if gamma and weight else None)
    assert Logistic(gamma).generator(scores(fakes)).item() == pytest.approx(softplus(-fake).mean(), rel=1e-5)


@pytest.mark.parametrize(("penalty", "drift"), [(10.0, 0.001), (3.0, 0.2), (0.0, 0.0)])
def test_wasserstein_loss_of_a_linear_discriminator(penalty: float, drift: float) -> None:
    a, scores = linear()
    reals, fakes = batches()
    loss, log = Wasserstein(penalty, drift).discriminator(scores, reals, fakes, 0, random())
    real, fake = ((x.double() * a.double()).sum(dim=(1, 2, 3)).numpy() + 0.7 for x in (reals, fakes))
    norm = float(a.double().square().sum().sqrt())
    distance = fake.mean() - real.mean()
    expected = distance + penalty * (norm - 1) ** 2 + drift * (real**2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert log["discriminator"] == pytest.approx(distance, rel=1e-4)
    assert log["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert Wasserstein().generator(scores(fakes)).item() == pytest.approx(-fake.mean(), rel=1e-5)


def test_penalties_are_means_over_images_of_their_own_gradients() -> None:
    reals, fakes = batches()

    def quadratic(x: Tensor) -> Tensor:  # gradient 0.3 x
        return 0.15 * x.square().sum(dim=(1, 2, 3))[:, None]

    _, log = Logistic(10.0).discriminator(quadratic, reals, fakes, 0, random())
    norms = [float(((0.3 * image) ** 2).sum()) for image in reals.numpy()]
    assert log["r1"] == pytest.approx(np.mean(norms), rel=1e-5)
    without, _ = Wasserstein(0.0, 0.0).discriminator(quadratic, reals, fakes, 0, random())
    loss, log = Wasserstein(10.0, 0.0).discriminator(quadratic, reals, fakes, 0, random())
    shares = torch.rand((5, 1, 1, 1), generator=random()).numpy()
    mixed = [r + (f - r) * share for r, f, share in zip(reals.numpy(), fakes.numpy(), shares, strict=True)]
    lengths = [float(np.sqrt(((0.3 * image) ** 2).sum())) for image in mixed]
    assert log["gradient_norm"] == pytest.approx(np.mean(lengths), rel=1e-5)
    expected = np.mean([(length - 1) ** 2 for length in lengths])
    assert (loss - without).item() == pytest.approx(10 * expected, rel=1e-4)


def test_the_gradient_is_penalized_between_each_real_image_and_its_fake() -> None:
    _, scores = linear()
    reals, fakes = batches()
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return scores(x)

    Wasserstein().discriminator(watched, reals, fakes, 0, random())
    assert torch.equal(seen[0], reals)
    assert torch.equal(seen[1], fakes)
    shares = ((seen[2] - reals) / (fakes - reals)).flatten(1)
    assert shares.std(dim=1).max() < 1e-3  # one share for all pixels of an image
    assert shares.min() >= -1e-4
    assert shares.max() <= 1 + 1e-4
    assert shares[:, 0].std() > 0.05  # and one for each image


def closed_form(name: str, *numbers: Tensor) -> Tensor:
    """The discriminator's loss for D(x) = v.tanh(W x), with its gradient W' (v (1 - tanh^2)) written out."""
    reals, fakes, shares, w, v = numbers

    def scores(x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ w.T) @ v

    def slopes(x: Tensor) -> Tensor:
        return ((1 - torch.tanh(x.flatten(1) @ w.T).square()) * v) @ w

    if name == "logistic":
        adversarial = F.softplus(scores(fakes)).mean() + F.softplus(-scores(reals)).mean()
        return adversarial + 4 * slopes(reals).square().sum(dim=1).mean()  # gamma 2, interval 4
    mixed = reals + (fakes - reals) * shares
    penalty = (slopes(mixed).square().sum(dim=1).sqrt() - 1).square().mean()
    return (scores(fakes) - scores(reals)).mean() + 10 * penalty + 0.001 * scores(reals).square().mean()


@pytest.mark.parametrize(("name", "loss"), [("logistic", Logistic(2.0, 4)), ("wasserstein", Wasserstein())])
def test_gradients_of_the_whole_loss_are_those_of_the_closed_form(name: str, loss: Any) -> None:
    reals, fakes = batches()
    shares = torch.rand((5, 1, 1, 1), generator=random())
    seeded = torch.Generator().manual_seed(5)
    w = (torch.randn(6, 48, generator=seeded) * 0.2).requires_grad_(True)
    v = torch.randn(6, generator=seeded).requires_grad_(True)
    found, _ = loss.discriminator(lambda x: (torch.tanh(x.flatten(1) @ w.T) @ v)[:, None], reals, fakes, 0, random())
    found.backward()
    doubles = [x.detach().double() for x in (reals, fakes, shares, w, v)]
    for x in doubles[3:]:
        x.requires_grad_(True)
    expected = closed_form(name, *doubles)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(expected, doubles[3:])
    for parameter, gradient in zip((w, v), gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), gradient, rtol=1e-3, atol=1e-5)
    for place in [(0, 0), (3, 17), (5, 47)]:  # and the closed form's own derivative is right
        values = []
        for change in (1e-5, -1e-5):
            moved = doubles[3].detach().clone()
            moved[place] += change
            values.append(closed_form(name, *doubles[:3], moved, doubles[4]).item())
        assert gradients[0][place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("loss", [Logistic(10.0), Wasserstein()])
def test_the_generator_is_drawn_to_higher_scores(loss: Any) -> None:
    scores = torch.zeros(4, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss.generator(scores), scores)
    assert (gradient < 0).all()


def test_large_scores_do_not_overflow() -> None:
    reals, fakes = batches()
    for factor, expected in ((1000.0, 1000.0), (-1000.0, 0.0)):
        scores = partial(lambda factor, x: x.new_full((len(x), 1), factor), factor)
        loss, _ = Logistic(0.0).discriminator(scores, reals, fakes, 0, random())
        assert loss.item() == pytest.approx(1000.0)
        assert Logistic(0.0).generator(torch.full((3, 1), -factor)).item() == pytest.approx(expected)


# Outputs of the authors' code


def filled(kind: str, converted: Any) -> Any:
    """The network of a checkpoint, ready to be trained."""
    network = new_network(converted.family, kind, converted.architecture)
    return fill("golden", network, converted.tensors).requires_grad_(True)


def checkpoint(path: Path) -> Path:
    (found,) = (file for file in path.parent.glob(f"{path.stem}.*") if file.suffix in (".pkl", ".pth", ".pt"))
    return found


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.golden("generators", "progan_tf_*.npz")
def test_the_wasserstein_loss_is_that_of_the_authors(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(golden.path)
    raw, judge = official.open_checkpoint(path, "raw"), official.discriminator(path)
    assert judge is not None
    generator, discriminator = filled("generator", raw), filled("discriminator", judge)
    reals, z, labels = (torch.tensor(golden[f"d_{name}"]) for name in ("reals", "z", "labels"))
    with torch.no_grad():
        fakes = generator(z, labels, lod=0.0)
    share = torch.tensor(golden["gp_eps"])
    monkeypatch.setattr(torch, "rand", lambda *shape, **more: share)
    loss, log = Wasserstein().discriminator(lambda x: discriminator(x, labels, lod=0.0), reals, fakes, 0, random())
    close(log["gradient_norm"], golden["gp_norm"].mean())
    if labels.shape[1]:
        side, classes = reals.shape[2], labels.shape[1]
        images = TrainingImages(photos(side, domains=tuple("abcdefghij"[:classes])), "cpu", random(), conditional=True)
        recipe = recipe_of("progan", conditional=True, grow_kimg=0.0, fade_kimg=0.0)
        game = NoiseGame(recipe, {"generator": generator, "discriminator": discriminator}, images, random())
        classes_of = labels.argmax(dim=1)
        loss = loss + game._class_loss(reals, classes_of, 0.0) + game._class_loss(fakes, classes_of, 0.0)
    close(loss.item(), golden["d_loss_per_sample"].mean())


def r1_files(config: pytest.Config) -> list[Golden]:
    folder = config.getoption("--golden") / "generators"
    found = [Golden(path) for path in sorted(folder.glob("*.npz"))]
    return [golden for golden in found if "r1_sqnorm" in golden.arrays]


def test_the_gradient_penalty_is_that_of_the_authors(request: pytest.FixtureRequest) -> None:
    files = r1_files(request.config)
    assert files
    for golden in files:
        judge = official.discriminator(checkpoint(golden.path))
        assert judge is not None
        discriminator = filled("discriminator", judge)
        reals, labels = torch.tensor(golden["d_reals"]), torch.tensor(golden["d_labels"])
        label = labels if labels.shape[1] else None
        loss, log = Logistic(10.0, 16).discriminator(lambda x: discriminator(x, label), reals, reals, 0, random())  # noqa: B023
        close(log["r1"], golden["r1_sqnorm"].mean())
        scores = golden["d_score"].astype(np.float64)
        adversarial = softplus(scores).mean() + softplus(-scores).mean()
        close(loss.item(), adversarial + 80 * golden["r1_sqnorm"].mean())


def test_progan_is_trained_by_one_of_two_losses_and_has_no_setting_of_the_other() -> None:
    assert recipe_of("progan").adversarial() == Wasserstein(10.0, 0.001)
    assert recipe_of("progan", gradient_penalty=1.0, drift=0.0).adversarial() == Wasserstein(1.0, 0.0)
    assert recipe_of("progan", loss="logistic").adversarial() == Logistic(10.0, 1)
    assert recipe_of("progan", loss="logistic").adversary() == ("logistic", True)  # R1 on profiles may be set
    assert recipe_of("progan").adversary() == ("Wasserstein", False)
    assert recipe_of("progan", loss="logistic", r1_gamma=0.5, r1_interval=8).adversarial() == Logistic(0.5, 8)
    for given in ({"r1_gamma": 1.0}, {"r1_interval": 2, "loss": "wasserstein"}):
        with pytest.raises(ValueError, match=r"r1_\w+ has no effect with loss: wasserstein; drop it"):
            recipe_of("progan", **given)
    for given in ({"gradient_penalty": 1.0}, {"drift": 0.0}):
        with pytest.raises(ValueError, match=r"\w+ has no effect with loss: logistic; drop it"):
            recipe_of("progan", loss="logistic", **given)
