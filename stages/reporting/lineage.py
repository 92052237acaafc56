"""The report's last section: models with their training facts, and the steps behind every chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.evaluation.class_differences import text
from stages.evaluation.json_file import read_json
from stages.reporting.section import Given, Section

TEMPLATE = """\
<p class="soft">Each chain is a digest of everything that its values depend on, each artifact is named by such a digest,
and files by their SHA-256. Detectors are ordered by node, chains by source.</p>
<h3>Detectors</h3>
{% for one in models %}<details><summary><code>{{ one.node }}</code> {{ one.detector }}, trained on
{{ one.trained_on }}</summary>
<ul id="model-{{ one.key }}">{% for line in one.lines %}<li><code>{{ line }}</code></li>{% endfor %}</ul></details>
{% endfor %}
<h3>Rows</h3>
{% for one in sources %}<details><summary>{{ one.source }} <span class="soft">{{ one.chains | length }} chain{{ "s"
if one.chains | length > 1 else "" }}</span></summary>
{% for chain in one.chains %}<details><summary><code>{{ chain.chain }}</code> {{ chain.stages }}</summary>
<ul>{% for line in chain.lines %}<li><code>{{ line }}</code></li>{% endfor %}</ul></details>
{% endfor %}</details>
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """Models with their training facts by node, and the steps behind every chain by source."""
    cards = {one.key: read_json(one.path / "card.json") for one in given.artifacts.get("detectors", ())}
    models = [_model(result["model"], cards.get(result["model"]["key"], {})) for result in given.evaluations]
    chains: dict[str, dict[str, dict[str, Any]]] = {}
    for result in given.evaluations:
        for facts in result["variants"].values():
            for part in facts["parts"]:
                steps = result["steps"][part["chain"]]
                chains.setdefault(", ".join(part["sources"]), {})[part["chain"]] = {
                    "chain": part["chain"][:12],
                    "stages": " → ".join(step["stage"] for step in steps),
                    "lines": [_full_step(step) for step in steps],
                }
    sources = [
        {
            "source": source,
            "chains": [found[chain] for chain in sorted(found, key=lambda one: (found[one]["stages"], one))],
        }
        for source, found in sorted(chains.items())
    ]
    distinct = {model["key"]: model for model in models}
    return {"models": sorted(distinct.values(), key=lambda one: (one["node"], one["key"])), "sources": sources}


def _model(model: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    counts, checked = model["counts"], model["validation"]
    config = ", ".join(f"{name} {text(value)}" for name, value in model["config"].items() if value is not None)
    prints = card.get("data_fingerprint") or {}
    return {
        "node": model["node"],
        "detector": model["detector"],
        "trained_on": ", ".join(model["trained_on"]),
        "key": model["key"][:12],
        "lines": [
            f"artifact {model['key']}",
            config,
            *(f"{split}: {counts[split]['real']} real, {counts[split]['fake']} fake"
              + (f", rows {prints[split]}" if split in prints else "") for split in ("train", "val")),
            f"validation AUC {checked['auc']:.3f}, balanced accuracy {checked['balanced_accuracy']:.3f}"
            if checked
            else model["threshold_rule"],
            f"threshold {model['threshold']:.4f}",
            *(f"license of {licence}" for licence in card.get("licences") or ()),
        ],
    }  # fmt: skip


def _full_step(step: Mapping[str, Any]) -> str:
    config = ", ".join(
        f"{name} {text(value)}" for name, value in (step.get("config") or {}).items() if value is not None
    )
    more = [
        f"{kind} " + ", ".join(f"{name} {str(value)[:12]}" for name, value in step[kind].items())
        for kind in ("files", "artifacts")
        if step.get(kind)
    ]
    node = f" [{step['node']}]" if step.get("node") else ""
    return f"{step['stage']}{node}: " + ("; ".join(part for part in (config, *more) if part) or "no settings")


SECTION = Section(title="Lineage", order=100, template=TEMPLATE, content=content, link="Lineage")
