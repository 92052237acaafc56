"""The rows of an audit from any source that `ingest` reads, by its readers; each file on its own.

A `manifest.csv` inside a folder, or inside or beside an archive, gives groups, domains and splits. One broken file
never stops the others: it is a row with a problem.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import ConfigError, StageError
from pipeline.inputs.scan import Scan
from pipeline.sentences import counted
from pipeline.spelling import normalized, spellings
from pipeline.stage import Context, RowError
from stages.auditing.examined import MOST_PIXELS, Row, of_content
from stages.images.manifests import Manifest, read_manifest, read_table
from stages.images.readers.choosing import FILES, kind_of, readers
from stages.images.readers.naming import class_table, source_rows
from stages.ingest import Ingest, IngestConfig

TABLE = "manifest.csv"
ANOTHER = "zip"
"""Reader of files whose endings no reader knows."""

PORTION = 32
WORTH_A_PROCESS = 300
"""Files below which one process reads them all."""

COLUMNS = ("split", "group", "domain")
OF_ONE_ROW = re.compile("id:[0-9a-f]{32}")
"""A group that a source has made for a row whose group is not given."""
PLACES = "a folder of images, a zip or tar file, a Parquet file, an LMDB database or a manifest"


@dataclass
class Source:
    """Files of one class. locations: as `Ingest.read` takes them; notes: sentences on what was read otherwise."""

    config: Any
    rows: list[Row]
    locations: list[str]
    notes: list[str] = field(default_factory=list)


def source(path: Path) -> Source:
    """The images of a place that a reader knows. Raises ConfigError or SourceError where it is none."""
    place = path.absolute()
    if not path.exists():
        raise ConfigError(f"{path}: does not exist, expected {PLACES}")
    kind = kind_of(place) or ANOTHER
    if place.is_file() and kind == FILES:
        raise ConfigError(f"{path}: is one image, expected {PLACES}")
    reader = readers()[kind]
    links = {"follow_links": True} if "follow_links" in reader.settings else {}
    config = IngestConfig.model_validate({kind: str(place), **links})
    scan = Scan(place.parent, None)
    listed = reader.rows(config, scan)
    words, listed.columns.label = listed.columns.label, None
    found = source_rows(config, listed, scan)
    locations = [str(one) for one in found.payload["location"]]
    root = read_manifest(place).root if kind == "manifest" else place
    names = [one.removeprefix(f"{kind}:").removeprefix(str(root))[1:] for one in locations]
    columns = (_given(column, len(names)) for column in (found.group, found.split, found.domain))
    rows = [
        Row(name, True, found.problems.get(number, ""), group=group, split=split, domain=domain, named=reader.paths)
        for number, (name, group, split, domain) in enumerate(zip(names, *columns, strict=True))
    ]
    made = Source(config, rows, locations, [*found.notes, *_of_both_classes(words or ())])
    return made if kind == "manifest" else _described(made, place)


def _of_both_classes(words: Sequence[str]) -> list[str]:
    """A note on labels that part the rows of one class."""
    table = class_table({})
    classes = [table.get(normalized(word).lower(), "") for word in words]
    if len(set(classes) - {""}) < 2:
        return []
    counts = " and ".join(f"{classes.count(name):,} {name}" for name in ("real", "fake"))
    return [f"its labels call {counts}, and all of them count as one class here; part them to compare them"]


def _given(column: object, count: int) -> list[str]:
    """What a manifest says of its rows; "" where it says nothing."""
    given = [str(one) for one in column] if isinstance(column, Sequence) else [""] * count
    return ["" if OF_ONE_ROW.fullmatch(one) else one for one in given]


def _described(found: Source, place: Path) -> Source:
    """The source with what a table inside or beside it says of its rows."""
    table = table_of(place)
    if table is None:
        return found
    said = described(table, [row.name for row in found.rows])
    rows = [replace(row, **(more or {})) for row, more in zip(found.rows, said, strict=True)]
    missed = said.count(None)
    notes = [*found.notes, *(f"{table.path}: {note}" for note in table.notes)]
    if missed:
        notes.append(f"{table.path}: says nothing of {counted(missed, 'image')}, which are rows by themselves")
    return replace(found, rows=rows, notes=notes)


def described(table: Manifest, names: Sequence[str]) -> list[dict[str, Any] | None]:
    """What a table says of images by `COLUMNS`, whatever the spelling; None: nothing.

    names: with the folders below the place that the table describes. A line may leave them out where one image alone
    has its name.
    """
    files = spellings(table.column("file"))
    known = {files[file]: number for number, file in enumerate(table.column("file"))}
    columns = {name: (table.column(name), spellings(table.column(name))) for name in COLUMNS}
    spelled = spellings(names)
    last = Counter(PurePosixPath(one).name for one in spelled.values())
    whole = {spelled[name] for name in names} & known.keys()  # lines that name an image by its whole path
    numbers = []
    for path in (spelled[name] for name in names):
        name = PurePosixPath(path).name
        short = name if name not in whole and last[name] == 1 else None  # else whose line it is cannot be told
        numbers.append(known.get(path, known.get(short) if short else None))
    return [
        None if number is None else {name: normal[column[number]] for name, (column, normal) in columns.items()}
        for number in numbers
    ]


def table_of(place: Path) -> Manifest | None:
    """The table inside a folder, or inside or beside a file that holds images; columns that no manifest has are passed
    over.

    Raises ConfigError for one that cannot be read.
    """
    if place.is_dir():
        inside = place / TABLE
        return read_table(inside, inside.read_bytes()) if inside.is_file() else None
    try:
        content = readers()[kind_of(place) or ANOTHER].member(place, TABLE)
    except RowError as error:
        raise ConfigError(f"{place}: {TABLE} {error}") from error
    if content is not None:
        return read_table(place / TABLE, content)
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
        try:
            yield from pool.map(read, jobs)
        except BrokenProcessPool:
            raise StageError("a process that reads files was ended; --workers 1 reads them in this one") from None


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
