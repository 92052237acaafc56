"""`make coverage`: 95 % intervals by groups hold the truth in 93 to 97 of 100 samples.

Normal scores, the fakes' higher by a shift, in 60 groups of each class, of 1 to 10 rows each, with an intraclass
correlation of 0.3. The truth is a closed form (the areas Phi(d / sqrt 2), the rates Phi(d / 2)) or, for average
precision, that of two million independent scores of each class. Intervals that take each row for itself are measured
beside. Writes benchmarks/results/interval_coverage.json.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from correlated_scores import INTRACLASS, correlated

from stages.evaluation import intervals

pytestmark = pytest.mark.stress

SAMPLES, BY_ROWS, GROUPS, MANY = 1000, 200, 60, 2_000_000
SHIFTS = (0.3, 1.0, 2.0)
MEASURED = ("auc", "ap", "ap_real", "balanced_accuracy")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "interval_coverage.json"


def truths(shift: float) -> dict[str, float]:
    """By metric, for classes of equal size and a threshold half way."""
    random = np.random.default_rng(1)
    scores = np.concatenate([random.normal(size=MANY), random.normal(size=MANY) + shift])
    fake = (np.arange(2 * MANY) >= MANY)[np.argsort(-scores)]
    precision = (fake.cumsum() / np.arange(1, 2 * MANY + 1))[fake].mean()
    normal = [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in (shift / math.sqrt(2), shift / 2)]
    return {"auc": normal[0], "ap": precision, "ap_real": precision, "balanced_accuracy": normal[1]}


@pytest.fixture(scope="module")
def coverage() -> dict[str, dict[str, dict[str, float]]]:
    """Shift -> "by groups" and "by rows" -> metric -> share of samples whose interval holds the truth."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for shift in SHIFTS:
        random, truth = np.random.default_rng(2), truths(shift)
        samples = {"by groups": SAMPLES, "by rows": BY_ROWS}
        hits = {way: dict.fromkeys(MEASURED, 0) for way in samples}
        for number in range(SAMPLES):
            scores, labels, groups = correlated(random, GROUPS, shift)
            for way, numbers in (("by groups", groups), ("by rows", np.arange(len(scores)))):
                if number >= samples[way]:
                    continue
                summary = intervals.summary(scores, labels, numbers, shift / 2)
                for name in MEASURED:
                    low, high = summary[f"{name}_interval"]
                    hits[way][name] += low <= truth[name] <= high
        found[str(shift)] = {way: {n: round(h / samples[way], 4) for n, h in of.items()} for way, of in hits.items()}
    data = {"command": "make coverage", "samples": SAMPLES, "groups_of_each_class": GROUPS, "rows_of_a_group": [1, 10],
            "intraclass_correlation": INTRACLASS, "by_shift": found}  # fmt: skip
    RESULTS.write_text(json.dumps(data, indent=2) + "\n")
    print(json.dumps(data, indent=2))
    return found


def test_intervals_by_groups_hold_the_truth_as_often_as_they_say(
    coverage: dict[str, dict[str, dict[str, float]]],
) -> None:
    for shift, found in coverage.items():
        for name, share in found["by groups"].items():
            assert 0.93 <= share <= 0.97, (shift, name)


def test_intervals_by_rows_do_not(coverage: dict[str, dict[str, dict[str, float]]]) -> None:
    assert max(share for found in coverage.values() for share in found["by rows"].values()) < 0.9
