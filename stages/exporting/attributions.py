"""ATTRIBUTION.csv: for each row its licence and whom to name; and how many rows each licence has."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from stages.exporting.contract import ATTRIBUTED, Given

FILE = "ATTRIBUTION.csv"
HEAD = ("id", "source", "file", "licence", *ATTRIBUTED)
NOT_STATED = "not stated"


def write_attributions(given: Given, folder: Path) -> Counter[str]:
    """Write the list; returns licence -> number of rows, the most frequent first, then by name."""
    counts: Counter[str] = Counter()
    with open(folder / FILE, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEAD)
        for positions in given.blocks(0):
            told = given.told(positions, HEAD)
            told["licence"] = [text or NOT_STATED for text in told["licence"]]
            table.writerows(zip(*(told[name] for name in HEAD), strict=True))
            counts.update(told["licence"])
    return Counter(dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))))
