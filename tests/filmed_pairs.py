"""Videos that are a name: frames and landmarks of an original and of its fake, without a decoder and a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import PICTURE, Batch, Context, Field, Input, Kind, Stage, StageConfig, row_setting

SIDE = 64
POINTS = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], np.float32)


class FilmConfig(StageConfig):
    """How long films are."""

    limit: int = row_setting(description="frames of each")


class Film(Stage):
    """An expand of PGM files: noise that pixels and number say; of a file of one pixel the last frame fails."""

    name, kind, Config = "film", Kind.EXPAND, FilmConfig
    inputs = {"of": Input("rows")}  # noqa: RUF012

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        """A picture."""
        return {"image": Field("uint8", (SIDE, SIDE, 3), "RGB, 0 to 255", PICTURE)}

    def fan_out(self, config: FilmConfig) -> int:
        """Frames."""
        return config.limit

    def compute(self, config: FilmConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Noise."""
        assert batch.index is not None
        found = np.zeros((len(batch), SIDE, SIDE, 3), np.uint8)
        for row, number in enumerate(batch.index.tolist()):
            content = batch.read(row).split(b"\n")[1]
            if len(content) == 1 and number == config.limit - 1:
                ctx.fail(row, "the film ends before it")
            found[row] = frame(content, number)
        return {"image": found}


class Marks(Stage):
    """A map of frames: landmarks that the picture says."""

    name, kind, Config = "marks", Kind.MAP, StageConfig
    inputs = {"of": Input("rows")}  # noqa: RUF012

    def schema(self, config: Any, inputs: Mapping[str, Any]) -> dict[str, Field]:
        """As those of the stage landmarks."""
        return {"points": Field("float32", (5, 2)), "box": Field("float32", (4,)), "score": Field("float32", ())}

    def compute(self, config: Any, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """Shifted by the first pixel."""
        points = np.stack([marks(image) for image in batch.inputs[0]["image"]])
        box = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        return {"points": points, "box": box, "score": np.ones(len(points), np.float32)}


def frame(content: bytes, number: int) -> NDArray[np.uint8]:
    """Frame `number` of a film."""
    draw = np.random.default_rng([*content, number, 1])
    return draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def marks(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Five points of a frame."""
    return POINTS + image[0, 0, :2].astype(np.float32) / 16
