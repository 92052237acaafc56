"""Stage `train_encoder`: its course against one written out here, its card, its interruptions; and `invert`, which
begins with what the network tells.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import context, digest
from safetensors.torch import load_file, save_file
from small_games import generator_file_of

from pipeline.errors import Interrupted
from pipeline.stage import Artifact, Batch, Context, Field, Promise
from stages.generators.encoder import FRESH, Encoder
from stages.generators.frozen import FrozenGenerator
from stages.invert import Invert, InvertConfig
from stages.train_encoder import TrainEncoder, TrainEncoderConfig

SIDE, LATENT = 8, 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generator_file_of("progan", tmp_path_factory.mktemp("generator"), SIDE)


def config(**more: Any) -> TrainEncoderConfig:
    given = {"checkpoint": "x", "width": 4, "steps": 5, "batch": 3, "learning_rate": 0.01, "images": 5, "seed": 7}
    given |= {"image_weight": 0.5, "save_steps": 2, **more}
    return TrainEncoderConfig.model_validate_json(json.dumps(given))


def fit(folder: Path, checkpoint: Path, settings: TrainEncoderConfig, **more: Any) -> Any:
    ctx = context(folder, "train_encoder", files={"checkpoint": checkpoint}, **more)
    TrainEncoder().fit(settings, {}, ctx)
    return ctx


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Any:
    return fit(tmp_path_factory.mktemp("whole"), checkpoint, config())


def of_mean_square_one(z: torch.Tensor) -> torch.Tensor:
    return z / z.square().mean(dim=1, keepdim=True).sqrt()


@pytest.mark.jobs
def test_the_course_is_steps_on_fresh_samples_at_a_rate_that_falls_twice(whole: Any, checkpoint: Path) -> None:
    generator = FrozenGenerator(checkpoint, "cpu")
    torch.manual_seed(7)
    network = Encoder(SIDE, LATENT, 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1)
    random = torch.Generator().manual_seed(7)
    for rate in (0.01, 0.001, 0.001, 0.0001, 0.0001):  # after a fifth and after three fifths of five steps
        z = torch.randn((3, LATENT), generator=random)
        images = generator(z).detach()
        said = network(images)
        loss = (said - of_mean_square_one(z)).square().mean() + 0.5 * (generator(said) - images).abs().mean()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = load_file(whole.out / "encoder.safetensors")
    assert set(found) == set(network.state_dict())
    for name, value in network.state_dict().items():
        assert found[name].numpy() == pytest.approx(value.numpy(), abs=2e-5), name


def test_the_card_is_about_fresh_samples_that_are_told_one_by_one(whole: Any, checkpoint: Path) -> None:
    generator = FrozenGenerator(checkpoint, "cpu")
    network = Encoder(SIDE, LATENT, 4).eval()
    network.load_state_dict(load_file(whole.out / "encoder.safetensors"))
    latents, images, others = [], [], []
    with torch.no_grad():
        made = [(z := generator.latents(np.array([FRESH + number])), generator(z)) for number in range(5)]
        for number, (z, image) in enumerate(made):
            said = network(image)
            latents.append(float((said - of_mean_square_one(z)).square().mean()))
            images.append(float((generator(said) - image).abs().mean()))
            others.append(float((made[number - 1][1] - image).abs().mean()))
    card = json.loads((whole.out / "card.json").read_text())
    wanted = {"latent": np.mean(latents), "image": np.mean(images), "other": np.mean(others)}
    assert card["figures"] == pytest.approx(wanted, rel=1e-4)
    assert (card["side"], card["z_dim"], card["width"], card["seed"]) == (SIDE, LATENT, 4, 7)
    assert {"steps": 5, "batch": 3}.items() <= card["settings"].items()
    assert {"side": SIDE, "z_dim": LATENT, "width": 4, "figures": card["figures"]}.items() <= whole.facts.items()
    last = json.loads((whole.out / "log.json").read_text())[-1]
    assert last["kimg"] == pytest.approx(0.015)
    assert list(whole.out.glob("samples-*.png"))


@pytest.mark.jobs
def test_a_course_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path, checkpoint: Path, whole: Any) -> None:
    reports: list[int] = []

    def killed(done: int, total: int) -> None:
        if done > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, checkpoint, config(), report=killed)
    with pytest.raises(Interrupted):
        fit(tmp_path, checkpoint, config(), report=lambda done, total: reports.append(done), stopping=lambda: True)
    again = fit(tmp_path, checkpoint, config(), report=lambda done, total: reports.append(done))
    assert reports[0] > 6  # images: what was saved after two steps is not done again
    assert reports == sorted(set(reports))
    assert reports[-1] == 15
    for name in ("encoder.safetensors", "card.json", "log.json"):
        assert (again.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_only_generators_of_one_latent_and_of_a_power_of_two_are_learned_from(tmp_path: Path, checkpoint: Path) -> None:
    stage = TrainEncoder()
    assert stage.schema(config(), {"checkpoint": checkpoint}) == {}
    promised = {"side": SIDE, "z_dim": LATENT, "width": 4}
    assert stage.promise(config(), {"checkpoint": checkpoint}) == promised
    with pytest.raises(ValueError, match="label_index 1 has no effect"):
        stage.schema(config(label_index=1), {"checkpoint": checkpoint})
    six = generator_file_of("mfa", tmp_path, 6)
    with pytest.raises(ValueError, match=r"images of .*mfa\.safetensors have 6 pixels, expected 8, 16"):
        stage.schema(config(), {"checkpoint": six})
    translates = generator_file_of("autogan", tmp_path, 32)
    with pytest.raises(ValueError, match="of family autogan, which makes images of images"):
        stage.schema(config(), {"checkpoint": translates})


# What `invert` makes of it


@pytest.fixture(scope="module")
def photographs() -> Any:
    return np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)


def encoder_of(folder: Path, change: Callable[[Encoder], None] = lambda network: None) -> tuple[Artifact, Encoder]:
    torch.manual_seed(1)
    network = Encoder(SIDE, LATENT, 4).eval()
    change(network)
    save_file(network.state_dict(), folder / "encoder.safetensors")
    (folder / "card.json").write_text(json.dumps({"side": SIDE, "z_dim": LATENT, "width": 4}))
    return Artifact("reads", "key", folder), network


def inverted(checkpoint: Path, images: Any, encoder: Artifact | None, ids: str = "row", **more: Any) -> Any:
    still = {"checkpoint": "x", "steps": 1, "learning_rate": 1e-9, "perceptual_weight": 0, "micro_batch": 2, **more}
    names = np.frombuffer(b"".join(digest(f"{ids} {number}") for number in range(len(images))), dtype="V16")
    artifacts = MappingProxyType({} if encoder is None else {"encoder": (encoder,)})
    ctx = Context(0, "invert", files={"checkpoint": checkpoint}, artifacts=artifacts)
    batch = Batch(names, (names,), ({"image": images},), np.zeros(len(images), np.int64))
    found = Invert().compute(InvertConfig.model_validate_json(json.dumps(still)), batch, ctx)
    assert not ctx.failures
    return found


@pytest.mark.jobs
def test_the_start_is_what_the_encoder_tells_of_the_photograph(
    tmp_path: Path, checkpoint: Path, photographs: Any
) -> None:
    artifact, network = encoder_of(tmp_path)
    found = inverted(checkpoint, photographs, artifact)["latent"]
    for row, photograph in enumerate(photographs.tolist()):
        planes = [[[pixel[color] / 255 * 2 - 1 for pixel in line] for line in photograph] for color in range(3)]
        assert found[row] == pytest.approx(network(torch.tensor([planes]))[0].detach().numpy(), abs=1e-5)
    others = inverted(checkpoint, photographs, artifact, ids="other")["latent"]
    np.testing.assert_array_equal(others, found)  # nothing is drawn
    drawn = [inverted(checkpoint, photographs, None, ids=name)["latent"] for name in ("row", "other")]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1


def test_an_encoder_that_says_the_same_of_all_gives_all_the_same_image(
    tmp_path: Path, checkpoint: Path, photographs: Any
) -> None:
    said = torch.tensor([1.0, -2.0, 3.0, 0.5])

    def one_word(network: Encoder) -> None:
        torch.nn.init.zeros_(network.head.weight)
        network.head.bias.data.copy_(said)  # type: ignore[union-attr]

    artifact, _ = encoder_of(tmp_path, one_word)
    found = inverted(checkpoint, photographs, artifact, error="squared", latent_weight=0.5)
    z = said / 3.5625**0.5  # the mean of 1, 4, 9 and 0.25
    assert found["latent"] == pytest.approx(np.tile(z.numpy(), (5, 1)), abs=1e-5)
    generator = FrozenGenerator(checkpoint, "cpu")
    made = generator(z[None]).detach()
    np.testing.assert_array_equal(found["image"], np.repeat(generator.pixels(made), 5, axis=0))
    apart = (made[0].movedim(0, 2).numpy() - (photographs / 127.5 - 1)) ** 2
    assert found["loss"] == pytest.approx(apart.mean(axis=(1, 2, 3)) + 0.5, rel=1e-5)  # mean z^2 is 1


def test_the_descent_goes_on_from_there(tmp_path: Path, checkpoint: Path, photographs: Any) -> None:
    artifact, _ = encoder_of(tmp_path)
    start = inverted(checkpoint, photographs, artifact)
    later = inverted(checkpoint, photographs, artifact, steps=8, learning_rate=0.02)
    assert (later["loss"] < start["loss"]).all()
    far = np.abs(later["latent"] - start["latent"]).max(axis=1)
    assert ((far > 0) & (far < 8 * 0.02)).all()  # a step of Adam is no longer than its rate


def test_an_encoder_of_another_size_is_refused_when_planning(checkpoint: Path) -> None:
    image = {"image": Field("uint8", (SIDE, SIDE, 3))}
    given = {"of": image, "checkpoint": checkpoint}
    fits = Promise("reads", {"side": SIDE, "z_dim": LATENT, "width": 4})
    schema = Invert().schema(InvertConfig(checkpoint="x"), {**given, "encoder": fits})
    assert schema["latent"].shape == (LATENT,)
    other = Promise("reads", {"side": SIDE, "z_dim": 6, "width": 4})
    with pytest.raises(ValueError, match="tells latents of 6 numbers from 8 pixels, but the generator makes 8 pixels"):
        Invert().schema(InvertConfig(checkpoint="x"), {**given, "encoder": other})
    with pytest.raises(ValueError, match="starts has no effect with 'encoder'"):
        Invert().schema(InvertConfig(checkpoint="x", starts=2), {**given, "encoder": fits})
