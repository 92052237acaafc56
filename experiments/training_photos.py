"""Write the manifest of the photographs that the small generators are trained on.

    python -m experiments.training_photos --data FOLDER --out scratch/generators/photos.yaml

FOLDER holds photographs and their manifest.csv (file, sha256, original_path, licence). Taken are those with one of the
prefixes (clothing, grocery, budgie: CC0 and MIT) that share neither digest nor group with a val or test photograph of
manifests/photos.csv; the prefix is the domain. Without --data: the train split of the project's own photographs.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

COLUMNS = ("file", "sha256", "size", "split", "group", "domain", "licence")


def group_of(file: str, original_path: str) -> str:
    """Group as in manifests/photos.csv: source prefix, then the product (grocery) or the original's name."""
    prefix, stem = file.split("_")[0], Path(original_path).stem
    return f"{prefix}/{stem.rpartition('_')[0] if prefix == 'grocery' else stem}"


def shipped(photos_csv: Path) -> Iterator[dict[str, str]]:
    """The project's own train split."""
    with photos_csv.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "train":
                yield {**row, "file": str(photos_csv.parent / row["file"])}


def curated(folder: Path, prefixes: list[str], photos_csv: Path) -> Iterator[dict[str, str]]:
    """Photographs of a folder that are no val or test photograph of the project and share no group with one."""
    with photos_csv.open(newline="") as file:
        held_out = [row for row in csv.DictReader(file) if row["split"] in ("val", "test")]
    digests, groups = {row["sha256"] for row in held_out}, {row["group"] for row in held_out}
    with (folder / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            prefix, group = row["file"].split("_")[0], group_of(row["file"], row["original_path"])
            if prefix in prefixes and row["sha256"] not in digests and group not in groups:
                path = folder / row["file"]
                size = str(path.stat().st_size)
                fixed = {"size": size, "split": "train", "group": group, "domain": prefix}
                yield {**row, **fixed, "file": str(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photographs with a manifest.csv")
    parser.add_argument("--prefixes", nargs="+", default=["clothing", "grocery", "budgie"])
    parser.add_argument("--photos", type=Path, default=Path("manifests/photos.csv"), help="val and test are left out")
    parser.add_argument("--out", type=Path, default=Path("scratch/generators/photos.yaml"))
    arguments = parser.parse_args()
    if arguments.data is None:
        rows = list(shipped(arguments.photos))
    else:
        rows = list(curated(arguments.data, arguments.prefixes, arguments.photos))
    if not rows:
        raise SystemExit(f"{arguments.data} has no photograph with a prefix of {', '.join(arguments.prefixes)}")
    table = arguments.out.with_suffix(".csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    root = os.path.commonpath([os.path.dirname(os.path.abspath(row["file"])) for row in rows])
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "file": os.path.relpath(row["file"], root)})
    header = {"name": "training photographs", "root": os.path.relpath(root, table.parent), "rows": table.name}
    arguments.out.write_text(yaml.safe_dump(header, sort_keys=False))
    print(f"{len(rows)} photographs in {arguments.out}")


if __name__ == "__main__":
    main()
