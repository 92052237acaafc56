"""Make the garments of 64 pixels from a checkout of the data set that they come from, and compare them with ours.

    python -m experiments.clothing --from CHECKOUT --out scratch/clothing_64

CHECKOUT is a clone of https://github.com/alexeygrigorev/clothing-dataset (CC0 1.0) at the commit that the manifest's
first line names. manifests/clothing.csv lists 4,734 of its photographs: file, split, group (who sent it), domain
(garment), native size, crop (left top side, after turning by EXIF), SHA-256 of the pixels (64, 64, 3) uint8 that we
have, and their mean color. Each is decoded, turned upright, cut to the square and reduced in one step by Pillow's
Lanczos filter. Written: images.zip (PNG without metadata) and manifest.csv, as `experiments.garments --data` reads
them. A photograph whose pixels are not ours is counted; where the mean color is ours within half a level it is another
version of libjpeg or Pillow, else another photograph, which is an error.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MANIFEST = Path(__file__).parents[1] / "manifests" / "clothing.csv"
COLUMNS = ("file", "sha256", "size", "split", "group", "domain", "licence", "source", "native_size", "crop")
EPOCH = (1980, 1, 1, 0, 0, 0)  # time stamp of all members: the same pixels make the same zip
NEAR = 0.5
"""Largest difference of a mean color, in levels of 0 to 255, that another decoder explains."""


@dataclass(frozen=True)
class Garment:
    """A photograph as the manifest lists it."""

    row: Mapping[str, str]

    def pixels(self, checkout: Path) -> NDArray[np.uint8]:
        """(side, side, 3) uint8 of the square, reduced. Raises ValueError if the photograph is another, OSError."""
        with Image.open(checkout / "images" / f"{self.row['name']}.jpg") as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        found = f"{upright.width}x{upright.height}"
        if found != self.row["native_size"]:
            raise ValueError(f"is {found}, expected {self.row['native_size']}")
        left, top, side = (int(number) for number in self.row["crop"].split())
        square = upright.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((64, 64), Image.Resampling.LANCZOS))

    def compare(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether these are our pixels to the bit. Raises ValueError if they are those of another photograph."""
        if hashlib.sha256(pixels.tobytes()).hexdigest() == self.row["sha256_pixels"]:
            return True
        color = pixels.mean(axis=(0, 1))
        ours = np.array([float(number) for number in self.row["mean_color"].split()])
        if np.abs(color - ours).max() > NEAR:
            raise ValueError(f"has a mean color of {color.round(2).tolist()}, expected {ours.tolist()}")
        return False

    def listed(self, png: bytes, source: str) -> dict[str, str]:
        """Its row of the manifest that is written."""
        about = {name: self.row[name] for name in ("split", "group", "domain", "native_size", "crop")}
        return {
            "file": f"{self.row['name']}.png", "sha256": hashlib.sha256(png).hexdigest(), "size": str(len(png)),
            "licence": "CC0-1.0", "source": f"{source}:images/{self.row['name']}.jpg", **about,
        }  # fmt: skip


def garments(manifest: Path) -> tuple[str, Iterator[Garment]]:
    """Data set and commit, and the photographs."""
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return lines[0].removeprefix("# "), (Garment(row) for row in csv.DictReader(lines[1:]))


def make(checkout: Path, out: Path, manifest: Path = MANIFEST) -> tuple[int, int, list[str]]:
    """Write zip and manifest; photographs that are ours to the bit, near ours, and sentences about all others.

    Nothing is written where a photograph is another than ours, or missing.
    """
    source, listed = garments(manifest)
    rows, equal, near, wrong = [], 0, 0, []
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:  # a PNG is compressed already
        for garment in listed:
            try:
                pixels = garment.pixels(checkout)
                same = garment.compare(pixels)
            except (OSError, ValueError) as error:
                wrong.append(f"images/{garment.row['name']}.jpg: {error}")
                continue
            equal, near = equal + same, near + (not same)
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG")
            rows.append(garment.listed(png.getvalue(), source))
            archive.writestr(zipfile.ZipInfo(rows[-1]["file"], EPOCH), png.getvalue())
    if not wrong:
        out.mkdir(parents=True, exist_ok=True)
        (out / "images.zip").write_bytes(packed.getvalue())
        with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return equal, near, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="checkout", type=Path, required=True, help="a clone of the data set")
    parser.add_argument("--out", type=Path, default=Path("scratch/clothing_64"))
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="another list of the same form")
    arguments = parser.parse_args()
    if not (arguments.checkout / "images").is_dir():
        sys.exit(f"{arguments.checkout} has no folder images; name a clone of the data set with --from")
    equal, near, wrong = make(arguments.checkout, arguments.out, arguments.manifest)
    for sentence in wrong[:20]:
        print(sentence, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong):,} photographs are missing or not ours, nothing was written; check out the commit named")
    print(f"{equal:,} photographs are ours to the bit, {near:,} differ by the decoder; they are in {arguments.out}")


if __name__ == "__main__":
    main()
