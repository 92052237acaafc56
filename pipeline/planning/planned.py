"""What a plan says: branches of rows, artifacts with their keys, and the works that are left to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.declaring.config import Node, Pipeline
from pipeline.planning.pins import Pin
from pipeline.planning.recipes import Recipe
from pipeline.planning.rows import Names
from pipeline.planning.selection import Branch, Selection, measured_steps
from pipeline.planning.sides import stored
from pipeline.sentences import counted
from pipeline.stage import ID, SPLITS, Artifact, Kind
from pipeline.steps import unlike
from pipeline.storage.artifacts import consumed_rows

if TYPE_CHECKING:
    from pipeline.storage.chain_index import ChainIndex
    from pipeline.storage.store import Store


TEST = SPLITS.index("test")


@dataclass(eq=False)
class ArtifactPlan:
    """One fit or reduce node: its key, what it reads, and the artifact if the store has it."""

    node: Node
    key: bytes
    recipe: Recipe
    views: Mapping[str, Mapping[str, list[Selection]]]  # input -> name of the view ("" if unnamed) -> selections
    artifacts: Mapping[str, tuple[ArtifactPlan, ...]]
    files: Mapping[str, str]
    splits_seen: frozenset[str] = frozenset()
    found: Artifact | None = None
    pin: Pin | None = None
    promise: Mapping[str, Any] = field(default_factory=dict)
    made_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # recipe -> step that gave its rows values
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # input -> fields of its rows
    rows_key: bytes = b""  # digest of what it reads, field by field and row by row, and of its settings

    @property
    def rows(self) -> int:
        return sum(len(one) for views in self.views.values() for many in views.values() for one in many)

    def branches(self) -> list[Branch]:
        return [
            place.branch
            for views in self.views.values()
            for many in views.values()
            for one in many
            for side in one.sides
            for place in stored(side)
        ]


@dataclass(eq=False)
class Plan:
    """Branches and artifacts of the wanted nodes, in an order in which each comes after what it reads."""

    pipeline: Pipeline
    store: Store
    names: Names = field(default_factory=Names)
    branches: dict[str, list[Branch]] = field(default_factory=dict)
    artifacts: dict[str, ArtifactPlan] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unrecorded: list[Branch] = field(default_factory=list)  # chains with rows, but without a recipe file that is sound
    indices: dict[bytes, ChainIndex] = field(default_factory=dict)  # chain -> where its rows lie
    damaged: list[tuple[Path, str]] = field(default_factory=list)  # what does not descend from its inputs

    @property
    def nodes(self) -> list[str]:
        return [name for name in self.pipeline.nodes if name in self.branches or name in self.artifacts]

    def all_branches(self) -> list[Branch]:
        return [branch for name in self.nodes for branch in self.branches.get(name, [])]

    @property
    def complete(self) -> bool:
        return all(found.have[found.usable].all() for found in self.all_branches()) and all(
            artifact.found for artifact in self.artifacts.values()
        )


@dataclass(eq=False)
class Work:
    """One task to be: which rows of which branch, or which artifact, and the works that it waits for."""

    number: int
    node: str
    branch: Branch | None = None
    positions: NDArray[np.int64] | None = None
    artifact: ArtifactPlan | None = None
    waits: set[int] = field(default_factory=set)

    @property
    def rows(self) -> int:
        return len(self.positions) if self.positions is not None else 0


def pinned_elsewhere(artifact: ArtifactPlan) -> list[str]:
    """Notes on pinned artifacts that meet test rows that they have seen, or rows made otherwise than those."""
    node, found = artifact.node, []
    for one in {model.node.name: model for models in artifact.artifacts.values() for model in models}.values():
        seen = _seen_before(artifact, one) if one.pin is not None and node.stage.kind is Kind.REDUCE else 0
        if seen:
            found.append(
                f"WARNING: the pinned {one.node.name} was made from {counted(seen, 'row')} that {node.name} has in its "
                "test split: splits or the pipeline are others than they were; unpin it so that it is made again"
            )
    for name, views in artifact.views.items():
        met = {step["recipe"]: step for step in measured_steps({name: views})}
        for one in artifact.artifacts.get(node.stage.inputs[name].like, ()):
            others = [step for recipe, step in met.items() if recipe not in one.made_from]
            if one.pin and one.made_from and others:
                found.append(
                    f"WARNING: {node.name} gives the pinned {one.node.name} rows that were made otherwise than those "
                    f"it learned from: {unlike(one.made_from.values(), others)}; unpin it so that it is made again, "
                    "or read its results with that in mind"
                )
    return found


def _seen_before(artifact: ArtifactPlan, model: ArtifactPlan) -> int:
    """How many test rows of an artifact's views a finished model was made from."""
    if model.found is None:
        return 0
    consumed = np.concatenate([np.zeros(0, ID), *consumed_rows(model.found).values()])
    tables = [one.table() for views in artifact.views.values() for many in views.values() for one in many]
    tested = np.concatenate([np.zeros(0, ID), *(table.id[table.split == TEST] for table in tables)])
    return int(ids.isin(ids.unique(tested), consumed).sum())


def artifacts_of(branch: Branch) -> set[ArtifactPlan]:
    """Artifacts that the rows of a branch were made with, from the source to here."""
    found = {artifact for used in branch.artifacts.values() for artifact in used}
    for side in branch.sides:
        found |= artifacts_of(side.branch)
    return found
