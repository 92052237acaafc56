"""Plans and states as text, JSON, Mermaid and JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pipeline import ids
from pipeline.planning.explain import Staleness
from pipeline.planning.planned import Plan
from pipeline.planning.selection import Branch
from pipeline.planning.verdict import Failures, allowed_lines, unreadable, verdict
from pipeline.sentences import counted, duration
from pipeline.stage import Kind

SCREEN = 40
"""Lines of a summary."""

DIGESTS = re.compile(r" [0-9a-f]{32,}(\.\.\.)? -> [0-9a-f]{32,}(\.\.\.)?")
NAMED = re.compile(r"(artifact\.\w+)[. ].* changed")


def plan_lines(plan: Plan, states: list[Staleness], verbose: bool) -> Iterable[str]:
    """What `run` would do: a line per entry with its cause, an estimate, and failures that are known now.

    verbose: a headline per node and source of rows, and all causes in full.
    """
    yield from plan.notes
    lost = unreadable(plan)
    fails = verdict(plan.pipeline, lost)
    stale = [state for state in states if state.missing]
    if not stale:
        rows = sum(len(branch.usable) for branch in plan.all_branches())
        fresh = f"{counted(rows, 'row')} and {counted(len(plan.artifacts), 'artifact')} are fresh"
        yield f"nothing to compute: {fresh}" if not fails else f"nothing can be computed: {fresh}, but `run` would fail"
        yield from (f"{state.node}: {_failed(state)}" for state in states if state.failed)
        yield from _lost_lines(plan, lost, fails)
        return
    if verbose:
        for state in stale:
            yield from stale_lines(state, verbose=True)
    else:
        yield from _summary(plan, stale)
    yield _total(stale)
    yield from _lost_lines(plan, lost, fails)


def _summary(plan: Plan, stale: list[Staleness]) -> Iterable[str]:
    """One line per entry of the file: how much of it is to be computed, and the cause that most of it has."""
    entries: dict[str, list[Staleness]] = {}
    for state in stale:
        entries.setdefault(plan.pipeline.nodes[_node(state)].entry, []).append(state)
    lines = [_entry_line(entry, states) for entry, states in entries.items()]
    width = max(len(head) for head, _ in lines)
    yield from (f"{head:<{width}}  {cause}" for head, cause in lines[:SCREEN])
    if len(lines) > SCREEN:
        yield f"and what {len(lines) - SCREEN} more entries need (-v)"


def _entry_line(entry: str, states: list[Staleness]) -> tuple[str, str]:
    """What is to be done for an entry, and why."""
    nodes = len({_node(state) for state in states})
    cells = f" ({nodes} nodes)" if nodes > 1 else ""
    missing = sum(state.missing for state in states)
    if states[0].kind == "artifact":
        work = counted(missing, "artifact")
    else:
        wanted = sum(state.wanted for state in states)
        work = counted(missing, "row") if missing == wanted else f"{missing:,} of {counted(wanted, 'row')}"
    known = [state.seconds for state in states if state.seconds is not None]
    estimate = f", about {duration(sum(known))}" if len(known) == len(states) else ""
    causes: dict[tuple[str, str], int] = {}
    for state in states:
        for cause, text, number in state.causes:
            brief = NAMED.sub(r"\1 changed", DIGESTS.sub(" changed", text))
            causes[cause, brief] = causes.get((cause, brief), 0) + number
    if not causes:
        return f"{entry}{cells}: {work}{estimate}", ""
    # the first of what most rows share, but for a schema: that follows from something else
    cause, text = max(causes, key=lambda pair: (pair[0] != "schema", causes[pair]))
    others = f" (and {counted(len(causes) - 1, 'other cause')}, -v)" if len(causes) > 1 else ""
    return f"{entry}{cells}: {work}{estimate}", f"{cause}: {text}{others}"


def _node(state: Staleness) -> str:
    return state.node.partition(" <- ")[0]


def _total(stale: list[Staleness]) -> str:
    """All that is to be done, and how long that takes on one core as far as it is known."""
    parts = []
    for kind, word in (("rows", "row"), ("artifact", "artifact")):
        states = [state for state in stale if state.kind == kind]
        known = [state.seconds for state in states if state.seconds is not None]
        estimate = f", about {duration(sum(known))} of one core" if known else ", not estimated"
        lacking = (
            f" (without {len(states) - len(known)} of {len(states)})" if len(known) < len(states) and known else ""
        )
        if states:
            parts.append(f"{counted(sum(state.missing for state in states), word)}{estimate}{lacking}")
    return f"in all: {'; '.join(parts)}"


def _lost_lines(plan: Plan, lost: Failures, fails: str) -> Iterable[str]:
    """Inputs that cannot be read: those that are allowed, and those that fail the run."""
    yield from allowed_lines(plan.pipeline, lost)
    if fails:
        yield f"`run` would fail: {fails}"


def stale_lines(state: Staleness, verbose: bool, fresh: bool = False) -> Iterable[str]:
    """One state: a headline, then the first cause (or all of them)."""
    if not state.missing:
        if fresh:
            rows = f" ({counted(state.wanted - state.failed, 'row')})" if state.kind == "rows" else ""
            lost = f", {state.unreadable:,} cannot be read" if state.unreadable else ""
            yield f"{state.node}: fresh{rows}{', ' + _failed(state) if state.failed else ''}{lost}"
        return
    if state.kind == "artifact":
        yield f"{state.node}: STALE  to be made"
    else:
        estimate = f", est. {duration(state.seconds)}" if state.seconds is not None else ""
        yield f"{state.node}: STALE  {state.missing:,} of {counted(state.wanted, 'row')}{estimate}"
    shown = state.causes if verbose else state.causes[:1]
    for cause, text, number in shown:
        count = f" ({counted(number, 'row')})" if state.kind == "rows" else ""
        yield f"  {cause}: {text}{count}"
    if len(shown) < len(state.causes):
        yield f"  and {len(state.causes) - len(shown)} more (-v)"


def _failed(state: Staleness) -> str:
    return f"{state.failed:,} failed (allowed); `run` tries again"


def plan_data(plan: Plan, states: list[Staleness]) -> dict[str, Any]:
    """`plan --json`."""
    return {
        "rows": sum(state.missing for state in states if state.kind == "rows"),
        "artifacts": [state.node for state in states if state.kind == "artifact" and state.missing],
        "notes": plan.notes,
        "failed": unreadable(plan),
        "fails": verdict(plan.pipeline, unreadable(plan)) or None,
        "nodes": [state.as_data() for state in states],
    }


def status_data(plan: Plan) -> list[dict[str, Any]]:
    """One entry per node: wanted and present rows, recorded failures, or the artifact's key."""
    result: list[dict[str, Any]] = []
    for name in plan.nodes:
        if name in plan.artifacts:
            artifact = plan.artifacts[name]
            result.append(
                {"node": name, "stage": artifact.node.stage.name, "kind": "artifact", "key": artifact.key.hex(),
                 "present": artifact.found is not None, "pinned": artifact.pin is not None, "rows": artifact.rows}
            )  # fmt: skip
            continue
        branches = plan.branches[name]
        failures = sum(_failures(plan, branch) for branch in branches)
        result.append(
            {"node": name, "stage": plan.pipeline.nodes[name].stage.name, "kind": "rows",
             "wanted": sum(len(branch.rows) for branch in branches) + sum(len(b.problems) for b in branches),
             "present": sum(int(branch.have.sum()) for branch in branches),
             "failed": failures + sum(len(branch.problems) for branch in branches),
             "chains": [branch.chain.hex() for branch in branches]}
        )  # fmt: skip
    return result


