"""The section of the report on results: which columns its long table has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from stages.reporting.results import METRICS, SECTION
from stages.reporting.section import Given


def results(key: str, **more: Any) -> dict[str, Any]:
    """Of one detector on one source."""
    names = METRICS.values()
    row: dict[str, Any] = {"variant": "raw", "source": "progan", "n_real": 4, "n_fake": 4, "threshold": 0.5}
    row |= {"few_groups": False, "ap_chance": 0.5, "ap_real_chance": 0.5}
    row |= dict.fromkeys(names, 0.75) | {f"{name}_interval": [0.25, 1.0] for name in names} | more
    model = {"detector": "d", "trained_on": ["progan"], "key": key, "threshold_rule": "best", "config": {}}
    model |= {"node": f"detectors[{key}]", "made_from": []}
    return {"model": model, "rows": [row], "variants": {"raw": {"reals_from": "raw", "other_features": ""}}, "null": []}


def page(*evaluations: dict[str, Any]) -> str:
    given = Given(None, evaluations, [Path()] * len(evaluations))
    return jinja2.Template(SECTION.template).render(SECTION.content(given))


def test_the_published_rule_has_a_column_where_a_detector_has_one() -> None:
    with_rule = results("1", accuracy_published=0.625, accuracy_published_interval=[0.5, 0.7])
    both, plain = page(with_rule, results("2")), page(results("2"))
    assert both.count('<th scope="col" class="number">as published</th>') == 1
    assert both.count("0.625<small>0.500 – 0.700</small>") == 1
    assert both.count('<td class="number"><small></small></td>') == 1
    assert both.count("the rule that a detector's authors published") == 1
    assert "published" not in plain


def test_every_detector_has_its_null_result_and_few_groups_are_marked() -> None:
    half = {"variant": "raw", "n_first": 7, "n_second": 9, "auc": 0.51, "auc_interval": [0.3, 0.7], "few_groups": True}
    few = page(results("1") | {"null": [half]})
    assert few.count("two halves of the reals</td>") == 1
    assert few.count('<td class="number">7 / 9<small>few groups</small></td>') == 1
    assert few.count("0.510<small>0.300 – 0.700</small>") == 1
    assert "fewer than 20 groups" in few
    assert "few groups</small>" not in page(results("1"))
    assert page(results("1", few_groups=True)).count("4 / 4<small>few groups</small>") == 1


def test_the_chance_level_stands_behind_average_precision_and_nowhere_else() -> None:
    shown = page(results("1", ap_chance=0.125, ap_real_chance=0.875))
    assert shown.count("(0.12)") == shown.count("(0.88)") == 1


def test_a_value_that_is_none_is_a_dash() -> None:
    shown = page(results("1", tnr=None, tnr_interval=[None, None]))
    assert shown.count('<td class="number">–<small></small></td>') == 1
    assert "None" not in shown


def test_features_made_otherwise_than_those_learned_from_stand_loudly_above_the_results() -> None:
    other = results("1")
    other["variants"]["raw"]["other_features"] = "spectrum.config: size 64 -> 32"
    other["model"]["node"] = "svm"
    shown = page(other, results("2"))
    assert shown.index('class="alarm"') < shown.index('class="matrix')
    assert "svm in raw: spectrum.config: size 64 -> 32." in shown
    assert 'class="alarm"' not in page(results("2"))
