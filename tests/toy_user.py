"""A stage of a user's that imports a helper, and a cluster that lives on between runs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from toy_project import Project

from pipeline.open import open_node

if TYPE_CHECKING:
    from distributed import LocalCluster

PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 6}
  scaled: {stage: "NAME.stage:Scaled", of: a}
"""
STAGE = '''
from pipeline.stage import Field, Input, Kind, Stage, StageConfig

class Config(StageConfig):
    """No setting."""

class Scaled(Stage):
    name, kind, Config = "scaled", Kind.MAP, Config
    inputs = {"of": Input("rows")}

    def schema(self, config, inputs):
        return {"value": Field("<f8", (), "1")}

    def compute(self, config, batch, ctx):
        from NAME.helper import factor
        return {"value": batch.inputs[0]["value"] * factor()}
'''
HELPER = "FACTOR = {}\n\n\ndef factor():\n    return FACTOR\n"


class User:
    """A pipeline with a stage of the user's that imports a helper lazily; modules have names of their own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.name = f"user_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        self.project = Project(folder, patch, PIPELINE.replace("NAME", self.name))
        (folder / self.name).mkdir()
        (folder / self.name / "__init__.py").touch()
        (folder / self.name / "stage.py").write_text(STAGE.replace("NAME", self.name))
        self.helper = folder / self.name / "helper.py"
        self.factor(2)
        patch.syspath_prepend(str(folder))

    def factor(self, number: float) -> None:
        """What the helper says from now on."""
        self.helper.write_text(HELPER.format(number))

    def values(self) -> list[float]:
        self.forget()
        return sorted(open_node(self.project.file, "scaled").array("value").tolist())

    def forget(self) -> None:
        """As in a new process."""
        for name in [name for name in sys.modules if name.partition(".")[0] == self.name]:
            del sys.modules[name]


@contextmanager
def living(processes: bool, workers: int = 1) -> Iterator[LocalCluster]:
    """Workers: processes that nannies watch, or threads of this process, which nobody can start anew."""
    import dask
    from distributed import LocalCluster

    patience = {"distributed.deploy.lost-worker-timeout": "300s"}  # a busy machine would give up a restart
    with dask.config.set(patience), LocalCluster(n_workers=workers, threads_per_worker=1, processes=processes,
            protocol="tcp://", dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:  # fmt: skip
        yield cluster
