"""Take some of the garments of clothing_64 as the photographs of the embedded default.

    python -m experiments.embed_garments --data FOLDER

FOLDER is that of `experiments.garments`. Written: manifests/garments/*.png (the files of the archive, byte for byte,
called by garment and number), garments.csv and garments.yaml. Splits and groups (senders) are those of the data set;
within a split the photographs are those that rank first by their digest, so that a larger choice holds a smaller one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.atomic import write_bytes

COUNTS = {"train": 300, "val": 100, "test": 200}
COLUMNS = ("file", "sha256", "size", "split", "group", "domain", "licence", "source", "native_size", "crop")
LICENCE = "CC0-1.0"
ABOUT = """\
name: garments
description: >-
  {count} photographs of single garments for the embedded example, 64 x 64 pixels, PNG, by {groups} senders. No person
  is shown. The set shows the machine at work; it is no evidence about detectors.
licence: CC0-1.0
origin: >-
  github.com/alexeygrigorev/clothing-dataset, CC0 1.0. The column `source` gives repository, commit and path of each
  original; `python -m experiments.clothing` makes the whole set of manifests/clothing.csv from a checkout.
grouping: >-
  One group per sender: pictures of one sender share camera and background and often the garment. Senders of val and
  test sent at most 45 of the original pictures each, and trained no generator, re-synthesizer or perceptual network.
processing: >-
  Curators put each original upright, cut out the largest centered square (column `crop`: left, top, side in pixels of
  the original, whose size is `native_size`), reduced it once to 64 x 64 pixels with Pillow's Lanczos filter and wrote a
  PNG without metadata.
rows: garments.csv
"""


def chosen(rows: Sequence[Mapping[str, str]], counts: Mapping[str, int]) -> list[Mapping[str, str]]:
    """So many rows of each split, those that rank first by digest, ordered by file.

    Raises SystemExit where a split has fewer, or a row another licence.
    """
    found: list[Mapping[str, str]] = []
    for split, count in counts.items():
        ranked = sorted((row for row in rows if row["split"] == split), key=lambda row: row["sha256"])
        if len(ranked) < count:
            raise SystemExit(f"split {split} has {len(ranked)} photographs, {count} are wanted")
        found += ranked[:count]
    if others := sorted({row["licence"] for row in found} - {LICENCE}):
        raise SystemExit(f"photographs of the licence {', '.join(others)} are not embedded, {LICENCE} alone is")
    return sorted(found, key=lambda row: row["file"])


def embed(data: Path, out: Path, counts: Mapping[str, int] = COUNTS) -> int:
    """Write the photographs and their manifest; returns the bytes of the photographs.

    Raises SystemExit where a file of the archive is not the one that its row names.
    """
    with (data / "manifest.csv").open(newline="") as file:
        rows = chosen(list(csv.DictReader(file)), counts)
    total, kept = 0, []
    numbers: Counter[str] = Counter()
    with zipfile.ZipFile(data / "images.zip") as archive:
        for row in rows:
            content = archive.read(row["file"])
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise SystemExit(f"{row['file']} of images.zip is not the file that manifest.csv names")
            numbers[row["domain"]] += 1
            name = f"{row['domain']}_{numbers[row['domain']]:03}.png"
            (out / "garments").mkdir(parents=True, exist_ok=True)
            write_bytes(out / "garments" / name, content, durable=False)
            total += len(content)
            kept.append({**{column: row[column] for column in COLUMNS}, "file": f"garments/{name}"})
    with (out / "garments.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    about = ABOUT.format(count=len(kept), groups=len({row["group"] for row in kept}))
    (out / "garments.yaml").write_text(about)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images.zip and manifest.csv")
    parser.add_argument("--out", type=Path, default=Path("manifests"))
    arguments = parser.parse_args()
    total = embed(arguments.data, arguments.out)
    print(f"{sum(COUNTS.values())} photographs, {total:,} bytes, in {arguments.out}/garments")


if __name__ == "__main__":
    main()
