"""What a card says against its training, and of the licences of its data."""

from __future__ import annotations

from typing import Any

import pytest

from stages.training.doubts import doubts
from stages.training.kept_lineage import licences


@pytest.mark.parametrize(
    ("plain", "sentences"),
    [
        ({}, []),
        ({"epoch": 3, "still_improving": False}, []),
        (
            {"epoch": 7, "still_improving": True},
            ["the last of 7 epochs was the best one: it was still improving; train longer"],
        ),
        (
            {
                "chosen": {"C": 100.0, "gamma": 0.1, "degree": 1, "weights": "scale"},
                "searched": [
                    {"C": c, "gamma": gamma, "degree": degree, "weights": weights, "balanced_accuracy": 0.5}
                    for c, gamma, degree, weights in
                    [(1.0, 0.01, 1, "scale"), (10.0, 0.1, 2, 0.5), (100.0, 1.0, 2, 0.5), (0.1, 1.0, 2, 0.5)]
                ],
            },
            ["the best C, 100, is the greatest that was tried; try more values"],
        ),
    ],
)  # fmt: skip
def test_a_training_says_what_speaks_against_it(plain: dict[str, Any], sentences: list[str]) -> None:
    assert doubts(plain) == sentences


def test_licences_are_those_that_the_origins_state() -> None:
    photos = {"stage": "ingest", "content": True, "licence": "CC0-1.0 12"}
    fakes = {"stage": "sample", "content": False, "licence": ""}
    assert licences({"chains": [{"origins": [photos]}, {"origins": [fakes, photos]}]}) == [
        "ingest: CC0-1.0 12",
        "sample: not stated",
    ]
    assert licences({"chains": []}) == ["not stated"]
