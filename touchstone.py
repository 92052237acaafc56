"""The command `touchstone`, and its face from Python; whatever is heavy is imported when it is used.

touchstone.open("pipeline.yaml")["spectra"]    the rows of a node, see `pipeline.open.Opened`
touchstone.Loader(rows, ["profile"], 64, 0)    shuffled torch batches of them
touchstone.load(MODEL).predict(IMAGES)         what a trained or published detector says of images
touchstone.audit("real", "fake")               what differs between two sets of images besides the generator

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
    from pipeline.loader import Loader
    from pipeline.open import Opened
    from stages.predict import Model

__all__ = ["Loader", "audit", "load", "open"]

COLLECTED_AFTER = (200_000, 20, 100)
"""Objects, and passes, after which the command looks for unreachable ones; Python's own are (700, 10, 10), which looks
ten times through what the imports make and keep, a tenth of a start. They keep some 100,000."""


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


def open(file: str | Path = "pipeline.yaml", overrides: list[str] | None = None, device: str | None = None) -> "Opened":
    """A pipeline file, read once; see `pipeline.open.Opened`. Raises ConfigError with file and line."""
    from pipeline.open import Opened

    return Opened(file, overrides, device)


def audit(real: str | Path, fake: str | Path, control: str | Path | None = None, workers: int = 1) -> dict[str, Any]:
    """What differs between two sets of images besides the generator: what `touchstone audit --json` prints.

    real, fake, control  folders, archives or manifests; notes, such as files that cannot be read, go to stderr
    workers              processes that read files; more than 1 need a script with `if __name__ == "__main__"`
    """
    from pipeline.commands.options import note
    from stages.auditing.sources import audited

    places = [None if place is None else Path(place) for place in (real, fake, control)]
    assert places[0] is not None
    assert places[1] is not None
    result, notes = audited(places[0], places[1], places[2], workers)
    for line in notes:
        note(line)
    return result.plain()


def __getattr__(name: str) -> Any:
    if name == "Loader":
        from pipeline.loader import Loader

        return Loader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run the command."""
    gc.set_threshold(*COLLECTED_AFTER)
    from pipeline.cli import main as command

    try:
        command()
    finally:
        gc.freeze()  # or the end of Python looks through all that was imported, a tenth of a short command


if __name__ == "__main__":
    main()
