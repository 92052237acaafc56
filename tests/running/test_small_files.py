"""A small file is opened by who hashes it, and by nobody else of that run."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toy_project import Project

from benchmarks.noop_100k import png
from pipeline import contents
from pipeline.contents import SMALL_FILES, SmallFiles
from pipeline.inputs import scan
from pipeline.running.tasks import Content

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos}
  sizes: {stage: "benchmarks.stand_ins:Size", of: photos}
"""
OPENED: Counter[str] = Counter()


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).endswith(".png"):
        OPENED[Path(str(arguments[0])).name] += 1


def test_a_run_opens_each_small_file_once_and_keeps_nothing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(40):
        (photos / f"{number}.png").write_bytes(png(number))
    (photos / "large.png").write_bytes(png(40) + bytes(scan.SMALL))
    sys.addaudithook(watch)
    project.plan()
    assert SMALL_FILES.get(hashlib.sha256(png(7)).digest()[:16]) is None, "a plan keeps nothing"
    OPENED.clear()
    report = project.run()
    assert report.computed == {"photos": 41, "sizes": 41}
    assert {**{f"{number}.png": 1 for number in range(40)}, "large.png": 3} == OPENED
    assert SMALL_FILES.get(hashlib.sha256(png(7)).digest()[:16]) is None


def test_bytes_are_kept_by_their_digest_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "FILE_COST", 10)
    kept = SmallFiles(40)
    digests = [hashlib.sha256(text).digest() for text in (b"one", b"two", b"many bytes", b"4")]
    for digest, text in zip(digests, (b"one", b"two", b"many bytes", b"4"), strict=True):
        kept.keep(digest, text)
    assert [kept.get(digest[:16]) for digest in digests] == [b"one", b"two", None, b"4"]
    kept.clear()
    kept.keep(digests[2], b"many bytes")
    assert [kept.get(digest[:16]) for digest in digests] == [None, None, b"many bytes", None]


def test_a_row_is_read_from_what_was_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = SmallFiles(1000)
    kept.keep(hashlib.sha256(b"cat").digest(), b"cat")
    monkeypatch.setattr("pipeline.running.tasks.SMALL_FILES", kept)
    content = Content(None, None, ["/nowhere/cat.png"])  # type: ignore[arg-type]
    assert content.read(0, hashlib.sha256(b"cat").digest()[:16]) == b"cat"
