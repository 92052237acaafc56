"""Artifacts of the same recipe, made of other rows: what they say of rows that stay need not be found out again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import TouchstoneError
from pipeline.planning.recipes import Recipe
from pipeline.stage import Artifact
from pipeline.storage.artifacts import CARD, contents, read_card, verify_files
from pipeline.storage.store import Store

Made = tuple[str, str]
"""Digest of a recipe as its components say it, and what the artifacts were that something was made with."""


def earlier(
    store: Store, stage: str, recipe: Mapping[str, Any], artifacts: Mapping[str, tuple[Artifact, ...]]
) -> Iterator[Artifact]:
    """Sound artifacts of a stage, newest first, with these components of a recipe (after `accept`) and these inputs."""
    aliases = store.aliases()
    wanted = _made(stage, recipe, contents(artifacts), aliases)
    found = []
    for path in (store.root / stage).glob(f"[!.]*/{CARD}"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue  # another process removed it
    for changed_ns, path in sorted(found, reverse=True):
        made = _made_of(path, stage, changed_ns)
        if made is None or (aliases.get(made[0], made[0]), made[1]) != wanted:
            continue
        try:
            card = read_card(path.parent)
            if not verify_files(path.parent, card):
                yield Artifact(card["node"], card["key"], path.parent, card)
        except TouchstoneError:
            continue  # damaged since, or gone: nobody has to have it


@lru_cache(maxsize=2**14)
def _made_of(path: Path, stage: str, changed_ns: int) -> Made | None:
    """What an artifact was made with; None if its card cannot be used. The time of the card is for the cache."""
    try:
        card = read_card(path.parent)
    except TouchstoneError:
        return None
    return _made(stage, card.get("recipe", {}), card.get("made_with", {}), {})


def _made(stage: str, recipe: Mapping[str, Any], made_with: Mapping[str, Any], aliases: Mapping[str, str]) -> Made:
    own = Recipe.of(stage, recipe).digest.hex()
    return aliases.get(own, own), json.dumps(made_with, sort_keys=True)
