"""A pipeline of toy stages in a folder, and what each run of it really computed (read from the stages' own log)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from warm_command import call

from pipeline import ids
from pipeline.commands.upkeep import compact_nodes
from pipeline.dataset import Dataset, Part
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.planning.explain import Explainer
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan
from pipeline.running.progress import Bars
from pipeline.running.run import RunReport, open_scan, run
from pipeline.running.tasks import open_store
from pipeline.storage.store import Store

ROOT = Path(__file__).parents[1]
TESTS = Path(__file__).parent

STANDARD = """
nodes:
  a: {stage: "toy:Numbers", count: 40}
  b: {stage: "toy:Numbers", first: 1000, count: 20, label: 1}
  scaled: {stage: "toy:Scale", matrix: {factor: [2.0, 3.0]}, of: [a, b], factor: "{factor}"}
  noisy: {stage: "toy:Jitter", of: {of: "scaled[2.0]", where: source = b}}
  sum: {stage: "toy:SumStage", of: {of: "scaled[2.0]", pair: "scaled[3.0]"}}
  mean: {stage: "toy:Mean", on: sum}
  centered: {stage: "toy:Center", of: noisy, mean: mean}
"""


def toy_id(number: int) -> bytes:
    """Id of a number of the stage `numbers`."""
    return hashlib.sha256(f"toy {number}".encode()).digest()[:16]


class Project:
    """A folder with `pipeline.yaml`, its store, and the log of the toy stages."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, text: str = STANDARD) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "pipeline.yaml"
        self.log = folder / "computed.log"
        self.broken = folder / "broken.json"
        patch.setenv("TOY_LOG", str(self.log))
        patch.setenv("TOY_BROKEN", str(self.broken))
        patch.setenv("TOY_RAISING", str(folder / "raising.json"))
        patch.setenv("TOY_DIE", str(folder / "die"))
        patch.setattr("pipeline.atomic.flush", lambda path: None)  # power cuts are not tested here, time is short
        self.write(text)

    def write(self, text: str) -> None:
        self.file.write_text(textwrap.dedent(text))

    def replace(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the pipeline"
        self.file.write_text(text.replace(old, new))

    def break_numbers(self, *numbers: float) -> None:
        self.broken.write_text(json.dumps(list(numbers)))

    def raise_at(self, *numbers: float) -> None:
        (self.folder / "raising.json").write_text(json.dumps(list(numbers)))

    def load(self, *overrides: str) -> Pipeline:
        return load_pipeline(self.file, list(overrides))

    def run(
        self, *targets: str, overrides: tuple[str, ...] = (), workers: int | None = 1, bars: bool = False
    ) -> RunReport:
        """bars: progress on stderr."""
        open_store.cache_clear()
        with forked_workers() if workers and workers > 1 else nullcontext():
            return run(self.load(*overrides), list(targets), workers, bars=Bars() if bars else None)

    def plan(self, *overrides: str, recorded: bool = False) -> Plan:
        pipeline = self.load(*overrides)
        scan = open_scan(pipeline, False)
        return make_plan(pipeline, Store(pipeline.store), scan, pins=read_pins(pipeline.base), recorded=recorded)

    def causes(self, *overrides: str) -> dict[str, list[tuple[str, str, int]]]:
        """Node -> all causes, for what is stale."""
        return {
            state.node.partition(" ")[0]: state.causes
            for state in Explainer(self.plan(*overrides)).all()
            if state.missing
        }

    @property
    def store(self) -> Store:
        return Store(self.load().store)

    def computed(self) -> Counter[str]:
        """Stage -> rows that were really computed since the last call."""
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return Counter(line.partition(" ")[0] for line in lines)

    def rows(self, *overrides: str, recorded: bool = False) -> dict[tuple[str, bytes, str], bytes]:
        """(node, id, field) -> bytes of the value, of all rows that are there."""
        plan = self.plan(*overrides, recorded=recorded)
        found = {}
        for branch in plan.all_branches():
            part = Part(branch.stage.name, branch.chain, branch.schema, branch.rows.id[branch.have])
            data = Dataset(plan.store, [part], {})
            for name in data.fields:
                for row_id, value in zip(ids.to_bytes(data.ids), data.array(name), strict=True):
                    found[branch.node, row_id, name] = value.tobytes()
        return found

    def facts(self, node: str) -> dict[str, Any]:
        """`facts` of a finished artifact."""
        artifact = self.plan(recorded=True).artifacts[node].found
        assert artifact is not None
        return dict(artifact.info["facts"])

    def shards(self) -> list[Path]:
        return sorted((self.folder / "store").glob("*/*/*.zarr"))

    def compacted(self) -> dict[str, bytes]:
        """All files of all shards after `compact`."""
        compact_nodes(self.load(), [])
        return tree(self.folder / "store", "*/*/*.zarr/**/*")

    def remove_store(self) -> None:
        shutil.rmtree(self.folder / "store")


def forked_workers() -> AbstractContextManager[Any]:
    """Dask's workers come from a process that has imported what they need, with the toys' environment of this one."""
    import dask
    import distributed  # noqa: F401  # its defaults have to be there before some of them are replaced for a while

    return dask.config.set(
        {
            "distributed.worker.multiprocessing-method": "forkserver",
            "distributed.nanny.environ": {name: "" for name in os.environ if name.startswith("TOY_")},
        }
    )


def tree(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Relative path -> content of all files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.glob(pattern)) if p.is_file()}


def environment(project: Project) -> dict[str, str]:
    """Environment of a subprocess that finds the toy stages."""
    paths = [str(ROOT), str(TESTS)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def touchstone(project: Project, *arguments: str, out: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own. out: a file that takes its output."""
    return call(arguments, project.folder, environment(project), out)


def cold(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process that starts with nothing imported."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(
        command, cwd=project.folder, env=environment(project), capture_output=True, text=True, timeout=60, check=False
    )
