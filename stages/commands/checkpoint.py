"""The verb `checkpoint`: what a file of weights of a generator or of a published detector holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands.options import Json, give, say, verb


@verb(
    "touchstone checkpoint tests/golden/generators/progan_tf_32_nofuse.pkl",
    "touchstone checkpoint tests/golden/detectors/containers/tiny_ladeda.pth --json",
)
def checkpoint(
    weights: Annotated[Path, typer.Argument(metavar="FILE", help="an official checkpoint, or a file of this project")],
    network: Annotated[Literal["average", "raw", "discriminator"], typer.Option(help="which network")] = "average",
    to: Annotated[Literal["safetensors"] | None, typer.Option(help="write the network in this format")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the file to write if it exists")] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="entries of published detectors, in place of the project's own")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a file of generator or detector weights holds, or convert a generator. Nothing in it is run.

    Exit code 1: it is refused.
    """
    from stages.generators import inspection

    whole = to is out is None
    if whole:
        about = inspection.inspect(weights, network, manifest)
    else:
        about = inspection.convert(weights, network, to, out, force)
    give(about) if json else say(*inspection.lines(about))
    raise typer.Exit(1 if "refused" in (about["generator"] or {}) else 0)
