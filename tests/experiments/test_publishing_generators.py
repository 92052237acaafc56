"""Trainings that are taken up at any length, and what a card tells of photographs that no training has seen."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import context
from PIL import Image
from small_games import photos, settings_of
from toy_project import Project

from detectors.contract import State
from experiments import publish_generators, quality, take_up
from experiments.quality import Photographs, Seen
from pipeline.errors import Interrupted, TouchstoneError
from stages.generators import generator_metrics, progan, weights
from stages.generators.held_out_metrics import Gain
from stages.train_generator import TrainGenerator, TrainGeneratorConfig
from stages.training import progress

PIPELINE = """
nodes:
  photos: {{stage: "small_photos:Photos"}}
  generator: {{stage: train_generator, on: photos, recipe: {recipe}, pictures: 2}}
"""
SMALL_PHOTOS = """
import numpy as np
from pipeline.stage import Field, Kind, SourceRows, Stage, StageConfig

class Photos(Stage):
    name, kind, Config = "photos", Kind.SOURCE, StageConfig

    def schema(self, config, inputs):
        return {"image": Field("uint8", (8, 8, 3))}

    def discover(self, config, scan):
        ids = np.frombuffer(b"".join(number.to_bytes(16, "little") for number in range(5)), "V16")
        return SourceRows(ids, 0, None, ["train"] * 4 + ["test"])

    def compute(self, config, batch, ctx):
        return {"image": np.full((len(batch.ids), 8, 8, 3), 90, np.uint8)}
"""


def recipe(**more: Any) -> dict[str, Any]:
    return settings_of("progan", **{"kimg": 0.012, "grow_kimg": 0.0, "fade_kimg": 0.0, **more})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Scratch of a training of forty images that was stopped after twelve."""
    given = TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": recipe(kimg=0.04), "pictures": 2}))
    asked = iter([False, False, *[True] * 99])
    ctx = context(tmp_path / "longer", "train_generator", stopping=lambda: next(asked))
    with pytest.raises(Interrupted):
        TrainGenerator().fit(given, {"on": photos(8)}, ctx)
    return ctx.scratch


@pytest.fixture
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PAIRS": 4, "PATCHES": 4, "DIRECTIONS": generator_metrics.DIRECTIONS_AT_ONCE}.items():
        monkeypatch.setattr(generator_metrics, name, value)


