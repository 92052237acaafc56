"""Random numbers of a training that belong to one row: the same whatever batch, device or order the row comes in."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

OF_A_DIGEST = 4
"""Numbers that one digest gives."""


def uniforms(seed: int, ids: NDArray[np.void], epoch: int, name: str, count: int = 1) -> NDArray[np.float64]:
    """Numbers from 0 to below 1, (n, count) float64, keyed by (seed, row id, epoch, name of the draw).

    ids: (n,) V16. The numbers are the highest 53 of each 64 bits of SHA-256 over the key, and over a counter where
    `count` is above 4. A row that comes twice in an epoch draws the same.
    """
    start = b"".join(
        len(part).to_bytes(8, "little") + part for part in (str(seed).encode(), str(epoch).encode(), name.encode())
    )
    blocks = range(-(-count // OF_A_DIGEST))
    digests = [hashlib.sha256(start + bytes(one) + bytes([block])).digest() for one in ids for block in blocks]
    bits = np.frombuffer(b"".join(digests), dtype="<u8").reshape(len(ids), len(blocks) * OF_A_DIGEST)
    found: NDArray[np.float64] = (bits[:, :count] >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found
