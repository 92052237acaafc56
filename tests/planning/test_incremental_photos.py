"""What a change of pictures recomputes, through the real stages: tables of mutations, counted in the stages."""

from __future__ import annotations

import io
import os
import shutil
import threading
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_by_hand import closed, encoded, noise, png, scan
from PIL import Image
from toy_project import ROOT, Project

from pipeline.errors import StageError, TouchstoneError
from pipeline.planning import closure
from stages.equalize import Equalize
from stages.ingest import Ingest

Mutation = Callable[[Any], Any]


class Pictures(Project):
    """A pipeline of `ingest` and `equalize`, and how many rows each of the two computed."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, text: str) -> None:
        super().__init__(folder, patch, text)
        self.counts: Counter[str] = Counter()
        lock = threading.Lock()
        for stage in (Ingest, Equalize):

            def counted(this: Any, config: Any, batch: Any, ctx: Any, inner: Any = stage.compute) -> Any:
                with lock:
                    self.counts[this.name] += len(batch)
                return inner(this, config, batch, ctx)

            patch.setattr(stage, "compute", counted)

    def paint(self, name: str, seed: int) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(picture(seed))

    def counted(self) -> Counter[str]:
        found, self.counts = self.counts, Counter()
        return found


def picture(seed: int) -> bytes:
    """A PNG file of noise."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# Folders


class Photos(Pictures):
    """Two folders of small PNGs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              photos: {stage: ingest, folder: photos, group_by: "[a-z]+"}
              more: {stage: ingest, folder: more}
              images: {stage: equalize, of: [photos, more], size: 8}
              halves: {stage: equalize, of: images, size: 8, color: gray}
            """)  # fmt: skip
        for number in range(12):
            self.paint(f"photos/{'abc'[number % 3]}{number}.png", number)
        for number in range(4):
            self.paint(f"more/x{number}.png", 100 + number)


def paint(name: str, seed: int) -> Mutation:
    return lambda project: project.paint(name, seed)


def touch(project: Project) -> None:
    for path in (project.folder / "photos").iterdir():
        os.utime(path, (1_000_000, 1_000_000))


def copied(project: Project) -> None:
    """Other inodes and another order of the directory."""
    names = sorted((project.folder / "photos").iterdir(), reverse=True)
    for path in names:
        path.rename(path.with_suffix(".old"))
    for path in names:
        shutil.copyfile(path.with_suffix(".old"), path)
        path.with_suffix(".old").unlink()


def beside(project: Photos) -> None:
    """What file managers, notebooks and archives leave behind, and the store itself."""
    names = ("._a0.png", ".ipynb_checkpoints/a0-checkpoint.png", "@eaDir/a0.png/THUMB.png", "__MACOSX/b1.png")
    for number, name in enumerate(names):
        project.paint(f"photos/{name}", 200 + number)
    (project.folder / "photos/Thumbs.db").write_bytes(b"thumbs")
    (project.folder / "store").rename(project.folder / "photos/results")
    project.paint("photos/results/report/0123456789abcdef/figure.png", 204)
    project.write(f"store: photos/results\n{project.file.read_text()}")


def linked(project: Photos) -> None:
    """The files lie in a content store, and links to them in their place."""
    for path in sorted((project.folder / "photos").iterdir()):
        place = project.folder / "content" / path.stem
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
        path.symlink_to(place)
    project.replace("folder: photos", "folder: photos, follow_links: true")


