"""The verb `export`: rows of a node for other programs, with whatever has to go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import PIPELINE_FILE, Assignments, File, progress, read, say, verb
from stages import FORMATS


@verb(
    "touchstone export images --to imagefolder --out pictures --where 'split = test'",
    "touchstone export 'spectra[images]' --to npz --field profile --out curves",
)
def export(
    node: Annotated[str, typer.Argument(help="a node that has rows, or an entry for all of a matrix")],
    to: Annotated[str, typer.Option(metavar="|".join(FORMATS), help="format of the data")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="the folder to make; it must not exist")],
    where: Annotated[
        str | None, typer.Option(help="a condition as in a view: label = fake and split in [val, test]")
    ] = None,
    take: Annotated[int | None, typer.Option(min=1, help="so many rows, chosen by a hash")] = None,
    field: Annotated[list[str] | None, typer.Option(help="export this field (repeatable); default: all")] = None,
    creator: Annotated[str, typer.Option(help="for croissant.json: who publishes the set")] = "",
    url: Annotated[str, typer.Option(help="for croissant.json: where it is described")] = "",
    date: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="for croissant.json: when it is published")] = "",
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Write computed rows as a new folder: data, card (README.md), croissant.json and ATTRIBUTION.csv.

    Each row has its file, class, split, group, domain, source and licence. The same rows give the same bytes.
    """
    from pipeline.open import rows_of
    from stages.exporting.croissant import Publication
    from stages.exporting.export import check_place, export, form_of

    publication = Publication(creator, url, date)
    publication.check()
    form_of(to)
    check_place(out)
    pipeline = read(file, assignments)
    rows = rows_of(pipeline, node, where=where, take=take)
    chosen = " and ".join([*([where] if where else []), *([f"take {take}"] if take else [])])
    with progress("export", len(rows)) as advance:
        told = export(rows, node, to, out, field or (), chosen, pipeline.settings.seed, publication, advance)
    say(*told)
