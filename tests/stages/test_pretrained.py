"""Published detectors as models of a pipeline: rule-filled weights against the golden probabilities, and refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from golden_files import GoldenDocument
from memory_rows import context, rows_of, union
from PIL import Image
from rule_weights import torch_entry, z
from safetensors.numpy import load_file
from toy_project import ROOT, Project

from pipeline.chain import chain_function
from pipeline.commands.upkeep import pin_nodes
from pipeline.errors import ConfigError, StageError
from pipeline.open import open_node
from stages.evaluation.detector_file import load_detector
from stages.reporting import lineage
from stages.reporting.section import Given
from stages.train import Train, TrainConfig
from stages.training.pretrained import detector_of, read_weights

GOLDEN = ROOT / "tests" / "golden" / "detectors"
CONTAINERS = GOLDEN / "containers"
ENTRIES: dict[str, Any] = yaml.safe_load((ROOT / "manifests" / "detectors.yaml").read_text())
PIPELINE = """
nodes:
  reals: {stage: ingest, manifest: reals.csv}
  fakes: {stage: ingest, manifest: fakes.csv, label: fake}
  images: {stage: equalize, of: [reals, fakes], size: 96}
  plain: {stage: train, pretrained: "mine.yaml#one"}
  tuned: {stage: train, pretrained: "mine.yaml#one", on: images}
  table_plain: {stage: evaluate, model: plain, test: images}
  table_tuned: {stage: evaluate, model: tuned, test: images}
  fused: {stage: train, on: images, members: [plain, tuned], detector: fusion}
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(project: Project, like: str, weights: Path, **more: Any) -> None:
    """An entry of the user's own for a file, as the shipped one has it."""
    shutil.copy(weights, project.folder / weights.name)
    facts = {name: value for name, value in ENTRIES[like].items() if name not in ("size", "sha256", "sha256_prefix")}
    facts |= {"file": weights.name, "sha256": sha256(weights), "micro_batch": 2, **more}
    (project.folder / "mine.yaml").write_text(yaml.safe_dump({"one": facts}))


def by_rule(project: Project, detector: str) -> Path:
    """A file of a detector whose weights are made by the rule of the set."""
    document = GoldenDocument(GOLDEN / f"{detector}.json")
    seed, keys = document["rule_seed"], document["keys"]
    path = project.folder.parent / f"{detector}.pth"
    torch.save({name: torch.from_numpy(torch_entry(seed, name, shape)) for name, shape in keys.items()}, path)
    return path


