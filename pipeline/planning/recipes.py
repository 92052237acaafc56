"""Recipes, chains and artifact keys: digests of what a result was made from, with the components kept apart.

Nothing positional and nothing of the machine's accidents enters: no path, time, host name, worker count, chunk or
shard size.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import BaseModel

from pipeline.declaring.stage_names import declares_modules, modules_of
from pipeline.digests import digest, encode
from pipeline.ids import order as ranking
from pipeline.planning.closure import closure, functions
from pipeline.stage import Promise, Schema, Stage
from pipeline.storage.sealed import FORMAT_VERSION

DEVICE_FACTS = ("device", "threads", "tf32", "algorithms")
"""Facts of the environment that are settings of the run; the others are what a process finds where it computes."""


@dataclass(frozen=True)
class Recipe:
    """What one branch of a node computes. `components` are plain data; `digest` covers all of them."""

    stage: str
    components: Mapping[str, Any]
    digest: bytes

    @classmethod
    def of(cls, stage: str, components: Mapping[str, Any]) -> Recipe:
        return cls(stage, components, digest("recipe", components))


def make_recipe(
    stage: Stage,
    config: BaseModel,
    schema: Schema,
    paths: Mapping[str, Path],
    files: Mapping[str, str],
    artifacts: Mapping[str, str],
    seed: int,
    device: str,
    threads: int,
    borrowed: Mapping[str, str] | None = None,
    models: Mapping[str, Promise] = MappingProxyType({}),
) -> Recipe:
    """Recipe of a node. paths and files: setting -> place and sha256; artifacts: input -> key.

    The seed counts for random stages only; device and threads for networks only. borrowed: code of the artifacts used.
    models: what the artifacts of inputs promise, as in `Stage.on_device`.
    """
    modules = (*modules_of(stage), *stage.modules(config, paths))
    libraries = stage.libraries_of(config, models)
    environment = {name: library_version(name) for name in libraries} | dict(stage.environment(config))
    if stage.on_device(config, models):
        values = (device, str(threads), "off", "deterministic")
        environment |= dict(zip(DEVICE_FACTS, values, strict=True))
    components = {
        "stage": stage.name,
        "format": FORMAT_VERSION,
        "code": dict(sorted({**(borrowed or {}), **closure(modules, declares_modules(stage))}.items())),
        "config": recipe_config(config),
        "files": dict(files),
        "artifact": dict(artifacts),
        "schema": {
            name: [field.dtype, list(field.shape), field.units, *([list(field.axes)] if field.axes else [])]
            for name, field in sorted(schema.items())
        },
        "env": environment,
    }
    if stage.random:
        components["seed"] = seed
    return Recipe.of(stage.name, components)


def recipe_config(model: BaseModel) -> dict[str, Any]:
    """The settings that change values: row settings and paths of files are left out."""
    result: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("recipe", True) is not True:
            continue
        value = getattr(model, name)
        result[name] = recipe_config(value) if isinstance(value, BaseModel) else _plain(value)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return recipe_config(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(item) for item in value)
    return value.value if hasattr(value, "value") else value


@cache
def library_version(name: str) -> str:
    """Version of an installed distribution, without importing it. Raises PackageNotFoundError."""
    distribution = importlib.metadata.distribution(name)
    stated = re.search(r"^Version: *(\S+) *$", distribution.read_text("METADATA") or "", re.MULTILINE)
    return stated[1] if stated else distribution.version  # the latter reads it as an e-mail


def chain_of(recipe: bytes, parents: list[bytes]) -> bytes:
    """Chain of a branch from its recipe and the chains of its inputs."""
    return digest("chain", recipe, parents)


def artifact_key(recipe: bytes, consumed: Mapping[str, list[tuple[bytes, bytes]]]) -> bytes:
    """Key of an artifact. consumed: input -> (chain, digest of the ids and the columns that matter) per branch.

    The order of the inputs counts: a stage sees it.
    """
    return digest("artifact", recipe, [[name, [list(part) for part in parts]] for name, parts in consumed.items()])


def rows_digest(ids: np.ndarray[Any, Any], columns: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Digest of a set of rows with some columns of the row table; the order of the rows does not count."""
    order = ranking(ids)
    total = hashlib.sha256()
    total.update(np.ascontiguousarray(ids[order]).tobytes())
    for name in sorted(columns):
        total.update(encode(name))
        total.update(np.ascontiguousarray(columns[name][order]).tobytes())
    return total.digest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(cause, sentence) for each component that differs; causes: config, code, upstream, artifact, env, schema."""
    causes = {"config": "config", "code": "code", "files": "artifact", "artifact": "artifact", "env": "env",
              "schema": "schema", "format": "code", "seed": "config", "inputs": "upstream"}  # fmt: skip
    found: list[tuple[str, str]] = []
    for name, cause in causes.items():
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if name == "code":
            found += [("code", sentence) for sentence in _code_differences(before or {}, after or {}, old, new)]
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            found += [(cause, f"{name}.{sentence}") for sentence in _mapping_differences(before, after)]
        else:
            found.append((cause, f"{name} {_short(before)} -> {_short(after)}"))
    return found


def _mapping_differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _mapping_differences(old, new, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key} {_short(old)} -> {_short(new)}")
    return found


def _code_differences(
    before: Mapping[str, str], after: Mapping[str, str], old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[str]:
    found = []
    for module in sorted(set(before) | set(after)):
        if before.get(module) == after.get(module):
            continue
        was = old.get("functions", {}).get(module, {})
        now = functions(module)
        known = set(was.values())
        changed = [
            name if name.startswith("line ") else f"{name}, line {line}"
            for name, (mark, line) in now.items()
            if was and was.get(name) != mark and not (name.startswith("line ") and mark in known)
        ]
        changed += [f"{name} is gone" for name in was if now and name not in now and not name.startswith("line ")]
        detail = f" ({'; '.join(changed[:3])})" if changed else ""
        found.append(f"{module} {'changed' if module in before and module in after else 'came or went'}{detail}")
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
