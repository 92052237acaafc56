"""The null result against scikit-learn, on halves that plain integers choose."""

from __future__ import annotations

import numpy as np
from memory_rows import digest
from sklearn.metrics import roc_auc_score

from pipeline import digests
from stages.evaluation.halves import null_result

LAST = 2**64 - 1


def mixed(value: int) -> int:
    """Finalizer of SplitMix64 (Steele et al. 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & LAST
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & LAST
    return value ^ (value >> 31)


def test_the_area_is_that_of_halves_chosen_by_a_hash_of_the_group() -> None:
    names = [digest(f"sender {number}") for number in range(40)]
    of_row = np.random.default_rng(1).integers(0, 40, 150)
    scores = np.random.default_rng(2).normal(size=150)
    groups = np.frombuffer(b"".join(names[number] for number in of_row), dtype="V16")
    key = digests.digest("rank", "null halves", 0)
    second = []
    for number in of_row:
        words = [int.from_bytes(names[number][place : place + 8], "big") for place in (0, 8)]
        low, high = (int.from_bytes(key[place : place + 8], "little") for place in (0, 8))
        second.append(mixed(mixed(words[0] ^ low) ^ words[1] ^ high) >= 2**63)
    found = null_result(scores, groups, of_row)
    assert (found["n_first"], found["n_second"]) == (150 - sum(second), sum(second))
    assert abs(found["auc"] - roc_auc_score(second, scores)) < 1e-12
