"""Photographs that a re-synthesizer gives back, against loops and `residual`; AutoGAN's are in `test_autogan`."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy_photos import expanded, identity, photo
from toy_project import Project

from pipeline.errors import ConfigError, StageError
from pipeline.open import open_node
from pipeline.planning.closure import closure
from pipeline.stage import Artifact, Batch, Context, Field, Promise
from stages.residual import Residual, ResidualConfig
from stages.resynthesis import weights
from stages.resynthesis.rdn import RDN
from stages.simulate import Simulate, SimulateConfig

PHOTOS = np.stack([photo(identity(number))[:16, :24] for number in range(5)])


def saved(path: Path, task: str = "SR", seed: int = 0) -> Path:
    """A re-synthesizer of random weights whose images are gray, with contrasts from black to white."""
    torch.manual_seed(seed)
    state = RDN(4, 4, 1, 1).state_dict()
    tensors = {name: value.numpy() * (1.5 if name.endswith("weight") else 1) for name, value in state.items()}
    tensors["output.bias"] = tensors["output.bias"] + np.float32(0.5)
    if path.suffix == ".pth":
        torch.save({"state_dict": {name: torch.from_numpy(value) for name, value in tensors.items()}}, path)
    else:
        weights.save(path, weights.Architecture(4, 4, 1, 1), task, tensors)
    return path


def simulated(path: Path, images: NDArray[np.uint8], **settings: Any) -> NDArray[np.uint8]:
    batch = Batch(np.zeros(len(images), "V16"), inputs=({"image": images},))
    context = Context(0, "simulate", files={"checkpoint": path})
    return Simulate().compute(SimulateConfig(checkpoint="given", **settings), batch, context)["image"]


@pytest.mark.parametrize("name", ["rdn.safetensors", "rdn.pth"])
def test_an_image_is_rebuilt_of_block_means_and_rounded_whatever_its_neighbors(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    means = np.zeros((3, 4, 6), np.float32)
    for color, row, column in np.ndindex(means.shape):
        block = PHOTOS[3, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4, color]
        means[color, row, column] = sum(block.reshape(16).tolist()) / 16 / 255
    made = weights.load(path, "cpu")(torch.from_numpy(means)[None])[0].numpy()
    expected = np.zeros((16, 24, 3), int)
    for row, column, color in np.ndindex(expected.shape):
        expected[row, column, color] = min(max(round(float(made[color, row, column]) * 255), 0), 255)
    found = simulated(path, PHOTOS)
    assert np.abs(found[3] - expected).max() <= 1  # where another order of additions crosses a half
    assert (found[3] != expected).mean() < 0.01
    assert len(np.unique(expected)) > 100
    assert np.array_equal(simulated(path, PHOTOS[[3, 0]]), found[[3, 0]])


@pytest.mark.parametrize("task", ["SR", "SR+C", "SR+D", "SR+C+D"])
def test_its_difference_to_the_photograph_is_the_residual_of_pixels(tmp_path: Path, task: str) -> None:
    path = saved(tmp_path / "rdn.safetensors", task)
    batch = Batch(np.zeros(len(PHOTOS), "V16"), inputs=({"image": PHOTOS},))
    fields = Residual().compute(ResidualConfig(model="given"), batch, Context(0, "r", files={"model": path}))
    residual = fields["residual_pixel"].astype(float).transpose(0, 2, 3, 1)
    image = simulated(path, PHOTOS)
    difference = np.abs(image / 255 - PHOTOS / 255)
    close = 0.5 / 255 + residual * 2.0**-11 + 1e-6  # half a level of 8 bits, half a unit of float16
    inside = (image > 0) & (image < 255)
    assert (np.abs(difference - residual) <= close)[inside].all()
    assert (difference <= residual + close).all()  # clipping only brings it nearer
    assert 0.5 < inside.mean() < 0.99


PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 6, splits: [train, val]}
  given: {stage: simulate, of: photos, checkpoint: "networks.yaml#small"}
  SR: {stage: train_resynthesizer, on: photos, size: tiny, patch: 16, kimg: 0.002, batch: 2}
  trained: {stage: simulate, of: photos, checkpoint: SR}
"""


