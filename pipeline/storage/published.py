"""What lies in the store already: recipe files, and results that are published a second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import ids as row_ids
from pipeline.errors import (
    ConflictError,
    DamagedArtifactError,
    DamagedRecipeError,
    DamagedShardError,
    OldFormatError,
    StoreError,
)
from pipeline.storage import artifacts
from pipeline.storage.files import is_trouble, trouble
from pipeline.storage.sealed import RECIPE_BYTES, read_sealed
from pipeline.storage.shards import Shard

RECIPE = "recipe.json"


def read_recipe(path: Path) -> dict[str, Any]:
    """A `recipe.json`, which names a chain of its directory.

    Raises DamagedRecipeError, OldFormatError, FileNotFoundError; StoreError where the system does not let us look.
    """
    try:
        found = read_sealed(path, RECIPE_BYTES, ("chain",))
        if str(found["chain"])[:16] != path.parent.name:
            raise ValueError(f"it belongs to chain {found['chain']}")
    except (FileNotFoundError, OldFormatError):
        raise
    except (OSError, ValueError) as error:
        if is_trouble(error):
            raise StoreError(trouble(error, path)) from error
        raise DamagedRecipeError(f"{path} cannot be read: {error}; `touchstone run` writes it again") from error
    return found


def same_result(
    ours: Path, theirs: Path, quarantine: Callable[[Path, str], Any], discard: Callable[[Path], Any]
) -> bool:
    """True if both hold the same result; False after one that is damaged, stale or old was moved out of the way.

    Raises ConflictError where both are sound and differ.
    """
    try:
        if theirs.suffix != ".zarr":
            artifacts.check_same(theirs.parent.name, artifacts.read_card(ours, placed=False), theirs)
            return True
        one = Shard.open(ours)
        other = _published_shard(one, theirs)
    except OldFormatError:
        discard(theirs)
        return False
    except (DamagedArtifactError, DamagedShardError) as error:
        quarantine(theirs, str(error))
        return False
    different = np.flatnonzero(one.digests != other.digests) if one.rows == other.rows else np.arange(one.rows)
    if len(different):
        names = ", ".join(row_ids.hex(value)[:12] for value in one.ids[different[:3]])
        raise ConflictError(
            f"{theirs.parent.parent.name}: {len(different)} of {one.rows} rows of shard {theirs.name} were "
            f"computed twice with different values (rows {names}): the stage is not deterministic, or its recipe "
            "misses an input"
        )
    return True


def _published_shard(ours: Shard, place: Path) -> Shard:
    """The shard in our place; DamagedShardError also where it was computed from other rows or artifacts than ours."""
    found = Shard.open(place, chain=ours.chain, schema=ours.schema)
    found.verify()
    one, other = ours.parents, found.parents
    if (one is None) != (other is None) or (one is not None and other is not None and (one != other).any()):
        raise DamagedShardError(
            f"{place}: it was computed from inputs that have been computed again since, with other values", str(place)
        )
    return found
