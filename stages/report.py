"""One offline HTML file: what was compared, what differs between the classes, how the detectors did.

No script, no network, no date: the same inputs give the same bytes. The equality audit stands on top, because the most
damaging defect of this field's data is a difference between the classes that is not the generator.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import field_validator

from pipeline.printable import printable_lines
from pipeline.stage import Artifact, FitContext, Input, Kind, Schema, Stage, StageConfig, setting
from stages import STAGES
from stages.evaluation import class_differences
from stages.evaluation.json_file import read_json
from stages.evaluation.reductions import FIELD, Reductions
from stages.images.containers import texts
from stages.reporting import equalizations as report_equalizations
from stages.reporting import generators as report_generators
from stages.reporting import mean_spectra as report_mean_spectra
from stages.reporting import pictures as report_pictures
from stages.reporting import tables as report_tables

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

TEMPLATE = Path(__file__).with_suffix(".html.j2")
HTML, TABLE = "report.html", "table.json"
FORMAT = 1
CONTAINER = ("codec", "native_size")
"""Fields of files that the audit measures."""

TOPICS = ("reduction", "codec", "native_size", "order")
"""Differences that are not named after a stage."""


class ReportConfig(StageConfig):
    """Words of the report. A difference between the classes that `declared` does not name is flagged."""

    title: str = setting("Touchstone report", description="heading of the page")
    notice: str | None = setting(None, description="one sentence on top, e.g. that this is a demonstration")
    declared: dict[str, str] = setting(
        {},
        description="topic -> sentence: differences between the classes that are known. Topics: reduction, codec, "
        "native_size (measured), order, a stage (perturb) or one of its settings (equalize.size); a stage covers its "
        "settings. What is found and not declared is flagged",
    )
    samples: int = setting(12, ge=1, le=100, description="images shown per source and kind of processing")

    @field_validator("declared")
    @classmethod
    def _topics(cls, declared: dict[str, str]) -> dict[str, str]:
        """A topic that is almost a known one is a mistake; others may be stages from elsewhere."""
        known = [*TOPICS, *STAGES]
        for topic in declared:
            word = topic.partition(".")[0]
            close = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
            if word not in known and close:
                raise ValueError(f"no difference has the topic '{topic}'; did you mean '{close[0]}'?")
        return declared


class Report(Stage):
    """Evaluations in, `report.html` and `table.json` out."""

    name: ClassVar[str] = "report"
    kind: ClassVar[Kind] = Kind.REDUCE
    Config: ClassVar[type[StageConfig]] = ReportConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("artifacts", description="'evaluate' nodes", stages=("evaluate",)),
        "images": Input(
            "rows",
            required=False,
            description="all 'equalize' nodes that evaluated rows pass: reductions are audited, samples shown",
        ),
        "spectra": Input("rows", required=False, description="rows with profile, dct2d or fft2d, for mean spectra"),
        "container": Input(
            "rows",
            required=False,
            description="all 'ingest' nodes that evaluated rows come from: their codecs and native sizes are audited",
        ),
        "generators": Input(
            "artifacts",
            required=False,
            description="'train_generator' and 'finetune_generator' nodes: losses, figures and samples are shown",
            stages=("train_generator", "finetune_generator"),
        ),
        "equalizations": Input(
            "artifacts",
            required=False,
            description="'fit_equalization' nodes: the gap between the classes' spectra before and after, PSNR",
            stages=("fit_equalization",),
        ),
        "mean_spectra": Input(
            "artifacts",
            required=False,
            description="'mean_spectra' nodes: their pictures, sources side by side",
            stages=("mean_spectra",),
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "matplotlib", "jinja2", "pillow")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def schema(self, config: ReportConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the images or spectra given are none."""
        for name, wanted in (("images", ("image", FIELD)), ("spectra", ("profile", "dct2d", "fft2d"))):
            fields = inputs.get(name)
            if fields and not set(fields) & set(wanted):
                raise ValueError(
                    f"the rows of '{name}' have {', '.join(sorted(fields))}; expected {' or '.join(wanted)}"
                )
        return {}

    def environment(self, config: ReportConfig) -> Mapping[str, str]:
        """The template is no Python source, so its digest stands here."""
        return {"template": hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()[:32]}

    def fit(self, config: ReportConfig, views: Mapping[str, Dataset | Mapping[str, Dataset]], ctx: FitContext) -> None:
        """Write `report.html` and `table.json`."""
        import jinja2

        artifacts = _artifacts(ctx, "of")
        places = [artifact.path for artifact in artifacts]
        evaluations = [_read(place) for place in places]
        rows: dict[str, Any] = dict(views)
        differences = [one for results in evaluations for one in class_differences.of_results(results)]
        reductions = Reductions(having(rows.get("images"), FIELD))
        differences += [one for results in evaluations for one in reductions.differences(results)]
        differences += of_files(rows.get("container"))
        listed, unused = class_differences.declare(differences, config.declared)
        not_audited = gaps(evaluations, reductions, rows.get("container"))
        table = report_tables.flat(evaluations)
        content: dict[str, Any] = {
            "title": config.title,
            "notice": config.notice,
            **report_tables.head(evaluations, places),
            "differences": [_shown(one, evaluations) for one in listed],
            "undeclared": sum(not one.declared for one in listed),
            "declared": unused,
            "not_audited": not_audited,
            "resampled": resampled(evaluations),
            **report_tables.compared(evaluations, having(rows.get("container"), *CONTAINER)),
            **report_tables.results(evaluations),
            **report_tables.lineage(evaluations),
            **report_pictures.pictures(evaluations, places, rows, config.samples),
            "generators": report_generators.sections(_artifacts(ctx, "generators")),
            "equalizations": report_equalizations.sections(_artifacts(ctx, "equalizations")),
            "mean_spectra": report_mean_spectra.sections(_artifacts(ctx, "mean_spectra")),
            "failed": _failed(artifacts),
        }
        environment = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
            finalize=lambda value: printable_lines(value) if type(value) is str else value,
        )
        page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)
        (ctx.out / HTML).write_text(page, encoding="utf-8", errors="backslashreplace")
        text = json.dumps({"format": FORMAT, "rows": table}, indent=2, sort_keys=True, ensure_ascii=False)
        (ctx.out / TABLE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        undeclared = sorted({one.topic for one in listed if not one.declared})
        ctx.facts.update({"rows": len(table), "differences": len(listed), "undeclared": undeclared})
        ctx.facts["not_audited"] = not_audited


def _artifacts(ctx: FitContext, name: str) -> list[Artifact]:
    return list(ctx.artifacts.get(name, ()))


def _read(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = read_json(path / "results.json")
    return results


def having(rows: Dataset | None, *fields: str) -> Dataset | None:
    """The rows of those parts that have all these fields; None where no rows do.

    A view of several stages' rows has only the fields that all of them share: perturbed images beside equalized ones
    would hide by what factor the latter were reduced.
    """
    parts = rows.parts if rows is not None else []
    numbers = [number for number, part in enumerate(parts) if set(fields) <= set(part.schema)]
    if rows is None or not numbers:
        return None
    chosen = rows.where(np.isin(rows.part_numbers, numbers))
    first, *others = (parts[number].schema for number in numbers)
    shared = {name: one for name, one in first.items() if all(other.get(name) == one for other in others)}
    chosen.fields = shared  # what the chosen parts share, also where parts without rows lack it
    return chosen if set(fields) <= set(shared) else None


def of_files(container: Dataset | None) -> list[class_differences.Difference]:
    """Differences of codec and native size between the files of both classes."""
    rows = having(container, *CONTAINER)
    if rows is None:
        return []
    sizes: Any = np.asarray(rows.array("native_size"))
    return class_differences.of_containers(texts(rows.array("codec")), sizes, rows.column("label"))


def resampled(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
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


def gaps(
    evaluations: Sequence[Mapping[str, Any]], reductions: Reductions, container: Dataset | None = None
) -> list[str]:
    """What the audit could not look at: one sentence each, with the way to have it audited."""
    origins = class_differences.origins(evaluations)
    files = [pair for pair, stage in origins.items() if stage == "ingest"]
    unseen = {pair for results in evaluations for pair in reductions.unseen(results)}
    rows = having(container, *CONTAINER)
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


def _pairs(rows: Dataset) -> set[tuple[int, str]]:
    """The (label, source) that rows have."""
    return set(zip(rows.column("label").tolist(), rows.column("source").tolist(), strict=True))


def _listed(names: Sequence[str]) -> str:
    """Nodes as pipeline.yaml writes them; brackets ask for quotes."""
    words = [f'"{name}"' if "[" in name else name for name in dict.fromkeys(names)]
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


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
