"""The report's last section: models with their training facts, and the steps behind every chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.evaluation.class_differences import text
from stages.reporting.section import Given, Section

TEMPLATE = """\
<p class="soft">Each chain is a digest of everything that its values depend on. Each detector is named by its
artifact.</p>
{% for one in models %}<details><summary>{{ one.detector }}, trained on {{ one.trained_on }}
<code>{{ one.key }}</code></summary>
<ul>{% for line in one.lines %}<li><code>{{ line }}</code></li>{% endfor %}</ul></details>
{% endfor %}
{% for one in chains %}<details><summary><code>{{ one.chain }}</code> {{ one.sources }}</summary>
<ul>{% for line in one.lines %}<li><code>{{ line }}</code></li>{% endfor %}</ul></details>
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """Models with their training facts, and the steps behind every chain."""
    models = []
    for result in given.evaluations:
        model = result["model"]
        counts = model["counts"]
        config = ", ".join(f"{name} {text(value)}" for name, value in model["config"].items() if value is not None)
        checked = model["validation"]
        models.append({
            "detector": model["detector"],
            "trained_on": ", ".join(model["trained_on"]),
            "key": model["key"][:12],
            "lines": [
                f"node {model['node']}",
                config,
                *(f"{split}: {counts[split]['real']} real, {counts[split]['fake']} fake" for split in ("train", "val")),
                f"validation AUC {checked['auc']:.3f}, balanced accuracy {checked['balanced_accuracy']:.3f}"
                if checked
                else model["threshold_rule"],
                f"threshold {model['threshold']:.4f}",
            ],
        })  # fmt: skip
    chains: dict[str, dict[str, Any]] = {}
    for result in given.evaluations:
        for facts in result["variants"].values():
            for part in facts["parts"]:
                steps = result["steps"][part["chain"]]
                chains[part["chain"]] = {
                    "chain": part["chain"][:12],
                    "sources": ", ".join(part["sources"]),
                    "lines": [_full_step(step) for step in steps],
                }
    return {"models": models, "chains": [chains[chain] for chain in sorted(chains)]}


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
