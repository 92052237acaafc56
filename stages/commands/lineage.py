"""The verb `lineage`: how one row came to be, down to file, checkpoint and seed, and the same once more."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.options import PIPELINE_FILE, Assignments, File, Json, give, planned, read, say, verb


@verb("touchstone lineage images 3f", "touchstone lineage spectra 3f --replay")
def lineage(
    node: Annotated[str, typer.Argument(help="a node, or an entry of a matrix")],
    row: Annotated[str, typer.Argument(help="first digits of a row's id, its file's name or its seed")],
    again: Annotated[bool, typer.Option("--replay", help="compute it again from its origin, compare bytes")] = False,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """Tell how a row came to be: its file or seed, and each step with its settings, checkpoints and digests.

    Exit code 1: the replay differs from what is stored.
    """
    from pipeline.commands.tracing import find_row, lineage_of_row, lines, replay

    plan = planned(read(file, assignments), [node], quiet=json, recorded=True)
    found = find_row(plan, node, row)
    told = lineage_of_row(plan, found)
    if again:
        told["replay"] = replay(plan, found)
    give(told) if json else say(*lines(told))
    if again and not json:
        for name, result in told["replay"]["fields"].items():
            say(f"replay: {name} {result}")
    raise typer.Exit(0 if not again or told["replay"]["identical"] else 1)
