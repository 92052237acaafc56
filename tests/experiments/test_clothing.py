"""Garments are made again from a checkout of their data set, and what is not ours is told."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_project import ROOT

from experiments import clothing

HEADER = "# somebody/clothes@0123\nname,split,group,domain,native_size,crop,sha256_pixels,mean_color\n"


def reduced(path: Path, turned: int, top: int, side: int) -> np.ndarray:
    """The square of a photograph that lies on its side, by other calls of Pillow than the module's."""
    with Image.open(path) as picture:
        upright = np.asarray(picture.convert("RGB").rotate(turned, expand=True))
    return np.asarray(Image.fromarray(upright[top : top + side, :side]).resize((64, 64), Image.Resampling.LANCZOS))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two photographs, the second stored on its side with EXIF, and the manifest of them."""
    folder = tmp_path / "checkout" / "images"
    folder.mkdir(parents=True)
    random = np.random.default_rng(3)
    smooth = [np.kron(random.integers(0, 256, (size[1] // 8, size[0] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
              for size in ((160, 240), (200, 120))]  # fmt: skip
    Image.fromarray(smooth[0]).save(folder / "one.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270 degrees counterclockwise to be upright
    Image.fromarray(smooth[1]).save(folder / "two.jpg", quality=90, exif=exif)
    one = reduced(folder / "one.jpg", 0, 40, 160)
    two = reduced(folder / "two.jpg", 270, 40, 120)
    lines = [HEADER]
    for name, pixels, native, crop in (("one", one, "160x240", "0 40 160"), ("two", two, "120x200", "0 40 120")):
        color = " ".join(f"{number:.2f}" for number in pixels.mean(axis=(0, 1)))
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        lines.append(f"{name},train,sender/{name},shirt,{native},{crop},{digest},{color}\n")
    (tmp_path / "list.csv").write_text("".join(lines))
    return tmp_path


def test_garments_are_ours_to_the_bit_and_listed(checkout: Path) -> None:
    assert clothing.make(checkout / "checkout", checkout / "out", checkout / "list.csv") == (2, 0, [])
    rows = list(csv.DictReader((checkout / "out" / "manifest.csv").read_text().splitlines()))
    assert [row["group"] for row in rows] == ["sender/one", "sender/two"]
    assert rows[0]["source"] == "somebody/clothes@0123:images/one.jpg"
    with zipfile.ZipFile(checkout / "out" / "images.zip") as archive:
        for row in rows:
            png = archive.read(row["file"])
            assert (hashlib.sha256(png).hexdigest(), len(png)) == (row["sha256"], int(row["size"]))
            assert Image.open(io.BytesIO(png)).size == (64, 64)


def test_another_decoder_is_counted_and_another_photograph_refused(checkout: Path) -> None:
    path = checkout / "checkout" / "images" / "one.jpg"
    with Image.open(path) as picture:
        picture.save(path, quality=85)
    assert clothing.make(checkout / "checkout", checkout / "out", checkout / "list.csv") == (1, 1, [])
    Image.new("RGB", (160, 240), (9, 9, 9)).save(path)
    (checkout / "checkout" / "images" / "two.jpg").unlink()
    equal, near, wrong = clothing.make(checkout / "checkout", checkout / "none", checkout / "list.csv")
    assert (equal, near) == (0, 0)
    assert wrong[0].startswith("images/one.jpg: has a mean color of [9.0, 9.0, 9.0], expected [")
    assert "No such file" in wrong[1]
    assert not (checkout / "none").exists()


def test_a_photograph_of_another_size_is_refused(checkout: Path) -> None:
    Image.new("RGB", (100, 240)).save(checkout / "checkout" / "images" / "one.jpg")
    _, _, wrong = clothing.make(checkout / "checkout", checkout / "none", checkout / "list.csv")
    assert wrong == ["images/one.jpg: is 100x240, expected 160x240"]


def test_a_folder_that_is_no_checkout_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.clothing", "--from", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} has no folder images; name a clone of the data set with --from\n"


def test_the_manifest_lists_each_photograph_once_and_divides_no_sender() -> None:
    source, listed = clothing.garments(clothing.MANIFEST)
    rows = [garment.row for garment in listed]
    assert source == "alexeygrigorev/clothing-dataset@7ed86a9cc567"
    assert len({row["name"] for row in rows}) == len(rows) == 4734
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    counts = [sum(row["split"] == split for row in rows) for split in ("train", "val", "test")]
    assert counts == [3296, 680, 758]
