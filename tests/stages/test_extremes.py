"""Easiest and hardest images, mean maps, and maps of one latent: recomputed from the network itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import MemoryRows, context, rows_of, union
from patch_detectors import trained
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from detectors import composed
from pipeline.errors import StageError
from pipeline.stage import PICTURE, Artifact
from stages.evaluation.detector_file import load_detector
from stages.evaluation.detector_maps import CONTRIBUTION, DetectorMaps, overlaid
from stages.extremes import Extremes, ExtremesConfig
from stages.reporting import extremes as section
from stages.reporting.section import Given

SIDE, COUNT = 16, 6


def pictures() -> MemoryRows:
    random = np.random.default_rng(8)
    parts = [random.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8) for _ in range(3)]
    raw, finetuned = (
        rows_of(name, 1, {"image": part}, split="test") for name, part in (("raw", parts[1]), ("R", parts[2]))
    )
    finetuned.ids = raw.ids  # made of the same latents
    return union(rows_of("photos", 0, {"image": parts[0]}, split="test"), raw, finetuned)


def probabilities(model: Artifact, rows: MemoryRows) -> np.ndarray[Any, Any]:
    detector: Any = load_detector(model.path)
    network = composed.loaded(detector.config, (SIDE, SIDE, 3), PICTURE, detector.state.tensors, "cpu")
    with torch.inference_mode():
        return network(torch.from_numpy(rows.array("image"))).double().softmax(dim=1).numpy()[:, 1]


def made(
    folder: Path, rows: MemoryRows, images: MemoryRows, threshold: float = 0.5, **given: Any
) -> tuple[Path, Artifact]:
    model = trained(folder / "model", SIDE, threshold)
    ctx = context(folder, "extremes", artifacts={"model": (model,)})
    Extremes().fit(ExtremesConfig(**given), {"on": rows, "images": images}, ctx)
    return ctx.out, model


def test_the_most_confident_right_images_and_the_mean_of_their_maps(tmp_path: Path) -> None:
    rows = pictures()
    maps = probabilities(trained(tmp_path / "first", SIDE), rows)
    scores, labels = maps.mean(axis=(1, 2)), rows.column("label")
    limit = float(np.median(scores)) + 1e-6
    out, _ = made(tmp_path, rows, rows, limit, count=4, shown=2)
    results = json.loads((out / "extremes.json").read_text())
    means = {}
    for label, kind in ((0, "real"), (1, "fake")):
        mine = np.flatnonzero(labels == label)
        sure = sorted(mine.tolist(), key=lambda row: (-scores[row] if label else scores[row], bytes(rows.ids[row])))
        right = [row for row in sure if (scores[row] >= limit) == bool(label)]
        found = results["classes"][kind]
        assert (found["rows"], found["right"]) == (len(mine), len(right))
        assert found["easiest"]["ids"] == [bytes(rows.ids[row]).hex() for row in right[:4]]
        assert found["hardest"]["ids"] == [bytes(rows.ids[row]).hex() for row in sure[::-1][:4]]
        assert found["easiest"]["count"] == min(4, len(right))
        assert 0 < len(right) < len(mine)
        means[kind] = maps[right[:4]].mean(axis=0)
    with np.load(out / "maps.npz") as file:
        kept = {name: file[name] for name in file.files}
    for kind, mean in means.items():
        assert kept[kind] == pytest.approx(mean, abs=1e-6)
    whole = gaussian_filter((1 + means["fake"] - means["real"]) / 2, 2.0)
    wanted = (whole - whole.min()) / np.ptp(whole) if np.ptp(whole) > 1e-3 else whole
    assert kept["combined"] == pytest.approx(wanted, abs=1e-4)
    (shown,) = section.content(Given(None, [], [], {"extremes": (Artifact("look", "0" * 32, out),)}))["extremes"]
    assert "probability of fake of each cell; " in shown["about"]
    assert shown["latents"] is not None


def test_maps_of_one_latent_are_compared_by_their_ranks(tmp_path: Path) -> None:
    rows = pictures()
    out, model = made(tmp_path, rows, rows, count=100, latents=2)
    maps = probabilities(model, rows)
    values = [spearmanr(maps[COUNT + n].ravel(), maps[2 * COUNT + n].ravel()).statistic for n in range(COUNT)]
    (line,) = json.loads((out / "extremes.json").read_text())["latents"]
    assert line["sources"] == ["R", "raw"]
    assert line["latents"] == COUNT
    assert line["spearman"] == pytest.approx(np.mean(values), abs=1e-9)
    assert line["interval"][0] < line["spearman"] < line["interval"][1]
    sheet = np.asarray(Image.open(out / "latents.png"))
    assert sheet.shape == (2 * SIDE + 2, 2 * SIDE + 2, 3)
    first = min(range(COUNT), key=lambda n: bytes(rows.ids[COUNT + n]))
    one = maps[2 * COUNT + first]
    picture = rows.array("image")[2 * COUNT + first]
    wanted = overlaid(picture, (one - one.min()) / np.ptp(one) if np.ptp(one) > 1e-3 else one)
    np.testing.assert_allclose(sheet[:SIDE, :SIDE].astype(int), wanted, atol=1)


def test_an_overlay_is_half_picture_and_half_color() -> None:
    picture = np.full((2, 2, 3), 100, np.uint8)
    assert overlaid(picture, np.ones((1, 1)))[0, 0].tolist() == [160, 65, 65]
    assert overlaid(picture, np.zeros((1, 1)))[1, 1].tolist() == [65, 90, 160]


def test_pictures_of_reals_are_blurred_on_demand(tmp_path: Path) -> None:
    rows = pictures()
    plain, _ = made(tmp_path / "a", rows, rows)
    blurred, _ = made(tmp_path / "b", rows, rows, blur_reals=True)
    for name, same in (("hardest-real.png", False), ("hardest-fake.png", True)):
        assert ((plain / name).read_bytes() == (blurred / name).read_bytes()) is same


def test_detectors_without_places_and_rows_without_images_are_refused(tmp_path: Path) -> None:
    rows = pictures()
    with pytest.raises(StageError, match=r"'images' lacks .*; name the node that 'on' was made of"):
        made(tmp_path, rows, rows.take(np.arange(0)))
    network = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1}
    whole = load_detector(trained(tmp_path / "m", SIDE, network=network, head={"kind": "logit"}).path)
    assert DetectorMaps.of(whole).meaning == CONTRIBUTION
