"""The command line `touchstone`. Heavy imports (numpy, torch, zarr, dask) lie inside the verbs: --help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.commands.options import OUTPUT, Json, State, app, give, note, say, verb

# Each registers its verbs; their order is that of --help.
# isort: off
import pipeline.commands.running
import pipeline.commands.looking
import pipeline.commands.keeping
import pipeline.commands.about  # noqa: F401

# isort: on


def main() -> None:
    """Entry point: user mistakes become one sentence and an exit code, never a traceback (but with --debug)."""
    from pipeline.errors import TouchstoneError

    try:
        app(prog_name="touchstone")
    except TouchstoneError as error:
        if State.debug:
            raise
        note(f"touchstone: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        note("touchstone: interrupted; published shards are kept, the same command goes on")
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if State.debug:
            raise
        use = "written" if error.filename == OUTPUT else "used"
        note(f"touchstone: {error.filename or 'a file'} cannot be {use}: {error.strerror or error}")
        if error.filename == OUTPUT:
            _drop_output()
        sys.exit(1)


def _drop_output() -> None:
    """Lead stdout, which takes nothing more, to nowhere: the end of Python would complain about what is left in it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@verb(*(f"touchstone checkpoint tests/golden/generators/progan_tf_32_nofuse.pkl{end}" for end in ("", " --json")))
def checkpoint(
    weights: Annotated[Path, typer.Argument(metavar="FILE", help="an official checkpoint, or a file of this project")],
    network: Annotated[Literal["average", "raw", "discriminator"], typer.Option(help="which network")] = "average",
    to: Annotated[Literal["safetensors"] | None, typer.Option(help="write the network in this format")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace the file to write if it exists")] = False,
    json: Json = False,
) -> None:
    """Say what a file of generator weights holds, or convert it. Nothing in it is run. Exit code 1: it is refused."""
    from importlib import import_module

    inspect = import_module("stages.inspect_checkpoint")
    about = (
        inspect.inspect(weights, network) if to is out is None else inspect.convert(weights, network, to, out, force)
    )
    give(about) if json else say(*inspect.lines(about))
    raise typer.Exit(1 if "refused" in (about["generator"] or {}) else 0)
