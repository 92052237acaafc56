"""Stages of a user: found beside the pipeline file, refused where they cannot be followed, never in the way."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_processes import DEADLINE_S, DaskProcesses
from user_folders import write

from pipeline import importing
from pipeline.declaring.config import load_pipeline
from pipeline.declaring.stage_names import modules_of
from pipeline.errors import ConfigError, StageError
from pipeline.planning.closure import closure
from pipeline.planning.recipes import make_recipe
from pipeline.running.run import RunReport, run

ROOT = Path(__file__).parents[2]
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
    pipeline = load_pipeline(pipeline_file(folder, "own_case.kernels:Numbers"))
    assert pipeline.nodes["a"].stage.name == "user_numbers"


def test_the_folder_is_no_entry_of_the_path(folder: Path) -> None:
    stage_file(folder / "path_case.py")
    load_pipeline(pipeline_file(folder, "path_case:Numbers"))
    assert str(folder) not in sys.path, "spawned processes copy it and would take a user's pipeline.py for the engine"


def test_the_last_pipeline_file_comes_first_and_no_folder_twice(tmp_path: Path, folder: Path) -> None:
    for name in ("one", "two", "one"):
        importing.add_user_folder(tmp_path / name)
    assert importing.user_folders() == (str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path))


def test_two_pipelines_of_one_process_with_modules_of_one_name_are_told_apart(folder: Path) -> None:
    for name in ("one", "two"):
        stage_file(folder / name / "twice_case.py")
        pipeline_file(folder / name, "twice_case:Numbers")
    load_pipeline(folder / "one" / "pipeline.yaml")
    sentence = r"two/twice_case\.py has the name of .*one/twice_case\.py, which is taken for it; rename it"
    with pytest.raises(ConfigError, match=sentence):
        load_pipeline(folder / "two" / "pipeline.yaml")


@pytest.mark.parametrize(
    ("file", "stage", "sentence"),
    [
        ("json.py", "json:Numbers", r"json\.py has the name of .*json/__init__\.py, which is taken for it; rename it"),
        ("yaml/__init__.py", "yaml:Numbers", r"yaml/__init__\.py has the name of .*, which is taken for it; rename it"),
        ("sys.py", "sys:Numbers", r"sys\.py has the name of a module of Python, which is taken for it; rename it"),
        ("code/mine.py", "code.mine:Numbers", r"code/mine\.py has the name of .*code\.py, which is taken for it"),
        ("stages/mine.py", "stages.mine:Numbers", r"has the name of Touchstone's own package 'stages'; rename it"),
        ("pipeline.py", "pipeline:Numbers", r"has the name of Touchstone's own package 'pipeline'; rename it"),
        ("my_case.py", "my_cases:Numbers", r"No module named 'my_cases'; it is looked for beside the pipeline file"),
        ("my_case.py", "my_case.py:Numbers", r"No module named 'my_case\.py'; 'my_case' is not a package"),
        ("my_case.py", ":Numbers", r"cannot be imported as a stage: .*[Ee]mpty module name"),
        ("my_case.py", "detectors.mine:Numbers", r"'detectors' is Touchstone's own package, give yours another name"),
        ("my_case.py", "my_case:Number", r"my_case has no class 'Number'; did you mean 'Numbers'\?"),
        ("my_case.py", "my_case:Bare", r"is not a whole stage: Bare of my_case lacks 'name'"),
    ],
)  # fmt: skip
def test_a_name_that_gives_no_stage_is_one_sentence(folder: Path, file: str, stage: str, sentence: str) -> None:
    stage_file(folder / file, "class Bare(Stage): pass")
    with pytest.raises(ConfigError, match=sentence) as found:
        load_pipeline(pipeline_file(folder, stage))
    assert str(found.value).startswith(f"pipeline.yaml:3 nodes.a.stage '{stage}' ")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_module", r"No module named 'no_such_module' \(.*broken_case_\d+\.py:5\)"),
        ("raise KeyError('x')", r"KeyError: 'x' \(.*broken_case_\d+\.py:5\)"),
        ("raise SystemExit(2)", r"SystemExit: 2 \(.*broken_case_\d+\.py:5\)"),
        ("def f(:", r"SyntaxError: invalid syntax.*\(broken_case_\d+\.py, line 5\)"),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_one_sentence(folder: Path, text: str, sentence: str) -> None:
    name = f"broken_case_{next(NUMBERS)}"
    stage_file(folder / f"{name}.py", text)
    with pytest.raises(ConfigError, match=f"cannot be imported as a stage: {sentence}"):
        load_pipeline(pipeline_file(folder, f"{name}:Numbers"))


def test_a_helper_that_python_takes_from_elsewhere_is_one_sentence(folder: Path) -> None:
    write(folder / "my.py", "import colorsys\n")
    assert list(closure(("my",))) == ["my"]
    write(folder / "colorsys.py", "K = 1\n")
    with pytest.raises(StageError, match=r"^my\.py imports colorsys, but .*/colorsys\.py has the name of .*rename it$"):
        closure(("my",))


def test_a_helper_that_is_no_python_is_one_sentence(folder: Path) -> None:
    write(folder / "my.py", "def f():\n    import helper\n")
    write(folder / "helper.py", "x = 1\ndef f(:\n")
    with pytest.raises(StageError, match=r"helper\.py:2 is no valid Python: invalid syntax"):
        closure(("my",))


# What a stage is made of


def test_a_class_from_elsewhere_counts_by_the_module_that_names_it(folder: Path) -> None:
    stage_file(folder / "base_case.py")
    write(folder / "named_case.py", "from base_case import Numbers\nNumbers.compute = lambda *_: {}\n")
    file = pipeline_file(folder, "named_case:Numbers")
    assert code_of(file) == {"base_case", "named_case"}


def test_a_class_of_a_factory_counts_by_its_maker_and_its_namer(folder: Path) -> None:
    stage_file(folder / "whole_case.py", "def make(): return type('Made', (Numbers,), {'__module__': 'maker_case'})")
    write(folder / "maker_case.py", "import whole_case\nMade = whole_case.make()\n")
    write(folder / "namer_case.py", "import sys\nMade = sys.modules['maker_case'].Made\n")
    write(folder / "first_case.py", "import maker_case\n")
    load_pipeline(pipeline_file(folder, "maker_case:Made"))
    assert code_of(pipeline_file(folder, "namer_case:Made")) == {"maker_case", "namer_case", "whole_case"}


def test_a_stage_of_touchstone_is_its_own_module() -> None:
    node = load_pipeline(ROOT / "pipeline.yaml").nodes["photos"]
    assert modules_of(node.stage) == ("stages.ingest",)


# What is refused

BY_NAME = (
    "and edits of what it loads would not be seen; import by a statement, or name the modules in `modules` of the stage"
)
A_FILE = "and edits of a file that is read by it would not be seen; make the file a file setting of the stage"


@pytest.mark.parametrize(
    ("text", "line", "word", "advice"),
    [
        ("import importlib\nh = importlib.import_module('helper')", 2, "importlib.import_module", BY_NAME),
        ("from importlib import import_module as load\n\nload('h')", 3, "importlib.import_module", BY_NAME),
        ("import importlib as il\nload = il.import_module", 2, "importlib.import_module", BY_NAME),
        ("def f():\n    return __import__('helper')", 2, "__import__", BY_NAME),
        ("import runpy\nrunpy.run_path('x')", 2, "runpy.run_path", BY_NAME),
        ("import importlib.util as u\nu.spec_from_file_location", 2, "importlib.util.spec_from_file_location", BY_NAME),
        ("text = input\nexec(text)", 2, "exec", BY_NAME),
        ("def f(text):\n    return eval(text)", 2, "eval", BY_NAME),
        ("exec('import helper')", 1, "exec", BY_NAME),
        ("import sys\nsys.modules['helper'] = 1", 2, "sys.modules", BY_NAME),
        ("from pathlib import Path\nHERE = Path(__file__).parent", 2, "__file__", A_FILE),
        ("import helper, numpy\nnumpy.load(helper.__file__ + 'x')", 2, "__file__", A_FILE),
        ("from importlib.resources import files", 1, "importlib.resources", A_FILE),
        ("import pkgutil\npkgutil.get_data('my', 'x')", 2, "pkgutil.get_data", A_FILE),
        ("import inspect\ninspect.getfile(f)", 2, "inspect.getfile", A_FILE),
        ("def f():\n    return open('table.json')", 2, "'table.json'", A_FILE),
        ("import numpy as np\nTABLE = 'data/table.npy'\nnp.load(TABLE)", 2, "'data/table.npy'", A_FILE),
        ("import subprocess\nsubprocess.run(['python', 'helper.py'])", 2, "'helper.py'", A_FILE),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_its_line(
    folder: Path, text: str, line: int, word: str, advice: str
) -> None:
    for name in ("table.json", "data/table.npy", "helper.py"):
        write(folder / name, "")
    write(folder / "my.py", "import deep\n")
    write(folder / "deep.py", text)
    with pytest.raises(StageError) as found:
        closure(("my",))
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


@pytest.mark.jobs
def test_folders_of_touchstone_s_names_break_no_command(tmp_path: Path) -> None:
    """Neither beside the pipeline file nor in PYTHONPATH, where spawned workers meet them too."""
    project = tmp_path / "project"
    stage_file(project / "my.py", "import helper")
    write(project / "helper.py", "K = 1\n")
    pipeline_file(project, "my:Numbers")
    for name in ("pipeline", "stages", "detectors"):
        write(project / name / "__init__.py", "raise RuntimeError('not Touchstone')\n")
        write(project / f"{name}.py", "raise RuntimeError('not Touchstone')\n")
    ran = command(tmp_path, [str(project)], "run", "--workers", "2")
    assert (ran.returncode, ran.stdout) == (0, "a: 4 computed\n"), ran.stderr
    assert not re.search("Traceback|not Touchstone", ran.stderr)
    write(project / "helper.py", "K = 2\n")
    ran = command(tmp_path, [], "explain", "a")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "helper changed (K, line 1)" in ran.stdout


def test_a_worker_that_joins_later_in_another_folder_finds_the_stage(tmp_path: Path, folder: Path) -> None:
    """Neither it nor the scheduler has the project in its path."""
    processes = DaskProcesses(tmp_path)
    try:
        stage_file(folder / "project" / "joining_case.py", "import joined_helper")
        write(folder / "project" / "joined_helper.py", "K = 1\n")
        file = pipeline_file(folder / "project", "joining_case:Numbers")
        address, _ = processes.scheduler()
        reports: list[RunReport] = []
        pipeline = load_pipeline(file)
        running = threading.Thread(target=lambda: reports.append(run(pipeline, [], scheduler=address)))
        running.start()
        processes.worker(address)
        running.join(DEADLINE_S)
        assert [report.computed for report in reports] == [{"a": 4}]
    finally:
        processes.kill()
