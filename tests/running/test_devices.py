"""Which GPU computed a row is known, and no chain gets rows of two kinds by chance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import toy
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.running import devices
from pipeline.running.run import RunReport, run
from pipeline.running.tasks import open_store
from pipeline.runs import this_run
from pipeline.storage.shards import read_attributes
from pipeline.storage.store import Store
from pipeline.storage.upkeep import compact

NODES = """
device: {device}
nodes:
  a: {{stage: "toy:Numbers", count: {count}}}
  b: {{stage: "toy:Scale", of: a, shard_rows: 4}}
  m: {{stage: "toy:Mean", on: b}}
"""
A100 = {"model": "NVIDIA A100", "cuda": "12.4", "cudnn": "90100"}
H100 = {"model": "NVIDIA H100", "cuda": "13.0", "cudnn": "91002"}
OF_A100, OF_H100 = "NVIDIA A100 (CUDA 12.4, cuDNN 90100)", "NVIDIA H100 (CUDA 13.0, cuDNN 91002)"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("pipeline.running.run.check_device", lambda *_: None)
    monkeypatch.setattr(toy.Scale, "network", True)
    monkeypatch.setattr(toy.Mean, "network", True)
    return Project(tmp_path / "project", monkeypatch, "")


def on(line: Project, patch: pytest.MonkeyPatch, gpu: Any, count: int, mix_devices: bool = False) -> RunReport:
    """A run where PyTorch finds this GPU (none: the CPU)."""
    patch.setattr(devices, "gpu_here", lambda: gpu)
    line.write(NODES.format(device="cuda" if gpu else "cpu", count=count))
    open_store.cache_clear()
    return run(line.load(), [], 1, mix_devices=mix_devices)


def gpus(line: Project, stage: str) -> list[list[dict[str, str]]]:
    return [read_attributes(one).get("gpus", []) for one in sorted((line.folder / "store" / stage).rglob("*.zarr"))]


def test_shards_and_artifacts_say_which_gpu_computed_them(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on(line, monkeypatch, A100, 8)
    assert gpus(line, "scale") == [[A100], [A100]]
    assert gpus(line, "numbers") == [[]]  # no network: the same on every device
    (artifact,) = line.folder.rglob("artifact.json")
    assert json.loads(artifact.read_text())["gpus"] == [A100]


def test_a_cpu_leaves_no_word_of_a_gpu(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on(line, monkeypatch, None, 4)
    assert gpus(line, "scale") == [[]]
    (artifact,) = line.folder.rglob("artifact.json")
    assert "gpus" not in json.loads(artifact.read_text())


def test_rows_of_another_gpu_are_refused_unless_they_are_meant(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on(line, monkeypatch, A100, 8)
    assert on(line, monkeypatch, A100, 9).notes == []
    sentence = f"^b has rows of {OF_A100}, and this run computes on {OF_H100}: .* or add --mix-devices$"
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        on(line, monkeypatch, H100, 12)
    assert sorted(gpus(line, "scale"), key=str) == [[A100]] * 3
    report = on(line, monkeypatch, H100, 12, mix_devices=True)
    assert report.notes == [
        f"b: rows of {OF_A100} and {OF_H100} stand side by side (--mix-devices); they differ in their last bits"
    ]
    assert sorted(gpus(line, "scale"), key=str) == [[A100]] * 3 + [[H100]]


def test_compaction_keeps_the_word(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on(line, monkeypatch, A100, 8)
    on(line, monkeypatch, H100, 12, mix_devices=True)
    (branch,) = line.plan().branches["b"]
    compact(Store(line.load().store, writable=True), "scale", branch.chain, branch.rows.id, 100, this_run())
    assert gpus(line, "scale") == [[A100, H100]]


def test_workers_with_different_gpus_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"^b would get rows of several GPUs, and this run computes on .*A100.*H100"):
        devices.mixed("b", set(), [H100, A100, A100], allowed=False)
    assert devices.mixed("b", set(), [H100, H100], allowed=False) is None


def test_cublas_is_told_to_repeat_itself_before_torch_is_loaded() -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
