"""The report's section of claims: what a paper says of its tables, and what these rows say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.stage import Input
from stages.evaluation.json_file import read_json
from stages.reporting.section import Given, Section

TEMPLATE = """\
<div class="wide" role="region" tabindex="0" aria-label="claims"><table>
<caption>Claims and verdicts</caption>
<thead><tr><th scope="col">Verdict</th><th scope="col">Claim</th><th scope="col">Metric</th>
<th scope="col" class="number">Difference</th>
<th scope="col" class="number">95 % interval</th></tr></thead>
<tbody>
{% for one in claims %}<tr><td><span class="tag {{ one.tag }}">{{ one.verdict }}</span></td>
<td>{{ one.says }}{% if one.where %} <span class="soft">{{ one.where }}</span>{% endif %}</td>
<td>{{ one.metric }}</td><td class="number">{{ one.value }}</td>
<td class="number">{{ one.interval }}{% if one.few_groups %} <span class="soft">few groups</span>{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
<p class="soft">A claim holds, or does not, where the whole interval over groups lies on one side of its margin. It is
said of these rows, not of the detectors at large.</p>
"""

TAGS = {"holds": "good", "does not hold": "bad", "cannot tell": "plain"}


def content(given: Given) -> Mapping[str, Any]:
    """One line per claim; nothing where none was given."""
    found = [read_json(one.path / "claims.json") for one in given.artifacts.get("claims", ())]
    claims = [_shown(one) for each in found for one in each["claims"]]
    return {"claims": claims} if claims else {}


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    ends = ["open" if end is None else f"{end:+.3f}" for end in one["interval"]]
    value = "" if one["value"] is None else f"{one['value']:+.3f}"
    metric = f"{one['over']} {one['metric']}" if len(one["more"]) + len(one["than"]) > 2 else one["metric"]
    return {**one, "tag": TAGS[one["verdict"]], "value": value, "metric": metric, "interval": " to ".join(ends)}


SECTION = Section(
    title="Claims",
    order=25,
    template=TEMPLATE,
    content=content,
    link="Claims",
    inputs={"claims": Input("artifacts", required=False, description="'claims' nodes", takes="claims")},
)
