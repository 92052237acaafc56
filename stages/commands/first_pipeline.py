"""The pipeline file that `touchstone quickstart` writes: sources as they were found, one size, three detectors."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

SIDES = (256, 128, 96, 64, 48, 32, 24, 16)
"""Sizes that are tried, pixels: the first that nearly all images reach."""

LARGEST = 128
"""Pixels; larger images are reduced, so that a CPU is done in minutes. `--size` says otherwise."""

SPARED = 0.02
"""Share of images that may be smaller than the size, or broken: they fail, and the run goes on."""

LEAST = 40
"""Images of each class: with fewer, splits hold too few to learn from or to judge by."""

MANIFESTS = (".csv", ".yaml", ".yml")

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
  measures: {{stage: measure, of: images}} # single numbers: a detector that does no better has shown nothing

  detectors:
    stage: train
    matrix: {{detector: [profile-svm, dct2d-cnn, pixel-cnn]}}
    on: [images, spectra]
    detector: "{{detector}}"
  baselines:
    stage: train
    matrix: {{detector: [clipped, border-step, spectral-slope]}}
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
    """An `ingest` node: its settings, and what is shown of it in a title."""

    settings: Mapping[str, str]
    shown: str

    def text(self, out: Path | None) -> str:
        """In YAML, with paths seen from the folder `out` where they lie below it."""
        parts = ["stage: ingest"]
        for name, value in self.settings.items():
            path = Path(value)
            if out is not None and path.is_absolute() and path.is_relative_to(out.absolute()):
                value = os.path.relpath(path, out.absolute())
            parts.append(f"{name}: {json.dumps(value, ensure_ascii=False) if path.is_absolute() else value}")
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True)
class Looked:
    """What was found: (n,) labels, and (n,) shorter sides of the images in pixels."""

    labels: NDArray[np.uint8]
    sides: NDArray[np.int64]


def source(place: Path, **more: str) -> Source:
    """The source that a folder, an archive or a manifest is. Raises ConfigError if it is none."""
    from stages.images.readers.choosing import kind_of

    if not place.exists():
        raise ConfigError(f"{place}: does not exist; expected a folder of images, an archive or a manifest")
    manifest = place.is_file() and place.suffix.lower() in MANIFESTS
    kind = "manifest" if manifest else kind_of(place)
    if kind is None:
        raise ConfigError(f"{place}: holds no images that are known; expected a folder, an archive or a manifest")
    return Source({kind: str(place.absolute()), **more}, place.absolute().name)


def both_classes(place: Path, out: Path) -> tuple[Source, Looked]:
    """The source of a place that holds both classes, by its layout, its columns or the names of its folders.

    Raises ConfigError where nothing tells real from fake.
    """
    plain = source(place)
    manifest = "manifest" in plain.settings
    for more in ({},) if manifest else ({"layout": "auto"}, {"label_by": "folder"}):
        found = source(place, **more)
        try:
            looked = look({"found": found}, out)
        except ConfigError:
            if not more.get("label_by"):
                raise
            break
        if len(np.unique(looked.labels)) == 2:
            return found, looked
    raise ConfigError(
        f"{place}: nothing tells real from fake; expected folders called so, a published layout, or a manifest with "
        "the column 'label'; or give --real DIR and --fake DIR"
    )


def look(sources: Mapping[str, Source], out: Path) -> Looked:
    """Classes and sizes of all images, from their headers; what is learned is kept in the store of `out`."""
    from pipeline.open import open_node, run_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sources.yaml")
        lines = [f"  {name}: {one.text(None)[:-1]}, max_failed_rows: 1000000000}}" for name, one in sources.items()]
        path.write_text(
            "\n".join((f"store: {json.dumps(str(out.absolute() / 'store'))}", "nodes:", *lines, "")), "utf-8"
        )
        try:
            run_file(path)
        except ConfigError as error:  # without a place in a file that nobody wrote
            raise ConfigError(re.sub(r"^sources\.yaml:\d+ nodes\.\w+ ", "", str(error))) from None
        rows = [open_node(path, name) for name in sources]
    return Looked(
        np.concatenate([one.column("label") for one in rows]),
        np.concatenate([one.array("native_size")[:].min(axis=1).astype(np.int64) for one in rows]),
    )


def pipeline_text(sources: Mapping[str, Source], looked: Looked, size: int | None, count: int, out: Path) -> str:
    """The whole file. Raises ConfigError where there are too few images, or none has the size."""
    for label, name in enumerate(("real", "fake")):
        if (found := int((looked.labels == label).sum())) < LEAST:
            raise ConfigError(f"there are {found:,} {name} images, expected at least {LEAST} of each class; add some")
    chosen = size or next((side for side in SIDES if side <= LARGEST and _smaller(looked, side) <= SPARED), None)
    if chosen is None:
        raise ConfigError(f"many images are smaller than {SIDES[-1]} pixels; expected larger ones")
    if _smaller(looked, chosen) > SPARED:
        below = int((looked.sides < chosen).sum())
        raise ConfigError(
            f"--size is {chosen}, and {below:,} of {len(looked.sides):,} images are smaller; give a smaller one"
        )
    names = ", ".join(sources)
    union = f"[{names}]" if len(sources) > 1 else names
    rows = len(looked.labels)
    return TEXT.format(
        sources="\n".join(f"  {name}: {one.text(out)}" for name, one in sources.items()),
        view=f"{{of: {union}, take: {count}}}" if rows > count else union,
        size=chosen,
        spared=int((looked.sides < chosen).sum()) + int(SPARED * rows),
        title=json.dumps(f"Quickstart: {' against '.join(one.shown for one in sources.values())}", ensure_ascii=False),
    )


def _smaller(looked: Looked, side: int) -> float:
    """Share of images that are smaller."""
    return float((looked.sides < side).mean())
