"""Verbs that show results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import PIPELINE_FILE, Assignments, File, planned, read, say, verb


@verb("touchstone show images", "touchstone show spectra 3f --out row.png")
def show(
    node: Annotated[str, typer.Argument(help="a node")],
    row: Annotated[str | None, typer.Argument(help="first digits of a row's id; without it: the first ids")] = None,
    field: Annotated[str | None, typer.Option(help="a field of the node; default: the first that can be drawn")] = None,
    out: Annotated[Path, typer.Option(help="the PNG to write")] = Path("row.png"),
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Draw a computed row as PNG: an image, a curve or a map."""
    from pipeline.commands.show import list_rows, show_row

    found = planned(read(file, assignments), [node])
    if row is None:
        for line in list_rows(found, node):
            say(line)
        return
    say(show_row(found, node, row, field, out))


@verb("touchstone report", "touchstone report --node report --out demo.html")
def report(
    node: Annotated[str | None, typer.Option(help="the report node; default: the only one")] = None,
    out: Annotated[Path | None, typer.Option(help="copy the page here")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Place of the finished HTML report (make it with `run`)."""
    import shutil

    from pipeline.commands.pages import page_of, report_node

    pipeline = read(file, assignments)
    name = node or report_node(pipeline)
    page = page_of(planned(pipeline, [name], recorded=True), name)
    if out is not None:
        shutil.copyfile(page, out)
    say(str(out or page))
