"""The encoder of a generator's latents: what it is made of, what it minimizes, and that rows do not see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import StageError
from pipeline.stage import Promise
from stages.generators import encoder as encoders
from stages.generators.encoder import Encoder, Encoding, measured, told_latents
from stages.generators.weights import Header
from stages.invert import InvertConfig, check_encoder


def linear(side: int = 8, z_dim: int = 4) -> Any:
    """A generator whose images are a fixed linear map of the latent."""
    matrix = torch.randn((z_dim, 3 * side * side), generator=torch.Generator().manual_seed(5)) / 2

    def generate(z: torch.Tensor) -> torch.Tensor:
        return (z @ matrix).view(-1, 3, side, side)

    def latents(seeds: np.ndarray) -> torch.Tensor:
        rows = [torch.randn(z_dim, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(rows)

    generate.z_dim, generate.latents = z_dim, latents  # type: ignore[attr-defined]
    return generate


def encoding(network: nn.Module, generate: Any, **more: Any) -> Encoding:
    given = {"weight": 1.0, "rate": 3e-3, "batch": 16, "random": torch.Generator().manual_seed(0)}
    return Encoding(generate, network, **{**given, **more})


@pytest.mark.parametrize("side", [8, 32, 128, 1024])
def test_images_are_brought_to_8_pixels_without_pooling_and_latents_have_mean_square_one(side: int) -> None:
    network = Encoder(side, 12, 1).eval()
    with torch.no_grad():
        assert network.trunk.maps(torch.zeros(1, 3, min(side, 256), min(side, 256))).shape == (1, 8, 8, 8)
        found = network(torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(side)))
    assert found.shape == (1, 12)
    assert float(found.square().mean()) == pytest.approx(1, abs=1e-4)
    assert isinstance(network.trunk.maxpool, nn.Identity)


def test_it_is_a_resnet18_with_a_convolution_three_inverters_and_a_head() -> None:
    """By hand: torchvision's blocks of w, 2w, 4w and 8w channels; of 64 they are its 11,176,512 parameters."""

    def trunk(w: int, first: bool) -> int:
        count = 49 * 3 * w + 2 * w
        for place in range(4):
            inputs, outputs = w << max(place - 1, 0), w << place
            count += 9 * inputs * outputs + 3 * 9 * outputs**2 + 4 * 2 * outputs
            count += inputs * outputs + 2 * outputs if place or first else 0  # where a stage halves
        return count

    assert trunk(64, first=False) == 11_176_512
    inverter = 2 * (9 * 16 * 16 + 2 * 16) + 16 * 16 + 16
    wanted = trunk(2, first=True) + 16 * 16 + 16 + 3 * inverter + 16 * 16 * 10 + 10
    assert sum(one.numel() for one in Encoder(256, 10, 2).parameters()) == wanted


def test_a_step_compares_latents_of_mean_square_one_and_images_that_are_given_back() -> None:
    generate = linear()
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    before = [one.detach().clone() for one in network.parameters()]
    game = encoding(network, generate, weight=0.5)
    told = game.step(0)[1]
    z = torch.randn((16, 4), generator=torch.Generator().manual_seed(0))
    images = generate(z)
    found = images.flatten(1) @ before[0].T + before[1]
    squares = [((found[row] - z[row] / (z[row] ** 2).mean().sqrt()) ** 2).mean() for row in range(16)]
    assert told["latent"] == pytest.approx(float(sum(squares)) / 16, rel=1e-5)
    assert told["image"] == pytest.approx(float((generate(found) - images).abs().mean()), rel=1e-5)
    assert float((network[1].weight.detach() - before[0]).abs().max()) > 1e-4


def test_the_rate_falls_to_a_tenth_after_a_fifth_and_after_three_fifths(monkeypatch: pytest.MonkeyPatch) -> None:
    game = encoding(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), linear(), rate=1.0, falling=10)
    rates: list[float] = []
    monkeypatch.setattr(game.optimizer, "step", lambda: rates.append(game.optimizer.param_groups[0]["lr"]))
    for _ in range(10):
        game.step(0)
    assert rates == pytest.approx([1.0] * 2 + [0.1] * 4 + [0.01] * 4)


def test_the_course_leads_to_the_latents_of_fresh_samples() -> None:
    """A linear network of a linear generator: it can tell every latent, up to its length."""
    torch.manual_seed(0)
    game = encoding(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), linear(), rate=1e-2)
    before = measured(game, 20)
    for _ in range(120):
        game.step(0)
    after = measured(game, 20)
    assert before["latent"] > 0.7
    assert after["latent"] < 0.25
    assert after["image"] < 0.5 * after["other"]


def test_each_latent_is_told_from_its_own_image_alone() -> None:
    torch.manual_seed(0)
    network = Encoder(8, 4, 1)
    images = linear()(torch.randn((3, 4)))
    with torch.no_grad():
        network.train()(images)  # statistics of its own
    together = told_latents(network, images)
    alone = torch.cat([told_latents(network, images[row : row + 1]) for row in range(3)])
    assert alone.numpy() == pytest.approx(together.numpy(), abs=1e-5)
    assert together.square().mean(dim=1).numpy() == pytest.approx(np.ones(3), abs=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_a_file_that_is_no_encoder_is_told(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"side": 8, "z_dim": 4, "width": 4}')
    save_file({"x": torch.zeros(2)}, tmp_path / "encoder.safetensors")
    with pytest.raises(StageError, match=r"encoder\.safetensors is no encoder"):
        encoders.read(tmp_path, "cpu")


def test_an_encoder_of_another_generator_and_random_starts_beside_it_are_refused() -> None:
    header = Header("progan", {}, {"z_dim": 4, "c_dim": 0, "w_dim": 0, "resolution": 16})
    promise = Promise("reads", {"side": 16, "z_dim": 4, "width": 4})
    check_encoder(InvertConfig(checkpoint="x"), promise, header)
    with pytest.raises(ValueError, match="starts has no effect with 'encoder'"):
        check_encoder(InvertConfig(checkpoint="x", starts=4), promise, header)
    other = Promise("reads", {"side": 8, "z_dim": 4, "width": 4})
    with pytest.raises(ValueError, match="tells latents of 4 numbers from 8 pixels, but the generator makes 16 pixels"):
        check_encoder(InvertConfig(checkpoint="x"), other, header)


def test_pictures_of_the_course_are_pairs_of_a_sample_and_what_is_given_back() -> None:
    generate = linear()
    generate.pixels = lambda images: images.numpy()
    game = encoding(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), generate)
    shown = game.sample(np.array([0, 1]))
    images = generate(generate.latents(np.array([encoders.FRESH])))
    assert shown[0] == pytest.approx(images[0].numpy())
    assert shown[1] == pytest.approx(generate(told_latents(game.encoder, images))[0].numpy())
