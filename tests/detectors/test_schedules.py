"""Rules of rates and of stopping against traces of the released programs (`golden/patches`) and worked examples."""

from __future__ import annotations

import math

import pytest
from golden_files import GoldenDocument

from detectors.choosing import detector_config
from detectors.composition import Config
from detectors.schedules import plateau, quarter_cosine, stale


@pytest.mark.golden("patches", "*.json", keys="cnndetection_plateau")
def test_the_rate_and_the_kept_epoch_are_those_of_cnndetection(golden: GoldenDocument) -> None:
    rule, log = plateau.Plateau(protocol="reference"), golden["cnndetection_plateau"]["log"]
    scores = [entry["acc"] for entry in log]
    saved = [entry["epoch"] for entry in log if entry["saved_best"]]
    for entry in log:
        history = scores[: entry["epoch"] + 1]
        factor = plateau.factor(rule, history)
        assert (factor == 0) == entry["stopped"]
        assert entry["stopped"] or 1e-4 * factor == pytest.approx(entry["lr_after"], rel=1e-9)
        assert plateau.kept(rule, history) == max(epoch for epoch in saved if epoch <= entry["epoch"])


def test_the_fixed_rule_forgets_no_score_and_the_reference_all() -> None:
    scores = [0.5, 0.9, 0.8, 0.8, 0.85, 0.901, 0.7, 0.7]
    parts = [scores[: end + 1] for end in range(len(scores))]
    for protocol, rates, kept in (
        ("reference", [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01], [0, 1, 1, 1, 4, 5, 5, 5]),
        ("fixed", [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0], [0, 1, 1, 1, 1, 5, 5, 5]),
    ):
        rule = plateau.Plateau(protocol=protocol, patience=2)  # type: ignore[arg-type]
        assert [plateau.factor(rule, part) for part in parts] == pytest.approx(rates)
        assert [plateau.kept(rule, part) for part in parts] == kept


@pytest.mark.golden("patches", "*.json", keys="patch_forensics_stop")
def test_trainings_stop_where_those_of_patch_forensics_do(golden: GoldenDocument) -> None:
    for trace in golden["patch_forensics_stop"]:
        rule = stale.Stale(patience=trace["patience"], most=trace["max_epochs"])
        scores = [entry["acc"] for entry in trace["log"]]
        for number, entry in enumerate(trace["log"]):
            assert stale.finished(rule, scores[: number + 1]) == entry["action"].startswith("stop")
    assert not stale.finished(stale.Stale(), [])


def test_the_cosine_begins_with_two_equal_epochs_and_ends_at_its_least() -> None:
    rule = quarter_cosine.QuarterCosine(epochs=5)
    found = [quarter_cosine.factor(rule, [0.0] * done) for done in range(8)]
    after = [0.9999 * math.cos(math.pi / 2 * epoch / 4) + 0.0001 for epoch in range(5)]
    assert found == pytest.approx([1.0, *after, after[-1], after[-1]])


def test_what_a_rule_keeps_is_what_a_training_chooses() -> None:
    scores = [0.5, 0.9, 0.8, 0.8, 0.6]
    log = [{"validation_accuracy": score} for score in scores]
    for protocol, wanted in (("reference", 4), ("fixed", 1)):
        config = detector_config({
            "preset": "pixel-compact",
            "training": {"select": "accuracy", "rate": {"rule": "plateau", "protocol": protocol, "patience": 2}},
        })  # fmt: skip
        assert isinstance(config, Config)
        assert config.chosen(log) == wanted
        assert config.rate_factor(log) == pytest.approx(0.1)
