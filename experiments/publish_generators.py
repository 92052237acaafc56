"""Copy generators of garments.yaml from its store to manifests/weights, with cards.

    python -m experiments.publish_generators [FAMILY ...]       of all families if none is named

For each family and variant: NAME.safetensors (the averaged generator, float16), NAME.json (the card: recipe, data
fingerprint, steps, device, figures, how they compare with the raw generator's) and NAME.png (samples), and an entry in
manifests/generators.yaml. The card also has figures against photographs of held-out senders, the gates that are missed,
which the entry has too, what rounding changes, and what the spectral term did beyond training of equal length
(`experiments.quality`). experiments/results/generators.json tells all of it, generators.md beside it is a page, and
both keep what they told of families that are not named. One that does not move the mean profile is not called +R or +A
and not published. What only a person knows stands in a file of notes: the hours of the training, and what its samples
show.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from experiments import generators_page, quality
from pipeline.atomic import write_bytes
from pipeline.declaring.config import load_pipeline
from pipeline.errors import TouchstoneError
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.running.run import open_scan
from pipeline.storage.store import Store
from stages.generators import weights
from stages.weights import safetensors_file

FAMILIES = ("progan", "stylegan", "stylegan2", "stargan2")
VARIANTS = ("raw", "R", "A")
NONE = "none"
"""Node of a finetuning of equal length without a term; not published."""
MOST_BYTES = 4_000_000
ALLOWED = 0.25  # how much worse than the raw one diversity and quality may be without a word
SHIPPED = Path("manifests/weights")
STORED_AS = (
    "float16, rounded from the float32 values that were trained (trained_sha256); networks compute in float32; "
    "`figures` are of the trained values, `held_out` of the rounded ones"
)
NOTE = "A small generator that shows the pipeline at work; it is no evidence about detectors."
DATA = (
    "CC0 1.0 photographs of garments at 64 pixels (manifests/clothing.csv), of training senders alone; `held_out` "
    "compares with senders of the val and test splits"
)
LICENCE = "Apache-2.0; trained on CC0-1.0 photographs"


@dataclass(frozen=True)
class Origin:
    """The pipeline file that generators come from, and settings as behind `--set`."""

    file: Path
    overrides: list[str]


def artifacts(origin: Origin, families: Sequence[str] = FAMILIES) -> dict[str, Path]:
    """Finished artifacts by node, as the pipeline file stands now."""
    pipeline = load_pipeline(origin.file, origin.overrides)
    names = [f"{family}_{variant}" for family in families for variant in (*VARIANTS, NONE)]
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


def publish(origin: Origin, name: str, found: Mapping[str, Path], out: Path, more: Mapping[str, Any]) -> dict[str, Any]:
    """Files of one generator, "progan-raw" for instance; returns its manifest entry. more: further keys of the card."""
    family, variant = name.split("-")
    place, stem = found[f"{family}_{variant}"], f"{family}-small-{variant}"
    trained = (place / "generator.safetensors").read_bytes()
    content = halved(place / "generator.safetensors")
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{stem} has {len(content):,} bytes; at most {MOST_BYTES:,} are shipped, train a narrower one")
    card = json.loads((place / "card.json").read_text())
    if variant != "raw":
        card["compared_with_raw"] = comparison(card["figures"], raw_of(card, family, found, out))
    card |= {"data": DATA, "licence": LICENCE, "samples": f"{stem}.png", "stored_as": STORED_AS}
    card |= {"trained_sha256": hashlib.sha256(trained).hexdigest(), "note": NOTE, **more}
    write_bytes(out / f"{stem}.safetensors", content)
    write_bytes(out / f"{stem}.json", (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
    header = weights.read_header(out / f"{stem}.safetensors")
    misses = {"misses": list(more["misses"])} if more["misses"] else {}
    return {
        "family": family,
        "variant": variant,
        "file": f"{out.name}/{stem}.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "resolution": header.resolution,
        "licence": LICENCE,
        "origin": f"experiments/{origin.file.name}",
        "card": f"{out.name}/{stem}.json",
        **misses,
    }


def judged(origin: Origin, found: Mapping[str, Path], networks: Path, out: Path) -> dict[str, dict[str, Any]]:
    """What cards tell of held-out senders, by "family-variant". Pictures go to `out`.

    All of it is told of the rounded values that are published. Raises SystemExit where there are no such senders, or
    nothing to compare a finetuned one with.
    """
    held_out = quality.photographs(origin.file, ("val", "test"), origin.overrides)
    if not len(held_out.images):
        raise SystemExit(f"{origin.file} has no photograph of the splits val and test; name a pipeline that has")
    sources = quality.photographs(origin.file, ("train",), origin.overrides)
    network, digest = quality.perceptual_network(networks)
    told: dict[str, dict[str, Any]] = {}
    seen, rounding = {}, {}
    with TemporaryDirectory() as folder:
        for name, place in found.items():
            trained, stored = place / "generator.safetensors", Path(folder) / f"{name}.safetensors"
            stored.write_bytes(halved(trained))
            seen[name] = quality.seen(stored, held_out, sources)
            rounding[name] = quality.rounding(trained, stored, sources)
    for name, one in seen.items():
        family, _, variant = name.partition("_")
        figures = {key: round(value, 4) for key, value in quality.figures(one, network).items()}
        card: dict[str, Any] = {"held_out": {**figures, "perceptual_sha256": digest}, "misses": quality.misses(figures)}
        card["rounding"] = rounding[name]
        card["senders"] = len(np.unique(sources.of(quality.domains(found[name] / "generator.safetensors")).groups))
        beside = seen.get(f"{family}_{NONE}")
        if variant in VARIANTS[1:]:
            if beside is None:
                raise SystemExit(f"{family}-{variant} is to be compared with {family}_{NONE}, which is not trained")
            card["compared_with_none"] = quality.told(variant, quality.gain(one, beside))
        told[f"{family}-{variant}"] = card
        if variant != NONE:
            write_bytes(out / f"{family}-small-{variant}.png", quality.picture(one.fakes))
        print(f"{family}-{variant}: {json.dumps(figures)}")
    return told


def length(place: Path) -> float:
    """Thousands of images that a training has seen."""
    return float(json.loads((place / "card.json").read_text())["kimg"])


def unready(card: Mapping[str, Any], notes: Mapping[str, Any], picture: Path, file: Path) -> str:
    """Why a generator is not published; "" where it is. notes: of `file`, what a person knows of it."""
    if not card.get("compared_with_none", {}).get("named", True):
        return card["compared_with_none"]["verdict"]  # type: ignore[no-any-return]
    missing = [key for key in ("hours", "grid") if key not in notes]
    if missing:
        return f"{file} lacks its {' and '.join(missing)}; look at {picture} and write a sentence"
    return ""


def results(path: Path, told: Mapping[str, Mapping[str, Any]]) -> None:
    """Put what is told of some generators into the file, and all of it on the page beside it."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known |= told
    order = tuple(f"{family}-{variant}" for family in FAMILIES for variant in (VARIANTS[0], NONE, *VARIANTS[1:]))
    write_bytes(path, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
    write_bytes(path.with_suffix(".md"), generators_page.page(known, order).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"{', '.join(FAMILIES)}; none: all of them")
    parser.add_argument("--file", type=Path, default=Path("experiments/garments.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of touchstone")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--manifest", type=Path, default=Path("manifests/generators.yaml"))
    parser.add_argument("--networks", type=Path, default=Path("experiments/states/networks.yaml"))
    parser.add_argument("--notes", type=Path, default=Path("experiments/garments_notes.yaml"))
    parser.add_argument("--results", type=Path, default=Path("experiments/results/generators.json"))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.families) - set(FAMILIES)):
        parser.error(f"{unknown[0]} is no family of generators; expected {', '.join(FAMILIES)}")
    try:
        publish_all(Origin(arguments.file, arguments.overrides), arguments.families or FAMILIES, arguments)
    except TouchstoneError as error:
        raise SystemExit(str(error)) from None


