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
    """A clause for each step that was met: how it differs from that of its stage that was learned from and is nearest.

    A join is told of where it is all that was met: else the steps say more that gave its fields their values.
    """
    known, found = list(learned), list(met)
    return "; ".join(_difference(known, step) for step in [one for one in found if one["stage"] != JOIN] or found)


def _difference(known: Sequence[Step], step: Step) -> str:
    alike = [one for one in known if one["stage"] == step["stage"]]
    if not alike:
        what = "fields of several nodes" if step["stage"] == JOIN else step["stage"]
        return f"{what} instead of {' or '.join(sorted({one['stage'] for one in known} - {JOIN}))}"
    nearest = min((_changed(one, step) for one in alike), key=lambda found: sum(map(len, found.values())))
    for part, changed in nearest.items():
        if step["stage"] == JOIN:
            return f"other values of {', '.join(changed)}"
        return f"{step['stage']}.{part}: {', '.join(list(changed.values())[:3])}"
    return f"{step['stage']} has other code, or rows of another size"


def _changed(known: Step, step: Step) -> dict[str, dict[str, str]]:
    """Parts of a step that differ, and what of them: name -> from what to what."""
    found: dict[str, dict[str, str]] = {}
    for part in ("config", "files", "artifacts", "environment"):
        before, after = known.get(part) or {}, step.get(part) or {}
        for name in sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
            told = f"{name} {_short(before.get(name))} -> {_short(after.get(name))}"
            found.setdefault(part, {})[name] = told
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
