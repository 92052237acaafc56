"""What a scan reads, what it remembers, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError, SourceError, StoreError
from pipeline.inputs import scan as scan_module
from pipeline.inputs.scan import MISSING, Scan

LATER_NS = 3_600_000_000_000


def in_an_hour() -> int:
    """A clock that makes every file of the test old enough to be remembered."""
    return time.time_ns() + LATER_NS


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


FILES = {"b.png": b"two", "a.PNG": b"one", "sub/deep/c.jpg": b"three", "sub.png.txt": b"no image", "é.png": b"four"}
NAMES = ["a.PNG", "b.png", "sub/deep/c.jpg", "é.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "root", FILES)
    return tmp_path / "root"


def new_scan(root: Path, **more: object) -> Scan:
    options = {"clock": in_an_hour, **more}
    return Scan(root.parent, root.parent / "store" / "stats", **options)  # type: ignore[arg-type]


def look(root: Path, **more: object) -> Scan:
    scan = new_scan(root, **more)
    scan.folder("root", (".png", ".jpg"))
    return scan


def test_folder_lists_sorted_relative_paths_with_ids_sizes_and_passed_over_files(root: Path) -> None:
    listing = new_scan(root).folder("root", (".png", ".jpg"))
    assert listing.paths == NAMES
    assert [bytes(found) for found in listing.ids] == [hashlib.sha256(FILES[name]).digest()[:16] for name in NAMES]
    assert listing.digests.tobytes() == b"".join(hashlib.sha256(FILES[name]).digest() for name in NAMES)
    assert listing.sizes.tolist() == [len(FILES[name]) for name in NAMES]
    assert (listing.problems, listing.ignored) == ({}, 1)


def test_second_scan_reads_nothing_and_says_the_same(root: Path) -> None:
    first, second = look(root), look(root)
    assert (first.hashed, second.hashed) == (4, 0)
    assert np.array_equal(first.folder("root", (".png", ".jpg")).ids, second.folder("root", (".png", ".jpg")).ids)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (lambda root: (root / "b.png").write_bytes(b"TWO"), 1),  # same size, new mtime
        (lambda root: os.utime(root / "b.png", ns=(5, 5)), 1),
        (lambda root: write(root, {"new.png": b"new"}), 1),
        (lambda root: (root / "b.png").unlink(), 0),
        (lambda root: (root / "b.png").rename(root / "z.png"), 1),
        (lambda root: (root / "other.txt").write_bytes(b"no image"), 0),
    ],
    ids=["rewritten", "touched", "added", "removed", "renamed", "other suffix"],
)
def test_only_changed_files_are_read_again(root: Path, change: object, read: int) -> None:
    look(root)
    change(root)  # type: ignore[operator]
    scan = look(root)
    assert scan.hashed == read
    listing = scan.folder("root", (".png", ".jpg"))
    expected = [hashlib.sha256((root / name).read_bytes()).digest() for name in listing.paths]
    assert listing.digests.tobytes() == b"".join(expected)
    assert look(root).hashed == 0


def test_same_size_and_restored_mtime_is_still_seen(root: Path) -> None:
    """A program that puts the old mtime back cannot put the ctime back."""
    look(root)
    before = (root / "b.png").stat()
    (root / "b.png").write_bytes(b"TWO")
    os.utime(root / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(root).hashed == 1


def test_files_younger_than_two_seconds_are_not_remembered(root: Path) -> None:
    assert look(root, clock=time.time_ns).hashed == 4
    assert look(root, clock=time.time_ns).hashed == 4
    look(root)
    assert look(root).hashed == 0


def test_paranoid_reads_everything(root: Path) -> None:
    look(root)
    assert look(root, paranoid=True).hashed == 4


def test_a_process_scans_once(root: Path) -> None:
    scan = look(root)
    write(root, {"late.png": b"late"})
    assert scan.folder("root", (".jpg", ".png")).paths == NAMES


def test_read_only_scan_writes_nothing(root: Path) -> None:
    look(root, read_only=True)
    assert not (root.parent / "store").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no cache at all"], ids=["empty", "torn", "foreign"])
def test_damaged_cache_counts_as_none_and_is_replaced(root: Path, content: bytes) -> None:
    look(root)
    (root.parent / "store" / "stats").write_bytes(content)
    assert look(root).hashed == 4
    assert look(root).hashed == 0


def test_truncated_cache_counts_as_none(root: Path) -> None:
    look(root)
    cache = root.parent / "store" / "stats"
    cache.write_bytes(cache.read_bytes()[:-40])
    assert look(root).hashed == 4


def test_cache_that_cannot_be_written_leaves_the_old_one_and_no_trace(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **arrays: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    look(root)
    write(root, {"new.png": b"new"})
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StoreError, match=r"stats: the stat cache cannot be written \(No space left on device\)"):
        look(root)
    monkeypatch.undo()
    assert os.listdir(root.parent / "store") == ["stats"]
    assert look(root).hashed == 1


def test_cache_folder_holds_no_temporary_files(root: Path) -> None:
    look(root)
    assert os.listdir(root.parent / "store") == ["stats"]


def test_interrupted_reading_keeps_what_was_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    monkeypatch.setattr(scan_module, "PORTION", 2)

    def stop(text: str, count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        look(root, progress=stop)
    assert look(root).hashed == 2


def test_unreadable_file_is_a_problem_of_its_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, keep: bool) -> object:
        return "cannot be read (Permission denied)" if path.endswith("b.png") else hash_file(path, keep)

    hash_file = scan_module._hash_file
    monkeypatch.setattr(scan_module, "_hash_file", refuse)
    listing = look(root).folder("root", (".png", ".jpg"))
    assert listing.problems == {1: "cannot be read (Permission denied)"}
    assert not listing.digests[1].any()
    monkeypatch.undo()
    assert look(root).hashed == 1, "the problem must be looked at again, the others not"


def test_permission_error_of_the_system_becomes_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert scan_module._hash_file(str(root / "b.png"), False) == "cannot be read (Permission denied)"


def test_folder_and_pipe_with_the_name_of_an_image_are_problems(root: Path) -> None:
    (root / "x.png").mkdir()
    os.mkfifo(root / "pipe.png")
    listing = look(root).folder("root", (".png", ".jpg"))
    assert {listing.paths[row]: reason for row, reason in listing.problems.items()} == {
        "x.png": "is a folder, expected a file",
        "pipe.png": "is a device, pipe or socket, expected a file",
    }


def test_link_inside_the_root_is_a_row_and_a_linked_folder_is_not_entered_twice(root: Path) -> None:
    (root / "link.png").symlink_to(root / "b.png")
    (root / "loop").symlink_to(root)
    listing = look(root).folder("root", (".png", ".jpg"))
    assert listing.paths == sorted([*NAMES, "link.png"])


@pytest.mark.parametrize("target", ["outside.png", "outside"])
def test_link_out_of_the_root_is_an_error(root: Path, target: str) -> None:
    write(root.parent, {"outside.png": b"out", "outside/a.png": b"out"})
    (root / ("link" + Path(target).suffix)).symlink_to(root.parent / target)
    with pytest.raises(SourceError, match="leads to a path outside the root"):
        look(root)


def test_broken_link_is_a_problem(root: Path) -> None:
    (root / "link.png").symlink_to(root / "gone.png")
    listing = look(root).folder("root", (".png", ".jpg"))
    assert [listing.paths[row] for row in listing.problems] == ["link.png"]
    assert list(listing.problems.values()) == [MISSING]


def test_names_that_are_no_utf8_are_listed_and_remembered(root: Path) -> None:
    (root / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"odd name")
    assert os.fsdecode(b"\xff\xfe.png") in look(root).folder("root", (".png", ".jpg")).paths
    assert look(root).hashed == 0
    write(root, {"new.png": b"new"})
    assert look(root).hashed == 1


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nowhere: expected a folder .*, found nothing; make it, or correct the path"
    ):
        Scan(tmp_path, None).folder("nowhere", (".png",))


def test_files_looks_at_the_named_ones_only_and_remembers_them_together(root: Path) -> None:
    scan = new_scan(root)
    listing = scan.files("root", ["b.png", "gone.png"])
    assert listing.paths == ["b.png", "gone.png"]
    assert listing.problems == {1: MISSING}
    assert scan.hashed == 1
    more = new_scan(root)
    more.files("root", ["a.PNG"])
    assert more.hashed == 1
    again = new_scan(root)
    again.files("root", ["a.PNG"])
    again.files("root", ["b.png"])
    assert again.hashed == 0


def test_files_without_hashing_gives_existence_and_size(root: Path) -> None:
    scan = new_scan(root)
    listing = scan.files("root", ["b.png", "sub/deep/c.jpg", "gone.png"], hashed=False)
    assert scan.hashed == 0
    assert listing.sizes.tolist() == [3, 0, 5]
    assert listing.problems == {1: MISSING}


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname", "sub/../../outside.png"])
def test_named_file_outside_the_root_is_an_error(root: Path, path: str) -> None:
    write(root.parent, {"outside.png": b"out"})
    with pytest.raises(SourceError, match="path outside the root"):
        new_scan(root).files("root", [path])


def test_digest_of_one_file_is_remembered_and_follows_links(root: Path) -> None:
    (root.parent / "weights").mkdir()
    (root.parent / "weights" / "model.bin").symlink_to(root / "b.png")
    assert new_scan(root).digest("weights/model.bin") == hashlib.sha256(b"two").digest()
    scan = new_scan(root)
    assert scan.digest(root / "b.png") == hashlib.sha256(b"two").digest()
    assert scan.hashed == 0
    with pytest.raises(SourceError, match=MISSING):
        scan.digest("root/gone.bin")


@pytest.fixture
def packed(root: Path) -> Path:
    with zipfile.ZipFile(root.parent / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return root.parent / "packed.zip"


def test_members_of_an_archive_are_read_once_until_it_changes(root: Path, packed: Path) -> None:
    scan = new_scan(root)
    listing = scan.archive("packed.zip", (".png", ".jpg"))
    assert listing.paths == NAMES
    assert listing.digests.tobytes() == b"".join(hashlib.sha256(FILES[name]).digest() for name in NAMES)
    assert (scan.hashed, listing.ignored) == (4, 1)
    again = new_scan(root)
    assert again.archive("packed.zip", (".png", ".jpg")).paths == NAMES
    assert again.hashed == 0
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("z.png", b"more")
    changed = new_scan(root)
    assert changed.archive("packed.zip", (".png", ".jpg")).paths == [*NAMES[:3], "z.png", NAMES[3]]


def test_damaged_member_is_a_problem_and_a_damaged_archive_an_error(root: Path, packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        at = archive.getinfo("b.png").header_offset + 30 + len("b.png")
    content = bytearray(packed.read_bytes())
    content[at] ^= 0xFF
    packed.write_bytes(content)
    listing = new_scan(root).archive("packed.zip", (".png", ".jpg"))
    assert list(listing.problems) == [1]
    assert "cannot be unpacked" in listing.problems[1]
    packed.write_bytes(b"no zip")
    with pytest.raises(SourceError, match="expected a zip file, found something else"):
        new_scan(root).archive("packed.zip", (".png",))


def test_a_name_twice_in_an_archive_is_a_problem(root: Path, packed: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("b.png", b"another")
    listing = new_scan(root).archive("packed.zip", (".png", ".jpg"))
    assert listing.problems == {1: "the archive holds 2 members of this name, expected one"}


def test_cached_values_last_until_a_file_of_the_folder_changes(root: Path) -> None:
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"digests": np.arange(6, dtype=np.uint8)}

    for expected in (1, 1):
        assert new_scan(root).cached("key", root, compute)["digests"].tolist() == [0, 1, 2, 3, 4, 5]
        assert len(calls) == expected
    new_scan(root).cached("other key", root, compute)
    assert len(calls) == 2
    (root / "sub" / "deep" / "c.jpg").write_bytes(b"THREE")
    new_scan(root).cached("key", root, compute)
    assert len(calls) == 3


def test_progress_names_the_folder_and_counts_files(root: Path) -> None:
    told: list[tuple[str, int]] = []
    look(root, progress=lambda text, count: told.append((text, count)))
    assert told == [("reading root", 4)]
    for path in [root / name for name in NAMES]:
        os.utime(path, ns=(7, 7))
    look(root, progress=lambda text, count: told.append((text, count)))
    assert told[1] == ("reading root (all files have a new stat)", 4)
