"""The course of a training that is measured in thousands of images: its files in scratch, and pictures of samples.

Generators and re-synthesizers are trained by it; the repeating of steps is that of `detectors.training`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detectors.contract import Control, Diverged, State
from detectors.training import Course, Learner, follow
from pipeline.atomic import write_bytes
from pipeline.errors import Interrupted, StageError
from stages.training import progress

GRID = (4, 7)  # rows and columns of a picture of samples
LOG_ENTRIES = 200


class Game(Learner, Protocol):
    """A training as it is seen from here: a game of two networks, or any other repetition of steps."""

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step after `seen` images; returns the images used and numbers for the log."""
        ...

    def finish(self, seen: int) -> None:
        """What the end of the training changes in the networks, after `seen` images."""
        ...

    def sample(self, seeds: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (N, side, side, 3), one per seed."""
        ...


@dataclass(frozen=True)
class Images:
    """A pace (`detectors.training.Pace`) to `total` images or an earlier end, with LOG_ENTRIES entries of the log."""

    total: int
    save_images: int
    ended: Callable[[], bool] = lambda: False

    def finished(self, course: Course) -> bool:
        return course.seen >= self.total or self.ended()

    def place(self, course: Course) -> dict[str, float]:
        return {"kimg": course.seen / 1000}

    def progress(self, course: Course) -> tuple[int, int]:
        return min(course.seen, self.total), self.total

    def closes(self, before: int, after: int) -> bool:
        return self.passes(before, after, LOG_ENTRIES)

    def saves(self, saved: int, after: int) -> bool:
        return after - saved >= self.save_images

    def chooses(self, course: Course) -> bool:
        return False

    def passes(self, before: int, after: int, parts: int) -> bool:
        """Whether the end, or a boundary between `parts` equal parts, lies in (before, after]."""
        return after >= self.total or before * parts // self.total < after * parts // self.total


def train(
    game: Game,
    kimg: float,
    scratch: Path,
    *,
    save_images: int,
    pictures: int = 4,
    warm_up: int = 0,
    watch: Callable[[int, int], None] = lambda before, after: None,
    ended: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda done, total: None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Train to `kimg` thousand images, from the progress in `scratch` if there is any; returns the log.

    save_images  images between two savings of the progress
    pictures     pictures of samples, evenly spaced; `scratch`/samples-IMAGES.png
    warm_up      first images during which only the discriminator learns
    watch        called after each step, with the images seen before and after it
    ended        whether the training ends before `kimg`; asked after each step, and at the beginning
    Raises Interrupted (progress is saved) when asked to stop, StageError when a loss is not finite.
    """
    path, pace = scratch / progress.FILE, Images(round(kimg * 1000), save_images, ended)

    def save(state: State) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, progress.pack(state))

    def interrupt() -> None:
        raise Interrupted("training stopped; what was learned so far is kept and the same command goes on")

    def after_step(before: int, course: Course) -> None:
        watch(before, course.seen)
        if pace.passes(before, course.seen, pictures):
            write_picture(scratch / f"samples-{min(course.seen, pace.total):09d}.png", game)

    control = Control(
        restore=lambda: progress.restore(path), save=save, stopping=stopping, interrupt=interrupt, report=report
    )
    try:
        course = follow(game, lambda course: game.step(course.seen, course.seen >= warm_up), pace, control, after_step)
    except Diverged as error:
        raise StageError(str(error)) from None
    game.finish(course.seen)
    return course.log


def left(kimg: float, scratch: Path) -> bool:
    """Whether steps are to be made up to `kimg` thousand images, after the progress in `scratch` if there is any."""
    state = progress.restore(scratch / progress.FILE)
    return state is None or bool(state.plain["course"]["seen"] < round(kimg * 1000))


def write_picture(path: Path, game: Game) -> None:
    """A grid of samples as PNG, of the averaged generator, seeds 0, 1, ..."""
    rows, columns = GRID
    content = io.BytesIO()
    Image.fromarray(grid(game.sample(np.arange(rows * columns)), columns)).save(content, "PNG", optimize=True)
    write_bytes(path, content.getvalue())


def grid(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) to one picture of N / columns rows."""
    n, height, width, colors = images.shape
    rows = images.reshape(n // columns, columns, height, width, colors).transpose(0, 2, 1, 3, 4)
    return rows.reshape(n // columns * height, columns * width, colors)