def _failures(plan: Plan, branch: Branch) -> int:
    """Recorded failures of the branch's own rows (other sources may share its chain)."""
    known = plan.store.failures(branch.stage.name, branch.chain)
    return int(ids.isin(branch.rows.id, ids.from_bytes(known)).sum()) if known else 0


def status_lines(plan: Plan) -> Iterable[str]:
    """A table of `status_data`."""
    entries = status_data(plan)
    width = max(len(entry["node"]) for entry in entries)
    for entry in entries:
        if entry["kind"] == "artifact":
            state = ("pinned" if entry["pinned"] else "made") if entry["present"] else "to be made"
            yield f"{entry['node']:<{width}}  {entry['stage']:<10}  {state} from {counted(entry['rows'], 'row')}"
        else:
            failed = f", {entry['failed']:,} failed" if entry["failed"] else ""
            chains = f", {len(entry['chains'])} chains" if len(entry["chains"]) > 1 else ""
            rows = f"{entry['present']:,} of {counted(entry['wanted'], 'row')}"
            yield f"{entry['node']:<{width}}  {entry['stage']:<10}  {rows}{failed}{chains}"


def mermaid(plan: Plan) -> str:
    """The nodes as a Mermaid flowchart: boxes give rows, rounded ones artifacts; dashed borders are not complete."""
    names = {name: f"n{number}" for number, name in enumerate(plan.nodes)}
    lines = ["flowchart LR", "  classDef stale stroke-dasharray: 4"]
    for name in plan.nodes:
        node = plan.pipeline.nodes[name]
        rounded = node.stage.kind in (Kind.FIT, Kind.REDUCE)
        opening, closing = ("([", "])") if rounded else ("[", "]")
        if name in plan.artifacts:
            fresh, count = plan.artifacts[name].found is not None, ""
        else:
            have = sum(int(branch.have.sum()) for branch in plan.branches[name])
            wanted = sum(len(branch.rows) + len(branch.problems) for branch in plan.branches[name])
            lost = sum(int(branch.failed.sum()) for branch in plan.branches[name])
            fresh, count = have + lost == wanted, f"<br/>{have:,} of {wanted:,}"
        lines.append(f'  {names[name]}{opening}"{name}{count}"{closing}{"" if fresh else ":::stale"}')
        lines += [f"  {names[read]} --> {names[name]}" for read in sorted(node.references())]
    return "\n".join(lines)
