"""Random divisions of the same rows into rows to learn from, to choose by and to be tested on, and what they say.

The divisions share rows, so their values are not independent, and the spread of a thousand divisions says nothing of
other rows. The interval of the mean is that of Nadeau and Bengio (Machine Learning 52, 2003, section 3): the variance
of the values counts (1 / divisions + tested / learned) times, with Student's quantile. Where all values are one, the
interval is Wilson's for the rows that were tested at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.metrics import wilson

PARTS = ("test", "val", "train")
"""In the order in which they are filled."""


def quotas(rows: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Part -> rows of each class, of `rows` rows of both: test and val rounded, train the rest.

    Raises ValueError where a part that has a share gets no row, or train fewer than two.
    """
    of_class = rows // 2
    found = {part: math.floor(shares[part] * of_class + 0.5) for part in ("test", "val")}
    found["train"] = of_class - found["test"] - found["val"]
    for part in PARTS:
        least = 2 if part == "train" else int(shares[part] > 0)
        if found[part] < least:
            raise ValueError(
                f"of {rows} rows, {of_class} of each class, {max(found[part], 0)} of each are for {part}, expected "
                f"{least} or more; raise rows or the share of {part}"
            )
    return found


def divided(
    labels: NDArray[np.uint8], groups: NDArray[np.void], wanted: Mapping[str, int], draw: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Part -> ascending positions of its rows, `wanted` of each class. labels, groups: (n,).

    Groups come in random order, and their rows, too. A group goes to the first part that lacks rows of a class that it
    has, and to no other one; what the part does not lack is left out. Raises ValueError where groups run out.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    order = draw.permutation(len(labels))
    place = draw.permutation(int(numbers.max(initial=-1)) + 1)
    order = order[np.argsort(place[numbers[order]], kind="stable")]
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    lacking = {(part, label): wanted[part] for part in PARTS for label in (0, 1)}
    found: dict[str, list[int]] = {part: [] for part in PARTS}
    for members in np.split(order, starts[1:]):
        classes = set(labels[members].tolist())
        part = next((one for one in PARTS if any(lacking[one, label] for label in classes)), None)
        if part is None:
            if not any(lacking.values()):
                break
            continue
        for row in members.tolist():
            label = int(labels[row])
            if lacking[part, label]:
                lacking[part, label] -= 1
                found[part].append(row)
    short = sum(lacking.values())
    if short:
        raise ValueError(
            f"{len(starts)} groups do not give {sum(wanted.values())} rows of each class without standing in two "
            f"parts, {short} are lacking; lower rows"
        )
    return {part: np.sort(np.array(rows, dtype=np.int64)) for part, rows in found.items()}


def described(values: Sequence[float], tested: int, learned: int, distinct: float) -> dict[str, float | list[float]]:
    """Of a metric's values, one per division: mean, standard deviation, interval of the mean, the middle 95 % of them.

    tested, learned: rows of a division; distinct: effective groups of the rows that are tested in any, which are their
    number where each row is one. Without a spread the interval is that of a share of `distinct` trials.
    """
    from scipy.stats import t

    found = np.asarray(values, np.float64)
    mean, count = float(found.mean()), len(found)
    variance = float(found.var(ddof=1)) if count > 1 else 0.0
    half = float(t.ppf(0.975, max(count - 1, 1))) * math.sqrt((1 / count + tested / learned) * variance)
    interval = [max(mean - half, 0.0), min(mean + half, 1.0)]
    if variance < 1e-20:
        interval = list(wilson(mean * distinct, distinct))
    low, high = np.quantile(found, (0.025, 0.975)).tolist()
    return {"mean": mean, "deviation": math.sqrt(variance), "interval": interval, "middle": [low, high]}
