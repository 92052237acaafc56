"""README.md of an export: what the rows are, how many of which kind, whose, and how they came to be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.sentences import counted
from pipeline.stage import SPLITS
from stages.exporting.attributions import FILE as ATTRIBUTIONS
from stages.exporting.attributions import NOT_STATED
from stages.exporting.contract import COLUMNS, LABELS, Format, Given

FILE = "README.md"


def summary(given: Given) -> str:
    """One sentence: what is exported."""
    labels = Counter(given.rows.column("label").tolist())
    classes = " and ".join(f"{labels[number]:,} {word}" for number, word in enumerate(LABELS) if labels[number])
    chosen = f", chosen by {given.where}" if given.where else ""
    return f"{counted(len(given.rows), 'row')} of the node {given.node}{chosen}: {classes}; made by Touchstone."


def card(given: Given, form: Format, licences: Mapping[str, int]) -> str:
    """The text of the card, in which no place is named. licences: of how many rows."""
    return "\n".join([
        f"# {given.node}", "", summary(given), "",
        "## Read it", "", "EXPORT is this folder.", "", form.again, "",
        "## Rows", "", *_counts(given), "",
        "## Licences", "", *_licences(licences), "",
        "## Columns and fields", "", *_fields(given), "",
        "## Lineage", "", *_lineage(given),
    ]) + "\n"  # fmt: skip


def _counts(given: Given) -> Iterator[str]:
    """Rows by source, class and split."""
    columns = (given.rows.column(name).tolist() for name in ("source", "label", "split"))
    counts = Counter(zip(*columns, strict=True))
    yield f"| source | class | {' | '.join(SPLITS)} |"
    yield f"|---|---|{'---:|' * len(SPLITS)}"
    for source, label in sorted({one[:2] for one in counts}):
        numbers = " | ".join(f"{counts[source, label, split]:,}" for split in SPLITS)
        yield f"| {_cell(source)} | {LABELS[label]} | {numbers} |"
    yield ""
    yield "Rows of one group are in one split. Train on `train`, choose on `val`, look at `test` once."


def _licences(licences: Mapping[str, int]) -> Iterator[str]:
    for name, count in licences.items():
        yield f"- {name}: {counted(count, 'row')}"
    yield ""
    yield f"`{ATTRIBUTIONS}` has licence, author and address of each row, as far as its source states them."
    if NOT_STATED in licences:
        yield f"Where it says '{NOT_STATED}', nothing is permitted by this card: ask whoever made the pictures."


def _fields(given: Given) -> Iterator[str]:
    yield "| name | what |"
    yield "|---|---|"
    for name, about in COLUMNS.items():
        yield f"| `{name}` | {about} |"
    for name, field in given.fields.items():
        axes = f" ({', '.join(field.axes)})" if field.axes else ""
        shape = " x ".join(map(str, field.shape))
        yield f"| `{name}` | {' '.join(part for part in (field.dtype, shape + axes, _cell(field.units)) if part)} |"


def _lineage(given: Given) -> Iterator[str]:
    """Each chain with its steps: settings, and digests of recipes, files and artifacts."""
    sources = given.rows.column("source")
    numbers = given.rows.part_numbers
    yield f"Seed {given.seed}. A recipe is a digest of all that a step's values depend on: code, settings, libraries."
    for number, part in enumerate(given.rows.parts):
        names = ", ".join(sorted(set(sources[numbers == number].tolist())))
        yield ""
        yield f"### {part.chain.hex()}"
        yield ""
        yield f"{counted(len(part.ids), 'row')} of {names}:"
        yield ""
        for place, step in enumerate(part.steps, 1):
            yield from _step(place, step)


def _step(place: int, step: Mapping[str, Any]) -> Iterator[str]:
    settings = {name: value for name, value in sorted((step.get("config") or {}).items()) if value is not None}
    yield f"{place}. {step['stage']}, recipe {step['recipe']}"
    if settings:
        yield f"   - settings: `{json.dumps(settings, sort_keys=True, ensure_ascii=False)}`"
    for kind in ("files", "artifacts"):
        for name, digest in sorted((step.get(kind) or {}).items()):
            yield f"   - {name}: {digest}"
    environment = ", ".join(f"{name} {value}" for name, value in sorted((step.get("environment") or {}).items()))
    if environment:
        yield f"   - environment: {environment}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
