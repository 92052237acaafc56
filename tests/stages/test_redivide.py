"""The stage `redivide`: a detector anew on many divisions, of which none is tested on what it has learned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, rows_of, union
from training_rows import fit, rows

from pipeline.errors import StageError
from pipeline.stage import Artifact, Field, Promise
from stages.redivide import Redivide, RedivideConfig

NEAREST = {"family": "neighbors", "feature": "profile", "k": 1}


def redivided(folder: Path, on: MemoryRows, detector: Any, **config: Any) -> dict[str, Any]:
    model = Artifact("svm", "0" * 64, fit(folder / "train", on, detector))
    ctx = context(folder / "divisions", "redivide", artifacts={"model": (model,)}, random=True)
    Redivide().fit(RedivideConfig.model_validate(config), {"on": on.seen_by(Redivide)}, ctx)
    found: dict[str, Any] = json.loads((ctx.out / "divisions.json").read_text())
    return found


def noise(label: int, count: int, seed: int) -> MemoryRows:
    """Rows whose profiles say nothing of their class; every two have equal ones."""
    values = np.random.default_rng(seed).normal(size=(count // 2, 43)).astype(np.float32)
    return rows_of(f"noise {label}", label, {"profile": np.repeat(values, 2, axis=0)})


def in_pairs(dataset: MemoryRows) -> MemoryRows:
    """Every two rows are a group."""
    table = {name: dataset.column(name) for name in dataset.columns}
    table["group"] = np.repeat(table["group"][::2], 2)
    return MemoryRows(dataset.parts, table, dataset.values)


def test_nothing_that_is_tested_was_learned(tmp_path: Path) -> None:
    """A nearest neighbor knows the class of a row whose twin it has learned, and of no other one."""
    dataset = union(noise(0, 80, 1), noise(1, 80, 2))
    config = {"rows": 80, "divisions": 24, "val": 0.0, "test": 0.25}
    apart = redivided(tmp_path / "pairs", in_pairs(dataset), NEAREST, **config)
    assert apart["parts"] == {"test": 20, "val": 0, "train": 60}
    assert abs(apart["metrics"]["accuracy"]["mean"] - 0.5) < 0.08
    alone = redivided(tmp_path / "rows", dataset, NEAREST, **config)
    assert alone["metrics"]["accuracy"]["mean"] > 0.6  # 60 of 160 rows are learned: three in eight twins


def test_rows_of_all_splits_are_divided_and_separable_ones_are_told_apart(tmp_path: Path) -> None:
    claims = [
        {"says": "Nine of ten are right", "where": "here", "than": 0.9},
        {"says": "More than all are right", "than": 1.0, "metric": "auc"},
        {"says": "All but few are right", "than": 0.98},
    ]
    found = redivided(tmp_path, rows(), "profile-svm", rows=40, divisions=25, claims=claims)
    assert found["parts"] == {"test": 8, "val": 8, "train": 24}
    assert found["values"]["accuracy"] == [1.0] * 25
    low, high = found["metrics"]["accuracy"]["interval"]
    assert high == 1.0
    assert 0.95 < low < 0.98  # all but few of 120 rows, train, val and test, were tested
    once = redivided(tmp_path / "once", rows(), "profile-svm", rows=40, divisions=1)
    assert once["metrics"]["accuracy"]["interval"] == pytest.approx([8 / (8 + 1.959963985**2), 1.0])  # Wilson, of 8
    assert [one["verdict"] for one in found["claims"]] == ["holds", "does not hold", "cannot tell"]
    assert found["claims"][0]["where"] == "here"
    assert found["claims"][0]["value"] == pytest.approx(0.1)


def test_without_a_spread_groups_are_counted_and_not_rows(tmp_path: Path) -> None:
    """Ten groups of each class say less than their sixty rows: Wilson's interval of all right out of twenty."""
    dataset = rows()
    table = {name: dataset.column(name) for name in dataset.columns}
    for label in (0, 1):
        mine = np.flatnonzero(table["label"] == label)
        table["group"][mine] = table["group"][mine[:10]][np.arange(len(mine)) % 10]
    claim = {"says": "Nearly all are right", "than": 0.95}
    grouped = MemoryRows(dataset.parts, table, dataset.values)
    found = redivided(tmp_path, grouped, "profile-svm", rows=40, divisions=25, claims=[claim])
    assert found["values"]["accuracy"] == [1.0] * 25
    low, high = found["metrics"]["accuracy"]["interval"]
    assert (0.82 < low <= 20 / (20 + 1.959963985**2), high) == (True, 1.0)  # groups differ a little in size
    assert (found["claims"][0]["verdict"], found["claims"][0]["few_groups"]) == ("cannot tell", True)


def test_divisions_are_those_of_a_seed_and_further_ones_change_none(tmp_path: Path) -> None:
    dataset = union(noise(0, 40, 3), noise(1, 40, 4))
    few = redivided(tmp_path / "few", dataset, NEAREST, rows=40, divisions=3)
    more = redivided(tmp_path / "more", dataset, NEAREST, rows=40, divisions=5)
    assert more["values"]["auc"][:3] == few["values"]["auc"]
    assert len(set(more["values"]["accuracy"])) > 1


def test_networks_and_too_few_rows_are_refused_before_anything_runs() -> None:
    facts = {"feature": "profile", "feature_shape": [43], "resamples": False, "runs_network": False, "libraries": []}
    given = {"model": Promise("svm", facts), "on": {"profile": Field("float32", (43,))}}
    config = RedivideConfig(rows=40)
    assert Redivide().schema(config, given) == {}
    with pytest.raises(ValueError, match="the detector of node 'svm' 200 times, but it is a network or a fusion"):
        Redivide().schema(config, given | {"model": replace(given["model"], facts=facts | {"runs_network": True})})  # type: ignore[type-var]
    with pytest.raises(ValueError, match="'on' holds 12 fake rows, but a division has 20; lower rows"):
        Redivide().check_rows(config, {"on": {("train", 0): 30, ("train", 1): 7, ("test", 1): 5}})
    with pytest.raises(ValueError, match="0 of each are for test"):
        RedivideConfig(rows=8, test=0.05)


def test_groups_that_do_not_suffice_stop_the_run_with_a_sentence(tmp_path: Path) -> None:
    dataset = union(noise(0, 40, 5), noise(1, 40, 6))
    table = {name: dataset.column(name) for name in dataset.columns}
    table["group"] = np.repeat(table["group"][:1], len(dataset))
    one = MemoryRows(dataset.parts, table, dataset.values)
    with pytest.raises(StageError, match="division 0: 1 groups do not give 20 rows of each class"):
        redivided(tmp_path, one, NEAREST, rows=40, divisions=2)
