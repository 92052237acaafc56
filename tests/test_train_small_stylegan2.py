"""The small training: no held-out photograph is used, a resumed run equals an uninterrupted one, files agree."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments import train_small_stylegan2 as training
from stages.generators import weights

ROOT = Path(__file__).parents[1]
FILES = {
    "grocery_0001.png": "dataset/train/Apple/Apple_001.jpg",
    "grocery_0002.png": "dataset/test/Apple/Apple_017.jpg",
    "grocery_0003.png": "dataset/test/Pear/Pear_001.jpg",
    "clothing_0001.png": "images/aa-bb_cc.jpg",
    "clothing_0002.png": "images/dd.jpg",
    "flowers_0001.png": "roses/1.jpg",
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photographs; Apple_017 is in val, a photograph with the bytes of clothing_0002 in test."""
    chance = np.random.default_rng(0)
    digests = {}
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "sha256", "original_path", "licence"])
        for name, original in FILES.items():
            Image.fromarray(chance.integers(0, 256, (128, 128, 3), np.uint8)).save(tmp_path / name)
            digests[name] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
            writer.writerow([name, digests[name], original, "CC0"])
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "sha256", "split", "group"])
        writer.writerow(["a", digests["grocery_0002.png"], "val", "grocery/Apple"])
        writer.writerow(["b", digests["clothing_0002.png"], "test", "clothing/another"])
        writer.writerow(["c", digests["clothing_0001.png"], "train", "clothing/aa-bb_cc"])
    return tmp_path


def test_no_photograph_of_a_held_out_group_is_trained_on(photos: Path) -> None:
    found = training.training_photos(photos, ["grocery", "clothing"], photos / "photos.csv")
    assert [photo.path.name for photo in found] == ["grocery_0003.png", "clothing_0001.png"]
    assert [photo.group for photo in found] == ["grocery/Pear", "clothing/aa-bb_cc"]
    assert training.load_images(found).shape == (2, 3, 64, 64)
    found[0].path.write_bytes(b"other")
    with pytest.raises(SystemExit, match="the sha256 differs"):
        training.load_images(found)
    with pytest.raises(SystemExit, match="no training photograph with a prefix of birds"):
        training.training_photos(photos, ["birds"], photos / "photos.csv")


def test_without_a_folder_the_train_split_of_the_project_is_used() -> None:
    found = training.shipped_photos(Path("manifests/photos.csv"))
    with Path("manifests/photos.csv").open(newline="") as file:
        expected = sum(row["split"] == "train" for row in csv.DictReader(file))
    assert len(found) == expected
    assert all(photo.path.is_file() for photo in found)


def test_groups_are_those_of_the_shipped_photographs() -> None:
    with (ROOT / "manifests" / "photos.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            original = row["source"].partition(":")[2]
            assert training.group_of(Path(row["file"]).name, original) == row["group"]


def test_a_resumed_run_equals_an_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(training, "RECIPE", training.Recipe(batch=4, r1_interval=2))
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = training.Training(images)
    losses = [whole.advance() for _ in range(3)]
    first = training.Training(images)
    first.advance()
    second = training.Training(images)
    second.restore(first.state())
    assert [second.advance() for _ in range(2)] == losses[1:]
    for found, expected in zip(second.average.parameters(), whole.average.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_augmentation_moves_colors_and_pixels_but_keeps_gradients() -> None:
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    changed = training.augment(x, torch.Generator().manual_seed(2))
    assert changed.shape == x.shape
    assert not torch.equal(changed[0], changed[1])
    blank = (changed == 0).all(dim=1).float().mean(dim=(1, 2))
    assert ((blank > 0.01) & (blank < 0.4)).all()  # cut out, or from beyond the border
    (gradient,) = torch.autograd.grad(changed.square().sum(), x)
    assert (gradient != 0).float().mean() > 0.6


def test_the_shipped_weights_are_those_of_their_manifest() -> None:
    entries: dict[str, Any] = yaml.safe_load((ROOT / "manifests" / "generators.yaml").read_text())
    entry = entries["stylegan2-raw"]
    path = ROOT / "manifests" / entry["file"]
    content = path.read_bytes()
    assert len(content) == entry["size"] <= 4_000_000
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert weights.read_header(path).resolution == entry["resolution"]
    assert (path.with_suffix(".png")).stat().st_size < 300_000
    assert (ROOT / "manifests" / entry["card"]).exists()
    weights.load(path)