def test_a_fake_has_group_split_and_domain_of_its_photograph_and_is_of_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "rdn.safetensors")
    digest = sha256(path.read_bytes()).hexdigest()
    (tmp_path / "networks.yaml").write_text(f"small: {{network: rdn, file: {path.name}, sha256: {digest}}}\n")
    made = Project(tmp_path, monkeypatch, PIPELINE)
    assert made.run("given").computed == {"photos": 6, "given": 6}
    photos, fakes = (open_node(made.file, node) for node in ("photos", "given"))
    order = [fakes.ids.tolist().index(expanded(bytes(row), index=0)) for row in photos.ids]
    assert np.array_equal(fakes.array("image")[order], simulated(path, photos.array("image")))
    assert fakes.column("label").tolist() == [1] * 6
    for column in ("group", "split", "domain"):
        assert photos.column(column).tolist() == fakes.column(column)[order].tolist()
    saved(tmp_path / "other.safetensors", seed=1)
    made.replace("networks.yaml#small", "other.safetensors")
    assert made.run("given").computed == {"given": 6}


def test_a_training_node_is_known_before_and_found_after_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / weights.FILE)
    made = Project(tmp_path, monkeypatch, PIPELINE.replace("networks.yaml#small", weights.FILE))
    fields = [branch.schema for branch in made.plan().all_branches() if branch.node == "trained"]
    assert [field["image"].shape for field in fields] == [(32, 32, 3)]
    context = Context(0, "simulate", artifacts={"checkpoint": (Artifact("SR", "0" * 32, tmp_path),)})
    batch = Batch(np.zeros(len(PHOTOS), "V16"), inputs=({"image": PHOTOS},))
    found = Simulate().compute(SimulateConfig(checkpoint="SR"), batch, context)["image"]
    assert np.array_equal(found, simulated(tmp_path / weights.FILE, PHOTOS))


def test_the_code_of_the_network_that_is_used_is_in_the_recipe_and_no_other(tmp_path: Path) -> None:
    def code(checkpoint: Path | Promise) -> set[str]:
        given: Any = {"checkpoint": checkpoint}
        return set(closure(("stages.simulate", *Simulate().modules(SimulateConfig(checkpoint="c"), given))))

    of = {f"stages.resynthesis.{name}" for name in ("weights", "rdn", "rebuilding", "downsampling", "fidelity")}
    assert of <= code(saved(tmp_path / "rdn.safetensors"))
    assert of <= code(Promise("SR", weights.promised(weights.SIZES["tiny"], "SR")))
    assert of | {"stages.resynthesis.published"} <= code(saved(tmp_path / "rdn.pth"))
    assert not of & code(Promise("auto", {"family": "autogan"}))


def test_what_does_not_fit_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "rdn.safetensors")
    fields: Any = {"of": {"image": Field("uint8", (30, 32, 3))}, "checkpoint": path}
    sentence = "the images of 'of' have 30 x 32 px, and a re-synthesizer needs multiples of 4; put equalize with"
    with pytest.raises(ValueError, match=f"^simulate: {sentence}"):
        Simulate().schema(SimulateConfig(checkpoint="given"), fields)
    text = """nodes:
      n: {stage: "toy:Numbers"}
      m: {stage: "toy:Mean", on: n}
      fakes: {stage: simulate, of: n, checkpoint: m}
    """
    sentence = "names 'm', a node of the stage 'mean'; expected 'train_generator' or 'finetune_generator' or 'train_res"
    with pytest.raises(ConfigError, match=rf"fakes\.checkpoint {sentence}"):
        Project(tmp_path, monkeypatch, text).load()
    path.write_bytes(path.read_bytes().replace(b'\\"SR\\"', b'\\"XX\\"'))
    with pytest.raises(ValueError, match="its task is 'XX'; expected SR, "):
        Simulate().check(SimulateConfig(checkpoint="given"), {"checkpoint": path})
    broken = saved(tmp_path / "broken.pth")
    state = torch.load(broken)["state_dict"]
    state["output.weight"] *= 1e38
    torch.save(state, broken)
    with pytest.raises(StageError, match=r"broken\.pth makes values that are not finite; its weights are unusable"):
        simulated(broken, PHOTOS)
