"""Detectors on two halves of one kind of photograph: how often does an interval say that there is something to find?

    python -m experiments.null_pairs --data FOLDER       (a folder with manifest.csv and images.zip, groups are senders)

Photographs of one source are cut in two by sender, at most ten of each, and a detector learns to tell the halves apart
from other senders than it is tested on. There is nothing to learn, so of 95 % intervals of the area under the ROC curve
some 5 in 100 may exclude one half; the pooled share over all pairs and fast detectors is held against 8. Intervals that
take every row for itself are counted beside. Networks, which take long, do the same on the first two pairs, and are
reported apart. Writes benchmarks/results/null_pairs.json.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detectors.choosing import detector_config, family_module
from detectors.contract import Control
from pipeline import ids
from pipeline.digests import digest, hash_rank
from pipeline.stage import PICTURE
from stages.evaluation.intervals import summary
from stages.measure import border_step, clipped, spectral_slope
from stages.spectra.maps import dct2d_maps, fft2d_maps
from stages.spectra.profiles import line_spectra

FAST = ("profile-svm", "profile-logistic", "profile-forest", "profile-kmeans", "profile-threshold",
        "row-profile-logistic", "column-profile-forest", "clipped", "border-step", "spectral-slope",
        "eigenfaces")  # fmt: skip
NETWORKS = ("dct2d-cnn", "fft2d-cnn", "pixel-cnn")
PAIRS_OF_NETWORKS, EPOCHS = 2, 15
AXES = {"image": PICTURE, "dct2d": ("channel", "row", "column"), "fft2d": ("channel", "row", "column")}
MOST_OF_A_SENDER = 10
MOST_SHARE = 0.08
SHARES = (0.5, 0.7)
"""Ends of train and of val by rank of a sender's hash; the rest is tested."""


@dataclass
class Kept:
    """Fields of some rows as a detector family reads them."""

    fields: dict[str, NDArray[Any]]
    labels: NDArray[np.uint8]
    feature: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def axes(self) -> tuple[str, ...]:
        return AXES.get(self.feature, ())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.fields[self.feature].shape[1:]

    def array(self) -> NDArray[Any]:
        return self.fields[self.feature]

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        yield from (self.array()[start : start + size] for start in range(0, len(self), size))

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> Shuffled:
        return Shuffled(self, size, seed)

    def field(self, name: str) -> Kept:
        return Kept(self.fields, self.labels, name)

    def of(self, mask: NDArray[np.bool_]) -> Kept:
        return Kept({name: array[mask] for name, array in self.fields.items()}, self.labels[mask], self.feature)


@dataclass
class Shuffled:
    """Batches of rows in an order that each epoch draws anew; halves of a source are about as large as one another."""

    rows: Kept
    size: int
    seed: int
    epoch: int = 0

    def __iter__(self) -> Iterator[Any]:
        import torch

        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.rows))
        self.epoch += 1
        for start in range(0, len(order), self.size):
            chosen = order[start : start + self.size]
            values = torch.from_numpy(self.rows.array()[chosen])
            names = ids.from_bytes(int(number).to_bytes(16, "big") for number in chosen)
            yield values, torch.from_numpy(self.rows.labels[chosen]), names

    def state(self) -> Mapping[str, Any]:
        return {"epoch": self.epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]


def photographs(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """Pixels (n, 64, 64, 3) of at most ten photographs of each sender, and digests of their senders (n,) V16."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["sha256"])
    kept: dict[str, list[str]] = {}
    for row in rows:
        names = kept.setdefault(row["group"], [])
        if len(names) < MOST_OF_A_SENDER:
            names.append(row["file"])
    images, senders = [], []
    with zipfile.ZipFile(folder / "images.zip") as archive:
        known = {Path(name).name: name for name in archive.namelist()}
        for sender, names in kept.items():
            for name in names:
                with Image.open(io.BytesIO(archive.read(known[name]))) as image:
                    images.append(np.asarray(image.convert("RGB")))
                senders.append(digest("sender", sender))
    return np.stack(images), ids.from_bytes(senders)


def features(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """All that the detectors read."""
    return {
        "dct2d": dct2d_maps(images, "rgb", np.float32, np.float16),
        "fft2d": fft2d_maps(images, "rgb", np.float32, np.float16),
        **line_spectra(images, "durall19", True),
        "clipped": clipped(images),
        "border_step": border_step(images),
        "spectral_slope": spectral_slope(images),
        "image": images,
    }


def pair(number: int, fields: dict[str, NDArray[Any]], senders: NDArray[np.void]) -> list[dict[str, Any]]:
    """One entry per detector: its area between the halves on senders that it has not seen, and two intervals."""
    labels = (hash_rank(senders, "half", number) >= 2**63).astype(np.uint8)
    place = hash_rank(senders, "split of null pair", number) / 2.0**64
    learned, chosen, tested = place < SHARES[0], (place >= SHARES[0]) & (place < SHARES[1]), place >= SHARES[1]
    groups = ids.lookup(ids.unique(senders), senders)[tested]
    found = []
    presets: list[str | dict[str, Any]] = list(FAST)
    if number < PAIRS_OF_NETWORKS:
        presets += [{"preset": name, "epochs": EPOCHS} for name in NETWORKS]
    for preset in presets:
        config = detector_config(preset)
        module, rows = family_module(config.family), Kept(fields, labels, config.feature)
        state = module.fit(config, rows.of(learned), rows.of(chosen), Control(seed=number))
        scores = module.score(config, state, rows.of(tested).array(), "cpu")
        by_group = summary(scores, labels[tested], groups, 0.5)
        by_row = summary(scores, labels[tested], np.arange(len(groups)), 0.5)
        name = preset if isinstance(preset, str) else str(preset["preset"])
        found.append({"pair": number, "detector": name, "auc": by_group["auc"], "interval": by_group["auc_interval"],
                      "interval_by_rows": by_row["auc_interval"], "groups": by_group["effective_groups"]})  # fmt: skip
    return found


def excluding(rows: list[dict[str, Any]], name: str) -> float:
    """Share of intervals that do not hold one half."""
    return sum(not row[name][0] <= 0.5 <= row[name][1] for row in rows) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/null_pairs.json"))
    arguments = parser.parse_args()
    images, senders = photographs(arguments.data)
    fields = features(images)
    every = [row for number in range(arguments.pairs) for row in pair(number, fields, senders)]
    rows = [row for row in every if row["detector"] in FAST]
    share = excluding(rows, "interval")
    result = {
        "command": "make null_pairs DATA=FOLDER", "photographs": len(images), "senders": len(ids.unique(senders)),
        "pairs": arguments.pairs, "detectors": list(FAST), "excluding_one_half": round(share, 4),
        "excluding_one_half_by_rows": round(excluding(rows, "interval_by_rows"), 4),
        "by_detector": {name: round(excluding([row for row in rows if row["detector"] == name], "interval"), 4)
                        for name in FAST},
        "networks": [{name: row[name] for name in ("pair", "detector", "auc", "interval")}
                     for row in every if row["detector"] in NETWORKS],
        "effective_groups": round(min(row["groups"] for row in rows), 1), "holds": share <= MOST_SHARE,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
