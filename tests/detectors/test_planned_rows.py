"""Rows that a family without a network cannot read are refused when the pipeline is planned, in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.stage import MAP, MAPS, PICTURE, Field
from stages.train import Train, TrainConfig

FIELDS = {
    "image": Field("uint8", (16, 16, 3), axes=PICTURE),
    "profile": Field("float32", (12,), axes=("frequency",)),
    "short": Field("float32", (3,), axes=("frequency",)),
    "maps": Field("float32", (3, 16, 16), axes=MAPS),
    "map": Field("float32", (16, 16), axes=MAP),
    "spectrum": Field("float32", (16, 16), axes=("row frequency", "column frequency")),
    "mean": Field("float32", ()),
    "terms": Field("float32", (2, 3, 16, 16)),
}
PROFILES = ("profile-svm", "profile-logistic", "profile-forest", "profile-kmeans")


def plan(detector: dict[str, Any]) -> None:
    Train().schema(TrainConfig.model_validate_json(json.dumps({"detector": detector})), {"on": FIELDS})


@pytest.mark.parametrize(
    ("detector", "sentence"),
    [
        *(({"preset": name, "feature": "maps"}, "vectors, but each row is 3 x 16 x 16; choose") for name in PROFILES),
        *(({"preset": name, "feature": "mean"}, "reads vectors, but each row is a single number") for name in PROFILES),
        ({"preset": "profile-svm", "feature": "short"}, "profiles of 3 points cannot be resampled to 80; expected 4"),
        ({"preset": "profile-svm", "feature": "profil"}, "no field 'profil', .* did you mean 'profile'"),
        ({"preset": "profile-threshold", "feature": "maps"}, "reads vectors, but each row is 3 x 16 x 16"),
        (
            {"family": "threshold", "feature": "profile", "element": 12},
            "'element' is 12, but 'profile' has 12 elements, from 0; choose another",
        ),
        ({"preset": "residual-mean", "feature": "map"}, "needs one number per row, but 'map' is 16 x 16; choose"),
        ({"preset": "eigenfaces", "feature": "mean"}, "'mean' is one number per row, but this detector reads images"),
        ({"preset": "knn", "feature": "mean"}, "'mean' is one number per row, but this detector reads images"),
        ({"preset": "prnu", "feature": "maps", "terms": None}, "wants residuals H x W, and 'maps' has 3 x 16 x 16"),
        ({"preset": "prnu", "feature": "map", "terms": "maps"}, "are 2 x 3 x H x W, and 'maps' has 3 x 16 x 16"),
        ({"preset": "prnu", "feature": "spectrum", "terms": None}, r"has the axes \(row frequency, column frequency\)"),
    ],
)
def test_rows_of_another_shape_are_refused(detector: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        plan(detector)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "detector",
    [
        *({"preset": name} for name in PROFILES),
        {"preset": "profile-svm", "feature": "short", "length": None},
        {"family": "threshold", "feature": "profile", "element": 11},
        {"family": "threshold", "feature": "profile", "element": 79, "length": 80},
        {"preset": "residual-mean", "feature": "mean"},
        {"preset": "eigenfaces"},
        {"preset": "knn", "feature": "short"},
        {"preset": "prnu", "feature": "map", "terms": "terms"},
    ],
)
def test_rows_that_fit_are_planned(detector: dict[str, Any]) -> None:
    plan(detector)
