"""`pipeline.yaml` to frozen, typed nodes; everything is validated here, before the first expensive step.

Precedence: the YAML file, then `--set a.b=c`, then the options of the command line. Nothing else merges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator

from pipeline.declaring.document import Document, Place, load
from pipeline.declaring.file_settings import FileReference, file_reference
from pipeline.declaring.matrix import Instance, expand, substitute
from pipeline.declaring.stage_names import load_stage, makers
from pipeline.declaring.views import Resolve, View, parse
from pipeline.errors import ConfigError
from pipeline.importing import add_user_folder
from pipeline.sentences import closest, describe, nearest
from pipeline.spelling import matches
from pipeline.stage import POOLED, SPLITS, Kind, Stage, StageConfig, setting

MOST_LEVELS = 200
TOO_DEEP = f"stands in a line of more than {MOST_LEVELS} nodes of which each reads the next; shorten it"
ENGINE_KEYS = {
    "stage": "kind of work, by name, or `my_module:MyStage` for one of your own",
    "matrix": "axis -> values: a node for each combination, with {axis} replaced in all other settings",
    "shard_rows": "rows per shard of this node; no part of any recipe",
    "max_failed_rows": "how many of the node's own rows may fail before the run fails",
}
"""Key of every node -> what it says."""


class Settings(StageConfig):
    """Top level of `pipeline.yaml`, beside `nodes`."""

    store: str = setting("store", description="folder of all results, relative to pipeline.yaml")
    seed: int = setting(0, description="seed of every random draw")
    device: Literal["cpu", "cuda"] = setting("cpu", description="where networks run")
    threads: int = setting(1, ge=1, description="threads of a network on CPU; part of its recipe")
    max_failed_rows: int = setting(0, ge=0, description="rows of a node that may fail before the run fails")
    splits: dict[Literal["train", "val", "test"], float] = setting(
        {"train": 0.6, "val": 0.2, "test": 0.2},
        description="shares of rows whose split is not given, by hash of the group",
    )

    @field_validator("device", mode="before")
    @classmethod
    def _by_another_name(cls, value: Any) -> Any:
        if str(value).lower() in ("gpu", "cuda") and value != "cuda":  # 'gpu' is spelled more like 'cpu'
            raise ValueError("expected 'cpu' or 'cuda'; did you mean 'cuda'?")
        return value


@dataclass(frozen=True)
class Node:
    """One use of a stage: an entry of `nodes`, or one cell of its matrix."""

    name: str
    entry: str
    stage: Stage
    config: Any
    views: Mapping[str, View | Mapping[str, View]]
    artifacts: Mapping[str, tuple[str, ...]]
    files: Mapping[str, FileReference]
    shard_rows: int | None
    max_failed_rows: int
    place: Place
    matrix: Mapping[str, Any] = field(default_factory=dict)

    @property
    def instance(self) -> str:
        """For messages after the entry's place: `(fakes[progan]) `, or nothing where the entry is the node."""
        return "" if self.name == self.entry else f"({self.name}) "

    def references(self) -> set[str]:
        """Names of the node instances that this one reads."""
        return self.rows_of() | {name for names in self.artifacts.values() for name in names}

    def rows_of(self) -> set[str]:
        """Names of those whose rows it reads."""
        views = [view.values() if isinstance(view, Mapping) else (view,) for view in self.views.values()]
        return {name for parts in views for part in parts for name in part.references()}


