"""Every path through a device, small: the same bytes twice, and on a GPU numbers near those of the CPU.

`benchmarks/gpu` runs larger ones, and tells how fast they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import context
from numpy.typing import NDArray
from small_games import game_of, state_of
from small_resynthesizers import JOINT, both, config, perceptual_network, photos, started
from training_rows import CNN, fit, rows

from pipeline.loader import Loader
from pipeline.stage import ID, Artifact, Batch, Context
from stages.evaluate import Evaluate, EvaluateConfig
from stages.residual import LEVELS, Residual, ResidualConfig
from stages.sample import Sample, SampleConfig
from stages.training.networks import imitates_half, prepare
from stages.translate import Translate, TranslateConfig

WEIGHTS = Path(__file__).parents[1] / "manifests" / "weights"
Arrays = Mapping[str, NDArray[Any]]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def detector(device: str, folder: Path) -> Arrays:
    """Trained, with its choice of an epoch, and evaluated on test rows."""
    some = rows(24)
    model = fit(folder, some, {**CNN, "epochs": 2}, device=device)
    ctx = context(
        folder / "evaluation", "evaluate", artifacts={"model": (Artifact("d", "0" * 32, model),)}, device=device
    )
    Evaluate().fit(EvaluateConfig(), {"test": some}, ctx)
    with np.load(ctx.out / "scores.npz", allow_pickle=False) as file:
        found = {"score": file["score"], "label": file["label"]}
    return {**found, "loss": np.array(json.loads((model / "card.json").read_text())["state"]["validation_loss"])}


def sampled(device: str, folder: Path) -> Arrays:
    path = WEIGHTS / "stylegan2-small-raw.safetensors"
    given = SampleConfig(checkpoint=str(path), count=3, micro_batch=2)
    batch = Batch(np.zeros(3, ID), payload={"seed": np.arange(3)})
    return dict(Sample().compute(given, batch, Context(0, "sample", device, 1, {"checkpoint": path})))


def translated(device: str, folder: Path) -> Arrays:
    path = WEIGHTS / "stargan2-small-raw.safetensors"
    given = TranslateConfig(checkpoint=str(path), micro_batch=2, truncation_psi=0.7)
    ids = np.frombuffer(bytes(range(32)), dtype=ID)
    batch = Batch(ids, (ids,), ({"image": IMAGES.repeat(2, 1).repeat(2, 2)[:2]},), index=np.arange(2))
    return dict(Translate().compute(given, batch, Context(0, "translate", device, 1, {"checkpoint": path})))


def residual(device: str, folder: Path) -> Arrays:
    files = {"model": WEIGHTS / "rdn-small-SR.safetensors", "perceptual": WEIGHTS / "perceptual-small.safetensors"}
    settings = {"levels": list(LEVELS), **{name: str(path) for name, path in files.items()}, "micro_batch": 2}
    batch = Batch(np.zeros(3, ID), (), ({"image": IMAGES},))
    context = Context(0, "residual", device, 1, files)
    return dict(Residual().compute(ResidualConfig.model_validate(settings), batch, context))


def resynthesizer(device: str, folder: Path) -> Arrays:
    """A step and a measurement; alone, and with a classifier on a deep stage."""
    prepare(device, 1)
    network = perceptual_network(folder)
    joint = {**JOINT, "joint": {"classifier": "compact", "feature": "stage2"}, "perceptual": "p"}
    found: dict[str, NDArray[Any]] = {}
    for name, settings, some in (("alone", {"task": "SR+C+D"}, photos()), ("joint", joint, both())):
        files = {"perceptual": network} if name == "joint" else {}
        training = started(config(**settings), some, device=device, **files)
        numbers = {**training.step(0)[1], **training.validate()}
        found |= {f"{name} {key}": np.array(value) for key, value in numbers.items()}
    return found


def game(device: str, folder: Path, **more: Any) -> Arrays:
    played = game_of("stylegan2", device=device, augment={}, **more)
    numbers = played.step(0)[1]
    if device == "cpu":
        found = {name: np.frombuffer(value, np.uint8) for name, value in state_of(played).items()}
    else:  # draws of a GPU are its own
        found = {name: np.array(np.isfinite(value)) for name, value in numbers.items()}
    return found


def half(device: str, folder: Path) -> Arrays:
    """In bfloat16, where it is not imitated."""
    return game(device, folder, mixed=not imitates_half(device))


def streamed(device: str, folder: Path) -> Arrays:
    data = {"x": IMAGES.repeat(8, axis=0), "label": np.arange(24, dtype=np.uint8) % 2}
    found: dict[str, NDArray[Any]] = {}
    for name, settings in {"held": {"preload": True}, "ahead": {}, "unpinned": {"pinned": False}}.items():
        batches = list(Loader(data, ["x"], 7, 1, device, **{"preload": False, **settings}))
        found |= {f"{name} {key}": torch.cat([one[key] for one in batches]).cpu().numpy() for key in batches[0]}
        assert {one["x"].device.type for one in batches} == {device}
    return found


PATHS: dict[str, tuple[Callable[[str, Path], Arrays], float]] = {
    "detector": (detector, 1e-2),
    "sample": (sampled, 2.0),
    "translate": (translated, 2.0),
    "residual": (residual, 1e-2),
    "resynthesizer": (resynthesizer, 1e-2),
    "game": (game, 0.0),
    "game in bfloat16": (half, 0.0),
    "streaming": (streamed, 0.0),
}
"""Name -> work, and how far a GPU's numbers may be from the CPU's: levels of gray, or of numbers near 1."""


LONG = ("translate", "resynthesizer", "game", "game in bfloat16")
"""Of which other tests of the CPU say as much: there they run under `make stress`, on a GPU always."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.stress] if name in LONG else []) for name in PATHS]
)
def test_a_path_repeats_and_stays_near_the_cpu(name: str, device: str, tmp_path: Path) -> None:
    work, tolerance = PATHS[name]
    first, second = (work(device, tmp_path / str(number)) for number in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
        assert value.size
        assert np.isfinite(value.astype(np.float64)).all()
    if device == "cpu" or name.startswith("game"):
        return
    for key, value in work("cpu", tmp_path / "cpu").items():
        np.testing.assert_allclose(first[key].astype(np.float64), value.astype(np.float64), atol=tolerance)
