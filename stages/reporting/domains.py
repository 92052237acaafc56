"""The report's section on results per domain: a detector may know one kind of content only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.evaluation.metrics import roc_auc
from stages.evaluation.pairing import Rows
from stages.reporting.panels import scored
from stages.reporting.section import IMAGES, Given, Section
from stages.reporting.tables import base_variant

NONE = "no domain"

TEMPLATE = """\
<p class="soft">Of variant {{ variant }}. TNR: share of a domain's reals that are called real; TPR: share of its fakes
that are called fake, at the detector's threshold; AUC: its fakes against its reals, where it has both. How many rows a
domain has stands in the head; of few rows a share says little.</p>
<div class="wide" role="region" tabindex="0" aria-label="results per domain"><table class="grid sortable">
<caption>Results per domain</caption>
<thead><tr><th scope="col">Detector</th>
{% for head in heads %}<th scope="col" class="turned"><span>{{ head }}</span></th>
{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr><th scope="row">{{ row.detector }} <small>{{ row.trained_on }}</small></th>
{% for value in row.numbers %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
"""


def content(given: Given) -> Mapping[str, Any]:
    """A line per detector; nothing where all rows are of one domain."""
    images = given.rows.get("images")
    if images is None or "domain" not in images.columns:
        return {}
    columns = [images.column(name).tolist() for name in ("label", "source", "domain")]
    known = {(label, source, bytes(row)): domain or NONE
             for label, source, domain, row in zip(*columns, images.ids, strict=True)}  # fmt: skip
    found = [(results, name, rows, np.array([known.get(key, NONE) for key in rows.keys], dtype=object))
             for results, name, rows in scored(given)]  # fmt: skip
    names = sorted({domain for *_, domains in found for domain in domains.tolist()}, key=lambda one: (one == NONE, one))
    if len(names) < 2:
        return {}
    measures = [(domain, kind) for domain in names for kind in ("TNR", "TPR", "AUC")]
    table = [[_measure(rows, domains == domain, kind, results["model"]["threshold"]) for domain, kind in measures]
             for results, _, rows, domains in found]  # fmt: skip
    kept = [place for place in range(len(measures)) if any(line[place][0] is not None for line in table)]
    return {
        "variant": base_variant(given.evaluations),
        "heads": [_head(*measures[place], [line[place][1] for line in table]) for place in kept],
        "rows": [
            {"detector": name.detector, "trained_on": name.trained_on,
             "numbers": ["" if line[place][0] is None else f"{line[place][0]:.3f}" for place in kept]}
            for (_, name, *_), line in zip(found, table, strict=True)
        ],
    }  # fmt: skip


def _measure(rows: Rows, chosen: Any, kind: str, threshold: float) -> tuple[float | None, int]:
    """The number, None without rows of a class that it needs, and of how many rows it is."""
    scores, labels = rows.scores[chosen], rows.labels[chosen]
    if kind == "AUC":
        return (roc_auc(scores, labels), len(labels)) if len(set(labels.tolist())) == 2 else (None, 0)
    mine = scores[labels == (kind == "TPR")]
    right = mine >= threshold if kind == "TPR" else mine < threshold
    return (float(right.mean()), len(mine)) if len(mine) else (None, 0)


def _head(domain: str, kind: str, counts: Sequence[int]) -> str:
    least, most = min(filter(None, counts), default=0), max(counts, default=0)
    return f"{domain} {kind} ({least}{f' to {most}' if most != least else ''})"


SECTION = Section(
    title="Results per domain",
    order=27,
    template=TEMPLATE,
    content=content,
    link="Domains",
    inputs={"images": IMAGES},
)