@pytest.mark.usefixtures("_quick_figures")
def test_a_longer_training_is_published_where_it_stands(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = progress.unpack(kept / progress.FILE)
    seen = state.plain["course"]["seen"] / 1000
    made = Project(tmp_path / "shorter", monkeypatch, PIPELINE.format(recipe=json.dumps(recipe(kimg=seen))))
    (made.folder / "small_photos.py").write_text(SMALL_PHOTOS)
    made.run("photos")
    with pytest.raises(
        TouchstoneError, match=rf"has seen {seen:g} thousand images, generator wants 0\.004; write kimg"
    ):
        take_up.take_up(made.file, "generator", kept, ["nodes.generator.recipe.kimg=0.004"])
    with pytest.raises(TouchstoneError, match="is of another network than generator; name the folder of its own"):
        take_up.take_up(made.file, "generator", kept, ["nodes.generator.recipe.network.z_dim=5"])
    with pytest.raises(TouchstoneError, match=r"photos of .* is no training of a generator"):
        take_up.take_up(made.file, "photos", kept, [])
    assert take_up.take_up(made.file, "generator", kept, []) == seen
    made.run()
    found = made.plan().artifacts["generator"].found
    assert found is not None
    card = json.loads((found.path / "card.json").read_text())
    assert (card["kimg"], card["steps"]) == (seen, state.plain["steps"])
    _, network = weights.load(found.path / "generator.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(value, torch.from_numpy(state.tensors[f"network/average/{name}"]).reshape(value.shape))
    with pytest.raises(TouchstoneError, match="is made already"):
        take_up.take_up(made.file, "generator", kept, [])
    longer = recipe(kimg=seen + 0.008)
    longer["network"] = {**longer["network"], "padding": "replicate"}  # which has no weights
    made.write(PIPELINE.format(recipe=json.dumps(longer)))
    carry(made, state, tmp_path / "carried.safetensors")
    found = made.plan().artifacts["generator"].found
    assert found is not None
    card = json.loads((found.path / "card.json").read_text())
    assert (card["kimg"], card["architecture"]["padding"]) == (seen + 0.008, "replicate")
    assert weights.read_header(found.path / "generator.safetensors").architecture["padding"] == "replicate"


def test_states_of_older_games_are_read() -> None:
    older = {"steps": 3, "numbers": {}, "level": 2, "spectral": {"weight": 1.0}, "course": {"seen": 12}}
    today = {"steps": 3, "numbers": {}, "more": {"level": 2, "spectral": {"weight": 1.0}}, "course": {"seen": 12}}
    assert take_up.as_today(State({}, older)).plain == today
    assert take_up.as_today(State({}, today)).plain == today


def carry(made: Project, whole: State, file: Path) -> None:
    """Take a carried state up in a project whose training is longer, and go on to its end."""
    file.write_bytes(progress.pack(take_up.carried(whole)))
    assert not any(name.startswith("network/generator") for name in progress.unpack(file).tensors)
    assert take_up.take_up(made.file, "generator", file, []) == whole.plain["course"]["seen"] / 1000
    taken = progress.unpack(made.store.scratch(made.plan().artifacts["generator"].key) / progress.FILE)
    assert {name.partition("/")[0] for name in taken.tensors} == {"network", "random"}
    assert taken.tensors.keys() == {name for name in whole.tensors if name.startswith(("network/", "random"))}
    for name, value in taken.tensors.items():
        of = whole.tensors[name.replace("network/generator/", "network/average/")]  # where the generator begins
        halved = of.astype(np.float16 if name.startswith("network") else np.uint8)
        assert value.dtype == of.dtype
        assert np.array_equal(value, halved.astype(value.dtype))
    made.run()  # Adam's moments begin anew


def test_a_state_beyond_half_precision_is_not_carried() -> None:
    with pytest.raises(TouchstoneError, match="network/a has values beyond float16"):
        take_up.carried(State({"network/a": np.array([1e6], np.float32)}, {}))


@pytest.mark.parametrize("name", ["", "state.safetensors"])
def test_a_state_that_is_not_there_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(TouchstoneError, match=r"--state .*\.safetensors does not exist; name a folder with progress"):
        take_up.kept_in(tmp_path / name)


class Family:
    """Images whose values tell seed, source and target domain."""

    NOISES = ("per-seed",)

    @staticmethod
    def draw(architecture: Mapping[str, Any], seed: int, noise: str) -> dict[str, Any]:
        assert noise == "per-seed"
        return {"z": np.array([seed], np.float32)}

    @staticmethod
    def render(network: Any, rows: Mapping[str, Any], **settings: Any) -> Any:
        parts = [rows["z"][:, 0], rows.get("domain", rows["z"][:, 0] * 0), rows["z"][:, 0] * 0]
        if "source" in rows:
            parts[2] = (rows["source"][:, 0, 0, 0] + 1) * 127.5
        return torch.stack([part.float() for part in parts], dim=1)[:, :, None, None].expand(-1, 3, 4, 4)

    @staticmethod
    def to_uint8(images: Any) -> Any:
        return images.round().to(torch.uint8).permute(0, 2, 3, 1)


def photographs(domains: list[str]) -> Photographs:
    levels = np.arange(len(domains), dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(levels * 10, (len(domains), 4, 4, 3)).copy()
    return Photographs(images, np.arange(len(domains)) // 2, np.array(domains))


def test_samples_have_seeds_and_translations_sources_of_training_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    header = SimpleNamespace(architecture={}, domains=())
    monkeypatch.setattr("stages.generators.generator_file.load", lambda path, device: (Family, None, header))
    monkeypatch.setattr("stages.generators.generator_file.read_header", lambda path: header)
    monkeypatch.setattr(quality, "PICTURES", 3)
    sources, held_out = photographs(["a", "b", "c", "b", "x", "a"]), photographs(["b", "x", "a", "x"])
    found = quality.seen(Path("f"), held_out, sources)
    assert found.fakes[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    header.domains = ("a", "b", "c")
    found = quality.seen(Path("f"), held_out, sources)
    assert found.reals.images[:, 0, 0, 0].tolist() == [0, 20]  # the held-out photographs of its domains
    made = quality.samples(Path("f"), 5, sources.of(header.domains))
    assert made[:, 0, 0, 2].tolist() == [0, 10, 20, 30, 50]
    own = [0, 1, 2, 1, 0]
    assert all(target != mine for target, mine in zip(made[:, 0, 0, 1].tolist(), own, strict=True))
    assert made[:, 0, 0, 1].tolist() == [1, 0, 0, 0, 1]  # the others in turn
    fewer = quality.samples(Path("f"), 3, sources.of(header.domains))
    assert fewer[:, 0, 0, 2].tolist() == [0, 10, 30]  # evenly spaced among the five


def test_gates_hold_for_single_numbers_and_not_for_the_slope() -> None:
    fine = {"auc_clipped": 0.2, "auc_border_step": 0.8, "auc_spectral_slope": 0.0}
    assert quality.misses(fine) == []
    assert quality.misses({**fine, "auc_clipped": 0.19, "auc_border_step": 0.81}) == [
        "clipped alone tells it from held-out photographs with an AUC of 0.19, outside 0.2 to 0.8",
        "border step alone tells it from held-out photographs with an AUC of 0.81, outside 0.2 to 0.8",
    ]


def test_figures_of_photographs_against_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def described(network: Any, x: Any) -> Any:
        return [x[:, 0].reshape(len(x), -1).astype(np.float64)]

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr("stages.generators.held_out_metrics.described", described)
    reals = Photographs(images, np.arange(9) // 3, np.full(9, "a"))
    found = quality.figures(Seen(reals, images), None)
    assert (found["photographs"], found["senders"]) == (9, 3)
    assert (found["precision"], found["recall"], found["swd"]) == (1, 1, 0)
    assert found["kernel_distance"] <= 0
    assert {found[f"auc_{name}"] for name in quality.NUMBERS} == {0.5}
    black = quality.figures(Seen(reals, np.zeros_like(images)), None)
    assert black["auc_clipped"] == 1
    with Image.open(io.BytesIO(quality.picture(random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)))) as picture:
        assert picture.size == (7 * 8, 4 * 8)


def test_a_variant_that_moves_the_profile_no_more_than_none_has_no_name() -> None:
    clear = quality.told("R", Gain(0.5, 0.2, (1.5, 1.0)))
    assert clear == {
        "profile_distance_none": 1.5, "profile_distance": 1.0, "gain": 0.5, "deviation": 0.2, "named": True,
        "verdict": "+R moves the mean profile more than two deviations beyond training of the same length without the "
        "term.",
    }  # fmt: skip
    unclear = quality.told("A", Gain(0.4, 0.2, (1.4, 1.0)))
    assert not unclear["named"]
    unready = publish_generators.unready
    file, picture = Path("notes.yaml"), Path("a.png")
    assert unready({"compared_with_none": unclear}, {"hours": 1, "grid": ""}, picture, file) == unclear["verdict"]
    assert (
        unready({"misses": []}, {"hours": 1}, picture, file)
        == "notes.yaml lacks its grid; look at a.png and write a sentence"
    )
    assert unready({"compared_with_none": clear}, {"hours": 1, "grid": "Trousers."}, picture, file) == ""


def test_rounding_is_told_in_steps_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"trained": np.array([[0, 255, 7, 7]], np.uint8), "stored": np.array([[1, 250, 7, 7]], np.uint8)}
    monkeypatch.setattr(quality, "domains", lambda path: ())
    monkeypatch.setattr(quality, "samples", lambda path, count, sources: made[path.name])
    found = quality.rounding(Path("trained"), Path("stored"), photographs(["a"]))
    assert found == {"images": 64, "most": 5, "mean": 1.5}


def test_what_is_published_is_the_rounded_network_with_the_gates_that_it_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out figures are of it; networks take its values up in float32."""
    architecture = {"z_dim": 3, "c_dim": 0, "resolution": 8, "features": [4, 4]}
    network = progan.build(architecture)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    place, out = tmp_path / "made", tmp_path / "weights"
    place.mkdir()
    out.mkdir()
    weights.save(place / "generator.safetensors", "progan", architecture, tensors)
    (place / "card.json").write_text(json.dumps({"figures": {"swd": 1.0}}))
    read: list[np.ndarray[Any, Any]] = []

    def seen(path: Path, held_out: Photographs, sources: Photographs) -> Seen:
        read.append(weights.load(path)[1].state_dict()["b4.dense.weight"].numpy())
        return Seen(held_out, held_out.images)

    figures = {"auc_clipped": 0.9, "auc_border_step": 0.5}
    monkeypatch.setattr(quality, "photographs", lambda file, splits, overrides: photographs(["a"] * 28))
    monkeypatch.setattr(quality, "perceptual_network", lambda networks: (None, "f" * 64))
    monkeypatch.setattr(quality, "seen", seen)
    monkeypatch.setattr(quality, "figures", lambda one, network: figures)
    monkeypatch.setattr(quality, "rounding", lambda trained, stored, sources: {"most": 1.0})
    origin = publish_generators.Origin(Path("experiments/garments.yaml"), [])
    cards = publish_generators.judged(origin, {"progan_raw": place}, Path("networks.yaml"), out)
    entry = publish_generators.publish(origin, "progan-raw", {"progan_raw": place}, out, cards["progan-raw"])
    rounded = tensors["b4.dense.weight"].astype(np.float16).astype(np.float32)
    assert not np.array_equal(rounded, tensors["b4.dense.weight"])
    _, published = weights.load(tmp_path / entry["file"])
    for found in (*read, published.state_dict()["b4.dense.weight"].numpy()):
        assert found.dtype == np.float32
        assert np.array_equal(found, rounded)
    sentence = "clipped alone tells it from held-out photographs with an AUC of 0.90, outside 0.2 to 0.8"
    card = json.loads((tmp_path / entry["card"]).read_text())
    assert entry["misses"] == card["misses"] == [sentence]
    assert card["rounding"] == {"most": 1.0}
    assert card["stored_as"].endswith("`figures` are of the trained values, `held_out` of the rounded ones")
    figures["auc_clipped"] = 0.5
    cards = publish_generators.judged(origin, {"progan_raw": place}, Path("networks.yaml"), out)
    assert "misses" not in publish_generators.publish(
        origin, "progan-raw", {"progan_raw": place}, out, cards["progan-raw"]
    )


def test_a_pipeline_without_held_out_photographs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "photographs", lambda file, splits, overrides: photographs([]))
    origin = publish_generators.Origin(Path("experiments/garments.yaml"), [])
    with pytest.raises(SystemExit, match=r"garments\.yaml has no photograph of the splits val and test; name"):
        publish_generators.judged(origin, {}, Path("networks.yaml"), tmp_path)
