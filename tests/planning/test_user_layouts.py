"""Layouts of user code: an edit that changes what a fresh Python computes with it changes the closure, and no other.

Each layout is a small tree with a module that has `value()`, and one edit. A process of its own, without Touchstone,
says whether the edit changes the value; the layout says what it should, so that both can be wrong only together.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from user_folders import write

from pipeline import importing
from pipeline.planning.closure import closure


@dataclass(frozen=True)
class Layout:
    """files: path -> text. edit: (file, old text, new text); without an old text the file is new."""

    name: str
    files: dict[str, str]
    edit: tuple[str, str | None, str]
    seen: bool = True
    stage: str = "my"


F = "def f():\n    return 1\n"
USES_HELPER = "import helper\n\ndef value():\n    return helper.f()\n"
ONE_TO_TWO = ("return 1", "return 2")
VALUE_F = "\ndef value():\n    return f()\n"


def layout(
    name: str, file: str, old: str | None, new: str, stage: str = "my", seen: bool = True, **files: str
) -> Layout:
    """files: `pk__h` stands for pk/h.py, `pk__init` for pk/__init__.py."""
    paths = {f"{key.replace('__', '/').replace('/init', '/__init__')}.py": text for key, text in files.items()}
    return Layout(name, paths, (file, old, new), seen, stage)


LAYOUTS = [
    layout("the stage's file", "my.py", *ONE_TO_TWO, my="def value():\n    return 1\n"),
    layout("helper beside a module", "helper.py", *ONE_TO_TWO, my=USES_HELPER, helper=F),
    layout("name of a helper", "helper.py", *ONE_TO_TWO, my="from helper import f as g\nf = g\n" + VALUE_F, helper=F),
    layout("helper of a helper", "deep.py", *ONE_TO_TWO, my=USES_HELPER, helper="from deep import f\n", deep=F),
    layout("import inside a function", "helper.py", *ONE_TO_TWO, helper=F,
           my="def value():\n    import helper as h\n    return h.f()\n"),
    layout("relative import", "pk/h.py", *ONE_TO_TWO, "pk.stage", pk__init="", pk__h=F,
           pk__stage="from .h import f\n" + VALUE_F),
    layout("absolute import in a package", "pk/h.py", *ONE_TO_TWO, "pk.stage", pk__init="", pk__h=F,
           pk__stage="from pk.h import f\n" + VALUE_F),
    layout("submodule by its package", "pk/h.py", *ONE_TO_TWO, pk__init="", pk__h=F,
           my="from pk import h\n\ndef value():\n    return h.f()\n"),
    layout("init that imports relatively", "pk/h.py", *ONE_TO_TWO, pk__init="from .h import f\n", pk__h=F,
           my="import pk\n\ndef value():\n    return pk.f()\n"),
    layout("init that imports a sibling relatively", "pk/sub/h.py", *ONE_TO_TWO, pk__init="", pk__sub__h=F,
           pk__sub__init="from .h import f\n", my="from pk.sub import f\n" + VALUE_F),
    layout("init that imports from its parent", "pk/h.py", *ONE_TO_TWO, pk__init="", pk__h=F,
           pk__sub__init="from ..h import f\n", my="from pk.sub import f\n" + VALUE_F),
    layout("constant of a parent", "pk/__init__.py", "K = 1", "K = 2", pk__init="K = 1\n", pk__h=F,
           my="import pk.h\n\ndef value():\n    return pk.K\n"),
    layout("constant of the middle parent", "pk/sub/__init__.py", "K = 1", "K = 2", pk__init="", pk__sub__h=F,
           pk__sub__init="K = 1\n", my="import pk.sub.h\n\ndef value():\n    return pk.sub.K\n"),
    layout("init that patches a submodule", "pk/__init__.py", "5", "6", "pk.stage", pk__h=F,
           pk__init="from . import h\nh.f = lambda: 5\n", pk__stage="from .h import f\n" + VALUE_F),
    layout("init of the stage's package that changes another module", "pk/__init__.py", "5", "6", "pk.stage",
           pk__init="import helper\nhelper.K = 5\n", helper="K = 1\n",
           pk__stage="import helper\n\ndef value():\n    return helper.K\n"),
    layout("init of a helper's package", "lib/__init__.py", "5", "6", lib__h=F,
           lib__init="import lib.h\nlib.h.f = lambda: 5\n", my="from lib.h import f\n" + VALUE_F),
    layout("second package", "other/sums.py", *ONE_TO_TWO, "pk.stage", pk__init="", other__init="", other__sums=F,
           pk__stage="from other.sums import f\n" + VALUE_F),
    layout("second package by its init", "other/sums.py", *ONE_TO_TWO, "pk.stage", pk__init="", other__sums=F,
           other__init="from other.sums import f\n", pk__stage="from other import f\n" + VALUE_F),
    layout("package that a module beside imports", "pk/h.py", *ONE_TO_TWO, "pk.stage", pk__init="", pk__h=F,
           pk__stage="import helper\n\ndef value():\n    return helper.f()\n", helper="from pk.h import f\n"),
    layout("factory in another module", "factory.py", "x + 1", "x + 2",
           factory="def make(x):\n    class Made:\n        def value(self): return x + 1\n    return Made\n",
           my="from factory import make\n\nMade = make(3)\n\ndef value():\n    return Made().value()\n"),
    layout("argument of a factory", "my.py", "make(3)", "make(4)",
           factory="def make(x):\n    return type('Made', (), {'value': lambda self: x})\n",
           my="from factory import make\n\nMade = make(3)\n\ndef value():\n    return Made().value()\n"),
    layout("imported class that is patched", "my.py", "5", "6", base="class B:\n    def f(self):\n        return 1\n",
           my="from base import B\n\nB.f = lambda self: 5\n\ndef value():\n    return B().f()\n"),
    layout("module that is imported for what it patches", "patches.py", "5", "6", helper=F,
           patches="import helper\n\nhelper.f = lambda: 5\n", my="import patches\n" + USES_HELPER),
    layout("base class", "base.py", *ONE_TO_TWO, base="class B:\n    def f(self):\n        return 1\n",
           my="import base\n\nclass S(base.B):\n    pass\n\ndef value():\n    return S().f()\n"),
    layout("base class behind two inits", "pk/b.py", *ONE_TO_TWO, pk__init="from .a import *\n", pk__b=F,
           pk__a="from .b import f\n", my="from pk import f\n" + VALUE_F),
    layout("star import of a module", "helper.py", *ONE_TO_TWO, helper=F, my="from helper import *\n" + VALUE_F),
    layout("star import of a package's modules", "pk/h.py", *ONE_TO_TWO, pk__init="__all__ = ['h']\n", pk__h=F,
           my="from pk import *\n\ndef value():\n    return h.f()\n"),
    layout("two levels up", "pk/top.py", *ONE_TO_TWO, "pk.sub.stage", pk__init="", pk__sub__init="", pk__top=F,
           pk__sub__stage="from ..top import f\n" + VALUE_F),
    layout("package without init", "ns/h.py", *ONE_TO_TWO, "ns.stage", ns__h=F,
           ns__stage="from ns.h import f\n" + VALUE_F),
    layout("relative import in a package without init", "ns/h.py", *ONE_TO_TWO, "ns.stage", ns__h=F,
           ns__stage="from . import h\n\ndef value():\n    return h.f()\n"),
    layout("folder without init beside", "lib/h.py", *ONE_TO_TWO, lib__h=F, my="from lib.h import f\n" + VALUE_F),
    layout("package that hides a module of its name", "pk/h/__init__.py", *ONE_TO_TWO, pk__init="", pk__h__init=F,
           pk__h="def f():\n    return 9\n", my="from pk.h import f\n" + VALUE_F),
    layout("stage in a package's init", "pk/h.py", *ONE_TO_TWO, "pk", pk__init="from .h import f\n" + VALUE_F, pk__h=F),
    layout("import that stands in for another", "slow.py", *ONE_TO_TWO, slow=F,
           my="try:\n    from fast import f\nexcept ImportError:\n    from slow import f\n" + VALUE_F),
    layout("module that comes", "fast.py", None, "def f():\n    return 2\n", slow=F,
           my="try:\n    from fast import f\nexcept ImportError:\n    from slow import f\n" + VALUE_F),
    layout("submodule that comes", "pk/fast.py", None, "def f():\n    return 2\n", "pk.stage", pk__init="", pk__slow=F,
           pk__stage="try:\n    from .fast import f\nexcept ImportError:\n    from .slow import f\n" + VALUE_F),
    layout("decorator", "deco.py", "+ 1", "+ 2", deco="def more(g):\n    return lambda: g() + 1\n",
           my="from deco import more\n\n@more\ndef value():\n    return 1\n"),
    layout("default argument", "helper.py", "K = 1", "K = 2", helper="K = 1\n",
           my="import helper\n\ndef value(x=helper.K):\n    return x\n"),
    layout("attributes made on demand", "pk/__init__.py", "5", "6", pk__init="def __getattr__(name):\n    return 5\n",
           my="from pk import anything\n\ndef value():\n    return anything\n"),
    layout("text that is run", "my.py", "K = 1", "K = 2", my="exec('K = 1')\n\ndef value():\n    return K\n"),
    layout("other encoding", "helper.py", "'\u00e9'", "'\u00e8'", my=USES_HELPER,
           helper="# -*- coding: latin-1 -*-\ndef f():\n    return ascii('\u00e9')\n"),
    layout("module hidden by a package of its name", "pk/h.py", "9", "8", seen=False, pk__init="", pk__h__init=F,
           pk__h="def f():\n    return 9\n", my="from pk.h import f\n" + VALUE_F),
    layout("comment of a helper", "helper.py", "return 1", "return 1  # one", seen=False, my=USES_HELPER, helper=F),
    layout("docstring of an init", "pk/__init__.py", "Old", "New", "pk.stage", seen=False, pk__init="'''Old.'''\n",
           pk__h=F, pk__stage="from .h import f\n" + VALUE_F),
    layout("formatting of a second package", "other/__init__.py", "return 1", "return (\n        1\n    )", seen=False,
           other__init=F, my="from other import f\n" + VALUE_F),
    layout("module that nothing imports", "unused.py", "1", "2", seen=False, my=USES_HELPER, helper=F,
           unused="K = 1\n"),
    layout("package that nothing imports", "pk/__init__.py", "1", "2", seen=False, my=USES_HELPER, helper=F,
           pk__init="K = 1\n"),
    layout("sibling that nothing imports", "pk/b.py", "1", "2", seen=False, pk__init="", pk__a=F, pk__b="K = 1\n",
           my="from pk.a import f\n" + VALUE_F),
    layout("file that comes", "notes.py", None, "K = 1\n", seen=False, my=USES_HELPER, helper=F),
]  # fmt: skip


def real_value(folder: Path, module: str) -> str:
    """What a fresh Python computes."""
    code = f"import importlib; print(importlib.import_module({module!r}).value())"
    ran = subprocess.run(
        [sys.executable, "-B", "-S", "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a pipeline file, the only one of this process."""
    monkeypatch.setattr(importing, "_FOLDERS", [])
    importing.add_user_folder(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: case.name)
