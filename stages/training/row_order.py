"""Rows of a whole view: one order, so that nothing depends on how the view was written, and the digest of such rows."""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.stage import Rows


def in_order(dataset: Rows) -> Rows:
    """The rows sorted by id, then by chain."""
    words = np.ascontiguousarray(dataset.ids).view(">u8").reshape(-1, 2)
    chains = [bytes(part.chain) for part in dataset.parts]
    rank = np.array([sorted(chains).index(chain) for chain in chains], dtype=np.int64)
    return dataset.take(np.lexsort((rank[dataset.part_numbers], words[:, 1], words[:, 0])))


def fingerprint(dataset: Rows) -> str:
    """SHA-256 (32 hex digits) over chains, ids and labels of the rows, in the order of ids."""
    total = hashlib.sha256()
    for chain in sorted(bytes(part.chain) for part in dataset.parts):
        total.update(chain)
    total.update(np.ascontiguousarray(dataset.ids).tobytes())
    total.update(np.ascontiguousarray(dataset.column("label")).tobytes())
    return total.hexdigest()[:32]
