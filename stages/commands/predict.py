"""The verb `predict`: what a model says of images, how far to trust it, and which files could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.commands.options import (
    PIPELINE_FILE,
    Device,
    File,
    Json,
    compute_and_end,
    counting,
    give,
    note,
    say,
    verb,
)

if TYPE_CHECKING:
    from stages.predict import Prediction

COLUMNS = ("file", "score", "probability", "threshold", "verdict", "band_low", "band_high", "outside", "error")


As = Annotated[
    Literal["real", "fake"] | None, typer.Option("--as", help="whose steps images pass, if the classes' differ")
]


@verb(
    "touchstone predict further_detectors[profile-forest] manifests/garments/dress_001.png",
    "touchstone predict further_detectors[profile-forest] manifests/photos --no-band --json",
)
def predict(
    model: Annotated[
        str,
        typer.Argument(help="a 'train' node that has run, a model's folder, or MANIFEST.yaml#ENTRY of published ones"),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR|ZIP...", help="or tar, Parquet, LMDB, a manifest")],
    band: Annotated[
        bool, typer.Option("--band/--no-band", help="the probability's range under changes that nobody sees")
    ] = True,
    outside: Annotated[bool, typer.Option("--outside/--no-outside", help="compare with the training rows")] = True,
    threshold_fpr: Annotated[
        float | None, typer.Option(help="in place of the model's threshold: share of validation reals called fake")
    ] = None,
    as_class: As = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="folder of files too large for the model's (repeatable)"),
    ] = None,
    heatmap: Annotated[
        Path | None, typer.Option(metavar="DIR", help="draw where in each image the network finds what it decides by")
    ] = None,
    table: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="write a table, too")] = None,
    device: Device = None,
    json: Json = False,
    file: File = PIPELINE_FILE,
) -> None:
    """Say of images whether they are real or fake, or that the model cannot be trusted with them: unsure.

    With --json one line for each image. Exit code 1: some could not be read; they are named.
    """
    from stages.predict import Options, load
    from stages.predicting.files import files

    compute_and_end()
    if table is not None:
        _check_table(table)
    notes: list[str] = []
    found = files(images, notes)
    asked = load(place_of(model, file), device=device, weights=weights or (), as_class=as_class)
    drawer = None if heatmap is None else asked.drawer(heatmap)
    options = Options(band, outside, asked.threshold(threshold_fpr), drawer)
    left_out = drawer.left_out if drawer else ()
    passed = [f"without the member {one}, which has no heat maps of places" for one in left_out]
    for line in (*asked.warnings, *passed, *notes):
        note(line)
    rows, failed = [], 0
    for one in counting(asked.stream(found, options), "predict", len(found)):
        give(one.as_data(), indent=None) if json else say(*_lines(one))
        failed += bool(one.error)
        if table is not None:
            rows.append(_row(one))
    if table is not None:
        _write(table, rows)
    if failed:
        note(f"{failed:,} of {len(found):,} images could not be read")
        raise typer.Exit(1)


def place_of(model: str, file: Path) -> str | Path:
    """The model's folder, if it is a node of the pipeline file."""
    if Path(model).is_dir() or "#" in model or not file.is_file():
        return model
    from pipeline.open import open_artifact

    return open_artifact(file, model)


def _lines(one: Prediction) -> Iterator[str]:
    """For people."""
    if one.error:
        yield f"-       {one.file}: {one.error}"
        return
    band = "" if one.band is None else " [{:.4f}, {:.4f}]".format(*one.band)
    yield f"{one.verdict:<6}  {one.score:.4f}{band}  {one.file}"
    for fact in one.outside:
        seen = " to ".join(f"{end:.4g}" for end in fact.seen) if isinstance(fact.seen, list) else fact.seen
        value = f"{fact.value:.4g}" if isinstance(fact.value, float) else fact.value
        yield f"        {'far outside' if fact.far else 'new'}: {fact.fact} is {value}, the training rows have {seen}"


def _row(one: Prediction) -> dict[str, Any]:
    """For a table."""
    data = one.as_data()
    low, high = data.pop("band") or (None, None)
    data.pop("heatmap", None)
    data["outside"] = "; ".join(f"{fact.fact}={fact.value}{' (far)' * fact.far}" for fact in one.outside)
    return {"error": "", **data, "band_low": low, "band_high": high}


def _check_table(table: Path) -> None:
    """Raises ConfigError where no table can be written, before anything is asked."""
    import errno
    import os

    from pipeline.errors import ConfigError

    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        if table.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise ConfigError(f"{table}: no table can be written there: {error.strerror or error}; name a file") from None


def _write(table: Path, rows: list[dict[str, Any]]) -> None:
    import csv
    import io

    from pipeline.atomic import write_bytes
    from pipeline.printable import printable

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: printable(value) if isinstance(value, str) else value for name, value in row.items()})
    write_bytes(table, text.getvalue().encode())
