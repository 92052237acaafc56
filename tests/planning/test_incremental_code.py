"""What an edit of a user's code recomputes: a table of mutations, counted by what the stages really did."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from code_project import Code

from pipeline import loaded
from pipeline.commands.upkeep import accept_nodes
from pipeline.errors import StageError
from pipeline.planning import recipes

ALL = {"one": 9, "two": 18, "four": 9}


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
