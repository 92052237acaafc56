"""The HTML page that a finished report node wrote."""

from __future__ import annotations

from pathlib import Path

from pipeline.declaring.config import Pipeline
from pipeline.errors import ConfigError, TouchstoneError
from pipeline.planning.planned import Plan


def report_node(pipeline: Pipeline) -> str:
    """Name of the only node whose stage makes a page. Raises ConfigError if there is none, or several."""
    reports = [name for name, node in pipeline.nodes.items() if node.stage.page]
    if not reports:
        raise ConfigError(
            f"{pipeline.path.name} has no report node; add one, e.g. `report: {{stage: report, of: EVALUATION}}` with "
            "the name of a node of the stage 'evaluate', and run it"
        )
    if len(reports) > 1:
        raise ConfigError(
            f"{pipeline.path.name} has {len(reports)} report nodes; name one with --node {' or '.join(reports)}"
        )
    return reports[0]


def page_of(plan: Plan, node: str) -> Path:
    """The page of a planned node. Raises ConfigError if it makes none, TouchstoneError if it is not made yet."""
    artifact = plan.artifacts.get(node)
    if artifact is None:
        raise ConfigError(f"'{node}' gives rows, not a report; name a node of the stage 'report'")
    if artifact.found is None:
        raise TouchstoneError(f"'{node}' is not made yet, or stale; `touchstone run {node}` makes it")
    if not artifact.node.stage.page:
        raise ConfigError(f"'{node}' wrote no HTML page; it has {', '.join(artifact.found.info['files'])}")
    return artifact.found.path / artifact.node.stage.page


def open_in_browser(page: Path) -> None:
    """Raises TouchstoneError where there is no browser."""
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        raise TouchstoneError(f"no browser can be started here; open {page} in one")
