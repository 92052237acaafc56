"""A view whose rows differ in the field that a stage reads: two sizes of images, mostly."""

from __future__ import annotations

from pipeline.stage import Schema, difference

IN_RECIPES = False


def check_alike(fields: Schema, name: str) -> None:
    """Raise ValueError, which names both kinds, where the rows of a view do not have the field `name` alike."""
    differs = difference(fields, name)
    if differs:
        raise ValueError(f"{differs}; equalize all to one size, and take the same steps after it")
