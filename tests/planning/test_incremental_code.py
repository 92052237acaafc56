"""What an edit of a user's code recomputes: a table of mutations, counted by what the stages really did."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from toy_project import Project

from pipeline import loaded
from pipeline.commands.upkeep import accept_nodes
from pipeline.errors import StageError
from pipeline.module_paths import _found_top
from pipeline.planning import recipes

STAGE = '''
"""A stage of the user's own."""

from pipeline.stage import Field, Input, Kind, Stage, StageConfig, setting
{kernel}
from toy import log


class Config(StageConfig):
    power: float = setting(1.0, description="exponent")


class Bend(Stage):
    name, kind, Config = "{name}", Kind.MAP, Config
    inputs = {{"of": Input("rows")}}

    def schema(self, config, inputs):
        return {{"value": Field("<f8", (), "1")}}

    def compute(self, config, batch, ctx):
        log(self.name, batch)
        return {{"value": kernel.bend(batch.inputs[0]["value"], config.power)}}
'''
KERNEL = "def bend(x, power):\n    return x + power\n"
BESIDE = "from touchstone_case_other import bend as plain\n\n\ndef bend(x, power):\n    return 2 * plain(x, power)\n"
ALL = {"one": 9, "two": 18, "four": 9}


class Code(Project):
    """Two stages, each in a package of its own with a module that it imports; a third in a module beside the pipeline
    file, whose helper beside it takes a function from another package; a fourth with a file of numbers."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              a: {stage: "toy:Numbers", count: 9}
              one: {stage: "touchstone_case_one.stage:Bend", of: a}
              two: {stage: "touchstone_case_two.stage:Bend", of: one}
              three: {stage: "touchstone_case_two.stage:Bend", of: a}
              four: {stage: "touchstone_case_top:Bend", of: a}
              moved: {stage: "toy:Offset", of: a, table: table.txt}
            """)  # fmt: skip
        self.patch = patch
        patch.syspath_prepend(str(folder))
        files = {
            "top.py": STAGE.format(kernel="import touchstone_case_beside as kernel", name="four"),
            "beside.py": BESIDE,
            "other/__init__.py": "from .sums import bend\n\nSCALE = 1\n",
            "other/sums.py": KERNEL,
        }
        for name in ("one", "two"):
            stage = STAGE.format(kernel=f"from touchstone_case_{name} import kernel", name=name)
            files |= {f"{name}/__init__.py": "", f"{name}/kernel.py": KERNEL, f"{name}/stage.py": stage}
        for file, text in files.items():
            self.path(file).parent.mkdir(exist_ok=True)
            self.path(file).write_text(text)
        self.path("table.txt").write_text("5")
        self.forget()

    def path(self, file: str) -> Path:
        return self.folder / (file if file == "table.txt" else f"touchstone_case_{file}")

    def forget(self) -> None:
        """Imported modules are dropped, as if a new process began."""
        for name in [name for name in sys.modules if name.startswith("touchstone_case_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        _found_top.cache_clear()

    def edit(self, file: str, old: str, new: str, restarted: bool = True) -> None:
        """restarted: as if a new process began."""
        text = self.path(file).read_text()
        assert text.count(old) == 1
        self.path(file).write_text(text.replace(old, new))
        if restarted:
            self.forget()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Code]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    project = Code(tmp_path, monkeypatch)
    project.run()
    assert project.computed() == {"numbers": 9, **ALL, "offset": 9}
    yield project
    project.forget()


Mutation = Callable[[Code], Any]


def edited(file: str, old: str, new: str) -> Mutation:
    return lambda code: code.edit(file, old, new)


def added(file: str) -> Mutation:
    return lambda code: (code.path(file).write_text("X = 1\n"), code.forget())


def accepted(code: Code) -> None:
    code.edit("one/kernel.py", "x + power", "power + x")
    assert accept_nodes(code.load(), [])


def touched(code: Code) -> None:
    for path in (*code.folder.rglob("*.py"), code.path("table.txt")):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    code.forget()


def another_version(library: str) -> Mutation:
    """Installed, and loaded by a new process."""

    def install(code: Code) -> None:
        plain = recipes.library_version
        code.patch.setattr(recipes, "library_version", lambda name: "0.0.1" if name == library else plain(name))
        code.patch.setitem(loaded._VERSIONS, library, "0.0.1")

    return install


MUTATIONS: dict[str, tuple[Mutation, dict[str, int]]] = {
    # name: (mutation, stage -> rows really computed)
    "helper": (edited("one/kernel.py", "x + power", "x * power"), {"one": 9, "two": 9}),
    "helper of the last": (edited("two/kernel.py", "x + power", "x - power"), {"two": 18}),
    "default of a setting": (edited("two/stage.py", "setting(1.0", "setting(2.0"), {"two": 18}),
    "comment": (edited("one/kernel.py", "return x", "# add\n    return x"), {}),
    "docstring": (edited("one/kernel.py", "def bend(x, power):", 'def bend(x, power):\n    """Add."""'), {}),
    "formatting": (edited("one/kernel.py", "return x + power", "return (x+\n        power)"), {}),
    "docstring of a stage": (edited("one/stage.py", "stage of the user's own", "stage"), {}),
    "module that nothing imports": (added("one/other.py"), {}),
    "helper beside a stage": (edited("beside.py", "2 * plain", "3 * plain"), {"four": 9}),
    "comment of a helper beside a stage": (edited("beside.py", "return 2", "# twice\n    return 2"), {}),
    "another package": (edited("other/sums.py", "x + power", "x - power"), {"four": 9}),
    "init of another package": (edited("other/__init__.py", "SCALE = 1", "SCALE = 2"), {"four": 9}),
    "init of another package that patches": (
        edited("other/__init__.py", "SCALE = 1", "from . import sums\n\nsums.bend = bend = lambda x, power: x"),
        {"four": 9},
    ),
    "init of a stage's package": (edited("one/__init__.py", "", "from . import kernel\n"), {"one": 9, "two": 9}),
    "accepted": (accepted, {}),
    "all touched": (touched, {}),
    "file of a setting": (edited("table.txt", "5", "7"), {"offset": 9}),
    "library of the stages": (another_version("numpy"), {"numbers": 9, **ALL, "offset": 9}),
    "library of no stage": (another_version("torch"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_edit_recomputes_the_stages_that_it_reaches_and_no_others(code: Code, name: str) -> None:
    mutate, computed = MUTATIONS[name]
    before = {} if computed else code.rows()
    mutate(code)
    assert sum(code.run().computed.values()) == sum(computed.values())
    assert code.computed() == computed
    incremental = code.rows()
    if not computed:
        assert incremental == before
        return
    code.remove_store()
    code.run()
    assert code.rows() == incremental, "a cold build gives other values"


def test_an_edit_in_a_living_session_computes_nothing_until_the_next_process(code: Code) -> None:
    before = code.rows()
    code.edit("beside.py", "2 * plain", "3 * plain", restarted=False)
    with pytest.raises(StageError, match=r"touchstone_case_beside \(bend, line 4\) was changed after this process"):
        code.run()
    assert not code.computed()
    code.forget()
    code.run()
    assert code.computed() == {"four": 9}
    changed = {row for row, value in code.rows().items() if before[row] != value}
    assert {node for node, _, _ in changed} == {"four"}


def test_an_edit_during_a_run_is_never_published_under_the_recipe_before(
    code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of other stages are kept, and the next process computes all rows of the edited one."""
    plain = toy.Numbers.compute

    def compute(self: Any, config: Any, batch: Any, ctx: Any) -> Any:
        code.edit("other/sums.py", "x + power", "x - power", restarted=False)
        return plain(self, config, batch, ctx)

    code.replace("count: 9", "count: 12")
    with monkeypatch.context() as patch:
        patch.setattr(toy.Numbers, "compute", compute)
        with pytest.raises(StageError, match=r"^four: .*touchstone_case_other\.sums was changed while the run went on"):
            code.run()
    first = code.computed()
    assert first["four"] == 3
    code.forget()
    code.run()
    assert first + code.computed() == {"numbers": 3, "one": 3, "two": 6, "four": 3 + 12, "offset": 3}
    incremental = code.rows()
    code.remove_store()
    code.run()
    assert code.rows() == incremental


def test_edited_code_gives_its_new_values_and_the_old_code_its_old_rows_at_once(code: Code) -> None:
    before = code.rows()
    code.edit("one/kernel.py", "x + power", "x * (power + 2)")
    code.run()
    values = {row: np.frombuffer(v)[0] for (node, row, _), v in code.rows().items() if node == "one"}
    numbers = {row: np.frombuffer(v)[0] for (node, row, _), v in code.rows().items() if node == "a"}
    assert values == {row: 3 * number for row, number in numbers.items()}
    code.computed()
    code.edit("one/kernel.py", "x * (power + 2)", "x + power")
    assert code.run().computed == {}
    assert code.rows() == before
