"""One offline HTML file: what was compared, what differs between the classes, how the detectors did.

No script, no network, no date: the same inputs give the same bytes. The equality audit stands on top, because the most
damaging defect of this field's data is a difference between the classes that is not the generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.stage import Artifact, FitContext, Input, Kind, Schema, Stage, StageConfig, setting
from stages import class_differences, report_pictures, report_tables
from stages.containers import texts

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

TEMPLATE = Path(__file__).with_suffix(".html.j2")
HTML, TABLE = "report.html", "table.json"
FORMAT = 1


class ReportConfig(StageConfig):
    """Words of the report. A difference between the classes that `declared` does not name is flagged."""

    title: str = setting("Touchstone report", description="heading")
    notice: str | None = setting(None, description="one sentence on top, e.g. that this is a demonstration")
    declared: dict[str, str] = setting(
        {}, description="topic -> sentence: differences of the classes that are known (perturb, reduction, codec, ...)"
    )
    samples: int = setting(12, ge=1, le=100, description="images shown per source")


class Report(Stage):
    """Evaluations in, `report.html` and `table.json` out."""

    name: ClassVar[str] = "report"
    kind: ClassVar[Kind] = Kind.REDUCE
    Config: ClassVar[type[StageConfig]] = ReportConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("artifacts", description="'evaluate' nodes"),
        "images": Input("rows", required=False, description="rows with an image, to show samples"),
        "spectra": Input("rows", required=False, description="rows with profile, dct2d or fft2d, for mean spectra"),
        "container": Input("rows", required=False, description="'ingest' rows, for codecs and native sizes"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "matplotlib", "jinja2", "pillow")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def schema(self, config: ReportConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out."""
        return {}

    def environment(self, config: ReportConfig) -> Mapping[str, str]:
        """The template is no Python source, so its digest stands here."""
        return {"template": hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()[:32]}

    def fit(self, config: ReportConfig, views: Mapping[str, Dataset | Mapping[str, Dataset]], ctx: FitContext) -> None:
        """Write `report.html` and `table.json`."""
        import jinja2

        found = ctx.artifacts["of"]
        artifacts = [found] if isinstance(found, Artifact) else list(found)
        evaluations = [_read(artifact.path) for artifact in artifacts]
        rows: dict[str, Any] = dict(views)
        differences = [one for results in evaluations for one in class_differences.of_results(results)]
        differences += measured(rows)
        listed, unused = class_differences.declare(differences, config.declared)
        table = report_tables.flat(evaluations)
        content: dict[str, Any] = {
            "title": config.title,
            "notice": config.notice,
            **report_tables.head(evaluations, rows),
            "differences": [_shown(one, evaluations) for one in listed],
            "undeclared": sum(not one.declared for one in listed),
            "declared": unused,
            "not_measured": _not_measured(rows),
            **report_tables.compared(evaluations, rows.get("container")),
            **report_tables.results(evaluations),
            **report_tables.lineage(evaluations),
            **report_pictures.pictures(evaluations, [artifact.path for artifact in artifacts], rows, config.samples),
            "failed": _failed(artifacts),
        }
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)
        (ctx.out / HTML).write_text(page, encoding="utf-8")
        text = json.dumps({"format": FORMAT, "rows": table}, indent=2, sort_keys=True, ensure_ascii=False)
        (ctx.out / TABLE).write_text(text + "\n", encoding="utf-8")
        undeclared = sorted({one.topic for one in listed if not one.declared})
        ctx.facts.update({"rows": len(table), "differences": len(listed), "undeclared": undeclared})


def _read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return results


def measured(rows: Mapping[str, Dataset]) -> list[class_differences.Difference]:
    """Differences that rows show by their values: factor of reduction, codec, native size."""
    found: list[class_differences.Difference] = []
    images, container = rows.get("images"), rows.get("container")
    if images is not None and "reduction" in images.fields:
        found += class_differences.of_reduction(images.array("reduction"), images.column("label"))
    if container is not None and {"codec", "native_size"} <= set(container.fields):
        codecs = texts(container.array("codec"))
        sizes: Any = np.asarray(container.array("native_size"))
        found += class_differences.of_containers(codecs, sizes, container.column("label"))
    return found


def _not_measured(rows: Mapping[str, Dataset]) -> str:
    """What the audit could not look at, said openly."""
    lacking = []
    if "images" not in rows:
        lacking.append("factors of reduction (no 'images' given)")
    if "container" not in rows:
        lacking.append("codecs and native sizes of files (no 'container' given)")
    return f"Not audited: {'; '.join(lacking)}." if lacking else ""


def _shown(one: class_differences.Difference, evaluations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    variants = list(dict.fromkeys(name for results in evaluations for name in results["variants"]))
    if not one.variants:
        where = "measured on rows"
    else:
        everywhere = len(variants) > 1 and set(one.variants) == set(variants)
        where = "all variants" if everywhere else ", ".join(one.variants)
    return {"topic": one.topic, "real": one.real, "fake": one.fake, "where": where, "declared": one.declared}


def _failed(artifacts: Sequence[Artifact]) -> list[str]:
    """Rows that an evaluation wanted and did not get, as the engine recorded them."""
    lines = []
    for artifact in artifacts:
        failed = artifact.info.get("failed_rows") or {}
        items = failed.items() if isinstance(failed, Mapping) else enumerate(failed, 1)
        lines += [f"{artifact.node}: {name}: {reason}" for name, reason in items]
    return lines
