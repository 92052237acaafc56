"""Whether rows and artifacts still descend from what the store has: a repaired parent makes its children suspect.

Each row keeps a digest of the rows and artifacts that it was computed from, each artifact one of the rows that it has
consumed. They are compared where the contents of a chain, of its inputs or of its artifacts are no longer those that a
run compared last: after a repair, never in a run that has nothing to do. `.cache/descent.json` remembers what was
compared; it is disposable, and without it a run compares everything once (it reads 16 bytes per row and array).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, ids
from pipeline.errors import DamagedShardError
from pipeline.planning.sides import stored
from pipeline.stage import ID, Kind
from pipeline.storage.artifacts import content, values_digest
from pipeline.storage.sealed import CARD_BYTES, parse, read_regular
from pipeline.storage.shards import joined_digests, parent_digests

if TYPE_CHECKING:
    from pipeline.planning.planned import ArtifactPlan, Plan, Work
    from pipeline.planning.selection import Branch, Side
    from pipeline.storage.chain_index import ChainIndex

MOST = 20_000
"""Consumers that are remembered; beyond them only those of the last plan."""

AGAIN = "computed from inputs that have been computed again since, with other values"


def review(plan: Plan, everything: bool = False) -> list[tuple[Path, str]]:
    """Compare rows and artifacts of a plan with their inputs, and take what does not descend from them for damaged.

    Compared is what is no longer as it was compared last; in a run (`Store.thorough`) also what never was;
    with `everything`, all. Rows of such shards and such artifacts are missing from the plan from then on.
    Returns (directory, reason) of each.
    """
    look = _Look(plan)
    known = _read(plan)
    for branch in plan.all_branches():
        index = plan.indices[branch.chain]
        if not _has_inputs(branch) or not len(index):
            continue
        consumer, state = _name(branch), _state(branch, plan.indices)
        if everything or (known.get(consumer) != state and (plan.store.thorough or consumer in known)):
            look.branch(branch, index)
    for artifact in plan.artifacts.values():
        if artifact.found is None or artifact.pin is not None:
            continue
        consumer, state = artifact.key.hex(), _artifact_state(artifact, plan.indices)
        if everything or (known.get(consumer) != state and (plan.store.thorough or consumer in known)):
            look.artifact(artifact)
    return look.damaged


def suspects(plan: Plan, works: list[Work]) -> bool:
    """Whether a round makes inputs of rows or artifacts that are there already: then another look is due."""
    parts: dict[bytes, list[NDArray[np.void]]] = {}
    made = {work.artifact.key for work in works if work.artifact is not None}
    for work in works:
        if work.branch is not None:
            parts.setdefault(work.branch.chain, []).append(work.branch.rows.id[work.positions])
    missing = {chain: ids.unique(np.concatenate(found)) for chain, found in parts.items()}
    return any(_is_suspect(branch, plan.indices[branch.chain], missing, made) for branch in plan.all_branches()) or any(
        any(one.key in made for used in artifact.artifacts.values() for one in used)
        or any(_meets(missing, one.branch, one.ids) for _, parts in _views(artifact) for part in parts for one in part)
        for artifact in plan.artifacts.values()
        if artifact.found is not None and artifact.pin is None
    )


def _is_suspect(branch: Branch, index: ChainIndex, missing: Mapping[bytes, NDArray[np.void]], made: set[bytes]) -> bool:
    """Whether rows that a chain has will get an input that is missing now."""
    if not len(index):
        return False
    if any(artifact.key in made for artifact in _artifacts(branch)):
        return True
    if branch.stage.kind is Kind.MAP:
        return any(_meets(missing, side.branch, index.ids) for side in branch.sides)
    return any(_meets(missing, side.branch, side.ids[branch.have]) for side in branch.sides)


def _meets(missing: Mapping[bytes, NDArray[np.void]], branch: Branch, rows: NDArray[np.void]) -> bool:
    return branch.chain in missing and bool((ids.lookup(missing[branch.chain], rows) >= 0).any())


def remember(plan: Plan, computed: bool) -> None:
    """Record that all of a plan descends from what the store has now: what was compared, and what the run published.

    computed: whether the run has published anything since the plan was made.
    """
    indices = plan.indices
    if computed:
        indices = {one.chain: plan.store.index(one.stage.name, one.chain) for one in plan.all_branches()}
    foreign = {chain for chain, index in indices.items() if not _accounted(plan, index, plan.indices[chain])}
    before, states = _read(plan), {}
    for branch in plan.all_branches():
        chains = {branch.chain, *(side.branch.chain for side in branch.sides)}
        if _has_inputs(branch) and not chains & foreign and all(_finished(plan, one) for one in _artifacts(branch)):
            states[_name(branch)] = _state(branch, indices)
    for artifact in plan.artifacts.values():
        used = [one for found in artifact.artifacts.values() for one in found]
        chains = {branch.chain for branch in artifact.branches()}
        if not artifact.pin and not chains & foreign and all(_finished(plan, one) for one in [artifact, *used]):
            states[artifact.key.hex()] = _artifact_state(artifact, indices)
    if any(before.get(name) != state for name, state in states.items()):
        kept = before if len(before) < MOST else {}
        text = json.dumps({**kept, **states}, sort_keys=True).encode()
        atomic.write_bytes(_place(plan), text, durable=False)


def _accounted(plan: Plan, index: ChainIndex, before: ChainIndex) -> bool:
    """Whether all shards of a chain were there when the plan was made or were published by this run."""
    known = set(before.contents)
    return all(one in known or index.path(number) in plan.store.published for number, one in enumerate(index.contents))


def _finished(plan: Plan, artifact: ArtifactPlan) -> bool:
    if artifact.found is None:
        artifact.found = plan.store.artifact(artifact.node.stage.name, artifact.key)
    return artifact.found is not None


class _Look:
    """Reads digests chain by chain, each once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.damaged: list[tuple[Path, str]] = []
        self.tables: dict[bytes, NDArray[np.void]] = {}

    def branch(self, branch: Branch, index: ChainIndex) -> None:
        """Compare the rows of a chain with their inputs: all of a map, those that the plan wants of an expand."""
        if branch.stage.kind is Kind.MAP:
            rows = np.arange(len(index))
            wanted = [index.ids for _ in branch.sides]
        else:
            held = np.flatnonzero(branch.have)
            rows = index.lookup(branch.rows.id[held])
            wanted = [side.ids[held] for side in branch.sides]
        try:
            parts, there = [], np.ones(len(rows), dtype=bool)
            for side, row_ids in zip(branch.sides, wanted, strict=True):
                if not side.branch.schema:
                    continue
                above = self.plan.indices[side.branch.chain]
                places = above.lookup(row_ids)
                there &= places >= 0
                table = self.digests(side.branch, above)
                parts.append(table[np.maximum(places, 0)] if len(table) else np.zeros(len(rows), ID))
            used = [one.found for one in _artifacts(branch)]
            if not there.any() or None in used:
                return
            expected = parent_digests(parts, [content(one.info) for one in used if one is not None], len(rows))
            assert expected is not None
            stale = rows[there & (expected != self.parents(branch, index)[rows])]
        except DamagedShardError as error:
            self.damaged.append((Path(error.shard), str(error)))
            return
        for number in ids.distinct(index.shard[stale]).tolist():
            count = int((index.shard[stale] == number).sum())
            path = index.path(number)
            branch.damaged.append((path, f"{path}: {count} of its rows were {AGAIN}"))
            self.damaged.append(branch.damaged[-1])
            gone = index.ids[index.shard == number]
            branch.have &= ~ids.isin(branch.rows.id, gone)

    def artifact(self, artifact: ArtifactPlan) -> None:
        """Compare the rows that an artifact has consumed, and the artifacts that it was made with."""
        assert artifact.found is not None
        card, path = artifact.found.info, artifact.found.path
        used = {name: [one.found for one in found] for name, found in artifact.artifacts.items()}
        try:
            same = all(self.same_rows(card["consumed"].get(name, {}), parts) for name, parts in _views(artifact))
        except DamagedShardError as error:
            self.damaged.append((Path(error.shard), str(error)))
            return
        for name, found in used.items():
            if None not in found:
                same &= [content(one.info).hex() for one in found if one] == card.get("made_with", {}).get(name)
        if not same:
            self.damaged.append((path, f"{path}: it was {AGAIN}"))
            artifact.found = None

    def same_rows(self, recorded: Mapping[str, str], parts: list[list[Side]]) -> bool:
        """Whether the rows of a view have the values that were recorded; True where some of them are missing."""
        row_ids, digests = [], []
        for part in parts:
            tables = []
            for one in part:
                index = self.plan.indices[one.branch.chain]
                places = index.lookup(one.ids)
                if (places < 0).any():
                    return True
                tables.append(self.digests(one.branch, index)[places])
            row_ids.append(part[0].ids)
            digests.append(joined_digests(tables))
        if not row_ids:
            return True
        return recorded.get("values") == values_digest(np.concatenate(row_ids), np.concatenate(digests))

    def digests(self, branch: Branch, index: ChainIndex) -> NDArray[np.void]:
        """Digests of the rows of a chain in the order of its index, (n,) V16."""
        if branch.chain not in self.tables:
            self.tables[branch.chain] = self._table(branch, index, "digest")
        return self.tables[branch.chain]

    def parents(self, branch: Branch, index: ChainIndex) -> NDArray[np.void]:
        """What the rows of a chain were computed from, in the order of its index: (n,) V16, zero if it is not kept."""
        return self._table(branch, index, "parents")

    def _table(self, branch: Branch, index: ChainIndex, name: str) -> NDArray[np.void]:
        found = np.zeros(len(index), dtype=ID)
        for number in range(len(index.names)):
            shard = self.plan.store.shard(index.path(number), branch.chain, branch.schema)
            values = shard.parents if name == "parents" else shard.digests
            mine = index.shard == number
            if values is not None:
                found[mine] = values[index.row[mine]]
        return found


