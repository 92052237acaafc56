"""From a plan to works: which rows become one shard, and what each work waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.planning.planned import ArtifactPlan, Plan, Work
from pipeline.planning.selection import Branch
from pipeline.planning.sides import parts_above, stored

LEAST_ROWS = 64
"""Shards of a node are split for parallel work, but not below this many rows."""


def works_of(plan: Plan, workers: int) -> list[Work]:
    """Tasks for all that is missing, each after those that it waits for."""
    from pipeline.storage.shards import rows_per_shard

    works: list[Work] = []
    makers: dict[bytes, tuple[NDArray[np.void], NDArray[np.int64]]] = {}  # chain -> (sorted missing ids, work numbers)
    artifact_work: dict[bytes, int] = {}
    for name in plan.nodes:
        for branch in plan.branches.get(name, []):
            missing = branch.usable[~branch.have[branch.usable]]
            if branch.chain in makers:  # another branch of the same chain computes these rows
                missing = missing[ids.lookup(makers[branch.chain][0], branch.rows.id[missing]) < 0]
            if not len(missing):
                continue
            node = plan.pipeline.nodes[name]
            limit = node.shard_rows or rows_per_shard(branch.schema)
            share = max(LEAST_ROWS, -(-len(missing) // (2 * workers)))
            size = limit if node.shard_rows else min(limit, share)
            after = {artifact_work[one.key] for one in _inputs(branch.artifacts) if one.key in artifact_work}
            numbers = np.empty(len(missing), dtype=np.int64)
            for start in range(0, len(missing), size):
                positions = missing[start : start + size]
                numbers[start : start + size] = len(works)
                waits = after | _waits(branch, positions, makers)
                works.append(Work(len(works), name, branch=branch, positions=positions, waits=waits))
            _note(makers, branch.chain, branch.rows.id[missing], numbers)
        artifact = plan.artifacts.get(name)
        if artifact is not None and artifact.found is None and artifact.key not in artifact_work:
            waits = {artifact_work[one.key] for one in _inputs(artifact.artifacts) if one.key in artifact_work}
            for views in artifact.views.values():
                for selections in views.values():
                    for selection in selections:
                        for side in (place for one in selection.sides for place in stored(one)):
                            waits |= _makers_of(side.branch.chain, side.ids, makers)
                            for one in parts_above(side) if artifact.node.stage.keeps_lineage else ():
                                waits |= _makers_of(one.chain, one.ids, makers)
            artifact_work[artifact.key] = len(works)
            works.append(Work(len(works), name, artifact=artifact, waits=waits))
    return works


def _inputs(artifacts: Mapping[str, tuple[ArtifactPlan, ...]]) -> Iterator[ArtifactPlan]:
    for found in artifacts.values():
        yield from found


def _note(
    makers: dict[bytes, tuple[NDArray[np.void], NDArray[np.int64]]],
    chain: bytes,
    missing: NDArray[np.void],
    numbers: NDArray[np.int64],
) -> None:
    if chain in makers:
        missing = np.concatenate([makers[chain][0], missing])
        numbers = np.concatenate([makers[chain][1], numbers])
    order = ids.order(missing)
    makers[chain] = (missing[order], numbers[order])


def _makers_of(
    chain: bytes, wanted: NDArray[np.void], makers: Mapping[bytes, tuple[NDArray[np.void], NDArray[np.int64]]]
) -> set[int]:
    if chain not in makers:
        return set()
    ranked, numbers = makers[chain]
    places = ids.lookup(ranked, wanted)
    return set(ids.distinct(numbers[places[places >= 0]]).tolist())


def _waits(branch: Branch, positions: NDArray[np.int64], makers: Mapping[bytes, Any]) -> set[int]:
    waits: set[int] = set()
    for side in branch.sides:
        waits |= _makers_of(side.branch.chain, side.branch.rows.id[side.positions[positions]], makers)
    return waits
