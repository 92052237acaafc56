"""The report's section on results: the matrix of AUC values and the long table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.evaluation.intervals import FEW_GROUPS
from stages.reporting.section import Given, Results, Section
from stages.reporting.tables import POOLED, variants

METRICS = {
    "AUC": "auc",
    "AP": "ap",
    "AP of reals": "ap_real",
    "Balanced accuracy": "balanced_accuracy",
    "Accuracy": "accuracy",
    "TPR": "tpr",
    "TNR": "tnr",
    "Balanced at 0.5": "balanced_accuracy_at_half",
    "Accuracy at 0.5": "accuracy_at_half",
}
"""Heading of a column -> metric of `evaluate`."""

PUBLISHED = {"as published": "accuracy_published"}
"""Likewise, where a detector's authors have published a rule of their own."""

CHANCE = {"ap": "ap_chance", "ap_real": "ap_real_chance"}
"""Metric -> what scores that say nothing would get, where that is not one half."""

HALVES = "two halves of the reals"
"""Name of the null result among the sources of fakes."""

TEMPLATE = """\
{% if other_features %}<p class="alarm"><b>{{ "Detectors" if other_features | length > 1 else "A detector" }} met
features that are made otherwise than those learned from.</b></p>
<ul>{% for line in other_features %}<li>{{ line }}</li>
{% endfor %}</ul>{% endif %}
<p class="soft">Area under the ROC curve. A frame marks fakes of a source that the detector was trained on; 0.5 is
chance.</p>
<div class="wide"><table class="matrix">
<thead><tr><th>Detector</th><th>Trained on</th>{% for column in matrix.columns %}
<th>{{ column.variant }}{% if column.reals %} <small>({{ column.reals }})</small>{% endif %}<br><span
class="soft">{{ column.source }}</span></th>{% endfor %}</tr></thead>
<tbody>{% for row in matrix.rows %}<tr><th>{{ row.detector }}</th><th class="soft">{{ row.trained_on }}</th>
{% for cell in row.cells %}<td{% if cell.home %} class="home"{% endif %} style="background: {{ cell.background }};
color: {{ cell.color }}">{{ cell.text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if doubts %}<ul>{% for line in doubts %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
<details class="numbers"{% if rows | length <= 48 %} open{% endif %}><summary>All numbers ({{ rows | length }}
rows)</summary>
<p class="soft">Small print: 95 % intervals, for which rows of one group (a photograph, a person, a latent) count as
one; those marked "few groups" have fewer than {{ few }} groups of a class, in effect, and are hints. Of AP the chance
level stands in brackets: it is the share of the class that is sought. AP and AUC need no threshold; accuracy, TPR and
TNR use the threshold of the detector ({{ threshold_rule }}); "at 0.5" uses 0.5{% if published %}; "as published" is the
accuracy of the rule that a detector's authors published, before any calibration{% endif %}. Balanced accuracy is the
mean of TPR and TNR. "{{ halves }}" is a null result: half of the groups of real test rows against the rest, where 0.5
is right.</p>
<div class="wide"><table>
<thead><tr><th>Detector</th><th>Trained on</th><th>Variant</th><th>Fakes of</th><th class="number">Real / fake</th>
{% for name in metric_names %}<th class="number">{{ name }}</th>{% endfor %}<th class="number">Threshold</th></tr>
</thead>
<tbody>{% for row in rows %}<tr{% if row.first %} class="first"{% endif %}><td>{{ row.detector if row.head }}</td>
<td>{{ row.trained_on if row.head }}</td>
<td>{{ row.variant }}{% if row.reals %} <small>({{ row.reals }})</small>{% endif %}</td><td>{{ row.source }}</td>
<td class="number">{{ row.n_real }} / {{ row.n_fake }}{% if row.few %}<small>few groups</small>{% endif %}</td>
{% for value in row.metrics %}<td class="number">{{ value.text }}<small>{{ value.interval }}</small></td>{% endfor %}
<td class="number">{{ row.threshold }}</td></tr>
{% endfor %}</tbody></table></div></details>
"""


