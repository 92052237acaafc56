"""The embedded re-synthesizers: files, cards, and that they enlarge held-out photographs better than bicubic does."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from experiments.publish_resynthesizers import NODES, resynthesizer
from stages.resynthesis import weights
from stages.training.networks import prepare

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
ENTRIES: dict[str, Any] = yaml.safe_load((MANIFESTS / "networks.yaml").read_text())
TASKS = ("SR", "SR+C", "SR+D")
TOLD = {
    "config",
    "course",
    "data",
    "data_fingerprint",
    "device",
    "figures",
    "files",
    "licence",
    "loss",
    "note",
    "origin",
}
HELD_OUT = 24


@pytest.fixture(scope="module")
def photographs() -> np.ndarray[Any, Any]:
    """Held-out photographs at 64 pixels, (n, 64, 64, 3), every third of the val split."""
    with (MANIFESTS / "garments.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == "val"][::3][:HELD_OUT]
    assert len(names) == HELD_OUT
    return np.stack([np.asarray(Image.open(MANIFESTS / name).convert("RGB")) for name in names])


def psnr(made: np.ndarray[Any, Any], images: np.ndarray[Any, Any]) -> float:
    """Mean over images, of values 0..1 as bytes."""
    squares = ((np.clip(np.rint(made * 255), 0, 255) - images) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / squares)))


def enlarged(plane: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    image = Image.fromarray(np.ascontiguousarray(plane), mode="F")
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("task", TASKS)
def test_each_file_is_the_one_of_its_entry_small_and_told_about(task: str) -> None:
    entry = ENTRIES[f"rdn-small-{task}"]
    content = (MANIFESTS / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(content) == entry["size"] <= 2_000_000
    header = weights.read_header(MANIFESTS / entry["file"])
    assert (header.size, header.task, entry["task"], entry["network"]) == ("small", task, task, "rdn")
    card = json.loads((MANIFESTS / entry["card"]).read_text())
    assert set(card) >= TOLD
    assert (card["parameters"], card["task"], card["size"]) == (336_451, task, "small")
    assert card["files"]["perceptual"]["sha256"] == ENTRIES["perceptual-small"]["sha256"]
    if task != "SR":
        assert card["files"]["checkpoint"]["sha256"] == ENTRIES["rdn-small-SR"]["sha256"]
    assert len(card["course"]) == (2 if task == "SR" else 3)
    figures = card["figures"]
    assert figures["psnr"] > figures["psnr_bicubic"]
    assert (entry["psnr"], entry["psnr_bicubic"]) == tuple(round(figures[k], 2) for k in ("psnr", "psnr_bicubic"))
    if task != "SR":
        assert figures["psnr_degraded"] > figures["psnr_bicubic_degraded"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.jobs
def test_held_out_photographs_are_enlarged_better_than_by_bicubic(task: str, photographs: np.ndarray[Any, Any]) -> None:
    prepare("cpu", 1)
    network = weights.load(MANIFESTS / ENTRIES[f"rdn-small-{task}"]["file"], "cpu")
    n, side = photographs.shape[:2]
    reduced = photographs.reshape(n, side // 4, 4, side // 4, 4, 3).mean(axis=(2, 4)).astype(np.float32) / 255
    with torch.no_grad():
        made = [network(torch.from_numpy(one).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy() for one in reduced]
    bicubic = [np.stack([enlarged(one[..., c], side) for c in range(3)], axis=-1) for one in reduced]
    assert psnr(np.stack(made), photographs) > psnr(np.stack(bicubic), photographs) + 0.2


def test_the_experiment_trains_each_of_them() -> None:
    (origin,) = {ENTRIES[f"rdn-small-{task}"]["origin"] for task in TASKS}
    nodes = yaml.safe_load((ROOT / origin).read_text())["nodes"]
    told = {
        entry: json.loads((MANIFESTS / ENTRIES[f"rdn-small-{entry}"]["card"]).read_text())["config"] for entry in TASKS
    }
    for task, name in NODES.items():
        assert {key: told[task][key] for key in nodes[name].keys() & told[task].keys()} == {
            key: value for key, value in nodes[name].items() if key in told[task]
        }
    assert {nodes[name]["task"]: name for name in NODES.values()} == NODES
    assert all(nodes[name]["stage"] == "train_resynthesizer" for name in NODES.values())


def test_what_is_not_above_bicubic_is_not_published(tmp_path: Path) -> None:
    entry = ENTRIES["rdn-small-SR"]
    card = json.loads((MANIFESTS / entry["card"]).read_text())
    (tmp_path / weights.FILE).write_bytes((MANIFESTS / entry["file"]).read_bytes())
    (tmp_path / "card.json").write_text(json.dumps(card))
    made = resynthesizer(tmp_path, "SR", card["course"], entry["origin"])
    assert {**made.entry("weights"), "licence": entry["licence"]} == entry
    told = json.loads(made.card)
    assert {**told, "data": card["data"], "licence": card["licence"]} == card
    card["figures"]["psnr"] = card["figures"]["psnr_bicubic"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        SystemExit, match=r"^rdn-small-SR has a PSNR of .* dB, bicubic enlargement .*; train it longer$"
    ):
        resynthesizer(tmp_path, "SR", [], entry["origin"])