def _views(artifact: ArtifactPlan) -> Iterator[tuple[str, list[list[Side]]]]:
    """Name of each view as the card has it, and for the rows of each branch in it where they lie."""
    for name, views in artifact.views.items():
        for label, selections in views.items():
            yield f"{name}.{label}" if label else name, [stored(one.sides[0]) for one in selections]


def _artifacts(branch: Branch) -> list[ArtifactPlan]:
    return [one for _, found in sorted(branch.artifacts.items()) for one in found]


def _has_inputs(branch: Branch) -> bool:
    return bool(branch.artifacts) or any(side.branch.schema for side in branch.sides)


def _name(branch: Branch) -> str:
    """A consumer: its chain, and for an expand the rows that can be compared."""
    chain = f"{branch.stage.name}/{branch.chain.hex()}"
    if branch.stage.kind is Kind.MAP:
        return chain
    return f"{chain}/{hashlib.sha256(np.ascontiguousarray(branch.rows.id).tobytes()).hexdigest()[:32]}"


def _state(branch: Branch, indices: Mapping[bytes, ChainIndex]) -> str:
    chains = [branch.chain, *(side.branch.chain for side in branch.sides)]
    return _digest([indices[chain].content for chain in chains], _artifacts(branch))


def _artifact_state(artifact: ArtifactPlan, indices: Mapping[bytes, ChainIndex]) -> str:
    assert artifact.found is not None
    used = [one for _, found in sorted(artifact.artifacts.items()) for one in found]
    own = str(artifact.found.info.get("check")).encode()
    return _digest([own, *(indices[one.chain].content for one in artifact.branches())], used)


def _digest(parts: list[bytes], artifacts: list[ArtifactPlan]) -> str:
    parts = [*parts, *(content(one.found.info) if one.found else b"" for one in artifacts)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:32]


def _place(plan: Plan) -> Path:
    return plan.store.root / ".cache" / "descent.json"


def _read(plan: Plan) -> dict[str, str]:
    """Consumer -> state at the last comparison; nothing where the file is absent or no such thing."""
    try:
        found = parse(read_regular(_place(plan), CARD_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
