"""The process that computes is compared with the recipe: the code and libraries it has loaded, the files it reads."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import toy
from toy_project import Project, cold
from toy_user import HELPER, User

from pipeline import loaded
from pipeline.commands import upkeep as keeping
from pipeline.errors import StageError
from pipeline.open import open_node
from pipeline.planning import closure
from pipeline.planning.recipes import library_version
from pipeline.running.proof import CheckedFile, Claim, StaleProcessError, environment_difference


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    found = User(tmp_path, monkeypatch)
    yield found
    found.forget()


def during(patch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Do something while the rows of the source are computed: after planning, before the user's stage."""
    plain = toy.Numbers.compute

    def compute(self: Any, config: Any, batch: Any, ctx: Any) -> Any:
        action()
        return plain(self, config, batch, ctx)

    patch.setattr(toy.Numbers, "compute", compute)


# Code


def test_a_session_that_runs_twice_never_publishes_old_code_under_the_new_recipe(user: User) -> None:
    user.project.run()
    assert user.values() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    user.project.replace("count: 6", "count: 7")
    user.project.run()
    user.factor(3)
    with pytest.raises(
        StageError, match=rf"{user.name}\.helper \(FACTOR, line 1\) was changed after .*start the process again"
    ):
        user.project.run()
    assert cold(user.project, "run").returncode == 0
    assert user.values() == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0]


def test_a_helper_that_was_loaded_before_an_edit_is_refused_although_only_the_edit_was_digested(user: User) -> None:
    importlib.import_module(f"{user.name}.helper")
    user.factor(3)
    with pytest.raises(StageError, match=rf"{user.name}\.helper \(FACTOR, line 1\) was changed after this process"):
        user.project.run()
    assert not user.project.shards()


