"""The columns of every check, made from what is known of the rows."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.auditing.coding import Coding
from stages.auditing.columns import Classes, average_ranks, multiple, strata
from stages.auditing.decision import Column
from stages.auditing.examined import Rows
from stages.auditing.pixels import STATISTICS
from stages.auditing.probes import held_out

SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "tiff": (".tif", ".tiff"),
    "ppm": (".ppm", ".pgm"),
}
LETTERS = {"bit_depth": "H", "borders": "H"}
"""Of checks of two kinds, the kind that their statistics speak for."""

WORDS = {
    "palette.colors": "different colors per pixel", "bit_depth.zero_bits": "values whose low bits are zero",
    "bit_depth.gaps": "unused levels", "bit_depth.comb": "comb in the histogram",
    "grid8.comb": "steps of a JPEG table on the grid", "grid8.comb_elsewhere": "steps of a JPEG table off the grid",
    "grid8.zeros": "small coefficients on the grid", "grid8.zeros_elsewhere": "small coefficients off the grid",
    "grid8.steps": "steps between blocks on the grid", "grid8.steps_elsewhere": "steps between blocks off the grid",
    "double_compression.comb": "steps of another JPEG table",
    "double_compression.zeros_elsewhere": "small coefficients off the grid",
    "double_compression.steps_elsewhere": "steps between blocks off the grid",
    "resampling.peak": "period of second differences", "resampling.lag_1": "correlation of second differences",
    "resampling.lag_2": "correlation of second differences, two apart",
    "native_scale.end": "end of the spectrum", "native_scale.bend": "bend of the spectrum",
    "native_scale.corner": "corners of the spectrum", "high_frequency_energy.share": "energy above half of Nyquist",
    "high_frequency_energy.fourth": "fourth differences by first ones", "noise_level.details": "diagonal details",
    "noise_level.chroma": "diagonal details of chroma", "noise_level.immerkaer": "Immerkaer's estimate",
    "noise_level.quiet": "deviation of quiet blocks",
}  # fmt: skip
"""Statistic in words, where its name needs some."""

Facts = Callable[[Coding], Any]


def columns(rows: Rows) -> list[Column]:
    """Columns of all checks that rest on permutations."""
    made = Columns(rows)
    return [
        column for part in (made.containers, made.names, made.traces, made.set_facts, made.learned) for column in part()
    ]


class Columns:
    """Rows of both classes, and the strata in which they are compared."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.classes = Classes(rows.labels)
        self.codings = [None if row.problem else row.coding for row in rows.rows]
        self.files = self.stratum(lambda file: 0)
        self.jpegs = self.stratum(lambda file: 0 if file.codec == "jpeg" else None)
        self.pixels = strata([None if row.picture is None else 0 for row in rows.rows])

    def stratum(self, key: Facts) -> NDArray[np.int64]:
        """Strata of files that can be read, by a key; None: none."""
        return strata([None if file is None else key(file) for file in self.codings])

    def shares(self, check: str, fact: Facts, own: NDArray[np.int64], label: str = "{}") -> Iterator[Column]:
        """Columns of a fact of files, as far as it is known."""
        values = [None if file is None else fact(file) for file in self.codings]
        known = np.array([value is not None for value in values])
        yield from self.classes.facts(check, values, np.where(known, own, -1), "C", label)

    def numbers(self, fact: Facts) -> NDArray[np.float64]:
        """A number for each file, 0 where it is not known."""
        return np.array([0.0 if file is None else fact(file) or 0.0 for file in self.codings])

    def containers(self) -> Iterator[Column]:
        """What files say of themselves."""
        alike = self.stratum(lambda file: (file.codec, file.mode))
        yield from self.shares("codec", lambda file: file.codec, self.files)
        yield from self.shares("encoder", lambda file: file.encoder, alike)
        yield from self.quantization()
        yield from self.shares("subsampling", lambda file: file.subsampling, self.jpegs)
        yield from self.shares("progressive", lambda file: file.progressive, self.jpegs, "progressive {}")
        yield from self.shares("mode", lambda file: file.mode, self.files)
        yield from self.shares("alpha", has_alpha, self.files, "alpha {}")
        yield from self.shares("bit_depth", lambda file: file.depth, self.files, "{} bits stored")
        yield from self.shares("icc", lambda file: file.icc, self.files, "profile {}")
        yield from self.shares("exif", lambda file: file.exif, self.files, "EXIF {}")
        yield from self.shares("orientation", lambda file: file.orientation, self.files, "orientation {}")
        yield from self.texts()
        yield from self.sizes()

    def quantization(self) -> Iterator[Column]:
        """Tables, and an ordered quality for many of them; gray pictures, which lack a table, are compared apart."""
        own = self.stratum(lambda file: file.subsampling == "gray" if file.codec == "jpeg" else None)
        yield from self.shares("quantization", lambda file: file.tables, own, "table {}")
        coarseness = self.numbers(lambda file: file.coarseness)
        yield from self.classes.statistic("quantization", "coarseness of the table", coarseness, own, "C")

    def texts(self) -> Iterator[Column]:
        """Keys, and keys with values."""
        own = self.stratum(lambda file: None if file.texts is None else 0)
        values = [(file and file.texts) or () for file in self.codings]
        keys = [[text.partition("=")[0] for text in texts] for texts in values]
        yield self.classes.fact("metadata_text", "any text", [bool(texts) for texts in values], own, "C")
        for found in (multiple(keys), multiple(values)):
            for text, having in found.items():
                yield self.classes.fact("metadata_text", text, having.tolist(), own, "C")

    def sizes(self) -> Iterator[Column]:
        """Width and height, their ratio, and coded bytes among files that were coded alike."""
        yield from self.shares("size", lambda file: f"{file.width} x {file.height}", self.files)
        for label in ("width", "height"):
            values = self.numbers(operator.attrgetter(label))
            yield from self.classes.statistic("size", label, values, self.files, "C")
        ratios = self.numbers(aspect)
        yield from self.classes.facts("aspect", [f"{value:.3f}" for value in ratios], self.files, "C", "ratio {}")
        yield from self.classes.statistic("aspect", "ratio", ratios, self.files, "C")
        coded = self.stratum(lambda file: None if file.picture_bytes is None else (file.codec, file.mode, file.tables))
        amounts = self.numbers(lambda file: (file.picture_bytes or 0) / (file.width * file.height))
        yield from self.classes.statistic("file_size_per_pixel", "bytes per pixel", amounts, coded, "H")

    def names(self) -> Iterator[Column]:
        """Forms of file names, and files that cannot be read."""
        rows, facts = self.rows.rows, self.classes.facts
        files = strata([0 if row.file and row.named else None for row in rows])
        stems, suffixes = zip(*(os.path.splitext(os.path.basename(row.name)) for row in rows), strict=True)
        forms = [form(stem) for stem in stems]
        yield from facts("file_name", forms, files, "C", "form {}")
        yield from facts("file_name", [re.sub("0+", "0", one) for one in forms], files, "C", "form {} of any length")
        yield from facts("file_name", suffixes, files, "C", "suffix {}")
        foreign = [
            row.coding is not None and suffix.lower() not in SUFFIXES.get(row.coding.codec, (f".{row.coding.codec}",))
            for row, suffix in zip(rows, suffixes, strict=True)
        ]
        yield self.classes.fact("file_name", "suffix of another format", foreign, files, "C")
        broken = [bool(row.problem) for row in rows]
        stored = strata([0 if row.file else None for row in rows])
        yield self.classes.fact("unreadable", "unreadable", broken, stored, "C")

    def traces(self) -> Iterator[Column]:
        """Statistics of pixels and the facts that rest on them."""
        values, jpeg = self.statistics(), self.jpegs >= 0
        plain = np.where((self.pixels >= 0) & ~jpeg, 0, -1)
        recoded = np.where(
            self.pixels >= 0, self.stratum(lambda file: file.tables if file.codec == "jpeg" else None), -1
        )
        colored = strata([None if row.picture is None or row.picture.gray else 0 for row in self.rows.rows])
        for place, name in enumerate(STATISTICS):
            check = name.partition(".")[0]
            own = {"grid8": plain, "double_compression": recoded}.get(check, self.pixels)
            own = colored if name == "noise_level.chroma" else own
            yield from self.classes.statistic(
                check, WORDS.get(name, name), values[:, place], own, LETTERS.get(check, "H")
            )
        pictures = [row.picture for row in self.rows.rows]
        phases = [picture.phase if picture else "" for picture in pictures]
        for check, own in (("grid8", plain), ("double_compression", recoded)):
            yield from self.classes.facts(check, phases, own, "H", "grid at {}")
        facts = {
            ("palette", "at most 256 colors", "H"): [bool(picture and picture.colors <= 256) for picture in pictures],
            ("bit_depth", "low bits unused", "H"): (values[:, STATISTICS.index("bit_depth.zero_bits")] > 0.98).tolist(),
            ("gray_share", "gray", "C"): [bool(picture and picture.gray) for picture in pictures],
            ("borders", "bars or a frame", "C"): (values[:, STATISTICS.index("borders.lines")] > 0).tolist(),
        }
        for (check, label, letter), having in facts.items():
            yield self.classes.fact(check, label, having, self.pixels, letter)

    def statistics(self) -> NDArray[np.float64]:
        """(n, statistics), zeros where pixels are not known."""
        empty = np.zeros(len(STATISTICS))
        return np.stack([empty if row.picture is None else row.picture.statistics for row in self.rows.rows])

    def set_facts(self) -> Iterator[Column]:
        """Domains."""
        domains = [row.domain for row in self.rows.rows]
        own = strata([0 if row.domain else None for row in self.rows.rows])
        yield from self.classes.facts("source_mix", domains, own, "C")

    def learned(self) -> Iterator[Column]:
        """The score of a classifier on groups that it has not seen."""
        having = np.flatnonzero(self.pixels >= 0)
        labels = self.rows.labels[having]
        if min(labels.sum(), len(labels) - labels.sum()) < 2:
            return
        pictures = [picture for row in having.tolist() if (picture := self.rows.rows[row].picture) is not None]
        kept = [place for place, name in enumerate(STATISTICS) if not name.startswith(("grid8.", "double_"))]
        statistics = self.statistics()[having][:, kept]
        ranks = np.stack([average_ranks(column) for column in statistics.T], axis=1)
        features = np.concatenate([np.stack([one.features for one in pictures]), ranks], axis=1)
        scores = np.zeros(len(self.rows))
        scores[having] = average_ranks(held_out(features, labels, self.rows.groups[having]))
        yield self.classes.column("learned", "held-out score", "rank", scores, self.pixels, "any", one_sided=True)


def has_alpha(file: Coding) -> bool:
    """Whether there is an alpha channel or a transparent color, whatever its values."""
    return file.mode.partition(";")[0].partition("+")[0].endswith("A") or file.mode.endswith("+tRNS")


def aspect(file: Coding) -> float:
    """Width by height, upright."""
    ratio = file.width / file.height
    return 1 / ratio if file.orientation >= 5 else ratio


def form(stem: str) -> str:
    """Digits as 0, runs of letters as a."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "0", stem))