def publish_all(origin: Origin, families: Sequence[str], arguments: argparse.Namespace) -> None:
    """Files, entries, results. Raises SystemExit where nothing is trained, TouchstoneError where rows are missing."""
    found = artifacts(origin, families)
    if not found:
        raise SystemExit(f"{', '.join(families)}: not trained yet; nothing is published")
    arguments.out.mkdir(parents=True, exist_ok=True)
    cards = judged(origin, found, arguments.networks, arguments.out)
    notes = (yaml.safe_load(arguments.notes.read_text()) or {}) if arguments.notes.exists() else {}
    told = {
        name: {**card, **notes.get(name, {}), "kimg": length(found[name.replace("-", "_")])}
        for name, card in cards.items()
    }
    entries = yaml.safe_load(arguments.manifest.read_text()) if arguments.manifest.exists() else {}
    for name in (f"{family}-{variant}" for family in families for variant in VARIANTS):
        if name not in cards:
            print(f"{name}: not trained yet")
            continue
        card, noted = cards[name], notes.get(name, {})
        picture = arguments.out / f"{name.replace('-', '-small-')}.png"
        if reason := unready(card, noted, picture, arguments.notes):
            told[name]["not_published"] = reason
            print(f"{name}: not published. {reason}")
            continue
        entries[name] = publish(origin, name, found, arguments.out, {**card, **noted})
        print(f"{name}: {entries[name]['size']:,} bytes" + "".join(f"; {miss}" for miss in card["misses"]))
    order = [f"{family}-{variant}" for family in FAMILIES for variant in VARIANTS]
    ordered = {name: entries[name] for name in (*order, *sorted(set(entries) - set(order))) if name in entries}
    write_bytes(arguments.manifest, yaml.safe_dump(ordered, sort_keys=False, width=120).encode())
    if told:
        results(arguments.results, told)


if __name__ == "__main__":
    main()
