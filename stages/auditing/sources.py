"""The audit of two sources of images, and of a third one as a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.sentences import counted
from stages.auditing.audit import Result, audit, whole
from stages.auditing.examined import Row
from stages.auditing.reading import examined, source
from stages.auditing.vocabulary import DIFFERS

NAMED_PROBLEMS = 20
SILENT_GROUPS = "no groups are known, so the verdict holds for rows that are independent of one another"


def audited(
    real: Path, fake: Path, control: Path | None, workers: int, tell: Callable[[str], None] = lambda line: None
) -> tuple[Result, list[str]]:
    """The result, and sentences on what was read and could not be.

    tell: called while files are read. Raises ConfigError or SourceError where a source cannot be read at all.
    """
    notes: list[str] = []
    read = [_rows(path, workers, tell, notes) for path in (real, fake, *([control] if control is not None else []))]
    if not any(row.group for rows in read[:2] for row in rows):
        notes.append(SILENT_GROUPS)
    result = audit(read[0], read[1])
    if control is not None:
        shown = {one.name for one in audit(read[0], read[2]).findings if one.verdict == DIFFERS}
        result = whole(result.findings, shown)
    return result, notes


def _rows(path: Path, workers: int, tell: Callable[[str], None], notes: list[str]) -> Sequence[Row]:
    """The rows of one source; files that cannot be read are named."""
    found = source(path)
    done, shown = 0, 0

    def report(count: int) -> None:
        nonlocal done, shown
        done += count
        if done - shown >= 1000 or (shown and done == len(found.rows)):
            shown = done
            tell(f"{path}: {done:,} of {counted(len(found.rows), 'image')}")

    rows = examined(found, workers, report)
    broken = [row for row in rows if row.problem]
    notes += [one if str(path) in one else f"{path}: {one}" for one in found.notes]
    notes += [f"{path}: {row.name}: {row.problem}" for row in broken[:NAMED_PROBLEMS]]
    if len(broken) > NAMED_PROBLEMS:
        notes.append(f"{path}: {counted(len(broken) - NAMED_PROBLEMS, 'further image')} cannot be read")
    return rows
