"""The command `touchstone`, and from Python `touchstone.load(MODEL).predict(IMAGES)`.

It is a module of its own name so that it starts whatever lies in a user's folder: with that folder in PYTHONPATH, a
`pipeline.py` or a folder `pipeline` of the user's would be imported for the engine. Processes that Python spawns import
the script again, and with it this file, before they touch the engine.
"""

import gc
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.predict import Model

COLLECTED_AFTER = (50_000, 20, 100)
"""Objects, and passes, after which the command looks for unreachable ones; Python's own are (700, 10, 10), which looks
ten times through what the imports make and keep, a tenth of a start."""


def _load_engine() -> None:
    """Import the `pipeline` beside this file, and no other."""
    spec = PathFinder.find_spec("pipeline", [str(Path(__file__).absolute().parent)])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["pipeline"] = module_from_spec(spec)
    spec.loader.exec_module(module)


if "pipeline" not in sys.modules:
    _load_engine()


def load(model: str | Path, **options: Any) -> "Model":
    """A model that can be asked about images; see `stages.predict.load`, which has the options."""
    from stages.predict import load as loaded

    return loaded(model, **options)


def main() -> None:
    """Run the command."""
    gc.set_threshold(*COLLECTED_AFTER)
    from pipeline.cli import main as command

    command()


if __name__ == "__main__":
    main()
