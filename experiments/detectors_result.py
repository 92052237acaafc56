"""What experiments/detectors.yaml has found, as files: cells as JSON, a table with its claims, and a figure.

A cell is a detector that learned from one generator, on the fakes of one source in one variant against photographs. Its
number is the mean over seeds, its interval the mean of the ends of the seeds' 95 % intervals over groups. Beside each
source and variant stands the best single number (`stages.measure`): what a detector has above it, it has learned.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.atomic import write_bytes
from pipeline.declaring.config import Pipeline
from pipeline.errors import TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.storage.store import Store
from stages.claims import CLAIMS, line

VARIANTS = ("raw", "R", "A", "E", "P", "P-both")
NAME = "detectors"
EXPLAINED = 0.02
"""AUC that a detector must have above the best single number, or that one explains it."""
CELL = re.compile(r"^(?P<node>.+) on (?P<source>.+) \((?P<variant>[^()]+)\)$")


class Key(NamedTuple):
    """Of a cell, without the seed."""

    detector: str
    train: str
    variant: str
    source: str


def evaluations(pipeline: Pipeline) -> dict[str, Path]:
    """Folders of the evaluations that are there, by node; and of `claims`, if it is there."""
    wanted = [name for name, node in pipeline.nodes.items() if node.stage.name in ("evaluate", "claims")]
    scan, pins = open_scan(pipeline, False), read_pins(pipeline.base)
    plan = make_plan(pipeline, Store(pipeline.store), scan, pipeline.select(wanted), pins=pins)
    found = {name: plan.artifacts[name].found for name in wanted}
    return {name: one.path for name, one in found.items() if one is not None}


def cells(pipeline: Pipeline, found: Mapping[str, Path]) -> dict[Key, list[dict[str, Any]]]:
    """Rows of all seeds by cell."""
    kept: dict[Key, list[dict[str, Any]]] = {}
    for place in found.values():
        if not (place / "results.json").is_file():
            continue
        results = json.loads((place / "results.json").read_text(encoding="utf-8"))
        words = dict(pipeline.nodes[results["model"]["node"]].matrix)
        train, _ = words.pop("train"), words.pop("seed", None)
        entry = pipeline.nodes[results["model"]["node"]].entry
        name = str(words["detector"]) if "detector" in words else " ".join([entry, *map(str, words.values())])
        for row in results["rows"]:
            kept.setdefault(Key(name, str(train), row["variant"], row["source"]), []).append(row)
    return kept


def summarized(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One cell over its seeds."""
    ends = [fmean(row["auc_interval"][end] for row in rows) for end in (0, 1)]
    values = [row["auc"] for row in rows]
    return {
        "auc": round(fmean(values), 4),
        "interval": [round(end, 4) for end in ends],
        "of_seeds": [round(min(values), 4), round(max(values), 4)],
        "balanced_accuracy": round(fmean(row["balanced_accuracy"] for row in rows), 4),
        "seeds": len(rows),
        "rows": [rows[0]["n_real"], rows[0]["n_fake"]],
    }


def single_numbers(pipeline: Pipeline) -> set[str]:
    """Detectors that read one number of `measure`."""
    fields = {"clipped", "border_step", "spectral_slope"}
    found = (node for node in pipeline.nodes.values() if node.stage.name == "train")
    return {str(one.matrix["detector"]) for one in found if getattr(one.config.detector, "feature", "") in fields}


