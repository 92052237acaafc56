"""Whatever the names of files are: JSON stays UTF-8, the terminal's lines stay lines, the page can be written."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import atomic, cli
from pipeline.printable import json_text, printable, printable_lines
from pipeline.running.progress import Bars

NOT_UTF8 = os.fsdecode(b"\xff\xfe")
NAMES = [
    f"a{NOT_UTF8}.png",
    "b\nc.png",
    "d\x1b[31m.png",
    "e\u202egnp.png",
    "f\x9b2J.png",
    "g\u00e9\u4e16\U0001f600.png",
]
PIPELINE = """
store: store
max_failed_rows: 10
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: equalize, of: photos, size: 8}
"""


def test_characters_that_are_not_printable_are_escaped_and_others_kept() -> None:
    assert printable("4x4 \u00e9\u4e16\U0001f600 \\n") == "4x4 \u00e9\u4e16\U0001f600 \\n"
    assert printable("a\nb\tc\x1b[0m\x7f\x9b\u202e\u2028") == r"a\nb\tc\x1b[0m\x7f\x9b\u202e\u2028"
    assert printable(NOT_UTF8) == r"\xff\xfe"
    assert printable("\ud800") == r"\ud800"
    assert printable_lines("a\n\tb\r\x1b") == "a\n\tb" + r"\r\x1b"


@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_is_utf8_and_comes_back(ascii_only: bool) -> None:
    names = NAMES[1:]
    text = json_text({"names": names, "path": NAMES[0]}, ascii_only)
    assert text.isascii() or not ascii_only
    assert all(character.isprintable() or character == "\n" for character in text)
    back = json.loads(text.encode("utf-8"))
    assert back == {"names": names, "path": r"a\xff\xfe.png"}


def test_json_files_of_the_store_give_names_back(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "x.json", NAMES)
    assert json.loads((tmp_path / "x.json").read_bytes().decode("utf-8")) == NAMES


def test_progress_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    for name in NAMES:
        bars.say(f"{name} is damaged")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(NAMES)
    assert all(line.isprintable() for line in lines)


class Terminal(io.TextIOWrapper):
    """A stream with an encoding, as stdout has one."""

    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)

    def content(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def touchstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, over files of such names of which every second one is no image; gives (code, stdout, stderr)."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        place = tmp_path / "photos" / name
        Image.fromarray(pixels).save(place, "PNG")
        if number % 2 == 0:
            place.write_bytes(place.read_bytes()[:60])
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, encoding: str = "utf-8") -> tuple[int, bytes, bytes]:
        out, err = Terminal(encoding, "strict"), Terminal(encoding, "backslashreplace")
        monkeypatch.setattr(sys, "argv", ["touchstone", *arguments])
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return int(code), out.content(), err.content()

    return call


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_run_gives_valid_json_and_printable_lines_whatever_the_names_are(touchstone: Any, encoding: str) -> None:
    code, out, err = touchstone("run", "--json", encoding=encoding)
    assert code == 0, err
    failed = [line for lines in json.loads(out.decode("utf-8"))["failed"].values() for line in lines]
    assert len(failed) == 3
    assert any(r"a\xff\xfe.png" in line for line in failed)
    assert any("d\x1b[31m.png" in line for line in failed)
    for verb in (["run"], ["status"], ["plan"], ["show", "photos"]):
        code, out, err = touchstone(*verb, encoding=encoding)
        assert code == 0, err
        lines = (out + err).decode(encoding).split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("c.png") for line in lines)


def test_an_error_is_one_line_whatever_it_names(touchstone: Any) -> None:
    Path("pipeline.yaml").write_text(PIPELINE.replace("max_failed_rows: 10\n", ""))
    code, out, err = touchstone("run")
    assert (code, out) == (1, b"")
    errors = [line for line in err.decode().splitlines() if line.startswith("touchstone: ")]
    assert len(errors) == 1
    assert all(line.isprintable() for line in err.decode().split("\n"))
    assert any(escaped in errors[0] for escaped in (r"\xff", r"\x1b", r"\u202e", r"\x9b", r"\n"))
    code, _, err = touchstone("run", f"x{NAMES[2]}")
    assert code == 2
    assert err.decode().startswith(r"touchstone: there is no node 'xd\x1b[31m.png'")


def test_settings_with_odd_characters_are_shown(touchstone: Any) -> None:
    setting = 'nodes.photos.folder="b\\u202e\\n"'
    code, out, err = touchstone("config", "show", "--json", "--set", setting)
    assert code == 0, err
    assert json.loads(out)["nodes"]["photos"]["folder"] == "b\u202e\n"
    code, out, err = touchstone("config", "show", "--set", setting)
    assert code == 0, err
    assert all(line.isprintable() for line in out.decode().split("\n"))
