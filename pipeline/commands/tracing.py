"""How one row came to be: all steps from the files and seeds that it was born of, and the same done once more.

A replay reads nothing that was stored: it opens the file or draws the seed at the row's origin, follows the recipes of
the plan in memory (`pipeline.chain.follow`), and compares with the stored bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline import ids
from pipeline.chain import Made, follow
from pipeline.dataset import Dataset, Part
from pipeline.errors import ConfigError, StageError
from pipeline.planning.explain import failure_of, not_computed
from pipeline.planning.planned import Plan, Work
from pipeline.planning.row_names import row_named
from pipeline.planning.selection import Branch
from pipeline.running.compute import compute
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Facts, ShardTask, rows_of, step_of
from pipeline.stage import SPLITS, RowError

Row = tuple[Branch, int]
"""A row as its branch, and its position there."""


def find_row(plan: Plan, node: str, prefix: str) -> Row:
    """The row of a node by the first digits of its id, its file's name or its seed.

    Raises ConfigError unless there is exactly one.
    """
    branches = [
        one
        for name in plan.nodes
        if node in (name, plan.pipeline.nodes[name].entry)
        for one in plan.branches.get(name, [])
    ]
    if not branches:
        raise ConfigError(f"'{node}' makes an artifact, and has no rows; `touchstone explain {node}` tells of it")
    return row_named(branches, node, prefix)


def lineage_of_row(plan: Plan, row: Row) -> dict[str, Any]:
    """All that decided the row's values, as plain data; its steps come after those that they read (`of`)."""
    numbers: dict[tuple[int, int], int] = {}
    steps: list[dict[str, Any]] = []

    def visit(branch: Branch, position: int) -> int:
        key = id(branch), position  # not its chain: sources of one recipe have one
        if key not in numbers:
            above = [visit(side.branch, int(side.positions[position])) for side in branch.sides]
            numbers[key] = len(steps)
            steps.append(_step(branch, position, above))
        return numbers[key]

    visit(*row)
    branch, position = row
    rows = branch.rows
    return {
        "node": branch.node,
        "id": ids.hex(rows.id[position]),
        "computed": bool(branch.have[position]),
        **({} if branch.have[position] else {"failed": failure_of(plan, branch, position) or None}),
        "label": ("real", "fake")[rows.label[position]],
        "split": SPLITS[rows.split[position]],
        "source": plan.names.words[rows.source[position]],
        "steps": steps,
    }


def _step(branch: Branch, position: int, above: list[int]) -> dict[str, Any]:
    components = branch.recipe.components
    found: dict[str, Any] = {
        "node": branch.node,
        "stage": branch.stage.name,
        "id": ids.hex(branch.rows.id[position]),
        "chain": branch.chain.hex(),
        "recipe": branch.recipe.digest.hex(),
        "of": above,
        "settings": components["config"],
        "born_of": _birth(branch, position),
        "files": {
            name: {"file": str(reference.path), "sha256": components["files"][name]}
            for name, reference in branch.files.items()
        },
        "artifacts": {
            name: [_artifact(one) for one in artifacts] for name, artifacts in sorted(branch.artifacts.items())
        },
    }
    if branch.index is not None:
        found["draw"] = int(branch.index[position])
    if branch.stage.random:
        found["seed"] = components["seed"]
    return found


def _birth(branch: Branch, position: int) -> dict[str, Any]:
    """What a source knows of a row: the place of its file and the digest of its bytes, or its seed."""
    if branch.positions is None:
        return {}
    entry = np.array([int(branch.positions[position])])
    found = {name: np.asarray(column[entry])[0] for name, column in branch.payload.items()}
    if branch.stage.content:  # the id of such a row is the first half of the digest
        found["sha256_begins_with"] = ids.hex(branch.rows.id[position])
    return {name: one.item() if isinstance(one, np.generic) else str(one) for name, one in found.items()}


