"""Verbs that show results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import PIPELINE_FILE, Assignments, File, planned, read, say, verb

LISTED, SHEET = 10, 20
"""Rows that are listed of each source, and drawn in all."""


@verb("touchstone show images --count 20 --out sheet.png", "touchstone show spectra 3f --out row.png")
def show(
    node: Annotated[str, typer.Argument(help="a node")],
    row: Annotated[
        str | None, typer.Argument(help="first digits of a row's id, the name of its file, or its seed")
    ] = None,
    field: Annotated[str | None, typer.Option(help="a field of the node; default: the first that can be drawn")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="without a row: so many, listed or drawn as a sheet")] = None,
    out: Annotated[Path | None, typer.Option(help="the PNG to write; default for a row: row.png")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """List rows of a node, or draw computed ones as PNG: pictures, curves or maps; one row, or a sheet of many."""
    from pipeline.commands.show import list_rows, show_row, show_sheet
    from pipeline.errors import ConfigError

    if row is not None and count is not None:
        raise ConfigError(f"--count {count} is for a sheet or a list, and '{row}' names one row; leave one of them out")
    if field is not None and row is None and out is None:
        raise ConfigError("--field chooses what is drawn, and nothing is: name a row, or --out for a sheet of rows")
    found = planned(read(file, assignments), [node])
    if row is not None:
        say(show_row(found, node, row, field, out or Path("row.png")))
    elif out is not None:
        say(show_sheet(found, node, count or SHEET, field, out))
    else:
        say(*list_rows(found, node, count or LISTED))


@verb("touchstone report --open", "touchstone report --node report --out demo.html")
def report(
    node: Annotated[str | None, typer.Option(help="the report node; default: the only one")] = None,
    out: Annotated[Path | None, typer.Option(help="copy the page here")] = None,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Place of the finished HTML report (make it with `run`)."""
    import shutil

    from pipeline.commands.pages import open_in_browser, page_of, report_node

    pipeline = read(file, assignments)
    name = node or report_node(pipeline)
    page = page_of(planned(pipeline, [name], recorded=True), name)
    if out is not None:
        shutil.copyfile(page, out)
    say(str(out or page))
    if show:
        open_in_browser(out or page)
