"""A process that has imported what tests need: functions run in forked children of it, which start at once.

It opens no array and starts no thread, so that forks are safe. What is imported when, or edited between calls, is
tested elsewhere, in processes that start cold.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


class Warm:
    """Client side."""

    def __init__(self) -> None:
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("TOY_")}
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=TESTS.parent, env={**surroundings, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        atexit.register(self.close)

    def run(self, function: Callable[[Any], object], case: Any) -> int:
        """Exit status of a child that calls a function of a module in tests; negative for a signal.

        case: its argument, plain data.
        """
        return self._ask(function, case, waits=True)

    def start(self, function: Callable[[Any], object], case: Any) -> int:
        """Process id of such a child, which goes on."""
        return self._ask(function, case, waits=False)

    def _ask(self, function: Callable[[Any], object], case: Any, waits: bool) -> int:
        assert self.process.stdin
        assert self.process.stdout
        asked = {"module": function.__module__, "function": function.__name__, "case": case, "waits": waits}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)


@cache
def warm() -> Warm:
    """The warm process of this one."""
    return Warm()


def child(function: Callable[[Any], object], case: Any) -> int:
    """Exit status of this process, which calls a function; what it prints is an error of the server's."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        function(case)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    """Fork one child per line of stdin and print its status, or its process id."""
    import dask  # noqa: F401
    import toy  # noqa: F401
    import zarr.codecs  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        function = getattr(import_module(asked["module"]), asked["function"])
        gc.freeze()  # children need no copies of what is there
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = child(function, asked["case"])
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if asked["waits"] else pid, flush=True)


if __name__ == "__main__":
    serve()
