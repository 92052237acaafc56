"""Runs of a pipeline in forked children of a warm process, so that a hundred of them can be killed in a minute.

The server imports everything and never opens an array itself; each child runs one pipeline and is killed at a named
point of publishing, or after some time, or not at all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


class ForkServer:
    """Client side: `run` gives the exit status of the child, negative for a signal."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, file: Path, **more: Any) -> int:
        """more: log, point (name, occurrence), delay_s, threads, workers."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"file": str(file), **more}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)


def child(case: dict[str, Any]) -> None:
    """One run in this process."""
    import pipeline.atomic
    import pipeline.running.run
    from pipeline.declaring.config import load_pipeline
    from pipeline.storage.store import Store

    os.environ["TOY_LOG"] = case["log"]
    pipeline.running.run.default_workers = lambda: case.get("threads", 1)
    pipeline.atomic.flush = lambda path: None  # SIGKILL does not lose what the kernel has
    if case.get("delay_s") is not None:
        end = time.monotonic() + case["delay_s"]

        def kill_later() -> None:
            time.sleep(max(0.0, end - time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=kill_later, daemon=True).start()
    if case.get("point"):
        name, occurrence = case["point"]
        seen = 0

        def kill(point: str) -> None:
            nonlocal seen
            seen += point == name
            if point == name and seen == occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

        plain = Store.stage_shard
        Store.stage_shard = lambda self, *arguments, **more: plain(self, *arguments, kill=kill, **more)  # type: ignore[method-assign]
    pipeline.running.run.run(load_pipeline(Path(case["file"])), [], case.get("workers"))


def serve() -> None:
    """Fork one child per line of stdin and print its status."""
    import dask  # noqa: F401
    import toy  # noqa: F401
    import zarr.codecs  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                child(json.loads(line))
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
