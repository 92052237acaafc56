"""Most predictive patches of pictures: chosen by a slow loop over cells, and what files and report say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import context, rows_of, union
from patch_detectors import trained
from PIL import Image

from detectors import cells, composed
from pipeline.errors import StageError
from pipeline.stage import PICTURE, Artifact, Field
from stages.evaluation.detector_file import load_detector
from stages.reporting import top_patches as section
from stages.reporting.section import Given
from stages.segmentation.classes import told
from stages.top_patches import TopPatches, TopPatchesConfig

SIDE, COUNT = 16, 4


def pictures() -> Any:
    random = np.random.default_rng(5)
    real, fake = (random.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2))
    parts = random.integers(0, 3, (2, COUNT, SIDE, SIDE)).astype(np.uint8)
    on = union(rows_of("photos", 0, {"image": real}, split="test"), rows_of("made", 1, {"image": fake}, split="test"))
    maps = union(
        rows_of("photos", 0, {"parts": parts[0]}, split="test"), rows_of("made", 1, {"parts": parts[1]}, split="test")
    )
    for part in maps.parts:
        part.schema["parts"] = Field("uint8", (SIDE, SIDE), told("a test", ("l_eye", "r_eye", "hair")))  # type: ignore[index]
    return on, maps


def made(folder: Path, on: Any, parts: Any, **given: Any) -> tuple[Path, Artifact]:
    model = trained(folder / "model", SIDE)
    ctx = context(folder, "top_patches", artifacts={"model": (model,)})
    TopPatches().fit(TopPatchesConfig(**given), {"on": on, "parts": parts}, ctx)
    return ctx.out, model


def test_the_best_patch_is_that_of_a_loop_over_the_cells(tmp_path: Path) -> None:
    on, parts = pictures()
    out, model = made(tmp_path, on, parts, most=3)
    results = json.loads((out / "results.json").read_text())
    detector: Any = load_detector(model.path)
    network = composed.loaded(detector.config, (SIDE, SIDE, 3), PICTURE, detector.state.tensors, "cpu")
    with torch.inference_mode():
        logits = network(torch.from_numpy(on.array("image"))).double().softmax(dim=1).numpy()
    with np.load(out / "patches.npz") as file:
        kept = {name: file[name] for name in file.files}
    size, stride, first = (results["geometry"][name][0] for name in ("size", "stride", "first"))
    for row in range(2 * COUNT):
        true = logits[row, int(on.column("label")[row])]
        cell = np.unravel_index(true.argmax(), true.shape)
        assert tuple(kept["cell"][row]) == cell
        assert kept["value"][row] == pytest.approx(true.max(), abs=1e-6)
        held = np.zeros(3)
        for y in range(max(0, cell[0] * stride + first), min(SIDE, cell[0] * stride + first + size)):
            for x in range(max(0, cell[1] * stride + first), min(SIDE, cell[1] * stride + first + size)):
                held[parts.array("parts")[row, y, x]] += 1
        shares = held / np.bincount(parts.array("parts")[row].ravel())
        names = results["classes"]
        assert names == ["eye", "hair"]  # both eyes are one
        assert names[kept["share"][row]] == ("eye", "eye", "hair")[shares.argmax()]
        assert names[kept["majority"][row]] == ("eye", "eye", "hair")[held.argmax()]
    best = np.argsort(-kept["value"][:COUNT], kind="stable")[:3]
    real = results["found"]["real"]
    assert real["images"] == 3
    for number, name in enumerate(results["classes"]):
        assert real["share"][name]["top"] == (kept["share"][best] == number).sum()
        assert real["share"][name]["expected"] == pytest.approx(kept["share_expected"][best, number].sum())
    assert real["boundary"]["top"] == pytest.approx(kept["boundary"][best].mean())
    sheets = sorted(out.glob("sheet-real-*.png"))
    shown = [number for number, name in enumerate(names) if real["share"][name]["top"]]
    assert [path.name for path in sheets] == [f"sheet-real-{number:02d}-{names[number]}.png" for number in shown]
    first_tile = np.asarray(Image.open(sheets[0]))[:size, :size]
    place = next(one for one in best.tolist() if kept["share"][one] == shown[0])
    top, left = (int(one) * stride + first for one in kept["cell"][place])
    padded = np.pad(on.array("image")[place], [(size, size), (size, size), (0, 0)])
    np.testing.assert_array_equal(first_tile, padded[top + size : top + 2 * size, left + size : left + 2 * size])


def test_the_report_shows_counts_beside_those_of_random_patches(tmp_path: Path) -> None:
    on, parts = pictures()
    out, _ = made(tmp_path, on, parts.take(np.arange(5)))
    (one,) = section.content(Given(None, [], [], {"top_patches": (Artifact("best", "0" * 32, out),)}))["top_patches"]
    assert "4 real pictures and 1 fake pictures; 3 without classes of pixels left out." in one["about"]
    assert {row[0] for row in one["rows"]} == {"real", "fake"}
    assert sum(int(row[2]) for row in one["rows"] if row[0] == "real") == 4
    assert one["by"] == "a test"
    assert all("by a test" in sheet["alt"] for sheet in one["sheets"])


def test_pictures_that_were_not_segmented_or_twice_are_refused(tmp_path: Path) -> None:
    on, parts = pictures()
    with pytest.raises(StageError, match="no row of 'on' has its parts in 'parts'; let segment see the same pictures"):
        made(tmp_path / "a", on, parts.take(np.arange(0)))
    with pytest.raises(StageError, match="of photos twice; name one node of 'segment', of the plain images"):
        made(tmp_path / "b", on, union(parts, parts))


def test_a_detector_of_whole_pictures_has_no_patches(tmp_path: Path) -> None:
    plain = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8, "stages": 1}
    detector: Any = load_detector(trained(tmp_path / "m", SIDE, network=plain, head={"kind": "logit"}).path)
    with pytest.raises(ValueError, match="it decides for a whole picture, not for its cells"):
        cells.seen(detector.config, detector.state, (SIDE, SIDE, 3))
