"""Verbs that run a pipeline or say what a run would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pipeline.commands.options import (
    PIPELINE_FILE,
    Assignments,
    Device,
    File,
    Json,
    Nodes,
    Paranoid,
    give,
    note,
    planned,
    read,
    say,
    verb,
)


@verb("touchstone run", "touchstone run spectra --workers 2 --set nodes.fakes.count=50")
def run(
    nodes: Nodes = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="2 or more: that many processes; 1: one thread; default: threads")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="an existing Dask cluster, e.g. tcp://10.0.0.1:8786")] = None,
    device: Device = None,
    download: Annotated[bool, typer.Option("--download", help="get missing files from the URLs of manifests")] = False,
    mix_devices: Annotated[
        bool, typer.Option("--mix-devices", help="add rows of this kind of GPU to those of another kind")
    ] = False,
    paranoid: Paranoid = False,
    json: Json = False,
) -> None:
    """Compute what is missing, and only that."""
    from pipeline.planning.verdict import allowed_lines
    from pipeline.running.progress import Bars
    from pipeline.running.run import run as go
    from pipeline.sentences import counted

    pipeline = read(file, assignments, device, download)
    bars = Bars(quiet=json)
    report = go(pipeline, nodes or [], workers, scheduler, paranoid, bars, mix_devices)
    for line in report.notes:
        note(line)
    if json:
        give(report.as_data())
        return
    count = sum(report.computed.values())
    if not count and report.failed:
        say("nothing computed: all else is fresh, and the rows below failed")
    elif not count:
        rows = sum(report.present.values())
        say(f"nothing to compute: {counted(len(report.present), 'node')}, {rows:,} rows and artifacts are fresh")
    else:
        for node, number in report.computed.items():
            say(f"{node}: {number:,} computed")
    for line in allowed_lines(pipeline, report.failed):
        say(line)
    for page in report.pages:
        say(f"the report: {page}")


@verb("touchstone plan", "touchstone plan spectra --set nodes.images.size=32 --json")
def plan(
    nodes: Nodes = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    device: Device = None,
    paranoid: Paranoid = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="all causes, not the first only")] = False,
    json: Json = False,
) -> None:
    """Say what `run` would compute, and why. Writes nothing. Exit code 1: `run` would fail, for files that it lacks."""
    from pipeline.commands.plan_text import plan_data, plan_lines
    from pipeline.planning.explain import Explainer
    from pipeline.planning.verdict import unreadable, verdict

    pipeline = read(file, assignments, device)
    found = planned(pipeline, nodes, paranoid, json)
    states = Explainer(found).all()
    give(plan_data(found, states)) if json else say(*plan_lines(found, states, verbose))
    raise typer.Exit(1 if verdict(pipeline, unreadable(found)) else 0)


@verb("touchstone status", "touchstone status --json")
def status(
    nodes: Nodes = None, file: File = PIPELINE_FILE, assignments: Assignments = None, json: Json = False
) -> None:
    """Rows and artifacts of each node: wanted, present, failed."""
    from pipeline.commands.plan_text import status_data, status_lines

    found = planned(read(file, assignments), nodes, quiet=json, recorded=True)
    if json:
        give(status_data(found))
        return
    for line in status_lines(found):
        say(line)


@contextmanager
def errors_are_two() -> Iterator[None]:
    """Every error gives exit code 2 where 1 means something else."""
    from pipeline.errors import TouchstoneError

    try:
        yield
    except TouchstoneError as error:
        error.exit_code = 2
        raise


@verb("touchstone explain spectra", "touchstone explain images 3f --set nodes.images.size=32")
@errors_are_two()
def explain(
    node: Annotated[str, typer.Argument(help="a node, or an entry of a matrix")],
    row: Annotated[
        str | None, typer.Argument(help="first digits of a row's id, the name of its file, or its seed")
    ] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="all causes, not the first only")] = False,
    json: Json = False,
) -> None:
    """Name the component that made a node stale, or the lineage of a row. Exit code 0: fresh, 1: stale, 2: error."""
    from pipeline.commands.plan_text import stale_lines
    from pipeline.errors import ConfigError
    from pipeline.planning.explain import Explainer
    from pipeline.planning.row_names import no_row

    pipeline = read(file, assignments)
    found = planned(pipeline, [node], quiet=json)
    explainer = Explainer(found)
    names = [name for name in found.nodes if node in (name, pipeline.nodes[name].entry)]
    if row is not None:
        lines = [line for name in names for line in explainer.row(name, row)]
        if not lines:
            raise ConfigError(no_row(node, row))
        lines.append(f"touchstone lineage {node} {row}: every step of the row with its settings and files")
        give(lines) if json else say(*lines)
        return
    states = [state for name in names for state in explainer.of(name)]
    if json:
        give([state.as_data() for state in states])
    else:
        for state in states:
            say(*stale_lines(state, verbose, fresh=True))
    raise typer.Exit(1 if any(state.missing for state in states) else 0)


@verb("touchstone graph", "touchstone graph spectra")
def graph(nodes: Nodes = None, file: File = PIPELINE_FILE, assignments: Assignments = None) -> None:
    """The nodes and what they read, as a Mermaid diagram; dashed borders show what is not complete."""
    from pipeline.commands.plan_text import mermaid

    say(*mermaid(planned(read(file, assignments), nodes)).split("\n"))
