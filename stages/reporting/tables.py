"""Tables of the report: evaluations as plain data in, what the template prints out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluation.class_differences import counted, text
from stages.images.containers import texts

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

METRICS = {
    "AP": "ap",
    "AUC": "auc",
    "Accuracy": "accuracy",
    "at 0.5": "accuracy_at_half",
    "TPR": "tpr",
    "TNR": "tnr",
}
POOLED = "all"

Results = Mapping[str, Any]


def flat(evaluations: Sequence[Results]) -> list[dict[str, Any]]:
    """One entry per detector, training source, variant and test source, with everything that `evaluate` found."""
    return [
        {
            "node": results["model"]["node"],
            "model": results["model"]["key"],
            "detector": results["model"]["detector"],
            "family": results["model"]["family"],
            "feature": results["model"]["config"]["feature"],
            "trained_on": results["model"]["trained_on"],
            "split": results["split"],
            **row,
        }
        for results in evaluations
        for row in results["rows"]
    ]


def head(evaluations: Sequence[Results], places: Sequence[Path]) -> dict[str, Any]:
    """Counts on top; rows are counted once, in one variant."""
    variants = _variants(evaluations)
    splits = sorted({results["split"] for results in evaluations})
    sources = {row["source"] for results in evaluations for row in results["rows"]} - {POOLED}
    variant = "raw" if "raw" in variants else variants[0]
    reals, fakes = _distinct_rows(evaluations, places, variant)
    split = " and ".join(splits)
    of = f" of variant {variant}" if len(variants) > 1 else ""
    values = [
        ("detectors" if len(evaluations) != 1 else "detector", len(evaluations)),
        ("sources of fakes" if len(sources) != 1 else "source of fakes", len(sources)),
        ("variants" if len(variants) != 1 else "variant", len(variants)),
        (f"real {split} rows{of}", reals),
        (f"fake {split} rows{of}", fakes),
    ]
    return {
        "subtitle": f"Scores of fake-image detectors on rows of split {split}.",
        "tiles": [{"name": name, "value": value} for name, value in values],
    }


def _distinct_rows(evaluations: Sequence[Results], places: Sequence[Path], variant: str) -> tuple[int, int]:
    """How many different real and fake rows the evaluations scored in a variant (reals where it borrows them).

    Samples of two generators that were made from one seed have one id, so a row is told by its source and id.
    """
    found: tuple[set[tuple[str, bytes]], set[tuple[str, bytes]]] = (set(), set())
    for results, place in zip(evaluations, places, strict=True):
        facts = results["variants"].get(variant)
        if facts is None:
            continue
        with np.load(place / "scores.npz", allow_pickle=False) as file:
            ids, labels, numbers, known = (file[name] for name in ("id", "label", "variant", "variants"))
            sources = file["sources"][file["source"]]
        for label, name in enumerate((facts["reals_from"], variant)):
            chosen = (labels == label) & (numbers == known.tolist().index(name))
            found[label].update(zip(sources[chosen].tolist(), ids[chosen].tolist(), strict=True))
    return len(found[0]), len(found[1])


def _variants(evaluations: Sequence[Results]) -> list[str]:
    """In the order in which evaluations list their rows."""
    return list(dict.fromkeys(row["variant"] for results in evaluations for row in results["rows"]))


def compared(evaluations: Sequence[Results], container: Dataset | None) -> dict[str, Any]:
    """Branches of each variant with their steps, and facts of the files that rows came from."""
    parts: dict[tuple[Any, ...], dict[str, Any]] = {}
    borrowed: dict[str, str] = {}
    for variant in _variants(evaluations):
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
                        key = (variant, kind == "fake", tuple(part["sources"]), steps)
                        parts[key] = {
                            "variant": variant, "kind": kind, "source": ", ".join(part["sources"]),
                            "rows": part[kind], "steps": steps, "first": False,
                        }  # fmt: skip
    order = {variant: number for number, variant in enumerate(_variants(evaluations))}
    ranked = [parts[key] for key in sorted(parts, key=lambda key: (order[key[0]], *key[1:]))]
    for before, one in itertools.pairwise(ranked):
        one["first"] = one["variant"] != before["variant"]
    words = [f"{variant} (compared with the reals of {other})" for variant, other in borrowed.items()]
    said = f"Variants without reals of their own: {', '.join(words)}." if words else ""
    return {"parts": ranked, "borrowed": said, "containers": _containers(container)}


def steps_text(steps: Sequence[Mapping[str, Any]]) -> str:
    """`ingest → equalize(size 64)`."""
    return " → ".join(_step(step) for step in steps)


def _step(step: Mapping[str, Any]) -> str:
    """`equalize(size 64)`: the settings that are short and set."""
    config = step.get("config") or {}
    shown = [f"{name} {text(value)}" for name, value in config.items() if _short(value)]
    return f"{step['stage']}({', '.join(shown[:4])}{', …' if len(shown) > 4 else ''})" if shown else str(step["stage"])


def _short(value: Any) -> bool:
    return value is not None and not isinstance(value, bool | Mapping) and len(text(value)) <= 24 and value != []


def _containers(rows: Dataset | None) -> list[dict[str, Any]]:
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


def results(evaluations: Sequence[Results]) -> dict[str, Any]:
    """The matrix of AUC values and the long table."""
    columns = [
        {"variant": variant, "source": source, "reals": _reals(evaluations, variant)}
        for variant in _variants(evaluations)
        for source in _sources(evaluations, variant)
    ]
    rules = sorted({result["model"]["threshold_rule"] for result in evaluations})
    ordered = sorted(
        evaluations, key=lambda one: (one["model"]["detector"], one["model"]["trained_on"], one["model"]["key"])
    )
    lines: list[dict[str, Any]] = []
    for result in ordered:
        for number, row in enumerate(result["rows"]):
            if row["source"] == POOLED and len(_sources([result], row["variant"])) == 1:
                continue
            lines.append({
                "head": number == 0,
                "first": number == 0 and bool(lines),
                "detector": result["model"]["detector"],
                "trained_on": ", ".join(result["model"]["trained_on"]),
                "variant": row["variant"],
                "reals": _reals([result], row["variant"]),
                "source": "all together" if row["source"] == POOLED else row["source"],
                "n_real": row["n_real"],
                "n_fake": row["n_fake"],
                "threshold": f"{row['threshold']:.3f}",
                "metrics": [_metric(row, name) for name in METRICS.values()],
            })  # fmt: skip
    matrix = {"columns": columns, "rows": [_matrix_row(result, columns) for result in ordered]}
    return {"matrix": matrix, "rows": lines, "metric_names": list(METRICS), "threshold_rule": "; ".join(rules)}


def _sources(evaluations: Sequence[Results], variant: str) -> list[str]:
    found = {row["source"] for one in evaluations for row in one["rows"] if row["variant"] == variant}
    return sorted(found - {POOLED})


def _reals(evaluations: Sequence[Results], variant: str) -> str:
    """`reals of raw` where a variant has none of its own, so that fakes alone were perturbed or equalized; else ""."""
    found = {one["variants"][variant]["reals_from"] for one in evaluations if variant in one["variants"]} - {variant}
    return f"reals of {' or '.join(sorted(found))}" if found else ""


def _metric(row: Mapping[str, Any], name: str) -> dict[str, str]:
    low, high = row[f"{name}_interval"]
    return {"text": f"{row[name]:.3f}", "interval": f"{low:.3f} – {high:.3f}"}


def _matrix_row(result: Results, columns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    values = {(row["variant"], row["source"]): row["auc"] for row in result["rows"]}
    trained_on = result["model"]["trained_on"]
    cells = []
    for column in columns:
        value = values.get((column["variant"], column["source"]))
        background, color = _shade(value)
        text = "" if value is None else f"{value:.3f}"
        cells.append({"text": text, "background": background, "color": color, "home": column["source"] in trained_on})
    return {"detector": result["model"]["detector"], "trained_on": ", ".join(trained_on), "cells": cells}


def _shade(value: float | None) -> tuple[str, str]:
    """Background and text color of an AUC: white at chance, blue above, orange below (a detector turned around)."""
    if value is None:
        return "#ffffff", "#111827"
    share = min(abs(value - 0.5) * 2, 1.0)
    full = (24, 100, 171) if value >= 0.5 else (217, 72, 15)
    mixed = tuple(round(243 + (channel - 243) * share) for channel in full)
    return f"rgb({mixed[0]}, {mixed[1]}, {mixed[2]})", "#ffffff" if share > 0.6 else "#111827"


def lineage(evaluations: Sequence[Results]) -> dict[str, Any]:
    """Models with their training facts, and the steps behind every chain."""
    models = []
    for result in evaluations:
        model = result["model"]
        counts = model["counts"]
        config = ", ".join(f"{name} {text(value)}" for name, value in model["config"].items() if value is not None)
        checked = model["validation"]
        models.append({
            "detector": model["detector"],
            "trained_on": ", ".join(model["trained_on"]),
            "key": model["key"][:12],
            "lines": [
                f"node {model['node']}",
                config,
                *(f"{split}: {counts[split]['real']} real, {counts[split]['fake']} fake" for split in ("train", "val")),
                f"validation AUC {checked['auc']:.3f}, balanced accuracy {checked['balanced_accuracy']:.3f}",
                f"threshold {model['threshold']:.4f}",
            ],
        })  # fmt: skip
    chains: dict[str, dict[str, Any]] = {}
    for result in evaluations:
        for facts in result["variants"].values():
            for part in facts["parts"]:
                steps = result["steps"][part["chain"]]
                chains[part["chain"]] = {
                    "chain": part["chain"][:12],
                    "sources": ", ".join(part["sources"]),
                    "lines": [_full_step(step) for step in steps],
                }
    return {"models": models, "chains": [chains[chain] for chain in sorted(chains)]}


def _full_step(step: Mapping[str, Any]) -> str:
    config = ", ".join(
        f"{name} {text(value)}" for name, value in (step.get("config") or {}).items() if value is not None
    )
    more = [
        f"{kind} " + ", ".join(f"{name} {str(value)[:12]}" for name, value in step[kind].items())
        for kind in ("files", "artifacts")
        if step.get(kind)
    ]
    node = f" [{step['node']}]" if step.get("node") else ""
    return f"{step['stage']}{node}: " + ("; ".join(part for part in (config, *more) if part) or "no settings")
