"""The tools that are compared: how each is installed, what lies in its folder, and its command.

`python` stands for the interpreter of its environment in the commands that the table shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import PROJECT

PROGRAMS = Path(__file__).parent / "programs"
SHARED = ("picture_work.py", "picture_rings.py")

OURS = """\
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: "picture_stages:Decode", of: photos}
  curves: {stage: "picture_stages:Curve", of: images, gain: GAIN}
"""

DVC = """\
stages:
  images:
    cmd: PYTHON dvc_program.py decode
    deps: [photos, dvc_program.py, picture_work.py]
    outs: [images.npy]
  curves:
    cmd: PYTHON dvc_program.py curves
    deps: [images.npy, dvc_program.py, picture_work.py]
    params: [gain]
    outs: [curves.npy]
"""

STOP_SERVER = "import os, signal; os.kill(int(open('home/pgdata/postmaster.pid').readline()), signal.SIGTERM)"


@dataclass(frozen=True)
class Tool:
    """One tool. files: name -> text, where GAIN and PYTHON stand for what they are; command: with `{gain}`."""

    name: str
    requirements: tuple[str, ...]  # none: the environment of this project
    program: str
    command: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    first: tuple[tuple[str, ...], ...] = ()  # commands that prepare the folder
    last: tuple[str, ...] = ()  # a command that ends what the others have left running
    variables: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""

    def write(self, folder: Path, gain: float, python: Path) -> None:
        """The files that state the parameter."""
        for name, text in self.files.items():
            (folder / name).write_text(text.replace("GAIN", str(gain)).replace("PYTHON", str(python)), encoding="utf-8")


def _script(name: str) -> tuple[str, ...]:
    return ("python", f"{name}_program.py", "{gain}")


PLAIN = Tool("a plain loop", (), "loop_program.py", _script("loop"), remark="keeps nothing between runs")

TOOLS = (
    Tool(
        "Touchstone", (), "picture_stages.py", ("python", str(PROJECT / "touchstone.py"), "run", "--workers", "1"),
        {"pipeline.yaml": OURS}, variables={"PYTHONPATH": str(PROJECT)},
    ),
    Tool(
        "DVC", ("dvc==3.67.1",), "dvc_program.py", ("dvc", "repro", "--quiet"),
        {"dvc.yaml": DVC, "params.yaml": "gain: GAIN\n"},
        (("dvc", "init", "--no-scm", "--quiet"), ("dvc", "config", "core.analytics", "false")),
        variables={"DVC_NO_ANALYTICS": "1"},
        remark="a helper is seen where its file is listed by hand; then all rows run",
    ),
    Tool(
        "Metaxy", ("metaxy[delta]==0.1.11",), "metaxy_program.py", _script("metaxy"),
        remark="it says which rows are stale, the program keeps one file per row; versions of code are written by hand",
    ),
    Tool(
        "joblib", ("joblib==1.6.0",), "joblib_program.py", _script("joblib"),
        remark="two files per row and function; the source of the cached function counts, what it calls does not",
    ),
    Tool(
        "CocoIndex", ("cocoindex==1.0.26",), "cocoindex_program.py", _script("cocoindex"),
        variables={"COCOINDEX_DB": "coco.db", "COCOINDEX_DISABLE_USAGE_TRACKING": "1"},
        remark="a helper is seen where it is decorated by hand",
    ),
    Tool(
        "DataChain", ("datachain==0.62.0",), "datachain_program.py", _script("datachain"),
        variables={"DATACHAIN_ROOT_DIR": ".datachain", "DO_NOT_TRACK": "1", "DATACHAIN_NO_ANALYTICS": "1"},
        remark="`delta` compares files, never code or parameters",
    ),
    Tool(
        "Pixeltable", ("pixeltable==0.7.21",), "pixeltable_program.py",
        ("python", "-c", "import pixeltable_program as one; one.main()", "{gain}"),
        last=("python", "-c", STOP_SERVER), variables={"PIXELTABLE_HOME": "home"},
        remark="a parameter is a further column; the time of its database server is not counted",
    ),
)  # fmt: skip


def command_line(tool: Tool, python: Path, gain: float) -> list[str]:
    """The command of a tool with the executables of its environment."""
    return executables(tuple(word.replace("{gain}", str(gain)) for word in tool.command), python)


def executables(command: tuple[str, ...], python: Path) -> list[str]:
    """A command whose first word is looked for beside the interpreter."""
    first = str(python) if command[0] == "python" else str(python.parent / command[0])
    return [first, *command[1:]]
