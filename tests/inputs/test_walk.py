"""What a walk through a folder leaves out, which links it follows, and under which names files are found."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs import many_stats, walk
from pipeline.inputs.scan import Listing, Scan
from pipeline.inputs.walk import Walk, four
from pipeline.stage import SourceRows
from stages.ingest import Ingest, IngestConfig

OURS = ["a.png", "ann/b.png", "ann/deep/c.png"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "root", *OURS)
    return tmp_path / "root"


def look(root: Path, follow_links: bool = False, **more: Any) -> Listing:
    return Scan(root.parent, None, **more).folder(root.name, (".png",), follow_links)


def discover(base: Path, **settings: Any) -> SourceRows:
    return Ingest().discover(IngestConfig.model_validate(settings), Scan(base, None))


# Hidden


def test_hidden_files_and_folders_are_left_out_and_counted_in_one_note(root: Path) -> None:
    write(
        root,
        ".ipynb_checkpoints/a-checkpoint.png",
        ".thumbnails/large/a.png",
        "ann/.Trash-1000/files/b.png",
        "ann/._b.png",
        "ann/@eaDir/b.png/SYNOPHOTO_THUMB_M.png",
        "__MACOSX/a.png",
        "$RECYCLE.BIN/a.png",
        "ann/Thumbs.db",
        ".DS_Store",
        "notes.txt",
    )
    listing = look(root)
    assert listing.paths == OURS
    assert listing.ignored == 1
    (note,) = listing.notes
    assert note.startswith("9 hidden or system entries left out, e.g. ")
    hidden, passed = discover(root.parent, folder="root").notes
    assert hidden == f"root: {note}"
    assert passed.startswith("root: 1 files passed over that do not end in ")


def test_a_root_may_itself_be_hidden_and_a_manifest_may_name_hidden_files(tmp_path: Path) -> None:
    write(tmp_path / ".cache" / "photos", "a.png", "._a.png")
    assert len(discover(tmp_path, folder=".cache/photos").id) == 1
    (tmp_path / "list.csv").write_text("file\n.cache/photos/a.png\n.cache/photos/._a.png\n")
    assert len(discover(tmp_path, manifest="list.csv").id) == 2


def test_a_folder_of_hidden_files_says_why_it_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "root", "._a.png")
    with pytest.raises(ConfigError, match=r"found no image; .*; 1 hidden or system entry left out, e\.g\. '\._a\.png'"):
        discover(tmp_path, folder="root")


def test_torchvision_folders_with_hidden_pictures_are_refused(tmp_path: Path) -> None:
    """That library reads all files, so a class and its rows would come from a cache."""
    write(tmp_path / "classes", "cat/a.png", "cat/._a.png")
    source = {"dataset": "ImageFolder", "arguments": {"root": "classes"}}
    message = r"torchvision\.datasets\.ImageFolder reads .*cat/\._a\.png.*, which is hidden; remove it"
    with pytest.raises(ConfigError, match=message):
        discover(tmp_path, torchvision=source)


# Results


def card(folder: Path) -> None:
    write(folder, "artifact.json", "figure.png", "more/picture.png")


def test_results_are_never_read_as_a_source(root: Path) -> None:
    store = root / "results"
    card(store / "report" / "0123")
    write(store, ".cache/stats", "runs/one.yaml", "scratch/0123/sample.png")
    write(root / "scratch", "sample.png")
    card(root / "manifests" / "pins" / "0123")
    write(root / "other", ".cache/stats", "runs/one.yaml", "scratch/sample.png", "translate/x.png")
    listing = Scan(root, None, store=store).folder(".", (".png",))
    assert listing.paths == OURS
    assert listing.notes[0].startswith("4 folders of results left out, e.g. ")
    assert len(look(root).paths) == len(OURS) + 1, "scratch belongs to the pipeline file beside it"


def test_folders_that_only_look_like_a_store_are_read(root: Path) -> None:
    write(root / "project", "runs/train/a.png", ".cache/thing", "b.png")
    assert look(root).paths == sorted([*OURS, "project/b.png", "project/runs/train/a.png"])


def test_a_source_inside_the_store_is_refused(root: Path) -> None:
    write(root / "store", "report/1/a.png", "all.zip", "list.csv")
    (root / "list.csv").write_text("file\nstore/report/1/a.png\n")
    scan = Scan(root, None, store=root / "store")
    for ask in (
        lambda: scan.folder("store/report", (".png",)),
        lambda: scan.folder("store", (".png",)),
        lambda: scan.archive("store/all.zip", (".png",)),
        lambda: scan.files("store", ["report/1/a.png"]),
        lambda: Ingest().discover(
            IngestConfig.model_validate({"torchvision": {"dataset": "X", "arguments": {"root": "store"}}}), scan
        ),
    ):
        with pytest.raises(ConfigError, match=r"lies in the store, and results are never read as a source; copy"):
            ask()
    with pytest.raises(SourceError, match=r"'store/report/1/a\.png' lies in the store; results are no source"):
        Ingest().discover(IngestConfig(manifest="list.csv"), scan)
    assert scan.digest("store/report/1/a.png"), "a file setting may name a file of the store"


def test_a_foreign_store_as_root_is_refused(root: Path) -> None:
    write(root, ".cache/stats", "runs/one.yaml")
    with pytest.raises(ConfigError, match=r"root: is a store of results, which are no source; name a folder of images"):
        look(root)


def test_a_pipeline_over_its_own_folder_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`folder: .` with the store inside: what a run writes is not read by the next."""
    text = "nodes:\n  photos: {stage: ingest, folder: .}\n"
    project = Project(tmp_path, monkeypatch, text)
    write(tmp_path, *OURS)
    for _ in range(2):
        assert len(project.plan().branches["photos"][0].rows) == 3
        card(tmp_path / "store" / "report" / "0123")
        write(tmp_path / "store" / "scratch", "samples-1.png")


