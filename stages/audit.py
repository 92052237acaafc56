"""Compare the rows of both classes by every check of the audit; before `equalize` and after it.

The commonest defect of this field's data is a difference between the classes that is not the generator: a codec, a
quality, a size, a filter (Grommelt et al. 2024; Durall et al. 2019). Rows of `ingest` are compared by the facts of
their files, rows with an `image` by their pixels, rows of `examine` by both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.atomic import write_json
from pipeline.errors import StageError
from pipeline.stage import FAKE, REAL, SPLITS, FitContext, Input, Kind, Rows, Schema, Stage, StageConfig

RESULT = "audit.json"


class AuditConfig(StageConfig):
    """An audit has no settings: one rule for all."""


class Audit(Stage):
    """Artifact: `audit.json` with the verdict, whether a bias is found, and each check."""

    name: ClassVar[str] = "audit"
    kind: ClassVar[Kind] = Kind.REDUCE
    makes: ClassVar[str] = "audit"
    Config: ClassVar[type[StageConfig]] = AuditConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="real and fake rows: of 'examine', with an `image`, or of 'ingest'"),
        "control": Input(
            "rows", required=False,
            description="real rows of another origin: what differs between reals too is no trace of a generator",
        ),
    }  # fmt: skip
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "source", "group", "domain")
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def schema(self, config: AuditConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where nothing is known of the rows."""
        return {}

    def check_rows(self, config: AuditConfig, counts: Mapping[str, Mapping[tuple[str, int], int]]) -> None:
        """Both classes have rows."""
        for name, wanted in (("of", (REAL, FAKE)), ("control", (REAL,))):
            for label in wanted if name in counts else ():
                if not sum(count for (_, one), count in counts[name].items() if one == label):
                    raise ValueError(f"'{name}' holds no {('real', 'fake')[label]} rows; add some to it")

    def fit(self, config: AuditConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write `audit.json`."""
        from stages.auditing.audit import audit, whole
        from stages.auditing.vocabulary import DIFFERS

        given: Any = views
        total, done = sum(len(view) for view in given.values()), 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            ctx.report(done, total)

        real, fake = _classes(given["of"], report)
        if not real or not fake:
            raise StageError(
                "of real or of fake rows nothing is known; give rows of 'examine', with an `image`, or files"
            )
        result = audit(real, fake)
        if given.get("control") is not None:
            control, _ = _classes(given["control"], report)
            shown = {one.name for one in audit(real, control).findings if one.verdict == DIFFERS} if control else set()
            result = whole(result.findings, shown)
        biased = set(result.biased)
        details = {one.name: {"column": one.column, "biased": one.name in biased} for one in result.findings}
        write_json(ctx.out / RESULT, result.plain())
        ctx.facts.update({"verdict": result.verdict, "bias": result.bias, "details": details})


def _classes(view: Rows, report: Any) -> tuple[list[Any], list[Any]]:
    """Rows of reals and of fakes."""
    from stages.auditing.stored import rows_of

    rows, labels = rows_of(view, report)
    real, fake = ([row for row, one in zip(rows, labels.tolist(), strict=True) if one == label] for label in (0, 1))
    return real, fake