@dataclass(frozen=True)
class Pipeline:
    """The whole validated configuration; `nodes` stand in an order in which each comes after what it reads."""

    path: Path
    document: Document
    settings: Settings
    nodes: Mapping[str, Node]

    @property
    def base(self) -> Path:
        return self.path.parent

    @property
    def store(self) -> Path:
        return self.base / self.settings.store

    def resolved(self) -> dict[str, Any]:
        """Plain data of everything that was resolved, defaults included; saved with every run."""
        nodes = {}
        for node in self.nodes.values():
            raw = self.document.data["nodes"][node.entry]
            inputs = {key: raw[key] for key in node.stage.inputs if key in raw}
            inputs = substitute(inputs, node.matrix) if node.matrix else inputs
            plain = node.config.model_dump(mode="json")
            engine = {"shard_rows": node.shard_rows, "max_failed_rows": node.max_failed_rows}
            nodes[node.name] = {"stage": raw["stage"], **inputs, **plain,
                                **{key: value for key, value in engine.items() if value is not None}}  # fmt: skip
        return {**self.settings.model_dump(mode="json"), "nodes": nodes}

    def select(self, names: list[str]) -> set[str]:
        """Instances named on the command line (`fakes` means all of its matrix) and everything that they read."""
        chosen: list[str] = []
        for name in names:
            found = [node.name for node in self.nodes.values() if name in (node.name, node.entry)]
            if not found:
                known = {node.entry for node in self.nodes.values()} | set(self.nodes)
                raise ConfigError(f"there is no node '{name}' in {self.path.name}{nearest(name, known)}")
            chosen += found
        wanted: set[str] = set()
        while chosen:
            name = chosen.pop()
            if name not in wanted:
                wanted.add(name)
                chosen += self.nodes[name].references()
        return wanted


def load_pipeline(path: Path, overrides: list[str] | None = None, download: bool = False, **options: Any) -> Pipeline:
    """Read and validate a pipeline file. Raises ConfigError: one sentence with file, line and way out.

    download: get files that are missing from where their manifest says
    """
    document = load(path)
    if not isinstance(document.data, dict):
        found = "empty" if document.data is None else describe(document.data)
        raise document.error((), f"is {found}; expected a mapping with 'nodes'")
    for assignment in overrides or []:
        document.override(assignment)
    for key, value in options.items():
        if value is not None:
            document.data[key] = value
            document.lines[(key,)] = f"--{key}:"
    top = {key: value for key, value in document.data.items() if key != "nodes"}
    settings = validate(Settings, top, (), document, "the top level", extra=("nodes",))
    _check_splits(settings, document)
    entries = document.data.get("nodes")
    if not isinstance(entries, dict) or not entries:
        found = f"is {describe(entries)}, but " if entries else ""
        raise document.error(("nodes",), f"{found}must be a mapping of node names to stages, and not empty")
    add_user_folder(path.parent)
    instances = expand(entries, document)
    families: dict[str, list[str]] = {}
    for name, instance in instances.items():
        families.setdefault(instance.entry, []).append(name)
    known = frozenset(instances) | frozenset(entries)
    patterns: dict[str, tuple[str, ...]] = {}  # nodes by what names them; many a node of a matrix has the same

    def resolve(text: str, place: Place) -> tuple[str, ...]:
        if text in instances:
            return (text,)
        if text in families:
            return tuple(families[text])
        if text not in patterns:
            patterns[text] = tuple(name for name in instances if matches(text, name))
        if found := patterns[text]:
            return found
        raise document.error(place, f"names '{text}', which is no node{nearest(text, known)}")

    nodes = {name: _node(name, instance, document, settings, resolve, known, download)
             for name, instance in instances.items()}  # fmt: skip
    return Pipeline(path.absolute(), document, settings, _ordered(nodes, document))


def validate(
    model: type[StageConfig], data: Any, place: Place, document: Document, what: str, extra: tuple[str, ...] = ()
) -> Any:
    """A typed config from plain data; the first problem becomes one sentence with its line."""
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as failure:
        problems = failure.errors()
        unknown = [one for one in problems if one["type"] == "extra_forbidden"]  # a typo explains what is missing
        problem = (unknown or problems)[0]
    inner: Any = data
    walked: list[str | int] = []
    for part in problem["loc"]:  # names of union members stand in `loc` but not in the file
        known = range(len(inner)) if isinstance(inner, list) else inner if isinstance(inner, dict) else ()
        if part in known:
            inner = inner[part]
            walked.append(part)
    here = (*place, *walked)
    if problem["type"] == "extra_forbidden":
        allowed = [*_allowed(model, problem["loc"]), *extra]
        raise document.error(here, f"is not a setting of {what}{nearest(str(problem['loc'][-1]), allowed)}")
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):  # one of several models, told apart by a key
        key = problem["ctx"]["discriminator"].strip("'")
        if problem["type"] == "union_tag_not_found":
            raise document.error(here, f"is {describe(inner)}; expected a mapping with '{key}'")
        words = re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
        sentence = f"is {describe(inner[key])}; expected {', '.join(words)}{closest(str(inner[key]), words)}"
        raise document.error((*here, key), sentence)
    if problem["type"] == "missing":
        raise document.error(place, f"lacks '{problem['loc'][-1]}', which {what} needs")
    if inner is None and walked:
        raise document.error(here, "is empty; give it a value, or leave the key out")
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    text = message[0].lower() + message[1:]
    if problem["type"] == "literal_error":
        text += closest(str(inner), re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    if problem["type"] in ("int_type", "float_type", "bool_type") and isinstance(inner, str) and _is_plain(inner):
        text += "; write it without quotes"
    raise document.error(here, f"is {describe(inner)}; {text}" if walked else f"of {what}: {text}")


def _is_plain(text: str) -> bool:
    """Whether a quoted text would be a number or a yes or no without its quotes."""
    return text in ("true", "false") or re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text) is not None


