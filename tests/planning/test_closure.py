"""Code closures: an edit that can change values changes them, a spelling does not."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import loaded
from pipeline.planning.closure import closure, functions, loaded_digest, one_look, source_digest
from pipeline.planning.recipes import differences

NUMBERS = itertools.count()

FILES = {
    "__init__.py": "STAGES = {'blur': 'blur:Blur'}\n",
    "blur.py": """
        '''A stage.'''
        import numpy as np

        from . import kernels
        from .shapes.square import area as square_area

        SIZE = 3  # pixels

        def work(x):
            '''Docstring.'''
            return kernels.box(x, SIZE) + square_area(x)

        def modules(name):
            return (f"family_{name}",)
        """,
    "kernels.py": "def box(x, n):\n    return [sum(x) / n]\n\nclass Edge:\n    weight = 1\n",
    "shapes/__init__.py": "LIST = []\n",
    "shapes/square.py": "from ..deep import depth\n\ndef area(x):\n    return depth(x) ** 2\n",
    "deep.py": "def depth(x):\n    return len(x)\n",
    "family_svm.py": "C = 1\n",
    "unused.py": "X = 1\n",
}


class Package:
    def __init__(self, folder: Path) -> None:
        self.name = f"closure_case_{next(NUMBERS)}"
        self.folder = folder / self.name
        for file, text in FILES.items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def closure(self, *modules: str) -> dict[str, str]:
        names = tuple(f"{self.name}.{module}" for module in modules or ("blur",))
        return {name.removeprefix(f"{self.name}."): mark for name, mark in closure(names).items()}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Package(tmp_path)


def test_the_closure_is_the_file_and_what_it_imports_with_the_packages_around_it(package: Package) -> None:
    assert list(package.closure()) == [package.name, "blur", "deep", "kernels", "shapes", "shapes.square"]
    assert package.name not in sys.modules, "modules are read as text, not imported"


def test_modules_that_a_config_selects_are_added_and_touch_no_other(package: Package) -> None:
    alone, chosen = package.closure(), package.closure("blur", "family_svm")
    assert chosen == {**alone, "family_svm": chosen["family_svm"]}
    package.edit("family_svm.py", "1", "2")
    assert package.closure() == alone
    assert package.closure("blur", "family_svm") != chosen


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("blur.py", "  # pixels", "  # side in pixels\n\n\n"),
        ("blur.py", "'''Docstring.'''", "'''Another\n    docstring.'''"),
        ("blur.py", "'''A stage.'''", '"""The same stage."""'),
        ("blur.py", "SIZE = 3  # pixels", "SIZE = (0x3)\n'''What the constant means.'''"),
        (
            "blur.py",
            "return kernels.box(x, SIZE) + square_area(x)",
            "return (kernels.box(\n x,SIZE)+square_area( x ) )",
        ),
        ("kernels.py", "    return [sum(x) / n]", "    # the mean\n    return [\n        sum(x) / n,\n    ]"),
        ("kernels.py", "    weight = 1", "    '''An edge.'''\n\n    weight = 1"),
        ("shapes/__init__.py", "LIST", "'''Shapes.'''\nLIST"),
        ("__init__.py", "'blur'", '"blur"'),
        ("unused.py", "1", "2"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(package: Package, file: str, old: str, new: str) -> None:
    before = package.closure()
    package.edit(file, old, new)
    assert package.closure() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "module"),
    [
        ("blur.py", "SIZE = 3", "SIZE = 3.0", "blur"),
        ("blur.py", "+ square_area", "- square_area", "blur"),
        ("kernels.py", "/ n", "// n", "kernels"),
        ("kernels.py", "weight = 1", "weight = 2", "kernels"),
        ("deep.py", "len(x)", "len(x) + 0", "deep"),
        ("deep.py", "return len(x)", "return None", "deep"),
        ("shapes/square.py", "** 2", "** 3", "shapes.square"),
        ("kernels.py", "def box(x, n):", "def box(x, n=2):", "kernels"),
        ("shapes/__init__.py", "[]", "['a new entry']", "shapes"),
    ],
)
def test_an_edit_of_the_stage_or_of_a_helper_changes_that_module_only(
    package: Package, file: str, old: str, new: str, module: str
) -> None:
    before = package.closure()
    package.edit(file, old, new)
    after = package.closure()
    assert {name for name in before if before[name] != after[name]} == {module}


def test_within_one_look_the_sources_are_what_they_were_at_its_beginning(package: Package) -> None:
    with one_look():
        before = package.closure()
        package.edit("deep.py", "return len(x)", "return None")
        assert package.closure() == before
    assert {name for name, mark in package.closure().items() if mark != before[name]} == {"deep"}


def test_words_and_marks_of_a_users_module_count_as_everything_else(package: Package) -> None:
    """Only Touchstone's own modules are known to make no values of them (see tests/test_hygiene.py)."""
    package.edit("deep.py", "return len(x)", "raise KeyError('red')")
    package.edit("kernels.py", "class Edge", "IN_RECIPES = False\n\nclass Edge")
    before = package.closure()
    assert {"deep", "kernels"} <= set(before)
    package.edit("deep.py", "'red'", "'green'")
    assert {name for name in before if before[name] != package.closure()[name]} == {"deep"}


