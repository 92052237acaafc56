"""The loop around a game: going on after a stop or a crash, the progress file, the log, pictures, divergence."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_games import KINDS, NAMES, game_of, state_of, watched
from torch import nn

from pipeline.errors import Interrupted, StageError
from stages.generators.games import Game
from stages.training import progress
from stages.training.course import GRID, grid, train

PROGRESS = progress.FILE

KIMG = dict.fromkeys(NAMES, 0.016) | dict.fromkeys(("progan", "stylegan", "stylegan2"), 0.024)  # growth: 4 steps
BATCH = 4


def trained(folder: Path, game: Any, kimg: float, **more: Any) -> dict[str, Any]:
    """What is left of a training to its end."""
    settings = {"save_images": 10_000, "pictures": 1, **more}
    log = train(game, kimg, folder, **settings)
    return {**state_of(game), "log": log, "steps": game.steps, **files(folder)}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@cache
def whole_training(family: str) -> dict[str, Any]:
    """What a training leaves that nothing interrupts."""
    with TemporaryDirectory() as folder:
        return trained(Path(folder), game_of(family), KIMG[family])


@pytest.mark.parametrize("family", [*KINDS[:1], pytest.param("stargan2", marks=pytest.mark.jobs)])
def test_a_training_stopped_after_each_step_ends_with_the_same_bytes(family: str, tmp_path: Path) -> None:
    kimg, whole = KIMG[family], whole_training(family)
    steps = round(kimg * 1000) // BATCH
    for _ in range(steps - 1):
        with pytest.raises(Interrupted, match="what was learned so far is kept and the same command goes on"):
            trained(tmp_path / "stopped", game_of(family), kimg, stopping=lambda: True)
    assert trained(tmp_path / "stopped", game_of(family), kimg, stopping=lambda: True) == whole
    assert whole["steps"] == steps
    assert sorted(files(tmp_path / "stopped")) == [PROGRESS, f"samples-{round(kimg * 1000):09d}.png"]
    other = game_of(family, seed=1)
    other.step(0)
    assert not [name for name, value in state_of(other).items() if name.endswith(".weight") and value == whole[name]]


class Crash(Exception):
    """The machine fails."""


def crash_at(images: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == images:
            raise Crash

    return report


@pytest.mark.parametrize("family", KINDS)
def test_a_training_that_crashed_goes_on_from_the_last_saving_with_the_same_bytes(family: str, tmp_path: Path) -> None:
    kimg, whole = KIMG[family], whole_training(family)
    for images in (8, 12):  # before anything was saved, then one step after a saving
        with pytest.raises(Crash):
            trained(tmp_path / "crashed", game_of(family), kimg, save_images=8, report=crash_at(images))
        assert (tmp_path / "crashed" / PROGRESS).exists() is (images > 8)
    assert trained(tmp_path / "crashed", game_of(family), kimg) == whole


class Counting(Game):
    """A game of one linear layer whose steps count; `given` are the numbers that they log."""

    def __init__(
        self, batch: int, given: Callable[[int], dict[str, float]] = lambda step: {"loss": float(step)}
    ) -> None:
        torch.manual_seed(0)
        nothing: Any = None
        images: Any = SimpleNamespace(device=torch.device("cpu"))
        super().__init__(nothing, {"generator": nn.Linear(2, 2)}, images, torch.Generator().manual_seed(0))
        self.batch, self.given = batch, given
        self.calls: list[tuple[int, bool]] = []
        self.finished: list[int] = []

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        self.calls.append((seen, train_generator))
        with torch.no_grad():
            self.generator.weight += 1
        self.steps += 1
        return self.batch, self.given(self.steps)

    def sample(self, seeds: Any) -> Any:
        return np.broadcast_to(seeds[:, None, None, None], (len(seeds), 2, 3, 3)).astype(np.uint8)

    def finish(self, seen: int) -> None:
        self.finished.append(seen)


@pytest.mark.parametrize(
    ("batch", "total", "pictures", "entries", "named"),
    [
        (5, 1000, 4, 200, [250, 500, 750, 1000]),
        (1, 1000, 1, 200, [1000]),
        (10, 100, 4, 10, [30, 50, 80, 100]),
        (64, 100, 4, 2, [64, 100]),
        (7, 7000, 3, 200, [2338, 4669, 7000]),
        (1, 8, 8, 8, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_log_and_pictures_are_spread_evenly(
    batch: int, total: int, pictures: int, entries: int, named: list[int], tmp_path: Path
) -> None:
    reports: list[tuple[int, int]] = []
    log = train(
        Counting(batch),
        total / 1000,
        tmp_path,
        save_images=10**6,
        pictures=pictures,
        report=lambda done, total: reports.append((done, total)),
    )
    assert len(log) == entries
    assert [path.name for path in sorted(tmp_path.glob("*.png"))] == [f"samples-{images:09d}.png" for images in named]
    steps = -(-total // batch)
    assert reports == [(min(batch * (step + 1), total), total) for step in range(steps)]
    assert log[-1]["kimg"] == batch * steps / 1000
    assert [entry["kimg"] for entry in log] == sorted({entry["kimg"] for entry in log})


def test_an_entry_of_the_log_is_the_mean_of_its_steps_for_each_number(tmp_path: Path) -> None:
    def given(step: int) -> dict[str, float]:
        return {"loss": float(step), **({"r1": 10.0 * step} if step % 5 == 0 else {})}

    log = train(Counting(1, given), 0.8, tmp_path, save_images=10**6)  # 4 steps each
    for k, entry in enumerate(log):
        steps = range(4 * k + 1, 4 * k + 5)
        penalties = [10.0 * step for step in steps if step % 5 == 0]
        assert entry["kimg"] == steps[-1] / 1000
        assert entry["loss"] == np.mean(steps)
        assert entry.get("r1") == (np.mean(penalties) if penalties else None)


def test_pictures_show_the_seeds_row_by_row(tmp_path: Path) -> None:
    train(Counting(1), 0.001, tmp_path, save_images=1)
    with Image.open(tmp_path / "samples-000000001.png") as picture:
        pixels = np.asarray(picture)
    rows, columns = GRID
    assert pixels.shape == (2 * rows, 3 * columns, 3)
    for seed in range(rows * columns):
        top, left = 2 * (seed // columns), 3 * (seed % columns)
        assert (pixels[top : top + 2, left : left + 3] == seed).all()
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 4, 3), dtype=np.uint8)
    joined = np.concatenate([np.concatenate(list(images[k : k + 3]), axis=1) for k in (0, 3)])
    assert np.array_equal(grid(images, 3), joined)


def saved_progress(folder: Path) -> dict[str, Any]:
    """The plain part of the progress file, by the format of safetensors."""
    content = (folder / PROGRESS).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found: dict[str, Any] = json.loads(header["__metadata__"]["plain"])
    return found


def test_a_stop_between_two_looks_loses_no_step(tmp_path: Path) -> None:
    answers = iter([False, True] + [False] * 10)
    game = Counting(1)
    with pytest.raises(Interrupted):
        train(game, 0.1, tmp_path, save_images=10**6, stopping=lambda: next(answers))
    assert saved_progress(tmp_path)["course"]["seen"] == len(game.calls)


def test_progress_is_saved_at_intervals_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[Any, Any]] = []
    monkeypatch.setattr(progress, "pack", watched(progress.pack, saved))
    train(Counting(4), 0.1, tmp_path, save_images=10)
    assert [state.plain["course"]["seen"] for (state,), _ in saved] == [12, 24, 36, 48, 60, 72, 84, 96, 100]


def test_a_crash_while_saving_leaves_the_last_saved_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Counting(1)
    expected = train(whole, 0.02, tmp_path / "whole", save_images=3)
    count = iter(range(100))

    def full(descriptor: int) -> None:
        if next(count) >= 4:  # two for each saving: the file and its folder
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.atomic.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(Counting(1), 0.02, tmp_path / "full", save_images=3, pictures=1)
    assert [path.name for path in (tmp_path / "full").iterdir()] == [PROGRESS]
    assert saved_progress(tmp_path / "full")["course"]["seen"] == 6
    again = Counting(1)
    assert train(again, 0.02, tmp_path / "full", save_images=3) == expected
    assert again.calls == [(seen, True) for seen in range(6, 20)]
    assert torch.equal(again.average.state_dict()["weight"], whole.average.state_dict()["weight"])
    assert torch.equal(again.generator.weight, whole.generator.weight)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    log = train(Counting(3), 0.02, tmp_path, save_images=10**6, stopping=lambda: False)
    again = Counting(3)
    assert train(again, 0.02, tmp_path, save_images=10**6) == log
    assert again.calls == []
    assert again.finished == [21]
    stopped = Counting(30)
    train(stopped, 0.02, tmp_path / "other", save_images=1, stopping=lambda: True)  # nothing is left to stop
    assert stopped.finished == [30]


@pytest.mark.parametrize(
    ("warm_up", "flags"), [(0, [True] * 5), (1, [False] + [True] * 4), (8, [False] * 2 + [True] * 3)]
)
def test_the_generator_rests_during_the_warm_up(warm_up: int, flags: list[bool], tmp_path: Path) -> None:
    game = Counting(4)
    train(game, 0.02, tmp_path, save_images=10**6, warm_up=warm_up)
    assert [flag for _, flag in game.calls] == flags


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_divergence_is_one_sentence_and_leaves_the_progress_before_it(bad: float, tmp_path: Path) -> None:
    game = Counting(4, lambda step: {"fine": 1.0, "generator": bad if step == 4 else 0.0})
    sentence = (
        rf"^training diverged: 'generator' is {bad} after 0\.0 thousand images; lower learning_rate, or raise .*y$"
    )
    with pytest.raises(StageError, match=sentence):
        train(game, 1.0, tmp_path, save_images=1)
    assert saved_progress(tmp_path)["course"]["seen"] == 12


def test_a_real_training_that_diverges_is_stopped(tmp_path: Path) -> None:
    game = game_of("progan", learning_rate=1e18)
    with pytest.raises(StageError, match="training diverged"):
        train(game, 1.0, tmp_path, save_images=10**6)
    assert game.steps < 10


@pytest.mark.gpu
@pytest.mark.parametrize("family", NAMES)
def test_a_training_on_the_gpu_goes_on_where_it_was_stopped(family: str, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", game_of(family, device="cuda"), KIMG[family])
    answers = iter([False, True])
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", game_of(family, device="cuda"), KIMG[family], stopping=lambda: next(answers))
    again = trained(tmp_path / "stopped", game_of(family, device="cuda"), KIMG[family])
    assert again["steps"] == whole["steps"]
    for one, other in zip(again["log"], whole["log"], strict=True):
        assert one == pytest.approx(other, rel=0.01, abs=0.01)
