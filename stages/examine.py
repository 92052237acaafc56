"""What an audit keeps of each row: facts of its file, statistics of its pixels, a thumbnail; computed once per row.

Put it before `equalize` to see files as they came, and after it to see what is left; `audit` compares the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import (
    CONTENT,
    Batch,
    Context,
    Input,
    Kind,
    RowError,
    Schema,
    Stage,
    StageConfig,
    row_setting,
)


class ExamineConfig(StageConfig):
    """Nothing but a limit."""

    max_pixels: int = row_setting(
        100_000_000, description="files whose header claims more fail before anything is allocated", ge=1
    )


class Examine(Stage):
    """Image files or arrays in; facts and statistics out, see `stages.auditing.stored.KEPT`."""

    name: ClassVar[str] = "examine"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = ExamineConfig
    inputs: ClassVar[Mapping[str, Input]] = {"of": Input("rows", description="image files, or rows with an `image`")}
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")

    def schema(self, config: ExamineConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Raises ValueError where the input has neither files nor images."""
        from stages.auditing.stored import KEPT

        if "image" not in inputs["of"] and CONTENT not in inputs["of"]:
            found = ", ".join(sorted(inputs["of"])) or "nothing"
            raise ValueError(f"examine needs image files or an `image` field, found {found}")
        return dict(KEPT)

    def compute(self, config: ExamineConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """A file that cannot be decoded fails its row with one sentence."""
        from stages.auditing.examined import of_content
        from stages.auditing.pixels import picture
        from stages.auditing.stored import KEPT, kept

        found = {name: np.zeros((len(batch), *item.shape), item.dtype) for name, item in KEPT.items()}
        native = batch.inputs[0].get("image") if batch.inputs else None
        for row in range(len(batch)):
            try:
                values = (
                    kept(*of_content(batch.read(row), config.max_pixels))
                    if native is None
                    else kept(None, picture(native[row]))
                )
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
                continue
            for name, value in values.items():
                found[name][row] = value
        return found