# Links


def test_links_to_files_elsewhere_are_followed_where_that_is_allowed(root: Path) -> None:
    write(root.parent, "cache/ab/cdef", "cache/gone")
    (root / "linked.png").symlink_to(root.parent / "cache" / "ab" / "cdef")
    (root.parent / "list.csv").write_text("file\nroot/linked.png\nfar/cdef\n")
    (root.parent / "far").symlink_to(root.parent / "cache" / "ab")
    (root.parent / "data").mkdir()
    (root.parent / "list.csv").rename(root.parent / "data" / "list.csv")
    for name in ("root", "far"):
        (root.parent / "data" / name).symlink_to(root.parent / name)
    with pytest.raises(SourceError, match=r"'linked\.png' leads .*, or allow links to files .*`follow_links: true`"):
        discover(root.parent, folder="root")
    with pytest.raises(SourceError, match="`follow_links: true`"):
        discover(root.parent, manifest="data/list.csv")
    found = discover(root.parent, folder="root", follow_links=True)
    assert [Path(place).name for place in found.payload["location"]] == ["a.png", "b.png", "c.png", "linked.png"]
    content = [Ingest().read(IngestConfig(folder="root"), place) for place in found.payload["location"]]
    assert content[-1] == b"cache/ab/cdef"
    assert len(discover(root.parent, manifest="data/list.csv", follow_links=True).id) == 2
    (root.parent / "data" / "list.csv").write_text(f"file\n../{root.name}/a.png\n")
    with pytest.raises(ConfigError, match="is a path outside the root"):
        discover(root.parent, manifest="data/list.csv", follow_links=True)


def test_links_to_nothing_and_in_circles_are_problems_and_to_folders_are_refused(root: Path) -> None:
    (root / "gone.png").symlink_to(root.parent / "nowhere")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "circle").symlink_to(root / "circle")
    (root / "folder.png").symlink_to(root.parent)
    listing = look(root, follow_links=True)
    assert {listing.paths[row]: reason for row, reason in listing.problems.items()} == {
        "gone.png": "the file does not exist",
        "circle.png": "cannot be read (Too many levels of symbolic links)",
        "folder.png": "is a folder, expected a file",
    }
    (root / "up").symlink_to("..")
    for follow in (False, True):
        with pytest.raises(
            SourceError, match=r"'up' is a link to a folder and leads to a path outside the root; .* not"
        ):
            look(root, follow)


def test_a_link_to_a_folder_of_the_root_is_told_and_one_to_a_hidden_folder_refused(root: Path) -> None:
    (root / "again").symlink_to(root / "ann")
    listing = look(root)
    assert (listing.paths, listing.notes) == (OURS, ("1 link to a folder not entered, e.g. 'again'",))
    write(root, ".data/d.png")
    (root / "data").symlink_to(root / ".data")
    with pytest.raises(SourceError, match=r"'data' is a link to a hidden folder, whose files are left out"):
        look(root)


def test_links_into_the_store_are_left_out(root: Path) -> None:
    store = root.parent / "store"
    write(store, "report/1/figure.png")
    (root / "latest.png").symlink_to(store / "report" / "1" / "figure.png")
    (root / "store").symlink_to(store)
    listing = Scan(root.parent, None, store=store).folder("root", (".png",), True)
    assert listing.paths == OURS
    assert listing.notes[0].startswith("2 folders of results left out")


