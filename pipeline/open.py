"""A pipeline file from Python: `Opened("pipeline.yaml")["spectra[images]"]` gives rows and `artifact` the folder of a
fit or a table; the functions do the same for one node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.contents import file_sha256
from pipeline.dataset import Dataset
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.declaring.document import Document
from pipeline.declaring.file_settings import FileReference, file_reference
from pipeline.declaring.views import View, parse
from pipeline.errors import ConfigError, TouchstoneError
from pipeline.planning.origins import texts_of
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan
from pipeline.planning.selection import Evaluator
from pipeline.running.progress import Bars
from pipeline.running.run import RunReport, open_scan, run
from pipeline.running.task_maker import view_of
from pipeline.sentences import counted
from pipeline.stage import Kind
from pipeline.storage.store import Store


class Opened:
    """A pipeline file as it was when it was opened: `opened["spectra"]` gives rows, `list(opened)` the nodes' names."""

    def __init__(self, file: Path | str, overrides: list[str] | None = None, device: str | None = None) -> None:
        """overrides: settings as behind `--set`, "nodes.images.size=64"; device: cpu or cuda."""
        self.pipeline = load_pipeline(Path(file), overrides, device=device)

    def __repr__(self) -> str:
        return f"touchstone.open({str(self.pipeline.path)!r}): {', '.join(self)}"

    def __iter__(self) -> Iterator[str]:
        return iter(self.pipeline.nodes)

    def __len__(self) -> int:
        return len(self.pipeline.nodes)

    def __getitem__(self, node: str) -> Dataset:
        """All rows of a node, or of all instances of a matrix; raises TouchstoneError where some are not computed."""
        return rows_of(self.pipeline, node)

    def rows(self, node: str, where: str | None = None, take: int | None = None, missing: bool = False) -> Dataset:
        """Some of its rows; arguments as of `open_node`."""
        return rows_of(self.pipeline, node, missing, where, take)

    def artifact(self, node: str) -> Path:
        """The folder of a detector, table or report: `touchstone.load` takes that of a detector."""
        return artifact_of(self.pipeline, node)

    def run(self, *nodes: str, workers: int | None = None) -> RunReport:
        """Compute what is missing of some nodes (default: of all), with progress on stderr, in threads of this process
        or, with more than one worker, in so many processes. Raises TouchstoneError; what is done stays.

        With `device: cuda` each GPU has a process besides, unless `workers` is 1. Processes need a script with
        `if __name__ == "__main__"`.
        """
        return run(self.pipeline, list(nodes), workers, bars=Bars())


def run_file(
    file: Path | str, nodes: Sequence[str] = (), overrides: list[str] | None = None, device: str | None = None
) -> RunReport:
    """Compute what is missing of the nodes (default: of all) with progress on stderr. Raises TouchstoneError."""
    return run(load_pipeline(Path(file), overrides, device=device), list(nodes), bars=Bars())


def open_node(
    file: Path | str,
    node: str,
    overrides: list[str] | None = None,
    missing: bool = False,
    where: str | None = None,
    take: int | None = None,
) -> Dataset:
    """The rows of a node (or of all instances of a matrix) as a Dataset; nothing is computed or written.

    Rows that failed in the last run are left out where the node has no more of them than `max_failed_rows` allows; one
    that two sources have in the same way counts once.
    missing: leave out all rows that are not computed, instead of raising TouchstoneError.
    where, take: as in a view of the pipeline file, "label = fake and split = test", and so many by rank of a hash.
    """
    return rows_of(load_pipeline(Path(file), overrides), node, missing, where, take)


def rows_of(
    pipeline: Pipeline, node: str, missing: bool = False, where: str | None = None, take: int | None = None
) -> Dataset:
    """The same of a pipeline that is loaded already."""
    pipeline.select([node])
    view = _view(pipeline, node, where, take)
    plan = _planned(pipeline, node)
    evaluator = Evaluator(plan.branches, plan.names, pipeline.settings.seed)
    found = evaluator.evaluate(view, lambda sentence: ConfigError(f"{node}: the selection {sentence}"))
    have = [one.sides[0].branch.have[one.sides[0].positions] for one in found]
    lacking = sum(int((~one).sum()) for one in have)
    if lacking and not missing:
        raise TouchstoneError(
            f"{node} lacks {counted(lacking, 'row')}; `touchstone run {node}` computes what is missing"
        )
    present = [one.take(there.nonzero()[0]) for one, there in zip(found, have, strict=True)]
    parts, table = view_of(plan, present)
    return Dataset(plan.store, parts, {**table, **texts_of(present, plan.names.words, pipeline.base)})


def _planned(pipeline: Pipeline, node: str) -> Plan:
    scan, pins = open_scan(pipeline, False), read_pins(pipeline.base)
    return make_plan(pipeline, Store(pipeline.store), scan, pipeline.select([node]), pins=pins, allowed=True)


def _view(pipeline: Pipeline, node: str, where: str | None, take: int | None) -> View:
    """A view of all instances of a node. Raises ConfigError where it has no rows, or for a bad condition."""
    found = [one for one in pipeline.nodes.values() if node in (one.name, one.entry)]
    names = tuple(one.name for one in found if one.stage.kind not in (Kind.FIT, Kind.REDUCE))
    if not names:
        raise ConfigError(f"'{node}' gives an artifact, not rows; `touchstone show {node}` says where its files are")
    parts = {"of": node, "where": where, "take": take}
    given = {name: value for name, value in parts.items() if value is not None}
    return parse(given, (), Document(Path(f"{node}:"), None), lambda name, place: names)


def open_artifact(file: Path | str, node: str, overrides: list[str] | None = None) -> Path:
    """The folder of a finished artifact (a detector, a table, a report); nothing is computed or written.

    Raises ConfigError where the node gives rows, TouchstoneError where it is not made yet, or stale.
    """
    return artifact_of(load_pipeline(Path(file), overrides), node)


def artifact_of(pipeline: Pipeline, node: str) -> Path:
    """The same of a pipeline that is loaded already."""
    plan = _planned(pipeline, node)
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
