"""Stage `train_resynthesizer`: through the engine and alone; alone on photographs and together with a classifier."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import rows_of, union
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load
from small_resynthesizers import JOINT, SHORT, SIDE, both, config, contents, fit, perceptual_network, photos
from toy_project import Project

from pipeline.errors import ConfigError, Interrupted, StageError
from pipeline.planning.closure import closure
from pipeline.planning.recipes import recipe_config
from pipeline.stage import Batch, Context, Field, Kind, SourceRows, Stage, StageConfig, row_setting
from stages.resynthesis import weights
from stages.resynthesis.rdn import RDN
from stages.train_resynthesizer import TrainResynthesizer, TrainResynthesizerConfig


@pytest.fixture(scope="module")
def perceptual_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perceptual_network(tmp_path_factory.mktemp("perceptual"))


# Through the engine


class PicturesConfig(StageConfig):
    train: int = row_setting(4, description="training rows")
    val: int = row_setting(2, description="validation rows")
    test: int = row_setting(2, description="test rows")
    label: int = row_setting(0, description="label")


class Pictures(Stage):
    """Noise instead of photographs."""

    name, kind, Config = "pictures", Kind.SOURCE, PicturesConfig

    def schema(self, config: PicturesConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (SIDE, SIDE, 3))}

    def discover(self, config: PicturesConfig, scan: Any) -> SourceRows:
        splits = [name for name in ("train", "val", "test") for _ in range(getattr(config, name))]
        places = [n for name in ("train", "val", "test") for n in range(getattr(config, name))]
        texts = [f"{split} {place} {config.label}".encode() for split, place in zip(splits, places, strict=True)]
        ids = np.frombuffer(b"".join(text.ljust(16) for text in texts), "V16")
        return SourceRows(ids, config.label, None, splits)

    def compute(self, config: PicturesConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        draws = [np.random.default_rng(list(bytes(row))) for row in batch.ids]
        return {"image": np.stack([draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for draw in draws])}


PIPELINE = """
nodes:
  photos: {{stage: "test_train_resynthesizer:Pictures"}}
  sr: {{stage: train_resynthesizer, on: photos, {settings}}}
  next: {{stage: train_resynthesizer, on: photos, checkpoint: sr, task: SR+D, kimg: 0.002, batch: 2, patch: 16}}
