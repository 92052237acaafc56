"""The smallest trainings of each family: rows of flat images, recipes with a few feature maps, games made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import MemoryRows, rows_of

from detectors.training import tensors_of
from stages.generators import weights
from stages.generators.families import FAMILIES
from stages.generators.training_recipes import PlainRecipe
from stages.train_generator import (
    TrainGeneratorConfig,
    discriminator_architecture,
    generator_architecture,
    new_game,
    new_network,
    training_images,
)
from stages.training.networks import prepare

SIDES = {"progan": 8, "stylegan": 8, "stylegan2": 8, "stargan2": 32, "sngan": 8, "dcgan": 8, "autogan": 32}
SIDES |= {"mfa": 8, "glow": 8}
NAMES = tuple(name for name, recipe in FAMILIES.items() if "discriminator" in recipe.players)
KINDS = [pytest.param(name, marks=() if name in ("progan", "sngan") else pytest.mark.stress) for name in NAMES]
"""One loop trains them all: a family that grows and one with several steps of the discriminator stand for the others,
which `make stress` tries too.
"""
GROWING = ("progan", "stylegan")
STYLED = ("stylegan", "stylegan2")
FEATURES = {"fmap_base": 64, "fmap_max": 8}
SMALL: dict[str, dict[str, Any]] = {
    "progan": {"network": {"z_dim": 4, **FEATURES}, "discriminator": FEATURES},
    "stylegan": {
        "network": {"z_dim": 4, "w_dim": 6, "mapping_layers": 2, "mapping_features": 6, **FEATURES},
        "discriminator": FEATURES,
    },
    "stylegan2": {
        "network": {"z_dim": 4, "w_dim": 6, "mapping_layers": 2, "channel_base": 64, "channel_max": 8},
        "discriminator": {"channel_base": 64, "channel_max": 8},
    },
    "glow": {"network": {"levels": 2, "depth": 2, "width": 4}, "first_images": 6, "batch": 4, "kimg": 0.016},
    "mfa": {"network": {"components": 2, "z_dim": 2}},
    "stargan2": {
        "network": {"z_dim": 4, "w_dim": 6, "width": 4, "max_width": 8, "mapping_width": 8},
        "discriminator": {"width": 4, "max_width": 8},
    },
    "sngan": {"network": {"z_dim": 4, "ch": 4}, "discriminator": {"ch": 4}, "discriminator_steps": 1},
    "dcgan": {"network": {"z_dim": 4, "width": 4}, "discriminator": {"width": 4}},
    "autogan": {"network": {"width": 4, "blocks": 1}, "discriminator": {"width": 4}, "pool": 3},
}


def settings_of(family: str, **more: Any) -> dict[str, Any]:
    """A recipe as it stands in a pipeline file; `more` replaces settings."""
    if family not in NAMES:
        return {"family": family, **SMALL[family], **more}
    growing = {"grow_from": 4, "grow_kimg": 0.008, "fade_kimg": 0.008} if family in GROWING else {}
    return {"family": family, **SMALL[family], "batch": 4, "learning_rate": 0.002, "kimg": 0.032, **growing, **more}


def recipe_of(family: str, **more: Any) -> Any:
    """The same, validated."""
    config = TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": settings_of(family, **more)}))
    assert isinstance(config.recipe, PlainRecipe)
    return config.recipe


def photos(side: int, count: int = 6, domains: tuple[str, ...] = ("ape", "bee"), split: str | None = "train") -> Any:
    """Real rows of noise, in domains in turn."""
    pixels = np.random.default_rng(side).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    rows: MemoryRows = rows_of("photos", 0, {"image": pixels}, split=split)
    rows._table["domain"][:] = np.array(domains)[np.arange(count) % len(domains)]
    return rows


def game_of(
    family: str,
    *,
    side: int | None = None,
    seed: int = 0,
    rows: Any = None,
    mixed: bool = False,
    device: str = "cpu",
    **more: Any,
) -> Any:
    """A game at its beginning, as `TrainGenerator.fit` makes it; `more` replaces settings of its recipe."""
    prepare(device, 1)
    recipe = recipe_of(family, **more)
    rows = photos(side or SIDES[family]) if rows is None else rows
    torch.manual_seed(seed)
    random = torch.Generator(device).manual_seed(seed)
    images = training_images(rows, device, random, recipe)
    classes = images.count_of_classes
    players = {"generator": new_network(family, "generator", generator_architecture(recipe, images.side, classes))}
    if family in NAMES:
        given = discriminator_architecture(recipe, images.side, classes)
        players["discriminator"] = new_network(family, "discriminator", given)
    return new_game(recipe, players, images, random, device, mixed)


def state_of(game: Any) -> dict[str, bytes]:
    """Everything that a training has learned, as bytes by name."""
    found = {"random": game.random.get_state().numpy().tobytes(), "numbers": repr(game.numbers).encode()}
    for name, network in game.networks().items():
        found |= {f"{name}.{key}": value.cpu().numpy().tobytes() for key, value in network.state_dict().items()}
    for name, optimizer in game.all_optimizers().items():
        for index, moments in optimizer.state_dict()["state"].items():
            found |= {f"{name} {index} {key}": value.cpu().numpy().tobytes() for key, value in moments.items()}
    return found


def watched(function: Callable[..., Any], calls: list[tuple[Any, Any]]) -> Callable[..., Any]:
    """The same function, which notes the positional arguments and the result of each call."""

    def inner(*given: Any, **more: Any) -> Any:
        calls.append((given, function(*given, **more)))
        return calls[-1][1]

    return inner


def generator_file_of(family: str, folder: Path, side: int = 8) -> Path:
    """The generator of a game at its beginning, as a file of weights."""
    game = game_of(family, side=side)
    path = folder / f"{family}.safetensors"
    architecture = {**SMALL[family]["network"], "c_dim": 0, "resolution": side}
    weights.save(path, family, architecture, tensors_of(game.average), network="generator")
    return path
