"""AutoGAN's simulator: its networks, one step of its training, and photographs that the stage `simulate` gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_games import game_of, watched
from toy_photos import expanded, identity, photo
from toy_project import Project

from detectors.training import tensors_of
from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.stage import Batch, Context
from stages.generators import autogan, autogan_discriminator, progan, weights
from stages.generators.inspection import inspect, lines
from stages.generators.layers import parameters
from stages.simulate import Simulate, SimulateConfig

SMALL: dict[str, Any] = {"c_dim": 0, "resolution": 32, "width": 2, "blocks": 1, "upsampling": "transposed"}


def saved(path: Path, **more: Any) -> Path:
    torch.manual_seed(0)
    given = {**SMALL, **more}
    network = autogan.Generator(**given)
    tensors = {name: value * (10 if value.ndim > 1 else 1) for name, value in tensors_of(network).items()}
    weights.save(path, "autogan", given, tensors)
    return path


def test_networks_have_the_published_sizes_and_names() -> None:
    with torch.device("meta"):
        generator = autogan.Generator(c_dim=0, resolution=256)
        judge = autogan_discriminator.Discriminator(c_dim=0, resolution=256)
        repeating = autogan.Generator(**{**SMALL, "upsampling": "nearest"})
    assert parameters(generator) == 11_378_179
    assert parameters(judge) == 2_764_737
    names = set(generator.state_dict())
    assert {"model.1.weight", "model.10.conv_block.5.bias", "model.19.weight", "model.26.bias"} < names
    assert {"model.0.weight", "model.11.bias"} < set(judge.state_dict())
    assert repeating.model[-2].kernel_size == (1, 1)  # type: ignore[union-attr]
    assert parameters(repeating) == sum(
        (2 * 3 * 49 + 2, 4 * 2 * 9 + 4, 8 * 4 * 9 + 8, 2 * (8 * 8 * 9 + 8), 4 * 8 * 9 + 4, 4 * 4 * 9 + 4,
         2 * 4 * 9 + 2, 2 * 2 * 9 + 2, 2 * 3 + 3)
    )  # fmt: skip


def test_borders_are_mirrored_and_a_score_sees_seventy_pixels() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    found = autogan.Mirrored(3)(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found, np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)), "reflect"))
    torch.manual_seed(0)
    judge = autogan_discriminator.Discriminator(c_dim=0, resolution=128, width=1)
    for layer in list(judge.model):
        if isinstance(layer, torch.nn.InstanceNorm2d):
            judge.model[list(judge.model).index(layer)] = torch.nn.Identity()  # which looks at the whole image
    image = torch.randn(1, 3, 128, 128, requires_grad=True)
    scores = judge(image)
    assert scores.shape == (1, 1, 14, 14)
    (slope,) = torch.autograd.grad(scores[0, 0, 7, 7], image)
    rows, columns = (slope[0].abs().sum(dim=(0, axis)).nonzero()[:, 0] for axis in (2, 1))
    assert [int(one.max() - one.min()) + 1 for one in (rows, columns)] == [70, 70]


def test_a_step_is_the_generators_then_half_of_the_discriminators_on_the_pool() -> None:
    game = game_of("autogan", batch=3, pool=2, identity_weight=0.25, enlarged=1.0, average_beta=0.0)
    losses: list[tuple[Any, Any]] = []
    game.update = watched(lambda name, loss: type(game).update(game, name, loss), losses)
    shown: list[tuple[Any, Any]] = []
    game.shown = watched(game.shown, shown)
    drawn: list[tuple[Any, Any]] = []
    game.images.draw = watched(game.images.draw, drawn)
    generator = torch.nn.Module.state_dict(game.average)
    used, log = game.step(0)
    assert used == 3
    assert [given[0] for given, _ in losses] == ["generator", "discriminator"]
    before = autogan.Generator(**{**SMALL, "width": 4})
    assert before.state_dict().keys() == generator.keys()
    (reals, _), ((fakes,), _) = drawn[0][1], shown[0]
    assert log["difference"] == pytest.approx((fakes - reals).abs().mean().item(), rel=1e-5)
    assert losses[0][0][1].item() == pytest.approx(log["generator"] + 0.25 * log["difference"], rel=1e-5)
    assert losses[1][0][1].item() == pytest.approx(log["discriminator"] / 2, rel=1e-5)
    assert game.numbers["pooled"] == 2
    assert torch.equal(game.networks()["pool"].images, fakes[:2]) or not torch.equal(shown[0][1], fakes)


def test_the_pool_is_filled_then_gives_earlier_images_in_half_of_the_cases() -> None:
    game = game_of("autogan", pool=4)
    made = [torch.full((1, 3, 32, 32), float(number)) for number in range(400)]
    given = [float(game.shown(one)[0, 0, 0, 0]) for one in made]
    assert given[:4] == [0, 1, 2, 3]
    earlier = [number for number, value in enumerate(given) if value < number]
    assert 150 < len(earlier) < 250
    assert len(set(given[4:])) == 396  # what was given once is gone
    kept = {float(one[0, 0, 0]) for one in game.pool.images}
    assert kept == set(range(400)) - set(given[4:])
    assert game_of("autogan", pool=0).shown(made[7]) is made[7]


# The stage


def simulated(path: Path, numbers: list[int], **settings: Any) -> np.ndarray[Any, Any]:
    parents = [identity(number) for number in numbers]
    own = np.frombuffer(b"".join(expanded(one, index=0) for one in parents), "V16")
    inputs = ({"image": np.stack([photo(one) for one in parents])},)
    batch = Batch(own, (np.frombuffer(b"".join(parents), "V16"),), inputs, np.zeros(len(numbers), np.int64))
    context = Context(0, "simulate", files={"checkpoint": path})
    return Simulate().compute(SimulateConfig(checkpoint="given", **settings), batch, context)["image"]


def test_an_image_is_the_network_of_its_photograph_whatever_its_neighbors(tmp_path: Path) -> None:
    path = saved(tmp_path / "auto.safetensors")
    network: Any = weights.load(path, "generator")[1]
    alone = [simulated(path, [number])[0] for number in range(5)]
    for which in ([0, 1, 2, 3, 4], [4, 0, 0]):
        assert np.array_equal(simulated(path, which), np.stack([alone[number] for number in which]))
    with torch.no_grad():
        x = torch.from_numpy(photo(identity(3))).permute(2, 0, 1)[None].float() / 127.5 - 1
        raw = network(x)[0].permute(1, 2, 0).numpy()
    expected = np.clip(raw * np.float32(127.5) + np.float32(127.5), 0, 255).astype(np.uint8)
    assert np.abs(alone[3].astype(int) - expected).max() <= 1
    assert len(np.unique(expected)) > 20


PIPELINE = """
nodes:
  photos: {{stage: "toy_photos:Photos", count: 6}}
  fakes: {{stage: simulate, of: {of}, checkpoint: {path}}}
