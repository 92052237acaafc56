"""What experiments/detectors.yaml has found, as files: cells as JSON, a table with its claims, and a figure.

A cell is a detector that learned from one generator, on the fakes of one source in one variant against photographs. Its
number is the mean over seeds, its interval the mean of the ends of the seeds' 95 % intervals over groups. Beside each
source and variant stands the best single number (`stages.measure`): what a detector has above it, it has learned. Cells
of validation rows, by which is chosen, stand beside those of the test, and ours beside each row of the table: the
differences are of means over cells and seeds, with intervals over groups that both detectors share.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from pipeline.atomic import write_bytes
from pipeline.declaring.config import Pipeline
from pipeline.errors import TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.stage import POOLED
from pipeline.storage.store import Store
from stages.claims import CLAIMS, line

VARIANTS = ("raw", "R", "A", "E", "P", "P-both")
NAME = "detectors"
EXPLAINED = 0.02
"""AUC that a detector must have above the best single number, or that one explains it."""
CLAIMED, AGAINST = "claims", "against"
"""Entries whose nodes judge the claims of the papers, and ours beside each row."""
MEAN, LEAST = "mean", "minimum of means"
"""Over the cells of a row, in claims of `against`."""
CELL = re.compile(r"^(?P<node>.+) on (?P<source>.+) \((?P<variant>[^()]+)\)$")


class Key(NamedTuple):
    """Of a cell, without the seed."""

    detector: str
    train: str
    variant: str
    source: str


def evaluations(pipeline: Pipeline) -> dict[str, Path]:
    """Folders of the evaluations that are there, by node; and of claims."""
    wanted = [name for name, node in pipeline.nodes.items() if node.stage.name in ("evaluate", "claims")]
    scan, pins = open_scan(pipeline, False), read_pins(pipeline.base)
    plan = make_plan(pipeline, Store(pipeline.store), scan, pipeline.select(wanted), pins=pins)
    found = {name: plan.artifacts[name].found for name in wanted}
    return {name: one.path for name, one in found.items() if one is not None}


def called(pipeline: Pipeline, node: str) -> tuple[str, str]:
    """The detector of a training without its seed, and what it learned from: a row of the table."""
    words, entry = dict(pipeline.nodes[node].matrix), pipeline.nodes[node].entry.replace("_", " ")
    train, _ = str(words.pop("train")), words.pop("seed", None)
    return (str(words["detector"]) if "detector" in words else " ".join([entry, *map(str, words.values())])), train


def cells(pipeline: Pipeline, found: Mapping[str, Path], split: str) -> dict[Key, list[dict[str, Any]]]:
    """Rows of all seeds by cell, of evaluations of one split."""
    kept: dict[Key, list[dict[str, Any]]] = {}
    for place in found.values():
        if not (place / "results.json").is_file():
            continue
        results = json.loads((place / "results.json").read_text(encoding="utf-8"))
        if results["split"] != split:
            continue
        name, train = called(pipeline, results["model"]["node"])
        for row in results["rows"]:
            kept.setdefault(Key(name, train, row["variant"], row["source"]), []).append(row)
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


def mean_cells(table: Mapping[Key, Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Detector and what it learned from -> mean AUC over its cells, of which none pools sources."""
    found: dict[tuple[str, str], list[float]] = {}
    for key, cell in table.items():
        if key.source != POOLED:
            found.setdefault((key.detector, key.train), []).append(cell["auc"])
    return {row: round(fmean(values), 4) for row, values in found.items()}


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


def claimed(pipeline: Pipeline, found: Mapping[str, Path], entry: str) -> list[dict[str, Any]]:
    """Claims of the nodes of one entry that are there."""
    places = [place for name, place in found.items() if pipeline.nodes[name].entry == entry]
    return [one for place in places for one in json.loads((place / CLAIMS).read_text(encoding="utf-8"))["claims"]]


