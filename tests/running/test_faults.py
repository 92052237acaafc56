"""Memory that is used up and a GPU that fails end the task; no row is blamed and none is tried alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy
from toy_project import Project

from pipeline.errors import StageError
from pipeline.running.faults import fault_of_machine
from pipeline.running.run import run

NODES = """
nodes:
  a: {stage: "toy:Numbers", count: 30}
  b: {stage: "toy:Scale", of: a}
  m: {stage: "toy:Mean", on: a}
"""
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 3 GiB")
LOST = torch.AcceleratorError("misaligned address")


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch, NODES)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FULL, r"not enough memory \(CUDA out of memory. Tried to allocate 20.00 GiB.\); no row has failed: .*micro_b"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory .*no row has failed",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "not enough memory .*no row has failed"),
        (LOST, r"the GPU has failed \(misaligned address\); no row has failed: .*--device cpu$"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU has failed .*no row has failed"),
    ],
)
def test_a_fault_of_the_machine_ends_the_task_and_leaves_no_failed_row(
    line: Project, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    sizes: list[int] = []

    def compute(self: toy.Scale, config: object, batch: object, ctx: object) -> None:
        sizes.append(len(batch))  # type: ignore[arg-type]
        raise error

    monkeypatch.setattr(toy.Scale, "compute", compute)
    with pytest.raises(StageError, match=f"^b: {sentence}"):
        line.run("b")
    assert 1 not in sizes
    assert not list((line.folder / "store").rglob("*failed*"))


def test_a_fit_says_the_same(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: toy.Mean, config: object, views: object, ctx: object) -> None:
        raise FULL

    monkeypatch.setattr(toy.Mean, "fit", fit)
    with pytest.raises(StageError, match=r"^m: not enough memory \(CUDA out of memory"):
        line.run("m")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), OSError("CUDA error")])
def test_other_errors_are_left_to_the_rows(error: Exception) -> None:
    assert fault_of_machine("b", error) is None


def test_a_cluster_has_the_gpus_and_this_machine_need_not(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        """Of the workers."""

    def workers(*_: object) -> None:
        raise Asked

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(toy.Scale, "network", True)
    monkeypatch.setattr("pipeline.running.cluster.DaskExecutors", workers)
    with pytest.raises(Asked):
        run(line.load("device=cuda"), ["b"], scheduler="tcp://127.0.0.1:8786")
