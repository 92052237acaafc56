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
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_rows import MemoryRows, context, rows_of, union
from PIL import Image
from pydantic import ValidationError
from toy_project import Project

from pipeline.closure import closure
from pipeline.errors import ConfigError, Interrupted, StageError
from pipeline.recipes import recipe_config
from pipeline.stage import Batch, Context, Field, Kind, SourceRows, Stage, StageConfig, row_setting
from stages.resynthesis import perceptual, perceptual_networks, reconstruction, weights
from stages.resynthesis.downsampling import downsample
from stages.resynthesis.joint import cross_entropy
from stages.resynthesis.patches import Patches
from stages.resynthesis.rdn import RDN
from stages.resynthesis.reconstruction import Schedule, center
from stages.train_resynthesizer import TrainResynthesizer, TrainResynthesizerConfig, new_training

SIDE = 16
SHORT: dict[str, Any] = {"size": "tiny", "kimg": 0.008, "batch": 2, "patch": 16, "validations": 2, "pictures": 1}
JOINT: dict[str, Any] = {**SHORT, "batch": 4, "learning_rate": 0.001, "joint": {"classifier": "compact"}}
WIDTHS = (2, 3, 2, 2, 2)


def config(**more: Any) -> TrainResynthesizerConfig:
    return TrainResynthesizerConfig.model_validate_json(json.dumps({**SHORT, **more}))


