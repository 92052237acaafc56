"""The command line: help with examples, one sentence per mistake, JSON alone on stdout, exit codes."""

# ruff: noqa: E501 (one case of a table stands on one line)

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import typer
from command_line import command
from PIL import Image
from toy_project import ROOT, Project, environment, tree
from toy_project import touchstone as elsewhere

from pipeline import cli
from pipeline.running.tasks import open_store

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 12}
  b: {stage: "toy:Scale", of: a}
  mean: {stage: "toy:Mean", on: b}
  centered: {stage: "toy:Center", of: b, mean: mean}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "project"
    with pytest.MonkeyPatch.context() as patch:
        Project(folder, patch, PIPELINE).run()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    open_store.cache_clear()
    shutil.copytree(finished, tmp_path / "project")
    project = Project(tmp_path / "project", monkeypatch, PIPELINE)
    project.log.unlink(missing_ok=True)
    monkeypatch.chdir(project.folder)
    return project


@pytest.fixture
def touchstone(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process, in the folder of a finished project."""

    return command(monkeypatch, capsys)


def verbs(group: Any = None, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Names of all commands, those of groups with their group."""
    group = group or typer.main.get_command(cli.app)
    found = []
    for name, one in group.commands.items():
        found += verbs(one, (*before, name)) if hasattr(one, "commands") else [(*before, name)]
    return found


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_every_help_ends_with_two_examples_of_the_verb(verb: tuple[str, ...], touchstone: Any) -> None:
    said = touchstone(*verb, "--help")
    assert (said.code, said.err) == (0, "")
    examples = said.out.partition("Examples:")[2].strip().splitlines()
    assert len(examples) == 2
    assert all(line.strip().startswith(f"touchstone {' '.join(verb)}") for line in examples)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("run bb", 2, "touchstone: there is no node 'bb' in pipeline.yaml; did you mean 'b'?"),
        ("run --set nodes.b.factr=2", 2, "touchstone: --set nodes.b.factr: nodes.b.factr is not a setting of 'scale'; did you mean 'factor'?"),
        ("run --file absent.yaml", 2, "touchstone: absent.yaml does not exist; give the path of a pipeline file"),
        ("run --workers 0", 2, "Invalid value for '--workers'"),
        ("run --device tpu", 2, "touchstone: --device: device is 'tpu'; expected 'cpu' or 'cuda'"),
        ("plan c", 2, "touchstone: there is no node 'c' in pipeline.yaml; allowed: a, b, centered, mean"),
        ("status c", 2, "touchstone: there is no node 'c'"),
        ("explain c", 2, "touchstone: there is no node 'c'"),
        ("explain b zz", 2, "touchstone: b has no row whose id begins with 'zz', and none of a file or seed of that name; `touchstone show"),
        ("show b zz", 2, "touchstone: b has no row whose id begins with 'zz', and none of a file or seed of that name; `touchstone show"),
        ("show mean", 2, "touchstone: 'mean' has no rows to draw: it makes an artifact; its files are consumed.npy, mean.json in /"),
        ("show mean --set nodes.a.count=9", 2, "touchstone: 'mean' has no rows to draw: it makes an artifact; `touchstone run mean` makes it"),
        ("report", 2, "touchstone: pipeline.yaml has no report node; add one, e.g. `report: {stage: report, of: EVALUATION}`"),
        ("report --node b", 2, "touchstone: 'b' gives rows, not a report; name a node of the stage 'report'"),
        ("report --node mean", 2, "touchstone: 'mean' wrote no HTML page; it has "),
        ("report --node mean --set nodes.a.count=9", 1, "touchstone: 'mean' is not made yet, or stale; `touchstone run mean` makes it"),
        ("graph c", 2, "touchstone: there is no node 'c'"),
        ("verify --rebuild -1", 2, "Invalid value for '--rebuild'"),
        ("compact c", 2, "touchstone: there is no node 'c'"),
        ("gc --keep-last -1", 2, "Invalid value for '--keep-last'"),
        ("freeze mean", 2, "touchstone: 'mean' is an artifact; freeze nodes of rows, and `touchstone pin mean`"),
        ("freeze b --set nodes.a.count=14", 1, "touchstone: b lacks 2 of 14 rows; run it, then freeze"),
        ("freeze", 2, "Missing argument 'NODE...'"),
        ("pin b", 2, "touchstone: 'b' gives rows; only fits and reduces can be pinned"),
        ("accept b --set store=empty", 2, "touchstone: b has nothing to accept: the store has no earlier result of its rows"),
        ("config show --set seed=x", 2, "touchstone: --set seed: seed is 'x'; expected a valid integer"),
        ("config schema x", 2, "Got unexpected extra argument"),
        ("checkpoint absent.pkl", 2, "touchstone: absent.pkl is not a file; give the path of a checkpoint"),
        ("checkpoint pipeline.yaml", 1, "touchstone: pipeline.yaml is no checkpoint: it begins with b'\\nnodes:\\n'; expected"),
        ("checkpoint pipeline.yaml --to safetensors", 2, "touchstone: a conversion needs both --to safetensors and --out FILE"),
        ("predict nothing pipeline.yaml -f absent.yaml", 2, "touchstone: nothing is no model: expected the folder of a trained model"),
        ("predict mean absent.png", 2, "touchstone: absent.png: does not exist; expected an image, a folder of images or a zip, tar, Parquet or LMDB file"),
        ("lineage b zz", 2, "touchstone: b has no row whose id begins with 'zz', and none of a file or seed of that name; `touchstone show"),
        ("lineage mean 0", 2, "touchstone: 'mean' makes an artifact, and has no rows; `touchstone explain mean` tells of it"),
        ("compare absent.html absent.html", 2, "touchstone: absent.html cannot be read (No such file or directory); "),
        ("bias nothing . -f absent.yaml", 2, "touchstone: nothing is no model: expected the folder of a trained model"),
        ("audit absent absent", 2, "touchstone: absent: does not exist, expected a folder of images, a zip or tar file,"),
        ("table c", 2, "touchstone: pipeline.yaml: 'c' is no node of the stage 'evaluate'"),
        ("quickstart --real absent", 2, "touchstone: give --real DIR and --fake DIR, or --data DIR with both classes in it"),
        ("export mean --to npz --out taken", 2, "touchstone: 'mean' gives an artifact, not rows; `touchstone show mean` says"),
        ("doctor --nothing", 2, "No such option"),
        ("doctor --file absent.yaml", 1, ""),
        ("rnu", 2, "No such command 'rnu'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_on_stderr_without_a_traceback(
    arguments: str, code: int, sentence: str, touchstone: Any, project: Project
) -> None:
    before = tree(project.folder)
    said = touchstone(*arguments.split())
    assert said.code == code
    assert sentence in said.err.replace("\n", " ")
    assert "Traceback" not in said.err + said.out
    if sentence.startswith("touchstone: "):
        assert len([line for line in said.err.splitlines() if line.startswith("touchstone: ")]) == 1
        assert said.out == ""
    after = tree(project.folder)
    caches = {name for name in after if name.startswith("store/.cache/")}  # a writing verb may fill them and then fail
    assert {name: after[name] for name in after.keys() - caches} == {
        name: before[name] for name in before.keys() - caches
    }


def test_every_verb_has_an_error_test() -> None:
    tested = {mark.args[1][k][0] for mark in
              test_a_mistake_is_one_sentence_on_stderr_without_a_traceback.pytestmark for k in range(len(mark.args[1]))}  # type: ignore[attr-defined] # fmt: skip
    for verb in verbs():
        assert any(text.split()[: len(verb)] == list(verb) for text in tested) or verb == ("config", "stages"), verb


def test_debug_shows_the_traceback(touchstone: Any, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.errors import ConfigError

    monkeypatch.setattr(sys, "argv", ["touchstone", "--debug", "run", "bb"])
    with pytest.raises(ConfigError, match="there is no node 'bb'"):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("run --json", 0), ("run --json --set nodes.a.count=13", 0), ("plan --json", 0), ("plan --json --set nodes.a.count=13", 0),
        ("status --json", 0), ("explain b --json", 0), ("explain b --json --set nodes.b.factor=3.0", 1),
        ("verify --json --rebuild 1", 0), ("gc --json", 0), ("config show --json", 0), ("config schema", 0),
    ],
)  # fmt: skip
def test_json_is_alone_on_stdout(arguments: str, code: int, touchstone: Any) -> None:
    said = touchstone(*arguments.split())
    assert said.code == code
    json.loads(said.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_run_says_what_it_computed_then_that_nothing_is_left(touchstone: Any) -> None:
    said = touchstone("run", "--set", "nodes.a.count=14")
    assert said.code == 0
    assert said.out.splitlines() == ["a: 2 computed", "b: 2 computed", "mean: 1 computed", "centered: 14 computed"]
    assert touchstone("run", "--set", "nodes.a.count=14").out == "nothing to compute: 4 nodes, 43 rows and artifacts are fresh\n"  # fmt: skip


def test_a_failed_row_gives_exit_code_1_and_its_name(touchstone: Any, project: Project) -> None:
    project.break_numbers(13)
    said = touchstone("run", "--set", "nodes.a.count=14")
    assert (said.code, said.out) == (1, "")
    assert re.search(r"touchstone: b: 1 row failed \(0 allowed\): a [0-9a-f]{12}: the number 13 is broken", said.err)
    said = touchstone("run", "--set", "nodes.a.count=14", "--set", "max_failed_rows=1")
    assert said.code == 0
    assert re.search(r"^b: 1 failed \(allowed\): a [0-9a-f]{12}: the number 13 is broken$", said.out, re.MULTILINE)
    said = touchstone("status", "--set", "nodes.a.count=14", "--set", "max_failed_rows=1")
    assert "1 failed" in said.out
    assert "to be made" not in said.out


def test_plan_explain_status_and_graph_speak_of_the_same_state(touchstone: Any) -> None:
    change = ("--set", "nodes.b.factor=3.0")
    assert touchstone("explain", "b").out == "b <- a: fresh (12 rows)\n"
    said = touchstone("explain", "b", *change)
    assert said.code == 1
    assert re.fullmatch(r"b <- a: STALE  12 of 12 rows(, est. \d+ s)?\n  config: config.factor 2.0 -> 3.0 \(12 rows\)\n", said.out)  # fmt: skip
    assert "config: config.factor 2.0 -> 3.0" in touchstone("plan", *change).out
    assert re.search(r"^b +scale +0 of 12 rows$", touchstone("status", *change).out, re.MULTILINE)
    said = touchstone("graph", *change)
    assert 'n1["b<br/>0 of 12"]:::stale' in said.out
    assert 'n0["a<br/>12 of 12"]\n' in said.out
    assert "n2 --> n3" in said.out


def test_an_error_of_explain_is_never_taken_for_stale(touchstone: Any, project: Project) -> None:
    (project.folder / "store" / "aliases.json").write_text("{")
    assert touchstone("explain", "b").code == 2


def test_show_lists_rows_and_draws_one(touchstone: Any, project: Project) -> None:
    first = touchstone("show", "b").out.splitlines()[0]
    assert re.fullmatch(r"[0-9a-f]{12}  a [0-9a-f]{12}", first)
    said = touchstone("show", "b", first.split()[0], "--out", "one.png")
    assert said.code == 0
    with Image.open(project.folder / "one.png") as image:
        assert np.asarray(image).std() > 0


def test_care_of_the_store_from_the_command_line(touchstone: Any, project: Project) -> None:
    touchstone("run", "--set", "nodes.a.count=14")
    project.replace("count: 12", "count: 14")
    assert touchstone("compact").out.splitlines()[0] == "a: 14 rows; 1 shard written, 2 dropped"
    assert touchstone("verify").code == 0
    said = touchstone("gc", "--apply", "--grace-s", "0")
    assert said.out.splitlines()[-1].endswith("MiB freed")
    assert touchstone("pin", "mean").out.startswith("mean pinned as ")
    assert touchstone("freeze", "b").out.rstrip().endswith("frozen-b.yaml: 1 node, 14 rows")
    assert touchstone("run").out.startswith("nothing to compute")


def test_verify_of_a_damaged_store_is_exit_code_1(touchstone: Any, project: Project) -> None:
    (project.shards()[0] / "zarr.json").write_text("{}")
    said = touchstone("verify")
    assert said.code == 1
    assert "zarr.json" in said.out


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    touchstone: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = toy.Scale.compute

    once = [signal.SIGINT]

    def interrupting(*arguments: Any) -> Any:
        if once:
            os.kill(os.getpid(), once.pop())
        return plain(*arguments)

    monkeypatch.setattr(toy.Scale, "compute", interrupting)
    change = ("run", "--set", "nodes.b.factor=5.0")
    said = touchstone(*change)
    assert said.code == 130
    assert re.search(r"^touchstone: stopped: \d+ rows and artifacts of this run are kept; the same command goes on$", said.err, re.MULTILINE)  # fmt: skip
    monkeypatch.setattr(toy.Scale, "compute", plain)
    assert touchstone(*change).out.splitlines()[0] in ("mean: 1 computed", "b: 12 computed")


def test_doctor_says_what_is_wrong_and_what_to_do(touchstone: Any, project: Project) -> None:
    said = touchstone("doctor")
    assert "ok    pipeline file: pipeline.yaml is valid: 4 nodes" in said.out
    project.write("nodes: {}\n")
    said = touchstone("doctor", "--json")
    assert said.code == 1
    assert [one["found"] for one in json.loads(said.out) if not one["ok"]] == [
        "pipeline.yaml:1 nodes must be a mapping of node names to stages, and not empty"
    ]


def test_shell_completion_is_offered(touchstone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TOUCHSTONE_COMPLETE", "source_bash")
    said = touchstone()
    assert "complete -o" in said.out
    assert "touchstone" in said.out


def test_a_plan_for_cuda_needs_neither_a_device_nor_torch_but_run_does(project: Project, tmp_path: Path) -> None:
    """In a process of its own, whose torch is a stand-in that finds no device and is there at once."""
    stand_in = tmp_path / "stand_in" / "torch.py"
    stand_in.parent.mkdir()
    stand_in.write_text("class cuda:\n    is_available = staticmethod(lambda: False)\n")
    surroundings = environment(project)
    surroundings["PYTHONPATH"] = os.pathsep.join([str(stand_in.parent), surroundings["PYTHONPATH"]])
    code = (
        "import sys, toy\nfrom pipeline import cli\n"
        "def call(*words):\n"
        "    sys.argv = ['touchstone', *words]\n"
        "    try: cli.main()\n    except SystemExit as end: return end.code or 0\n"
        "toy.Scale.network = True\n"
        "codes = [call('plan'), call('plan', '--device', 'cuda'), call('plan', 'b', '--device', 'cuda')]\n"
        "print('TORCH', 'torch' in sys.modules)\n"
        "print('CODES', *codes, call('run', '--device', 'cuda'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, cwd=project.folder, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert "TORCH False\n" in done.stdout
    assert "CODES 0 0 0 2\n" in done.stdout
    sentences = [line for line in done.stderr.splitlines() if line.startswith("touchstone: --device: device is cuda, ")]
    assert len(sentences) == 1


@pytest.mark.parametrize("arguments", ["plan", "plan --json", "config schema", "show b"])
def test_an_output_that_cannot_be_written_is_named(arguments: str, project: Project) -> None:
    done = elsewhere(project, *arguments.split(), out="/dev/full")
    assert done.stderr == "touchstone: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_help_imports_nothing_heavy(project: Project) -> None:
    code = (
        "import sys\nfrom pipeline.cli import app\n"
        "for words in (['--help'], ['run', '--help'], ['verify', '--help']):\n"
        "    try: app(words)\n    except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'zarr', 'dask', 'distributed', 'scipy', 'sklearn', 'matplotlib', 'PIL'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(project), capture_output=True, text=True, timeout=60, check=True
    )
    assert "HEAVY []" in done.stdout


def test_planning_imports_neither_torch_nor_zarr(project: Project) -> None:
    code = (
        "import sys\nfrom pipeline.cli import app\n"
        "for words in (['plan'], ['status'], ['run'], ['explain', 'b']):\n"
        "    try: app(words)\n    except SystemExit as end: assert end.code == 0\n"
        "print('HEAVY', sorted({'torch', 'zarr', 'dask', 'distributed', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(project), cwd=project.folder, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert "HEAVY []" in done.stdout


def test_the_module_is_the_command(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "bb"], cwd=project.folder, env=environment(project),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "touchstone: there is no node 'bb' in pipeline.yaml; did you mean 'b'?\n"
    assert (ROOT / "pipeline" / "__main__.py").exists()


def test_a_verb_alone_is_what_it_is_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def options(group: Any, name: str) -> list[tuple[Any, ...]]:
        found = group.commands[name].params
        return [(one.name, one.opts, one.secondary_opts, one.default, one.required, one.help) for one in found]

    whole = typer.main.get_command(cli.app)
    known: list[Any] = []
    monkeypatch.setattr(cli.app.__class__, "__call__", lambda self, prog_name: known.append(self))
    for words in (["run", "--workers", "2"], ["plan"], ["--debug", "run"], ["config", "show"], ["rum"], []):
        monkeypatch.setattr(sys, "argv", ["touchstone", *words])
        cli.main()
    alone = [typer.main.get_command(one) for one in known[:2]]
    assert [list(one.commands) for one in alone] == [["run"], ["plan"]]  # type: ignore[attr-defined]
    assert options(alone[0], "run") == options(whole, "run")
    assert [one.name for one in alone[0].params if one.name in ("debug", "version")] == ["debug", "version"]
    assert known[2:] == [cli.app] * 4
