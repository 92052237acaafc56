"""The report's section on rows that an evaluation wanted and did not get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.reporting.section import Given, Section

TEMPLATE = """\
<ul>{% for line in failed %}<li>{{ line }}</li>{% endfor %}</ul>
"""


def content(given: Given) -> Mapping[str, Any]:
    """One line per row, as the engine recorded it."""
    lines = []
    for artifact in given.artifacts["of"]:
        failed = artifact.info.get("failed_rows") or {}
        items = failed.items() if isinstance(failed, Mapping) else enumerate(failed, 1)
        lines += [f"{artifact.node}: {name}: {reason}" for name, reason in items]
    return {"failed": lines} if lines else {}


SECTION = Section(title="Failed rows", order=90, template=TEMPLATE, content=content)
