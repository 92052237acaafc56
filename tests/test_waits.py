"""No path through a GPU waits for it in its inner loop, and none launches more than it has to: counted without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import maps, small_config, small_state
from launches import GPU, Launches, begun, on_a_gpu
from small_games import photos, recipe_of
from small_resynthesizers import JOINT, both, config, started

from detectors import cnn, composed, deep, preprocessing
from detectors.augmentation.crop import Crop
from detectors.augmentation.flip import Flip
from detectors.augmentation.noise import Noise
from detectors.augmenting import augmented
from detectors.contract import Control
from detectors.networks import input_filters
from detectors.networks.layers import Dropout
from detectors.preprocessing import Resize
from detectors.training import Course
from pipeline.stage import ID, MAPS, PICTURE, Batch, Context
from stages.generators import generator_file
from stages.generators.spectral_training import Adversary, Regularization
from stages.generators.stargan2_game import TranslationGame, changed
from stages.generators.training_images import TrainingImages
from stages.residual import LEVELS, Residual, ResidualConfig
from stages.resynthesis import perceptual, weights
from stages.resynthesis.patches import Patches
from stages.sample import Sample, SampleConfig
from stages.train_generator import (
    discriminator_architecture,
    generator_architecture,
    new_game,
    new_network,
    training_images,
)
from stages.translate import Translate, TranslateConfig

WEIGHTS = Path(__file__).parents[1] / "manifests" / "weights"
TOLD = "detectors/transfers.py:told"
STRESS = pytest.mark.stress
"""For what takes long without values; tests/generators/test_launches.py has StyleGAN2 at full width."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    with on_a_gpu(monkeypatch) as counted:
        yield counted


# Detectors


@pytest.mark.parametrize("normalization", ["percentile", "pixels"])
def test_scoring_does_not_wait_for_what_is_queued(normalization: str, gpu: Launches) -> None:
    picture = normalization == "pixels"
    given = small_config(normalization=normalization, band="low" if normalization == "percentile" else None)
    shape, axes = ((8, 8, 3), PICTURE) if picture else ((3, 8, 8), MAPS)
    network = deep.network_of(cnn.composed(given), cnn.with_prefix(small_state(given, shape, axes)), GPU)
    rows = maps(40, 0, "uint8" if picture else "float16", shape).features
    network(torch.zeros((4, *shape), device=GPU))  # what is copied once
    gpu.forget()
    numbers = composed.read(network, [rows[:20], rows[20:]], 4, cnn.composed(given).head.decision)
    assert numbers.shape == (40,)
    assert not gpu.waits
    assert gpu.found["convolution"] == 10


def test_an_epoch_of_a_detector_waits_for_its_losses_alone(gpu: Launches) -> None:
    examples: Any = maps(24, 0, shape=(3, 8, 8))
    learning = composed.Learning(cnn.composed(small_config(batch_size=8)), examples, examples, Control(device=GPU))
    begun(learning.optimizer)
    lying = [(torch.zeros((8, 3, 8, 8), dtype=torch.float16, device=GPU), torch.ones(8, device=GPU), None)] * 5
    learning.batches = lying  # type: ignore[assignment]
    gpu.forget()
    learning.epoch(Course())
    assert gpu.waits == {"detectors/composed.py:epoch": 1}
    steps = gpu.found["convolution_backward"] / 5
    assert steps == 1
    assert gpu.found["clone"] == 0  # half precision becomes float32 in the order of the network by one kernel
    assert gpu.count <= 450


def test_augmentation_on_a_gpu_does_not_wait(gpu: Launches) -> None:
    rows = torch.zeros((4, 12, 12, 3), dtype=torch.uint8, device=GPU)
    ids = np.arange(4, dtype=">u8").view("V8").astype("V16")
    chosen = (Crop(size=8), Flip(), Noise())
    for _ in range(2):
        gpu.forget()  # of the first time, when a table is copied
        ((made, labels),) = augmented([(rows, torch.ones(4), ids)], chosen, 0, 0, GPU)  # type: ignore[arg-type]
    assert (tuple(made.shape), labels.device.type) == ((4, 8, 8, 3), GPU)
    assert not gpu.waits


