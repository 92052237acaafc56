"""A table as text, Markdown, LaTeX, CSV or JSON; each cell alone, or beside what a paper has there."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from stages.reporting.matrix_table import Cell, Column, Table
from stages.reporting.misses import MARK

WIDTH = 110
"""Letters of a line of text; longer tables go on below."""
NOTHING = "-"
FEW = "*"
"""Behind a value with fewer than 20 effective groups."""

LATEX = str.maketrans(
    {one: f"\\{one}" for one in "&%$#_{}"}
    | {"~": r"\~{}", "^": r"\^{}", "\\": r"\textbackslash{}", MARK: r"\textdagger{}"}
)

Lines = list[list[str]]


def grid(table: Table, paper: Table | None, percent: bool, intervals: bool) -> Lines:
    """Header and rows of words: name, columns, mean, minimum and the null results."""
    trained = list(dict.fromkeys(column.trained for column in table.columns))
    null = [one for one in trained if any(key[1] == one for key in table.null)]
    columns = (f"{column}{MARK}" if column in table.marked else str(column) for column in table.columns)
    head = ["detector", *columns, "mean", "minimum"]
    lines = [[*head, *(f"null {one}" if len(trained) > 1 else "null" for one in null)]]
    for row, cells in table.cells.items():
        theirs = paper.cells.get(row, {}) if paper else {}
        words = [row]
        for column in table.columns:
            words.append(_pair(_word(cells.get(column), percent, intervals), theirs.get(column), paper, percent))
        for name in ("mean", "least"):
            published = Cell(getattr(paper, name)(row)) if paper and row in paper.cells else None
            own = _number(getattr(table, name)(row), percent)
            count, all_of_them = len(table.values(row)), len(table.columns)
            of = f" ({count} of {all_of_them})" if name == "mean" and 0 < count < all_of_them else ""
            words.append(_pair(f"{own}{of}", published, paper, percent))
        words += [_word(table.null.get((row, one)), percent, intervals) for one in null]
        lines.append(words)
    return lines


def _pair(ours: str, theirs: Cell | None, paper: Table | None, percent: bool) -> str:
    return ours if paper is None else f"{ours} / {_word(theirs, percent, False)}"


def _word(cell: Cell | None, percent: bool, intervals: bool) -> str:
    if cell is None or cell.value is None:
        return NOTHING
    interval = ""
    if intervals and cell.low is not None and cell.high is not None:
        interval = f" ({_number(cell.low, percent)} to {_number(cell.high, percent)})"
    return f"{_number(cell.value, percent)}{FEW if cell.few else ''}{interval}"


def _number(value: float, percent: bool) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def as_text(lines: Lines) -> str:
    """Columns one under the other; a table that is too wide goes on below, with its names again."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    blocks: list[list[int]] = [[]]
    for place in range(1, len(widths)):
        taken = widths[0] + sum(widths[other] + 2 for other in (*blocks[-1], place))
        if blocks[-1] and taken > WIDTH:
            blocks.append([])
        blocks[-1].append(place)
    parts = []
    for block in blocks:
        parts.append("\n".join(
            "  ".join([line[0].ljust(widths[0]), *(line[place].rjust(widths[place]) for place in block)]).rstrip()
            for line in lines
        ))  # fmt: skip
    return "\n\n".join(parts)


def as_markdown(lines: Lines) -> str:
    """A table of pipes."""
    rows = [[word.replace("|", r"\|") for word in line] for line in lines]
    rule = ["---", *("---:" for _ in lines[0][1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (rows[0], rule, *rows[1:]))


def as_latex(lines: Lines) -> str:
    """A `tabular`; no package is needed."""
    rows = [" & ".join(word.translate(LATEX).replace(" > ", r" $\to$ ") for word in line) + r" \\" for line in lines]
    body = [r"\hline", rows[0], r"\hline", *rows[1:], r"\hline"]
    return "\n".join([rf"\begin{{tabular}}{{l{'r' * (len(lines[0]) - 1)}}}", *body, r"\end{tabular}"])


def as_csv(lines: Lines) -> str:
    """Values separated by commas."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().rstrip("\n")


def as_data(table: Table, paper: Table | None) -> dict[str, Any]:
    """Plain data: one entry per cell with its full digits, and mean and minimum of each row."""
    cells = []
    for row, found in table.cells.items():
        for column, cell in found.items():
            entry: dict[str, Any] = {"row": row, **column._asdict(), "value": cell.value}
            entry |= {"interval": [cell.low, cell.high], "few_groups": cell.few}
            if paper is not None:
                entry["paper"] = _published(paper, row, column)
            cells.append(entry)
    rows = []
    for row in table.cells:
        rows.append({"row": row, "mean": _plain(table.mean(row)), "minimum": _plain(table.least(row))})
        if paper is not None:
            rows[-1] |= {"paper_mean": _plain(paper.mean(row)), "paper_minimum": _plain(paper.least(row))}
    null = [{"row": row, "trained": trained, "auc": cell.value, "interval": [cell.low, cell.high]}
            for (row, trained), cell in table.null.items()]  # fmt: skip
    return {"metric": table.metric, "cells": cells, "rows": rows, "null": null}


def _published(paper: Table, row: str, column: Column) -> float | None:
    cell = paper.cells.get(row, {}).get(column)
    return cell.value if cell else None


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


WRITERS = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}