def write_images(folder: Path, pixels: np.ndarray[Any, Any]) -> None:
    """Four pictures of noise for each class and the golden one, a real of the test split; no training rows."""
    random = np.random.default_rng(5)
    for name, count in (("reals", 4), ("fakes", 4)):
        lines = ["file,split"]
        for number in range(count):
            noise = random.integers(0, 256 if name == "fakes" else 60 + 40 * number, (96, 96, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{name}{number}.png")
            lines.append(f"{name}{number}.png,{'val' if number < 3 else 'test'}")
        if name == "reals":
            Image.fromarray(pixels).save(folder / "golden.png")
            lines.append("golden.png,test")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def project_in(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    made = Project(folder / "project", patch, PIPELINE)
    with np.load(GOLDEN / "images.npz") as images:
        write_images(made.folder, images["im_96x96"])
    return made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return project_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that has run, with Tiny-LaDeDa."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_in(tmp_path_factory.mktemp("done"), patch)
        write_manifest(made, "tiny-ladeda-forensynth", CONTAINERS / "tiny_ladeda_netC_module_legacy.pth")
        made.run()
        yield made


def artifact(project: Project, node: str) -> Path:
    found = project.plan().artifacts[node].found
    assert found is not None
    return found.path


def score_of_golden(project: Project, table: str) -> float:
    """Of the row whose file is golden.png."""
    with np.load(artifact(project, table) / "scores.npz") as kept:
        place = kept["id"].tolist().index(bytes.fromhex(sha256(project.folder / "golden.png"))[:16])
        return float(kept["score"][place])


def expected(detector: str) -> dict[str, Any]:
    """What the authors' program says of golden.png."""
    case = next(one for one in GoldenDocument(GOLDEN / f"{detector}.json")["cases"] if one["image"] == "im_96x96")
    return {"p_fake": case["p_fake_if_class1_real"] if "p_fake_if_class1_real" in case else case["p_fake"], **case}


@pytest.mark.parametrize(
    ("detector", "entry", "weights"),
    [
        ("ferretnet_s", "ferretnet-s", ""),
        ("mesoinception4", "mesoinception4-deepfake", "mesoinception4_keras2.h5"),
    ],
)
def test_a_published_detector_gives_the_golden_probability(
    project: Project, detector: str, entry: str, weights: str
) -> None:
    write_manifest(project, entry, CONTAINERS / weights if weights else by_rule(project, detector))
    project.run("table_plain")
    assert score_of_golden(project, "table_plain") == pytest.approx(expected(detector)["p_fake"], abs=2e-5)


def test_without_rows_the_published_rule_stands_and_is_called_uncalibrated(done: Project) -> None:
    card = json.loads((artifact(done, "plain") / "card.json").read_text())
    assert card["detector"] == "one (published), uncalibrated"
    assert (card["calibrated"], card["validation"]) == (False, {})
    assert card["threshold"] == card["published_threshold"] == float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert card["pretrained"]["sha256"] == sha256(CONTAINERS / "tiny_ladeda_netC_module_legacy.pth")
    assert card["config"]["licence"] == "for research only"
    assert any("not recorded" in trap for trap in card["config"]["traps"])
    assert card["trained_on"] == ["progan"]
    assert score_of_golden(done, "table_plain") == pytest.approx(expected("tiny_ladeda")["p_fake"], abs=2e-5)
    results = json.loads((artifact(done, "table_plain") / "results.json").read_text())
    (said,) = lineage.content(Given(None, [results], []))["models"]
    assert said["detector"] == "one (published), uncalibrated"
    assert "the published rule; the probability is not calibrated" in said["lines"]


def test_validation_rows_give_a_calibration_and_a_second_threshold(done: Project) -> None:
    detector = load_detector(artifact(done, "tuned"))
    card, state = detector.card, detector.state.plain
    assert card["calibrated"] is True
    assert card["counts"]["val"]["real"] == card["counts"]["val"]["fake"] == 3
    assert card["counts"]["train"]["real"] == 0
    logit = expected("tiny_ladeda")["logits"][0]
    curve = 1 / (1 + np.exp(-(state["slope"] * logit + state["intercept"])))
    assert score_of_golden(done, "table_tuned") == pytest.approx(curve, abs=2e-5)
    assert card["published_threshold"] == pytest.approx(1 / (1 + np.exp(-state["intercept"])), abs=1e-6)
    results = json.loads((artifact(done, "table_tuned") / "results.json").read_text())
    rows = open_node(done.file, "images").split("test")
    plain = load_detector(artifact(done, "plain"))(rows)
    says = (plain > 0.5) == (rows.column("label") == 1)
    assert results["rows"][0]["accuracy_published"] == pytest.approx(says.mean())
    fused = load_detector(artifact(done, "fused"))
    assert [member["detector"] for member in fused.card["state"]["members"]] == [
        "one (published), uncalibrated", "one (published)"
    ]  # fmt: skip


def test_the_chain_of_the_card_gives_the_stored_score(done: Project) -> None:
    with np.load(GOLDEN / "images.npz") as images:
        pixels = images["im_96x96"]
    for node, image in (("plain", pixels), ("tuned", done.folder / "golden.png")):
        path = artifact(done, node)
        found = load_detector(path).of_images(chain_function(path), [image])
        assert float(found.arrays["score"][0]) == score_of_golden(done, f"table_{node}")
    pin_nodes(done.load(), ["tuned"])
    assert done.plan().artifacts["tuned"].pin is not None


def test_the_file_stands_in_the_recipe_by_its_digest_and_the_entry_by_what_it_says(project: Project) -> None:
    weights = CONTAINERS / "tiny_ladeda.pth"
    write_manifest(project, "tiny-ladeda-forensynth", weights)
    first = project.plan().artifacts["plain"].recipe
    assert first.components["files"]["pretrained"] == sha256(weights)
    assert first.components["config"]["detector"]["preprocessing"]["resize"] == 256
    write_manifest(project, "tiny-ladeda-forensynth", weights, arguments={"input_filter": "raw"})
    assert project.plan().artifacts["plain"].recipe.digest != first.digest
    write_manifest(project, "tiny-ladeda-forensynth", weights, page="another place")
    assert project.plan().artifacts["plain"].recipe.digest == first.digest


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ("tiny_ladeda_missing_key.pth", "does not fit tiny_ladeda: it lacks 'bn1.running_var'"),
        ("tiny_ladeda_extra_key.pth", "which the network has not"),
        ("tiny_ladeda_wrong_shape.pth", r"expected \(1, 8\)"),
        ("univfd_head_cuda.pth", "does not fit tiny_ladeda: it lacks 'conv1.weight'"),
        ("whole_module_zip.pth", "is refused"),
        ("code_in_extra_entry.pth", "is refused"),
    ],
)
def test_a_wrong_file_is_refused(weights: str, sentence: str) -> None:
    config = detector_of("mine.yaml#one", ENTRIES["tiny-ladeda-forensynth"])
    with pytest.raises(StageError, match=sentence) as caught:
        read_weights(config, CONTAINERS / weights)
    assert str(caught.value).startswith(str(CONTAINERS / weights))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            '"mine.yaml#one"}',
            "tiny_ladeda.pth}",
            "'pretrained' is tiny_ladeda.pth, a file whose tensors do not tell strides",
        ),
        (
            '"mine.yaml#one"}',
            '"mine.yaml#one", detector: profile-svm}',
            "expected 'detector' or 'pretrained', found both",
        ),
        (
            'stage: train, pretrained: "mine.yaml#one"}',
            "stage: train}",
            "expected 'detector' or 'pretrained', found neither",
        ),
        ('pretrained: "mine.yaml#one"}', "detector: profile-svm}", "lacks 'on'"),
        ('"mine.yaml#one"}', '"mine.yaml#two"}', "has no entry 'two'"),
    ],
)
def test_a_node_without_a_clear_detector_is_refused(project: Project, old: str, new: str, sentence: str) -> None:
    write_manifest(project, "tiny-ladeda-forensynth", CONTAINERS / "tiny_ladeda.pth")
    project.replace(old, new)
    with pytest.raises(ConfigError, match=sentence):
        project.plan()


