"""The perceptual network of garments: what it learns from, and what it is measured on."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torch.nn import functional

from experiments import train_perceptual
from experiments.train_perceptual import Photographs, batches
from stages.resynthesis import perceptual

COLUMNS = ("file", "sha256", "split", "group")
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "val"}
GROUPS = "abcdaeaba"
"""Group of each photograph; number i has the value 20 i in its upper left pixel."""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = []
    for number, group in enumerate(GROUPS):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        pixels[0, 0] = 20 * number
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        rows.append([path.name, hashlib.sha256(path.read_bytes()).hexdigest(), SPLITS[group], group])
        if SPLITS[group] == "test":
            path.unlink()  # nobody reads it
    return write(tmp_path / "photos.csv", rows)


def write(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_the_splits_say_what_is_learned_from_and_what_is_measured(manifest: Path) -> None:
    found = Photographs(manifest, 16)
    marks = found.images[:, 0, 0, 0].numpy() // 20
    assert [[marks[number] for number in group] for group in found.train] == [[0, 4, 6, 8], [1, 7]]
    assert [[marks[number] for number in group] for group in found.held_out] == [[2], [5]]
    learned = sorted(row[1] for row in read(manifest) if row[2] == "train")
    assert found.fingerprint == hashlib.sha256("\n".join(learned).encode()).hexdigest()[:32]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_manifest_without_a_split_is_refused(split: str, manifest: Path) -> None:
    write(manifest, [row for row in read(manifest) if row[2] != split])
    with pytest.raises(SystemExit, match=f"has no photograph of the split {split}; name one with splits"):
        Photographs(manifest, 16)


def test_a_sender_of_two_splits_another_file_and_a_large_crop_are_refused(manifest: Path) -> None:
    with pytest.raises(SystemExit, match="--crop is 33, but the photographs have 32 pixels"):
        Photographs(manifest, 33)
    rows = read(manifest)
    write(manifest, [[*row[:2], "val" if row[0] == "8.png" else row[2], row[3]] for row in rows])
    with pytest.raises(SystemExit, match="a is in train and in val; a group has one split"):
        Photographs(manifest, 16)
    write(manifest, [[row[0], "0" * 64 if row[0] == "5.png" else row[1], *row[2:]] for row in rows])
    with pytest.raises(SystemExit, match=r"5\.png is not what its line says"):
        Photographs(manifest, 16)


def test_all_photographs_of_a_sender_come_before_any_comes_again() -> None:
    groups = [[0, 1, 2], [3], [4, 5, 6, 7, 8, 9, 10]]
    drawn: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for batch in islice(batches(groups, 2, np.random.default_rng(0)), 60):
        senders = [next(place for place, group in enumerate(groups) if number in group) for number in batch]
        assert len(set(senders)) == len(batch) == 2
        for sender, number in zip(senders, batch, strict=True):
            drawn[sender].append(number)
    assert all(len(numbers) > 25 for numbers in drawn.values())  # 40 each, were it even
    for place, group in enumerate(groups):
        numbers, size = drawn[place], len(group)
        rounds = [numbers[start : start + size] for start in range(0, len(numbers) - size + 1, size)]
        assert all(sorted(one) == group for one in rounds)
    assert len(next(batches(groups, 48, np.random.default_rng(0)))) == 3


def test_a_training_is_entered_with_a_card_and_all_stages_have_the_unit_of_the_pixels(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = tmp_path / "networks.yaml"
    networks.write_text("other: {network: rdn}\n")
    arguments = ["--crop", "16", "--steps", "10", "--batch", "2", "--photos", str(manifest)]
    places = ["--out", str(tmp_path / "weights"), "--manifest", str(networks)]
    monkeypatch.setattr(sys, "argv", ["train_perceptual", *arguments, *places])
    train_perceptual.main()
    entries = yaml.safe_load(networks.read_text())
    assert entries["other"] == {"network": "rdn"}
    entry = entries["perceptual-small"]
    content = (tmp_path / entry["file"]).read_bytes()
    assert (entry["sha256"], entry["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    card = json.loads((tmp_path / entry["card"]).read_text())
    assert card["photographs"] == {"train": 6, "held out": 2}
    assert (card["figures"]["groups"], card["figures"]["chance"], card["recipe"]["crop"]) == (2, 0.5, 16)
    assert card["licence"] == entry["licence"] == "Apache-2.0; trained on CC0-1.0 photographs"
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{") :]) == card["figures"]
    found = Photographs(manifest, 16)
    images = found.images[[group[0] for group in found.train]].float() / 255
    rebuilt = functional.interpolate(functional.avg_pool2d(images, 4), scale_factor=4, mode="bicubic")
    network = perceptual.load(tmp_path / entry["file"], "cpu")
    pair = [network.stages(each, range(1, 6)) for each in (rebuilt, images)]
    for stage in range(1, 6):
        residual = (pair[0][stage] - pair[1][stage]).abs().mean()
        assert float(residual) == pytest.approx(float((rebuilt - images).abs().mean()), rel=1e-4)