def content(given: Given) -> Mapping[str, Any]:
    """The matrix of AUC values and the long table."""
    evaluations = given.evaluations
    columns = [
        {"variant": variant, "source": source, "reals": _reals(evaluations, variant)}
        for variant in variants(evaluations)
        for source in _sources(evaluations, variant)
    ]
    rules = sorted({result["model"]["threshold_rule"] for result in evaluations})
    ordered = sorted(
        evaluations, key=lambda one: (one["model"]["detector"], one["model"]["trained_on"], one["model"]["key"])
    )
    lines: list[dict[str, Any]] = []
    published = any(name in row for one in evaluations for row in one["rows"] for name in PUBLISHED.values())
    metrics = METRICS | PUBLISHED if published else METRICS
    for result in ordered:
        for number, row in enumerate(result["rows"]):
            if row["source"] == POOLED and len(_sources([result], row["variant"])) == 1:
                continue
            lines.append({
                "head": number == 0,
                "first": number == 0 and bool(lines),
                "detector": result["model"]["detector"],
                "trained_on": ", ".join(result["model"]["trained_on"]),
                "variant": row["variant"],
                "reals": _reals([result], row["variant"]),
                "source": "all together" if row["source"] == POOLED else row["source"],
                "n_real": row["n_real"],
                "n_fake": row["n_fake"],
                "few": row["few_groups"],
                "threshold": f"{row['threshold']:.3f}",
                "metrics": [_metric(row, name) for name in metrics.values()],
            })  # fmt: skip
        lines += [_null(result, half) for half in result["null"]]
    matrix = {"columns": columns, "rows": [_matrix_row(result, columns) for result in ordered]}
    return {
        "matrix": matrix,
        "rows": lines,
        "metric_names": list(metrics),
        "published": published,
        "threshold_rule": "; ".join(rules),
        "doubts": _doubts(ordered),
        "other_features": _other_features(ordered),
        "few": FEW_GROUPS,
        "halves": HALVES,
    }


def _null(result: Results, half: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the long table for the null result of a variant."""
    return {
        "head": False, "first": False, "detector": "", "trained_on": "", "variant": half["variant"], "reals": "",
        "source": HALVES, "n_real": half["n_first"], "n_fake": half["n_second"], "few": half["few_groups"],
        "threshold": "", "metrics": [_metric(half, name) for name in METRICS.values()],
    }  # fmt: skip


def _other_features(evaluations: Sequence[Results]) -> list[str]:
    """Where test rows were made in another way than those that a detector learned from, once for each."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in evaluations:
        for variant, facts in one["variants"].items():
            if facts["other_features"]:
                found.setdefault((one["model"]["node"], facts["other_features"]), []).append(variant)
    return [f"{node} in {', '.join(names)}: {how}." for (node, how), names in found.items()]


def _doubts(evaluations: Sequence[Results]) -> list[str]:
    """What trainings say against their results, once for each."""
    lines = [
        f"{model['detector']} trained on {', '.join(model['trained_on'])}: {sentence}"
        for model in (one["model"] for one in evaluations)
        for sentence in model.get("doubts", ())
    ]
    return list(dict.fromkeys(lines))


def _sources(evaluations: Sequence[Results], variant: str) -> list[str]:
    found = {row["source"] for one in evaluations for row in one["rows"] if row["variant"] == variant}
    return sorted(found - {POOLED})


def _reals(evaluations: Sequence[Results], variant: str) -> str:
    """`reals of raw` where a variant has none of its own, so that fakes alone were perturbed or equalized; else ""."""
    found = {one["variants"][variant]["reals_from"] for one in evaluations if variant in one["variants"]} - {variant}
    return f"reals of {' or '.join(sorted(found))}" if found else ""


def _metric(row: Mapping[str, Any], name: str) -> dict[str, str]:
    """A number and its interval; empty where the detector has none, a dash where a class was missing."""
    if name not in row:
        return {"text": "", "interval": ""}
    value = row[name]
    if value is None:
        return {"text": "–", "interval": ""}
    low, high = row[f"{name}_interval"]
    chance = f" ({row[CHANCE[name]]:.2f})" if name in CHANCE else ""
    return {"text": f"{value:.3f}", "interval": f"{low:.3f} – {high:.3f}{chance}"}


def _matrix_row(result: Results, columns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    values = {(row["variant"], row["source"]): row["auc"] for row in result["rows"]}
    trained_on = result["model"]["trained_on"]
    cells = []
    for column in columns:
        value = values.get((column["variant"], column["source"]))
        background, color = _shade(value)
        text = "" if value is None else f"{value:.3f}"
        cells.append({"text": text, "background": background, "color": color, "home": column["source"] in trained_on})
    return {"detector": result["model"]["detector"], "trained_on": ", ".join(trained_on), "cells": cells}


def _shade(value: float | None) -> tuple[str, str]:
    """Background and text color of an AUC: white at chance, blue above, orange below (a detector turned around)."""
    if value is None:
        return "#ffffff", "#111827"
    share = min(abs(value - 0.5) * 2, 1.0)
    full = (24, 100, 171) if value >= 0.5 else (217, 72, 15)
    mixed = tuple(round(243 + (channel - 243) * share) for channel in full)
    return f"rgb({mixed[0]}, {mixed[1]}, {mixed[2]})", "#ffffff" if share > 0.6 else "#111827"


SECTION = Section(title="Results", order=20, template=TEMPLATE, content=content, link="Results")
