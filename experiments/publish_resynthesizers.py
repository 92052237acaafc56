"""Copy the small re-synthesizers of garments.yaml and their perceptual network to manifests/weights, with cards.

    python -m experiments.publish_resynthesizers

For each task: rdn-small-TASK.safetensors and rdn-small-TASK.json (the card: config, data fingerprint, steps, device,
PSNR on photographs of held-out senders beside that of bicubic enlargement), and an entry in manifests/networks.yaml.
The perceptual network of their loss goes with them, and cards name files by their digests: all are published, or none,
where one is not trained or not above bicubic enlargement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.train_perceptual import DATA, LICENCE
from pipeline.atomic import write_bytes
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.errors import TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.storage.store import Store
from stages.resynthesis import weights

NODES = {"SR": "SR", "SR+C": "SR_C", "SR+D": "SR_D"}
MOST_BYTES = 2_000_000
NOTE = (
    "A small re-synthesizer that shows the pipeline at work: 336 thousand parameters instead of 22 million, minutes of "
    "training instead of days. It is no evidence about detectors."
)


@dataclass(frozen=True)
class Published:
    """A network, its card and its entry, not yet written."""

    name: str
    content: bytes
    card: bytes
    facts: Mapping[str, Any]

    def entry(self, folder: str) -> dict[str, Any]:
        """Of a manifest beside the folder."""
        digest = hashlib.sha256(self.content).hexdigest()
        file, card = (f"{folder}/{self.name}.{kind}" for kind in ("safetensors", "json"))
        return {**self.facts, "file": file, "sha256": digest, "size": len(self.content), "card": card}


def artifacts(pipeline: Pipeline) -> dict[str, Path]:
    """Artifacts by task, as the pipeline file stands now. Raises SystemExit where one is not trained."""
    wanted = pipeline.select(list(NODES.values()))
    store = Store(pipeline.store)
    plan = make_plan(pipeline, store, open_scan(pipeline, False), wanted, pins=read_pins(pipeline.base))
    found = {task: plan.artifacts[node].found for task, node in NODES.items()}
    if missing := [NODES[task] for task, artifact in found.items() if artifact is None]:
        raise SystemExit(f"{', '.join(missing)}: not trained yet; all are published, or none")
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


def resynthesizer(place: Path, task: str, steps: Sequence[str], origin: str) -> Published:
    """Of an artifact; steps: its `course`. Raises SystemExit for a large file, or a PSNR not above that of bicubic."""
    name = f"rdn-small-{task}"
    content = (place / weights.FILE).read_bytes()
    card = json.loads((place / "card.json").read_text())
    figures = card["figures"]
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{name} has {len(content):,} bytes; at most {MOST_BYTES:,} are shipped")
    for images in ("", *(("_degraded",) if "psnr_degraded" in figures else ())):
        reached, bicubic = figures[f"psnr{images}"], figures[f"psnr_bicubic{images}"]
        if reached <= bicubic:
            of = f" of{images.replace('_', ' ')} images" if images else ""
            raise SystemExit(
                f"{name} has a PSNR{of} of {reached:.2f} dB, bicubic enlargement {bicubic:.2f} dB; train it longer"
            )
    card |= {"data": DATA, "licence": LICENCE, "origin": origin, "loss": loss_of(card)}
    card |= {"note": NOTE, "course": list(steps)}
    told = {key: round(figures[key], 2) for key in ("psnr", "psnr_bicubic")}
    facts = {"network": weights.NETWORK, "task": task, **told, "licence": LICENCE, "origin": origin}
    return Published(name, content, (json.dumps(card, indent=2, sort_keys=True) + "\n").encode(), facts)


def perceptual(pipeline: Pipeline) -> Published:
    """The network of the loss, with the card beside it. Raises SystemExit where trainings do not share one entry."""
    files = [pipeline.nodes[node].files.get("perceptual") for node in NODES.values()]
    reference = files[0]
    if reference is None or not reference.entry or any(one != reference for one in files):
        raise SystemExit(f"{', '.join(NODES.values())}: expected the same entry of a manifest as their `perceptual`")
    facts = {key: reference.entry[key] for key in ("network", "licence", "origin")}
    card = reference.path.with_suffix(".json").read_bytes()
    return Published(reference.path.stem, reference.path.read_bytes(), card, facts)


def all_of(pipeline: Pipeline, origin: str) -> list[Published]:
    """The perceptual network and the re-synthesizers. Raises SystemExit where one of them is not to be published."""
    found = artifacts(pipeline)
    trained = (resynthesizer(found[task], task, course(pipeline, node), origin) for task, node in NODES.items())
    return [perceptual(pipeline), *trained]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("experiments/garments.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of touchstone")
    parser.add_argument("--out", type=Path, default=Path("manifests/weights"))
    parser.add_argument("--manifest", type=Path, default=Path("manifests/networks.yaml"))
    arguments = parser.parse_args()
    try:
        networks = all_of(load_pipeline(arguments.file, arguments.overrides), f"experiments/{arguments.file.name}")
    except TouchstoneError as error:
        raise SystemExit(str(error)) from None
    entries = yaml.safe_load(arguments.manifest.read_text()) if arguments.manifest.exists() else {}
    for one in networks:
        write_bytes(arguments.out / f"{one.name}.safetensors", one.content)
        write_bytes(arguments.out / f"{one.name}.json", one.card)
        entries[one.name] = entry = one.entry(arguments.out.name)
        psnr = f", {entry['psnr']} dB (bicubic {entry['psnr_bicubic']} dB)" if "psnr" in entry else ""
        print(f"{one.name}: {entry['size']:,} bytes{psnr}")
    write_bytes(arguments.manifest, yaml.safe_dump(entries, sort_keys=False, width=120).encode())


if __name__ == "__main__":
    main()