def test_two_spellings_of_one_program_have_one_digest(package: Package) -> None:
    first = """
        '''One.'''
        from x import (a,
                       b)
        TABLE = {'k': 1_000, "j": 'two' "words", **{}}
        class C(object):
            '''Doc.'''
            x: int = 1
            def f(self, *, n=None) -> 'int':
                if n == None and not (a or b): return -1
                return f"{n!r:>{3}} {TABLE['k']}"
        async def g(*args, **kw):
            async with a as c: yield lambda q, /: q[1:2, ...]
        """
    second = """
        # no docstring
        from x import a, b

        TABLE = {
            "k": 1000,
            "j": "twowords",
            **{},
        }


        class C(object):
            x: int = 0x1

            def f(self, *, n=None) -> "int":  # comment
                if (n == None) and not (a or b):
                    return (-1)
                return f'{n!r:>{3}} {TABLE["k"]}'


        async def g(*args, **kw):
            async with a as c:
                yield (lambda q, /: q[1:2, ...])
        """
    marks = []
    for text in (first, second):
        (package.folder / "deep.py").write_text(textwrap.dedent(text))
        marks.append(package.closure("deep"))
    assert marks[0] == marks[1]


def test_explain_names_the_function_and_line_and_nothing_that_only_moved(package: Package) -> None:
    def components() -> dict[str, object]:
        name = f"{package.name}.blur"
        marks = {module: {key: mark for key, (mark, _) in functions(module).items()} for module in closure((name,))}
        return {"code": closure((name,)), "functions": marks}

    before = components()
    package.edit("blur.py", "import numpy as np", "import math\nimport numpy as np")
    package.edit("blur.py", "+ square_area", "- square_area")
    assert differences(before, components()) == [
        ("code", f"{package.name}.blur changed (line 3; work, line 11)")
    ]  # fmt: skip


def test_explain_names_a_function_that_is_gone_and_a_module_that_came(package: Package) -> None:
    name = f"{package.name}.blur"
    old = {
        "code": closure((name,)),
        "functions": {m: {k: v for k, (v, _) in functions(m).items()} for m in closure((name,))},
    }
    package.edit("kernels.py", "class Edge:\n    weight = 1\n", "")
    package.edit("deep.py", "def depth", "from .unused import X\n\ndef depth")
    found = [text.replace(f"{package.name}.", "") for _, text in differences(old, {"code": closure((name,))})]
    assert found == ["deep changed (line 1)", "kernels changed (Edge is gone)", "unused came or went"]


def test_the_registries_of_touchstone_do_not_count() -> None:
    found = closure(("stages.train", "detectors.svm"))
    assert {"stages", "detectors"}.isdisjoint(found)
    assert {"stages.train", "detectors.svm"} <= set(found)


def test_one_detector_family_does_not_reach_another() -> None:
    families = ("detectors.svm", "detectors.cnn", "detectors.logistic")
    for family in families:
        assert set(families) & set(closure((family,))) == {family}


def test_a_module_that_another_thread_is_importing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known already, and empty: its constants are not there yet."""
    (tmp_path / "half_imported.py").write_text("NUMBER = 4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    known, go = threading.Event(), threading.Event()
    plain, waiting = loaded.RecordingLoader.get_code, importlib.import_module

    def slow(self: Any, name: str) -> Any:
        known.set()
        assert go.wait(20)
        return plain(self, name)

    def waits(name: str) -> Any:
        go.set()
        return waiting(name)

    monkeypatch.setattr(loaded.RecordingLoader, "get_code", slow)
    with ThreadPoolExecutor(1) as pool:
        importing = pool.submit(waiting, "half_imported")
        try:
            assert known.wait(20)
            monkeypatch.setattr(importlib, "import_module", waits)
            assert loaded_digest("half_imported") == source_digest("half_imported")
        finally:
            go.set()
            assert importing.result().NUMBER == 4
            del sys.modules["half_imported"]


def test_modules_that_are_imported_from_a_package_of_touchstones_own_count() -> None:
    found = closure(("stages.images.containers",))  # `from stages.images import jpeg_segments, video_container`
    assert {"stages.images.jpeg_segments", "stages.images.video_container"} <= found.keys()
