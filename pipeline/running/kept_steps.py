"""Steps of a card, checked and made ready to be done again: the stage, its settings, its files, its device.

Nothing that a card says is believed: an entry that does not fit is one sentence, and no code is loaded by its word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import loaded
from pipeline.declaring.stage_names import declares_modules, load_stage, modules_of, registered
from pipeline.errors import StageError
from pipeline.lineage import KeptChains, KeptStep
from pipeline.planning.closure import closure
from pipeline.planning.recipes import DEVICE_FACTS
from pipeline.printable import printable
from pipeline.running.compute import Step
from pipeline.running.kept_files import KeptFiles
from pipeline.sentences import describe
from pipeline.stage import Artifact, Kind, Promise, Schema, Stage
from pipeline.steps import JOIN, JOINING

CARD = "card.json"
ENTRY = "lineage"
"""Of a card, with a `KeptChains`."""

DEVICES = re.compile(r"cpu|cuda(:\d{1,2})?")
MOST_THREADS = 1024


def read_chains(card: Path | Mapping[str, Any]) -> tuple[Mapping[str, Any], KeptChains]:
    """A card, given as its model's folder or as data, and its chains. Raises StageError."""
    data: Any = card
    if isinstance(card, Path):
        try:
            data = json.loads((card / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise StageError(
                f"{card / CARD} is not readable as JSON ({error}); expected the folder of a model"
            ) from None
    if not isinstance(data, Mapping):
        raise StageError(f"the card is {describe(data)}, expected a mapping")
    if ENTRY not in data:
        raise StageError(
            "the card does not say how images become the feature: it was written by an earlier version; train again"
        )
    try:
        return data, KeptChains.model_validate(data[ENTRY])
    except (ValidationError, RecursionError) as error:
        raise StageError(f"the card has a lineage that no training writes: {_first(error)}") from None


def _first(error: Exception) -> str:
    """`place: what is wrong` of the first problem that pydantic found."""
    if not isinstance(error, ValidationError):
        return printable(str(error))
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return printable(f"{place}: {text}" if place else text)[:300]


@dataclass(frozen=True)
class Ready:
    """A step of a card with its stage and files; its schema is known once that of what it reads is."""

    kept: KeptStep
    stage: Stage
    config: Any
    files: Mapping[str, Path]
    artifacts: Mapping[str, tuple[Artifact, ...]]
    device: str
    threads: int

    @property
    def given(self) -> dict[str, Any]:
        """What planning has of files and artifacts."""
        promises = {name: Promise(name, found[0].info["facts"]) for name, found in self.artifacts.items() if found}
        return {**promises, **self.files}

    def step(self, above: Sequence[Schema]) -> Step:
        """For rows of these schemas. Raises ValueError where the stage cannot do with them."""
        names = [name for name, one in self.stage.inputs.items() if one.kind == "rows"]
        rows = dict(zip((*names, "pair"), above, strict=False))
        with _believing_nothing():
            schema = self.stage.schema(self.config, {**self.given, **rows})
        return Step(
            self.kept.stage, self.stage, self.config, schema,
            self.kept.seed, self.device, self.threads, self.files, self.artifacts,
        )  # fmt: skip


@contextmanager
def _believing_nothing() -> Iterator[None]:
    """What a card has in place of a fit's promise may lack what the stage looks for: a ValueError then."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the card promises nothing that fits ({type(error).__name__}: {error}); train again"
        ) from None


def ready(kept: KeptStep, files: KeptFiles, device: str | None, stages: Mapping[str, Stage]) -> tuple[Ready, list[str]]:
    """A step that can be done, and a sentence for each thing that is not as it was. Raises StageError."""
    stage = _stage(kept, stages)
    config = _config(kept, stage)
    places = {name: files.file(one, f"the file of {kept.stage} {name}") for name, one in kept.files.items()}
    artifacts = {
        name: tuple(
            Artifact(
                name, one.key, files.artifact(one, f"{kept.stage} {name}"), {"stage": one.stage, "facts": one.promise}
            )
            for one in found
        )
        for name, found in kept.artifacts.items()
    }
    where, threads, warnings = _place(kept, device)
    result = Ready(kept, stage, config, places, artifacts, where, threads)
    try:
        with _believing_nothing():
            stage.check(config, result.given)
            warnings += _differences(result)
    except ValueError as error:
        raise StageError(f"{kept.stage}: {error}") from None
    return result, warnings


def _stage(kept: KeptStep, stages: Mapping[str, Stage]) -> Stage:
    """The caller's stage of that name, or Touchstone's."""
    if kept.stage in stages:
        stage = stages[kept.stage]
    else:
        target = {**registered(), JOIN: JOINING}.get(kept.stage, "")
        if target.partition(":")[0] != kept.module or not target:
            raise StageError(
                f"the card names the stage {describe(kept.stage)} of {describe(kept.module)}, which is none of "
                "Touchstone's; no card may load code, so hand the stage over if it is yours"
            )
        stage = load_stage(target)
    if stage.kind not in (Kind.MAP, Kind.EXPAND):
        raise StageError(f"the card has a step {kept.stage}, which makes no rows of rows")
    return stage


def _config(kept: KeptStep, stage: Stage) -> Any:
    """The settings of the card; settings that only choose rows have their defaults."""
    fields = stage.Config.model_fields
    by_content = {name for name, one in fields.items() if (one.json_schema_extra or {}) == {"recipe": "content"}}
    named = {name: name for name in (*kept.files, *kept.artifacts) if name in by_content}
    try:
        config = stage.Config.model_validate_json(json.dumps({**kept.config, **named}))
    except (ValidationError, ValueError, RecursionError) as error:
        raise StageError(f"the card has settings that {kept.stage} does not take: {_first(error)}") from None
    taking = {name for name, one in stage.inputs.items() if one.kind.startswith("artifact")}
    for name in (*kept.files, *kept.artifacts):
        if name not in by_content and name not in taking:
            raise StageError(f"the card has a file for {describe(name)}, which is no setting of {kept.stage}")
    needed = {name for name in by_content if getattr(config, name) is not None}
    needed |= {name for name, one in stage.inputs.items() if one.required and one.kind.startswith("artifact")}
    for name in sorted(needed - {*kept.files, *(name for name, found in kept.artifacts.items() if found)}):
        raise StageError(f"the card lacks the file or artifact '{name}' of {kept.stage}; train again")
    return config


def _place(kept: KeptStep, device: str | None) -> tuple[str, int, list[str]]:
    """Device and threads, and a sentence if the device is another one than it was."""
    was, threads = kept.environment.get("device"), kept.environment.get("threads", "1")
    if was is None:
        return "cpu", 1, []
    if not DEVICES.fullmatch(was) or not re.fullmatch(r"\d{1,4}", threads) or not 1 <= int(threads) <= MOST_THREADS:
        raise StageError(f"the card has {kept.stage} on {describe(was)} with {describe(threads)} threads")
    here = device or was
    if device is None and was != "cpu":
        import torch

        here = was if torch.cuda.is_available() else "cpu"
    other = [f"{kept.stage} ran on {was} and runs on {here}: values may differ in their last digits"]
    return here, int(threads), other if here != was else []


def _differences(one: Ready) -> list[str]:
    """Sentences about libraries and code that are not what the card says."""
    stage, kept = one.stage, one.kept
    here = {**dict.fromkeys(stage.libraries_of(one.config)), **stage.environment(one.config)}
    recorded = {name: text for name, text in kept.environment.items() if name in here}
    found = unlike_versions(kept.stage, recorded, {name: text for name, text in here.items() if text is not None})
    code = closure((*modules_of(stage), *stage.modules(one.config, one.given)), declares_modules(stage))
    changed = [module for module, digest in code.items() if kept.code.get(module) != digest]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        found.append(f"{kept.stage}: the code of {changed[0]}{more} is not what it was when the detector was trained")
    return found


def unlike_versions(whose: str, recorded: Any, known: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each library or fact (`known`: as it is here) that is not what was recorded."""
    found = []
    for name, before in sorted(recorded.items() if isinstance(recorded, Mapping) else ()):
        if name in DEVICE_FACTS or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", str(name)):
            continue
        try:
            here = (known or {}).get(name) or loaded.library(name)
        except (PackageNotFoundError, loaded.NewlyInstalledError):
            here = "not installed"
        if here != before:
            found.append(f"{whose}: {name} was {printable(str(before))[:60]} and is {here} here")
    return found
