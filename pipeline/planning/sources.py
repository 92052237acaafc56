"""Which content each file of a source had at the last run, so that `plan` can tell changed files from new ones.

A disposable file per source node: hashes of the places, sorted, and the ids that they had.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, ids
from pipeline.planning.planned import Plan
from pipeline.planning.selection import Branch


def remember_sources(plan: Plan) -> None:
    """Record the place and id of every file of the planned sources."""
    for branch in plan.all_branches():
        if branch.positions is None or "location" not in branch.payload:
            continue
        places = _places(branch, np.arange(len(branch.rows)))
        order = np.argsort(places, kind="stable")
        buffer = io.BytesIO()
        np.savez(buffer, places=places[order], ids=branch.rows.id[order].view(np.uint8).reshape(-1, 16))
        atomic.write_bytes(_file(plan.store.root, branch), buffer.getvalue(), durable=False)


def changed_content(root: Path, branch: Branch, fresh: NDArray[np.void]) -> int:
    """How many of the fresh rows lie in files that had another id at the last run."""
    path = _file(root, branch)
    if branch.positions is None or "location" not in branch.payload or not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as stored:
        before, known = stored["places"], stored["ids"].reshape(-1).view("V16")
    rows = np.flatnonzero(ids.isin(branch.rows.id, fresh))
    places = _places(branch, rows)
    at = np.searchsorted(before, places)
    at[at == len(before)] = 0
    return int(((before[at] == places) & (known[at] != branch.rows.id[rows])).sum()) if len(before) else 0


def _places(branch: Branch, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    assert branch.positions is not None
    texts = branch.payload["location"][branch.positions[rows]]
    digests = b"".join(hashlib.sha256(str(t).encode("utf-8", "surrogateescape")).digest()[:8] for t in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _file(root: Path, branch: Branch) -> Path:
    name = hashlib.sha256(branch.node.encode()).hexdigest()[:16]
    return root / ".cache" / "sources" / f"{name}.npz"
