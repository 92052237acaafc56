"""The verb `table`: evaluations of a pipeline as one table, alone or beside a paper's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.commands.options import (
    PIPELINE_FILE,
    Assignments,
    File,
    Json,
    Nodes,
    data_of,
    give,
    note,
    planned,
    read,
    say,
    verb,
)

if TYPE_CHECKING:
    from stages.reporting.matrix_table import Evaluation, Table

KIND = "evaluation"


@verb("touchstone table", "touchstone table tables --metric balanced_accuracy --format markdown")
def table(
    nodes: Nodes = None,
    metric: Annotated[str | None, typer.Option(help="of 'evaluate'; default: auc, or the paper's")] = None,
    format: Annotated[Literal["text", "markdown", "latex", "csv", "json"], typer.Option(help="how to print")] = "text",
    paper: Annotated[Path | None, typer.Option(help="a file of published cells, e.g. configs/papers/*.yaml")] = None,
    against: Annotated[str | None, typer.Option(help="differences to this row, on the same images")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="95 % intervals behind the values")] = False,
    percent: Annotated[bool, typer.Option("--percent", help="values in percent")] = False,
    out: Annotated[Path | None, typer.Option(help="write here instead")] = None,
    file: File = PIPELINE_FILE,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """Print finished evaluations as one table: detectors down; training, test and variant across; mean and minimum.

    A star marks values whose intervals are hints (few groups), a dagger fakes of a generator that misses a gate. Run
    `touchstone run` first.
    """
    from pipeline.errors import ConfigError
    from pipeline.printable import json_text
    from stages.reporting import matrix_table, misses, table_formats

    pipeline = read(file, assignments)
    found = finished(pipeline, nodes or [])
    published = None
    if paper is not None:
        data = data_of(paper)
        try:
            published = matrix_table.from_paper(data)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(
                f"{paper} is no file of published cells; expected metric, percent and `cells: {{ROW: {{TRAINED -> "
                "TESTED: {VARIANT: NUMBER}}}`, as in configs/papers"
            ) from None
        percent = percent or bool(data.get("percent"))
    metric = metric or (published.metric if published else "auc")
    made = _table(found, metric, against)
    if published is not None:
        for line in matrix_table.beside(made, published):
            note(line)
    absent, missed = _lacking(pipeline, found), _missed(pipeline, found)
    made.marked |= matrix_table.columns_of([one for one, _ in found], missed)
    for one in [*absent, *made.apart, *(f"{misses.MARK} {line}" for line in misses.lines(missed))]:
        note(one)
    if json or format == "json":
        cells = table_formats.as_data(made, published) | {"lacking": absent, "misses": missed}
        if out is None:
            give(cells)
            return
        text = json_text(cells)
    else:
        text = table_formats.WRITERS[format](table_formats.grid(made, published, percent, intervals or bool(against)))
    if out is None:
        say(*text.split("\n"))
    else:
        out.write_text(text + "\n", encoding="utf-8")
        say(str(out))


def finished(pipeline: Any, names: list[str]) -> list[tuple[Evaluation, Path]]:
    """Finished evaluations, all or the named ones, and their folders. Raises ConfigError where one is not made."""
    from pipeline.errors import ConfigError, TouchstoneError
    from stages.evaluation.json_file import read_json
    from stages.reporting.matrix_table import Evaluation

    chosen = pipeline.nodes.values()
    kept = [one for one in chosen if one.stage.makes == KIND and (not names or {one.name, one.entry} & set(names))]
    lost = [name for name in names if not any(name in (one.name, one.entry) for one in kept)]
    if lost or not kept:
        known = ", ".join(sorted({one.entry for one in chosen if one.stage.makes == KIND})) or "none"
        what = f"'{lost[0]}' is no node" if lost else "there is no node"
        raise ConfigError(f"{pipeline.path.name}: {what} of the stage 'evaluate'; its nodes are {known}")
    plan = planned(pipeline, [one.name for one in kept], recorded=True)
    result = []
    for one in kept:
        made = plan.artifacts[one.name].found
        if made is None:
            raise TouchstoneError(f"'{one.name}' is not made yet, or stale; `touchstone run {one.entry}` makes it")
        (model,) = one.artifacts["model"]
        detector = pipeline.nodes[model]
        about: Any = read_json(made.path / "results.json")
        words = Evaluation(one.name, about, one.config.called, detector.entry, detector.matrix)
        result.append((words, made.path))
    return result


def _lacking(pipeline: Any, found: list[tuple[Evaluation, Path]]) -> list[str]:
    """A sentence for each set of single numbers that does not stand beside detectors of the table."""
    from stages.reporting.baselines import OF_FILES, lacking

    sentences = []
    for numbers, nodes in lacking({one.node: one.results for one, _ in found}).items():
        entries: dict[str, dict[str, None]] = {}
        for node, variants in nodes.items():
            entries.setdefault(pipeline.nodes[node].entry, {}).update(dict.fromkeys(variants))
        places = "; ".join(f"{entry} in {', '.join(variants)}" for entry, variants in entries.items())
        whose = "of the same images" if OF_FILES not in numbers else "of the same images and of their ingest nodes"
        sentences.append(
            f"no {', '.join(numbers)} beside {places}: add the stage measure {whose}, a train node of these detectors "
            "on it and its evaluation, or name that one too (docs/tables.md)"
        )
    return sentences


def _missed(pipeline: Any, found: list[tuple[Evaluation, Path]]) -> dict[str, tuple[str, ...]]:
    """Source of fakes -> the gates that its generator misses, as the manifest of its checkpoint says."""
    from stages.reporting import misses

    by_checkpoint: dict[str, tuple[str, ...]] = {}
    for node in pipeline.nodes.values():
        for setting, file in node.files.items():
            by_checkpoint |= misses.of_entry(f"{node.name}.{setting}", file.entry)
    return misses.of_sources([one.results for one, _ in found], by_checkpoint)


def _table(found: list[tuple[Evaluation, Path]], metric: str, against: str | None) -> Table:
    """The table of a metric, or of differences to a row. Raises ConfigError for a metric or a row that is none."""
    from pipeline.errors import ConfigError
    from pipeline.sentences import nearest
    from stages.evaluation.intervals import METRICS
    from stages.reporting import matrix_table

    if metric not in METRICS:
        raise ConfigError(f"--metric is '{metric}', which no evaluation has{nearest(metric, METRICS)}")
    made = matrix_table.tabulated([one for one, _ in found], metric)
    if against is None:
        return made
    if against not in made.cells:
        raise ConfigError(f"--against is '{against}', which is no row of the table{nearest(against, made.cells)}")
    return matrix_table.differences(found, metric, against)