def beside_ours(
    pipeline: Pipeline, claims: Iterable[Mapping[str, Any]], chosen: Mapping[tuple[str, str], float]
) -> list[dict[str, Any]]:
    """Ours beside each other row, in the mean of all cells and in the least one. chosen: means of validation cells."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for claim in claims:
        nodes = [[CELL.match(name)["node"] for name in claim[side]] for side in ("more", "than")]  # type: ignore[index]
        ours, row = (called(pipeline, names[0]) for names in nodes)
        one = rows.setdefault(row, {"detector": row[0], "train": row[1], "val": [chosen.get(ours), chosen.get(row)]})
        one[claim["over"]] = {
            "sides": [round(side, 4) for side in claim["sides"]],
            "value": round(claim["value"], 4),
            "interval": [None if end is None else round(end, 4) for end in claim["interval"]],
            **{name: claim[name] for name in ("verdict", "few_groups")},
            "seeds": [len(set(names)) for names in nodes],
            "cells": len({name.partition(" on ")[2] for name in claim["more"]}),
        }
    return list(rows.values())


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
    lines = [
        f"# {result['what']}", "",
        "AUC over all four generators, mean of the seeds. The last column is the mean of all cells of validation rows: "
        "each generator in each variant, but for StarGAN2's R and A, beside photographs by which epochs and thresholds "
        "are chosen, too.",
        "",
    ]  # fmt: skip
    lines += ["| detector | learned from | " + " | ".join(VARIANTS) + " | val |", "|---" * (len(VARIANTS) + 3) + "|"]
    pooled: dict[tuple[str, str], dict[str, float]] = {}
    for row in result["cells"]:
        if row["source"] == POOLED:
            pooled.setdefault((row["detector"], row["train"]), {})[row["variant"]] = row["auc"]
    val = mean_cells({Key(*(row[name] for name in Key._fields)): row for row in result["val_cells"]})
    for one in sorted(pooled.keys() | val.keys()):
        numbers = [*(pooled.get(one, {}).get(variant) for variant in VARIANTS), val.get(one)]
        shown = ("" if value is None else f"{value:.3f}" for value in numbers)
        name = one[0] + " (single number)" * (one[0] in result["single_numbers"])
        lines.append(f"| {name} | {one[1]} | " + " | ".join(shown) + " |")
    lines += _beside(result["against"], result["single_numbers"])
    if result["marks"]:
        lines += ["", "Generators that miss a gate; what is learned of them may be one number:", ""]
        lines += [f"- {source}: {'; '.join(missed)}" for source, missed in sorted(result["marks"].items())]
    if result["claims"]:
        lines += ["", "Claims:", ""]
        note = " **A single number does as well.**"
        lines += [f"- {line(one)}{note * one['explained_by_one_number']}" for one in result["claims"]]
    return "\n".join(lines) + "\n"


def _beside(rows: Iterable[Mapping[str, Any]], numbers: Sequence[str]) -> Iterator[str]:
    """Lines of ours beside each other row; none where nothing was judged."""
    trains: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        trains.setdefault(row["train"], []).append(row)
    for train, mine in sorted(trains.items()):
        first = mine[0]
        best, on_val = (
            max(mine, key=key) for key in (lambda one: one[MEAN]["sides"][1], lambda one: one["val"][1] or 0)
        )
        yield from ("", f"Ours beside each detector of the seeds, learned from {train}", "")
        yield (
            f"{first[MEAN]['cells']} cells of the test, each a generator in a variant and the mean of the seeds. Ours "
            f"has AUC {first[MEAN]['sides'][0]:.3f} in their mean and {first[LEAST]['sides'][0]:.3f} in the least. Of "
            f"the others {best['detector']} is best in the mean; on validation rows it is {on_val['detector']}. "
            f"{_above(mine, MEAN)} in the mean and {_above(mine, LEAST)} in the least cell have an interval above 0. "
            "An interval is of 95 %, of each difference for itself, over groups of test rows that both share; "
            "trainings are as they are."
        )
        yield from ("", "| detector | mean (val) | mean | ours less it | least cell | ours less it |", "|---" * 6 + "|")
        for row in sorted(mine, key=lambda one: -one[MEAN]["sides"][1]):
            told = (f"{row[over]['sides'][1]:.3f} | {_apart(row[over])}" for over in (MEAN, LEAST))
            val = "" if row["val"][1] is None else f"{row['val'][1]:.3f}"
            number = " (single number)" if row["detector"] in numbers else ""
            yield f"| {row['detector']}{number} | {val} | " + " | ".join(told) + " |"


def _above(rows: Sequence[Mapping[str, Any]], over: str) -> str:
    return f"{sum(row[over]['verdict'] == 'holds' for row in rows)} of {len(rows)} differences"


def _apart(one: Mapping[str, Any]) -> str:
    low, high = ("open" if end is None else f"{end:+.3f}" for end in one["interval"])
    few = ", few groups" if one["few_groups"] else ""
    return f"{one['value']:+.3f}, {low} to {high}{few}: {one['verdict']}"


def figure(result: Mapping[str, Any]) -> bytes:
    """A map of AUC: detectors by variant and generator, for each generator that they learned from.

    Of cells of the test; of validation rows where there are no others yet.
    """
    from matplotlib.figure import Figure

    cells = result["cells"] or result["val_cells"]
    trains = sorted({row["train"] for row in cells})
    columns = sorted(
        {(row["variant"], row["source"]) for row in cells if row["source"] != POOLED},
        key=lambda one: (VARIANTS.index(one[0]), one[1]),
    )
    names = sorted({row["detector"] for row in cells})
    drawing = Figure(figsize=(1.5 + 0.28 * len(columns) * len(trains), 1.5 + 0.2 * len(names)), layout="constrained")
    panels = drawing.subplots(1, len(trains), squeeze=False, sharey=True)[0]
    for panel, train in zip(panels, trains, strict=True):
        values = {
            (row["detector"], row["variant"], row["source"]): row["auc"] for row in cells if row["train"] == train
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
    table, chosen = (
        {key: summarized(rows) for key, rows in sorted(cells(pipeline, found, split).items())}
        for split in ("test", "val")
    )
    if not table and not chosen:
        raise TouchstoneError("nothing was evaluated yet; `python -m experiments.detectors run` does it")
    numbers = single_numbers(pipeline)
    best = best_number(table, numbers)
    evaluated = [name for name, node in pipeline.nodes.items() if node.stage.name == "evaluate"]
    return {
        "what": "Garments of 64 pixels: detectors of the four seeds and one of ours on four small generators",
        "evaluated": [len(found.keys() & set(evaluated)), len(evaluated)],
        "single_numbers": sorted(numbers),
        "best_single_number": best,
        "marks": marks(pipeline),
        "against": beside_ours(pipeline, claimed(pipeline, found, AGAINST), mean_cells(chosen)),
        "claims": [
            one | {"explained_by_one_number": explained(one, pipeline, best)}
            for one in claimed(pipeline, found, CLAIMED)
        ],
        "val_cells": [key._asdict() | cell for key, cell in chosen.items()],
        "cells": [key._asdict() | cell for key, cell in table.items()],
    }


def write(pipeline: Pipeline, out: Path) -> list[Path]:
    """The files of the result; returns their places."""
    result = gathered(pipeline)
    lists = "".join(
        f',\n "{name}": [\n' + ",\n".join(f"  {json.dumps(row)}" for row in result[name]) + "\n ]"
        for name in ("against", "val_cells", "cells")
    )
    kept = {name: result[name] for name in result if name not in ("against", "val_cells", "cells")}
    head = json.dumps(kept, indent=1).removesuffix("\n}")
    out.mkdir(parents=True, exist_ok=True)
    places = [out / f"{NAME}.{ending}" for ending in ("json", "md", "png")]
    write_bytes(places[0], f"{head}{lists}\n}}\n".encode())
    write_bytes(places[1], markdown(result).encode())
    write_bytes(places[2], figure(result))
    return places
