"""The report's section on audits: the verdict on top of page one, then what differs, declared or not.

A difference of a C check, or of the history of the pixels where a control of other reals shows it too, is a bias: it is
an alarm unless it is declared, by the name of the check or by a stage that may move it (`Stage.moves`). What else
differs may be the generator's own trace, or content: it is listed to be explained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.stage import Artifact, Input, Rows
from stages.evaluation.class_differences import Difference, counted, covering
from stages.evaluation.json_file import read_json
from stages.images.containers import texts
from stages.reporting.section import Given, Results, Section, Tile

RESULT = "audit.json"
LOSSY = ("jpeg", "webp", "mpo")
ADDRESS = ("codec", "native_size")
"""Fields of files without which nothing is compared."""

OF_TOPICS = {
    "reduction": ("resampling", "native_scale", "high_frequency_energy", "noise_level"),
    "native_size": ("size", "aspect"),
}
"""Topics of what is measured besides, and the checks that they may move."""

TEMPLATE = """\
{% for one in audits %}<h3><code>{{ one.node }}</code> verdict: {{ one.verdict }}; bias: {{ one.bias }}</h3>
{% if one.alarms %}<p class="alarm"><b>A bias that nobody declared:</b> {{ one.alarms }}. It is never the generator's
doing.</p>
{% elif one.open %}<div class="amber"><b>Not certain.</b> Too few rows for {{ one.open }}.</div>
{% else %}<p class="calm">No bias that is not declared.</p>{% endif %}
{% if one.rows %}<div class="wide" role="region" tabindex="0" aria-label="checks of {{ one.node }}"><table>
<caption>Checks that differ in {{ one.node }}</caption>
<thead><tr><th scope="col">Check</th><th scope="col">Kind</th><th scope="col">Differs in</th>
<th scope="col" class="number">Effect</th><th scope="col" class="number">p</th>
<th scope="col" class="number">Real / fake</th><th scope="col">What it is</th>
<th scope="col">What to do</th></tr></thead>
<tbody>{% for row in one.rows %}<tr><td><code>{{ row.name }}</code></td><td>{{ row.kind }}</td><td>{{ row.column }}</td>
<td class="number">{{ row.effect }}</td><td class="number">{{ row.p }}</td><td class="number">{{ row.counts }}</td>
<td>{% if row.alarm %}<span class="tag bad">not declared</span>{% else %}{{ row.told }}{% endif %}</td>
<td>{{ row.fix }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}
<p class="soft">{% for verdict, names in one.rest %}{{ verdict }}: {{ names }}. {% endfor %}</p>
{% endfor %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """One entry per audit."""
    artifacts = given.artifacts.get("audits", ())
    if not artifacts:
        return {}
    shown = [_shown(one, given) for one in artifacts]
    given.tiles.append(_tile(shown))
    given.facts["audits"] = {one["node"]: {name: one[name] for name in ("verdict", "bias")} for one in shown}
    return {"audits": shown}


BIASES = {"found": "bad", "cannot tell": "amber", "none": "good"}
"""What audits say of a bias, the worst first, and the state of its tile."""


def _tile(audits: Sequence[Mapping[str, Any]]) -> Tile:
    """The worst of the audits, and which it is of."""
    worst = min((one["bias"] for one in audits), key=list(BIASES).index)
    those = [one for one in audits if one["bias"] == worst]
    about = "; ".join(": ".join(filter(None, (one["node"], one["alarms"] or one["open"]))) for one in those)
    return Tile("undeclared bias in the audit", worst, about, "audit", BIASES[worst])


def _shown(artifact: Artifact, given: Given) -> dict[str, Any]:
    result, details = read_json(artifact.path / RESULT), artifact.info["facts"]["details"]
    covered = moved(given.evaluations)
    different = [one for one in result["checks"] if one["verdict"] == "differs"]
    rows = []
    for one in different:
        detail = details[one["name"]]
        said = covering(one["name"], given.config.declared, covered)
        rows.append({
            "name": one["name"], "kind": one["kind"], "column": detail["column"], "effect": f"{one['effect']:+.3f}",
            "p": "exact" if one["p"] is None else f"{one['p']:.4f}", "counts": f"{one['n_real']} / {one['n_fake']}",
            "alarm": detail["biased"] and not said, "fix": one["fix"],
            "told": " ".join(said.values()) or "content or generator, to explain",
        })  # fmt: skip
    open_checks = [
        one["name"]
        for one in result["checks"]
        if one["verdict"] == "cannot tell"
        and one["kind"] == "C"
        and not covering(one["name"], given.config.declared, covered)
    ]
    rest = [
        (verdict, ", ".join(one["name"] for one in result["checks"] if one["verdict"] == verdict))
        for verdict in ("cannot tell", "equal", "does not apply")
    ]
    alarms = ", ".join(row["name"] for row in rows if row["alarm"])
    return {
        "node": artifact.node,
        "verdict": result["verdict"],
        "bias": "found" if alarms else "cannot tell" if open_checks else "none",
        "alarms": alarms,
        "open": ", ".join(open_checks),
        "rows": sorted(rows, key=lambda row: not row["alarm"]),
        "rest": [(verdict, names) for verdict, names in rest if names],
    }


def moved(evaluations: Sequence[Results]) -> dict[str, tuple[str, ...]]:
    """Topic -> checks that it covers: of a stage in the lineages those that it may move."""
    from stages.auditing.vocabulary import GROUPS

    steps = [step for results in evaluations for chain in results["steps"].values() for step in chain]
    covered = {step["stage"]: step["moves"] for step in steps if step.get("moves")}
    checks = {stage: [GROUPS.get(word, (word,)) for word in words] for stage, words in covered.items()}
    return {**OF_TOPICS, **{stage: tuple(itertools.chain(*found)) for stage, found in checks.items()}}


def differences(given: Given) -> Iterator[Difference]:
    """What audits found that is a bias, and what files say that the report was given: a topic each."""
    for artifact in given.artifacts.get("audits", ()):
        details = artifact.info["facts"]["details"]
        for one in read_json(artifact.path / RESULT)["checks"]:
            if details[one["name"]]["biased"]:
                where = f"{details[one['name']]['column']}, effect {one['effect']:+.3f}"
                yield Difference(
                    one["name"], f"{one['n_real']:,} rows of {artifact.node}", f"{one['n_fake']:,}: {where}"
                )
    container = given.rows.get("container")
    rows = container and container.having(*ADDRESS)
    if rows is not None:
        yield from of_files(rows)


def of_files(rows: Rows) -> Iterator[Difference]:
    """Files of both classes by every check of what files say; where one class has none, whether the other was coded."""
    from stages.auditing.audit import audit
    from stages.auditing.stored import rows_of
    from stages.auditing.vocabulary import DIFFERS

    made, labels = rows_of(rows)
    real, fake = ([row for row, label in zip(made, labels.tolist(), strict=True) if label == one] for one in (0, 1))
    codecs = np.array(texts(rows.array("codec")))
    if real and fake:
        found = [one for one in audit(real, fake).findings if one.verdict == DIFFERS and one.letter == "C"]
        sizes = np.array([f"{width} × {height}" for width, height in rows.array("native_size").tolist()])
        values = {"codec": codecs, "size": sizes}
        for one in found:
            told = [
                counted(values[one.name][rows.column("label") == label].tolist()) if one.name in values else ""
                for label in (0, 1)
            ]
            yield Difference(
                one.name, told[0] or f"{one.n_real:,} files", told[1] or f"{one.column}, effect {one.effect:+.3f}"
            )
    elif real and any(codec.lower() in LOSSY for codec in codecs.tolist()):
        yield Difference("codec", counted(codecs.tolist()), "no file: never compressed")


SECTION = Section(
    title="Audit: what differs besides the generator",
    order=5,
    template=TEMPLATE,
    content=content,
    link="Audit",
    inputs={
        "audits": Input(
            "artifacts", required=False, description="'audit' nodes, before and after equalize", takes="audit"
        ),
    },
)
