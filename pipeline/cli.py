"""The command line `touchstone`. Heavy imports (numpy, torch, zarr, dask) lie inside the verbs: --help is quick."""

from __future__ import annotations

import os
import sys
from copy import copy
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.commands.options import OUTPUT, State, app, note

# Each registers its verbs; their order is that of --help.
# isort: off
import pipeline.commands.running
import pipeline.commands.looking
import pipeline.commands.keeping
import pipeline.commands.about  # noqa: F401

# isort: on

for _module in import_module("stages").COMMANDS.values():
    import_module(_module)


if TYPE_CHECKING:
    import typer


@cache
def _knowing(word: str | None) -> typer.Typer:
    """The application with the one verb that this word is, if it is one: to put all together takes longer than most."""
    verbs = [one for one in app.registered_commands if word and one.callback and word == one.callback.__name__]
    if len(verbs) != 1:
        return app
    narrow = copy(app)
    narrow.registered_commands, narrow.registered_groups = verbs, []
    return narrow


def main() -> None:
    """Entry point: user mistakes become one sentence and an exit code, never a traceback (but with --debug)."""
    from pipeline.errors import TouchstoneError

    try:
        _knowing(sys.argv[1] if sys.argv[1:] else None)(prog_name="touchstone")
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