def best_number(table: Mapping[Key, dict[str, Any]], numbers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """ "train variant source" -> the single number with the largest AUC, which may have learned the wrong direction."""
    best: dict[str, dict[str, Any]] = {}
    for key, cell in table.items():
        place = f"{key.train} {key.variant} {key.source}"
        if key.detector in numbers and (place not in best or cell["auc"] > best[place]["auc"]):
            best[place] = {"number": key.detector, "auc": cell["auc"]}
    return best


def explained(claim: Mapping[str, Any], pipeline: Pipeline, best: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether single numbers do as well on the cells of a claim's higher side as its detectors, in the mean."""
    if claim["metric"] != "auc" or not claim["more"]:
        return False
    numbers = []
    for name in claim["more"]:
        found = CELL.match(name)
        if found is None:
            return False
        train = pipeline.nodes[found["node"]].matrix.get("train")
        numbers.append(best.get(f"{train} {found['variant']} {found['source']}", {}).get("auc"))
    known = [number for number in numbers if number is not None]
    return bool(known) and claim["sides"][0] < fmean(known) + EXPLAINED


def marks(pipeline: Pipeline) -> dict[str, list[str]]:
    """Source -> the gates that its generator misses, as its card tells."""
    found = {}
    for name, node in pipeline.nodes.items():
        reference = node.files.get("checkpoint") if node.stage.name in ("sample", "translate") else None
        card = reference.path.with_suffix(".json") if reference is not None else None
        if card is not None and card.is_file():
            found[name] = json.loads(card.read_text(encoding="utf-8")).get("misses", [])
    return {name: missed for name, missed in found.items() if missed}


def markdown(result: Mapping[str, Any]) -> str:
    """The table of the pooled sources, and the claims."""
    lines = [f"# {result['what']}", "", "AUC over all four generators, mean of the seeds.", ""]
    lines += ["| detector | learned from | " + " | ".join(VARIANTS) + " |", "|---|---|" + "---|" * len(VARIANTS)]
    pooled: dict[tuple[str, str], dict[str, float]] = {}
    for row in result["cells"]:
        if row["source"] == "all":
            pooled.setdefault((row["detector"], row["train"]), {})[row["variant"]] = row["auc"]
    for (detector, train), values in sorted(pooled.items()):
        shown = (f"{values[one]:.3f}" if one in values else "" for one in VARIANTS)
        number = " (single number)" if detector in result["single_numbers"] else ""
        lines.append(f"| {detector}{number} | {train} | " + " | ".join(shown) + " |")
    if result["marks"]:
        lines += ["", "Generators that miss a gate; what is learned of them may be one number:", ""]
        lines += [f"- {source}: {'; '.join(missed)}" for source, missed in sorted(result["marks"].items())]
    if result["claims"]:
        lines += ["", "Claims:", ""]
        note = " **A single number does as well.**"
        lines += [f"- {line(one)}{note * one['explained_by_one_number']}" for one in result["claims"]]
    return "\n".join(lines) + "\n"


def figure(result: Mapping[str, Any]) -> bytes:
    """A map of AUC: detectors by variant and generator, for each generator that they learned from."""
    from matplotlib.figure import Figure

    trains = sorted({row["train"] for row in result["cells"]})
    columns = sorted(
        {(row["variant"], row["source"]) for row in result["cells"] if row["source"] != "all"},
        key=lambda one: (VARIANTS.index(one[0]), one[1]),
    )
    names = sorted({row["detector"] for row in result["cells"]})
    drawing = Figure(figsize=(1.5 + 0.28 * len(columns) * len(trains), 1.5 + 0.2 * len(names)), layout="constrained")
    panels = drawing.subplots(1, len(trains), squeeze=False, sharey=True)[0]
    for panel, train in zip(panels, trains, strict=True):
        values = {
            (row["detector"], row["variant"], row["source"]): row["auc"]
            for row in result["cells"]
            if row["train"] == train
        }
        grid = [[values.get((name, *column), float("nan")) for column in columns] for name in names]
        shown = panel.imshow(grid, vmin=0, vmax=1, cmap="RdBu_r", aspect="auto")
        panel.set_title(f"learned from {train}", fontsize=8)
        panel.set_xticks(range(len(columns)), [f"{variant} {source}" for variant, source in columns], rotation=90)
        panel.set_yticks(range(len(names)), names)
        panel.tick_params(labelsize=5)
    drawing.colorbar(shown, ax=list(panels), label="AUC", shrink=0.5)
    content = io.BytesIO()
    drawing.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def gathered(pipeline: Pipeline) -> dict[str, Any]:
    """All of it. Raises TouchstoneError where nothing was evaluated yet."""
    found = evaluations(pipeline)
    table = {key: summarized(rows) for key, rows in sorted(cells(pipeline, found).items())}
    if not table:
        raise TouchstoneError("nothing was evaluated yet; `python -m experiments.detectors run` does it")
    numbers = single_numbers(pipeline)
    best = best_number(table, numbers)
    claims = []
    if "claims" in found:
        claims = json.loads((found["claims"] / CLAIMS).read_text(encoding="utf-8"))["claims"]
    return {
        "what": "Garments of 64 pixels: detectors of the four seeds on four small generators",
        "evaluated": [
            len(found.keys() - {"claims"}),
            sum(node.stage.name == "evaluate" for node in pipeline.nodes.values()),
        ],
        "single_numbers": sorted(numbers),
        "best_single_number": best,
        "marks": marks(pipeline),
        "claims": [one | {"explained_by_one_number": explained(one, pipeline, best)} for one in claims],
        "cells": [key._asdict() | cell for key, cell in table.items()],
    }


def write(pipeline: Pipeline, out: Path) -> list[Path]:
    """The files of the result; returns their places."""
    result = gathered(pipeline)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["cells"])
    head = json.dumps({name: result[name] for name in result if name != "cells"}, indent=1).removesuffix("\n}")
    out.mkdir(parents=True, exist_ok=True)
    places = [out / f"{NAME}.{ending}" for ending in ("json", "md", "png")]
    write_bytes(places[0], f'{head},\n "cells": [\n{rows}\n ]\n}}\n'.encode())
    write_bytes(places[1], markdown(result).encode())
    write_bytes(places[2], figure(result))
    return places
