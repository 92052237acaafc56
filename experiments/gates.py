"""Say of published generators which gates they miss, against held-out photographs of the embedded default.

    touchstone run reals
    python -m experiments.gates

For generators whose own pipeline has no held-out photographs; of the others `experiments.publish_generators` says it.
Written: `gates` (AUC of single numbers) and `misses` of the cards, and `misses` of the entries of the manifest, by
which reports and tables mark their fakes. A StarGAN2 carries training photographs of its domains.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from experiments import quality
from experiments.quality import Photographs
from pipeline.atomic import write_bytes


def judge(manifest: Path, held_out: Photographs, sources: Photographs) -> dict[str, list[str]]:
    """Write what is found to the cards and the manifest. -> name of the entry: a sentence for each missed gate."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(manifest.read_text())
    found = {}
    for name, entry in entries.items():
        place = manifest.parent / entry["card"]
        card = json.loads(place.read_text())
        if "held_out" in card:
            continue
        one = quality.seen(manifest.parent / entry["file"], held_out, sources)
        numbers = {key: round(value, 4) for key, value in quality.single_numbers(one).items()}
        found[name] = quality.misses(numbers)
        card |= {"gates": {"photographs": len(one.fakes), **numbers}, "misses": found[name]}
        write_bytes(place, (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
        entry.pop("misses", None)
        entry |= {"misses": found[name]} if found[name] else {}
    write_bytes(manifest, yaml.safe_dump(entries, sort_keys=False, width=120).encode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("pipeline.yaml"))
    parser.add_argument("--manifest", type=Path, default=Path("manifests/generators.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of touchstone")
    arguments = parser.parse_args()
    held_out, sources = (
        quality.photographs(arguments.file, splits, arguments.overrides, "reals")
        for splits in (("val", "test"), ("train",))
    )
    for name, sentences in judge(arguments.manifest, held_out, sources).items():
        print(f"{name}: {'; '.join(sentences) or 'keeps its gates'}")


if __name__ == "__main__":
    main()
