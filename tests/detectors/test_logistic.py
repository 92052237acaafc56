"""The logistic regression says when its solver did not finish."""

from __future__ import annotations

from detector_examples import profiles

from detectors import logistic
from detectors.contract import Control


def test_logistic_reports_a_solver_that_did_not_finish() -> None:
    rows = profiles(60, 1)
    config = logistic.Config(normalization="none", max_iterations=1)
    assert logistic.fit(config, rows, rows, Control()).plain["converged"] is False
