"""Stages of a user: found beside the pipeline file, refused where they cannot be followed, never in the way."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_user_layouts import write

from pipeline import importing
from pipeline.closure import closure
from pipeline.config import load_pipeline
from pipeline.errors import ConfigError, StageError
from pipeline.recipes import make_recipe
from pipeline.stage_names import modules_of

ROOT = Path(__file__).parents[1]
NUMBERS = itertools.count()

STAGE = """
import hashlib
import numpy as np
from pipeline.stage import Field, Kind, SourceRows, Stage, StageConfig, row_setting
FURTHER

class Config(StageConfig):
    count: int = row_setting(4, description="rows")

class Numbers(Stage):
    name, kind, Config = "user_numbers", Kind.SOURCE, Config

    def schema(self, config, inputs):
        return {"x": Field("float64")}

    def discover(self, config, scan):
        ids = b"".join(hashlib.sha256(bytes([n])).digest()[:16] for n in range(config.count))
        return SourceRows(np.frombuffer(ids, "V16"), 0, None, payload={"n": np.arange(config.count)})

    def compute(self, config, batch, ctx):
        return {"x": batch.payload["n"] * 2.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a pipeline file, the only one of this process; what is imported from it is forgotten."""
    monkeypatch.setattr(importing, "_FOLDERS", [])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importing.add_user_folder(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def stage_file(path: Path, further: str = "") -> None:
    write(path, STAGE.replace("FURTHER", textwrap.dedent(further)))


def pipeline_file(folder: Path, stage: str) -> Path:
    write(folder / "pipeline.yaml", f'store: store\nnodes:\n  a: {{stage: "{stage}"}}\n')
    return folder / "pipeline.yaml"


def code_of(file: Path) -> set[str]:
    """Modules in the recipe of node `a`."""
    node = load_pipeline(file).nodes["a"]
    recipe = make_recipe(node.stage, node.config, {}, {}, {}, {}, 0, "cpu", 1)
    return set(recipe.components["code"])


# Where they are found


def test_a_stage_beside_the_pipeline_file_needs_no_python_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importing._FOLDERS.clear()
    monkeypatch.chdir("/")
    stage_file(folder / "own_case" / "kernels.py")
    page = "(docs/writing_a_stage.md says more)"
    assert str(found.value) == f"deep.py:{line} uses {word}, {advice} {page}"
    closure(("my",), declared=True)  # the stage names in `modules` what it loads


@pytest.mark.parametrize(
    "text",
    [
        "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))",
        "import sys\nfrom pathlib import Path\nsys.path[:0] = [str(Path(__file__).parent / 'lib')]",
        "if __name__ == '__main__':\n    print(open(__file__))\n    exec(input())",
        "from pipeline.stage import file_setting\nX: str = file_setting('table.json', description='a table')",
        "import pipeline.stage as s\nX: str = s.row_setting('table.json', description='rows')",
        "def f(model):\n    return model.eval()",
        "def eval(x):\n    return x\n\ny = eval(1)",
        "x = eval('1 + 1')",
        "import re\nre.compile('x')",
        "'''table.json'''",
        "x = 'nothing.json'",
        "import importlib.metadata\nv = importlib.metadata.version('numpy')",
        "from importlib.util import find_spec\nhas = find_spec('cv2') is not None",
        "import sys\nsys.modules.get('torch')",
    ],
)
def test_what_can_be_followed_or_harms_nothing_is_not_refused(folder: Path, text: str) -> None:
    write(folder / "table.json", "{}")
    write(folder / "my.py", text)
    assert list(closure(("my",))) == ["my"]


def test_a_compiled_module_is_refused(folder: Path) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    write(folder / "pk/__init__.py", "")
    write(folder / f"pk/fast{EXTENSION_SUFFIXES[0]}", "binary")
    write(folder / "my.py", "from pk import fast\n")
    with pytest.raises(
        StageError, match=r"my\.py imports pk\.fast, which is compiled \(fast\..*\), and edits of it would"
    ):
        closure(("my",))
    assert list(closure(("my",), declared=True)) == ["my", "pk"]


def test_a_stage_that_overrides_modules_may_import_by_name(folder: Path) -> None:
    further = "import importlib\n\ndef load(name):\n    return importlib.import_module(name)"
    stage_file(folder / "loading_case.py", further)
    with pytest.raises(StageError, match=r"^loading_case\.py:8 uses importlib\.import_module, "):
        code_of(pipeline_file(folder, "loading_case:Numbers"))
    write(folder / "named_helper.py", "K = 1\n")
    write(folder / "declaring_case.py", (
        "import loading_case\n\nclass Numbers(loading_case.Numbers):\n"
        "    def modules(self, config, files=()):\n        return ('named_helper',)\n"
    ))  # fmt: skip
    found = code_of(pipeline_file(folder, "declaring_case:Numbers"))
    assert found == {"declaring_case", "loading_case", "named_helper"}


# The command


def command(folder: Path, path: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed script, which says no more than this, in another folder than the pipeline's."""
    script = folder / "bin" / "touchstone"
    write(script, "import sys\nfrom touchstone import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    ran = [sys.executable, str(script), *arguments, "-f", str(folder / "project" / "pipeline.yaml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(ran, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("in_path", [False, True], ids=["beside the file", "in PYTHONPATH"])
def test_folders_of_touchstone_s_names_break_no_command(tmp_path: Path, in_path: bool) -> None:
    """Also not in spawned workers, nor in those of another working directory."""
    project = tmp_path / "project"
    stage_file(project / "my.py", "import helper")
    write(project / "helper.py", "K = 1\n")
    pipeline_file(project, "my:Numbers")
    for name in ("pipeline", "stages", "detectors"):
        write(project / name / "__init__.py", "raise RuntimeError('not Touchstone')\n")
        write(project / f"{name}.py", "raise RuntimeError('not Touchstone')\n")
    path = [str(project)] if in_path else []
    ran = command(tmp_path, path, "run", "--workers", "2")
    assert (ran.returncode, ran.stdout) == (0, "a: 4 computed\n"), ran.stderr
    assert not re.search("Traceback|not Touchstone", ran.stderr)
    write(project / "helper.py", "K = 2\n")
    ran = command(tmp_path, path, "explain", "a")
    assert ran.returncode == 1
    assert "helper changed (K, line 1)" in ran.stdout
