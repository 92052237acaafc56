"""Schedulers and workers as processes of their own, forked from a warm one so that each starts at once.

They run Dask's own command lines, so that signals end them as they end those of a user.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import distributed.versions
from distributed.cli import dask_scheduler, dask_worker
from warm_process import warm

import pipeline.running.cluster  # noqa: F401  (is there when a worker starts)

DEADLINE_S = 30.0


class DaskProcesses:
    """Client side; `folder` takes what the processes say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive: list[int] = []
        self.started = 0

    def scheduler(self, **settings: Any) -> tuple[str, int]:
        """Address and process id of a new scheduler that listens. settings: of `distributed.scheduler`, with '_'."""
        file = self.folder / f"scheduler-{self.started}.json"
        pid = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
                          "--scheduler-file", str(file), settings=settings)  # fmt: skip
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, ValueError):  # ValueError: it is being written
                return str(json.loads(file.read_text())["address"]), pid
            time.sleep(0.02)
        raise TimeoutError("the scheduler did not start")

    def worker(
        self, address: str, *options: str, surroundings: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> int:  # fmt: skip
        """Process id of a new worker of one thread; it joins when it is ready. versions: lies that it tells."""
        return self._start("worker", address, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard",
                           *options, surroundings=surroundings, versions=versions)  # fmt: skip

    def typed(self, words: list[str]) -> int:
        """Process id of `dask scheduler ...` or `dask worker ...`, as a user types it."""
        return self._start(words[1], *words[2:])

    def _start(self, kind: str, *arguments: str, **more: Any) -> int:
        self.started += 1
        log = str(self.folder / f"{kind}-{self.started}.log")
        pid = warm().start(child, {"kind": kind, "arguments": arguments, "log": log, **more})
        self.alive.append(pid)
        return pid

    def send(self, pid: int, number: int) -> None:
        """A signal, to a process that may have ended by itself."""
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def kill(self, but: int = 0) -> None:
        """All processes but the first ones."""
        while len(self.alive) > but:
            self.send(self.alive.pop(), signal.SIGKILL)


def child(case: dict[str, Any]) -> None:
    """One scheduler or worker, until it is told to end."""
    log = os.open(case["log"], os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(case.get("surroundings") or {})
    for name, value in (case.get("settings") or {}).items():
        dask.config.set({f"distributed.scheduler.{name.replace('_', '-')}": value})
    truth = distributed.versions.get_package_info
    lies = case.get("versions") or {}
    distributed.versions.get_package_info = lambda packages: truth(packages) | lies
    main = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[case["kind"]]
    os.chdir(Path(case["log"]).parent)
    main(case["arguments"], standalone_mode=False)