def test_a_helper_that_was_another_one_while_it_was_imported_is_refused(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edited after planning, imported lazily by the stage, and put back before anything was published."""
    during(monkeypatch, lambda: user.factor(3))
    source = user.helper.read_bytes()
    plain = Claim.prove_again

    def put_back(self: Claim, *arguments: Any) -> None:
        user.helper.write_bytes(source)
        plain(self, *arguments)

    user.project.run("a")
    (user.project.folder / "store" / "numbers").rename(user.project.folder / "away")  # so that `a` is computed again
    monkeypatch.setattr(Claim, "prove_again", put_back)
    with pytest.raises(StaleProcessError, match=rf"^scaled: .*{user.name}\.helper.*start the process again"):
        user.project.run()
    assert not list((user.project.folder / "store").glob("scaled/*/*.zarr"))
    monkeypatch.undo()


def test_an_edit_of_comments_stops_no_session(user: User) -> None:
    user.project.run()
    user.helper.write_text("# a comment\n" + HELPER.format(2))
    assert user.project.run().computed == {}


def test_an_edit_that_was_accepted_goes_on(user: User) -> None:
    user.project.run()
    user.helper.write_text(HELPER.format("2.0"))
    user.forget()
    keeping.accept_nodes(user.project.load(), ["scaled"])
    user.project.replace("count: 6", "count: 7")
    assert user.project.run().computed == {"a": 1, "scaled": 1}
    assert user.values()[-1] == 12.0


def test_an_edit_of_equal_length_within_one_second_is_not_served_from_python_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "quick_edit.py"
    for text in ("VALUE = 1\n", "VALUE = 2\n", "VALUE = 3\n"):
        path.write_text(text)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        module = importlib.import_module("quick_edit")
        assert f"VALUE = {module.VALUE}\n" == text
        assert loaded.source_of("quick_edit") == text.encode()
        del sys.modules["quick_edit"]


def test_a_compiled_file_that_is_old_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "kept_compiled.py"
    path.write_text("VALUE = 1\n")
    importlib.import_module("kept_compiled")
    del sys.modules["kept_compiled"]
    compiled = Path(importlib.util.cache_from_source(str(path)))
    later = path.stat().st_ctime + 10
    os.utime(compiled, (later, later))
    monkeypatch.setattr(loaded.RecordingLoader, "source_to_code", lambda *_: pytest.fail("compiled again"))
    assert importlib.import_module("kept_compiled").VALUE == 1
    assert loaded.source_of("kept_compiled") == b"VALUE = 1\n"
    del sys.modules["kept_compiled"]


EARLIER = """
import functools
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

LIMIT = 3
NAMES = ("a", "b")


def plain(x):
    return [y + LIMIT for y in x]


@functools.lru_cache
def kept(x):
    return x * 2


def forget(x):
    return None


def refuse(x):
    raise ValueError(x)


class Deferred(BaseModel):
    model_config = ConfigDict(defer_build=True)  # is made when it is first looked at
    size: int = 1


@dataclass
class Thing:
    size: int = 1
    twice = lambda self: self.size + self.size
    never = lambda self: False
    save: Callable = forget
    load = drop = forget

    def area(self):
        return self.size**2

    @property
    def half(self):
        return self.size / 2

    @staticmethod
    def zero():
        return 0
"""


def earlier(source: str) -> ModuleType:
    """A module that was loaded without being watched."""
    module = ModuleType("earlier_module")
    module.__dict__["__name__"] = "earlier_module"
    sys.modules["earlier_module"] = module
    exec(compile(source, "earlier_module.py", "exec", dont_inherit=True), module.__dict__)
    return module


@pytest.fixture
def module() -> Iterator[ModuleType]:
    yield earlier(EARLIER)
    del sys.modules["earlier_module"]


EDITS = {
    "plain": ("y + LIMIT", "y - LIMIT"),
    "kept": ("x * 2", "x * 3"),
    "Thing.area": ("size**2", "size**3"),
    "Thing.half": ("/ 2", "/ 4"),
    "Thing.twice": ("self.size + self.size", "self.size - self.size"),
    "Thing.zero": ("return 0", "return 1"),
    "Thing.save": ("Callable = forget", "Callable = refuse"),
    "Thing.load": ("load = drop = forget", "load = drop = refuse"),
    "LIMIT": ("LIMIT = 3", "LIMIT = 4"),
    "NAMES": ('("a", "b")', '("a", "c")'),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_module_that_was_loaded_earlier_is_compared_with_its_file(module: ModuleType, name: str) -> None:
    assert loaded.unlike_source(module, EARLIER.encode()) is None
    assert loaded.unlike_source(module, ("# comment\n\n" + EARLIER).encode()) is None
    old, new = EDITS[name]
    assert EARLIER.count(old) == 1
    assert loaded.unlike_source(module, EARLIER.replace(old, new).encode()) == name


def test_a_function_that_was_patched_in_an_earlier_module_is_refused(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "earlier_module.py"
    path.write_text(EARLIER)
    monkeypatch.setattr(closure, "source_path", lambda name: path)
    assert closure.loaded_digest("earlier_module") == closure.source_digest("earlier_module")
    module.plain = lambda x: x  # type: ignore[attr-defined]
    with pytest.raises(StageError, match=r"'plain' of earlier_module is not what earlier_module\.py says.*start the"):
        closure.loaded_digest("earlier_module")


# Libraries


def test_another_version_of_a_library_is_refused_where_it_would_compute(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.planning.recipes.library_version", lambda name: "0.0.1")  # the client's
    here = importlib.metadata.version("numpy")
    with pytest.raises(
        StaleProcessError, match=rf"^a: numpy is {here} where it should compute, the recipe says 0\.0\.1: use one"
    ):
        user.project.run()
    assert not user.project.shards()


def test_a_library_that_is_missing_and_one_that_was_installed_anew_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, config = toy.Numbers(), toy.NumbersConfig()
    assert "no-such-library is not installed" in environment_difference({"no-such-library": "1"}, stage, config)
    assert environment_difference({"numpy": library_version("numpy"), "device": "cpu"}, stage, config) == ""
    monkeypatch.setattr(loaded, "_VERSIONS", {})
    monkeypatch.setattr(loaded, "_time_of_installation", lambda distribution: 2e10)
    assert environment_difference({"numpy": library_version("numpy")}, stage, config) == "", "its own version says so"
    monkeypatch.setattr(loaded, "_VERSIONS", {})
    monkeypatch.setattr(np, "__version__", "1.0")
    told = environment_difference({"numpy": library_version("numpy")}, stage, config)
    assert "was installed after this process had loaded numpy" in told


def test_a_fact_of_the_machine_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.Numbers, "environment", lambda self, config: {"libjpeg": "9"})
    told = environment_difference({"libjpeg": "8"}, toy.Numbers(), toy.NumbersConfig())
    assert told.startswith("libjpeg is 9 where it should compute, the recipe says 8")


# Files

FILES = """
nodes:
  a: {stage: "toy:Numbers", count: 6}
  moved: {stage: "toy:Offset", of: a, table: table.txt}
"""


def swapped(path: Path, content: str) -> Callable[[], None]:
    """Another file under the same name, by a rename; called again: the first one is put back."""
    other, kept = path.with_suffix(".other"), path.with_suffix(".kept")
    other.write_text(content)

    def swap() -> None:
        if kept.exists():
            kept.rename(path)
        else:
            path.rename(kept)
            other.rename(path)

    return swap


def turned(path: Path, content: str) -> Callable[[], None]:
    """A link that is turned to another file, and back."""
    targets = [path.with_suffix(".one"), path.with_suffix(".two")]
    path.rename(targets[0])
    targets[1].write_text(content)
    path.symlink_to(targets[0])

    def turn() -> None:
        targets.reverse()
        path.unlink()
        path.symlink_to(targets[0])

    return turn


def rewritten(path: Path, content: str) -> Callable[[], None]:
    """Other bytes of equal length in the same file, its times put back as well."""
    texts = [path.read_text(), content]
    times = path.stat()

    def rewrite() -> None:
        texts.reverse()
        path.write_text(texts[0])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return rewrite


@pytest.mark.parametrize("way", [swapped, turned, rewritten])
def test_a_file_that_was_another_one_while_it_was_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path, str], Callable[[], None]]
) -> None:
    """Replaced after its check and before the stage reads it, and put back before publishing."""
    project = Project(tmp_path, monkeypatch, FILES)
    table = tmp_path / "table.txt"
    table.write_text("5")
    change = way(table, "7")
    plain = toy.Offset.compute

    def compute(self: Any, config: Any, batch: Any, ctx: Any) -> Any:
        change()
        values = plain(self, config, batch, ctx)
        assert values["value"].min() == 7.0
        change()
        return values

    monkeypatch.setattr(toy.Offset, "compute", compute)
    with pytest.raises(StageError, match=r"^moved: .*table\.txt was replaced or touched while it was in use"):
        project.run()
    assert not list((tmp_path / "store").glob("offset/*/*.zarr"))
    monkeypatch.setattr(toy.Offset, "compute", plain)
    assert project.run().computed == {"moved": 6}
    assert min(open_node(project.file, "moved").array("value")) == 5.0


def test_a_file_that_is_untouched_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    file = CheckedFile(path, hashlib.sha256(b"one").hexdigest())
    first = file.check("node")
    assert first == file.check("node")
    (tmp_path / "beside").write_bytes(b"another file in the folder is none of its business")
    assert file.check("node") == first


def test_a_module_that_a_hook_rewrites_is_vouched_for_by_the_age_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rewritten.py"
    path.write_text("VALUE = 1\n")
    assert not loaded.is_plain(sys.modules[__name__]), "pytest rewrites this module"
    monkeypatch.setattr(closure, "source_path", lambda name: path)
    monkeypatch.setattr(loaded, "_time_of_start", lambda: path.stat().st_ctime + 1)
    assert closure.loaded_digest(__name__) == closure.source_digest(__name__)
    monkeypatch.setattr(loaded, "_time_of_start", lambda: path.stat().st_ctime - 1)
    with pytest.raises(StageError, match=r"'rewritten\.py' of test_proof is not what rewritten\.py says"):
        closure.loaded_digest(__name__)


def test_a_process_knows_that_it_began_after_what_was_done_just_before() -> None:
    program = "from pipeline import loaded; print(loaded._time_of_start())"
    before = time.time()
    began = float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert before - 0.001 < began < time.time()
