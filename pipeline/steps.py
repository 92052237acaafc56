"""Steps of rows as plain data: what each stage between a source and a row did, as results and artifacts keep it.

A step has `stage`, `config`, `files`, `artifacts`, `environment`, `recipe` (hexadecimal), and three answers: `origin`
(it gave rows values of their own), `content` (it reads files) and `variant` (it changes rows on purpose).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]

JOIN, JOINING = "join", "stages.join:Join"
"""Name of the step that joins fields of several nodes, which is no stage of a node, and where it is found."""

MOST_JOINED = 16
"""Nodes whose fields one row can have."""


def measured_step(steps: Sequence[Step]) -> Step:
    """The last step that makes no variant: it says how the values came to be that a detector reads."""
    return next((step for step in reversed(steps) if not step.get("variant")), steps[-1])


def unlike(learned: Iterable[Step], met: Iterable[Step]) -> str:
    """A clause for each step that was met: how it differs from the one of its stage that was learned from."""
    known = {step["stage"]: step for step in learned}
    return "; ".join(_difference(known.get(step["stage"]), step, sorted(known)) for step in met)


def _difference(known: Step | None, step: Step, stages: Sequence[str]) -> str:
    if known is None:
        return f"{step['stage']} instead of {' or '.join(stages)}"
    for part in ("config", "files", "artifacts", "environment"):
        before, after = known.get(part) or {}, step.get(part) or {}
        names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        if names:
            pairs = (f"{name} {_short(before.get(name))} -> {_short(after.get(name))}" for name in names[:3])
            return f"{step['stage']}.{part}: {', '.join(pairs)}"
    return f"{step['stage']} has other code, or rows of another size"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
