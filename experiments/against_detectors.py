"""Exaggerate, and then evade, what a detector sees of the embedded ProGAN, and keep what came of it.

    python -m experiments.against_detectors

runs experiments/against_detectors.yaml (minutes on one core; its store is scratch/against_detectors/store, so that a
second call trains nothing) and writes experiments/results/against_detectors.json: claims as `experiments.twins` keeps
them, the probability of fake along the shift, and what the finetuned generator's card says of the classifier.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.atomic import write_bytes
from pipeline.declaring.config import load_pipeline
from pipeline.open import open_artifact
from pipeline.running.progress import Bars
from pipeline.running.run import run
from stages.claims import CLAIMS, line

PIPELINE = Path(__file__).with_suffix(".yaml")
RESULT = Path(__file__).parent / "results" / "against_detectors.json"
NODES = ("claims", "shift")

SAYS = {
    "-1 to 0": "The suppressing direction lowers the probability of fake",
    "0 to 1": "The exaggerating direction raises it",
}


def of_shift(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Claims of a `latent_shift` card: along both halves of the shift the probability rises."""
    found = []
    for change, says in SAYS.items():
        value, *interval = figures["rises"][change]
        verdict = "holds" if interval[0] > 0 else "does not hold" if interval[1] <= 0 else "cannot tell"
        found.append({
            "says": says, "where": "Chai et al. 2020, Figure 5", "metric": "probability of fake", "over": "mean",
            "margin": 0.0, "verdict": verdict, "value": value, "interval": interval,
            "sides": [figures["by_scale"][scale]["probability_of_fake"] for scale in reversed(change.split(" to "))],
            "more": [change.split(" to ")[1]], "than": [change.split(" to ")[0]], "few_groups": False,
        })  # fmt: skip
    return found


def result_of(pipeline: Path) -> dict[str, Any]:
    """What the nodes of a pipeline that has run say."""
    card, evading = (
        json.loads((open_artifact(pipeline, node) / "card.json").read_text()) for node in ("shift", "evading")
    )
    claims = json.loads((open_artifact(pipeline, "claims") / CLAIMS).read_text(encoding="utf-8"))["claims"]
    return {
        "command": "python -m experiments.against_detectors",
        "claims": [*of_shift(card["figures"]), *claims],
        "shift": card["figures"] | {"settings": card["settings"]},
        "evading": {name: evading[name] for name in ("evasion", "figures", "profile_distance_before")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=PIPELINE)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    run(load_pipeline(arguments.pipeline), list(NODES), 1, bars=Bars())
    result = result_of(arguments.pipeline)
    write_bytes(arguments.out, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    for claim in result["claims"]:
        print(line(claim))


if __name__ == "__main__":
    main()
