"""The papers' detectors in plain scikit-learn on the same shards are as good as ours, within the interval of a rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import context
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC
from store_rows import make_rows

from pipeline.dataset import Dataset, Part
from pipeline.runs import this_run
from pipeline.stage import Field
from pipeline.storage.store import Store
from stages.evaluation.detector_file import load_detector
from stages.train import Train, TrainConfig

COUNT = 300
SCHEMA = {"profile": Field("float32", (43,), axes=("frequency",))}
PLAIN: dict[str, Any] = {
    "profile-svm": lambda: SVC(C=6.37, gamma=0.86),
    "profile-forest": lambda: RandomForestClassifier(100, random_state=1),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two chains of profiles whose classes overlap; half of the rows are for training, a quarter for the test."""
    store = Store(tmp_path_factory.mktemp("shards") / "store", writable=True)
    parts, random = [], np.random.default_rng(8)
    for label in (0, 1):
        ids, _ = make_rows(label * COUNT, (label + 1) * COUNT)
        profiles = 200 - 2.5 * np.arange(43) + random.normal(0, 12, (COUNT, 43))
        profiles[:, 30:] += 11 * label
        chain = bytes([label] * 16)
        store.stage_shard("spectrum", chain, ids, {"profile": profiles.astype(np.float32)}, SCHEMA, this_run())
        parts.append(Part("spectrum", chain, SCHEMA, ids))
    table = {
        "label": np.repeat(np.array([0, 1], np.uint8), COUNT),
        "split": np.tile(np.array(["train", "train", "val", "test"]), COUNT // 2),
        "source": np.repeat(np.array(["photos", "progan"]), COUNT),
    }
    return Dataset(store, parts, table)


def durall(rows: Dataset) -> NDArray[np.float64]:
    """80 points of each profile over its first one."""
    profiles = rows.array("profile").astype(np.float64)
    points = CubicSpline(np.linspace(0, 80, 43), profiles, axis=1)(np.linspace(0, 80, 80))
    return np.asarray(points / points[:, :1])


@pytest.mark.parametrize("preset", PLAIN)
@pytest.mark.jobs
def test_plain_scikit_learn_reaches_the_same_accuracy(preset: str, shards: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path, "train")
    Train().fit(TrainConfig.model_validate_json(f'{{"detector": "{preset}"}}'), {"on": shards}, ctx)
    train, test = shards.split("train"), shards.split("test")
    detector, labels = load_detector(ctx.out), test.column("label")
    ours = float(((detector(test) >= detector.card["threshold"]) == labels).mean())
    plain = PLAIN[preset]().fit(durall(train), train.column("label"))
    theirs = float((plain.predict(durall(test)) == labels).mean())
    pooled = (ours + theirs) / 2
    assert 0.7 < ours < 0.99
    assert abs(ours - theirs) <= 1.96 * math.sqrt(pooled * (1 - pooled) * 2 / len(test))
