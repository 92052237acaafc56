"""The stage behind `stage:` of a node: one of Touchstone's by name, or `module:Class` of a user's."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from pipeline.importing import OWN, ROOT, VALUES
from pipeline.module_paths import is_followed
from pipeline.sentences import describe, nearest
from pipeline.stage import Stage
from pipeline.user_modules import imported


def load_stage(name: str) -> Stage:
    """The stage of a name in `stages.STAGES`, or of `module:Class` beside the pipeline file or on the Python path.

    Raises ValueError with the rest of a sentence that begins with the name.
    """
    known = registered()
    target = known.get(name, name)
    module, separator, attribute = target.partition(":")
    if not separator:
        raise ValueError(f"is not a stage{nearest(name, known)}")
    names = vars(imported(module, "a stage"))
    if attribute not in names:
        stages = [name for name, one in names.items() if isinstance(one, type) and issubclass(one, Stage)]
        raise ValueError(f"is not a stage: {module} has no class '{attribute}'{nearest(attribute, stages)}")
    found = names[attribute]
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise ValueError(f"is not a stage: {attribute} of {module} is {describe(found)}")
    lacking = [part for part in ("name", "kind", "Config") if not hasattr(found, part)]
    if lacking:
        raise ValueError(f"is not a whole stage: {attribute} of {module} lacks '{lacking[0]}'")
    _refuse_nested_files(found.Config)
    stage = found()
    stage.named_in = module
    return stage


def makers(kind: str) -> list[str]:
    """Names of Touchstone's own stages that make an artifact of a kind (`Stage.makes`)."""
    return [name for name in registered() if load_stage(name).makes == kind]


def registered() -> dict[str, str]:
    """Stage name -> module and class of Touchstone's own stages."""
    stages = importlib.import_module("stages")
    if Path(str(stages.__file__)).parents[1] != ROOT:
        raise ValueError(
            f"cannot be looked up: this process has loaded {stages.__file__} as 'stages', the name of Touchstone's own "
            "package; rename it"
        )
    return dict(stages.STAGES)


@cache
def _refuse_nested_files(model: type[BaseModel]) -> None:
    """A file setting counts by content only at the top of a stage's config; deeper ones would count for nothing."""
    seen, waiting = {model}, list(_inner_models(model))
    while waiting:
        inner = waiting.pop()
        if inner in seen:
            continue
        seen.add(inner)
        waiting += _inner_models(inner)
        for name, info in inner.model_fields.items():
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("recipe") == "content":
                raise ValueError(
                    f"has the file setting '{name}' inside another model; move it to the top of its config"
                )


def _inner_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Models that the settings of a model are made of, wherever they stand in their types."""
    waiting: list[Any] = [info.annotation for info in model.model_fields.values()]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and not get_args(one) and issubclass(one, BaseModel):
            yield one
        waiting += get_args(one)


def modules_of(stage: Stage) -> tuple[str, ...]:
    """Modules that a stage is made of: the one that the pipeline file names, and those of its classes.

    A class that a function in another module has made, or that another module has patched, is named by its own module.
    """
    made = type(stage).__module__
    classes = {one.__module__ for one in (*type(stage).__mro__, *stage.Config.__mro__)}
    users = {name for name in classes if name.partition(".")[0] not in VALUES and is_followed(name.partition(".")[0])}
    return tuple(dict.fromkeys((stage.named_in or made, made, *sorted(users))))


def declares_modules(stage: Stage) -> bool:
    """Whether a user's class overrides `modules`: it says itself what its code loads by other ways than imports."""
    definer = next(one for one in type(stage).__mro__ if "modules" in vars(one))
    return definer.__module__.partition(".")[0] not in OWN
