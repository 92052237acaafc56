"""Repeating the step of a game: progress that survives a kill, a log of losses, pictures of samples.

Progress is one safetensors file that is replaced as a whole: networks, moments of the optimizers, state of the random
generator, numbers. A training that goes on from it makes the same steps as one that was never interrupted; on a CPU the
weights are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.atomic import write_bytes
from pipeline.errors import Interrupted, StageError

GRID = (4, 7)  # rows and columns of a picture of samples
LOG_ENTRIES = 200
PROGRESS = "progress.safetensors"


class Game(Protocol):
    """A training as it is seen from here: a game of two networks, or any other repetition of steps."""

    steps: int
    numbers: dict[str, float]  # further state
    random: torch.Generator
    spectral: Any  # a term with further `numbers`, or None

    def networks(self) -> dict[str, nn.Module]: ...

    def all_optimizers(self) -> dict[str, torch.optim.Optimizer]: ...

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step after `seen` images; returns the images used and numbers for the log."""
        ...

    def finish(self, seen: int) -> None: ...

    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (N, side, side, 3), one per seed."""
        ...


@dataclass
class Course:
    """Where a training stands besides its tensors: images seen, and the log as one entry per stretch of steps."""

    seen: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + number
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_entry(self) -> None:
        means = {name: self.sums[name] / self.counts[name] for name in sorted(self.sums)}
        self.log.append({"kimg": self.seen / 1000, **means})
        self.sums, self.counts = {}, {}


def train(
    game: Game,
    kimg: float,
    scratch: Path,
    *,
    save_images: int,
    pictures: int = 4,
    warm_up: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Train to `kimg` thousand images, from the progress in `scratch` if there is any; returns the log.

    save_images  images between two savings of the progress
    pictures     pictures of samples, evenly spaced; `scratch`/samples-IMAGES.png
    warm_up      first images during which only the discriminator learns
    Raises Interrupted (progress is saved) when asked to stop, StageError when a loss is not finite.
    """
    course, total = Course(), round(kimg * 1000)
    path = scratch / PROGRESS
    if path.is_file():
        course = restore(game, path)
    saved = course.seen
    while course.seen < total:
        before = course.seen
        batch, numbers = game.step(before, train_generator=before >= warm_up)
        for name, number in numbers.items():
            if not np.isfinite(number):
                raise StageError(
                    f"training diverged: '{name}' is {number} after {before / 1000:.1f} thousand images; lower "
                    "learning_rate, or raise the weight of the gradient penalty"
                )
        course.seen = before + batch
        course.add(numbers)
        if _passed(before, course.seen, total, LOG_ENTRIES) or course.seen >= total:
            course.close_entry()
        if _passed(before, course.seen, total, pictures) or course.seen >= total:
            write_picture(scratch / f"samples-{min(course.seen, total):09d}.png", game)
        report(min(course.seen, total), total)
        stop = stopping()
        if stop or course.seen - saved >= save_images or course.seen >= total:
            save(game, course, path)
            saved = course.seen
        if stop and course.seen < total:
            raise Interrupted("training stopped; what was learned so far is kept and the same command goes on")
    game.finish(course.seen)
    return course.log


def _passed(before: int, after: int, total: int, parts: int) -> bool:
    """Whether a boundary between `parts` equal parts of `total` lies in (before, after]."""
    return before * parts // total < after * parts // total


def write_picture(path: Path, game: Game) -> None:
    """A grid of samples as PNG, of the averaged generator, seeds 0, 1, ..."""
    import io

    rows, columns = GRID
    content = io.BytesIO()
    Image.fromarray(grid(game.sample(np.arange(rows * columns)), columns)).save(content, "PNG", optimize=True)
    write_bytes(path, content.getvalue())


def grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) to one picture of N / columns rows."""
    n, height, width, colors = images.shape
    rows = images.reshape(n // columns, columns, height, width, colors).transpose(0, 2, 1, 3, 4)
    return rows.reshape(n // columns * height, columns * width, colors)


def tensors_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """State dict as numpy arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def save(game: Game, course: Course, path: Path) -> None:
    """Replace the progress file."""
    from safetensors.torch import save as serialize

    tensors: dict[str, Tensor] = {"random": game.random.get_state()}
    for name, network in game.networks().items():
        tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
    for name, optimizer in game.all_optimizers().items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
    spectral = game.spectral.numbers if game.spectral else {}
    plain = {
        "steps": game.steps,
        "level": getattr(game, "level", None),
        "numbers": game.numbers,
        "spectral": spectral,
        "course": vars(course),
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, serialize(tensors, metadata={"plain": json.dumps(plain)}))


def restore(game: Game, path: Path) -> Course:
    """Bring a freshly made game to where the progress file stands. Raises StageError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["plain"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise StageError(
            f"the progress of a training in {path} is damaged ({error}); remove the file, and the training begins anew"
        ) from None
    game.steps, game.numbers = plain["steps"], plain["numbers"]
    if plain["level"] is not None:
        game.level = plain["level"]  # type: ignore[attr-defined]
    if game.spectral is not None:
        game.spectral.numbers.update(plain["spectral"])
    for name, network in game.networks().items():
        start = f"network/{name}/"
        network.load_state_dict(
            {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        )
    for name, optimizer in game.all_optimizers().items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer/{name}/"):
                _, _, index, moment = key.split("/")
                state.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    game.random.set_state(tensors["random"])
    return Course(**plain["course"])
