"""The verb `verify`: all damage in the store in words, rows computed again on request."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.commands.examine import Problem, examine
from pipeline.commands.upkeep import recorded_plan
from pipeline.declaring.config import Pipeline
from pipeline.digests import hash_rank
from pipeline.errors import TouchstoneError
from pipeline.planning.descent import review
from pipeline.planning.planned import Plan, Work
from pipeline.planning.selection import Branch
from pipeline.running.task_maker import TaskMaker
from pipeline.running.tasks import Facts, compute_rows
from pipeline.sentences import counted
from pipeline.storage.shards import row_digests
from pipeline.storage.store import Store
from pipeline.storage.upkeep import entries


def verify_store(pipeline: Pipeline, rebuild: int, repair: bool) -> dict[str, Any]:
    """Every byte of the store that can change a meaning; optionally K rows of each node computed again.

    Returns {"sound", "damaged", "old", "rebuilt", "lines"}.
    """
    store = Store(pipeline.store, writable=repair)
    findings = examine(store)
    problems = list(findings.problems)
    moved = _put_aside(store, problems) if repair else 0
    stale, remark = _compare_inputs(pipeline, store)
    problems += stale
    moved += _put_aside(store, stale) if repair else 0
    lines = [problem.reason for problem in problems]
    lines += [remark] if remark else []
    if moved:
        lines.append(f"{moved} put aside; `touchstone run` computes their rows again")
    if findings.old:
        lines.append(f"{len(findings.old)} of an earlier format, not read and no damage; `touchstone gc` lists them")
    rebuilt = []
    if rebuild:
        plan = recorded_plan(pipeline, store)
        rebuilt = [one for branch in plan.all_branches() if (one := _rebuild(plan, branch, rebuild)) is not None]
        lines += [f"{one['node']}: {counted(one['rows'], 'row')} computed again: {one['result']}" for one in rebuilt]
    different = any(one["result"] == "different" for one in rebuilt)
    sound = not different and len(problems) == moved
    if not problems:
        lines.append(f"{len(entries(store))} chains and artifacts are sound")
    damaged = [str(problem.path) for problem in problems]
    return {"sound": sound, "damaged": damaged, "old": len(findings.old), "rebuilt": rebuilt, "lines": lines}


def _put_aside(store: Store, problems: list[Problem]) -> int:
    movable = [problem for problem in problems if problem.movable]
    for problem in movable:
        store.quarantine(problem.path, problem.reason)
    return len(movable)


def _compare_inputs(pipeline: Pipeline, store: Store) -> tuple[list[Problem], str]:
    """Shards and artifacts of the plan that were computed from other values than their inputs have now; a remark."""
    try:
        plan = recorded_plan(pipeline, store)
        found = dict([*plan.damaged, *review(plan, everything=True)])
    except TouchstoneError as error:
        return [], f"whether rows descend from their inputs was not compared: {error}"
    return [Problem(path, reason) for path, reason in found.items()], ""


def _rebuild(plan: Plan, branch: Branch, count: int) -> dict[str, Any] | None:
    """Compute `count` stored rows of a branch again (chosen by hash) and compare."""
    present = np.flatnonzero(branch.have)
    if not len(present):
        return None
    settings = plan.pipeline.settings
    chosen = present[np.argsort(hash_rank(branch.rows.id[present], "rebuild", settings.seed), kind="stable")[:count]]
    facts = Facts(plan.pipeline.store, None, settings.seed, settings.device, settings.threads)
    task = TaskMaker(plan, facts).shard(Work(0, branch.node, branch=branch, positions=chosen))
    found = compute_rows(task)
    stored = plan.store.index(branch.stage.name, branch.chain)
    places = stored.lookup(task.ids[found.done])
    identical = len(found.done) == len(chosen)
    worst = 0.0 if identical else float("inf")  # a row that fails now
    digests = row_digests(found.arrays, branch.schema) if len(found.done) else found.done
    for row, position in enumerate(places):
        shard = plan.store.shard(stored.path(int(stored.shard[position])), branch.chain, branch.schema)
        number = np.array([stored.row[position]])
        if bytes(shard.digests[number][0]) != bytes(digests[row]):
            identical = False
            for name in branch.schema:
                old = shard.gather(name, number).astype(np.float64) if shard.schema[name].dtype[1] != "S" else None
                if old is None:
                    worst = float("inf")
                    continue
                worst = max(worst, float(np.abs(old - found.arrays[name][row : row + 1].astype(np.float64)).max()))
    if identical:
        result = "identical"
    elif worst <= 2 and all(np.dtype(field.dtype) == np.uint8 for field in branch.schema.values()):
        result = f"equal within {worst:.0f}/255"
    else:
        result = "different"
    return {"node": branch.node, "rows": len(chosen), "result": result,
            "largest_difference": worst if np.isfinite(worst) else None}  # fmt: skip
