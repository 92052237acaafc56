"""Mixtures of factor analyzers: densities, fit, sampling, files of torch-mfa, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import torch_bytes, write
from drawn_images import sampled
from golden_files import Golden
from memory_rows import context
from small_games import game_of, photos

from pipeline.errors import Interrupted, StageError
from stages.finetune_generator import FinetuneGeneratorConfig
from stages.generators import generator_file, generator_metrics, inspection, mfa, official, weights
from stages.generators.mfa_densities import (
    Mixture,
    log_densities,
    log_joint,
    log_likelihoods,
    maximized,
    moments,
    principal,
    reconstruct,
    responsibilities,
)
from stages.generators.weights import WeightsError
from stages.train_generator import TrainGenerator, TrainGeneratorConfig


def tensor(golden: Any, key: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(golden[key]))


def mixture(golden: Any, start: str = "") -> Mixture:
    """That of the set, or with "0" the one that a fit starts from."""
    return Mixture(*(tensor(golden, f"{name}{start}") for name in ("pi", "mu", "A", "s2")))


def numbers(found: Mixture) -> list[np.ndarray[Any, Any]]:
    return [one.numpy() for one in (found.weights, found.means, found.loadings, found.noise)]


def close(found: Any, wanted: Any, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=tolerance, atol=tolerance)


# Densities and the fit's step


@pytest.mark.golden("mfa", "*.npz", keys="log_density")
def test_densities_and_weights_are_those_of_dense_covariances(golden: Any) -> None:
    start, x = mixture(golden, "0"), tensor(golden, "X")
    close(log_densities(start, x), golden["log_density"])
    close(log_joint(start, x), golden["log_joint"])
    close(log_likelihoods(start, x), golden["log_prob"])
    close(responsibilities(start, x), golden["responsibilities"])
    close(log_joint(start, x, "released"), golden["released_log_joint"])
    close(responsibilities(start, x, "released"), golden["released_responsibilities"])
    noise = start.noise[:, None].repeat(1, x.shape[1])  # the same, said for each value
    close(log_densities(Mixture(start.weights, start.means, start.loadings, noise), x), golden["log_density"])
    with pytest.raises(ValueError, match="weights is 'rounded'; expected exact or released"):
        log_joint(start, x, "rounded")


@pytest.mark.golden("mfa", "*.npz", keys="em1_pi")
def test_a_step_of_the_fit_does_not_depend_on_batches(golden: Any) -> None:
    start, x = mixture(golden, "0"), tensor(golden, "X")
    for prefix, rule in (("em1", "exact"), ("released_em1", "released")):
        r = responsibilities(start, x, rule)
        for cut in (len(x), 7):
            parts = [moments(start, x[at : at + cut], r[at : at + cut]) for at in range(0, len(x), cut)]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole + part
            for name, one in zip(("pi", "mu", "A", "s2"), numbers(maximized(start, whole)), strict=True):
                close(one, golden[f"{prefix}_{name}"])
    with pytest.raises(ValueError, match="one noise variance for each component"):
        maximized(Mixture(start.weights, start.means, start.loadings, start.means), whole)


@pytest.mark.golden("mfa", "*.npz", keys="mean_log_prob_by_step")
def test_the_likelihood_never_falls_with_exact_weights(golden: Any) -> None:
    current, x = mixture(golden, "0"), tensor(golden, "X")
    found = []
    for _ in golden["mean_log_prob_by_step"]:
        found.append(log_likelihoods(current, x).mean().item())
        current = maximized(current, moments(current, x, responsibilities(current, x)))
    close(found, golden["mean_log_prob_by_step"])
    assert (np.diff(found) > 0).all()


@pytest.mark.golden("mfa", "*.npz", keys="reconstruct_of_first6")
def test_reconstructions_are_posterior_means(golden: Any) -> None:
    start, x = mixture(golden, "0"), tensor(golden, "X")[:6]
    close(reconstruct(start, x), golden["reconstruct_of_first6"])
    half = reconstruct(start, x, tensor(golden, "observed"), "released")
    close(half, golden["reconstruct_half_of_first6"])


@pytest.mark.golden("mfa", "*.npz", keys="ppca_A")
def test_a_component_begins_as_principal_axes(golden: Any) -> None:
    wanted = golden["ppca_A"]
    mean, loadings, noise = principal(tensor(golden, "ppca_samples"), wanted.shape[1])
    close(mean, golden["ppca_mu"])
    close(loadings @ loadings.T, wanted @ wanted.T)
    close(noise, golden["ppca_s2"])
    with pytest.raises(ValueError, match="2 factors need 4 images or more, found 3"):
        principal(torch.zeros(3, 5), 2)


# Sampling


def generator_of(found: Mixture, side: int, dtype: torch.dtype = torch.float64) -> mfa.Generator:
    components, _, factors = found.loadings.shape
    made = mfa.Generator(components=components, z_dim=factors, resolution=side).to(dtype)
    made.take(found)
    return made


@pytest.mark.golden("mfa", "*.npz", keys="sample_u8_hwc")
def test_given_latents_give_the_golden_images(golden: Any) -> None:
    made = generator_of(mixture(golden), golden["sample_u8_hwc"].shape[1])
    component, z, noise = (tensor(golden, f"sample_{name}") for name in ("component", "zl", "zd"))
    with torch.no_grad():
        images = made(component, z)
        close(images.flatten(1), golden["sample_clean"])
        close(made(component, z, noise).flatten(1), golden["sample_noisy"])
    assert np.array_equal(mfa.to_uint8(images * 2 - 1).numpy(), golden["sample_u8_hwc"])
    edges = np.cumsum(golden["pi"])
    inside = torch.tensor([0.0, *edges[:-1] - 1e-9, *edges[:-1] + 1e-9, 1 - 1e-12])
    assert made.component(inside).tolist() == [0, *range(len(edges) - 1), *range(1, len(edges)), len(edges) - 1]


def toy(components: int = 3, side: int = 2, factors: int = 2, seed: int = 1) -> Mixture:
    state = np.random.RandomState(seed)
    values = 3 * side * side
    made = (
        np.array([0.5, 0.2, 0.3])[:components], state.uniform(0.3, 0.7, (components, values)),
        state.normal(0, 0.1, (components, values, factors)), state.uniform(0.01, 0.02, components),
    )  # fmt: skip
    return Mixture(*map(torch.from_numpy, made))


def saved(path: Path, found: Mixture, side: int) -> Path:
    made = generator_of(found, side, torch.float32)
    components, _, factors = found.loadings.shape
    architecture = {"components": components, "z_dim": factors, "resolution": side, "c_dim": 0}
    weights.save(path, "mfa", architecture, {name: one.numpy() for name, one in made.state_dict().items()})
    return path


def test_the_image_of_a_seed_is_drawn_from_its_own_stream(tmp_path: Path) -> None:
    """A uniform number, latents, and only then the noise of pixels: components, in vectors of channels first."""
    found = toy(side=4)
    path = saved(tmp_path / "m.safetensors", found, 4)
    pi, mu, loadings, s2 = numbers(found)
    for noise in (False, True):
        images, components = sampled(path, list(range(12)), drawing={"noise": noise}, micro_batch=5), set()
        for seed, image in enumerate(images):
            state = np.random.RandomState(seed)
            k = int((state.random_sample() > np.cumsum(pi)).sum())
            x = mu[k] + loadings[k] @ state.standard_normal(2)
            x = x + np.sqrt(s2[k]) * state.standard_normal(48) * noise
            wanted = np.floor(255 * np.clip(x, 0, 1) + 0.5).reshape(3, 4, 4).transpose(1, 2, 0)
            assert np.abs(image - wanted).max() <= 1
            assert (image == wanted).mean() > 0.95
            components.add(k)
        assert components == {0, 1, 2}
    assert np.array_equal(sampled(path, [7], drawing={"noise": True}), images[7:8])


def test_the_covariance_of_draws_is_that_of_the_density() -> None:
    found = toy(components=1, side=2)
    made = generator_of(found, 2)
    state = np.random.RandomState(3)  # one for each image takes seconds
    drawn = {"u": state.random_sample(20_000), "z": state.randn(20_000, 2), "noise": state.randn(20_000, 12)}
    rows = {name: torch.from_numpy(values) for name, values in drawn.items()}
    x = ((mfa.render(made, rows) + 1) / 2).flatten(1).numpy()
    _, mu, loadings, s2 = (one[0] for one in numbers(found))
    wanted = loadings @ loadings.T + s2 * np.eye(12)
    assert np.linalg.norm(np.cov(x.T) - wanted) / np.linalg.norm(wanted) < 0.03
    assert np.abs(x.mean(axis=0) - mu).max() < 0.01


# The fit as a stage


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("PAIRS", 10), ("PATCHES", 8), ("DIRECTIONS", generator_metrics.DIRECTIONS_AT_ONCE)):
        monkeypatch.setattr(generator_metrics, name, small)


def config(**recipe: Any) -> Any:
    given = {"family": "mfa", "network": {"components": 2, "z_dim": 2}, "passes": 4, "batch": 5, **recipe}
    return TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": given, "pictures": 1}))


def fitted(folder: Path, settings: Any, rows: Any, **more: Any) -> Path:
    ctx = context(folder, "train_generator", **more)
    TrainGenerator().fit(settings, {"on": rows}, ctx)
    return ctx.out


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_fit_leaves_a_generator_without_a_discriminator(tmp_path: Path) -> None:
    rows = photos(8, 16)
    out = fitted(tmp_path, config(feature_share=1.0), rows)
    assert sorted(files(out)) == ["card.json", "generator.safetensors", "log.json", "samples-000000064.png"]
    log, card = (json.loads((out / name).read_text()) for name in ("log.json", "card.json"))
    assert [entry["kimg"] for entry in log] == [0.016, 0.032, 0.048, 0.064]
    rises = np.diff([entry["log_likelihood"] for entry in log])
    assert (rises > -1e-12).all()
    assert rises[0] > 1e-3
    assert (card["family"], card["kimg"], card["steps"], card["photographs"]) == ("mfa", 0.064, 4, 16)
    assert "discriminator" not in card
    _, made, header = generator_file.load(out / "generator.safetensors", "cpu")
    x = torch.from_numpy(rows.array("image").transpose(0, 3, 1, 2).reshape(16, -1) / 255)
    last = log_likelihoods(made.mixture(), x).mean().item() / 192
    assert last > log[-1]["log_likelihood"] - 1e-6
    assert header.dimensions == {"resolution": 8, "z_dim": 2, "w_dim": 0, "c_dim": 0}
    assert sampled(out / "generator.safetensors", [0]).shape == (1, 8, 8, 3)


def test_a_fit_stopped_after_each_pass_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Draws of values and of the first components come from one stream, which is saved with the rest."""
    rows, settings = photos(8, 16), config()
    whole = files(fitted(tmp_path / "whole", settings, rows))
    for _ in range(3):
        with pytest.raises(Interrupted):
            fitted(tmp_path / "stopped", settings, rows, stopping=lambda: True)
    assert files(fitted(tmp_path / "stopped", settings, rows, stopping=lambda: True)) == whole
    other = files(fitted(tmp_path / "other", config(weights="released"), rows))
    assert other["log.json"] != whole["log.json"]


