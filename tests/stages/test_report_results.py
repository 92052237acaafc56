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
    row |= dict.fromkeys(names, 0.75) | {f"{name}_interval": [0.25, 1.0] for name in names} | more
    model = {"detector": "d", "trained_on": ["progan"], "key": key, "threshold_rule": "best"}
    return {"model": model, "rows": [row], "variants": {"raw": {"reals_from": "raw"}}}


def page(*evaluations: dict[str, Any]) -> str:
    given = Given(None, evaluations, [Path()] * len(evaluations))
    return jinja2.Template(SECTION.template).render(SECTION.content(given))


def test_the_published_rule_has_a_column_where_a_detector_has_one() -> None:
    with_rule = results("1", accuracy_published=0.625, accuracy_published_interval=[0.5, 0.7])
    both, plain = page(with_rule, results("2")), page(results("2"))
    assert both.count('<th class="number">as published</th>') == 1
    assert both.count("0.625<small>0.500 – 0.700</small>") == 1
    assert both.count('<td class="number"><small></small></td>') == 1
    assert both.count("the rule\nthat a detector's authors published") == 1
    assert "published" not in plain
