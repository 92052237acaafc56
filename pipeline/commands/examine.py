"""Looks for damage in the store, file by file; writes nothing, and takes whatever lies there for what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.digests import digest
from pipeline.errors import (
    DamagedArtifactError,
    DamagedRecipeError,
    DamagedShardError,
    OldFormatError,
    StoreError,
)
from pipeline.planning.recipes import chain_of
from pipeline.stage import Field, Schema
from pipeline.storage import artifacts
from pipeline.storage.chain_index import SHARD_NAME
from pipeline.storage.published import RECIPE, read_recipe
from pipeline.storage.sealed import RECIPE_BYTES, parse, read_regular
from pipeline.storage.shards import Shard, check_sizes, read_attributes
from pipeline.storage.store import OWN_NAMES, Store
from pipeline.storage.upkeep import entries

ODD = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError, OSError, StoreError)
"""What files may raise that are not what anybody wrote."""


@dataclass(frozen=True)
class Problem:
    """A damaged file or directory; `path` can be handed to `Store.quarantine` where that helps."""

    path: Path
    reason: str
    movable: bool = True


@dataclass
class Findings:
    """Damage, and what is of an earlier format (no damage)."""

    problems: list[Problem] = field(default_factory=list)
    old: list[Path] = field(default_factory=list)

    def look(self, path: Path, check: Callable[[], Any], movable: bool = True) -> Any:
        """What a check gives; None where it finds that `path` is damaged or old."""
        try:
            return check()
        except OldFormatError:
            self.old.append(path)
        except (DamagedShardError, DamagedArtifactError, DamagedRecipeError) as error:
            if os.path.lexists(path):  # else another process moved it away
                self.problems.append(Problem(path, str(error), movable))
        except ODD as error:
            if os.path.lexists(path):
                reason = str(error) if isinstance(error, StoreError) else f"{path} cannot be read: {error}"
                self.problems.append(Problem(path, reason, movable and not isinstance(error, StoreError | OSError)))
        return None


def verify(store: Store, deep: bool = True, directories: Iterable[Path] | None = None) -> list[Problem]:
    """All damage in the store, or in some chains' and artifacts' directories. Writes nothing.

    deep: read every byte (checksums, row digests, SHA-256 of artifact files); otherwise metadata and file sizes only.
    """
    return examine(store, deep, directories).problems


def examine(store: Store, deep: bool = True, directories: Iterable[Path] | None = None) -> Findings:
    """The same with what is old."""
    found = Findings()
    for directory in entries(store) if directories is None else sorted(directories):
        _examine_directory(found, directory, deep)
    if directories is None:
        _examine_small_files(found, store)
    return found


def _examine_directory(found: Findings, directory: Path, deep: bool) -> None:
    names = sorted(found.look(directory, partial(os.listdir, directory)) or [])
    shards = [directory / name for name in names if SHARD_NAME.fullmatch(name)]
    if artifacts.CARD in names:
        found.look(directory, partial(_check_artifact, directory, deep))
        return
    plain = {name for name in names if not name.startswith(".")}
    if plain and not shards and not plain & {RECIPE, "failures"}:
        found.problems.append(Problem(directory, f"{directory / artifacts.CARD} is missing"))
        return
    recipe = None
    if RECIPE in names:
        recipe = found.look(directory / RECIPE, partial(_check_recipe, directory / RECIPE))
    current = 0
    for path in shards:
        before = len(found.old)
        found.look(path, partial(_check_shard, path, recipe, deep))
        current += len(found.old) == before
    if current and RECIPE not in names:
        place = directory / RECIPE
        found.problems.append(Problem(place, f"{place} is missing; `touchstone run` writes it again", False))
    for path in sorted((directory / "failures").glob("*.json")):
        found.look(path, partial(_expect_object, path))


def _check_shard(path: Path, recipe: dict[str, Any] | None, deep: bool) -> None:
    if not deep:
        check_sizes(path, read_attributes(path)["files"])
        return
    shard = Shard.open(path)
    if recipe is not None:
        shard.check_origin(bytes.fromhex(recipe["chain"]), _schema_of(recipe))
    elif shard.chain[:8].hex() != path.parent.name:
        raise DamagedShardError(f"{path}: it is a shard of chain {shard.chain.hex()}", str(path))
    shard.verify()


def _schema_of(recipe: dict[str, Any]) -> Schema | None:
    schema = recipe.get("components", {}).get("schema")
    if schema is None:
        return None
    return {
        name: Field(dtype, tuple(shape), units, tuple(axes[0]) if axes else ())
        for name, (dtype, shape, units, *axes) in schema.items()
    }


def _check_recipe(path: Path) -> dict[str, Any]:
    """A recipe whose chain follows from its components and inputs."""
    record = read_recipe(path)
    if "components" in record:
        own = digest("recipe", record["components"]).hex()
        chain = chain_of(bytes.fromhex(record["accepted"]), [bytes.fromhex(one) for one in record["inputs"]])
        if own != record["recipe"] or chain.hex() != record["chain"]:
            raise DamagedRecipeError(f"{path}: its components do not make chain {record['chain']}")
        _schema_of(record)
    return record


def _check_artifact(directory: Path, deep: bool) -> None:
    card = artifacts.read_card(directory)
    wrong = artifacts.verify_files(directory, card) if deep else []
    if wrong:
        raise DamagedArtifactError(wrong[0])


def _examine_small_files(found: Findings, store: Store) -> None:
    """Files that commands read beside chains and artifacts, and what lies in place of a directory."""
    found.look(store.root / "aliases.json", store.aliases, movable=False)
    for path in sorted((store.root / "runs").glob("*.json")):
        found.look(path, partial(_expect_object, path, "uses"), movable=False)
    for path in sorted(store.root.glob("*/*")):
        chain = path.parent.name not in OWN_NAMES and re.fullmatch("[0-9a-f]{16}", path.name)
        if chain and not path.is_dir():
            found.problems.append(Problem(path, f"{path} is no folder; move it away", False))


def _expect_object(path: Path, *keys: str) -> None:
    data = parse(read_regular(path, RECIPE_BYTES))
    if not isinstance(data, dict) or not all(key in data for key in keys):
        raise ValueError("it is not what the engine writes")
