"""A null result: a detector's area between two halves, by group, of the reals alone. Nothing is trained for it.

Both halves are photographs of one kind, so the area is 0.5 but for chance. An interval that excludes 0.5 says that
groups differ by more than the intervals know of, and a table of such a detector is to be read with that in mind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import hash_rank
from stages.evaluation.intervals import Groups, Scores, summary

KEPT = ("auc", "auc_interval", "effective_groups", "few_groups")


def null_result(scores: Scores, groups: NDArray[np.void], numbers: Groups) -> dict[str, Any]:
    """`n_first`, `n_second` rows, `auc` with `auc_interval`, `effective_groups` and `few_groups` of (n,) real rows.

    groups: (n,) V16; numbers: (n,) the same as numbers. Halves are chosen by a hash of the group.
    """
    second = np.asarray(hash_rank(groups, "null halves", 0) >= 2**63).astype(np.uint8)
    found = summary(scores, second, numbers, 0.5)
    return {"n_first": found["n_real"], "n_second": found["n_fake"]} | {name: found[name] for name in KEPT}