def test_constants_of_a_detector_are_copied_once(gpu: Launches) -> None:
    images, dropout = torch.zeros(2, 3, 9, 10, device=GPU), Dropout(0.5)
    for _ in range(2):
        gpu.forget()
        preprocessing.resized(images, Resize(size=6), whole=True)
        input_filters.gradient(images, "x_grad")
        dropout(images)
    assert not gpu.waits
    assert gpu.found["index_select"] > 4  # taps of both axes


# Generators


def game_of(family: str, **more: Any) -> Any:
    """A game on the device, past its first step."""
    recipe, random = recipe_of(family, **more), torch.Generator()
    images = training_images(photos(32 if family in ("stargan2", "autogan") else 8), GPU, random, recipe)
    classes = images.count_of_classes
    with torch.device(GPU):
        made = generator_architecture(recipe, images.side, classes)
        judge = discriminator_architecture(recipe, images.side, classes)
        players = {"generator": new_network(family, "generator", made)}
        players["discriminator"] = new_network(family, "discriminator", judge)
    game = new_game(recipe, players, images, random, GPU, False)
    for optimizer in game.optimizers.values():
        begun(optimizer)
    return game


def spectral_term(name: str, game: Any) -> Any:
    """+R or +A in a step that measures nothing."""
    if name == "R":
        target = torch.empty(23, device=GPU)  # floor(32 / sqrt 2) + 1 rings
        term: Any = Regularization(target, 32, 0.1, 0.1, True, "l1", 1.0)
    else:
        term = Adversary(game.loss, 32, 0.001, (0.0, 0.99), 0.5, GPU, 1.0)
        begun(term.optimizer)
    term.numbers["calls"] = 1.0
    return term


@STRESS
@pytest.mark.parametrize("name", ["R", "A"])
def test_a_step_of_a_translation_with_a_spectral_term_waits_once(name: str, gpu: Launches) -> None:
    game = game_of("stargan2")
    game.spectral = spectral_term(name, game)
    gpu.forget()
    game.step(0)
    gpu.waits.pop("stages/generators/low_pass.py:kernel_of", None)
    assert gpu.waits == {TOLD: 1}
    assert isinstance(game.changed, torch.Tensor)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("progan", {"conditional": True, "enlarged": 1.25, "augment": {"translation": 0.25}}),
        pytest.param("stylegan2", {"augment": {}, "flips": True}, marks=STRESS),
        pytest.param("sngan", {}, marks=STRESS),
        pytest.param("stargan2", {"augment": {}}, marks=STRESS),
    ],
)
def test_a_step_of_a_game_waits_once(family: str, more: dict[str, Any], gpu: Launches) -> None:
    game = game_of(family, **more)
    gpu.forget()
    _, numbers = game.step(0)
    gpu.waits.pop("stages/generators/low_pass.py:kernel_of", None)
    assert gpu.waits == {TOLD: 1}
    assert all(type(number) in (float, int) for number in numbers.values())


def test_what_a_gpu_would_be_asked_for_is_drawn_by_seed_and_step(gpu: Launches) -> None:
    one, other = game_of("progan"), game_of("progan")
    gpu.forget()
    first = [(one.chance(), one.below(1, 9, 1)) for _ in range(3)]
    one.steps = other.steps = 1
    second = [(one.chance(), one.below(1, 9, 1)) for _ in range(3)]
    assert [(other.chance(), other.below(1, 9, 1)) for _ in range(3)] == second  # it was not there before
    assert first != second
    assert len(set(map(str, first + second))) == 6
    other.random.manual_seed(1)
    other.steps = 0
    assert [(other.chance(), other.below(1, 9, 1)) for _ in range(3)] != first
    assert not gpu.waits


