"""The verb `quickstart`: from folders of real and fake images to an audit, three detectors and a report."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import Device, say, verb
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from stages.commands.first_pipeline import Looked, Source

FILE = "pipeline.yaml"


@verb(
    "touchstone quickstart --real real --fake fake",
    "touchstone quickstart --data corpus --size 32 --no-run",
)
def quickstart(
    real: Annotated[Path | None, typer.Option(metavar="DIR", help="real images: a folder, archive or manifest")] = None,
    fake: Annotated[Path | None, typer.Option(metavar="DIR", help="the same of generated images")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="both in one place: folders named real and fake, or a manifest")
    ] = None,
    size: Annotated[int | None, typer.Option(min=16, help="pixels; default: what nearly all images reach")] = None,
    count: Annotated[int, typer.Option(min=80, help="images in all at most, chosen by a hash")] = 4000,
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the pipeline file and its results")] = Path(),
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="read files that links lead to elsewhere")
    ] = False,
    device: Device = None,
    go: Annotated[bool, typer.Option("--run/--no-run", help="run it, or write the file only")] = True,
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="open the report; default: in a terminal")
    ] = None,
) -> None:
    """Write a pipeline.yaml for your images and run it: audit, features, three detectors, report.

    A second call with the same images goes on. No image is changed, and an existing pipeline file is left alone.
    """
    from stages.commands.first_pipeline import TRUE, pipeline_text

    _check_out(out)
    more = {"follow_links": TRUE} if follow_links else {}
    sources, looked = _found(real, fake, data, out, more)
    text = pipeline_text(sources, looked, size, count, out)
    path = out / FILE
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{path} exists and says something else; call `touchstone run` for it, or give --out another folder"
        )
    path.write_text(text, encoding="utf-8")
    say(f"{path}: written, for {len(looked.labels):,} images")
    if go:
        _run(path, device, sys.stdout.isatty() if show is None else show)


def _found(
    real: Path | None, fake: Path | None, data: Path | None, out: Path, more: Mapping[str, str]
) -> tuple[dict[str, Source], Looked]:
    """The source nodes, and their images. Raises ConfigError for places that do not fit together."""
    from stages.commands.first_pipeline import both_classes, look, source

    if (data is None) is (real is None and fake is None) or (real is None) is not (fake is None):
        raise ConfigError("give --real DIR and --fake DIR, or --data DIR with both classes in it")
    if data is not None:
        found, looked = both_classes(data, out, **more)
        return {"found": found}, looked
    assert real is not None
    assert fake is not None
    if real.exists() and fake.exists() and real.samefile(fake):
        raise ConfigError(f"--real and --fake are both {real}; give the folder of each class")
    sources = {"real": source(real, **more), "fake": source(fake, label="fake", **more)}
    return sources, look(list(sources.values()), out)


def _check_out(out: Path) -> None:
    """Make the folder. Raises ConfigError where nothing can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(out, os.W_OK | os.X_OK) else "you have no permission to write"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--out is {out}, where nothing can be written ({reason}); name a folder of yours")


def _run(path: Path, device: str | None, show: bool) -> None:
    """Run the file, with the verdict of the audit as soon as it is there."""
    from pipeline.commands.options import note
    from pipeline.commands.pages import open_in_browser
    from pipeline.open import open_artifact, run_file
    from stages.evaluation.json_file import read_json

    run_file(path, ["audit"], device=device)
    found = read_json(open_artifact(path, "audit") / "audit.json")
    different = [f"{one['name']} ({one['kind']})" for one in found["checks"] if one["verdict"] == "differs"]
    say(f"audit: {found['verdict']}; bias: {found['bias']}{': ' if different else ''}{', '.join(different)}")
    report = run_file(path, device=device)
    for line in report.notes:
        note(line)
    (page,) = report.pages
    of = "" if path == Path(FILE) else f" -f {path}"
    say(f"the report: {page}")
    say(f"the same as a table: `touchstone table{of}`; after a change of the file: `touchstone run{of}`")
    if show:
        open_in_browser(Path(page))