@pytest.mark.parametrize(
    ("like", "more", "sentence"),
    [
        ("tiny-ladeda-wildrf", {}, r"mine\.yaml#one: its authors do not say 'input_filter'; .* one of NPR, raw,"),
        (
            "tiny-ladeda-forensynth",
            {"networc": "x"},
            "'networc' is no fact of a published detector; did you mean 'network'",
        ),
        (
            "tiny-ladeda-forensynth",
            {"network": "tiny_lady"},
            "'network' is tiny_lady; expected one of .* 'tiny_ladeda'",
        ),
        ("tiny-ladeda-forensynth", {"paper": 3}, "'paper' is 3; expected a valid string"),
        ("tiny-ladeda-forensynth", {"preprocessing": {"crop": 0}}, "'preprocessing.crop' is 0; expected greater"),
        (
            "tiny-ladeda-forensynth",
            {"arguments": {"input_filter": "sobel"}},
            "'input_filter' of tiny_ladeda is 'sobel'",
        ),
        ("univfd", {"preprocessing": {"crop": 224}}, "'preprocessing' has no effect on univfd_head"),
        ("fredect-aigcdetect", {}, r"two more files of its authors \(dct_mean, dct_var\)"),
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused(
    project: Project, like: str, more: dict[str, Any], sentence: str
) -> None:
    write_manifest(project, like, CONTAINERS / "tiny_ladeda.pth", **more)
    with pytest.raises(ConfigError, match=sentence):
        project.plan()


def test_a_library_that_is_not_there_is_named_at_planning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "opencv-python-headless":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("stages.training.pretrained.version", version)
    write_manifest(project, "tiny-ladeda-forensynth", CONTAINERS / "tiny_ladeda.pth")
    project.plan()
    write_manifest(project, "autogan-fft", CONTAINERS / "tiny_ladeda.pth")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml#one: its preprocessing needs opencv-python-headless, which is not"
    ):
        project.plan()


def test_an_entry_of_the_project_without_a_file_says_where_it_is_published(project: Project) -> None:
    project.replace(
        'plain: {stage: train, pretrained: "mine.yaml#one"}',
        "plain: {stage: train, pretrained: manifests/detectors.yaml#npr}",
    )
    with pytest.raises(ConfigError, match=r"npr lacks 'file', .* get it from the repository chuangchuangtan/NPR-Deep"):
        project.plan()


HEADS = """
nodes:
  reals: {stage: ingest, manifest: reals.csv}
  fakes: {stage: ingest, manifest: fakes.csv, label: fake}
  given: {stage: features, of: [reals, fakes], file: clip.npz}
  head: {stage: train, pretrained: "mine.yaml#one"}
  table: {stage: evaluate, model: head, test: given}
"""


def test_a_head_reads_the_features_that_a_user_gives(project: Project) -> None:
    document = GoldenDocument(GOLDEN / "univfd_head.json")
    write_manifest(project, "univfd", by_rule(project, "univfd_head"))
    project.write(HEADS)
    names = ["golden.png", *(f"{kind}{number}.png" for kind in ("reals", "fakes") for number in range(4))]
    clip = (0.6 * z(document["rule_seed"], "input:clip_feature", (4, 768))).astype(np.float32)
    np.savez(project.folder / "clip.npz", name=names, clip=np.resize(clip, (9, 768)))
    project.run("table")
    case = document["cases"][0]
    assert score_of_golden(project, "table") == pytest.approx(case["p_fake"][0], abs=2e-5)


def test_a_training_goes_on_from_the_weights_of_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    reals, fakes = (rows_of(name, label, {"image": random.integers(0, 256, (8, 16, 16, 3), np.uint8)})
                    for label, name in enumerate(("reals", "fakes")))  # fmt: skip
    detector: dict[str, Any] = {
        "family": "deep", "feature": "image", "network": {"architecture": "compact", "widths": [4, 4]},
        "preprocessing": {"scaling": "symmetric"}, "head": {"kind": "classes"},
        "training": {"epochs": 1, "batch": 4, "learning_rate": 1e-9},
    }  # fmt: skip

    def trained(folder: Path, **more: Any) -> Path:
        ctx = context(folder, "train", files={name: Path(path) for name, path in more.items()})
        config = TrainConfig.model_validate_json(json.dumps({"detector": detector, **more}))
        Train().fit(config, {"on": union(reals, fakes)}, ctx)
        return ctx.out

    anew = load_file(trained(tmp_path / "anew") / "model.safetensors")
    names = {name.removeprefix("network."): value for name, value in anew.items() if name.startswith("network.")}
    start = {name: value if value.dtype.kind != "f" else random.normal(0, 1, value.shape).astype(np.float32) ** 2
             for name, value in names.items()}  # fmt: skip
    torch.save({"model": {name: torch.from_numpy(value) for name, value in start.items()}}, tmp_path / "start.pth")
    out = trained(tmp_path / "gone_on", start_from=str(tmp_path / "start.pth"))
    found = load_file(out / "model.safetensors")
    learned = [name for name in start if start[name].dtype.kind == "f" and "running" not in name]
    assert len(learned) > 4
    for name in learned:
        assert np.allclose(found[f"network.{name}"], start[name], atol=1e-6)
        assert not np.allclose(anew[f"network.{name}"], start[name], atol=1e-3)
    card = json.loads((out / "card.json").read_text())
    assert card["started_from"] == sha256(tmp_path / "start.pth")
    detector["network"]["widths"] = [4, 8]
    with pytest.raises(StageError, match=r"start_from: .*start.pth.*expected \(8, 4"):
        trained(tmp_path / "wider", start_from=str(tmp_path / "start.pth"))
    with pytest.raises(ValueError, match="has no effect but on a detector of the family 'deep'"):
        TrainConfig.model_validate_json(json.dumps({"detector": "profile-svm", "start_from": "start.pth"}))
