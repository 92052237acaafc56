"""The photographs of the embedded default, from an archive."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from pathlib import Path

import pytest
import yaml

from experiments import embed_garments

COLUMNS = [*embed_garments.COLUMNS, "more"]


def archive(folder: Path, licence: str = "CC0-1.0") -> list[dict[str, str]]:
    rows = []
    with zipfile.ZipFile(folder / "images.zip", "w") as made:
        for number in range(12):
            content, name = f"picture {number}".encode(), f"{number:02}.png"
            made.writestr(name, content)
            split = ("train", "val", "test")[number % 3]
            row = dict.fromkeys(COLUMNS, "") | {"file": name, "split": split, "group": f"sender/{number % 6}"}
            row["domain"] = ("hat", "skirt")[number // 6]
            rows.append(row | {"sha256": hashlib.sha256(content).hexdigest(), "licence": licence})
    write(folder, rows)
    return rows


def write(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_those_that_rank_first_are_taken_with_splits_and_senders(tmp_path: Path) -> None:
    rows, out = archive(tmp_path), tmp_path / "out"
    total = embed_garments.embed(tmp_path, out, {"train": 2, "test": 3})
    expected = []
    for split, count in (("train", 2), ("test", 3)):
        expected += sorted((row["sha256"], row["file"]) for row in rows if row["split"] == split)[:count]
    with (out / "garments.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["sha256"] for row in found] == [sha256 for sha256, _ in sorted(expected, key=lambda one: one[1])]
    assert total == sum(len((out / row["file"]).read_bytes()) for row in found)
    numbers = {"hat": 0, "skirt": 0}
    for row in found:
        source = next(one for one in rows if one["sha256"] == row["sha256"])
        numbers[source["domain"]] += 1
        name = f"garments/{source['domain']}_{numbers[source['domain']]:03}.png"
        assert row == {**{name: source[name] for name in embed_garments.COLUMNS}, "file": name}
        assert hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    about = yaml.safe_load((out / "garments.yaml").read_text())
    assert about["rows"] == "garments.csv"
    senders = len({row["group"] for row in found})
    assert about["description"].startswith("5 photographs of single garments for the embedded example, 64 x 64 pixels")
    assert f"by {senders} senders." in about["description"]


def test_too_few_other_licences_and_other_files_are_refused(tmp_path: Path) -> None:
    rows = archive(tmp_path)
    with pytest.raises(SystemExit, match="split val has 4 photographs, 5 are wanted"):
        embed_garments.embed(tmp_path, tmp_path / "out", {"val": 5})
    write(tmp_path, [row | {"licence": "MIT"} for row in rows])
    with pytest.raises(SystemExit, match=r"photographs of the licence MIT are not embedded, CC0-1\.0 alone is"):
        embed_garments.embed(tmp_path, tmp_path / "out", {"val": 1})
    write(tmp_path, [row | {"sha256": "0" * 64} for row in rows])
    with pytest.raises(SystemExit, match=r"0\d\.png of images\.zip is not the file that manifest\.csv names"):
        embed_garments.embed(tmp_path, tmp_path / "out", {"val": 1})
