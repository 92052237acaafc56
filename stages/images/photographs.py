"""What a stage that makes fakes of photographs asks of its rows."""

from __future__ import annotations

from pipeline.stage import FAKE, Parents, Schema
from stages.images.image_field import image_size


def check_real(stage: str, name: str, rows: Parents) -> None:
    """Raises ValueError where rows of the input `name` are fakes."""
    fakes = int((rows.label == FAKE).sum())
    if fakes:
        raise ValueError(f"{stage}: {fakes} rows of '{name}' are fake; photographs are wanted: add where: label = real")


def check_side(stage: str, name: str, fields: Schema, side: int) -> None:
    """Raises ValueError where the images of the input `name` are not of the network's size, side x side px."""
    height, width = image_size(fields, stage)
    if (height, width) != (side, side):
        raise ValueError(
            f"{stage} needs images of {side} x {side} px, those of '{name}' have {height} x {width}; put equalize with "
            f"size: {side} before it"
        )
