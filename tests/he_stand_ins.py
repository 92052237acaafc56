"""A source of fakes of 1024 pixels that are planned and never made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.stage import Field, Kind, SourceRows, Stage, StageConfig, row_setting, setting


class FakesConfig(StageConfig):
    checkpoint: str = setting(description="a name")
    count: int = row_setting(12, description="rows")
    splits: dict[str, float] | None = row_setting(None, description="shares")


class Fakes(Stage):
    """Takes the settings of `sample`."""

    name, kind, Config = "fakes", Kind.SOURCE, FakesConfig

    def schema(self, config: FakesConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (1024, 1024, 3), "RGB", ("row", "column", "channel"))}

    def discover(self, config: FakesConfig, scan: Any) -> SourceRows:
        names = [
            hashlib.sha256(f"{config.checkpoint} {number}".encode()).digest()[:16] for number in range(config.count)
        ]
        return SourceRows(np.frombuffer(b"".join(names), "V16"), 1, None, splits=config.splits)
