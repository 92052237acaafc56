"""The pipeline file that `touchstone quickstart` writes: sources as they were found, one size, three detectors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.commands.options import counting
from pipeline.errors import ConfigError
from pipeline.stage import RowError

SIDES = (128, 96, 64, 48, 32, 24, 16)
"""Sizes that are tried, pixels: the first that nearly all images reach. Larger images are reduced, so that a CPU is
done in minutes; `--size` says otherwise."""

SPARED = 0.02
"""Share of images that may be smaller than the size, or broken: they fail, and the run goes on."""

LEAST = 40
"""Images of each class: with fewer, splits hold too few to learn from or to judge by."""

HEADERS = 2000
"""Images of a source at most whose sizes are looked at, spread over all of it."""

TRUE = "true"
PLACES = "a folder of images, an archive or a manifest"

TEXT = """\
# Written by `touchstone quickstart`. Change what you like and call `touchstone run`: it computes what that changes.
# `touchstone report --open` shows the results. Splits keep groups whole: if several images show one person or scene,
# say so with `group_by` (or a manifest), or the results are too good.
store: store
seed: 0

nodes:
{sources}

  examined: {{stage: examine, of: {view}, max_failed_rows: {spared}}}
  audit: {{stage: audit, of: examined}} # what differs between the classes besides the generator

  # one way for both classes: the middle square, RGB, {size} pixels
  images: {{stage: equalize, of: {view}, size: {size}, max_failed_rows: {spared}}}
  spectra: {{stage: spectrum, of: images, features: [profile, dct2d]}}
  # single numbers, of images and of files as they came: a detector that does no better has shown nothing
  measures: {{stage: measure, of: [images, {sources_of_images}]}}

  detectors:
    stage: train
    matrix: {{detector: [profile-svm, dct2d-cnn, pixel-cnn]}}
    on: [images, spectra]
    detector: "{{detector}}"
  baselines:
    stage: train
    matrix: {{detector: [clipped, border-step, spectral-slope, bytes-per-pixel]}}
    on: measures
    detector: "{{detector}}"

  tables: {{stage: evaluate, matrix: {{model: detectors}}, model: "{{model}}", test: {{raw: [images, spectra]}}}}
  baseline_tables: {{stage: evaluate, matrix: {{model: baselines}}, model: "{{model}}", test: {{raw: measures}}}}

  report:
    stage: report
    of: [baseline_tables, tables]
    images: images
    spectra: spectra
    audits: audit
    title: {title}
