"""Stage `flip`: each image and its mirror image, as two rows.

Training on a feature that does not commute with mirroring wants both: the mean of 4 x 4 blocks does, the network that
rebuilds the image from them does not, so the residual of a mirrored image is not the mirrored residual (He et al. 2021
mirror at random before they rebuild). Both rows have the group and the split of their image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig
from stages.images.image_field import image_size


class FlipConfig(StageConfig):
    """No settings."""


class Flip(Stage):
    """Rows with an `image` in; for each the image itself (draw 0) and left and right exchanged (draw 1)."""

    name: ClassVar[str] = "flip"
    kind: ClassVar[Kind] = Kind.EXPAND
    makes_variant: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = FlipConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="rows with an image")}

    def schema(self, config: FlipConfig, inputs: Mapping[str, Schema]) -> Schema:
        """`image` as it was, and `flipped`, 0 or 1."""
        image_size(inputs["of"], self.name)
        return {"image": inputs["of"]["image"], "flipped": Field("uint8", (), "1: left and right exchanged")}

    def fan_out(self, config: FlipConfig) -> int:
        """Two rows per row."""
        return 2

    def compute(self, config: FlipConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """The parents' images, mirrored where the draw is 1."""
        del ctx
        assert batch.index is not None
        images, flipped = batch.inputs[0]["image"], batch.index.astype(np.uint8)
        mirrored = flipped[:, None, None, None] == 1
        return {"image": np.where(mirrored, images[:, :, ::-1], images), "flipped": flipped}
