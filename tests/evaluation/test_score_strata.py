"""Strata of scores and rank correlations: golden values, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from golden_files import GoldenDocument

from stages.evaluation.score_strata import ascending, correlated, kendall, middles, spearman, stratum


@pytest.mark.golden("layouts", "*strata*.json")
def test_images_and_correlations_are_those_of_the_reference(golden: GoldenDocument) -> None:
    scores, quality = np.array(golden["scores"]), np.array(golden["quality"])
    order = ascending(scores, golden["ids"])
    ranks = middles(len(scores), golden["columns"])
    assert ranks == golden["rank_positions"]
    assert [golden["ids"][order[rank]] for rank in ranks] == golden["chosen_ids"]
    assert spearman(scores, quality) == pytest.approx(golden["spearman"], abs=1e-12)
    assert kendall(scores, quality) == pytest.approx(golden["kendall_tau_b"], abs=1e-12)


def test_of_equal_scores_the_smaller_id_comes_first() -> None:
    assert ascending(np.array([0.5, 0.5, 0.1]), ["b", "a", "c"]).tolist() == [2, 1, 0]


def test_strata_part_the_ranks() -> None:
    for count, columns in ((23, 5), (7, 7), (100, 3)):
        parts = [list(stratum(count, columns, column)) for column in range(columns)]
        assert [rank for part in parts for rank in part] == list(range(count))
        assert all(middle in part for middle, part in zip(middles(count, columns), parts, strict=True))


def test_an_order_turned_round_has_correlation_minus_one_and_a_flat_one_none() -> None:
    rising = np.arange(30.0)
    found = correlated(rising, -rising, np.arange(30), 0)
    assert {name: value for name, (value, _) in found.items()} == {"spearman": -1.0, "kendall_tau_b": -1.0}
    assert found["spearman"][1] == pytest.approx([-1.0, -1.0])
    noise = np.random.default_rng(0).normal(0, 1, 30)
    low, high = correlated(rising, noise, np.arange(30), 0)["spearman"][1] or (0, 0)
    assert low < spearman(rising, noise) < high
    assert 0.4 < high - low < 1.0
    assert np.isnan(spearman(rising, np.zeros(30)))
    assert np.isnan(kendall(np.zeros(30), rising))