def test_a_root_that_is_a_link_is_walked(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert look(root.parent / "link").paths == OURS


def test_follow_links_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(ValueError, match="follow_links has no effect on zip; remove it"):
        IngestConfig(zip="a.zip", follow_links=True)


# Names in manifests


def test_manifests_find_files_of_other_systems(tmp_path: Path) -> None:
    """Paths with backslashes, and names that the disk has in another normal form or with a backslash in them."""
    composed, decomposed = "jos\u00e9", unicodedata.normalize("NFD", "jos\u00e9")
    write(tmp_path / "photos", "ann/1.png", f"{decomposed}/{decomposed}.png", "bob\\1.png")
    lines = ["file", "photos\\ann\\1.png", f"photos/{composed}/{composed}.png", "photos\\bob\\1.png"]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = discover(tmp_path, manifest="list.csv", group_by="folder")
    assert not found.problems
    assert found.group == ["photos/ann", f"photos/{composed}", "photos/bob"]
    contents = [Ingest().read(IngestConfig(manifest="list.csv"), place).decode() for place in found.payload["location"]]
    assert contents == ["ann/1.png", f"{decomposed}/{decomposed}.png", "bob\\1.png"]
    assert found.notes[1:] == (
        "list.csv: 2 paths with backslashes, read as folders, e.g. 'photos\\\\ann\\\\1.png'",
        "list.csv: 2 files found under another spelling, e.g. 'photos/bob/1.png'",
    )
    scan = Scan(tmp_path, tmp_path / "stats")
    assert scan.files("photos", ["bob/1.png", "eve/1.png"], hashed=False).problems == {1: "the file does not exist"}


def test_a_file_that_stands_twice_under_two_ways_of_writing_its_path_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\nann/1.png\nann\\1.png\n")
    with pytest.raises(ConfigError, match=r"list\.csv:3 'ann/1\.png' is already in line 2"):
        discover(tmp_path, manifest="list.csv")


def test_stat_cache_knows_files_that_are_found_under_another_spelling(tmp_path: Path) -> None:
    write(tmp_path / "photos", "bob\\1.png")
    for expected in (1, 0):
        scan = Scan(tmp_path, tmp_path / "store" / "stats", clock=lambda: 2**62)
        assert not scan.files("photos", ["bob/1.png"]).problems
        assert scan.hashed == expected
    os.utime(tmp_path / "photos" / "bob\\1.png", ns=(5, 5))
    scan = Scan(tmp_path, tmp_path / "store" / "stats", clock=lambda: 2**62)
    scan.files("photos", ["bob/1.png"])
    assert scan.hashed == 1


NAMES = ["a.png", "b \udcff.png", "link.png", "c.png", "dangling.png", "folder.png", "pipe.png", "gone.png", "d.png"]


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """A folder with an entry of each kind, but for the one that is gone."""
    folder = tmp_path / "entries"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b \udcff.png", "c.png", "d.png")):
        (folder / name).write_bytes(b"x" * number)
        os.utime(folder / name, ns=(0, (-1, 1, 1_700_000_000_123_456_789, 2**33)[number] * 10 ** (number != 2)))
    (folder / "link.png").symlink_to("c.png")
    (folder / "dangling.png").symlink_to("nothing")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return folder


def test_many_stats_are_those_of_lstat(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_stats, "AT_ONCE", 4)
    opened = os.open(entries, os.O_RDONLY)
    try:
        regular, stats = many_stats.regular_files(opened, NAMES)
    finally:
        os.close(opened)
    files = [name for name, one in zip(NAMES, regular.tolist(), strict=True) if one]
    assert files == ([] if many_stats._statx() is None else ["a.png", "b \udcff.png", "c.png", "d.png"])
    for name, row, one in zip(NAMES, stats.tolist(), regular.tolist(), strict=True):
        assert tuple(row) == (four(os.lstat(entries / name)) if one else (0, 0, 0, 0))


def test_a_system_without_the_call_sees_the_same(entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PORTION", 3)
    found = Walk(entries, (".png",)).found
    monkeypatch.setattr(many_stats, "_statx", lambda: None)
    alone = Walk(entries, (".png",)).found
    assert found.table()[0] == alone.table()[0] == sorted({*NAMES} - {"gone.png"})
    np.testing.assert_array_equal(found.table()[1], alone.table()[1])
    assert found.problems == alone.problems
    assert sorted(found.problems) == ["dangling.png", "folder.png", "pipe.png"]


def test_names_are_taken_by_their_ending_in_any_case_unless_they_are_hidden_or_of_a_system(tmp_path: Path) -> None:
    names = {
        "a.png",
        "B.PNG",
        "c.Png",
        "d.tar.bin",
        ".e.png",
        ".png",
        "$RECYCLE.BIN",
        "Thumbs.db",
        "png",
        "f.pngx",
        "g.",
        "h.BIN",
    }
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = Walk(tmp_path, (".bin", ".png", ".tar.bin")).found
    assert found.table()[0] == sorted({"a.png", "B.PNG", "c.Png", "d.tar.bin", "h.BIN"})
    assert sorted(found.hidden) == sorted({".e.png", ".png", "$RECYCLE.BIN", "Thumbs.db"})
    assert found.ignored == 3
