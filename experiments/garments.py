"""Unpack the garments of clothing_64 for the trainings of garments.yaml.

    python -m experiments.garments --data FOLDER

FOLDER, which `experiments.clothing` makes, holds images.zip and manifest.csv (file, sha256, split, group, domain,
licence). Written to scratch/garments: images/ and photos.csv, all rows; trainings read the splits that they may.
"""

from __future__ import annotations

import argparse
import csv
import zipfile
from pathlib import Path

COLUMNS = ("file", "sha256", "size", "split", "group", "domain", "licence")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images.zip and manifest.csv")
    parser.add_argument("--out", type=Path, default=Path("scratch/garments"))
    arguments = parser.parse_args()
    with (arguments.data / "manifest.csv").open(newline="") as file:
        rows = [{name: row[name] for name in COLUMNS} for row in csv.DictReader(file)]
    images = arguments.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(arguments.data / "images.zip") as archive:
        for row in rows:
            name = Path(row["file"]).name  # never a path of the archive's
            (images / name).write_bytes(archive.read(row["file"]))
            row["file"] = f"images/{name}"
    table = arguments.out / "photos.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} photographs in {table}")


if __name__ == "__main__":
    main()
