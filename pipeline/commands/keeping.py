"""Verbs that take care of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import PIPELINE_FILE, Assignments, File, Forget, Json, Nodes, give, read, say, verb


@verb("touchstone verify", "touchstone verify --rebuild 2 --json")
def verify(
    rebuild: Annotated[int, typer.Option(min=0, help="compute this many rows of each node again")] = 0,
    repair: Annotated[bool, typer.Option(help="put damaged shards aside; the next run makes them again")] = False,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """Check sizes, checksums and digests of everything in the store."""
    from pipeline.commands.verifying import verify_store

    result = verify_store(read(file, assignments), rebuild, repair)
    if json:
        give(result)
    else:
        for line in result["lines"]:
            say(line)
    raise typer.Exit(0 if result["sound"] else 1)


@verb("touchstone compact", "touchstone compact images spectra")
def compact(
    nodes: Nodes = None, forget: Forget = None, file: File = PIPELINE_FILE, assignments: Assignments = None
) -> None:
    """Write the wanted rows into full shards sorted by id, then drop the old shards."""
    from pipeline.commands.upkeep import compact_nodes

    for line in compact_nodes(read(file, assignments), nodes or [], forget or []):
        say(line)


@verb("touchstone gc", "touchstone gc --apply --keep-last 2")
def gc(
    apply: Annotated[bool, typer.Option("--apply", help="delete; without it only said")] = False,
    keep_last: Annotated[int, typer.Option(min=0, help="keep what the last K configs of finished runs used")] = 0,
    grace_s: Annotated[float, typer.Option(min=0, help="leave what is younger than this alone")] = 3600.0,
    forget: Forget = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """List (or delete) what neither the plan, a frozen manifest nor another pipeline's last run refers to."""
    from pipeline.commands.upkeep import collect_garbage

    result = collect_garbage(read(file, assignments), apply, keep_last, grace_s, forget or [])
    if json:
        give(result)
        return
    for line in result["lines"]:
        say(line)


@verb("touchstone freeze images", "touchstone freeze images spectra --out manifests/corpus.yaml")
def freeze(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="computed nodes")],
    out: Annotated[Path | None, typer.Option(help="the manifest to write")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Write a manifest of computed nodes: chains, shards, counts and digests. `gc` keeps what it names."""
    from pipeline.commands.upkeep import freeze_nodes

    say(freeze_nodes(read(file, assignments), nodes, out))


@verb("touchstone pin 'detectors[profile-svm]'", "touchstone pin detectors")
def pin(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="finished fit or reduce nodes")],
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Freeze artifacts by content: they stay as they are when rows are added (manifests/pins.yaml)."""
    from pipeline.commands.upkeep import pin_nodes

    for line in pin_nodes(read(file, assignments), nodes):
        say(line)


@verb("touchstone accept spectra", "touchstone accept images --set seed=0")
def accept(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="stale nodes")],
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Declare on your word that a changed recipe gives the same values as the one in the store."""
    from pipeline.commands.upkeep import accept_nodes

    for line in accept_nodes(read(file, assignments), nodes):
        say(line)