"""


@dataclass(frozen=True)
class Source:
    """An `ingest` node. kind: the setting that names its place; more: further settings, in YAML."""

    kind: str
    place: Path
    more: Mapping[str, str]

    def text(self, out: Path) -> str:
        """In YAML, with a path seen from the folder `out` where it lies below it."""
        below = self.place.is_relative_to(out.absolute())
        path = self.place.relative_to(out.absolute()) if below else self.place
        parts = ["stage: ingest", f"{self.kind}: {json.dumps(str(path), ensure_ascii=False)}"]
        return f"{{{', '.join([*parts, *(f'{name}: {value}' for name, value in self.more.items())])}}}"


@dataclass(frozen=True)
class Looked:
    """What was found: (n,) labels of all images, and (m,) shorter sides in pixels of those whose headers were read."""

    labels: NDArray[np.uint8]
    sides: NDArray[np.int64]

    def smaller(self, side: int) -> float:
        """Share of images that are smaller."""
        return float((self.sides < side).mean())


def source(place: Path, **more: str) -> Source:
    """The source that a folder, an archive or a manifest is. Raises ConfigError if it is none."""
    from stages.images.readers.choosing import kind_of

    if not place.exists():
        raise ConfigError(f"{place}: does not exist; expected {PLACES}")
    kind = kind_of(place)
    if kind is None:
        raise ConfigError(f"{place}: is no file that images are read from; expected {PLACES}")
    if not str(place.absolute()).isprintable():
        raise ConfigError(f"{place}: has letters in its path that a pipeline file cannot hold; rename it")
    return Source(kind, place.absolute(), more)


def both_classes(place: Path, out: Path, **more: str) -> tuple[Source, Looked]:
    """The source of a place that holds both classes, by its layout, its columns or the names of its folders.

    Raises ConfigError where nothing tells real from fake.
    """
    from stages.images.readers.choosing import readers

    kind = source(place).kind
    by_columns = kind == "manifest" or not readers()[kind].paths
    for way in ({},) if by_columns else ({"layout": "auto"}, {"label_by": "folder"}):
        found = source(place, **way, **more)
        try:
            looked = look([found], out)
        except ConfigError:
            if "label_by" not in way:
                raise
            break
        if len(np.unique(looked.labels)) == 2:
            return found, looked
    raise ConfigError(
        f"{place}: nothing tells real from fake; expected folders called so, a published layout, or a manifest with "
        "the column 'label'; or give --real DIR and --fake DIR"
    )


def look(sources: Sequence[Source], out: Path) -> Looked:
    """Classes of all images, and sizes of some from their headers.

    The digests of files that this takes are kept in the store of `out` for the run that follows. Raises ConfigError or
    SourceError where a source cannot be read.
    """
    from pipeline.inputs.scan import Scan
    from stages.images.containers import inspect
    from stages.ingest import Ingest, IngestConfig

    store, stage = out.absolute() / "store", Ingest()
    scan = Scan(out, store / ".cache" / "stats", store=store)
    labels, sides = [], []
    for one in sources:
        settings = {name: True if value == TRUE else value for name, value in one.more.items()}
        config = IngestConfig.model_validate({one.kind: str(one.place), **settings})
        found = stage.discover(config, scan)
        good = [row for row in range(len(found.id)) if row not in found.problems]
        labels.append(np.broadcast_to(np.asarray(found.label, np.uint8), len(found.id))[good])
        chosen = good[:: len(good) // HEADERS + 1]
        for row in counting(chosen, f"headers of {one.place.name}", len(chosen)):
            with suppress(RowError, ValueError):  # such a row fails in the run, and is counted there
                container = inspect(stage.read(config, str(found.payload["location"][row])))
                sides.append(min(container.width, container.height))
    return Looked(np.concatenate(labels), np.array(sides, np.int64))


def pipeline_text(sources: Mapping[str, Source], looked: Looked, size: int | None, count: int, out: Path) -> str:
    """The whole file. Raises ConfigError where there are too few images, or none has the size."""
    for label, name in enumerate(("real", "fake")):
        if (found := int((looked.labels == label).sum())) < LEAST:
            raise ConfigError(f"there are {found:,} {name} images, expected at least {LEAST} of each class; add some")
    if not len(looked.sides):
        raise ConfigError("no image has a header that can be read; expected JPEG, PNG, WebP and the like")
    chosen = size or next((side for side in SIDES if looked.smaller(side) <= SPARED), None)
    if chosen is None:
        raise ConfigError(f"many images are smaller than {SIDES[-1]} pixels; expected larger ones")
    if looked.smaller(chosen) > SPARED:
        below = int((looked.sides < chosen).sum())
        raise ConfigError(
            f"--size is {chosen}, and {below:,} of {len(looked.sides):,} images are smaller; give a smaller one"
        )
    names = ", ".join(sources)
    union = f"[{names}]" if len(sources) > 1 else names
    rows = len(looked.labels)
    view = f"{{of: {union}, take: {count}}}" if rows > count else union
    return TEXT.format(
        sources="\n".join(f"  {name}: {one.text(out)}" for name, one in sources.items()),
        sources_of_images=view if rows > count else names,
        view=view,
        size=chosen,
        spared=math.ceil((SPARED + looked.smaller(chosen)) * rows),
        title=json.dumps(
            f"Quickstart: {' against '.join(one.place.name for one in sources.values())}", ensure_ascii=False
        ),
    )
