"""The command line `touchstone`. Heavy imports (numpy, torch, zarr, dask) lie inside the verbs: --help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

# Before numpy is imported anywhere: values must not depend on how many threads a matrix product uses.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import typer  # noqa: E402

if TYPE_CHECKING:
    from pipeline.declaring.config import Pipeline
    from pipeline.planning.plan import Plan

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


def examples(*lines: str) -> str:
    """The end of a help text: two commands that work in a fresh clone."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def verb(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with its examples."""
    return app.command(epilog=examples(*lines))


class State:
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
    State.debug = debug


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


def read(file: Path, assignments: list[str] | None, device: str | None = None, download: bool = False) -> Pipeline:
    from pipeline.declaring.config import load_pipeline

    return load_pipeline(file, assignments, download, device=device)


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


def give(data: Any) -> None:
    """JSON on stdout: valid UTF-8 whatever the names and the encoding of the terminal are."""
    from pipeline.printable import json_text

    _put(json_text(data, ascii_only="utf" not in (sys.stdout.encoding or "utf-8").lower()))


@verb("touchstone run", "touchstone run spectra --workers 2 --set nodes.fakes.count=50")
def run(
    nodes: Nodes = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="2 or more: that many processes; 1: one thread; default: threads")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="an existing Dask cluster, e.g. tcp://10.0.0.1:8786")] = None,
    device: Device = None,
    download: Annotated[bool, typer.Option("--download", help="get missing files from the URLs of manifests")] = False,
    paranoid: Paranoid = False,
    json: Json = False,
) -> None:
    """Compute what is missing, and only that."""
    from pipeline.declaring.document import counted
    from pipeline.planning.verdict import allowed_lines
    from pipeline.running.progress import Bars
    from pipeline.running.run import run as go

    pipeline = read(file, assignments, device, download)
    bars = Bars(quiet=json)
    report = go(pipeline, nodes or [], workers, scheduler, paranoid, bars)
    for line in report.notes:
        note(line)
    if json:
        give(report.as_data())
        return
    count = sum(report.computed.values())
    if not count and report.failed:
        say("nothing computed: all else is fresh, and the rows below failed")
    elif not count:
        rows = sum(report.present.values())
        say(f"nothing to compute: {counted(len(report.present), 'node')}, {rows:,} rows and artifacts are fresh")
    else:
        for node, number in report.computed.items():
            say(f"{node}: {number:,} computed")
    for line in allowed_lines(pipeline, report.failed):
        say(line)


@verb("touchstone plan", "touchstone plan spectra --set nodes.images.size=32 --json")
def plan(
    nodes: Nodes = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    device: Device = None,
    paranoid: Paranoid = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="all causes, not the first only")] = False,
    json: Json = False,
) -> None:
    """Say what `run` would compute, and why. Writes nothing. Exit code 1: `run` would fail, for files that it lacks."""
    from pipeline.commands.plan_text import plan_data, plan_lines
    from pipeline.planning.explain import Explainer
    from pipeline.planning.verdict import unreadable, verdict
    from pipeline.running.run import check_device

    pipeline = read(file, assignments, device)
    check_device(pipeline, pipeline.select(nodes) if nodes else None)
    found = planned(pipeline, nodes, paranoid, json)
    states = Explainer(found).all()
    give(plan_data(found, states)) if json else say(*plan_lines(found, states, verbose))
    raise typer.Exit(1 if verdict(pipeline, unreadable(found)) else 0)


@verb("touchstone status", "touchstone status --json")
def status(
    nodes: Nodes = None, file: File = PIPELINE_FILE, assignments: Assignments = None, json: Json = False
) -> None:
    """Rows and artifacts of each node: wanted, present, failed."""
    from pipeline.commands.plan_text import status_data, status_lines

    found = planned(read(file, assignments), nodes, quiet=json, recorded=True)
    if json:
        give(status_data(found))
        return
    for line in status_lines(found):
        say(line)


