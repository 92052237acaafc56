"""Step `join`: fields of one row that several nodes hold, as one row.

Planning joins the nodes of a view where a fit or reduce reads fields of several (`pipeline.planning.joining`); no node
has this stage, and no shard holds its rows. It is the last step in the card of a detector that learned from such rows:
to ask that detector about an image, its features are joined like this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from pipeline.stage import Batch, Context, Input, Kind, Schema, Stage, StageConfig, setting
from pipeline.steps import JOIN, MOST_JOINED


class JoinConfig(StageConfig):
    """Which field is whose."""

    fields: dict[str, int] = setting(description="field -> number of the input that has it")


class Join(Stage):
    """Rows of the same ids in; their fields side by side out."""

    name: ClassVar[str] = JOIN
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = JoinConfig
    inputs: ClassVar[Mapping[str, Input]] = {str(number): Input() for number in range(MOST_JOINED)}

    def schema(self, config: JoinConfig, inputs: Mapping[str, Schema]) -> Schema:
        """The fields as they were. Raises ValueError where an input lacks one."""
        for name, number in config.fields.items():
            if name not in inputs.get(str(number), {}):
                raise ValueError(f"input {number} of a join has no field '{name}'")
        return {name: inputs[str(number)][name] for name, number in config.fields.items()}

    def compute(self, config: JoinConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """The parents' values."""
        del ctx
        return {name: batch.inputs[number][name] for name, number in config.fields.items()}
