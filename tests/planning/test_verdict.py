"""`plan` and `run` agree on files that cannot be read: what fails the one is said by the other, in the same words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from command_line import command
from PIL import Image

from pipeline.planning.verdict import allowed_lines, verdict

PIPELINE = """
nodes:
  photos: {{stage: ingest, manifest: photos/list.csv, max_failed_rows: {allowed}}}
  images: {{stage: equalize, of: photos, size: 8}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (9 + number, 9), (number, 2, 3)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


@pytest.fixture
def touchstone(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return command(monkeypatch, capsys)


def write(folder: Path, files: list[str], allowed: int = 0) -> None:
    (folder / "photos" / "list.csv").write_text("\n".join(["file,size", *files]) + "\n")
    (folder / "pipeline.yaml").write_text(PIPELINE.format(allowed=allowed))


MISSING = ["0.png,", "1.png,", "gone.png,"]
VERDICT = (
    "photos: 1 row failed (0 allowed): {folder}/photos/gone.png: the file does not exist ({folder}/photos/list.csv:4)"
)


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["a: small", "b: small"], "a: small; and 1 more for the same reason"),
        (["a: small", "b: small", "c: broken", "d: broken"], "a: small; c: broken; and 2 more"),
        (["a: 1", "b: 2", "c: 3", "d: 4"], "a: 1; b: 2; c: 3; and 1 more"),
        (["a: small"], "a: small"),
        (["alone", "other"], "alone; other"),
    ],
)
def test_each_reason_is_told_once(lines: list[str], shown: str) -> None:
    pipeline: Any = SimpleNamespace(nodes={"n": SimpleNamespace(max_failed_rows=0)})
    told = f"n: {len(lines)} row{'s' * (len(lines) > 1)} failed (0 allowed): {shown}. Mend the inputs"
    assert verdict(pipeline, {"n": lines}).startswith(told)
    pipeline.nodes["n"].max_failed_rows = 9
    assert allowed_lines(pipeline, {"n": lines}) == [f"n: {len(lines)} failed (allowed): {shown}"]


def test_a_manifest_that_names_a_missing_file_is_known_to_plan(folder: Path, touchstone: Any) -> None:
    write(folder, MISSING)
    sentence = f"{VERDICT.format(folder=folder)}. Mend the inputs and run again, or set max_failed_rows"
    planned = touchstone("plan")
    assert planned.code == 1
    assert planned.out.splitlines()[-2:] == ["in all: 4 rows, not estimated", f"`run` would fail: {sentence}"]
    ran = touchstone("run")
    assert (ran.code, ran.err.splitlines()[-1]) == (1, f"touchstone: {sentence}")
    planned = touchstone("plan")
    assert planned.code == 1
    assert planned.out.splitlines()[-2:] == [
        "nothing can be computed: 4 rows and 0 artifacts are fresh, but `run` would fail",
        f"`run` would fail: {sentence}",
    ]
    data = json.loads(touchstone("plan", "--json").out)
    assert (data["rows"], data["fails"], list(data["failed"])) == (0, sentence, ["photos"])
    explained = touchstone("explain", "photos")
    assert (explained.code, explained.out) == (0, "photos: fresh (2 rows), 1 cannot be read\n")


def test_a_missing_file_that_is_allowed_is_named_by_both(folder: Path, touchstone: Any) -> None:
    write(folder, MISSING, allowed=1)
    line = "photos: 1 failed (allowed): " + VERDICT.format(folder=folder).partition(": ")[2].partition(": ")[2]
    planned = touchstone("plan")
    assert (planned.code, planned.out.splitlines()[-1]) == (0, line)
    ran = touchstone("run")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, line)
    planned = touchstone("plan")
    assert (planned.code, planned.out.splitlines()[-2:]) == (
        0, ["nothing to compute: 4 rows and 0 artifacts are fresh", line],
    )  # fmt: skip
    assert touchstone("run").out.splitlines()[-1] == line
    assert json.loads(touchstone("plan", "--json").out)["fails"] is None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["0.png,", "1.png,7"], r"1\.png: has \d+ bytes, expected 7"),
        (["0.png,", "folder.png,"], r"folder\.png: is a folder, expected a file"),
        (["0.png,", *(f"gone{number}.png," for number in range(5))], "5 rows failed .*; and 2 more"),
    ],
)
def test_whatever_is_wrong_with_a_file_both_fail(folder: Path, touchstone: Any, files: list[str], reason: str) -> None:
    (folder / "photos" / "folder.png").mkdir()
    write(folder, files)
    planned, ran = touchstone("plan"), touchstone("run")
    assert (planned.code, ran.code) == (1, 1)
    sentence = planned.out.splitlines()[-1].removeprefix("`run` would fail: ")
    assert ran.err.splitlines()[-1] == f"touchstone: {sentence}"
    assert re.search(reason, sentence)


def test_a_frozen_manifest_counts_files_that_could_not_be_read(folder: Path, touchstone: Any) -> None:
    write(folder, MISSING, allowed=1)
    touchstone("run")
    assert touchstone("freeze", "photos").code == 0
    data = yaml.safe_load((folder / "manifests" / "frozen-photos.yaml").read_text())
    assert [(branch["rows"], branch["failed"]) for branch in data["nodes"]["photos"]] == [(2, 1)]