@contextmanager
def errors_are_two() -> Iterator[None]:
    """Every error gives exit code 2 where 1 means something else."""
    from pipeline.errors import TouchstoneError

    try:
        yield
    except TouchstoneError as error:
        error.exit_code = 2
        raise


@verb("touchstone explain spectra", "touchstone explain images 3f --set nodes.images.size=32")
@errors_are_two()
def explain(
    node: Annotated[str, typer.Argument(help="a node, or an entry of a matrix")],
    row: Annotated[str | None, typer.Argument(help="first digits of a row's id")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="all causes, not the first only")] = False,
    json: Json = False,
) -> None:
    """Name the component that made a node stale, or the lineage of a row. Exit code 0: fresh, 1: stale, 2: error."""
    from pipeline.commands.plan_text import stale_lines
    from pipeline.errors import ConfigError
    from pipeline.planning.explain import Explainer

    pipeline = read(file, assignments)
    found = planned(pipeline, [node], quiet=json)
    explainer = Explainer(found)
    names = [name for name in found.nodes if node in (name, pipeline.nodes[name].entry)]
    if row is not None:
        lines = [line for name in names for line in explainer.row(name, row)]
        if not lines:
            raise ConfigError(f"{node} has no row whose id begins with '{row}'; `touchstone show {node}` lists ids")
        give(lines) if json else say(*lines)
        return
    states = [state for name in names for state in explainer.of(name)]
    if json:
        give([state.as_data() for state in states])
    else:
        for state in states:
            say(*stale_lines(state, verbose, fresh=True))
    raise typer.Exit(1 if any(state.missing for state in states) else 0)