def pixels(count: int, seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def photos(count: int = 8, split: str | None = None, label: int = 0, **more: Any) -> MemoryRows:
    return rows_of(f"source {label}", label, {"image": pixels(count, label, **more)}, split=split)


def both(count: int = 8) -> MemoryRows:
    return union(photos(count), photos(count, label=1))


@pytest.fixture(scope="module")
def perceptual_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("perceptual") / "perceptual.safetensors"
    torch.manual_seed(0)
    network = perceptual_networks.PerceptualNetwork(perceptual_networks.small(WIDTHS))
    perceptual.save(path, WIDTHS, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return path


def fit(folder: Path, given: TrainResynthesizerConfig, rows: Any, **more: Any) -> dict[str, bytes]:
    ctx = context(folder, "train_resynthesizer", **more)
    TrainResynthesizer().fit(given, {"on": rows}, ctx)
    return contents(ctx.out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def started(given: TrainResynthesizerConfig, rows: MemoryRows, network: Any = None, **files: Path) -> Any:
    """A training at its beginning."""
    parts = {
        label: {split: one.where(one.column("label") == label) for split in ("train", "val")
                for one in [rows.split(split)]}
        for label in ([0] if given.joint is None else [0, 1])
    }  # fmt: skip
    torch.manual_seed(0)
    network = RDN(4, 4, 1, 1) if network is None else network
    return new_training(given, parts, network, Context(0, "train_resynthesizer", files=files))  # type: ignore[arg-type]


def state(network: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


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
    sentence = r"\(next\) node 'sr' holds a re-synthesizer of size tiny, but size is small; leave size out"
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
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


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
    others = {"stages.resynthesis.perceptual", "stages.resynthesis.joint", "detectors.residual_networks"}
    assert not {*others, "stages.generators.games", "stages.generators.checkpoints"} & alone
    assert reached(config(perceptual="p"), perceptual=perceptual_file) - alone == {
        "stages.resynthesis.perceptual", "stages.resynthesis.perceptual_networks", "stages.generators.weights"
    }  # fmt: skip
    assert reached(config(**JOINT)) - alone == {"stages.resynthesis.joint", "detectors.residual_networks"}


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
        ({"joint": {}, "batch": 1}, "batch is 1; joint training needs 2 or more, half of them real"),
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
        ({}, None, "learns from uint8 RGB images of one size, found no field 'image'; put `equalize` before"),
        ({}, Field("float32", (16, 16, 3)), r"found 'image' float32 \(16, 16, 3\)"),
        ({}, Field("uint8", (16, 16)), r"found 'image' uint8 \(16, 16\)"),
        ({}, Field("uint8", (18, 16, 3)), "images of 'on' have 18 x 16 pixels; expected multiples of 4"),
        ({"patch": 32}, Field("uint8", (64, 24, 3)), "patch is 32, but the images of 'on' have 64 x 24 pixels"),
        ({"perceptual": "p", "patch": None, "joint": {}}, Field("uint8", (12, 64, 3)), "have 12 x 64 pixels; five"),
    ],
)
def test_images_of_another_kind_are_refused(more: dict[str, Any], field: Field | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainResynthesizer().schema(config(**more), {"on": {} if field is None else {"image": field}})


def test_files_with_other_networks_are_refused(tmp_path: Path, perceptual_file: Path) -> None:
    with pytest.raises(ValueError, match="holds 'perceptual'; expected the network 'rdn'"):
        TrainResynthesizer().check(config(checkpoint="c"), {"checkpoint": perceptual_file})
    arrays = {name: tensor.detach().numpy() for name, tensor in RDN(4, 4, 1, 1).state_dict().items()}
    weights.save(tmp_path / "w.safetensors", weights.Architecture(4, 4, 1, 1), "SR", arrays)
    with pytest.raises(ValueError, match="expected a 'perceptual' network"):
        TrainResynthesizer().check(config(perceptual="p"), {"perceptual": tmp_path / "w.safetensors"})
    with pytest.raises(ValueError, match="holds a re-synthesizer of size other, but size is tiny; leave size out"):
        TrainResynthesizer().check(config(checkpoint="c"), {"checkpoint": tmp_path / "w.safetensors"})


# Steps


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), side=st.sampled_from((8, 12)), mirrors=st.sampled_from(("all", "horizontal", "none")))
def test_a_patch_is_a_part_of_its_image_that_begins_at_a_multiple_of_4(seed: int, side: int, mirrors: str) -> None:
    images = pixels(3, seed, 16, 20)
    random = torch.Generator().manual_seed(seed)
    drawn = Patches(rows_of("p", 0, {"image": images}), "cpu", random, side, mirrors).draw(4).numpy()
    turns = {"none": (0,), "horizontal": (0, 4), "all": tuple(range(8))}[mirrors]
    windows = [
        image[top : top + side, left : left + side]
        for image in images for top in range(0, 17 - side, 4) for left in range(0, 21 - side, 4)
    ]  # fmt: skip
    allowed = {
        np.ascontiguousarray(np.rot90(window[:, ::-1] if turn > 3 else window, turn % 4).transpose(2, 0, 1)).tobytes()
        for window in windows
        for turn in turns
    }
    assert drawn.shape == (4, 3, side, side)
    assert {np.ascontiguousarray(patch).tobytes() for patch in drawn} <= allowed


def test_all_places_and_orientations_are_drawn() -> None:
    image = pixels(1, 0, 16, 24)
    rows = rows_of("p", 0, {"image": image})
    drawn = Patches(rows, "cpu", torch.Generator().manual_seed(0), 8).draw(2000).numpy()
    found, counts = np.unique(drawn.reshape(2000, -1), axis=0, return_counts=True)
    assert len(found) == 3 * 5 * 8
    assert counts.min() >= 4  # 16.7 expected
    whole = Patches(rows, "cpu", torch.Generator().manual_seed(0), None).draw(50)
    assert whole.shape == (50, 3, 16, 24)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 4  # not square: mirrored, never turned


def test_rates_are_halved_and_measurements_evenly_spaced() -> None:
    schedule = Schedule(total=1000, halve=300, validations=4)
    assert [schedule.factor(seen) for seen in (0, 299, 300, 599, 600, 900)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    due = [seen for seen in range(0, 1000, 30) if schedule.validates(seen, seen + 30)]
    assert due == [240, 480, 720, 990]
    training = started(config(batch=2, kimg=0.01, halve_kimg=0.004, learning_rate=0.25, validations=1), photos())
    rates = []
    for seen in range(0, 10, 2):
        training.step(seen)
        rates.append(training.optimizers["resynthesizer"].param_groups[0]["lr"])
    assert rates == [0.25, 0.25, 0.125, 0.125, 0.0625]


def test_one_step_is_one_of_adam_on_the_mean_difference_to_the_original() -> None:
    """The first step of Adam moves each weight by the rate against the sign of its gradient."""
    training = started(config(task="SR", mirrors=False), photos(4, None))
    before = state(training.network)
    drawn = Patches(training.patches.rows, "cpu", torch.Generator().manual_seed(0), 16, "none").draw(2)
    sums = drawn.numpy().astype(np.int64).reshape(2, 3, 4, 4, 4, 4).sum(axis=(3, 5))
    reduced = torch.from_numpy((sums / 16 / 255).astype(np.float32))
    torch.manual_seed(0)
    same = RDN(4, 4, 1, 1)
    loss = (same(reduced) - drawn / 255).abs().mean()
    loss.backward()
    seen, numbers = training.step(0)
    assert (seen, numbers["loss"]) == (2, pytest.approx(float(loss.detach()), rel=1e-5))
    for name, parameter in same.named_parameters():
        assert parameter.grad is not None
        moved = training.network.state_dict()[name] - before[name]
        clear = parameter.grad.abs() > 1e-5
        torch.testing.assert_close(moved[clear], -1e-4 * parameter.grad[clear].sign(), rtol=0, atol=2e-6)


def test_held_out_images_are_enlarged_whole_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of("p", 0, {"image": pixels(12, 0, 16, 20)})
    training = started(config(patch=16), rows)
    found = training.validate()
    images = rows.split("val").array("image")
    with torch.no_grad():
        made = training.network(downsample(torch.from_numpy(images))).permute(0, 2, 3, 1).numpy()
    squares = ((np.clip(np.round(made * 255), 0, 255) - images) ** 2).mean(axis=(1, 2, 3))
    assert found["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / squares)), abs=0.01)
    assert set(found) == {"psnr", "psnr_bicubic"}
    monkeypatch.setattr(reconstruction, "BLOCK_PIXELS", 1)
    assert training.validate()["psnr"] == pytest.approx(found["psnr"], abs=1e-3)
    degraded = training.fidelity("SR+D")
    assert degraded == training.fidelity("SR+D")  # the same noise each time
    assert degraded["psnr_bicubic"] != found["psnr_bicubic"]


def test_a_picture_shows_the_center() -> None:
    images = torch.arange(36 * 20).reshape(1, 1, 36, 20)
    assert torch.equal(center(images, 16), images[:, :, 8:24, 0:16])
    assert torch.equal(center(images, 64), images)


# Joint training


def test_a_joint_step_trains_both_networks_and_leaves_the_perceptual_one(perceptual_file: Path) -> None:
    for feature in ("pixel", "stage1", "stage5"):
        given = config(**{**JOINT, "joint": {"classifier": "compact", "feature": feature}}, perceptual="p", task="SR+C")
        training = started(given, both(), perceptual=perceptual_file)
        fixed = training.loss.network
        before = {"sr": state(training.network), "classifier": state(training.classifier), "fixed": state(fixed)}
        _, numbers = training.step(0)
        assert set(before["sr"]) - differing(before["sr"], state(training.network)) == set()
        assert {"fc.weight", "convolutions.0.weight"} <= differing(before["classifier"], state(training.classifier))
        assert not differing(before["fixed"], state(fixed))
        assert all(parameter.grad is None for parameter in fixed.parameters())
        assert {"classification", "accuracy", "loss", "pixel", "stage5"} <= set(numbers)


def test_the_joint_loss_is_that_of_equation_2(perceptual_file: Path) -> None:
    given = config(**{**JOINT, "joint": {"classifier": "compact", "feature": "stage2", "weight": 0.7}}, perceptual="p")
    training = started(given, both(), perceptual=perceptual_file)
    training.classifier.eval()
    images = torch.from_numpy(pixels(5, 3).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor([0, 1, 0, 1, 0])
    original = images / 255
    made = training.network(F.avg_pool2d(images.float(), 4) / 255)
    stages = training.loss.network.stages
    residual = (stages(made, [2])[2] - stages(original, [2])[2]).abs()
    classified = F.cross_entropy(training.classifier(residual), labels)
    rebuilt = training.loss(made[labels == 0], original[labels == 0])[0]
    total, terms = training.losses(images, labels)
    assert float(total.detach()) == pytest.approx(float((classified + 0.7 * rebuilt).detach()), rel=1e-5)
    assert float(terms["classification"]) == pytest.approx(float(classified.detach()), rel=1e-5)
    right = (training.classifier(residual).argmax(1) == labels).float().mean()
    assert float(terms["accuracy"]) == pytest.approx(float(right))
    one_real = torch.tensor([0, 1, 1, 1, 1])
    total, terms = training.losses(images, one_real)
    assert float(total.detach()) == float(terms["classification"])
    assert "pixel" not in terms
    gradients = torch.autograd.grad(total, list(training.network.parameters()))
    assert all((gradient != 0).any() for gradient in gradients)  # the classifier's loss reaches the re-synthesizer


def test_features_come_from_clean_images_and_reconstruction_from_degraded_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    for task in ("SR", "SR+C+D"):
        training = started(config(**JOINT, task=task), both())
        training.classifier.eval()
        kept: list[Any] = []
        inner = training.network.forward
        monkeypatch.setattr(
            training.network, "forward", lambda x, inner=inner, kept=kept: (kept.append(x), inner(x))[1]
        )
        images = torch.from_numpy(pixels(40, 3).transpose(0, 3, 1, 2).copy())
        _, terms = training.losses(images, torch.tensor([0, 1] * 20))
        clean, degraded = kept
        assert torch.equal(clean, downsample(images))
        assert len(degraded) == 20
        seen.append((float(terms["classification"]), float(terms["pixel"]), torch.equal(degraded, clean[::2])))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]
    assert (seen[0][2], seen[1][2]) == (True, False)


def test_reconstruction_counts_real_images_only() -> None:
    training = started(config(**JOINT), both())
    training.classifier.eval()
    images = torch.from_numpy(pixels(6, 3).transpose(0, 3, 1, 2).copy())
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    other = images.clone()
    other[labels == 1] = 255 - other[labels == 1]
    first, second = training.losses(images, labels)[1], training.losses(other, labels)[1]
    assert float(first["pixel"]) == float(second["pixel"])
    assert float(first["classification"]) != float(second["classification"])


def test_in_the_warm_up_only_the_classifier_learns_and_both_are_measured() -> None:
    training = started(config(**{**JOINT, "validations": 1}, mirrors=False), both(16))
    before = {"sr": state(training.network), "classifier": state(training.classifier)}
    _, numbers = training.step(0, train_generator=False)
    assert not differing(before["sr"], state(training.network))
    assert "fc.weight" in differing(before["classifier"], state(training.classifier))
    assert set(numbers) == {"classification", "accuracy"}
    found = training.validate()
    assert set(found) == {"psnr", "psnr_bicubic", "held_out_accuracy"}
    training.classifier.eval()
    right = []
    for rows, label in ((training.held_out, 0), (training.held_out_fakes, 1)):
        images = torch.from_numpy(rows.array("image"))
        assert len(images) == 4
        residual = training.residual(downsample(images), images.permute(0, 3, 1, 2))
        right.append(float((training.classifier(residual).argmax(1) == label).float().mean()))
    assert found["held_out_accuracy"] == sum(right) / 2
    training.classifier.train()
    training.validate()
    assert training.classifier.training


def test_half_of_a_batch_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, reals in ((4, 2), (5, 3)):
        training = started(config(**{**JOINT, "batch": batch}, mirrors=False), both())
        calls: list[Any] = []
        inner = training.losses
        monkeypatch.setattr(training, "losses", lambda *a, inner=inner, calls=calls: (calls.append(a), inner(*a))[1])
        training.step(0)
        images, labels, _ = calls[0]
        assert labels.tolist() == [0] * reals + [1] * (batch - reals)
        known = {label: {row.tobytes() for row in pixels(8, label)} for label in (0, 1)}
        for image, label in zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True):
            assert np.ascontiguousarray(image).tobytes() in known[label]


def test_cross_entropy_is_that_of_torch() -> None:
    logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_a_joint_training_keeps_its_classifier(tmp_path: Path) -> None:
    from safetensors import safe_open

    made = fit(tmp_path, config(**JOINT), both())
    card = json.loads(made["card.json"])
    assert card["rows"] == {"real": {"train": 4, "val": 2}, "fake": {"train": 4, "val": 2}}
    assert "held_out_accuracy" in card["figures"]
    with safe_open(tmp_path / "out" / "classifier.safetensors", "np") as file:
        about = json.loads(file.metadata()["touchstone"])
        assert file.get_tensor("fc.weight").shape == (2, 128)
    assert (about["network"], about["feature"], about["classes"]) == ("compact", "pixel", ["real", "fake"])
