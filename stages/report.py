"""One offline HTML file: how the detectors did, what was compared, what differs between the classes.

No network and no date: the same inputs give the same bytes. Verdicts stand on top, those of the audit that are alarms
before all others, because the most damaging defect of this field's data is a difference between the classes that is
not the generator. One small script sorts and switches tables; the page's security policy names it, and the style, by
digest and refuses everything else. Without it everything can be read.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import field_validator

from pipeline.printable import printable_lines
from pipeline.sentences import closest
from pipeline.stage import FitContext, Input, Kind, Rows, Schema, Stage, StageConfig, file_setting, setting
from stages import SECTIONS, STAGES
from stages.auditing.vocabulary import NAMES
from stages.evaluation.json_file import read_json
from stages.reporting import misses, tables
from stages.reporting.figures import figure
from stages.reporting.matrices import shades
from stages.reporting.section import STATES, Given, Section

TEMPLATE, STYLE, SCRIPT = (Path(__file__).with_suffix(ending) for ending in (".html.j2", ".css", ".js"))
HTML, TABLE = "report.html", "table.json"
FORMAT = 1
ROOM = "stages.reporting"

TOPICS = ("reduction", "native_size", "order")
"""Differences that are named neither after a stage nor after a check of the audit."""


def sections() -> dict[str, Section]:
    """Name -> section, in the order of the page."""
    found: dict[str, Section] = {name: import_module(f"{ROOM}.{name}").SECTION for name in SECTIONS}
    return dict(sorted(found.items(), key=lambda item: item[1].order))


class ReportConfig(StageConfig):
    """Words of the report. A difference between the classes that `declared` does not name is flagged."""

    title: str = setting("Touchstone report", description="heading of the page")
    notice: str | None = setting(None, description="one sentence on top, e.g. that this is a demonstration")
    declared: dict[str, str] = setting(
        {},
        description="topic -> sentence: differences between the classes that are known. Topics: reduction, "
        "native_size, order, a check of the audit (codec), a stage (perturb) or one of its settings (equalize.size); a "
        "stage covers its settings and the checks that it may move. What is found and not declared is flagged",
    )
    checkpoints: str | None = file_setting(
        None,
        description="a manifest of checkpoints, such as manifests/generators.yaml: fakes of those that miss a gate, as "
        "`misses` of their entries says, are marked",
    )
    samples: int = setting(12, ge=1, le=100, description="images shown per source and kind of processing")

    @field_validator("declared")
    @classmethod
    def _topics(cls, declared: dict[str, str]) -> dict[str, str]:
        """A topic that is almost a known one is a mistake; others may be stages from elsewhere."""
        known = [*TOPICS, *NAMES, *STAGES]
        for topic in declared:
            word = topic.partition(".")[0]
            if word not in known and (meant := closest(word, known, 0.8)):
                raise ValueError(f"no difference has the topic '{topic}'{meant}")
        return declared


class Report(Stage):
    """Evaluations in, `report.html` and `table.json` out."""

    name: ClassVar[str] = "report"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "report"
    page: ClassVar[str] = HTML
    Config: ClassVar[type[StageConfig]] = ReportConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("artifacts", description="'evaluate' nodes", takes="evaluation"),
        **{name: one for section in sections().values() for name, one in section.inputs.items()},
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "matplotlib", "jinja2", "pillow")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source", "group", "domain")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def schema(self, config: ReportConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where rows are given of which no section shows anything."""
        for name in inputs:
            wanted = [one for section in sections().values() for one in section.fields.get(name, ())]
            if inputs[name] and wanted and not set(inputs[name]) & set(wanted):
                raise ValueError(
                    f"the rows of '{name}' have {', '.join(sorted(inputs[name]))}; expected {' or '.join(wanted)}"
                )
        return {}

    def check(self, config: ReportConfig, files: Mapping[str, Path]) -> None:
        """Raise ConfigError for a manifest of checkpoints that cannot be read."""
        if "checkpoints" in files:
            misses.of_manifest(files["checkpoints"])

    def modules(self, config: ReportConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        """The sections: each may change the page."""
        return tuple(f"{ROOM}.{name}" for name in SECTIONS)

    def environment(self, config: ReportConfig) -> Mapping[str, str]:
        """Template, style and script are no Python source, so their digest stands here."""
        content = b"\0".join(path.read_bytes() for path in (TEMPLATE, STYLE, SCRIPT))
        return {"template": hashlib.sha256(content).hexdigest()[:32]}

    def fit(self, config: ReportConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write `report.html` and `table.json`."""
        places = [artifact.path for artifact in ctx.artifacts["of"]]
        evaluations = [read_json(place / "results.json") for place in places]
        rows: dict[str, Any] = dict(views)
        table = tables.flat(evaluations)
        given = Given(config, evaluations, places, ctx.artifacts, rows, {"rows": len(table)}, files=ctx.files)
        page = _page(given)
        (ctx.out / HTML).write_text(page, encoding="utf-8", errors="backslashreplace")
        data = {"format": FORMAT, "rows": table, "null": tables.null_results(evaluations)}
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
        (ctx.out / TABLE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        ctx.facts.update(given.facts)


def _page(given: Given) -> str:
    """The whole page: its head, and each section that has something to show."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable_lines(value) if type(value) is str else value,
    )
    environment.globals["figure"] = figure
    parts = []
    for name, section in sections().items():
        content = section.content(given)
        if content:
            body = Markup(environment.from_string(section.template).render(content))
            anchor = name.replace("_", "-")
            parts.append({"anchor": anchor, "title": section.title, "link": section.link, "body": body})
    style, script = STYLE.read_text(encoding="utf-8") + shades(), SCRIPT.read_text(encoding="utf-8")
    head = {"title": given.config.title, "notice": given.config.notice}
    head |= tables.head(given.evaluations, given.places)
    head |= {"tiles": sorted(given.tiles, key=lambda tile: STATES.index(tile.state))}
    head |= {"policy": policy(style, script), "style": Markup(style), "script": Markup(script)}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**head, sections=parts)


def policy(style: str, script: str) -> str:
    """Content-Security-Policy of the page: pictures inside it, this style and this script, and nothing else."""
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (style, script))
    style_digest, script_digest = digests
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_digest}'; script-src 'sha256-{script_digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
