"""Copy the small generators from the store of experiments/generators.yaml to manifests/weights, with cards.

    python -m experiments.publish_generators

For each family and variant: NAME.safetensors (the averaged generator, float16), NAME.json (the card: recipe, data
fingerprint, steps, device, figures, how they compare with the raw generator's) and NAME.png (samples), and an entry in
manifests/generators.yaml.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from pipeline.atomic import write_bytes
from pipeline.declaring.config import load_pipeline
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.storage.store import Store
from stages.generators import weights
from stages.weights import safetensors_file

FAMILIES = ("progan", "stylegan", "stylegan2", "stargan2")
VARIANTS = ("raw", "R", "A")
MOST_BYTES = 4_000_000
ALLOWED = 0.25  # how much worse than the raw one diversity and quality may be without a word
SHIPPED = Path("manifests/weights")
STORED_AS = "float16, rounded from the float32 values that were trained (trained_sha256) and that figures are of"
LICENCE = "Apache-2.0; trained on CC0-1.0 and MIT photographs"


def artifacts(file: Path) -> dict[str, Path]:
    """Finished artifacts by node, as the pipeline file stands now."""
    pipeline = load_pipeline(file, None)
    names = [f"{family}_{variant}" for family in FAMILIES for variant in VARIANTS]
    wanted = pipeline.select([name for name in names if name in pipeline.nodes])
    store = Store(pipeline.store)
    plan = make_plan(pipeline, store, open_scan(pipeline, False), wanted, pins=read_pins(pipeline.base))
    found = {}
    for name in names:
        made = plan.artifacts.get(name)
        if made is not None and made.found is not None:
            found[name] = made.found.path
    return found


def comparison(figures: Mapping[str, float], raw: Mapping[str, float]) -> dict[str, Any]:
    """Figures relative to the raw generator's, and one sentence."""
    ratios = {name: figures[name] / raw[name] for name in ("profile_distance", "diversity", "swd")}
    worse = []
    if ratios["diversity"] < 1 - ALLOWED:
        worse.append(f"its diversity is {1 - ratios['diversity']:.0%} lower")
    if ratios["swd"] > 1 + ALLOWED:
        worse.append(f"its sliced Wasserstein distance to photographs is {ratios['swd'] - 1:.0%} higher")
    verdict = f"Worse than the raw generator: {' and '.join(worse)}." if worse else (
        f"Diversity and sliced Wasserstein distance are within {ALLOWED:.0%} of the raw generator's, or better."
    )  # fmt: skip
    return {"ratios": {name: round(value, 4) for name, value in ratios.items()}, "verdict": verdict}


def raw_of(card: Mapping[str, Any], family: str, found: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Figures of the raw generator that a finetuned one started from: one of the store, or the shipped one."""
    started: str = card["started_from"]["sha256"]
    beside = found.get(f"{family}_raw")
    places = [(beside / "generator.safetensors", beside / "card.json")] if beside else []
    for folder in (out, SHIPPED):
        stem = folder / f"{family}-small-raw"
        places.append((stem.with_suffix(".safetensors"), stem.with_suffix(".json")))
    for file, told in places:
        if not file.is_file():
            continue
        card = json.loads(told.read_text())
        if started in (hashlib.sha256(file.read_bytes()).hexdigest(), card.get("trained_sha256")):
            figures: dict[str, float] = card["figures"]
            return figures
    raise SystemExit(
        f"a {family} was finetuned from {started[:16]}..., which is neither trained nor shipped; train it again"
    )


def halved(path: Path) -> bytes:
    """The file with float16 values, half as large; raises SystemExit where one is out of their range."""
    about, _ = safetensors_file.read_header(path)
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused below
        tensors = {name: values.astype(np.float16) for name, values in load_file(path).items()}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise SystemExit(f"{path}: {name} has values beyond float16; it cannot be stored in half precision")
    return safetensors_file.pack(tensors, about)


def publish(place: Path, family: str, variant: str, found: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Files of one generator; returns its manifest entry."""
    name = f"{family}-small-{variant}"
    trained = (place / "generator.safetensors").read_bytes()
    content = halved(place / "generator.safetensors")
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{name} has {len(content):,} bytes; at most {MOST_BYTES:,} are shipped, train a narrower one")
    card = json.loads((place / "card.json").read_text())
    if variant != "raw":
        card["compared_with_raw"] = comparison(card["figures"], raw_of(card, family, found, out))
    card["data"] = (
        "CC0 1.0 and MIT photographs of garments, groceries and desktop backgrounds at 64 pixels, none of a val or "
        "test group of manifests/photos.csv; the project's own train split is a subset"
    )
    card["licence"] = LICENCE
    card["samples"] = f"{name}.png"
    card["trained_sha256"] = hashlib.sha256(trained).hexdigest()
    card["stored_as"] = STORED_AS
    card["note"] = "A small generator that shows the pipeline at work; it is no evidence about detectors."
    write_bytes(out / f"{name}.safetensors", content)
    write_bytes(out / f"{name}.png", sorted(place.glob("samples-*.png"))[-1].read_bytes())
    write_bytes(out / f"{name}.json", (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
    header = weights.read_header(out / f"{name}.safetensors")
    return {
        "family": family,
        "variant": variant,
        "file": f"{out.name}/{name}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "resolution": header.resolution,
        "licence": LICENCE,
        "origin": "experiments/generators.yaml",
        "card": f"{out.name}/{name}.json",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("experiments/generators.yaml"))
    parser.add_argument("--out", type=Path, default=Path("manifests/weights"))
    parser.add_argument("--manifest", type=Path, default=Path("manifests/generators.yaml"))
    arguments = parser.parse_args()
    found = artifacts(arguments.file)
    entries = yaml.safe_load(arguments.manifest.read_text()) if arguments.manifest.exists() else {}
    for family in FAMILIES:
        for variant in VARIANTS:
            place = found.get(f"{family}_{variant}")
            if place is None:
                print(f"{family}-{variant}: not trained yet")
                continue
            entries[f"{family}-{variant}"] = publish(place, family, variant, found, arguments.out)
            print(f"{family}-{variant}: {entries[f'{family}-{variant}']['size']:,} bytes")
    order = {f"{family}-{variant}": None for family in FAMILIES for variant in VARIANTS}
    ordered = {name: entries[name] for name in (*order, *sorted(set(entries) - set(order))) if name in entries}
    write_bytes(arguments.manifest, yaml.safe_dump(ordered, sort_keys=False, width=120).encode())


if __name__ == "__main__":
    main()
