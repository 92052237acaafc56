"""The application, and what its verbs share: options, the pipeline and its plan, and what is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

if TYPE_CHECKING:
    from pipeline.declaring.config import Pipeline
    from pipeline.planning.planned import Plan


# Before numpy is imported anywhere: values must not depend on how many threads a matrix product uses.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Nor on which plugins of pydantic somebody has installed; to look for some takes longer than to read a pipeline.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import typer  # noqa: E402

app = typer.Typer(
    name="touchstone",
    help="Build reproducible corpora of real and generated images, cache their features, train and test detectors.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
config_app = typer.Typer(help="Show the resolved config, or its JSON Schema for editors.", no_args_is_help=True,
                         rich_markup_mode=None)  # fmt: skip
app.add_typer(config_app, name="config")

File = Annotated[Path, typer.Option("--file", "-f", help="the pipeline file")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="override a setting: --set a.b=c (repeatable)")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable JSON on stdout, everything else on stderr")]
Device = Annotated[str | None, typer.Option("--device", help="where networks run: cpu or cuda")]


def node_names(incomplete: str) -> list[str]:
    """Names for shell completion, from the pipeline file of the working directory."""
    from pipeline.declaring.document import load
    from pipeline.errors import TouchstoneError

    try:
        nodes = (load(Path("pipeline.yaml")).data or {}).get("nodes") or {}
    except (TouchstoneError, AttributeError):
        return []
    return [name for name in nodes if name.startswith(incomplete)]


Nodes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE]...", help="nodes, or entries for all of a matrix", autocompletion=node_names),
]
Forget = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="a pipeline whose wants no longer count (repeatable); default: 30 days each"),
]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Paranoid = Annotated[bool, typer.Option("--paranoid", help="read every input file again, whatever its time stamps say")]

PIPELINE_FILE = Path("pipeline.yaml")
OUTPUT = "the output"
WORTH_A_BAR = 64
T = TypeVar("T")


def examples(*lines: str) -> str:
    """The end of a help text: two commands that work in a fresh clone."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def verb(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with its examples."""
    return app.command(epilog=examples(*lines))


class State:
    """What the options before the verb say of this process."""

    debug = False


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"touchstone {version('touchstone')}")
        raise typer.Exit


@app.callback()
def main_options(
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="version")] = False,
) -> None:
    """Options that stand before the verb."""
    State.debug = debug


def read(file: Path, assignments: list[str] | None, device: str | None = None, download: bool = False) -> Pipeline:
    """The validated pipeline file with the options applied. Raises ConfigError: one sentence with file and line."""
    from pipeline.declaring.config import load_pipeline

    return load_pipeline(file, assignments, download, device=device)


def data_of(file: Path) -> Any:
    """Plain data of a YAML file that is no pipeline. Raises ConfigError: one sentence with file and line."""
    from pipeline.declaring.document import load

    return load(file).data


def planned(
    pipeline: Pipeline,
    nodes: list[str] | None = None,
    paranoid: bool = False,
    quiet: bool = False,
    recorded: bool = False,
) -> Plan:
    """A plan that writes nothing, without rows that were allowed to fail; `recorded`: without any that failed."""
    from pipeline.planning.pins import read_pins
    from pipeline.planning.plan import make_plan
    from pipeline.running.progress import Bars
    from pipeline.running.run import open_scan
    from pipeline.storage.store import Store

    bars = Bars(quiet)
    try:
        scan = open_scan(pipeline, False, paranoid, bars)
        wanted = pipeline.select(nodes) if nodes else None
        pins = read_pins(pipeline.base)
        return make_plan(pipeline, Store(pipeline.store), scan, wanted, pins=pins, recorded=recorded, allowed=True)
    finally:
        bars.close()


def say(*lines: str) -> None:
    """Lines on stdout. Names in them cannot end a line or reach the terminal's controls."""
    from pipeline.printable import printable

    _put("\n".join(printable(line) for line in lines))


def _put(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        error.filename = OUTPUT
        raise


def note(line: str) -> None:
    """A line on stderr."""
    from pipeline.printable import printable

    print(printable(line), file=sys.stderr)


def give(data: Any, indent: int | None = 2) -> None:
    """JSON on stdout: valid UTF-8 whatever the names and the encoding of the terminal are; one line without indent."""
    from pipeline.printable import json_text

    _put(json_text(data, ascii_only="utf" not in (sys.stdout.encoding or "utf-8").lower(), indent=indent))


def compute_and_end() -> None:
    """Say that this process computes in this one command and ends: memory that it frees is kept for it."""
    from pipeline.running.memory import keep_freed_memory

    keep_freed_memory(whatever_size=True)


def counting(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, with progress on stderr where there are many."""
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress on stderr where there is much; call what it gives with how many more are done."""
    from pipeline.running.progress import Bars

    bars = Bars(quiet=total < WORTH_A_BAR)
    bars.open({what: (total, 0)}, set())
    try:
        yield lambda count: bars.advance(what, count)
    finally:
        bars.close()
