"""The commands of README and docs, as they stand there, and a small project in which they can be typed."""

from __future__ import annotations

import re
import shlex
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_HERE = "# (not here)"
"""Marks, in the pages too, what needs a file, a cluster or a device that no test has."""

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
INLINE = re.compile(r"`((?:touchstone|make) [^`]+)`")
PROGRAMS = ("touchstone", "dask", "make")


@dataclass(frozen=True)
class Command:
    """A line to be typed; here: a test can run it."""

    page: str
    text: str
    here: bool = True

    @property
    def words(self) -> list[str]:
        """Program and arguments, without what a shell does around them: settings, pipes, redirections, comments."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|&>")
        lexer.whitespace_split = True
        found: list[str] = []
        for word in lexer:
            if word in ("|", "&", ">"):
                break
            found.append(word)
        starts = (number for number, word in enumerate(found) if word in PROGRAMS)
        return found[next(starts, 0) :]


def typed(page: Path) -> Iterator[Command]:
    """Lines behind a `$`, in order; of scripts those that call a program of ours, never to be run."""
    name = str(page.relative_to(ROOT))
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        for line in fence[2].splitlines():
            if fence[1] == "console" and line.lstrip().startswith("$ "):
                yield Command(name, line.lstrip()[2:], NOT_HERE not in line)
            if fence[1] == "bash" and re.match(r"(srun )?(touchstone|dask) ", line):
                yield Command(name, line, False)


def mentioned(page: Path) -> Iterator[Command]:
    """Commands in running text; capitals stand for what a reader puts there."""
    name = str(page.relative_to(ROOT))
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in INLINE.finditer(text):
        words = " ".join(found[1].split())
        if "..." not in words and "|" not in words:
            yield Command(name, words, False)


PIPELINE = """
nodes:
  photos: {stage: ingest, manifest: photos.csv}
  fakes:
    stage: sample
    matrix: {generator: [stylegan2], variant: [raw]}
    checkpoint: manifests/generators.yaml#{generator}-{variant}
    count: 24
  images: {stage: equalize, of: [photos, fakes], size: 64}
  spectra: {stage: spectrum, matrix: {of: [images]}, of: "{of}", features: [profile, fft2d]}
  detectors:
    stage: train
    matrix: {train: [stylegan2-raw], detector: [fft2d-cnn]}
    on: {of: "spectra[images]", where: "source in [photos, 'fakes[{train}]']"}
    detector: {preset: "{detector}", widths: [4], epochs: 1}
  further_detectors:
    stage: train
    matrix: {detector: [profile-forest]}
    on: "spectra[images]"
    detector: {preset: "{detector}", trees: 5}
  pixels: {stage: train, on: images, detector: {preset: pixel-cnn, widths: [4], epochs: 1}}
  tables: {stage: evaluate, matrix: {model: further_detectors}, model: "{model}", test: "spectra[images]"}
  report: {stage: report, of: tables, images: images, container: photos}
"""
"""Nodes that the pages name, as small as they can be."""

PHOTOGRAPHS = {"train": 10, "val": 5, "test": 5}


def project(folder: Path) -> Path:
    """A folder with all that the pages' commands name: a pipeline, photographs, classes in folders and archives."""
    table = re.findall(r"manifests/\w+(?=\.yaml})", (ROOT / "pipeline.yaml").read_text(encoding="utf-8"))[0] + ".csv"
    lines = (ROOT / table).read_text(encoding="utf-8").splitlines()[1:]
    folder.mkdir(parents=True)
    rows = ["file,group,split"]
    for split, count in PHOTOGRAPHS.items():
        chosen = [line.split(",") for line in lines if line.split(",")[3] == split][:count]
        rows += [f"{one[0]},{one[0]},{split}" for one in chosen]
    (folder / "photos.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    for row in rows[1:]:
        file = row.partition(",")[0]
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "manifests" / file, folder / file)
    (folder / "tests").symlink_to(ROOT / "tests")
    shutil.copy(folder / rows[1].partition(",")[0], folder / "photo.jpg")
    shutil.copy(ROOT / "tests" / "golden" / "generators" / "progan_tf_32_nofuse.pkl", folder / "snapshot.pkl")
    for number, name in enumerate(("real", "fake", "photographs", "generated", "other_reals", "folder")):
        pictures(folder / name, number, 3 if name == "folder" else 44)
    for name in ("real", "fake", "archive"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for file in sorted((folder / name.replace("archive", "folder")).iterdir()):
                archive.write(file, file.name)
    with tarfile.open(folder / "archive.tar", "w") as tar:
        tar.add(folder / "folder", "folder")
    return folder


def pictures(folder: Path, kind: int, count: int, side: int = 24) -> None:
    """Pictures of noise; those of an odd kind are smooth."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng((kind, number)).integers(0, 256, (side, side, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        if kind % 2:
            image = image.resize((side // 2, side // 2)).resize((side, side), Image.Resampling.BILINEAR)
        image.save(folder / f"{number}.png")
