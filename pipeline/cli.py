"""The command line `touchstone`. Heavy imports (numpy, torch, zarr, dask) lie inside the verbs: --help is quick."""

from __future__ import annotations

import os
import sys
from importlib import import_module

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
