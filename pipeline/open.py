"""A pipeline file from Python: `open_node("pipeline.yaml", "spectra[images]")` gives rows, `open_artifact` the folder
of a fit or a table, `run_file` computes what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.contents import file_sha256
from pipeline.dataset import Dataset
from pipeline.declaring.config import load_pipeline
from pipeline.declaring.document import Document
from pipeline.declaring.file_settings import FileReference, file_reference
from pipeline.errors import ConfigError, TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.planning.selection import Selection, Side
from pipeline.running.progress import Bars
from pipeline.running.run import RunReport, open_scan, run
from pipeline.running.works import view_of
from pipeline.sentences import counted
from pipeline.storage.store import Store


def run_file(
    file: Path | str, nodes: Sequence[str] = (), overrides: list[str] | None = None, device: str | None = None
) -> RunReport:
    """Compute what is missing of the nodes (default: of all) with progress on stderr. Raises TouchstoneError."""
    return run(load_pipeline(Path(file), overrides, device=device), list(nodes), bars=Bars())


def open_node(file: Path | str, node: str, overrides: list[str] | None = None, missing: bool = False) -> Dataset:
    """The rows of a node (or of all instances of a matrix) as a Dataset; nothing is computed or written.

    Rows that failed in the last run are left out where the node has no more of them than `max_failed_rows` allows.
    missing: leave out all rows that are not computed, instead of raising TouchstoneError.
    """
    pipeline = load_pipeline(Path(file), overrides)
    wanted = pipeline.select([node])
    scan, pins = open_scan(pipeline, False), read_pins(pipeline.base)
    plan = make_plan(pipeline, Store(pipeline.store), scan, wanted, pins=pins, allowed=True)
    branches = [
        branch
        for name in plan.nodes
        if node in (name, pipeline.nodes[name].entry)
        for branch in plan.branches.get(name, [])
    ]
    if not branches:
        raise ConfigError(f"'{node}' gives an artifact, not rows")
    lacking = sum(int((~branch.have & ~branch.failed).sum()) for branch in branches)
    if lacking and not missing:
        raise TouchstoneError(
            f"{node} lacks {counted(lacking, 'row')}; `touchstone run {node}` computes what is missing"
        )
    present = [Selection((Side(branch, branch.have.nonzero()[0]),)) for branch in branches]
    parts, table = view_of(plan, present)
    return Dataset(plan.store, parts, table)


def open_artifact(file: Path | str, node: str, overrides: list[str] | None = None) -> Path:
    """The folder of a finished artifact (a detector, a table, a report); nothing is computed or written.

    Raises ConfigError where the node gives rows, TouchstoneError where it is not made yet, or stale.
    """
    pipeline = load_pipeline(Path(file), overrides)
    wanted = pipeline.select([node])
    scan, pins = open_scan(pipeline, False), read_pins(pipeline.base)
    plan = make_plan(pipeline, Store(pipeline.store), scan, wanted, pins=pins, allowed=True)
    made = plan.artifacts.get(node)
    if made is None:
        raise ConfigError(f"'{node}' gives rows, or is a matrix; name one node that makes an artifact")
    if made.found is None:
        raise TouchstoneError(f"{node} is not made yet, or stale; `touchstone run {node}` makes it")
    return made.found.path


def named_file(text: str) -> FileReference:
    """The file that PATH or MANIFEST.yaml#ENTRY names, seen from the working directory, its digest compared.

    Raises ConfigError where there is none, or it is not what the entry says.
    """
    reference = file_reference(text, (), Document(Path("the working directory"), None), False)
    if reference.sha256 is not None and (found := file_sha256(reference.path)) != reference.sha256:
        raise ConfigError(
            f"{text}: {reference.path} has SHA-256 {found[:12]}..., but its entry says {reference.sha256[:12]}...; get "
            "the file again, or correct the entry"
        )
    return reference