"""


def test_a_fake_has_group_split_and_domain_of_its_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "auto.safetensors")
    made = Project(tmp_path, monkeypatch, PIPELINE.format(of="photos", path=path.name))
    made.run()
    photos, fakes = (open_node(made.file, node) for node in ("photos", "fakes"))
    rows = {bytes(row): number for number, row in enumerate(fakes.ids)}
    assert len(fakes) == 6
    for number, row in enumerate(photos.ids):
        other = rows[expanded(bytes(row), index=0)]
        for column in ("group", "split", "domain"):
            assert photos.column(column)[number] == fakes.column(column)[other]
        assert (photos.column("label")[number], fakes.column("label")[other]) == (0, 1)
        assert fakes.column("source")[other] == "fakes"
    made.write(made.file.read_text() + f"  again: {{stage: simulate, of: fakes, checkpoint: {path.name}}}\n")
    with pytest.raises(ConfigError, match=r"simulate: 6 rows of 'of' are fake; photographs are wanted"):
        made.plan()


def test_checkpoint_describes_the_file(tmp_path: Path) -> None:
    found = dict(line.split("  ", 1) for line in lines(inspect(saved(tmp_path / "auto.safetensors"))))
    assert found["family"].strip() == "autogan (touchstone)"
    count = sum((3 * 2 * 49 + 2, 2 * 4 * 9 + 4, 4 * 8 * 9 + 8, 2 * (8 * 8 * 9 + 8), 8 * 4 * 9 + 4, 4 * 2 * 9 + 2,
                 2 * 3 * 49 + 3))  # fmt: skip
    assert found["generator"].strip() == f"generator: {count:,} parameters"


def test_wrong_files_and_sizes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "auto.safetensors", resolution=64)
    made = Project(tmp_path, monkeypatch, PIPELINE.format(of="photos", path=path.name))
    with pytest.raises(ConfigError, match="simulate needs images of 64 x 64 px, those of 'of' have 32 x 32; put equal"):
        made.plan()
    given: dict[str, Any] = {"z_dim": 4, "c_dim": 0, "resolution": 32, "fmap_base": 64, "fmap_max": 8}
    weights.save(tmp_path / "noise.safetensors", "progan", given, tensors_of(progan.Generator(**given)))
    made.replace(path.name, "noise.safetensors")
    with pytest.raises(ConfigError, match="is of family progan; use the stage sample"):
        made.plan()
    with pytest.raises(ValueError, match="doubles images by transposed or nearest, not by 'bicubic'"):
        autogan.Generator(**{**SMALL, "upsampling": "bicubic"})
    with pytest.raises(ValueError, match="16 pixels or more, sizes of at least 1 and no classes, not 8 pixels"):
        autogan.Generator(**{**SMALL, "resolution": 8})
    with pytest.raises(ValueError, match=r"takes images of 32x32 pixels, not \(16, 16\)"):
        autogan.Generator(**SMALL)(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="4 pixels behind its layers and no classes, not 16 pixels, width 2, 3 layers"):
        autogan_discriminator.Discriminator(c_dim=0, resolution=16, width=2)
