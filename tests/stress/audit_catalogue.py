"""`make audit_catalogue`: planted differences between two folders of photographs, and what the audit says of them.

PLANTERS is a program that makes pairs whose difference is known: it offers `catalogue()` and `nulls(count)`, lists of
entries with `name` and `metadata`, `photographs(PHOTOS)`, `plant(entry, photographs, n, seed)` and `write(draw, truth,
folder, metadata)`, which leaves the folders real and fake and a `truth.json` with must_differ, must_differ_any,
must_not_equal, must_not_differ and null. With `--at-least` each entry has its own `least_n` (times `--factor`);
`--keep` writes what was found to the results.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.atomic import write_json
from stages.auditing.audit import Result, audit
from stages.auditing.reading import examined, source
from stages.auditing.vocabulary import DIFFERS, EQUAL

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def load(path: Path) -> ModuleType:
    """The planting program as a module."""
    spec = importlib.util.spec_from_file_location("planting", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planting"] = module
    spec.loader.exec_module(module)
    return module


def judge(result: Result, truth: Mapping[str, Any]) -> dict[str, Any]:
    """What was found and missed, what was wrongly called different or equal."""
    verdicts = {one.name: one.verdict for one in result.findings}
    different = {name for name, verdict in verdicts.items() if verdict == DIFFERS}
    asked = [[name] for name in truth["must_differ"]] + truth["must_differ_any"]
    return {
        "asked": len(asked),
        "missed": [names for names in asked if not different & set(names)],
        "wrongly_different": sorted(different & set(truth["must_not_differ"])),
        "wrongly_equal": sorted(name for name in truth["must_not_equal"] if verdicts[name] == EQUAL),
        "different": sorted(different),
        "equal": sum(verdict == EQUAL for verdict in verdicts.values()),
    }


def rows_named(result: Result, folder: Path, truth: Mapping[str, Any]) -> float | None:
    """Share of altered rows among those that the checks which had to differ show."""
    import csv

    with open(folder / "rows.csv", newline="") as file:
        altered = {f"{row['class']}/{row['file']}" for row in csv.DictReader(file) if row["altered"] == "1"}
    asked = {name for names in ([truth["must_differ"]] + truth["must_differ_any"]) for name in names}
    shown = [row for one in result.findings if one.name in asked and one.verdict == DIFFERS for row in one.rows]
    return round(sum(row in altered for row in shown) / len(shown), 3) if shown and altered else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("planters", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--n", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--nulls", type=int, default=0)
    parser.add_argument("--at-least", action="store_true", help="each entry at its own least_n")
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--keep", action="store_true", help="among the runs of benchmarks/results/audit_catalogue.json")
    options = parser.parse_args()
    planting = load(options.planters)
    photos = planting.photographs(options.photos)
    entries = [*([] if options.nulls and not options.only else planting.catalogue()), *planting.nulls(options.nulls)]
    cases = []
    for entry in entries:
        if options.only and entry.name not in options.only:
            continue
        n = int(entry.least_n * options.factor) if options.at_least and entry.least_n else options.n
        folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        try:
            draw, truth = planting.plant(entry, photos, n, options.seed)
            planting.write(draw, truth, folder, entry.metadata)
            classes = [examined(source(folder / side), options.workers) for side in ("real", "fake")]
            result = audit(*classes)
            case = {"name": entry.name, "n": min(truth["n_real"], truth["n_fake"]), **judge(result, truth)}
            case["altered_rows"] = rows_named(result, folder, truth)
        finally:
            shutil.rmtree(folder)
        cases.append(case)
        print(json.dumps(case), flush=True)
        if options.verbose:
            for one in result.findings:
                print("  ", one.name, one.verdict, one.column, one.statistic, one.p, one.effect, len(one.rows))
    asked, missed = (sum(case["asked"] for case in cases), sum(len(case["missed"]) for case in cases))
    whole = {
        "photographs": "/".join(options.photos.absolute().parts[-2:]),
        "pairs": len(cases),
        "asked": asked,
        "recall": round(1 - missed / asked, 4) if asked else None,
        "pairs_wrongly_different": [case["name"] for case in cases if case["wrongly_different"]],
        "pairs_wrongly_equal": [case["name"] for case in cases if case["wrongly_equal"]],
        "altered_rows": [case["altered_rows"] for case in cases if case["altered_rows"] is not None],
        "cases": [case for case in cases if case["missed"] or case["wrongly_different"] or case["wrongly_equal"]],
    }
    rates = whole.pop("altered_rows")
    whole["altered_rows"] = round(sum(rates) / len(rates), 3) if rates else None
    print(json.dumps({name: value for name, value in whole.items() if name != "cases"}, indent=1))
    if options.keep:
        sizes = f"{options.factor:g} times least_n" if options.at_least else f"n = {options.n}"
        pairs = "pairs without a difference" if options.nulls else "part of it" if options.only else "whole catalogue"
        keep({"what": f"{pairs}, {sizes}, seed {options.seed}", **whole})


def keep(run: dict[str, Any]) -> None:
    """Write a run among those of the results, in place of an earlier one of the same kind."""
    path = RESULTS / "audit_catalogue.json"
    runs = json.loads(path.read_text())["runs"] if path.is_file() else []
    same = [(one["photographs"], one["what"]) == (run["photographs"], run["what"]) for one in runs]
    write_json(path, {"runs": [*(one for one, again in zip(runs, same, strict=True) if not again), run]})


if __name__ == "__main__":
    main()
