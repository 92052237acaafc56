"""Whether rows have the field that a detector reads, or one sentence."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.sentences import closest
from pipeline.stage import Promise, Schema
from stages.training.alike import check_alike

IN_RECIPES = False


def fields_read(model: Promise) -> tuple[str, ...]:
    """Fields that the detector reads that a node promises: of a fusion those of its members."""
    members = model.facts.get("members", [model.facts])
    return tuple(dict.fromkeys(facts["feature"] for facts in members))


def check_feature(model: Promise, whose: str, rows: Schema) -> None:
    """Raise ValueError with one sentence unless the detector that a node promises can score rows with these fields."""
    if "members" in model.facts:
        for facts in model.facts["members"]:
            check_feature(Promise(facts["node"], facts), whose, rows)
        return
    feature, learned = model.facts["feature"], model.facts["feature_shape"]
    check_alike(rows, feature)
    if feature not in rows:
        raise ValueError(
            f"{whose} have no field '{feature}', which the detector of {model} reads; they have "
            f"{', '.join(sorted(rows)) or 'none'}: name the node that computes it{closest(feature, rows)}"
        )
    shape = rows[feature].shape
    if learned is None:
        return
    if shape != tuple(learned) and not (model.facts["resamples"] and len(shape) == len(learned)):
        raise ValueError(
            f"'{feature}' of {whose} is {shape}, but the detector of {model} learns from {tuple(learned)}; equalize "
            "the images of both to one size"
        )


def no_feature(whose: str, feature: str, fields: Iterable[str], setting: str = "feature") -> str:
    """One sentence about rows without the field that a `setting` of a detector names."""
    names = sorted(fields)
    found = f"they have {', '.join(names)}" if names else "they have no fields"
    return (
        f"{whose} have no field '{feature}', which the detector's '{setting}' names; {found}: "
        f"change '{setting}' in 'detector', or compute the field in a node before{closest(feature, names)}"
    )
