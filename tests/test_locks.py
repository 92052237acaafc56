"""Small files that several commands write: no entry is lost, with `flock` and where the file system has none."""

from __future__ import annotations

import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import locks
from pipeline.atomic import editing
from pipeline.errors import ConfigError, StoreError
from pipeline.planning.pins import read_pins, write_pin
from pipeline.runs import RunRecord, host_name, this_run
from pipeline.stage import Artifact
from pipeline.storage import upkeep as care
from pipeline.storage.store import Store

COMMANDS, TURNS = 4, 6


class Without:
    """A file system that has no locks."""

    LOCK_EX, LOCK_NB = 2, 4

    @staticmethod
    def flock(file: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.fixture(params=["flock", "without flock", "another system"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "flock":
        monkeypatch.setattr(locks, "fcntl", Without if request.param == "without flock" else None)


def artifact(folder: Path, number: int) -> Artifact:
    key = f"{number:032x}"
    place = folder / "store" / key
    place.mkdir(parents=True, exist_ok=True)
    (place / "artifact.json").write_text(json.dumps({"number": number}))
    return Artifact(f"node{number}", key, place, {})


def at_once(work: Any) -> None:
    """`work(number)` in threads that each do several in a row."""
    with ThreadPoolExecutor(COMMANDS) as pool:
        turns = [[thread * TURNS + turn for turn in range(TURNS)] for thread in range(COMMANDS)]
        list(pool.map(lambda numbers: [work(number) for number in numbers], turns))


def left_locks(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".lock" in path.name or path.suffix == ".tmp"]


def test_pins_that_are_set_at_once_are_all_kept(tmp_path: Path, system: None) -> None:
    made = [artifact(tmp_path, number) for number in range(COMMANDS * TURNS)]
    at_once(lambda number: write_pin(tmp_path, f"node{number}", made[number], {"artifact.json": "0" * 64}))
    assert set(yaml.safe_load((tmp_path / "manifests" / "pins.yaml").read_text())) == {
        f"node{number}" for number in range(COMMANDS * TURNS)
    }
    assert left_locks(tmp_path) == []


def test_one_artifact_pinned_at_once_under_several_names_is_whole(tmp_path: Path) -> None:
    made = artifact(tmp_path, 7)
    at_once(lambda number: write_pin(tmp_path, f"node{number}", made, {"artifact.json": "0" * 64}))
    assert len(read_pins(tmp_path)) == COMMANDS * TURNS
    (folder,) = (tmp_path / "manifests" / "pins").iterdir()
    assert (folder / "artifact.json").read_text() == '{"number": 7}'


def test_aliases_that_are_accepted_at_once_are_all_kept(tmp_path: Path, system: None) -> None:
    store = Store(tmp_path / "store", writable=True)
    at_once(lambda number: care.accept(store, bytes([number]) * 16, bytes([200]) * 16))
    assert store.aliases() == {f"{number:02x}" * 16: "c8" * 16 for number in range(COMMANDS * TURNS)}
    assert left_locks(tmp_path) == []


def test_what_a_killed_command_left_without_flock_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", Without)
    dead = RunRecord(host_name(), os.getpid(), this_run().started - 1)
    claim = tmp_path / ".pins.yaml.lock.held"
    claim.write_text(dead.id)
    sentence = re.escape(f"{claim} was left by a command that was killed (process {os.getpid()} on {host_name()})")
    with pytest.raises(StoreError, match=sentence + ".*; remove that file and try again"):
        editing(tmp_path / "pins.yaml").__enter__()
    claim.unlink()
    with editing(tmp_path / "pins.yaml"):
        assert claim.read_text() == this_run().id
    assert not claim.exists()


def test_a_lock_that_another_command_keeps_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: None
) -> None:
    monkeypatch.setattr("pipeline.atomic.PATIENCE_S", 0.0)
    sentence = r"\.pins\.yaml\.lock has been held by another command for 0 s; wait for that command, and remove"
    with editing(tmp_path / "pins.yaml"), pytest.raises(StoreError, match=sentence):
        editing(tmp_path / "pins.yaml").__enter__()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"pins\.yaml:1 is a list; expected pins by node, as `touchstone pin` writes them"),
        ("mean: {key: 00, files: [a]}\n", r"pins\.yaml:1 mean is no pin; expected 'key' and 'files'"),
        ("mean: {key: '00', files: {artifact.json: 3}}\n", r"pins\.yaml:1 mean is no pin"),
        ("mean: {key: '00', files: {}}\n", r"pins\.yaml:1 mean is no pin"),
    ],
)
def test_a_file_of_pins_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "pins.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_pins(tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"a": "b"}', '{"%s": 3}' % ("0" * 32), "[" * 100_000])
def test_aliases_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "aliases.json").write_text(text)
    with pytest.raises(StoreError, match=r"aliases\.json (cannot be read|is not what `accept` writes).*mend or remove"):
        Store(tmp_path).aliases()
