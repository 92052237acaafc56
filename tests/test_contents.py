"""Stamps and digests of files, and results that are kept until a file is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.contents import file_sha256, file_stamp, kept_while_same


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


def test_a_result_is_kept_until_its_file_is_touched(tmp_path: Path) -> None:
    read: list[tuple[str, str]] = []

    @kept_while_same(2)
    def text(path: Path, ending: str = "") -> str:
        """What it does."""
        read.append((path.name, ending))
        return path.read_text() + ending

    one = tmp_path / "one"
    one.write_text("first")
    assert [text(one), text(one), text(one, "!")] == ["first", "first", "first!"]
    assert read == [("one", ""), ("one", "!")]
    status = one.stat()
    other = tmp_path / "other"
    other.write_text("again")  # of equal size
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(one)
    assert text(one) == "again"
    assert file_stamp(one)[1:3] == (status.st_size, status.st_mtime_ns)
    assert text.__doc__ == "What it does."
    with pytest.raises(FileNotFoundError):
        text(tmp_path / "none")


def test_no_more_results_are_kept_than_asked_for(tmp_path: Path) -> None:
    read: list[str] = []

    @kept_while_same(1)
    def name(path: Path) -> str:
        read.append(path.name)
        return path.name

    for file in ("a", "b", "a"):
        (tmp_path / file).touch()
    assert [name(tmp_path / file) for file in ("a", "b", "b", "a")] == ["a", "b", "b", "a"]
    assert read == ["a", "b", "a"]