def test_an_edit_is_seen_where_it_changes_what_python_computes(folder: Path, case: Layout) -> None:
    for path, text in case.files.items():
        write(folder / path, text)
    value, before = real_value(folder, case.stage), closure((case.stage,))
    path, old, new = case.edit
    if old is None:
        write(folder / path, new)
    else:
        text = (folder / path).read_bytes().decode("latin-1")
        assert text.count(old) == 1
        write(folder / path, text.replace(old, new))
    assert (real_value(folder, case.stage) != value) is case.seen
    assert (closure((case.stage,)) != before) is case.seen


def test_there_are_forty_layouts_and_more() -> None:
    assert len(LAYOUTS) >= 40
    assert len({case.name for case in LAYOUTS}) == len(LAYOUTS)


def test_the_closure_of_a_tree_is_the_same(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    for place in (folder, other):
        write(place / "pk/__init__.py", "from .h import f\n")
        write(place / "pk/h.py", F)
        write(place / "my.py", "import pk\n")
    here = closure(("my",))
    importing.add_user_folder(other)
    assert closure(("my",)) == here
    assert list(here) == ["my", "pk", "pk.h"]


@pytest.mark.parametrize("place", [".venv/lib/python3/site-packages", "env/src", "vendored/dist-packages"])
def test_installed_modules_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """They are told by the version of their distribution (`libraries`)."""
    write(folder / "env/pyvenv.cfg", "")
    write(folder / place / "installed_case.py", F)
    write(folder / "my.py", "import installed_case\n")
    monkeypatch.syspath_prepend(str(folder / place))
    assert list(closure(("my",))) == ["my"]


def test_a_virtual_environment_around_the_pipeline_file_hides_none_of_its_modules(folder: Path) -> None:
    write(folder / "pyvenv.cfg", "")
    write(folder / "my.py", "import helper\n")
    write(folder / "helper.py", F)
    assert list(closure(("my",))) == ["helper", "my"]


def test_modules_of_the_python_path_count_wherever_they_lie(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("path")
    write(other / "path_case/__init__.py", textwrap.dedent(F))
    write(folder / "my.py", "import path_case\n")
    monkeypatch.syspath_prepend(str(other))
    assert list(closure(("my",))) == ["my", "path_case"]


def test_touchstone_counts_by_its_values_and_never_by_its_engine_or_registries(folder: Path) -> None:
    write(
        folder / "my.py", "import stages\nfrom pipeline.stage import Stage\nfrom stages.images.planes import planes\n"
    )
    assert [name for name in closure(("my",)) if not name.startswith("stages.")] == ["my"]
    assert "stages.images.planes" in closure(("my",))
