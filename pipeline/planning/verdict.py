"""Whether failed rows fail a run: one sentence, the same for `plan`, which sees them coming, and for `run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.declaring.config import Pipeline
from pipeline.planning.planned import Plan
from pipeline.sentences import counted

SHOWN_ROWS, SHOWN_NODES = 3, 8
"""What the sentence names at most: rows of a node, and nodes."""

Failures = Mapping[str, Sequence[str]]
"""Node -> one sentence per failed row."""


def unreadable(plan: Plan) -> dict[str, list[str]]:
    """Inputs that cannot be read, known before anything runs."""
    found: dict[str, list[str]] = {}
    for branch in plan.all_branches():
        if branch.problems:
            found.setdefault(branch.node, []).extend(branch.problems)
    return {node: sorted(lines) for node, lines in found.items()}


def too_many(pipeline: Pipeline, failures: Failures) -> list[str]:
    """Nodes with more failed rows than they allow."""
    return [node for node, lines in failures.items() if len(lines) > pipeline.nodes[node].max_failed_rows]


def verdict(pipeline: Pipeline, failures: Failures) -> str:
    """Why a run with these failures fails; nothing if it does not."""
    parts = []
    for node in too_many(pipeline, failures):
        lines, allowed = failures[node], pipeline.nodes[node].max_failed_rows
        parts.append(f"{node}: {counted(len(lines), 'row')} failed ({allowed} allowed): {_shown(lines)}")
    if not parts:
        return ""
    more = len(parts) - SHOWN_NODES
    parts = [*parts[:SHOWN_NODES], f"and rows of {counted(more, 'other node')}"] if more > 0 else parts
    return f"{'. '.join(parts)}. Mend the inputs and run again, or set max_failed_rows"


def _shown(lines: Sequence[str]) -> str:
    """The first rows that failed for different reasons, and how many there are besides. lines: `place: reason`."""
    first: dict[str, str] = {}
    for line in lines:
        first.setdefault(line.partition(": ")[2] or line, line)
    shown = list(first.values())[:SHOWN_ROWS]
    more = len(lines) - len(shown)
    alike = " for the same reason" if len(first) == 1 else ""
    return "; ".join([*shown, f"and {more:,} more{alike}"] if more else shown)


def allowed_lines(pipeline: Pipeline, failures: Failures) -> list[str]:
    """A line for each node whose failed rows are allowed."""
    beyond = too_many(pipeline, failures)
    return [
        f"{node}: {len(lines)} failed (allowed): {_shown(lines)}"
        for node, lines in failures.items()
        if node not in beyond
    ]
