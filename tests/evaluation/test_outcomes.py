"""Votes of what was made of one file or sample, against shares that were counted by hand."""

from __future__ import annotations

import numpy as np
from memory_rows import digest

from stages.evaluation.outcomes import Outcomes


def names(words: str) -> np.ndarray:
    return np.frombuffer(b"".join(map(digest, words)), dtype="V16")


def test_an_origin_has_the_share_of_its_rows_at_or_above_the_threshold() -> None:
    frames = Outcomes(
        scores=np.array([0.9, 0.3, 0.2, 0.3, 0.1, 0.8, 0.7], np.float32),
        labels=np.array([1, 1, 1, 0, 0, 1, 0], np.uint8),
        sources=np.array(["a", "a", "a", "film", "film", "b", "film"]), groups=names("ggghhgk"), ids=names("1234567"),
        digests=names("1234567"), chains=np.array(["c0", "c0", "c0", "c1", "c1", "c0", "c1"]),
    )  # fmt: skip
    voted = frames.voted(names("xxxyyxz"), 0.3)
    found = {
        (bytes(one), label, source): (round(float(score), 6), bytes(group), chain)
        for one, label, source, score, group, chain in zip(
            voted.ids,
            voted.labels.tolist(),
            voted.sources.tolist(),
            voted.scores,
            voted.groups,
            voted.chains,
            strict=True,
        )
    }
    g, h, k = (digest(one) for one in "ghk")
    assert found == {
        (digest("x"), 1, "a"): (round(2 / 3, 6), g, "c0"),
        (digest("x"), 1, "b"): (1.0, g, "c0"),
        (digest("y"), 0, "film"): (0.5, h, "c1"),
        (digest("z"), 0, "film"): (1.0, k, "c1"),
    }
    assert not np.isin(voted.digests.view("S16"), frames.digests.view("S16")).any()
