"""Images that `sample` makes of the generator in a file, without an engine around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stage import Batch, Context
from stages.sample import Sample, SampleConfig


def sampled(path: Path, seeds: list[int], directions: Path | None = None, **settings: Any) -> np.ndarray[Any, Any]:
    """(N, H, W, 3) uint8, after the checks of planning."""
    given = {"directions": directions.name} if directions else {}
    config = SampleConfig(checkpoint=path.name, count=1, **given, **settings)
    files = {"checkpoint": path, **({"directions": directions} if directions else {})}
    Sample().check(config, files)
    batch = Batch(ids=np.zeros(len(seeds), "V16"), payload={"seed": np.array(seeds, np.int64)})
    images: np.ndarray[Any, Any] = Sample().compute(config, batch, Context(seed=0, stage="sample", files=files))[
        "image"
    ]
    return images
