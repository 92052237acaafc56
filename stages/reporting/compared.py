"""The report's section on what was compared, and what differs between the classes besides the generator.

The commonest defect of this field's data is a difference between the classes that is not the generator, so what the
audit finds, and what it could not look at, stands first and in the page's head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.stage import Input, Rows
from stages.evaluation import class_differences
from stages.evaluation.class_differences import counted
from stages.evaluation.reductions import FIELD, Reductions
from stages.images.containers import texts
from stages.reporting import audit
from stages.reporting.section import IMAGES, Given, Results, Section, Tile
from stages.reporting.tables import steps_text, variants

TEMPLATE = """\
{% if undeclared %}<p class="alarm"><b>{{ undeclared }} undeclared difference{{ "s" if undeclared > 1 else "" }}
between real and fake rows.</b> A detector may have learned {{ "these" if undeclared > 1 else "this" }} instead of the
generator. Remove the difference, or declare it in the configuration.</p>
{% elif not_audited %}
{% elif differences %}<p class="calm">Every difference that the audit found is declared.</p>
{% else %}<p class="calm">The audit found no difference between the processing of real and fake rows.</p>{% endif %}
{% if not_audited %}<div class="amber"><b>The audit could not look at everything.</b>
{% if undeclared %}{% elif differences %}Every difference that it found is declared, but:{% else %}It found no
difference in what it saw, but:{% endif %}
<ul>{% for line in not_audited %}<li>{{ line }}</li>
{% endfor %}</ul></div>{% endif %}
{% if resampled %}<div class="amber"><b>Sizes differ between training and test.</b>
<ul>{% for line in resampled %}<li>{{ line }}</li>
{% endfor %}</ul></div>{% endif %}
{% if differences %}
<div class="wide" role="region" tabindex="0" aria-label="differences"><table>
<caption>Differences between the classes</caption>
<thead><tr><th scope="col">Topic</th><th scope="col">Real rows</th><th scope="col">Fake rows</th>
<th scope="col">Where</th><th scope="col">Declared</th></tr></thead>
<tbody>
{% for one in differences %}<tr><td><code>{{ one.topic }}</code></td><td>{{ one.real }}</td><td>{{ one.fake }}</td>
<td>{{ one.where }}</td><td>{% if one.declared %}{{ one.declared }}{% else %}
<span class="tag bad">not declared</span>{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% if declared %}<h3>Also declared</h3>
<ul>{% for topic, text in declared.items() %}<li><code>{{ topic }}</code> {{ text }}</li>{% endfor %}</ul>{% endif %}
<h3>Steps from source to detector</h3>
{% for one in groups %}<details><summary><code>{{ one.stages }}</code>
<span class="soft">{{ one.about }}</span></summary>
<p><code>{{ one.steps }}</code></p>
<div class="wide" role="region" tabindex="0" aria-label="rows of these steps"><table>
<caption>Rows with these steps</caption>
<thead><tr><th scope="col">Variant</th><th scope="col">Class</th><th scope="col">Source</th>
<th scope="col" class="number">Rows</th></tr></thead>
<tbody>{% for part in one.parts %}<tr><td>{{ part.variant }}</td><td>{{ part.kind }}</td><td>{{ part.source }}</td>
<td class="number">{{ part.rows }}</td></tr>
{% endfor %}</tbody></table></div></details>
{% endfor %}
{% if borrowed %}<p class="soft">{{ borrowed }}</p>{% endif %}
{% if containers %}<h3>Files as they came</h3>
<div class="wide" role="region" tabindex="0" aria-label="files"><table>
<caption>Containers by source</caption>
<thead><tr><th scope="col">Source</th><th scope="col">Class</th><th scope="col" class="number">Files</th>
<th scope="col">Codec</th><th scope="col">Native size</th>
<th scope="col">Quantization tables</th><th scope="col">File size</th></tr></thead>
<tbody>{% for one in containers %}<tr><td>{{ one.source }}</td><td>{{ one.kind }}</td>
<td class="number">{{ one.rows }}</td><td>{{ one.codec }}</td>
<td>{{ one.size }}</td><td>{{ one.tables }}</td><td>{{ one.bytes }}</td></tr>{% endfor %}</tbody></table></div>
{% endif %}
"""


def content(given: Given) -> Mapping[str, Any]:
    """Differences with their declarations, what was not audited, and the steps of every branch."""
    evaluations, images, container = given.evaluations, given.rows.get("images"), given.rows.get("container")
    reductions = Reductions(images and images.having(FIELD))
    differences = [one for results in evaluations for one in class_differences.of_results(results)]
    differences += [one for results in evaluations for one in reductions.differences(results)]
    differences += audit.differences(given)
    listed, unused = class_differences.declare(differences, given.config.declared, audit.moved(evaluations))
    not_audited = gaps(evaluations, reductions, container)
    undeclared = sorted({one.topic for one in listed if not one.declared})
    given.tiles.append(_tile(undeclared, not_audited))
    given.facts.update({"differences": len(listed), "undeclared": undeclared, "not_audited": not_audited})
    return {
        "differences": [_shown(one, evaluations) for one in listed],
        "undeclared": sum(not one.declared for one in listed),
        "declared": unused,
        "not_audited": not_audited,
        "resampled": resampled(evaluations),
        **branches(evaluations),
        "containers": _containers(container and container.having(*audit.ADDRESS)),
    }


def _tile(undeclared: Sequence[str], not_audited: Sequence[str]) -> Tile:
    state = "bad" if undeclared else "amber" if not_audited else "good"
    about = ", ".join(undeclared) or ("not everything was audited" if not_audited else "")
    return Tile("undeclared differences of processing", str(len(undeclared)), about, "compared", state)


def resampled(evaluations: Sequence[Results]) -> list[str]:
    """Detectors that were tested on maps or profiles of another size than they learned from."""
    found = []
    for results in evaluations:
        about = results["model"]
        for variant, facts in results["variants"].items():
            learned, tested = about.get("feature_shape"), facts.get("feature_shape")
            if learned and tested and learned != tested:
                where = f" in variant {variant}" if variant else ""
                sizes = (" × ".join(map(str, shape)) for shape in (learned, tested))
                found.append("{} learned from {} values and was tested on {}{}, which it resampled.".format(
                    about["node"], *sizes, where
                ))  # fmt: skip
    return found


def gaps(evaluations: Sequence[Results], reductions: Reductions, container: Rows | None = None) -> list[str]:
    """What the audit could not look at: one sentence each, with the way to have it audited."""
    origins = class_differences.origins(evaluations)
    files = [pair for pair, step in origins.items() if step["content"]]
    unseen = {pair for results in evaluations for pair in reductions.unseen(results)}
    rows = container and container.having(*audit.ADDRESS)
    unread = set(files) - (_pairs(rows) if rows is not None else set())
    found = []
    for what, wanted, missing, advice in (
        (
            "Factors of reduction",
            list(origins),
            unseen,
            "`images` all 'equalize' nodes that the evaluated rows pass",
        ),
        (
            "Codecs and native sizes of files",
            files,
            unread,
            f"`container: {_listed([source for _, source in files])}`",
        ),
    ):
        named = [f"{source} ({'fake' if label else 'real'})" for label, source in wanted if (label, source) in missing]
        whose = f" for {', '.join(named)}" if len(named) < len(wanted) else ""
        if missing:
            found.append(f"{what} were not audited{whose}: give {advice}.")
    return found


def _pairs(rows: Rows) -> set[tuple[int, str]]:
    """The (label, source) that rows have."""
    return set(zip(rows.column("label").tolist(), rows.column("source").tolist(), strict=True))


def _listed(names: Sequence[str]) -> str:
    """Nodes as pipeline.yaml writes them; brackets ask for quotes."""
    words = [f'"{name}"' if "[" in name else name for name in dict.fromkeys(names)]
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


def _shown(one: class_differences.Difference, evaluations: Sequence[Results]) -> dict[str, str]:
    variants = list(dict.fromkeys(name for results in evaluations for name in results["variants"]))
    if not one.variants:
        where = "measured on rows"
    else:
        everywhere = len(variants) > 1 and set(one.variants) == set(variants)
        where = "all variants" if everywhere else ", ".join(one.variants)
    return {"topic": one.topic, "real": one.real, "fake": one.fake, "where": where, "declared": one.declared}


def branches(evaluations: Sequence[Results]) -> dict[str, Any]:
    """Branches of each variant, in groups of equal steps."""
    parts: dict[tuple[Any, ...], dict[str, Any]] = {}
    chains: dict[str, Sequence[Mapping[str, Any]]] = {}
    borrowed: dict[str, str] = {}
    for variant in variants(evaluations):
        for results in evaluations:
            facts = results["variants"].get(variant)
            if facts is None:
                continue
            if facts["reals_from"] != variant:
                borrowed[variant] = facts["reals_from"]
            for part in facts["parts"]:
                for kind in ("real", "fake"):
                    if part[kind]:
                        steps = steps_text(results["steps"][part["chain"]])
                        chains[steps] = results["steps"][part["chain"]]
                        key = (variant, kind == "fake", tuple(part["sources"]), steps)
                        parts[key] = {
                            "variant": variant, "kind": kind, "source": ", ".join(part["sources"]),
                            "rows": part[kind], "steps": steps,
                        }  # fmt: skip
    order = {variant: number for number, variant in enumerate(variants(evaluations))}
    ranked = [parts[key] for key in sorted(parts, key=lambda key: (order[key[0]], *key[1:]))]
    groups = [_group(steps, chain, [one for one in ranked if one["steps"] == steps])
              for steps, chain in sorted(chains.items(), key=lambda item: (len(item[1]), item[0]))]  # fmt: skip
    words = [f"{variant} (compared with the reals of {other})" for variant, other in borrowed.items()]
    said = f"Variants without reals of their own: {', '.join(words)}." if words else ""
    return {"groups": groups, "borrowed": said}


def _group(steps: str, chain: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Branches that went through the same steps, and what they are in a line."""
    sources = {kind: list(dict.fromkeys(one["source"] for one in parts if one["kind"] == kind))
               for kind in ("real", "fake")}  # fmt: skip
    told = [f"{_listing(names)} ({kind})" for kind, names in sources.items() if names]
    told.append(" and ".join(dict.fromkeys(one["variant"] for one in parts)))
    stages = " → ".join(step["stage"] for step in chain)
    return {"steps": steps, "stages": stages, "parts": parts, "about": ", ".join(told)}


