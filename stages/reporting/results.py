"""The report's section on results, its first: the matrices, and all numbers in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.stage import POOLED
from stages.evaluation.comparison import made
from stages.evaluation.intervals import FEW_GROUPS
from stages.reporting import matrices, misses
from stages.reporting.matrices import reals_of, sources_of
from stages.reporting.names import Name, named
from stages.reporting.section import Given, Results, Section
from stages.reporting.verdicts import tiles

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
<fieldset class="switch" hidden><legend>Metric of the matrices</legend>
{% for name in switch %}<label><input type="radio" name="metric" value="{{ loop.index0 }}"{% if loop.first %}
 checked{% endif %}> {{ name }}</label>
{% endfor %}</fieldset>
<p class="soft"><span id="metric-name">AUC</span>, a row per detector, a column per source of fakes. A frame marks a
source that the detector was trained on; at 0.5 cells have no color. A row's name leads to the detector's training.
Download all numbers: <a download="results.csv" href="{{ csv }}">CSV</a>,
<a download="results.json" id="matrices" href="{{ json }}">JSON</a>.</p>
{% for matrix in matrices %}
<div class="wide" role="region" tabindex="0" aria-label="matrix of variant {{ matrix.called }}">
<table class="matrix grid sortable">
<caption>Variant {{ matrix.called }}</caption>
<thead><tr><th scope="col">Detector</th>{% for source in matrix.sources %}
<th scope="col" class="turned"><span>{{ source }}{% if source in missed %} {{ mark }}{% endif %}</span></th>{% endfor %}
<th scope="col" class="turned"><span>mean</span></th>
<th scope="col" class="turned"><span>minimum</span></th></tr></thead>
<tbody>{% for row in matrix.rows %}<tr data-row="{{ loop.index0 }}"><th scope="row"><a
href="#{{ row.anchor }}">{{ row.detector }}</a>{% if row.trained_on %} <small>{{ row.trained_on }}</small>{% endif %}
</th>{% for cell in row.cells %}<td class="{{ cell.shade }}{% if cell.home %} home{% endif %}">{{ cell.text }}</td>
{% endfor %}{% for cell in row.ends %}<td class="{{ cell.shade }} end">{{ cell.text }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}
{% if missed_gates %}<p><b>{{ mark }} {{ "These generators miss" if missed | length > 1 else "This generator misses" }}
a gate</b>: a detector of such fakes may have learned no more than one number.</p>
<ul>{% for line in missed_gates %}<li>{{ line }}</li>
{% endfor %}</ul>{% endif %}
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
<div class="wide" role="region" tabindex="0" aria-label="all numbers"><table class="sortable long">
<caption>All numbers</caption>
<thead><tr><th scope="col">Detector</th><th scope="col">Trained on</th><th scope="col">Variant</th>
<th scope="col">Fakes of</th><th scope="col" class="number">Real / fake</th>
{% for name in metric_names %}<th scope="col" class="number">{{ name }}</th>{% endfor %}
<th scope="col" class="number">Threshold</th></tr></thead>
<tbody>{% for row in rows %}<tr{% if row.first %} class="first"{% endif %}><td>{{ row.detector }}</td>
<td>{{ row.trained_on }}</td>
<td>{{ row.variant }}{% if row.reals %} <small>({{ row.reals }})</small>{% endif %}</td>
<td>{{ row.source }}{% if row.source in missed %} {{ mark }}{% endif %}</td>
<td class="number">{{ row.n_real }} / {{ row.n_fake }}{% if row.few %}<small>few groups</small>{% endif %}</td>
{% for value in row.metrics %}<td class="number">{{ value.text }}<small>{{ value.interval }}</small></td>{% endfor %}
<td class="number">{{ row.threshold }}</td></tr>
{% endfor %}</tbody></table></div></details>
"""


def content(given: Given) -> Mapping[str, Any]:
    """The matrices, and the long table."""
    ordered = sorted(
        given.evaluations, key=lambda one: (one["model"]["detector"], one["model"]["trained_on"], one["model"]["key"])
    )
    names = named(ordered)
    given.tiles.extend(tiles(ordered))
    published = any(name in row for one in ordered for row in one["rows"] for name in PUBLISHED.values())
    metrics = METRICS | PUBLISHED if published else METRICS
    lines: list[dict[str, Any]] = []
    for result, name in zip(ordered, names, strict=True):
        lines += [one | {"first": number == 0 and bool(lines)}
                  for number, one in enumerate(_lines(result, name, list(metrics.values())))]  # fmt: skip
    file = given.files.get("checkpoints")
    missed = misses.of_sources(ordered, misses.of_manifest(file)) if file else {}
    data = matrices.data(ordered, names)
    recipes = [one.info.get("recipe", {}) for one in given.artifacts.get("of", ())]
    if len(recipes) == len(given.evaluations):
        data["made"] = made(given.evaluations, recipes)
    return {
        "matrices": matrices.shown(data),
        "switch": list(matrices.METRICS),
        "json": matrices.as_json(data),
        "csv": matrices.as_csv(ordered, names, list(metrics.values())),
        "rows": lines,
        "metric_names": list(metrics),
        "published": published,
        "threshold_rule": "; ".join(sorted({result["model"]["threshold_rule"] for result in ordered})),
        "doubts": _doubts(ordered),
        "other_features": _other_features(ordered),
        "missed": missed,
        "missed_gates": misses.lines(missed),
        "mark": misses.MARK,
        "few": FEW_GROUPS,
        "halves": HALVES,
    }


def _lines(result: Results, name: Name, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of the long table of one detector, null results last."""
    head = {"detector": name.detector, "trained_on": name.trained_on}
    lines = [
        {
            **head,
            "variant": row["variant"],
            "reals": reals_of([result], row["variant"]),
            "source": "all together" if row["source"] == POOLED else row["source"],
            "n_real": row["n_real"],
            "n_fake": row["n_fake"],
            "few": row["few_groups"],
            "threshold": f"{row['threshold']:.3f}",
            "metrics": [_metric(row, metric) for metric in metrics],
        }
        for row in result["rows"]
        if row["source"] != POOLED or len(sources_of([result], row["variant"])) != 1
    ]
    return lines + [
        {
            **head, "variant": half["variant"], "reals": "", "source": HALVES, "n_real": half["n_first"],
            "n_fake": half["n_second"], "few": half["few_groups"], "threshold": "",
            "metrics": [_metric(half, metric) for metric in metrics],
        }
        for half in result["null"]
    ]  # fmt: skip


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


SECTION = Section(title="Results", order=1, template=TEMPLATE, content=content, link="Results")
