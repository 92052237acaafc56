"""Make garments the embedded default, once their generators are published: photographs, pipeline and pages.

    python -m experiments.garments_default --data FOLDER            what is missing, and what would be changed
    python -m experiments.garments_default --data FOLDER --apply    changes it; then delete this program and its test

FOLDER is that of `experiments.garments`. Each change is a text that occurs once and what stands there then, so that a
page that was reworded meanwhile is named and nothing is half done. What no text can tell is printed at the end.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiments.embed_garments import COUNTS, embed
from pipeline.atomic import write_bytes
from stages.generators import weights

ORIGIN = "experiments/garments.yaml"
PHOTOGRAPH = "dress_001.png"
COUNT = sum(COUNTS.values())
DOMAINS = "[dress, pants, t-shirt]"

Changes = Mapping[str, tuple[tuple[str, str], ...]]

CHANGES: Changes = {
    "pipeline.yaml": (
        (
            "# The embedded default: photographs against twelve small generators, offline, on a CPU, in minutes.",
            "# The embedded default: photographs of garments against twelve generators of them, offline, on a CPU, in "
            "minutes.",
        ),
        ("manifest: manifests/photos.yaml}", "manifest: manifests/garments.yaml}"),
        (
            "translated: # StarGAN2 makes garments of groceries and groceries of garments",
            "translated: # StarGAN2 makes trousers or T-shirts of dresses, and so on: two of each photograph",
        ),
        ('"domain in [clothing, grocery]", take: 250}', f'"domain in {DOMAINS}", take: 125}}'),
        (
            "twelve small generators against 421 photographs",
            f"twelve generators of garments against {COUNT} photographs of them",
        ),
        (
            "reduction: Reals are photographs reduced from 128 to 64 pixels by Lanczos; fakes are native",
            "reduction: Reals are photographs reduced once to 64 pixels before they were embedded; fakes are native",
        ),
    ),
    "README.md": (
        ("421 photographs and twelve small generators. It says nothing about how",
         f"{COUNT} photographs of garments and twelve generators of them. It says nothing about how"),
        ("manifest: manifests/photos.yaml}       #", "manifest: manifests/garments.yaml}     #"),
        ("    count: 421\n", f"    count: {COUNT}\n"),
        ("touchstone explain images budgie_0001.png    ", f"touchstone explain images {PHOTOGRAPH:<15}    "),
        ("touchstone show spectra budgie_0001.png ", f"touchstone show spectra {PHOTOGRAPH:<15} "),
        ("touchstone lineage images budgie_0001.png ", f"touchstone lineage images {PHOTOGRAPH:<15} "),
    ),
    "docs/faq.md": (
        ("It shows 421 small photographs and twelve generators of minutes.",
         f"It shows {COUNT} small photographs of garments and twelve generators of hours."),
    ),
    "docs/predict.md": (("lineage images budgie_0001.png ", f"lineage images {PHOTOGRAPH:<15} "),),
    "benchmarks/nodes_55.yaml": (
        ("manifests/photos.yaml", "manifests/garments.yaml"),
        ("# StarGAN2 makes garments of groceries and groceries of garments", "# two of each photograph"),
        ('"domain in [clothing, grocery]", take: 250}', f'"domain in {DOMAINS}", take: 125}}'),
        ("twelve small generators against 421 photographs", f"twelve generators against {COUNT} photographs"),
    ),
}  # fmt: skip

BY_HAND = """\
- docs/generators.md, "The small generators": what they are now; figures, and the sentence of each grid
- docs/notebook.ipynb: counts (421) and outputs, by running it again; docs/report.png, by `make demo`
- Makefile: the comment of `make generators`; LICENSE of the photographs where they are named
- configs/twins: those of manifests/photos.yaml and of embedded generators compare garments with other things now; name
  manifests/garments.yaml, domains of garments, and run `python -m experiments.twins` again
- tests/generators/test_small_generators.py: bounds of spectral distances, if a family is called +R or +A for less
- a variant that was not published, since it moves no profile: out of the matrices of pipeline.yaml, its entry, card,
  picture and weights of the older generator away
- experiments/states: remove states that were trained to their end ({states} bytes), or the repository grows too large
- rdn-small-* and perceptual-small: `python -m experiments.publish_resynthesizers`, from the same training senders
"""


def missing(manifest: Path) -> list[str]:
    """Entries that are not of garments yet, and why others are not what the pages would say."""
    found = []
    entries: Mapping[str, Mapping[str, Any]] = yaml.safe_load(manifest.read_text())
    for name, entry in entries.items():
        if entry["origin"] != ORIGIN:
            found.append(f"{name} is of {entry['origin']}; publish it from {ORIGIN}")
        elif entry["family"] == "stargan2":
            domains = weights.read_header(manifest.parent / entry["file"]).domains
            if f"[{', '.join(domains)}]" != DOMAINS:
                found.append(f"{name} has the domains {', '.join(domains)}; change DOMAINS")
    return found


def changed(root: Path, changes: Changes = CHANGES) -> dict[Path, str]:
    """File -> its new text. Raises SystemExit where a text does not occur exactly once."""
    found = {}
    for name, pairs in changes.items():
        text = (root / name).read_text(encoding="utf-8")
        for old, new in pairs:
            if text.count(old) != 1:
                raise SystemExit(f"{name} has {text.count(old)} times {old!r}; expected it once: change it here, too")
            text = text.replace(old, new)
        found[root / name] = text
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images.zip and manifest.csv")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--apply", action="store_true", help="change the files")
    arguments = parser.parse_args()
    lacking, texts = missing(arguments.root / "manifests" / "generators.yaml"), changed(arguments.root)
    print("\n".join([*lacking, *(f"would change {file}" for file in texts if not arguments.apply)]))
    if arguments.apply:
        if lacking:
            raise SystemExit("nothing was changed")
        size = embed(arguments.data, arguments.root / "manifests")
        for file, text in texts.items():
            write_bytes(file, text.encode())
        print(f"{COUNT} photographs, {size:,} bytes; {len(texts)} files changed")
    states = sum(file.stat().st_size for file in (arguments.root / "experiments" / "states").glob("*.safetensors"))
    print("By hand:\n" + BY_HAND.format(states=f"{states:,}"))


if __name__ == "__main__":
    main()