def _listing(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names) if len(names) <= most else f"{len(names)} sources"


def _containers(rows: Rows | None) -> list[dict[str, Any]]:
    if rows is None or not len(rows) or "codec" not in rows.fields:
        return []
    labels, sources = rows.column("label"), rows.column("source")
    codecs = texts(rows.array("codec"))
    sizes = [f"{width} × {height}" for width, height in rows.array("native_size").tolist()]
    tables = [bytes(value.tobytes()) for value in rows.array("quantization")] if "quantization" in rows.fields else []
    lengths = rows.array("file_bytes") if "file_bytes" in rows.fields else None
    found = []
    for label, source in sorted({(int(label), str(source)) for label, source in zip(labels, sources, strict=True)}):
        mine = np.flatnonzero((labels == label) & (sources == source))
        quantized = {tables[row] for row in mine if any(tables[row])} if tables else set()
        found.append({
            "source": source,
            "kind": "fake" if label else "real",
            "rows": len(mine),
            "codec": counted(codecs[row] for row in mine),
            "size": counted(sizes[row] for row in mine),
            "tables": f"{len(quantized)} different" if quantized else "none",
            "bytes": _bytes(lengths[mine]) if lengths is not None else "",
        })  # fmt: skip
    return found


def _bytes(lengths: Any) -> str:
    low, middle, high = (float(value) / 1024 for value in np.quantile(lengths, [0, 0.5, 1]))
    return f"{low:.1f} to {high:.1f} KiB, median {middle:.1f}"


SECTION = Section(
    title="What was compared, and what differs besides the generator",
    order=10,
    template=TEMPLATE,
    content=content,
    link="What was compared",
    inputs={
        "images": IMAGES,
        "container": Input(
            "rows",
            required=False,
            description="all 'ingest' nodes that evaluated rows come from: their codecs and native sizes are audited",
        ),
    },
    fields={"images": (FIELD,)},
)
