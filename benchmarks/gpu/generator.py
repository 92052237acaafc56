"""A StyleGAN2 at 64 pixels: what a step costs, the same bytes twice and after a kill, minutes of training."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.paths import ROOT
from benchmarks.gpu.results import Acceptance

SETTINGS: dict[str, Any] = {
    "family": "stylegan2",
    "kimg": 64.0,
    "batch": 16,
    "learning_rate": 0.0025,
    "r1_gamma": 0.2,
    "network": {"z_dim": 64, "w_dim": 64, "mapping_layers": 2, "channel_base": 1024, "channel_max": 128},
    "discriminator": {"channel_base": 1024, "channel_max": 128},
    "average_kimg": 3.0,
    "average_ramp": 0.05,
    "flips": True,
    "augment": {},
}


class Games:
    """Makes the same game again and again: photographs of the project, one recipe, one seed.

    steps: of trainings that are compared
    """

    def __init__(self, run: Acceptance) -> None:
        from memory_rows import rows_of

        self.run, self.side, self.steps = run, 16 if run.quick else 64, 4 if run.quick else 6
        files = sorted((ROOT / "manifests" / "photos").glob("*"))[: 32 if run.quick else None]
        pixels = [np.asarray(Image.open(path).convert("RGB").resize((self.side, self.side))) for path in files]
        self.rows = rows_of("photos", 0, {"image": np.stack(pixels)}, split="train")

    def new(self, mixed: bool = False) -> Any:
        from detectors.seeding import seeded
        from stages.generators.families import FAMILIES
        from stages.generators.training_recipes import Recipe
        from stages.train_generator import (
            discriminator_architecture,
            generator_architecture,
            new_game,
            new_network,
            training_images,
        )
        from stages.training.networks import prepare

        device = self.run.device
        prepare(device, 1)
        recipe = FAMILIES["stylegan2"].model_validate(SETTINGS | ({"batch": 4} if self.run.quick else {}))
        random = torch.Generator(device).manual_seed(0)
        assert isinstance(recipe, Recipe)
        images = training_images(self.rows, device, random, recipe)
        made, judge = generator_architecture(recipe, self.side, 0), discriminator_architecture(recipe, self.side, 0)
        with seeded(0):
            players = {
                "generator": new_network("stylegan2", "generator", made),
                "discriminator": new_network("stylegan2", "discriminator", judge),
            }
        return new_game(recipe, players, images, random, device, mixed)


def generator(run: Acceptance) -> dict[str, Any]:
    """f32 and bf16: a step; repeats and resumes: to the bit; run: images per hour; figures of the samples."""
    games = Games(run)
    found: dict[str, Any] = {}
    for key in ("f32", "bf16"):
        found[key] = _steps(run, games.new(mixed=key == "bf16"))
        run.keep("generator", found)
    found |= _repeated(run, games)
    run.keep("generator", found)
    game = games.new()
    found["run"] = _trained(run, game)
    if not run.quick:
        from stages.generators.generator_metrics import card_figures

        found["figures"] = card_figures(game, game.images)
    return found


def _steps(run: Acceptance, game: Any) -> dict[str, float]:
    game.step(0)
    times = []
    for number in range(1, 2 if run.quick else 33):  # two lazy penalties of each player
        times.append(run.time(lambda number=number: game.step(game.recipe.batch * number), rounds=1, warm=0))  # type: ignore[misc]
    found = {"step_ms_median": statistics.median(times) * 1e3, "step_ms_longest": max(times) * 1e3}
    if run.on_gpu:
        with torch.profiler.profile() as watch:
            for _ in range(2):
                game.step(0)
            run.wait()
        events = watch.key_averages()
        launches = [event.count for event in events if event.key.startswith(("cudaLaunchKernel", "cuLaunchKernel"))]
        halts = [event.count for event in events if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize")]
        found |= {"launches_per_step": sum(launches) / 2, "waits_per_step": sum(halts) / 2}
        found["device_ms_per_step"] = sum(event.self_device_time_total for event in events) / 2e3
    return found


def _repeated(run: Acceptance, games: Games) -> dict[str, bool]:
    """Two trainings of the same steps, and one that is saved after half of them and taken up by another game."""
    from small_games import state_of

    from detectors.training import Course, progress, restored

    states = []
    for kind in ("whole", "again", "resumed"):
        game = games.new()
        for number in range(games.steps):
            if kind == "resumed" and number == games.steps // 2:
                state = progress(game, Course())
                game = games.new()
                restored(game, state)
            game.step(number * game.recipe.batch)
        states.append(state_of(game))
    return {"repeats": states[0] == states[1], "resumes": states[0] == states[2]}


def _trained(run: Acceptance, game: Any) -> dict[str, Any]:
    from stages.training.course import write_picture

    start, seen, log, memory = time.perf_counter(), 0, [], []
    while time.perf_counter() - start < run.seconds:
        used, numbers = game.step(seen)
        seen += used
        if game.steps % 50 == 1:
            log.append({"kimg": seen / 1000, **numbers})
            memory.append(torch.cuda.memory_allocated() >> 20 if run.on_gpu else 0)
            if not np.isfinite(list(numbers.values())).all():
                break
    run.wait()
    took = time.perf_counter() - start
    write_picture(Path(run.out) / "samples.png", game)
    found: dict[str, Any] = {"seconds": took, "kimg": seen / 1000, "kimg_per_hour": 3.6 * seen / took}
    return found | {"first": log[0], "last": log[-1], "memory_mib": [memory[0], memory[-1]]}