def test_a_component_without_photographs_begins_anew_and_odd_ones_are_told(tmp_path: Path) -> None:
    game = game_of("mfa", rows=photos(8, 12), network={"components": 3, "z_dim": 1}, passes=2)
    start = game.generator.mixture()
    far = start.means.clone()
    far[1] = 100.0
    game.generator.take(Mixture(start.weights, far, start.loadings, start.noise))
    game.step(0)
    after = game.generator.mixture()
    assert after.means[1].abs().max() < 2
    assert after.weights.sum().item() == pytest.approx(1)
    odd = [start.weights, far, start.loadings, start.noise.clone()]
    odd[3][2] = 2.0
    game.generator.take(Mixture(*odd))
    assert game.remarks() == [
        "component 1 has a mean of 1e+02", "component 2 has a noise variance of 2",
    ]  # fmt: skip


def test_settings_that_a_fit_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"a mixture of 5 factors needs 7 training rows or more, found 6; lower"):
        fitted(tmp_path, config(network={"components": 2, "z_dim": 5}), photos(8))
    with pytest.raises(ValueError, match="mixed_precision has no effect on mfa, which learns a density; drop it"):
        TrainGeneratorConfig.model_validate({"recipe": {"family": "mfa"}, "mixed_precision": True})
    with pytest.raises(ValueError, match=r"'kimg' is a setting of .*, not of mfa; drop it"):
        config(kimg=3.0)
    with pytest.raises(ValueError, match="flips"):
        config(flips=True)
    with pytest.raises(ValueError, match="mfa learns a density without a discriminator and is not finetuned"):
        FinetuneGeneratorConfig.model_validate({"checkpoint": "a", "method": "none", "recipe": {"family": "mfa"}})
    path, directions = saved(tmp_path / "m.safetensors", toy(), 2), tmp_path / "d.npy"
    for settings, said in (
        ({"drawing": {"noises": True}}, "drawing.noises is no setting for .*; expected one of noise; did you mean"),
        ({"drawing": {"noise": 1}}, "drawing.noise is 1: Input should be a valid boolean"),
        ({"directions": directions}, "directions have no effect on .*, which is of family mfa; drop them"),
        ({"truncation_psi": 0.5}, "has no styles to truncate"),
    ):
        with pytest.raises(ValueError, match=said):
            sampled(path, [0], **settings)
    for changed, said in (
        ({"c_dim": 2}, "has no classes"), ({"noise": "odd"}, "noise is 'odd', expected scalar or diagonal"),
        ({"z_dim": 12}, "12 factors are impossible with 12 values"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            mfa.build({"components": 1, "z_dim": 2, "resolution": 2, **changed})


# Files of torch-mfa


def state(golden: Any) -> dict[str, torch.Tensor]:
    start = mixture(golden, "0")
    spread = start.noise.log()[:, None].repeat(1, start.means.shape[1])
    found = {"MU": start.means, "A": start.loadings, "log_D": spread, "PI_logits": start.weights.log()}
    return {name: one.float() for name, one in found.items()}


@pytest.mark.golden("mfa", "*.pth")
def test_a_state_dict_of_torch_mfa_is_the_mixture_that_it_says(golden_path: Path) -> None:
    golden = Golden(next(golden_path.parent.glob("*.npz")))
    _, made, header = generator_file.load(golden_path, "cpu")
    assert (header.family, header.architecture["noise"]) == ("mfa", "scalar")
    close(log_densities(made.mixture(), tensor(golden, "X")), golden["log_density"], 1e-4)
    close(responsibilities(made.mixture(), tensor(golden, "X")), golden["responsibilities"], 1e-4)
    about = inspection.inspect(golden_path)
    assert (about["family"], about["form"], about["container"]) == ("mfa", "torch-mfa", "torch zip")
    assert about["generator"]["parameters"] == sum(one.numel() for one in made.parameters())
    assert about["discriminator"] is None
    side = golden["sample_u8_hwc"].shape[1]
    assert sampled(golden_path, [0, 1], drawing={"noise": True}).shape == (2, side, side, 3)


@pytest.mark.golden("mfa", "*.npz", keys="em1_pi")
def test_noise_that_differs_by_value_is_taken_as_it_is(golden: Any, tmp_path: Path) -> None:
    given = state(golden)
    given["log_D"][1, 3] += 0.7
    _, made, header = generator_file.load(write(tmp_path / "m.pth", torch_bytes(given)), "cpu")
    assert header.architecture["noise"] == "diagonal"
    assert torch.equal(made.log_noise, given["log_D"])
    x, found = tensor(golden, "X"), made.mixture()
    k = 1
    dense = found.loadings[k] @ found.loadings[k].T + torch.diag(found.noise[k])
    centered = x - found.means[k]
    wanted = -0.5 * (
        (centered * torch.linalg.solve(dense, centered.T).T).sum(dim=1) + torch.logdet(dense)
        + x.shape[1] * math.log(2 * math.pi)
    )  # fmt: skip
    close(log_densities(found, x)[:, k], wanted)


def test_files_that_are_no_such_mixture_are_refused(tmp_path: Path) -> None:
    good = {
        "MU": torch.zeros(2, 12), "A": torch.zeros(2, 12, 3), "log_D": torch.zeros(2, 12), "PI_logits": torch.zeros(2)
    }  # fmt: skip
    cases: list[tuple[dict[str, Any], str]] = [
        ({"MU": torch.zeros(2, 13)}, r"its MU has shape \(2, 13\), and A \(2, 12, 3\), which do not fit"),
        ({"extra": torch.zeros(1)}, "the unknown tensors 'extra'"),
        ({"PI_logits": torch.zeros(2, dtype=torch.int64)}, r"its PI_logits has shape \(2,\) of int64; expected 1 axes"),
        ({"A": torch.zeros(2, 12)}, r"its A has shape \(2, 12\) of float32; expected 3 axes"),
        ({"A": torch.full((2, 12, 3), math.nan)}, "72 values that are not finite"),
        ({"A": torch.zeros(2, 12, 12)}, "2 components of 12 factors are impossible with 12 values"),
        ({name: torch.zeros(one.shape[:1] + tuple(n + 1 for n in one.shape[1:2]) + one.shape[2:])
          for name, one in good.items()}, "13 values, which are no square image of three colors"),
    ]  # fmt: skip
    for change, said in cases:
        path = write(tmp_path / "m.pth", torch_bytes({**good, **change}))
        with pytest.raises(WeightsError, match=said) as caught:
            official.open_checkpoint(path)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(WeightsError, match="holds a discriminator of family mfa, which has none"):
        weights.save(tmp_path / "d.safetensors", "mfa", {"resolution": 2}, {}, network="discriminator")
