"""The verb `audit`: what differs between real and fake images besides the generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands.options import Json, give, note, say, verb

IMAGES = "a folder of images, a zip, tar or Parquet file (or a folder of these), an LMDB database, or a manifest"


@verb(
    "touchstone audit manifests/photos.yaml manifests/photos",
    "touchstone audit manifests/photos manifests/photos --control manifests/photos.yaml --json --fail-on bias",
)
def audit(
    real: Annotated[Path, typer.Argument(metavar="REAL", help=IMAGES)],
    fake: Annotated[Path, typer.Argument(metavar="FAKE", help="the same of generated images")],
    control: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="real images of another origin: what differs there too is no trace"),
    ] = None,
    fail_on: Annotated[
        Literal["bias", "differs"] | None, typer.Option(help="exit with 1 if a bias is found, or if anything differs")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes that read files")] = 2,
    json: Json = False,
) -> None:
    """Compare two sets of images by containers, traces in pixels, duplicates and a learned test.

    A manifest.csv inside a folder, or inside or beside an archive, gives groups, domains and splits (columns file,
    group, domain, split): without groups, contributors look like biases. Exit code 1 as --fail-on says.
    """
    from stages.auditing import telling
    from stages.auditing.sources import audited

    result, notes = audited(real, fake, control, workers, note)
    for line in notes:
        note(line)
    give(result.plain()) if json else say(*telling.lines(result))
    failed = {"bias": result.bias == "found", "differs": result.verdict == "differs", None: False}
    raise typer.Exit(1 if failed[fail_on] else 0)
