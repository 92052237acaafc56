"""What twins say of single generators, from correlations by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.seeds_page import told
from experiments.twins import by_quality
from stages.claims import line


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [(-0.4, [-0.6, -0.1], "holds"), (-0.1, [-0.3, 0.1], "cannot tell"), (0.2, [0.0, 0.4], "does not hold"),
     (None, None, "cannot tell"), (-1.0, None, "cannot tell")],
)  # fmt: skip
def test_better_fakes_have_lower_scores_where_the_whole_interval_is_below_0(
    value: float | None, interval: list[float] | None, verdict: str
) -> None:
    one: dict[str, Any] = {"source": "fakes[a]", "spearman": value, "spearman_interval": interval}
    (claim,) = by_quality({"sources": [one], "model": {"node": "net"}, "variant": "raw"})
    assert (claim["verdict"], claim["value"]) == (verdict, value)
    assert line(claim).startswith(f"{verdict}: Of fakes[a] fakes that look better have lower scores")
    assert told(claim).startswith(f"Of fakes[a] fakes that look better have lower scores: **{verdict}**")