def _artifact(one: Any) -> dict[str, Any]:
    info = {} if one.found is None else one.found.info
    return {
        "node": one.node.name,
        "stage": one.node.stage.name,
        "key": one.key.hex(),
        "files": {name: file["sha256"] for name, file in info.get("files", {}).items()},
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people: the origin first."""
    yield f"{found['node']} {found['id']}: {found['label']}, split {found['split']}, born in {found['source']}"
    if not found["computed"]:
        yield f"FAILED: {found['failed']}" if found["failed"] else "not computed yet; so it would be:"
    for number, step in enumerate(found["steps"], 1):
        of = f" of {' and '.join(str(above + 1) for above in step['of'])}" if step["of"] else ""
        yield f"{number}  {step['stage']}{of}  ({step['node']}, id {step['id'][:12]}, chain {step['chain'][:16]})"
        for name, value in step["born_of"].items():
            yield f"   {name.replace('_', ' ')}: {value}"
        for name in ("seed", "draw"):
            if name in step:
                yield f"   {'seed of the draws' if name == 'seed' else 'number of the draw'}: {step[name]}"
        for name, file in step["files"].items():
            yield f"   {name}: {file['file']}, SHA-256 {file['sha256']}"
        for name, artifacts in step["artifacts"].items():
            for one in artifacts:
                yield f"   {name}: {one['node']} ({one['stage']}), key {one['key']}"
                yield from (f"     {file}: SHA-256 {digest}" for file, digest in one["files"].items())
        settings = ", ".join(f"{name}={value}" for name, value in step["settings"].items() if value is not None)
        yield f"   settings: {settings or 'none'}"


def replay(plan: Plan, row: Row) -> dict[str, Any]:
    """Compute a row again from its origin and compare it with what is stored.

    Returns {"identical", "fields": {name: "identical" | "different"}}. Raises ConfigError where it is not stored,
    StageError where it cannot be computed now.
    """
    branch, position = row
    if not branch.have[position]:
        raise ConfigError(not_computed(plan, branch, position))
    settings = plan.pipeline.settings
    facts = Facts(plan.pipeline.store, None, settings.seed, settings.device, settings.threads)
    made = _Replay(TaskMaker(plan, facts)).row(branch, position)
    part = Part(branch.stage.name, branch.chain, branch.schema, branch.rows.id[position : position + 1])
    stored = Dataset(plan.store, [part], {})
    fields = {
        name: "identical" if stored.array(name).tobytes() == made.arrays[name].tobytes() else "different"
        for name in branch.schema
    }
    return {"identical": set(fields.values()) <= {"identical"}, "fields": fields}


class _Replay:
    """Rows computed one by one, each once."""

    def __init__(self, maker: TaskMaker) -> None:
        self.maker = maker
        self.made: dict[tuple[int, int], Made] = {}

    def row(self, branch: Branch, position: int) -> Made:
        """One row, from its origin on."""
        key = id(branch), position
        if key not in self.made:
            above = [self.row(side.branch, int(side.positions[position])) for side in branch.sides]
            work = Work(0, branch.node, branch=branch, positions=np.array([position]))
            task = self.maker.shard(work)
            stamps = task.claim.prove(task.node, task.stage, task.config)
            self.made[key] = self._followed(task, above) if above else self._born(task)
            task.claim.prove_again(task.node, task.stage, task.config, stamps)
        return self.made[key]

    def _followed(self, task: ShardTask, above: list[Made]) -> Made:
        failures: dict[int, str] = {}
        made = follow(step_of(task), above, failures, task.index)
        _refuse(task, failures)
        if made.ids.tobytes() != task.ids.tobytes():
            raise StageError(f"{task.node}: the replay gives the row another id, {ids.hex(made.ids[0])}")
        return made

    def _born(self, task: ShardTask) -> Made:
        """A row of a source, with the file behind it."""
        found = compute(step_of(task), rows_of(task, []))
        _refuse(task, found.failures)
        files = None
        if task.content is not None:
            try:
                files = [task.content.read(0, bytes(task.ids[0]))]
            except RowError as error:
                raise StageError(f"{task.node}: {error}") from None
        return Made(found.done, task.ids, found.arrays, task.schema, files)


def _refuse(task: ShardTask, failures: Mapping[int, str]) -> None:
    for reason in failures.values():
        raise StageError(f"{task.node}: the row cannot be computed now: {reason}")