MUTATIONS: dict[str, tuple[Mutation, dict[str, int]]] = {
    "nothing": (lambda project: None, {}),
    "photo added": (paint("photos/d1.png", 50), {"ingest": 1, "equalize": 2}),
    "photo changed": (paint("photos/a0.png", 51), {"ingest": 1, "equalize": 2}),
    "photo removed": (lambda project: (project.folder / "photos/a0.png").unlink(), {}),
    "photo renamed": (lambda p: (p.folder / "photos/a0.png").rename(p.folder / "photos/z9.png"), {}),
    "photo doubled": (lambda p: shutil.copy(p.folder / "photos/a0.png", p.folder / "photos/a00.png"), {}),
    "photo moved to a subfolder": (
        lambda p: (
            (p.folder / "photos/deep").mkdir(),
            (p.folder / "photos/a0.png").rename(p.folder / "photos/deep/a0.png"),
        ),
        {},
    ),
    "all touched": (touch, {}),
    "all copied in another order": (copied, {}),
    "hidden files and results beside": (beside, {}),
    "linked from elsewhere": (linked, {}),
    "folder renamed": (
        lambda p: (
            (p.folder / "photos").rename(p.folder / "pictures"),
            p.replace("folder: photos", "folder: pictures"),
        ),
        {},
    ),
    "grouped otherwise": (lambda p: p.replace('group_by: "[a-z]+"', "group_by: none"), {}),
    "relabeled": (lambda p: p.replace("folder: more", "folder: more, label: fake"), {}),
    "split anew": (lambda p: p.replace("folder: more", "folder: more, splits: {test: 1.0}"), {}),
    "source removed": (lambda p: (p.replace("[photos, more]", "photos"), p.replace("  more:", "  # more:")), {}),
    "another crop": (lambda p: p.replace("[photos, more], size: 8", "[photos, more], size: 9"), {"equalize": 32}),
    "color of the last": (lambda p: p.replace("color: gray", "color: rgb"), {"equalize": 16}),
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of photographs that were run from nothing."""
    folder = tmp_path_factory.mktemp("photos") / "project"
    with pytest.MonkeyPatch.context() as patch:
        project = Photos(folder, patch)
        project.run()
        assert project.counted() == {"ingest": 16, "equalize": 32}
    return folder


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_of_photographs_recomputes_exactly_these_rows(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate, computed = MUTATIONS[name]
    shutil.copytree(photos, tmp_path / "project")
    project = Photos(tmp_path / "project", monkeypatch)
    assert project.run().computed == {}
    rows = project.rows()
    mutate(project)
    assert sum(project.run().computed.values()) == sum(computed.values())
    assert project.counted() == computed
    incremental = project.rows()
    if not computed:
        assert set(incremental.values()) <= set(rows.values())
        return
    project.remove_store()
    project.run()
    assert project.rows() == incremental, "a cold build gives other values"


# Tables and archives

SHOTS = ["ann", "ann", "jos\u00e9", "jos\u00e9"]
PACKED = {f"{person}/{number}.png": picture(20 + place) for place, (person, number) in enumerate(
    [("ann", 0), ("ann", 1), ("bob", 0), ("bob", 1)]
)}  # fmt: skip


class Sources(Pictures):
    """Four pictures in a table with their persons, and four in an archive with a folder per person."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              listed: {stage: ingest, manifest: listed.csv}
              packed: {stage: ingest, zip: packed.zip, group_by: folder, label: fake}
              images: {stage: equalize, of: [listed, packed], size: 8}
            """)  # fmt: skip
        for number, person in enumerate(SHOTS):
            self.paint(f"shots/{person}{number}.png", number)
        self.table = folder / "listed.csv"
        lines = [f"shots/{person}{number}.png,{person}" for number, person in enumerate(SHOTS)]
        self.table.write_text("\n".join(["file,group", *lines]) + "\n", encoding="utf-8")
        self.pack(PACKED)

    def pack(self, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED, year: int = 2020) -> None:
        with zipfile.ZipFile(self.folder / "packed.zip", "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content, compression)

    def line(self, number: int, old: str, new: str) -> None:
        """Another text in a line of the table."""
        lines = self.table.read_text(encoding="utf-8").split("\n")
        assert old in lines[number]
        lines[number] = new.join(lines[number].rsplit(old, 1))
        self.table.write_text("\n".join(lines), encoding="utf-8")

    def selected(self) -> dict[bytes, tuple[bytes, int]]:
        """Row -> its group and split."""
        found = {}
        for branch in self.plan().branches["images"]:
            rows = branch.rows
            found |= {
                bytes(row): (bytes(group), int(split))
                for row, group, split in zip(rows.id, rows.group, rows.split, strict=True)
            }
        return found


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def line(number: int, old: str, new: str) -> Mutation:
    return lambda project: project.line(number, old, new)


def pack(*arguments: Any) -> Mutation:
    return lambda project: project.pack(*arguments)


def file_of_another_system(project: Sources) -> None:
    path = project.folder / "shots" / "jos\u00e93.png"
    path.rename(path.with_name(decomposed(path.name)))


def unpacked(project: Sources) -> None:
    with zipfile.ZipFile(project.folder / "packed.zip") as archive:
        archive.extractall(project.folder / "unpacked")
    project.replace("zip: packed.zip", "folder: unpacked")


def listed_twice(project: Sources) -> None:
    """Under two names."""
    shutil.copy(project.folder / "shots/ann0.png", project.folder / "shots/again.png")
    with project.table.open("a", encoding="utf-8") as file:
        file.write("shots/again.png,ann\n")


def lines_reversed(project: Sources) -> None:
    head, *lines = project.table.read_text(encoding="utf-8").splitlines()
    project.table.write_text("\ufeff" + "\r\n".join([head, *reversed(lines)]), encoding="utf-8")


RUBBISH = {
    "__MACOSX/ann/._0.png": b"x",
    "ann/._0.png": b"y",
    ".thumbnails/0.png": b"z",
    "ann/.DS_Store": b"",
    "bob/": b"",
}
MOVED = {("ann/1b.png" if name == "bob/1.png" else name): content for name, content in PACKED.items()}
ONE = {"ingest": 1, "equalize": 1}
SOURCE_MUTATIONS: dict[str, tuple[Mutation, dict[str, int], bool]] = {
    # name: (mutation, stage -> rows really computed, whether all rows keep group and split)
    "a group with a space": (line(1, "ann", " ann "), {}, True),
    "a group in the other normal form": (line(3, "jos\u00e9", decomposed("jos\u00e9")), {}, True),
    "a group renamed": (line(2, "ann", "eve"), {}, False),
    "a path with a backslash": (line(1, "shots/", "shots\\"), {}, True),
    "a file named by another system": (file_of_another_system, {}, True),
    "lines of the table in another order": (lines_reversed, {}, True),
    "an image of the table twice": (listed_twice, {}, True),
    "packed anew": (pack(dict(reversed(PACKED.items())), zipfile.ZIP_DEFLATED, 2021), {}, True),
    "packed with backslashes": (pack({name.replace("/", "\\"): one for name, one in PACKED.items()}), {}, True),
    "packed with hidden members": (pack(PACKED | RUBBISH), {}, True),
    "an image moved inside the archive": (pack(MOVED), {}, False),
    "unpacked": (unpacked, {}, True),
    "an image added to the archive": (pack(PACKED | {"bob/2.png": picture(30)}), ONE, True),
    "an image of the archive changed": (pack(PACKED | {"bob/1.png": picture(31)}), ONE, False),
}  # fmt: skip


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of sources that were run from nothing."""
    folder = tmp_path_factory.mktemp("cold") / "project"
    with pytest.MonkeyPatch.context() as patch:
        project = Sources(folder, patch)
        project.run()
        assert project.counted() == {"ingest": 8, "equalize": 8}
    return folder


@pytest.fixture
def sources(cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    shutil.copytree(cold, tmp_path / "project")
    return Sources(tmp_path / "project", monkeypatch)


@pytest.mark.parametrize("name", SOURCE_MUTATIONS)
def test_a_mutation_of_sources_recomputes_exactly_these_rows(name: str, sources: Sources) -> None:
    mutate, computed, kept = SOURCE_MUTATIONS[name]
    rows, selected = sources.rows(), sources.selected()
    mutate(sources)
    assert sum(sources.run().computed.values()) == sum(computed.values())
    assert sources.counted() == computed
    found = sources.selected()
    assert all(found.get(row) == place for row, place in selected.items()) is kept
    incremental = sources.rows()
    if not computed:
        assert incremental == rows
        return
    sources.remove_store()
    sources.run()
    assert sources.rows() == incremental, "a cold build gives other values"


# Pictures that are not whole


def half_png(project: Sources) -> None:
    (project.folder / "shots" / "ann0.png").write_bytes(png(12, 10, 8, 2, False, 5))


def half_jpeg(project: Sources) -> None:
    content = encoded(noise(80, 80), "JPEG")
    (project.folder / "shots" / "ann0.jpg").write_bytes(closed(content, (scan(content) + len(content)) // 2))
    project.line(1, ".png", ".jpg")


def half_in_the_archive(project: Sources) -> None:
    project.pack(PACKED | {"bob/1.png": png(12, 10, 8, 2, True, 3)})


@pytest.mark.parametrize("spoil", [half_png, half_jpeg, half_in_the_archive])
def test_a_picture_that_is_not_whole_is_one_failed_row_until_it_is_mended(spoil: Mutation, sources: Sources) -> None:
    rows, text = sources.rows(), sources.file.read_text()
    shutil.copytree(sources.folder, sources.folder.with_name("whole"))
    spoil(sources)
    with pytest.raises(TouchstoneError, match=r"^images: 1 row failed \(0 allowed\): .*(only in part|last line)"):
        sources.run()
    assert sources.counted() == ONE
    sources.write(f"max_failed_rows: 1\n{text}")
    report = sources.run()
    assert sources.counted() == {"equalize": 1}, "it is tried again"
    assert {node: len(failed) for node, failed in report.failed.items()} == {"images": 1}
    served = {place: value for place, value in sources.rows(recorded=True).items() if place in rows}
    assert all(rows[place] == value for place, value in served.items())
    assert len({row for _, row, _ in rows} - {row for _, row, _ in served}) == 1
    for name in ("shots", "listed.csv", "packed.zip"):
        whole = sources.folder.with_name("whole") / name
        (shutil.copytree(whole, sources.folder / name, dirs_exist_ok=True) if whole.is_dir()
         else shutil.copy(whole, sources.folder / name))  # fmt: skip
    sources.write(text)
    sources.run()
    assert not sources.counted()
    assert sources.rows() == rows


def test_a_missing_file_computes_nothing_and_plan_says_what_run_says(sources: Sources) -> None:
    rows, path = sources.rows(), sources.folder / "shots" / "ann0.png"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(TouchstoneError, match=r"ann0\.png"):
        sources.run()
    assert not sources.counted()
    path.write_bytes(content)
    sources.run()
    assert not sources.counted()
    assert sources.rows() == rows


# Code of Touchstone's own


class Copy:
    """A copy of `stages`, from which recipes take the code of modules."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        plain = closure.source_path

        def source_path(name: str) -> Path | None:
            found = plain(name)
            return folder / found.relative_to(ROOT) if found and name.partition(".")[0] == "stages" else found

        patch.setattr(closure, "source_path", source_path)
        patch.setattr(closure, "_own_path", source_path)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / "stages" / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_reworded_sentence_and_a_line_of_a_registry_compute_nothing(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, copy = sources.rows(), Copy(tmp_path / "copy", monkeypatch)
    copy.edit("images/decoding.py", "the header claims {size}", "its header says {size}")
    copy.edit("equalize.py", "one of Pillow's filters", "a filter of Pillow")
    copy.edit("__init__.py", "STAGES = {", 'STAGES = {\n    "dream": "stages.dream:Dream",')
    assert sources.run().computed == {}
    assert sources.rows() == rows
    copy.edit("images/decoding.py", "CANVASES = (0xA5, 0)", "CANVASES = (0xA6, 0)")
    with pytest.raises(StageError, match=r"stages\.images\.decoding \(CANVASES, line \d+\) was changed"):
        sources.run()
    assert not sources.counted()
