"""Re-synthesizers that are published with their perceptual network: all of them, or none."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_resynthesizers import SHORT, perceptual_network
from toy_project import Project

from experiments import publish_resynthesizers
from experiments.publish_resynthesizers import NODES
from stages.resynthesis import perceptual, weights
from stages.resynthesis.reconstruction import Reconstruction

ROOT = Path(__file__).parents[2]
PIPELINE = """
nodes:
  photos: {{stage: "test_train_resynthesizer:Pictures"}}
  pixels: {{stage: train_resynthesizer, on: photos, {settings}, size: tiny}}
  SR: {{stage: train_resynthesizer, on: photos, checkpoint: pixels, task: SR, {settings}, {loss}}}
  SR_C: {{stage: train_resynthesizer, on: photos, checkpoint: SR, task: SR+C, {settings}, {loss}}}
  SR_D: {{stage: train_resynthesizer, on: photos, checkpoint: SR, task: SR+D, {settings}, {loss}}}
"""
LOSS = "perceptual: networks.yaml#perceptual-tiny, perceptual_weight: 0.2"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A pipeline like garments.yaml, with trainings of a few steps."""
    settings = ", ".join(f"{key}: {value}" for key, value in SHORT.items() if key != "size")
    project = Project(tmp_path, monkeypatch, PIPELINE.format(settings=settings, loss=LOSS))
    file = perceptual_network(tmp_path).rename(tmp_path / "perceptual-tiny.safetensors")
    (tmp_path / "perceptual-tiny.json").write_text('{"figures": {"chance": 0.5}}\n')
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = {"network": "perceptual", "file": file.name, "sha256": digest, "licence": "L", "origin": "O"}
    (tmp_path / "networks.yaml").write_text(yaml.safe_dump({"perceptual-tiny": entry}))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "stages"))
    return project


def publish(made: Project, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    """Entries of the manifest, after publishing beside another one."""
    manifest = made.folder / "published.yaml"
    manifest.write_text("vgg19: {network: perceptual}\n")
    places = ["--out", str(made.folder / "weights"), "--manifest", str(manifest)]
    monkeypatch.setattr(sys, "argv", ["publish_resynthesizers", "--file", str(made.file), *places, *more])
    publish_resynthesizers.main()
    return yaml.safe_load(manifest.read_text())


def trained(made: Project) -> dict[str, Path]:
    artifacts = made.plan().artifacts
    return {name: found.path for name in NODES.values() if (found := artifacts[name].found) is not None}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Task -> PSNR that trainings of a few steps do not reach, in their place; that of bicubic enlargement is 29."""
    found = {"SR": 30.004, "SR+C": 29.5, "SR+D": 29.5}
    monkeypatch.setattr(Reconstruction, "fidelity", lambda self, task: {"psnr": found[task], "psnr_bicubic": 29.0})
    return found


def test_all_are_published_with_cards_or_none(
    made: Project, reached: dict[str, float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made.run("SR")
    with pytest.raises(SystemExit, match=r"^SR_C, SR_D: not trained yet; all are published, or none$"):
        publish(made, monkeypatch)
    made.run()
    places = trained(made)
    assert set(places) == set(NODES.values())
    refused = (
        ("SR", 29.0, 1, r"SR has a PSNR of 29\.00 dB, bicubic enlargement 29\.00 dB; train it longer"),
        ("SR+D", 28.0, 2, r"SR\+D has a PSNR of degraded images of 28\.00 dB, bicubic enlargement 29\.00 dB; train it"),
    )
    for task, psnr, seed, told in refused:
        change = f"nodes.{NODES[task]}.seed={seed}"
        with monkeypatch.context() as patch:
            patch.setitem(reached, task, psnr)
            made.run(overrides=(change,))
        with monkeypatch.context() as patch, pytest.raises(SystemExit, match=f"^rdn-small-{told}"):
            publish(made, patch, "--set", change)
    assert not (made.folder / "weights").exists()
    entries = publish(made, monkeypatch)
    assert list(entries) == ["vgg19", "perceptual-tiny", *(f"rdn-small-{task}" for task in NODES)]
    assert "rdn-small-SR+D: " in capsys.readouterr().out
    for task, node in NODES.items():
        check(made, entries[f"rdn-small-{task}"], task, places[node])
    card = json.loads((made.folder / entries["rdn-small-SR+D"]["card"]).read_text())
    assert card["files"]["perceptual"]["sha256"] == entries["perceptual-tiny"]["sha256"]
    assert card["files"]["checkpoint"]["sha256"] == entries["rdn-small-SR"]["sha256"]
    assert [line.partition(":")[0] for line in card["course"]] == ["pixels", "SR", "SR_D"]
    assert entries["perceptual-tiny"]["licence"] == "L"
    perceptual.load(made.folder / entries["perceptual-tiny"]["file"], "cpu")
    told = (made.folder / entries["perceptual-tiny"]["card"]).read_bytes()
    assert told == (made.folder / "perceptual-tiny.json").read_bytes()


def check(made: Project, entry: dict[str, Any], task: str, place: Path) -> None:
    """An entry, its file and its card beside the artifact."""
    content = (made.folder / entry["file"]).read_bytes()
    assert content == (place / weights.FILE).read_bytes()
    assert (entry["sha256"], entry["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (entry["psnr"], entry["psnr_bicubic"], entry["task"]) == (30.0, 29.0, task)
    assert weights.read_header(made.folder / entry["file"]).task == task
    card = json.loads((made.folder / entry["card"]).read_text())
    assert card["figures"].items() >= {"psnr": 30.004, "psnr_bicubic": 29.0}.items()
    assert card["origin"] == entry["origin"] == "experiments/pipeline.yaml"
    assert card["licence"] == entry["licence"] == "Apache-2.0; trained on CC0-1.0 photographs"
    assert "of training senders alone; `figures` are of senders of the val split" in card["data"]
    assert card["note"].endswith("It is no evidence about detectors.")
    assert card["loss"].endswith("of the perceptual stages of perceptual-tiny.safetensors.")


def test_losses_of_several_perceptual_networks_are_refused(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    other = made.folder / "other.safetensors"
    other.write_bytes((made.folder / "perceptual-tiny.safetensors").read_bytes())
    monkeypatch.setattr(publish_resynthesizers, "artifacts", lambda pipeline: {})
    with pytest.raises(SystemExit, match=r"nodes\.SR\.perceptual names nowhere, but"):
        publish(made, monkeypatch, "--set", "nodes.SR.perceptual=nowhere")
    changes = [f"nodes.{name}.perceptual={other.name}" for name in NODES.values()]
    for count in (1, 3):
        options = [part for change in changes[-count:] for part in ("--set", change)]
        with pytest.raises(SystemExit, match=r"^SR, SR_C, SR_D: expected the same entry of a manifest as their"):
            publish(made, monkeypatch, *options)