def _allowed(model: type[StageConfig], location: tuple[str | int, ...]) -> list[str]:
    """Field names that could stand where an unknown key stands."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    options = [schema]
    for part in location[:-1]:
        following = []
        for option in options:
            inner = option.get("properties", {}).get(str(part), option.get("items") if isinstance(part, int) else None)
            for candidate in _alternatives(inner, definitions):
                following.append(candidate)
        tagged = [o for o in options if any(one.get("const") == part for one in o.get("properties", {}).values())]
        options = following or tagged or options
    return [name for option in options for name in option.get("properties", {})]


def _alternatives(schema: Any, definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    if "$ref" in schema:
        return [definitions[schema["$ref"].rpartition("/")[2]]]
    found = [o for key in ("oneOf", "anyOf") for one in schema.get(key, []) for o in _alternatives(one, definitions)]
    return found or ([schema] if "properties" in schema or "items" in schema else [])


def _check_splits(settings: Settings, document: Document) -> None:
    shares = settings.splits
    if (
        set(shares) != set(SPLITS)
        or any(share < 0 for share in shares.values())
        or abs(sum(shares.values()) - 1) > 1e-9
    ):
        found = f"give {', '.join(shares)} and add up to {sum(shares.values()):g}"
        raise document.error(("splits",), f"{found}; expected train, val and test, each 0 or more, together 1")


def _node(
    name: str,
    instance: Instance,
    document: Document,
    settings: Settings,
    resolve: Resolve,
    known: Collection[str],
    download: bool,
) -> Node:
    entry, raw, cell = instance.entry, instance.raw, instance.cell
    place: Place = ("nodes", entry)
    try:
        stage = load_stage(str(raw["stage"]))
    except ValueError as error:
        raise document.error((*place, "stage"), f"'{raw['stage']}' {error}") from None
    _check_name(name, stage, place, document)
    views: dict[str, Any] = {}
    artifacts: dict[str, tuple[str, ...]] = {}
    body = {key: value for key, value in raw.items() if key not in ENGINE_KEYS}
    by_content = {
        key
        for key, info in stage.Config.model_fields.items()
        if (info.json_schema_extra or {}) == {"recipe": "content"}
    }
    for key, declared in stage.inputs.items():
        if key in by_content:
            continue  # a file, or a node that makes one: told apart below
        if key not in body:
            if declared.required:
                what = declared.description or declared.kind
                raise document.error(place, f"lacks '{key}' ({what}), which the stage '{stage.name}' needs")
            continue
        value = body.pop(key)
        if declared.kind == "rows":
            views[key] = parse(value, (*place, key), document, resolve)
        elif declared.kind == "views":
            named = value if isinstance(value, dict) and "of" not in value else {"": value}
            views[key] = {k: parse(v, (*place, key, k) if k else (*place, key), document, resolve)
                          for k, v in named.items()}  # fmt: skip
        else:
            artifacts[key] = _artifact_input(value, declared.kind, (*place, key), document, resolve, cell)
    options = {key: _engine_count(raw, key, place, document) for key in ("shard_rows", "max_failed_rows")}
    config = validate(stage.Config, body, place, document, f"'{stage.name}'", (*stage.inputs, *ENGINE_KEYS))
    files = {}
    for key in sorted(by_content):
        text = getattr(config, key)
        if text is not None:
            if text in known and key in stage.inputs:
                artifacts[key] = _artifact_input(text, "artifact", (*place, key), document, resolve, cell)
            else:
                files[key] = file_reference(text, (*place, key), document, download)
    failed = options["max_failed_rows"]
    allowed = settings.max_failed_rows if failed is None else failed
    try:
        config = stage.with_entries(config, {key: one.entry for key, one in files.items() if one.entry})
        if not by_content & set(artifacts):  # with a node for a file, planning checks what it promises
            stage.check(config, {key: reference.path for key, reference in files.items()})
    except ValueError as error:
        raise document.error(place, f"{'' if name == entry else f'({name}) '}{error}") from None
    return Node(name, entry, stage, config, views, artifacts, files, options["shard_rows"], allowed, place, cell)


def _check_name(name: str, stage: Stage, place: Place, document: Document) -> None:
    if name == POOLED and stage.kind not in (Kind.FIT, Kind.REDUCE):
        raise document.error(place, f"gives rows, but '{name}' is what tables call all sources together; rename it")


def _artifact_input(
    value: Any, kind: str, place: Place, document: Document, resolve: Resolve, cell: Mapping[str, Any]
) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise document.error(
            place, f"is {describe(value)}; expected the name of a node{'' if kind == 'artifact' else 's'}"
        )
    found = tuple(dict.fromkeys(instance for name in names for instance in resolve(name, place)))
    if kind == "artifact" and len(found) != 1:
        shown = ", ".join(found[:3]) + (" ..." if len(found) > 3 else "")
        axes = [axis for axis, word in cell.items() if word == value]
        way_out = "add a matrix over them"
        if axes:
            way_out = f"write `matrix: {{{axes[0]}: {value}}}`, or the nodes' names: a value of a list is one value"
        raise document.error(place, f"names {len(found)} nodes ({shown}), but takes one; {way_out}")
    return found


def _engine_count(raw: Mapping[str, Any], key: str, place: Place, document: Document) -> int | None:
    value = raw.get(key)
    least = 1 if key == "shard_rows" else 0
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise document.error((*place, key), f"is {describe(value)}; expected a whole number, {least} or more")
    return value


def _ordered(nodes: Mapping[str, Node], document: Document) -> dict[str, Node]:
    """Nodes after what they read, otherwise as in the file. Raises ConfigError for circles and misplaced kinds."""
    levels: dict[str, int] = {}  # in the order in which nodes are done
    path: list[str] = []

    def visit(name: str) -> int:
        if name in levels:
            return levels[name]
        node = nodes[name]
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise document.error(node.place, f"reads its own result: {circle}")
        path.append(name)
        level = 1
        for reference in sorted(node.references()):
            _check_kind(node, nodes[reference], document)
            if len(path) > MOST_LEVELS:
                raise document.error(node.place, TOO_DEEP)
            level = max(level, visit(reference) + 1)
        path.pop()
        if level > MOST_LEVELS:
            raise document.error(node.place, TOO_DEEP)
        levels[name] = level
        return level

    for name in nodes:
        visit(name)
    return {name: nodes[name] for name in levels}


def _check_kind(node: Node, read: Node, document: Document) -> None:
    gives_rows = read.stage.kind not in (Kind.FIT, Kind.REDUCE)
    for name, declared in node.stage.inputs.items():
        fitting = (declared.takes,) if isinstance(declared.takes, str) else declared.takes
        if any(fitting) and read.name in node.artifacts.get(name, ()) and read.stage.makes not in fitting:
            stages = [f"'{stage}'" for kind in fitting for stage in makers(kind)]
            wanted = " or ".join(stages) or f"one that makes {' or '.join(fitting)}"
            raise document.error(
                (*node.place, name), f"names '{read.name}', a node of the stage '{read.stage.name}'; expected {wanted}"
            )
    as_artifact = any(read.name in names for names in node.artifacts.values())
    if as_artifact and gives_rows:
        raise document.error(node.place, f"reads '{read.name}' as an artifact, but '{read.stage.name}' gives rows")
    if read.name in node.rows_of() and not gives_rows:
        raise document.error(node.place, f"reads rows of '{read.name}', but '{read.stage.name}' gives an artifact")
