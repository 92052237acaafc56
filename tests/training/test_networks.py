"""New networks have the weights of their seed, whatever other threads build; nothing else is drawn from torch's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_games
import small_resynthesizers
import torch
from memory_rows import context, rows_of
from torch import nn

from detectors.seeding import seeded
from detectors.training import tensors_of
from stages.finetune_generator import FinetuneGenerator, FinetuneGeneratorConfig
from stages.generators import generator_metrics, weights
from stages.train_generator import (
    TrainGenerator,
    discriminator_architecture,
    generator_architecture,
    new_network,
    new_players,
)
from stages.train_resynthesizer import new_classifier
from stages.train_resynthesizer import new_network as new_resynthesizer
from stages.training import networks

AT_ONCE, TIMES = 4, 25


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def values(networks: Any) -> list[torch.Tensor]:
    return [tensor for network in networks for tensor in network.state_dict().values()]


def architectures(family: str) -> dict[str, dict[str, Any]]:
    recipe, side = small_games.recipe_of(family), small_games.SIDES[family]
    classes = 2 if family == "stargan2" else 0
    return {
        "generator": generator_architecture(recipe, side, classes),
        "discriminator": discriminator_architecture(recipe, side, classes),
    }


def players(family: str) -> Callable[[int], list[nn.Module]]:
    given = architectures(family)
    return lambda seed: list(new_players(family, given, seed).values())


def resynthesizer(seed: int) -> list[nn.Module]:
    config: Any = small_resynthesizers.config(**small_resynthesizers.JOINT)
    ctx: Any = SimpleNamespace(files={})
    from stages.resynthesis.weights import Architecture

    with seeded(seed):
        found = [new_resynthesizer(Architecture(2, 2, 1, 1), None), new_classifier(config, ctx)]
    return [network for network in found if network is not None]


@pytest.mark.usefixtures("_threads_take_turns_often")
@pytest.mark.parametrize(
    "build",
    [players("progan"), pytest.param(players("stargan2"), marks=pytest.mark.jobs), resynthesizer],
    ids=["progan", "stargan2", "rdn"],
)
def test_trainings_that_start_at_once_begin_with_the_weights_of_one_that_starts_alone(
    build: Callable[[int], list[nn.Module]],
) -> None:
    alone = [values(build(seed)) for seed in range(AT_ONCE)]
    barrier = threading.Barrier(AT_ONCE)

    def start(seed: int) -> list[torch.Tensor]:
        barrier.wait()
        return values(build(seed))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(TIMES):
            for found, wanted in zip(pool.map(start, range(AT_ONCE)), alone, strict=True):
                assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("family", small_games.NAMES)
def test_new_weights_are_those_of_torchs_own_generator_with_the_same_seed(family: str) -> None:
    given = architectures(family)
    torch.manual_seed(7)
    wanted = values([new_network(family, name, one) for name, one in given.items()])
    found = values(new_players(family, given, 7).values())
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_what_was_drawn_before_goes_on_after_also_where_building_fails() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with pytest.raises(RuntimeError, match="negative"), seeded(0):
        torch.rand(5) + torch.rand(-1)
    with seeded(1), seeded(2):
        inner = torch.rand(1)
    with seeded(2):
        assert torch.equal(inner, torch.rand(1))
    assert torch.equal(torch.cat([first, torch.rand(1)]), wanted)


# Whole trainings


def generator_of(folder: Path) -> None:
    recipe = small_games.settings_of("stylegan2", kimg=0.008, augment={}, flips=True)
    config = TrainGenerator.Config.model_validate({"recipe": recipe, "pictures": 1})
    TrainGenerator().fit(config, {"on": small_games.photos(8)}, context(folder, "train_generator"))  # type: ignore[arg-type]


def finetuned(folder: Path) -> None:
    path = folder.parent / "start.safetensors"
    if not path.is_file():
        given = architectures("progan")
        made = new_players("progan", {"generator": given["generator"]}, 0)["generator"]
        weights.save(path, "progan", given["generator"], tensors_of(made))
    recipe = {k: v for k, v in small_games.settings_of("progan", kimg=0.008).items()
              if k not in ("network", "grow_from", "grow_kimg", "fade_kimg")}  # fmt: skip
    config = FinetuneGeneratorConfig.model_validate(
        {"checkpoint": path.name, "method": "adversarial", "recipe": recipe, "warm_up_kimg": 0.004, "pictures": 1}
    )
    ctx = context(folder, "finetune_generator", files={"checkpoint": path})
    FinetuneGenerator().fit(config, {"on": small_games.photos(8)}, ctx)


def resynthesized(folder: Path) -> None:
    config = small_resynthesizers.config(**small_resynthesizers.JOINT, task="SR+C+D")
    small_resynthesizers.fit(folder, config, small_resynthesizers.both())


def detector(folder: Path) -> None:
    from detectors import cnn
    from detectors.contract import Control
    from stages.evaluation.detector_file import FeatureRows
    from stages.training.progress import pack

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    rows: Any = rows_of("photos", 0, {"image": pixels}, split="train")
    rows._table["label"][:] = np.arange(8) % 2
    config = cnn.Config(feature="image", normalization="pixels", head="pool", widths=(2,), epochs=2, batch_size=4)
    examples: Any = FeatureRows(rows, "image")
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "model").write_bytes(pack(cnn.fit(config, examples, examples, Control(seed=1))))


@pytest.mark.parametrize("train", [generator_of, finetuned, resynthesized, detector])
def test_a_training_draws_nothing_from_the_generator_of_the_process(
    train: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes whatever state torch's and numpy's own generators have, and these stay as they are."""
    for name, small in (("PAIRS", 10), ("PATCHES", 8), ("DIRECTIONS", generator_metrics.DIRECTIONS_AT_ONCE)):
        monkeypatch.setattr(generator_metrics, name, small)
    found = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        states = torch.get_rng_state(), np.random.get_state()[1]
        train(tmp_path / str(number))
        assert torch.equal(states[0], torch.get_rng_state())
        assert np.array_equal(states[1], np.random.get_state()[1])
        found.append(small_resynthesizers.contents(tmp_path / str(number) / "out"))
    assert found[0] == found[1]


def test_kernels_are_deterministic_without_torchs_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`use_deterministic_algorithms` imports it for a setting of its own: three seconds before a first prediction."""

    def refuse(mode: bool) -> None:
        raise AssertionError("it imports torch._inductor")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", refuse)
    torch.set_deterministic_debug_mode("default")
    networks.prepare("cpu", 1)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
