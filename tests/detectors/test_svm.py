"""Support vectors as arrays against the decision function of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector_examples import profiles
from sklearn.svm import SVC

from detectors import svm
from detectors.contract import Control
from detectors.normalization import resample


@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ({"kernel": "rbf", "C": 6.37, "gamma": 0.86}, {"kernel": "rbf", "C": 6.37, "gamma": 0.86}),
        ({"kernel": "rbf"}, {"kernel": "rbf", "gamma": "scale"}),
        ({"kernel": "linear", "C": 2.0}, {"kernel": "linear", "C": 2.0}),
        (
            {"kernel": "poly", "gamma": "auto", "degree": 2, "offset": 1.5},
            {"kernel": "poly", "gamma": "auto", "degree": 2, "coef0": 1.5},
        ),
    ],
)
def test_svm_arrays_equal_the_decision_function_of_scikit_learn(
    settings: dict[str, Any], kernel: dict[str, Any]
) -> None:
    config = svm.Config(normalization="divide_by_first", length=80, **settings)
    train, test = profiles(60, 1), profiles(33, 2)
    rows, new = (resample(part.features.astype(np.float64), 80) for part in (train, test))
    expected = SVC(**kernel).fit(rows / rows[:, :1], train.labels).decision_function(new / new[:, :1])
    state = svm.fit(config, train, test, Control())
    np.testing.assert_allclose(svm.decision(config, state, test.features), expected, rtol=0, atol=1e-9)
