"""The acceptance on a GPU, run dry on the CPU: a step keeps its numbers, and a path that fails is told."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import paths, programs
from benchmarks.gpu.results import Acceptance, sentences


def run_step(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> dict[str, Any]:
    command = ["benchmarks.gpu", *arguments, "--device", "cpu", "--quick", "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    program.main()
    found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found


def test_steps_add_to_one_file_of_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_step(monkeypatch, tmp_path, "machine")
    found = run_step(monkeypatch, tmp_path, "paths", "--only", "loader")
    assert found["machine"]["device_copy_gb_s"] > 0
    names = {"loader preloaded", "loader streamed", "loader pinned"}
    assert {name for name, path in found["paths"].items() if name in names and path["ok"] and path["repeats"]} == names


def test_every_path_has_a_reason_if_it_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def unequal(device: str) -> dict[str, Any]:
        calls.append(device)
        return {"x": np.array([len(calls)])}

    def broken(device: str) -> dict[str, Any]:
        raise ValueError(f"no {device} here")

    monkeypatch.setattr(paths, "path_list", lambda quick: {"unequal": unequal, "broken": broken})
    found = run_step(monkeypatch, tmp_path, "paths")
    assert sentences(found)[0] == "path unequal gave other bytes the second time"
    assert sentences(found)[1].startswith("path broken failed: ValueError: no cpu here (at test_gpu_acceptance.py:")


def test_a_step_that_dies_is_told_and_costs_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Acceptance("cpu", tmp_path).keep("generator", {"repeats": True})

    def machine(run: Acceptance) -> dict[str, Any]:
        raise RuntimeError("CUDA error: misaligned address")

    monkeypatch.setitem(program.STEPS, "machine", machine)
    with pytest.raises(SystemExit):
        run_step(monkeypatch, tmp_path, "machine")
    found = Acceptance("cpu", tmp_path).known()
    assert found["generator"] == {"repeats": True}
    assert sentences(found)[0] == "step machine failed: RuntimeError: CUDA error: misaligned address"


@pytest.mark.parametrize(("arguments", "seconds"), [((), 300.0), (("--quick",), 2.0), (("--seconds", "7"), 7.0)])
def test_a_dry_run_trains_for_seconds(
    arguments: tuple[str, ...], seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(program.STEPS, "generator", lambda run: {"asked": run.seconds})
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu", "generator", *arguments, "--out", str(tmp_path)])
    program.main()
    assert Acceptance("cpu", tmp_path).known()["generator"]["asked"] == seconds


def test_all_tests_of_a_gpu_are_run_on_one() -> None:
    mark = "mark" + ".gpu"
    marked = {file for file in (paths.ROOT / "tests").rglob("test_*.py") if mark in file.read_text(encoding="utf-8")}
    named = {paths.ROOT / one for one in programs.TESTS}
    assert {file for file in marked if file != Path(__file__)} <= named
    assert named - marked == {paths.ROOT / "tests" / "test_paths.py"}  # which has the fixture `device`


def test_the_smallest_sizes_go_through_the_same_paths() -> None:
    assert list(paths.path_list(quick=True)) == list(paths.path_list())


@pytest.mark.parametrize(
    ("device", "limits"), [("cuda", [40, 80, 110, 90, 100, 120]), ("cpu", [160, 320, 440, 360, 400, 480])]
)
def test_limits_of_steps_keep_a_gpu_and_not_a_dry_run(device: str, limits: list[int], tmp_path: Path) -> None:
    python, called = tmp_path / "python", tmp_path / "called"
    python.write_text(f'#!/bin/sh\necho "$@" >>{called}\n', encoding="utf-8")
    python.chmod(0o755)
    given = {"DEVICE": device, "QUICK": "1", "PYTHON": str(python), "OUT": str(tmp_path / "out")}
    script = paths.ROOT / "benchmarks" / "gpu" / "accept.sh"
    made = subprocess.run([script, "checks"], env=os.environ | given, check=True, capture_output=True, text=True)
    assert [int(line.split()[-2]) for line in made.stdout.splitlines() if line.startswith("==")] == limits
    steps = [line.split()[2] for line in called.read_text(encoding="utf-8").splitlines() if "--quick" in line]
    assert steps == ["machine", "tests", "paths", "lanes", "feeding", "programs"]


def test_distance_is_relative_to_the_largest_value() -> None:
    a, b = {"x": np.array([1.0, -4.5]), "y": np.zeros(0)}, {"x": np.array([1.0, -5.0]), "y": np.zeros(0)}
    assert paths.distance(a, b) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "name",
    [
        "mixture",
        "slope of a detector",
        pytest.param("cnn pixels", marks=pytest.mark.stress),
        *(
            pytest.param(name, marks=pytest.mark.stress)
            for name in ("sample progan", "game stylegan2 +R bf16", "joint stage5 compact")
        ),
    ],
)
def test_paths_repeat_on_the_cpu(name: str, tmp_path: Path) -> None:
    entry = paths.paths(Acceptance("cpu", tmp_path, quick=True, only=name))[name]
    assert entry.get("repeats"), entry
