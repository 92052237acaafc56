"""This project as it was when goals in seconds were set, as a peer: another machine is faster or slower for both.

The tree of that commit comes out of the repository into a temporary folder, and runs in this environment. Its store of
the embedded default is complete, with zeros in place of values, as that of `noop_nodes`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import PROJECT, Ran, run_process

COMMIT = "405c3e9"

START = "import sys; from pipeline.cli import main; sys.argv[0] = 'touchstone'; main()"

FILL = """\
from pathlib import Path
from pipeline import tasks
from pipeline.config import load_pipeline
from pipeline.run import run
tasks._call = lambda task, datasets, rows: (tasks._empty(task.schema, len(rows)), {})
pipeline = load_pipeline(Path("pipeline.yaml"))
for node in pipeline.nodes.values():
    if hasattr(node.stage, "fit"):
        node.stage.fit = lambda config, views, context: (context.out / "nothing").touch()
run(pipeline, [], workers=1)
"""


class Before:
    """A checkout of that commit in `folder`, with the stages of today's benchmarks beside its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        packed = folder / "tree.tar"
        command = ["git", "archive", "--format=tar", "-o", str(packed), COMMIT]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(
                f"{PROJECT} does not give commit {COMMIT}, which is the peer: {done.stderr.strip()}; expected the "
                "whole history, `git fetch --unshallow` brings it"
            )
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        packed.unlink()
        shutil.copy(PROJECT / "benchmarks" / "stand_ins.py", folder / "benchmarks")
        self.folder = folder
        self.variables = {"PYTHONPATH": str(folder)}

    def touchstone(self, *arguments: str, folder: Path, environment: dict[str, str] | None = None) -> Ran:
        """One command of that tree as its own process, in the folder of a `pipeline.yaml`."""
        return self._python(START, arguments, folder, environment or {})

    def complete(self, folder: Path) -> None:
        """The embedded default of then in a new folder, with nothing to do."""
        folder.mkdir()
        shutil.copy(self.folder / "pipeline.yaml", folder)
        (folder / "manifests").symlink_to(self.folder / "manifests")
        self._python(FILL, (), folder, {})

    def _python(self, code: str, arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> Ran:
        return run_process([sys.executable, "-c", code, *arguments], folder, self.variables | environment)
