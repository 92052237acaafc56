"""Which artifacts of a store are earlier ones of a recipe: made in the same way with the same, newest first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.planning.recipes import Recipe
from pipeline.running.earlier import earlier
from pipeline.stage import Artifact
from pipeline.storage.artifacts import contents
from pipeline.storage.store import Store
from pipeline.storage.upkeep import accept

RECIPE = {"stage": "mean", "format": 2, "code": {"toy": "aa"}, "config": {"part": [1, 2.0]}, "env": {}}
OTHER = {**RECIPE, "config": {"part": [1, 3.0]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, writable=True)


def made(store: Store, number: int, recipe: dict[str, Any] = RECIPE, **info: Any) -> Artifact:
    """An artifact that is younger than all before."""
    key = bytes([number]) * 16
    out = store.temporary(store.artifact_dir("mean", key), store.start_run())
    (out / "mean.txt").write_text(str(number))
    artifact = store.publish_artifact("mean", key, out, {"node": f"node {number}", "recipe": recipe, **info})
    os.utime(artifact.path / "artifact.json", (number, number))
    return artifact


def found(store: Store, recipe: dict[str, Any] = RECIPE, **artifacts: Any) -> list[str]:
    return [one.node for one in earlier(store, "mean", recipe, artifacts)]


def test_those_of_the_same_recipe_come_newest_first(store: Store) -> None:
    assert found(store) == []
    for number, recipe in enumerate((RECIPE, OTHER, RECIPE, OTHER, RECIPE), 1):
        made(store, number, recipe)
    assert found(store) == ["node 5", "node 3", "node 1"]
    assert found(store, OTHER) == ["node 4", "node 2"]
    assert next(one.path for one in earlier(store, "mean", RECIPE, {})) == store.artifact_dir("mean", bytes([5]) * 16)


def test_what_accept_maps_to_one_recipe_is_one(store: Store) -> None:
    made(store, 1, RECIPE)
    made(store, 2, OTHER)
    accept(store, Recipe.of("mean", OTHER).digest, Recipe.of("mean", RECIPE).digest)
    assert found(store) == found(store, OTHER) == ["node 2", "node 1"]


def test_models_of_another_content_are_other_inputs(store: Store) -> None:
    models = {"model": (made(store, 1, OTHER),)}
    made(store, 2, RECIPE, made_with=contents(models))
    made(store, 3, RECIPE, made_with={"model": ["ff"]})
    assert found(store, **models) == ["node 2"]
    assert found(store) == []


def test_one_that_is_damaged_old_or_gone_is_none(store: Store) -> None:
    places = [made(store, number).path for number in range(1, 6)]
    (places[1] / "mean.txt").write_text("9")
    (places[2] / "mean.txt").unlink()
    (places[3] / "artifact.json").write_text("{}")
    (store.root / "mean" / ".half.tmp").mkdir()
    assert found(store) == ["node 5", "node 1"]
    assert all(place.exists() for place in places), "who only looks removes nothing"
