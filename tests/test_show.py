"""Pictures of stored rows: maps of many channels, which would be wider than a picture may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.show import MOST_MAPS, draw
from pipeline.stage import Field


@pytest.mark.parametrize("channels", [3, 512])
def test_a_map_of_many_channels_is_drawn_by_its_first(channels: int, tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((channels, 8, 8)).astype(np.float16)
    draw(maps, Field("float16", maps.shape, "1"), "residual_stage5", tmp_path / "row.png")
    with Image.open(tmp_path / "row.png") as picture:
        assert picture.width == 440 * min(channels, MOST_MAPS)