def test_images_that_do_not_fit_are_read_for_each_batch(gpu: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.training.kept_images.free_memory", lambda device: 100)
    images = TrainingImages(photos(8), GPU, torch.Generator())
    assert images.kept.whole is None
    gpu.forget()
    images.draw(4)
    assert gpu.waits == {"stages/training/kept_images.py:of": 1}  # which rows


def test_translations_that_the_host_knows_are_no_reason_to_wait(gpu: Launches) -> None:
    game = TranslationGame.__new__(TranslationGame)
    game.images = TrainingImages(photos(8), GPU, torch.Generator(), conditional=True)
    game.device, game.random, game.steps = torch.device(GPU), game.images.random, 0
    game.domains, game._host, game._drawing = np.arange(6) % 2, torch.Generator(), -1
    fakes = torch.zeros((4, 3, 8, 8), device=GPU, requires_grad=True)
    gpu.forget()
    (_, _, before), (_, _, after) = game._drawn(4), game._drawn(4)
    different = changed(before, after, GPU)
    assert isinstance(different, torch.Tensor)
    fakes[different].sum().backward()  # type: ignore[no-untyped-call]
    assert not gpu.waits


# Re-synthesizers


@pytest.mark.parametrize("joint", [False, True])
def test_a_step_of_a_resynthesizer_waits_once(joint: bool, gpu: Launches) -> None:
    rows, random = both(), torch.Generator()
    training = started(config(**(JOINT if joint else {}), task="SR+C+D"), rows)
    for name, network in training.networks().items():
        kind = type(training.optimizers[name])
        training.optimizers[name] = kind(network.to(GPU).parameters(), lr=1.0)
    training.device = torch.device(GPU)
    training.patches = Patches(rows.split("train"), GPU, random, 12, "all")
    if joint:
        training.fakes = training.patches
    training.schedule = SimpleNamespace(factor=lambda seen: 1.0, validates=lambda before, after: False)
    gpu.forget()
    training.step(0)
    gpu.waits.pop("detectors/transfers.py:constant", None)
    assert gpu.waits == {TOLD: 1}


# Stages


def waits_of(stage: Any, given: Any, batch: Batch, files: dict[str, Path], gpu: Launches) -> dict[str, int]:
    """Of a block of rows, once the network and its constants are there."""
    if "checkpoint" in files:
        generator_file.load(files["checkpoint"], GPU)
    else:
        weights.load(files["model"], GPU)
        perceptual.load(files["perceptual"], GPU)
    gpu.forget()
    stage.compute(given, batch, Context(0, stage.name, GPU, 1, files))
    gpu.waits.pop("stages/generators/low_pass.py:kernel_of", None)
    return dict(gpu.waits)


def test_sampling_waits_at_the_end_of_a_block(gpu: Launches) -> None:
    path = WEIGHTS / "stylegan2-small-raw.safetensors"
    given = SampleConfig(checkpoint=str(path), count=3, micro_batch=2, truncation_psi=0.7)
    batch = Batch(np.zeros(3, "V16"), payload={"seed": np.arange(3)})
    found = waits_of(Sample(), given, batch, {"checkpoint": path}, gpu)
    assert found == {"stages/generators/generator_file.py:refuse_infinite": 1}
    assert (
        gpu.found["_to_copy"] <= 2 * 20
    )  # one of a micro-batch to the device, however many arrays; the rest are there
    assert gpu.count / 2 <= 400


def test_a_micro_batch_of_a_gpu_is_larger_unless_it_is_chosen() -> None:
    from stages.sample import micro_batch

    assert [micro_batch(side, "cuda") for side in (8, 64, 256, 512, 1024)] == [32, 32, 32, 8, 8]
    assert [micro_batch(side, "cpu") for side in (8, 1024)] == [8, 8]


@STRESS
def test_translation_waits_at_the_end_of_a_block(gpu: Launches) -> None:
    path = WEIGHTS / "stargan2-small-raw.safetensors"
    given = TranslateConfig(checkpoint=str(path), micro_batch=2)
    ids, images = np.zeros(3, ID), np.zeros((3, 64, 64, 3), np.uint8)
    batch = Batch(ids, (ids,), ({"image": images},), index=np.arange(3))
    found = waits_of(Translate(), given, batch, {"checkpoint": path}, gpu)
    assert found == {"stages/generators/generator_file.py:refuse_infinite": 1}


def test_residuals_are_fetched_without_waiting(gpu: Launches) -> None:
    files = {"model": WEIGHTS / "rdn-small-SR.safetensors", "perceptual": WEIGHTS / "perceptual-small.safetensors"}
    settings = {"levels": list(LEVELS), **{name: str(path) for name, path in files.items()}, "micro_batch": 2}
    batch = Batch(np.zeros(4, ID), (), ({"image": np.zeros((4, 32, 32, 3), np.uint8)},))
    assert waits_of(Residual(), ResidualConfig.model_validate(settings), batch, files, gpu) == {}