"""


def project(folder: Path, patch: pytest.MonkeyPatch, **more: Any) -> Project:
    text = json.dumps({**SHORT, **more})[1:-1]
    return Project(folder, patch, PIPELINE.format(settings=text))


def artifact(made: Project, name: str, *overrides: str) -> Any:
    return made.plan(*overrides).artifacts[name].found


def test_a_run_leaves_weights_card_log_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    made.run()
    found, later = artifact(made, "sr"), artifact(made, "next")
    names = {"resynthesizer.safetensors", "card.json", "log.json", "samples-000000008.png"}
    assert set(contents(found.path)) - {"artifact.json", "consumed.npy"} == names
    header = weights.read_header(found.path / weights.FILE)
    assert (header.size, header.task) == ("tiny", "SR")
    assert (weights.read_header(later.path / weights.FILE).size, later.info["facts"]["task"]) == ("tiny", "SR+D")
    card = json.loads((found.path / "card.json").read_text())
    assert (card["size"], card["task"], card["parameters"], card["steps"]) == ("tiny", "SR", 40_067, 4)
    assert card["architecture"] == {"features": 16, "growth": 16, "blocks": 2, "layers": 2}
    assert card["rows"] == {"real": {"train": 4, "val": 2}}
    assert {len(text) for text in card["data_fingerprint"]["real"].values()} == {32}
    assert (card["device"], card["threads"], card["files"]) == ("cpu", 1, {})
    assert (card["config"]["batch"], card["config"]["learning_rate"], card["config"]["seed"]) == (2, 1e-4, 0)
    started_from = json.loads((later.path / "card.json").read_text())["files"]["checkpoint"]
    assert started_from["file"] == weights.FILE
    assert len(started_from["sha256"]) == 64
    log = json.loads((found.path / "log.json").read_text())
    assert [entry["kimg"] for entry in log] == [0.002, 0.004, 0.006, 0.008]
    assert [sorted(entry) for entry in log] == [
        ["kimg", "loss", "pixel"], ["kimg", "loss", "pixel", "psnr", "psnr_bicubic"]
    ] * 2  # fmt: skip
    assert found.info["facts"]["figures"] == card["figures"] == {k: log[-1][k] for k in ("psnr", "psnr_bicubic")}
    network = weights.load(found.path / weights.FILE, "cpu")
    with Image.open(found.path / "samples-000000008.png") as picture:
        shown = np.asarray(picture)
    assert shown.shape == (4 * SIDE, 7 * SIDE, 3)
    original, enlarged = shown[:SIDE, :SIDE], shown[3 * SIDE :, :SIDE]
    reduced = original.astype(np.float32).reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)) / 255
    with torch.no_grad():
        expected = network(torch.from_numpy(reduced).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(enlarged - np.clip(np.round(expected * 255), 0, 255)).max() <= 1
    assert np.abs(shown[SIDE : SIDE + 4, :4] - reduced[0, 0] * 255).max() <= 0.5


def test_what_makes_a_trained_resynthesizer_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    made.run("sr")
    key = artifact(made, "sr").key
    for override in ("sr.save_kimg=0.5", "photos.test=9", "sr.halve_kimg=0.0024"):
        assert artifact(made, "sr", f"nodes.{override}").key == key
    for override in ("photos.train=5", "photos.val=3", "sr.seed=1", "sr.task=SR+C", "sr.validations=1"):
        assert artifact(made, "sr", f"nodes.{override}") is None


def test_a_node_is_planned_by_what_its_checkpoint_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    plan = made.plan()
    assert plan.artifacts["next"].promise == weights.promised(weights.SIZES["tiny"], "SR+D")
    sentence = r"nodes\.next node 'sr' holds a re-synthesizer of size tiny, but size is small; leave size out"
    with pytest.raises(ConfigError, match=sentence):
        made.plan("nodes.next.size=small")


def test_fakes_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    sentence = (
        "^sr: 6 of 6 train and val rows are fakes; a re-synthesizer learns from real images only: select `where: label "
        "= real`, or set joint$"
    )
    made.replace('"test_train_resynthesizer:Pictures"', '"test_train_resynthesizer:Pictures", label: 1')
    with pytest.raises(StageError, match=sentence):
        made.run("sr")


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys\nfrom pipeline.stage import Field\n"
        "from stages.train_resynthesizer import TrainResynthesizer, TrainResynthesizerConfig\n"
        "stage, config = TrainResynthesizer(), TrainResynthesizerConfig(size='tiny', patch=16)\n"
        "rows = {'on': {'image': Field('uint8', (16, 16, 3))}}\n"
        "stage.schema(config, rows), stage.promise(config, rows), stage.modules(config, {}), stage.check(config, {})\n"
        "assert 'torch' not in sys.modules and 'zarr' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


# The stage alone


@pytest.mark.parametrize("kind", ["alone", "perceptual", "joint"])
def test_stopping_and_the_order_of_rows_change_no_byte_and_the_seed_does(
    kind: str, tmp_path: Path, perceptual_file: Path
) -> None:
    files = {"perceptual": perceptual_file}
    given = {
        "alone": config(kimg=0.006, task="SR+C+D"),
        "perceptual": config(kimg=0.006, task="SR+C", perceptual="p", loss="released"),
        "joint": config(**{**JOINT, "kimg": 0.008}, task="SR+D"),
    }[kind]
    given = given.model_copy(update={"joint": given.joint and given.joint.model_copy(update={"warm_up_kimg": 0.004})})
    rows = both() if kind == "joint" else photos()
    more = {"files": files if kind == "perceptual" else {}}
    whole = fit(tmp_path / "whole", given, rows, **more)
    steps = json.loads(whole["card.json"])["steps"]
    assert steps == 3
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    for _ in range(steps - 1):
        with pytest.raises(Interrupted, match="the same command goes on"):
            fit(tmp_path / "stopped", given, shuffled, stopping=lambda: True, **more)
        assert contents(tmp_path / "stopped" / "out") == {}
    assert fit(tmp_path / "stopped", given, shuffled, stopping=lambda: True, **more) == whole
    other = fit(tmp_path / "other", given.model_copy(update={"seed": 1}), rows, **more)
    assert sorted(other) == sorted(whole)
    assert not [name for name in whole if name.endswith((".safetensors", "log.json")) and other[name] == whole[name]]
    assert ("classifier.safetensors" in whole) == (kind == "joint")
    first, second = (load(made[weights.FILE])["sfe2.weight"] for made in (whole, other))
    assert np.abs(first - second).max() > 0.01  # three steps move a weight by less: they began elsewhere


def test_validation_rows_are_only_measured_and_test_rows_not_read(tmp_path: Path) -> None:
    rows, spoiled = photos(), photos()
    whole = fit(tmp_path / "one", config(), rows)
    spoiled.values["image"][spoiled.column("split") == "test"] = 0
    assert fit(tmp_path / "two", config(), spoiled) == whole
    spoiled.values["image"][spoiled.column("split") == "val"] = 7
    changed = fit(tmp_path / "three", config(), spoiled)
    assert changed[weights.FILE] == whole[weights.FILE]
    assert json.loads(changed["card.json"])["figures"] != json.loads(whole["card.json"])["figures"]


def test_rows_that_nothing_can_be_learned_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"^1 of 5 train and val rows are fakes; a re-synthesizer learns from real"):
        fit(tmp_path, config(), union(photos(4), photos(1, "val", label=1)))
    with pytest.raises(StageError, match=r"^'on' has no real rows of split val, but the training is measured on them"):
        fit(tmp_path, config(), photos(4, "train"))
    with pytest.raises(StageError, match=r"^'on' has no fake rows of split train, but the training learns from them"):
        fit(tmp_path, config(**JOINT), photos(4))


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    sentence = r"^training diverged: 'loss' is (nan|inf) after 0\.0 thousand images; lower learning_rate$"
    with pytest.raises(StageError, match=sentence):
        fit(tmp_path, config(learning_rate=1e30, kimg=0.1), photos())


def test_photographs_are_learned(tmp_path: Path) -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    waves = [127 + 100 * np.sin(x * a / 9 + b) * np.cos(y * b / 9) for a in range(4) for b in range(4)]
    images = np.stack([np.stack([wave, 255 - wave, wave / 2], axis=-1) for wave in waves]).astype(np.uint8)
    fit(tmp_path, config(kimg=0.16, batch=4, learning_rate=0.003), rows_of("waves", 0, {"image": images}))
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log[-1]["loss"] < log[0]["loss"] / 3
    measured = [entry["psnr"] for entry in log if "psnr" in entry]
    assert len(measured) == 2
    assert measured[1] > measured[0] > 5


@pytest.mark.parametrize("form", ["own", "published"])
def test_a_training_goes_on_from_a_file(tmp_path: Path, form: str) -> None:
    torch.manual_seed(5)
    network = RDN(4, 6, 1, 2)
    path = tmp_path / "start.pth"
    if form == "own":
        path = tmp_path / "start.safetensors"
        arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        weights.save(path, weights.Architecture(4, 6, 1, 2), "SR", arrays)
    else:
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()}}, path)
    given = config(size=None, checkpoint=path.name, learning_rate=1e-7, task="SR+C")
    files = {"checkpoint": path}
    stage = TrainResynthesizer()
    stage.check(given, files)
    rows = {"on": {"image": Field("uint8", (SIDE, SIDE, 3))}}
    assert stage.promise(given, {**rows, **files}) == weights.promised(weights.Architecture(4, 6, 1, 2), "SR+C")
    assert ("stages.resynthesis.published" in stage.modules(given, files)) == (form == "published")
    card = json.loads(fit(tmp_path, given, photos(), files=files)["card.json"])
    trained = weights.load(tmp_path / "out" / weights.FILE, "cpu")
    for name, tensor in network.state_dict().items():
        change = (trained.state_dict()[name] - tensor).abs().max()
        assert 0 < float(change) < 1e-6  # Adam moves each value by the rate at most
    assert not any(p.requires_grad for p in weights.load(path, "cpu").parameters())  # kept for others, untouched
    assert torch.equal(weights.load(path, "cpu").state_dict()["output.bias"], network.output.bias)
    assert card["files"]["checkpoint"]["file"] == path.name
    assert set(card["figures"]) == {"psnr", "psnr_bicubic", "psnr_degraded", "psnr_bicubic_degraded"}


def test_only_code_that_a_config_needs_is_in_its_closure(perceptual_file: Path) -> None:
    stage = TrainResynthesizer()

    def reached(given: TrainResynthesizerConfig, **files: Path) -> set[str]:
        return set(closure(("stages.train_resynthesizer", *stage.modules(given, files))))

    alone = reached(config())
    assert {"stages.resynthesis.rdn", "stages.resynthesis.degradations"} <= alone
    networks = ("resnet", "layers", "initial_weights")
    classifier = {f"detectors.networks.{name}" for name in networks}
    others = {"stages.resynthesis.perceptual", "stages.resynthesis.joint", *classifier}
    assert not {*others, "stages.generators.games", "stages.weights.checkpoints"} & alone
    assert reached(config(perceptual="p"), perceptual=perceptual_file) - alone == {
        "stages.resynthesis.perceptual", "stages.resynthesis.perceptual_networks"
    }  # fmt: skip
    assert reached(config(**JOINT)) - alone == {"stages.resynthesis.joint", *classifier}


# Settings


def test_a_default_left_out_and_written_is_one_recipe() -> None:
    def plain(**given: Any) -> Any:
        made = TrainResynthesizerConfig.model_validate_json(json.dumps(given))
        return recipe_config(made)

    alone = {"size": "full", "kimg": 18750.0, "batch": 12, "patch": 96, "learning_rate": 1e-4, "halve_kimg": 5625.0}
    assert plain() == plain(**alone)
    together = {"kimg": 1000.0, "batch": 6, "learning_rate": 1e-6, "halve_kimg": 300.0}
    assert plain(joint={}) == plain(joint={"classifier": "resnet50", "weight": 1.0}, **together)
    assert plain(perceptual="p") == plain(perceptual="p", loss="paper", perceptual_weight=1.0)
    assert plain(perceptual="p", loss="released") == plain(perceptual="p", loss="released", perceptual_weight=0.2)
    assert plain(checkpoint="c") != plain(checkpoint="c", size="full")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss": "paper"}, "loss has no effect without perceptual; name a perceptual network, or drop it"),
        ({"perceptual_weight": 0.1}, "perceptual_weight has no effect without perceptual"),
        ({"joint": {"feature": "stage5"}}, "the feature stage5 needs a network: set perceptual, or feature: pixel"),
        ({"perceptual": "p", "patch": 12}, "patch is 12; five perceptual stages need 16 pixels or more"),
        ({"patch": 18}, "multiple of 4"),
        ({"task": "SR+C", "patch": 4}, "patch is 4; the task SR.C needs 12 pixels or more, so that a share of 10 to"),
        ({"task": "SR+C+D", "patch": 8}, "patch is 8; the task SR.C.D needs 12 pixels or more"),
        ({"joint": {}, "batch": 2}, "batch is 2; joint training needs 4 or more: two real images and two fakes"),
        ({"joint": {}, "batch": 3}, "batch is 3; joint training needs 4 or more"),
        ({"task": "SR+E"}, "Input should be 'SR'"),
        ({"kimg": "many"}, "Input should be a valid number"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        TrainResynthesizerConfig.model_validate_json(json.dumps(given))


@pytest.mark.parametrize(
    ("more", "field", "sentence"),
    [
        ({}, None, "^train_resynthesizer needs a field 'image', uint8 .* found nothing; put equalize before it$"),
        ({}, Field("float32", (16, 16, 3)), r"found float32 \(16, 16, 3\)"),
        ({}, Field("uint8", (16, 16)), r"found uint8 \(16, 16\)"),
        ({}, Field("uint8", (18, 16, 3)), "images of 'on' have 18 x 16 pixels; expected multiples of 4"),
        ({"patch": 32}, Field("uint8", (64, 24, 3)), "patch is 32, but the images of 'on' have 64 x 24 pixels"),
        (
            {"perceptual": "p", "batch": 4, "patch": None, "joint": {}},
            Field("uint8", (12, 64, 3)),
            "have 12 x 64 pixels; five",
        ),
        (
            {"task": "SR+C", "batch": 4, "patch": None, "joint": {}},
            Field("uint8", (8, 64, 3)),
            "^the images of 'on' have 8 x 64 pixels; the task SR.C needs 12 or more per side$",
        ),
    ],
)
def test_images_of_another_kind_are_refused(more: dict[str, Any], field: Field | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainResynthesizer().schema(config(**more), {"on": {} if field is None else {"image": field}})


def test_files_with_other_networks_are_refused(tmp_path: Path, perceptual_file: Path) -> None:
    with pytest.raises(ValueError, match=r"is a perceptual network; use it as `perceptual` of residual$"):
        TrainResynthesizer().check(config(checkpoint="c"), {"checkpoint": perceptual_file})
    arrays = {name: tensor.detach().numpy() for name, tensor in RDN(4, 4, 1, 1).state_dict().items()}
    weights.save(tmp_path / "w.safetensors", weights.Architecture(4, 4, 1, 1), "SR", arrays)
    with pytest.raises(ValueError, match=r"is a re-synthesizer; use it as `model` of residual or `checkpoint` of sim"):
        TrainResynthesizer().check(config(perceptual="p"), {"perceptual": tmp_path / "w.safetensors"})
    with pytest.raises(ValueError, match="holds a re-synthesizer of size other, but size is tiny; leave size out"):
        TrainResynthesizer().check(config(checkpoint="c"), {"checkpoint": tmp_path / "w.safetensors"})
