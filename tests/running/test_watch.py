"""When a run that waits for workers says so, on a clock of the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.running.watch import AGAIN_S, WAITING_S, Watch

PLAIN: dict[str, Any] = {"status": "running", "nthreads": 1, "resources": {}}


class Asked(Watch):
    """A watch whose workers the test sets."""

    def ask(self) -> None:
        """Nobody is asked."""


def test_what_is_lacking_is_said_after_a_while_and_anew_when_it_is_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("pipeline.running.watch.time", SimpleNamespace(monotonic=lambda: clock[0]))
    loop = SimpleNamespace(add_callback=lambda call: None)
    client = SimpleNamespace(scheduler=None, scheduler_comm=None, loop=loop)
    watch = Asked(client, "tcp://here:1", local=False)

    def said(after: float) -> str:
        clock[0] += after
        return (watch.lacking(for_device=True) or "").partition(";")[0]

    assert said(0.0) == ""
    assert said(WAITING_S) == "0 workers"
    assert said(1.0) == ""
    watch.workers = {"one": PLAIN}
    assert said(1.0) == ""
    assert said(WAITING_S) == "1 worker, none of them with the resource GPU"
    assert said(WAITING_S) == ""
    assert said(AGAIN_S - WAITING_S) == "1 worker, none of them with the resource GPU"
    watch.workers = {"one": {**PLAIN, "resources": {"GPU": 1}}}
    assert said(1.0) == "1 worker"
    assert said(1.0) == ""
