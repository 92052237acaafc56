"""The rows of an audit from a folder, a zip file or a manifest, read as `ingest` reads them; each file on its own.

A `manifest.csv` inside the folder, or inside or beside the zip file, gives groups, domains and splits. One broken file
never stops the others: it is a row with a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import ConfigError
from pipeline.inputs.archives import Archive
from pipeline.inputs.scan import Scan
from pipeline.sentences import counted
from pipeline.spelling import spellings
from pipeline.stage import Context, RowError
from stages.auditing.examined import MOST_PIXELS, Row, of_content
from stages.images.manifests import Manifest, read_manifest, read_table
from stages.ingest import Ingest, IngestConfig

TABLE = "manifest.csv"
LIST_SUFFIXES = (".csv", ".yaml", ".yml")
PORTION = 32
WORTH_A_PROCESS = 300
"""Files below which one process reads them all."""


@dataclass
class Source:
    """Files of one class. locations: as `Ingest.read` takes them; notes: sentences on what was read otherwise."""

    config: Any
    rows: list[Row]
    locations: list[str]
    notes: list[str] = field(default_factory=list)


def source(path: Path) -> Source:
    """The images of a folder, a zip file or a manifest. Raises ConfigError or SourceError where it is none of them."""
    place = path.absolute()
    kind = "manifest" if path.suffix.lower() in LIST_SUFFIXES else "folder" if path.is_dir() else "zip"
    if not path.exists():
        raise ConfigError(f"{path}: does not exist, expected a folder of images, a zip file or a manifest")
    config = IngestConfig.model_validate({kind: str(place)})
    found = Ingest().discover(config, Scan(place.parent, None))
    start = {"folder": f"{place}/", "zip": f"zip:{place}!"}.get(kind, "")
    locations = [str(one) for one in found.payload["location"]]
    names = [one.removeprefix(start) for one in locations]
    if kind == "manifest":
        root = read_manifest(place).root
        names = [one.removeprefix(f"{root}/") for one in locations]
    columns = (_given(column, len(names)) for column in (found.group, found.split, found.domain))
    rows = [
        Row(name, True, found.problems.get(number, ""), group=group, split=split, domain=domain)
        for number, (name, group, split, domain) in enumerate(zip(names, *columns, strict=True))
    ]
    made = Source(config, rows, locations, list(found.notes))
    return made if kind == "manifest" else _described(made, place, kind)


def _given(column: object, count: int) -> list[str]:
    """What a manifest says of its rows; "" where it says nothing."""
    given = [str(one) for one in column] if isinstance(column, Sequence) else [""] * count
    return ["" if one.startswith("id:") else one for one in given]


def _described(found: Source, place: Path, kind: str) -> Source:
    """The source with what a table inside or beside it says of its rows."""
    table = _table(place, kind)
    if table is None:
        return found
    files = spellings(table.column("file"))
    known = {files[file]: number for number, file in enumerate(table.column("file"))}
    columns = {name: (table.column(name), spellings(table.column(name))) for name in ("split", "group", "domain")}
    names = spellings([row.name for row in found.rows])
    rows, missed = [], 0
    for row in found.rows:
        number = known.get(names[row.name], known.get(PurePosixPath(names[row.name]).name))
        missed += number is None
        if number is not None:
            values: dict[str, Any] = {name: normal[column[number]] for name, (column, normal) in columns.items()}
            row = replace(row, **values)
        rows.append(row)
    notes = [*found.notes, *(f"{table.path}: {note}" for note in table.notes)]
    if missed:
        notes.append(f"{table.path}: says nothing of {counted(missed, 'image')}, which are rows by themselves")
    return replace(found, rows=rows, notes=notes)


def _table(place: Path, kind: str) -> Manifest | None:
    """The table inside a folder, or inside or beside a zip file; columns that no manifest has are passed over."""
    if kind == "folder":
        inside = place / TABLE
        return read_table(inside, inside.read_bytes()) if inside.is_file() else None
    archive = Archive(place)
    if TABLE in archive.members:
        try:
            return read_table(place / TABLE, archive.read(TABLE))
        except RowError as error:
            raise ConfigError(f"{place}: {TABLE} {error}") from error
    beside = next((one for one in (place.with_suffix(".csv"), place.parent / TABLE) if one.is_file()), None)
    return None if beside is None else read_table(beside, beside.read_bytes())


def examined(
    found: Source, workers: int = 1, report: Callable[[int], None] = lambda count: None, max_pixels: int = MOST_PIXELS
) -> list[Row]:
    """The rows with all that is known of their files. report: called with the number of files that were just read."""
    rows = list(found.rows)
    waiting = [number for number, row in enumerate(rows) if not row.problem]
    portions = [waiting[start : start + PORTION] for start in range(0, len(waiting), PORTION)]
    jobs = [(found.config, [found.locations[number] for number in portion], max_pixels) for portion in portions]
    for portion, results in zip(
        portions, _results(jobs, workers if len(waiting) >= WORTH_A_PROCESS else 1), strict=True
    ):
        for number, result in zip(portion, results, strict=True):
            rows[number] = replace(rows[number], **result)
        report(len(portion))
    return rows


Job = tuple[Any, list[str], int]


def _results(jobs: list[Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1:
        yield from map(read, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(read, jobs)


def read(job: Job) -> list[dict[str, Any]]:
    """What becomes known of some files: coding and picture, or a problem."""
    config, locations, max_pixels = job
    stage, ctx, found = Ingest(), Context(0, Ingest.name), list[dict[str, Any]]()
    for number, location in enumerate(locations):
        try:
            coding, picture = of_content(stage.read(config, location), max_pixels)
        except (RowError, ValueError, OSError, MemoryError) as error:
            ctx.fail(number, str(error) or "it does not fit into memory")
            found.append({"problem": ctx.failures[number]})
        else:
            found.append({"coding": coding, "picture": picture})
    return found
