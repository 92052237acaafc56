"""Run the small twins of the configs, one after the other, and write down which claims hold for them.

    python -m experiments.twins [NAME...]

Each of configs/twins/*.yaml runs offline on the embedded data in minutes; their store is scratch/twins/store, so that
a second call trains nothing. Written: experiments/results/twins.json with the seconds that each took (of a first run)
and the claims as the stages `claims` and `redivide` judged them, if it has any, and of `strata` whether better fakes
have lower scores, and a digest of the manifest of the embedded generators, where it names that.
A twin shows that a config runs and what it says of pictures of 64 pixels; it is no reproduction of the paper.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from pipeline.declaring.config import load_pipeline
from pipeline.open import open_artifact
from pipeline.running.progress import Bars
from pipeline.running.run import run
from stages.claims import CLAIMS, line
from stages.redivide import RESULTS as DIVISIONS
from stages.strata import RESULTS as STRATA

TWINS = Path(__file__).parents[1] / "configs" / "twins"
RESULT = Path(__file__).parent / "results" / "twins.json"
GENERATORS = Path(__file__).parents[1] / "manifests" / "generators.yaml"


def made_with(config: Path) -> str:
    """Digest of the manifest of the embedded generators, for a config that names it; "" for one that does not."""
    named = f"{GENERATORS.name}#" in config.read_text(encoding="utf-8")
    return hashlib.sha256(GENERATORS.read_bytes()).hexdigest()[:16] if named else ""


def judged(config: Path, workers: int | None) -> dict[str, Any]:
    """Run a twin: its seconds, whether anything was computed, and its claims."""
    started = time.monotonic()
    pipeline = load_pipeline(config)
    report = run(pipeline, [], workers, bars=Bars())
    claims = []
    if "claims" in pipeline.nodes:
        claims = json.loads((open_artifact(config, "claims") / CLAIMS).read_text(encoding="utf-8"))["claims"]
    for node in pipeline.nodes.values():
        if node.stage.makes == "divisions":
            claims += json.loads((open_artifact(config, node.name) / DIVISIONS).read_text(encoding="utf-8"))["claims"]
        if node.stage.makes == "strata":
            claims += by_quality(json.loads((open_artifact(config, node.name) / STRATA).read_text(encoding="utf-8")))
    return {"seconds": round(time.monotonic() - started), "computed": bool(report.computed), "claims": claims}


def by_quality(strata: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each source of fakes whether those that look better have lower scores: a rank correlation below 0."""
    found = []
    for one in strata["sources"]:
        value, interval = one["spearman"], one["spearman_interval"] or [None, None]
        verdict = "cannot tell"
        if value is not None and None not in interval:
            verdict = "holds" if interval[1] < 0 else "does not hold" if interval[0] >= 0 else verdict
        source, node = one["source"], strata["model"]["node"]
        found.append({
            "says": f"Of {source} fakes that look better have lower scores", "where": "Wang et al. 2020, Figure 6",
            "metric": "spearman", "over": "mean", "margin": 0.0, "verdict": verdict, "value": value,
            "interval": interval, "sides": [value, 0.0], "more": [f"{node} on {source} ({strata['variant']})"],
            "than": [], "few_groups": False,
        })  # fmt: skip
    return found


def main() -> None:
    known = sorted(path.stem for path in TWINS.glob("*.yaml") if "nodes:" in path.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; all if none is named")
    parser.add_argument("--workers", type=int, help="processes; threads of this one if left out")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in known:
            parser.error(f"there is no twin '{name}'; expected one of {', '.join(known)}")
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for name in arguments.names or known:
        config = TWINS / f"{name}.yaml"
        found = judged(config, arguments.workers)
        if not found["computed"] and name in kept:
            found["seconds"] = kept[name]["seconds"]
        kept[name] = {**{part: found[part] for part in ("seconds", "claims")}, "generators": made_with(config)}
        print(f"{name} ({found['seconds']} s)")
        for claim in found["claims"]:
            print(f"  {line(claim)}")
        RESULT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
