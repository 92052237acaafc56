"""From a work to a task: what a worker is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import NAMED
from pipeline.errors import DamagedShardError, StageError
from pipeline.planning.planned import ArtifactPlan, Plan, Work
from pipeline.planning.recipes import Recipe
from pipeline.planning.selection import Branch, Selection
from pipeline.planning.sides import part_of, parts_above, stored
from pipeline.running.make_artifact import ArtifactTask
from pipeline.running.proof import CheckedFile, Claim
from pipeline.running.tasks import Content, Facts, Parent, ShardTask
from pipeline.stage import ORIGIN, SPLITS, Artifact, Stage
from pipeline.storage.artifacts import verify_files


class TaskMaker:
    """Turns a Work into what a worker needs, at the moment of submission (so that few are in memory)."""

    def __init__(self, plan: Plan, facts: Facts, failures: Mapping[str, list[str]] | None = None) -> None:
        self.plan = plan
        self.facts = facts
        self.verified: set[Path] = set()
        self.failures = failures or {}  # node -> a sentence per failed row, of this run

    def make(self, work: Work) -> ShardTask | ArtifactTask:
        return self.shard(work) if work.branch is not None else self._artifact(work)

    def shard(self, work: Work) -> ShardTask:
        """The task of some rows of a branch."""
        branch, positions = work.branch, work.positions
        assert branch is not None
        assert positions is not None
        payload: dict[str, Any] = {}
        content = None
        if branch.positions is not None:
            entries = branch.positions[positions]
            columns = {name: column[entries] for name, column in branch.payload.items()}
            locations = columns.pop("location", None)
            payload = columns
            if locations is not None:
                content = Content(branch.stage, branch.config, [str(place) for place in locations])
        return ShardTask(
            self.facts, branch.node, branch.stage, branch.config, branch.chain, branch.schema,
            branch.rows.id[positions], tuple(_parent(side.branch, side.positions[positions]) for side in branch.sides),
            None if branch.index is None else branch.index[positions], payload, content,
            _claim(branch.files, branch.recipe), self._inputs(branch.artifacts),
        )  # fmt: skip

    def claims(self, works: Sequence[Work]) -> list[tuple[str, Stage, Any, Claim]]:
        """What the recipes of these works say of the processes that compute them, once each."""
        found: dict[int, tuple[str, Stage, Any, Claim]] = {}
        for work in works:
            if work.branch is not None:
                one = work.branch
                found[id(one)] = (one.node, one.stage, one.config, _claim(one.files, one.recipe))
            elif work.artifact is not None:
                node = work.artifact.node
                claim = _claim(node.files, work.artifact.recipe)
                found[id(work.artifact)] = (node.name, node.stage, node.config, claim)
        return list(found.values())

    def _inputs(self, artifacts: Mapping[str, tuple[ArtifactPlan, ...]]) -> dict[str, Any]:
        result = {}
        for name, found in artifacts.items():
            ready = []
            for one in found:
                artifact = self._found(one)
                self._verify(artifact)
                ready.append(type(artifact)(one.node.name, artifact.key, artifact.path, artifact.info))
            result[name] = tuple(ready)
        return result

    def _found(self, plan: ArtifactPlan) -> Artifact:
        artifact = plan.found or self.plan.store.artifact(plan.node.stage.name, plan.key)
        if artifact is None:
            raise StageError(f"{plan.node.name} is missing although its task is done; run again")
        return artifact

    def _verify(self, artifact: Artifact) -> None:
        """Read an artifact's files once per run before anything is made with it. Raises DamagedShardError."""
        if artifact.path in self.verified:
            return
        wrong = verify_files(artifact.path, artifact.info)
        if wrong:
            raise DamagedShardError(wrong[0], str(artifact.path))
        self.verified.add(artifact.path)

    def _artifact(self, work: Work) -> ArtifactTask:
        artifact = work.artifact
        assert artifact is not None
        columns = (*artifact.node.stage.uses_columns, "split")  # no others are in the key, so no others are given
        views: dict[str, Any] = {}
        node = artifact.node
        find = self._found if node.stage.keeps_lineage else None
        for name, named in artifact.views.items():
            views[name] = {label: view_of(self.plan, found, columns, find) for label, found in named.items()}
        components = dict(artifact.recipe.components)
        above = self.plan.pipeline.select([node.name])
        base = f"{self.plan.pipeline.base}/"
        failed = {name: [line.replace(base, "") for line in lines]
                  for name, lines in self.failures.items() if name in above}  # fmt: skip
        return ArtifactTask(
            self.facts, node.name, node.stage, node.config, artifact.key, components, views,
            _claim(node.files, artifact.recipe), self._inputs(artifact.artifacts), failed, artifact.made_from,
        )  # fmt: skip


def view_of(
    plan: Plan,
    selections: list[Selection],
    columns: tuple[str, ...] | None = None,
    find: Callable[[ArtifactPlan], Artifact] | None = None,
) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """Parts and row table of a dataset.

    columns: which ones (all but "origin" if left out); find: a finished artifact of the plan, where parts should have
    their lineage.
    """
    from pipeline.dataset import Part
    from pipeline.planning.ancestry import lineage_of

    parts, tables = [], []
    for selection in selections:
        branch = selection.sides[0].branch
        steps = tuple(dict(step) for step in branch.steps)
        lineage = lineage_of(branch, plan.names.words, find) if find and len(branch.rows) else None
        own = selection.sides[0]
        before = parts_above(own) if find else ()
        there = [part_of(one) for one in stored(own)] if branch.joins else []
        of = {name: there[number] for name, number in branch.joins.items()}
        parts.append(Part(branch.stage.name, branch.chain, branch.schema, own.ids, steps, lineage, before, of))
        tables.append(selection.table())
    words = np.array([*plan.names.words, ""], dtype=str)
    splits = np.array(SPLITS)
    table = {
        "label": np.concatenate([t.label for t in tables]) if tables else np.zeros(0, np.uint8),
        "split": splits[np.concatenate([t.split for t in tables])] if tables else splits[:0],
        "domain": words[np.concatenate([t.domain for t in tables])] if tables else words[:0],
        "source": words[np.concatenate([t.source for t in tables])] if tables else words[:0],
        "group": np.concatenate([t.group for t in tables]) if tables else np.zeros(0, "V16"),
    }
    if columns is not None and ORIGIN in columns:
        born = [(parts_above(one.sides[0])[-1:] or [one.sides[0]])[0].ids for one in selections]
        table[ORIGIN] = np.concatenate(born) if born else np.zeros(0, "V16")
    return parts, {name: column for name, column in table.items() if columns is None or name in columns}


def _claim(files: Mapping[str, Any], recipe: Recipe) -> Claim:
    """What the components of a recipe say of the process that computes, and where its files lie."""
    digests = recipe.components["files"]
    checked = {name: CheckedFile(reference.path, digests[name]) for name, reference in files.items()}
    return Claim.of(recipe.components, checked, digests.get(NAMED, ""))


def _parent(branch: Branch, positions: NDArray[np.int64]) -> Parent:
    content = None
    if branch.stage.content and branch.positions is not None:
        locations = branch.payload["location"][branch.positions[positions]]
        content = Content(branch.stage, branch.config, [str(place) for place in locations])
    return Parent(branch.stage.name, branch.chain, branch.schema, branch.rows.id[positions], content)
