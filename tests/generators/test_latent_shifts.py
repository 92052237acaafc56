"""Equation 3 of Chai et al. 2020 on linear models: loss, slope, course and optimum; shifts of real generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import Golden
from patch_detectors import patch_config, patch_state
from small_games import generator_file_of

from detectors import cells
from detectors.choosing import detector_config
from detectors.contract import State
from detectors.gradients import Judge
from stages.generators import frozen, generator_file, layer_residuals, weights
from stages.generators.latent_shifts import Shift, moved
from stages.generators.shift_training import Shifting, log_odds


def linear(golden: Golden, rate: float) -> Shifting:
    """The models of a golden set, in double precision; a step takes all of its latents."""
    given = {name: torch.from_numpy(np.asarray(golden[name])) for name in ("A", "b", "c", "c0", "P", "Z")}

    def generate(z: torch.Tensor, shift: Shift | None) -> torch.Tensor:
        return (z if shift is None else z - shift.vector) @ given["A"].T + given["b"]

    def judge(x: torch.Tensor) -> torch.Tensor:
        return (x @ given["c"] + given["c0"])[:, None]

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((x - y) @ given["P"].T).square().mean(dim=1)

    game = Shifting(
        generate, judge, distance, space="z", size=given["A"].shape[1], weight=float(golden["weight"]), rate=rate,
        batch=len(given["Z"]), random=torch.Generator(), dtype=torch.float64,
    )  # fmt: skip
    game.drawn = lambda: given["Z"]  # type: ignore[method-assign]
    return game


@pytest.mark.golden("latent_shift", "*.npz", keys="adam_path")
def test_loss_slope_and_course_are_those_of_the_reference(golden: Golden) -> None:
    game = linear(golden, 0.05)
    for step, wanted in enumerate(golden["adam_path"]):
        loss = game.step(0)[1]["loss"]
        if "adam_losses" in golden:
            assert loss == pytest.approx(golden["adam_losses"][step], abs=1e-9)
        assert game.shift.shift.detach().numpy() == pytest.approx(wanted, abs=1e-9)
    for place, value, slope in (("w0", "loss_at_w0", golden["gradient_at_w0"]), ("optimum", "loss_at_optimum", 0)):
        game.shift.shift.data = torch.from_numpy(golden[place].copy())
        game.shift.shift.grad = None
        loss, numbers = game.loss(game.drawn())
        loss.backward()
        assert loss.item() == pytest.approx(float(golden[value]), abs=1e-9)
        assert game.shift.shift.grad is not None
        assert game.shift.shift.grad.numpy() == pytest.approx(slope, abs=1e-9 if place == "w0" else 1e-5)
    for name, scale in (("plain", 0.0), ("exaggerated", 1.0), ("suppressed", -1.0)):
        said = game.judge(game.generate(game.drawn(), game.moved(scale))).sigmoid().mean()
        assert said.item() == pytest.approx(float(golden[f"p_fake_{name}"]), abs=1e-9)
    assert numbers["probability_of_fake"] == pytest.approx(float(golden["p_fake_exaggerated"]), abs=1e-9)


def test_the_rate_falls_to_0_along_a_cosine_and_saturated_odds_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(z: torch.Tensor, shift: Shift | None) -> torch.Tensor:
        return z if shift is None else z - shift.vector

    game = Shifting(
        generate, lambda x: x, lambda x, y: (x - y).square().mean(dim=1), space="z", size=2, weight=0.5, rate=0.8,
        batch=3, random=torch.Generator().manual_seed(0), falling=4,
    )  # fmt: skip
    game.generate.z_dim = 2
    rates: list[float] = []
    monkeypatch.setattr(game.optimizer, "step", lambda: rates.append(game.optimizer.param_groups[0]["lr"]))
    for _ in range(6):
        game.step(0)
    half = 0.8 * 0.5 * 2**-0.5
    assert rates == pytest.approx([0.8, 0.4 + half, 0.4, 0.4 - half, 0, 0])
    assert log_odds(np.array([0.5, 0.9, 1.0])) == pytest.approx([0, np.log(9), np.log(999_999)])


def test_a_shift_moves_latents_or_styles_and_lets_gradients_through(tmp_path: Path) -> None:
    vector = torch.linspace(-1, 1, 4).requires_grad_()
    one = frozen.FrozenGenerator(generator_file_of("progan", tmp_path), "cpu")
    z = one.latents(np.array([3, 4]))
    moved = one(z, Shift(vector, "z"))
    torch.testing.assert_close(moved, one.generator(z - vector))
    assert float(torch.autograd.grad(moved.sum(), vector)[0].abs().min()) > 0
    styled = frozen.FrozenGenerator(generator_file_of("stylegan2", tmp_path), "cpu")
    z = styled.latents(np.array([3]))
    wide = torch.linspace(-1, 1, 6).requires_grad_()
    moved = styled(z, Shift(wide, "w"))
    styles = (styled.generator.mapping(z, None) - wide)[:, None].repeat(1, styled.generator.styles, 1)
    torch.testing.assert_close(moved, styled.generator.synthesis(styles, "none"))
    assert float(torch.autograd.grad(moved.sum(), wide)[0].abs().min()) > 0
    torch.testing.assert_close(styled(z), styled.generator(z, noise="none"))  # the mapping is as it was


def test_whoever_changes_a_generator_changes_it_for_nobody_else(tmp_path: Path) -> None:
    """Threads of a run share what is loaded from one file, in the middle of each other's changes."""
    for family, change in (
        ("stylegan2", lambda one, z: moved(Shift(torch.linspace(-1, 1, 6), "w"), one.generator, {"z": z})),
        ("progan", lambda one, z: layer_residuals.added(
            one.generator, "progan",
            [torch.ones_like(part) for part in layer_residuals.zeros(one.generator, "progan", one, z)],
        )),
    ):  # fmt: skip
        file = generator_file_of(family, tmp_path)
        one, other = (frozen.FrozenGenerator(file, "cpu") for _ in range(2))
        _, shared, _ = generator_file.load(file, "cpu")
        z = one.latents(np.array([3, 4]))
        plain = one(z)
        with change(one, z):
            assert not torch.equal(one(z), plain)
            assert torch.equal(other(z), plain)
            assert torch.equal(other._render(shared, {"z": z}, psi=1.0, cutoff=None, noise="none"), plain)
        assert torch.equal(one(z), plain)
        places = [[value.data_ptr() for value in net.state_dict().values()] for net in (shared, one.generator)]
        assert places[0] == places[1]  # in memory once


