"""Copy the small re-synthesizers from the store of experiments/resynthesizers.yaml to manifests/weights, with cards.

    python -m experiments.publish_resynthesizers

For each task: rdn-small-TASK.safetensors and rdn-small-TASK.json (the card: config, data fingerprint, steps, device,
PSNR on held-out photographs beside that of bicubic enlargement), and an entry in manifests/networks.yaml. One that is
not above bicubic enlargement is not published.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.atomic import write_bytes
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.storage.store import Store
from stages.resynthesis import weights

NODES = {"SR": "SR", "SR+C": "SR_C", "SR+D": "SR_D"}
MOST_BYTES = 2_000_000
LICENCE = "Apache-2.0; trained on CC0-1.0 and MIT photographs"
DATA = (
    "trained on CC0 1.0 and MIT photographs of garments, groceries and desktop backgrounds at 128 pixels, none of a "
    "val or test group of manifests/photos.csv; measured on the val split of manifests/photos.yaml"
)
NOTE = (
    "A small re-synthesizer that shows the pipeline at work: 336 thousand parameters instead of 22 million, minutes of "
    "training instead of days. It is no evidence about detectors."
)


def artifacts(pipeline: Pipeline) -> dict[str, Path]:
    """Finished artifacts by task, as the pipeline file stands now."""
    wanted = pipeline.select(list(NODES.values()))
    store = Store(pipeline.store)
    plan = make_plan(pipeline, store, open_scan(pipeline, False), wanted, pins=read_pins(pipeline.base))
    found = {task: plan.artifacts[node].found for task, node in NODES.items()}
    return {task: artifact.path for task, artifact in found.items() if artifact is not None}


def course(pipeline: Pipeline, name: str) -> list[str]:
    """One sentence for each training that led to a node, the first one first."""
    node = pipeline.nodes[name]
    before = [line for start in node.artifacts.get("checkpoint", ()) for line in course(pipeline, start)]
    config = node.config
    factor = config.perceptual_weight
    loss = "loss of pixels" if factor is None else f"loss of pixels and {factor:g} times the perceptual stages"
    return [*before, f"{name}: {config.kimg:g} thousand patches of {config.patch} pixels, task {config.task}, {loss}"]


def loss_of(card: Mapping[str, Any]) -> str:
    """One sentence about the loss."""
    factor = card["config"]["perceptual_weight"]
    if factor is None:
        return "The loss is that of pixels alone, without the perceptual stages of the paper."
    name = card["files"]["perceptual"]["file"]
    return f"The loss is that of pixels and, with the factor {factor:g}, of the perceptual stages of {name}."


def publish(place: Path, task: str, steps: Sequence[str], out: Path) -> dict[str, Any]:
    """Files of one re-synthesizer; returns its manifest entry. steps: its `course`."""
    name = f"rdn-small-{task}"
    content = (place / weights.FILE).read_bytes()
    card = json.loads((place / "card.json").read_text())
    figures = card["figures"]
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{name} has {len(content):,} bytes; at most {MOST_BYTES:,} are shipped")
    if figures["psnr"] <= figures["psnr_bicubic"]:
        raise SystemExit(
            f"{name} has a PSNR of {figures['psnr']:.2f} dB, bicubic enlargement {figures['psnr_bicubic']:.2f} dB; "
            "train it longer"
        )
    card |= {"data": DATA, "licence": LICENCE, "origin": "experiments/resynthesizers.yaml", "loss": loss_of(card)}
    card |= {"note": NOTE, "course": list(steps)}
    write_bytes(out / f"{name}.safetensors", content)
    write_bytes(out / f"{name}.json", (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
    return {
        "network": weights.NETWORK,
        "task": task,
        "file": f"{out.name}/{name}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "psnr": round(figures["psnr"], 2),
        "psnr_bicubic": round(figures["psnr_bicubic"], 2),
        "licence": LICENCE,
        "origin": "experiments/resynthesizers.yaml",
        "card": f"{out.name}/{name}.json",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("experiments/resynthesizers.yaml"))
    parser.add_argument("--out", type=Path, default=Path("manifests/weights"))
    parser.add_argument("--manifest", type=Path, default=Path("manifests/networks.yaml"))
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.file, None)
    found = artifacts(pipeline)
    for task, node in NODES.items():
        if task not in found:
            print(f"{task}: not trained yet")
            continue
        entry = publish(found[task], task, course(pipeline, node), arguments.out)
        entries = yaml.safe_load(arguments.manifest.read_text()) if arguments.manifest.exists() else {}
        entries[f"rdn-small-{task}"] = entry
        write_bytes(arguments.manifest, yaml.safe_dump(entries, sort_keys=False, width=120).encode())
        print(f"{task}: {entry['size']:,} bytes, {entry['psnr']} dB (bicubic {entry['psnr_bicubic']} dB)")


if __name__ == "__main__":
    main()
