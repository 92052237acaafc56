"""Unpacking the garments that generators and re-synthesizers are trained on."""

from __future__ import annotations

import csv
import sys
import zipfile
from pathlib import Path

import pytest

from experiments import garments


def test_all_rows_are_unpacked_into_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [*garments.COLUMNS, "more"]
    rows = [
        dict.fromkeys(columns, "x") | {"file": f"{number}.png", "split": split}
        for number, split in enumerate(("train", "val", "test", "train"))
    ]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for row in rows:
            archive.writestr(row["file"], f"picture {row['file']}")
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["garments", "--data", str(tmp_path), "--out", str(out)])
    garments.main()
    with (out / "photos.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{name: row[name] for name in garments.COLUMNS} | {"file": f"images/{row['file']}"} for row in rows]
    assert [(out / row["file"]).read_text() for row in found] == [f"picture {row['file']}" for row in rows]
    assert sorted(path.name for path in out.iterdir()) == ["images", "photos.csv"]
