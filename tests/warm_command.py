"""The command `touchstone` in a process of its own that need not import anything first.

One warm process for each process of tests has all imported and opens no array; each call is a forked child of it with
the caller's environment, folder and words. What is imported when, or edited between calls, is tested elsewhere, in
processes that start cold.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
LONGEST_S = 60


class Warm:
    """Client side."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        atexit.register(self.close)

    def call(
        self, arguments: tuple[str, ...], folder: Path, surroundings: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What a call says, and its exit code; negative where a signal ended it."""
        assert self.process.stdin
        assert self.process.stdout
        with tempfile.TemporaryDirectory() as texts:
            case = {"arguments": arguments, "folder": str(folder), "surroundings": dict(surroundings), "texts": texts}
            self.process.stdin.write(json.dumps(case) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            out, err = (Path(texts, name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(["touchstone", *arguments], code, out, err)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=20)


@cache
def warm() -> Warm:
    """The warm process of this one."""
    return Warm()


def child(case: dict[str, Any]) -> None:
    """One call in this process."""
    from pipeline import cli

    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(case["texts"], name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(case["surroundings"])
    os.chdir(case["folder"])
    sys.argv = ["touchstone", *case["arguments"]]
    signal.alarm(LONGEST_S)
    cli.main()


def serve() -> None:
    """Fork one child per line of stdin and print its status."""
    import dask  # noqa: F401
    import toy  # noqa: F401
    import zarr.codecs  # noqa: F401

    import pipeline.cli
    import pipeline.commands.looking
    import pipeline.commands.running
    import pipeline.running.run  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(json.loads(line))
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, found = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(found), flush=True)


if __name__ == "__main__":
    serve()
