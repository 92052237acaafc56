"""Workers of a living cluster that have loaded other code or libraries than a plan says are started anew.

A worker of yesterday holds the modules of yesterday. It cannot load them again safely, but a fresh process can: a
worker that has a nanny and nothing to do is restarted by it, another one is named and refused. Every task proves its
process all the same (`pipeline.running.proof`), so this is only the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import StageError
from pipeline.running.proof import Claim, StaleProcessError
from pipeline.stage import Stage

Claims = Sequence[tuple[str, Stage, Any, Claim]]
"""(node, stage, config, claim) of what a run is about to compute."""

RESTART_S = 60
"""Seconds that a nanny has to start a worker."""


def staleness(claims: Claims) -> str:
    """The first sentence about a claim that this process does not fulfil; "" if it fulfils all."""
    try:
        for node, stage, config, claim in claims:
            Claim(claim.code, claim.environment, {}).prove(node, stage, config)
    except StaleProcessError as error:
        return str(error)
    return ""


def renew(client: Any, claims: Claims) -> list[str]:
    """Restart stale workers that are idle and have a nanny; returns their addresses. client: of `distributed`.

    Raises StageError with the address of a worker that stays stale.
    """
    stale = _stale(client, claims)
    if not stale:
        return []
    workers = client.scheduler_info(n_workers=-1)["workers"]
    busy = client.processing()
    idle = [address for address in stale if workers.get(address, {}).get("nanny") and not busy.get(address)]
    if idle:
        client.restart_workers(idle, timeout=RESTART_S, raise_for_error=False)
        stale = _stale(client, claims)
    for address, sentence in stale.items():
        raise StageError(f"{sentence} (worker {address}; one that is idle and has a nanny is restarted by itself)")
    return idle


def _stale(client: Any, claims: Claims) -> dict[str, str]:
    """Address of a worker -> what is stale there."""
    found = client.run(staleness, claims, on_error="ignore")
    return {address: sentence for address, sentence in sorted(found.items()) if sentence}
