"""Stored rows that a training reads, and one fit on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from memory_rows import MemoryRows, context, rows_of, union

from stages.train import Train, TrainConfig

CNN = {"preset": "fft2d-cnn", "feature": "map", "widths": [4], "epochs": 3, "batch_size": 8, "micro_batch": 8}


def features(count: int, raised: float, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    profile = 200 - 2.5 * np.arange(43) + random.normal(0, 3, (count, 43))
    profile[:, 30:] += raised
    maps = random.normal(0, 1, (count, 1, 8, 8))
    maps[:, :, 2:6, 2:6] += raised / 5
    return {"profile": profile.astype(np.float32), "map": maps.astype(np.float16)}


def rows(count: int = 60) -> MemoryRows:
    return union(rows_of("photos", 0, features(count, 0, 1)), rows_of("progan", 1, features(count, 15, 2)))


def config(detector: Any = "profile-svm", **more: Any) -> TrainConfig:
    return TrainConfig.model_validate_json(json.dumps({"detector": detector, **more}))


def fit(folder: Path, dataset: MemoryRows, detector: Any = "profile-svm", **more: Any) -> Path:
    ctx = context(folder, "train", **more)
    Train().fit(config(detector), {"on": dataset}, ctx)
    return ctx.out