@verb("touchstone show images", "touchstone show spectra 3f --out row.png")
def show(
    node: Annotated[str, typer.Argument(help="a node")],
    row: Annotated[str | None, typer.Argument(help="first digits of a row's id; without it: the first ids")] = None,
    field: Annotated[str | None, typer.Option(help="a field of the node; default: the first that can be drawn")] = None,
    out: Annotated[Path, typer.Option(help="the PNG to write")] = Path("row.png"),
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Draw a computed row as PNG: an image, a curve or a map."""
    from pipeline.commands.show import list_rows, show_row

    found = planned(read(file, assignments), [node])
    if row is None:
        for line in list_rows(found, node):
            say(line)
        return
    say(show_row(found, node, row, field, out))


@verb("touchstone report", "touchstone report --node report --out demo.html")
def report(
    node: Annotated[str | None, typer.Option(help="the report node; default: the only one")] = None,
    out: Annotated[Path | None, typer.Option(help="copy the page here")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Place of the finished HTML report (make it with `run`)."""
    import shutil

    from pipeline.commands.pages import page_of, report_node

    pipeline = read(file, assignments)
    name = node or report_node(pipeline)
    page = page_of(planned(pipeline, [name], recorded=True), name)
    if out is not None:
        shutil.copyfile(page, out)
    say(str(out or page))


@verb("touchstone graph", "touchstone graph spectra")
def graph(nodes: Nodes = None, file: File = PIPELINE_FILE, assignments: Assignments = None) -> None:
    """The nodes and what they read, as a Mermaid diagram; dashed borders show what is not complete."""
    from pipeline.commands.plan_text import mermaid

    say(*mermaid(planned(read(file, assignments), nodes)).split("\n"))


@verb("touchstone verify", "touchstone verify --rebuild 2 --json")
def verify(
    rebuild: Annotated[int, typer.Option(min=0, help="compute this many rows of each node again")] = 0,
    repair: Annotated[bool, typer.Option(help="put damaged shards aside; the next run makes them again")] = False,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """Check sizes, checksums and digests of everything in the store."""
    from pipeline.commands.verifying import verify_store

    result = verify_store(read(file, assignments), rebuild, repair)
    if json:
        give(result)
    else:
        for line in result["lines"]:
            say(line)
    raise typer.Exit(0 if result["sound"] else 1)


@verb("touchstone compact", "touchstone compact images spectra")
def compact(
    nodes: Nodes = None, forget: Forget = None, file: File = PIPELINE_FILE, assignments: Assignments = None
) -> None:
    """Write the wanted rows into full shards sorted by id, then drop the old shards."""
    from pipeline.commands.upkeep import compact_nodes

    for line in compact_nodes(read(file, assignments), nodes or [], forget or []):
        say(line)


@verb("touchstone gc", "touchstone gc --apply --keep-last 2")
def gc(
    apply: Annotated[bool, typer.Option("--apply", help="delete; without it only said")] = False,
    keep_last: Annotated[int, typer.Option(min=0, help="keep what the last K configs of finished runs used")] = 0,
    grace_s: Annotated[float, typer.Option(min=0, help="leave what is younger than this alone")] = 3600.0,
    forget: Forget = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """List (or delete) what neither the plan, a frozen manifest nor another pipeline's last run refers to."""
    from pipeline.commands.upkeep import collect_garbage

    result = collect_garbage(read(file, assignments), apply, keep_last, grace_s, forget or [])
    if json:
        give(result)
        return
    for line in result["lines"]:
        say(line)


@verb("touchstone freeze images", "touchstone freeze images spectra --out manifests/corpus.yaml")
def freeze(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="computed nodes")],
    out: Annotated[Path | None, typer.Option(help="the manifest to write")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Write a manifest of computed nodes: chains, shards, counts and digests. `gc` keeps what it names."""
    from pipeline.commands.upkeep import freeze_nodes

    say(freeze_nodes(read(file, assignments), nodes, out))


@verb("touchstone pin 'detectors[profile-svm]'", "touchstone pin detectors")
def pin(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="finished fit or reduce nodes")],
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Freeze artifacts by content: they stay as they are when rows are added (manifests/pins.yaml)."""
    from pipeline.commands.upkeep import pin_nodes

    for line in pin_nodes(read(file, assignments), nodes):
        say(line)


@verb("touchstone accept spectra", "touchstone accept images --set seed=0")
def accept(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="stale nodes")],
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
) -> None:
    """Declare on your word that a changed recipe gives the same values as the one in the store."""
    from pipeline.commands.upkeep import accept_nodes

    for line in accept_nodes(read(file, assignments), nodes):
        say(line)


@verb("touchstone doctor", "touchstone doctor --json")
def doctor(file: File = PIPELINE_FILE, json: Json = False) -> None:
    """Check the installation, the config and the disk, and say how to mend what is wrong."""
    from pipeline.commands.doctor import examine

    findings = examine(file)
    if json:
        give(findings)
    else:
        for finding in findings:
            say(f"{'ok  ' if finding['ok'] else 'FAIL'}  {finding['what']}: {finding['found']}")
    raise typer.Exit(0 if all(finding["ok"] for finding in findings) else 1)


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


@config_app.command("show", epilog=examples("touchstone config show", "touchstone config show --set seed=7 --json"))
def config_show(file: File = PIPELINE_FILE, assignments: Assignments = None, json: Json = False) -> None:
    """The resolved config: every node of every matrix, every default."""
    from pipeline.declaring.yaml_text import dump

    data = read(file, assignments).resolved()
    give(data) if json else say(*dump(data).rstrip().split("\n"))


@config_app.command("schema", epilog=examples("touchstone config schema", "touchstone config schema > schema.json"))
def config_schema() -> None:
    """JSON Schema of pipeline.yaml, for completion and checks in an editor."""
    from pipeline.commands.plan_text import json_schema

    give(json_schema())


@config_app.command("stages", epilog=examples("touchstone config stages", "touchstone config stages > docs/stages.md"))
def config_stages() -> None:
    """Reference of all stages and their settings, as Markdown."""
    from pipeline.commands.plan_text import stages_markdown

    say(*stages_markdown().split("\n"))