def test_generators_without_a_latent_of_their_own_are_refused(tmp_path: Path) -> None:
    header = weights.Header("stargan2", {}, {"z_dim": 4, "c_dim": 2, "w_dim": 4, "resolution": 32})
    with pytest.raises(ValueError, match="invert: x is of family stargan2, which makes images of images"):
        frozen.check_latent("invert", "x", header, None)
    header = weights.Header("progan", {}, {"z_dim": 4, "c_dim": 3, "w_dim": 0, "resolution": 8})
    with pytest.raises(ValueError, match="x is conditional; label_index is None, expected 0 to 2"):
        frozen.check_latent("invert", "x", header, None)


@pytest.mark.parametrize("side", [16, 12])
def test_the_slope_of_a_judge_is_that_of_small_differences(side: int) -> None:
    """Also where pictures of another size are brought to the detector's."""
    config = patch_config()
    judge = Judge(config, patch_state(config, 16), "cpu")
    random = torch.Generator().manual_seed(1)
    images = (torch.rand((1, 3, side, side), generator=random) * 1.8 - 0.9).requires_grad_()
    logits = judge.fake_logits(images)
    assert logits.shape == (1, 16)
    (slope,) = torch.autograd.grad(logits.mean(), images)
    direction = torch.randn(images.shape, generator=random)
    with torch.no_grad():
        ends = [judge.fake_logits(images + step * direction).mean().item() for step in (1e-3, -1e-3)]
    assert (slope * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.05, abs=1e-4)


def test_a_judge_of_whole_levels_says_what_the_detector_says() -> None:
    config = patch_config()
    state = patch_state(config, 16)
    pictures = np.random.default_rng(2).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    images = torch.from_numpy(pictures).movedim(3, 1).float() / 127.5 - 1
    said = Judge(config, state, "cpu").fake_logits(images).sigmoid().numpy()
    assert said == pytest.approx(cells.probabilities(config, state, pictures).reshape(2, -1), abs=1e-5)


def test_a_detector_of_spectra_cannot_lead_a_latent() -> None:
    config = detector_config({"preset": "dct2d-cnn", "widths": [4]})
    with pytest.raises(ValueError, match=r"it reads 'dct2d' \(3, 8, 8\), which is no picture"):
        Judge(config, State({}, {"shape": [3, 8, 8], "axes": ["channel", "row frequency", "column frequency"]}), "cpu")
