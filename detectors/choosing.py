"""Which detector a setting means: from a preset's name or a mapping to the full config of a family, or one sentence.

Only the config counts in a recipe, not the way to it: another preset or family makes no trained detector stale.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from pydantic import ValidationError

from detectors import FAMILIES, PRESETS
from detectors.contract import DetectorConfig
from pipeline.sentences import closest, describe, nearest
from pipeline.user_modules import imported, names_of_users

IN_RECIPES = False

PARTS = ("Config", "NUMBERS", "describe", "shapes", "fit", "score")
"""What the module of a family has (`detectors.contract`)."""


def module_name(family: str) -> str:
    """Name of the module of a detector family: one of Touchstone's, or a module of the user's that is one.

    Raises ValueError for an unknown one. A user's module is read, not run: what a file names is a family or nothing.
    """
    if family in FAMILIES:
        return FAMILIES[family]
    names = names_of_users(family)
    if names is None:
        known = f"expected one of {', '.join(FAMILIES)}, or a module beside the pipeline file"
        raise ValueError(f"'{family}' is no detector family; {known}{closest(family, FAMILIES)}")
    lacking = [part for part in PARTS if part not in names]
    if lacking:
        raise ValueError(
            f"'{family}' is no detector family: the module has no {' and no '.join(lacking)} "
            "(docs/writing_a_detector.md says what a family has)"
        )
    return family


def family_module(family: str) -> Any:
    """The module of a detector family. Raises ValueError for one that is unknown or cannot be imported."""
    name = module_name(family)
    if family in FAMILIES:
        return importlib.import_module(name)
    module = imported(name, "a detector family")
    if not (isinstance(module.Config, type) and issubclass(module.Config, DetectorConfig)):
        raise ValueError(f"'{family}' is no detector family: its Config is no DetectorConfig")
    return module


def detector_config(value: Any) -> DetectorConfig:
    """Full config from a preset's name, or from a mapping with `family`, or with `preset` and settings that differ.

    Raises ValueError with one sentence; the preset's name is forgotten here, so it is no part of a recipe.
    """
    if isinstance(value, DetectorConfig):
        return value
    settings: dict[str, Any] = {"preset": value} if isinstance(value, str) else dict(value)
    preset = settings.pop("preset", None)
    if preset is not None:
        if preset not in PRESETS:
            known = f"expected one of {', '.join(PRESETS)}{closest(str(preset), PRESETS)}"
            raise ValueError(f"'{preset}' is no detector preset; {known}")
        settings = PRESETS[preset] | settings
    if "family" not in settings:
        raise ValueError(f"lacks 'family' (one of {', '.join(FAMILIES)}) or 'preset' (one of {', '.join(PRESETS)})")
    model: type[DetectorConfig] = family_module(str(settings["family"])).Config
    try:
        return model.model_validate_json(json.dumps(settings))
    except ValidationError as failure:
        first, *others = failure.errors()
        same = [one for one in others if one["loc"][:1] == first["loc"][:1]]
        problem = max((first, *same), key=lambda one: len(one["loc"]))  # of a list the value that is wrong
    name, value = _found(problem["loc"], settings)
    kind = f"detector family '{settings['family']}'"
    if problem["type"] == "extra_forbidden":
        raise ValueError(f"'{name}' is not a setting of {kind}{_meant(name, model)}")
    if problem["type"] == "missing":
        raise ValueError(f"lacks '{name}', which {kind} needs")
    shown = describe(value) if isinstance(value, dict) else repr(value)
    text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    raise ValueError(f"{kind}: '{name}' is {shown}; {text}" if name else f"{kind}: {text}")


def _found(place: tuple[int | str, ...], settings: Any) -> tuple[str, Any]:
    """Name of a setting, with those that it lies in, and its value; `place` also has words that chose a part."""
    names, value, shown = [], settings, settings
    for number, part in enumerate(place):
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif isinstance(value, dict) and (part in value or number == len(place) - 1):
            names.append(str(part))
            value = shown = value.get(part)
    return ".".join(names), shown


def _meant(name: str, model: type[DetectorConfig]) -> str:
    """What a setting that there is not was probably meant to be; name: with those that it lies in."""
    if "." not in name:
        return nearest(name, model.model_fields)
    inner = model.model_json_schema().get("$defs", {}).values()
    return closest(name.rpartition(".")[2], {word for one in inner for word in one.get("properties", {})})


class DetectorSchema:
    """JSON Schema of a detector setting: a preset's name, the settings of a family, or a preset with changes."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        settings = {name: family_module(name).Config.__pydantic_core_schema__ for name in FAMILIES}
        families = [{**core, "ref": name} for name, core in settings.items()]  # so they are defined by that name
        given: dict[str, Any] = handler({"type": "union", "choices": families})
        preset = {"enum": list(PRESETS)}
        changed = {"type": "object", "properties": {"preset": preset}, "required": ["preset"]}
        own = {"family": {"type": "string", "not": {"enum": list(FAMILIES)}}}
        users = {"type": "object", "properties": own, "required": ["family"]}
        return {"anyOf": [preset, *given["anyOf"], users, changed]}
