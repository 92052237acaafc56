"""The classifier of a joint training as a detector of a pipeline: evaluated, and refused on rows of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F
from toy_project import Project

from pipeline.chain import chain_function
from pipeline.errors import ConfigError, StageError
from pipeline.open import open_node
from stages.evaluation.detector_file import load_detector

PIPELINE = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 12, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 12, first: 300, label: 1, splits: [train, val, test]}
  both:
    stage: train_resynthesizer
    on: [reals, fakes]
    size: tiny
    kimg: 0.008
    batch: 4
    learning_rate: 0.001
    pictures: 1
    joint: {classifier: compact, learning_rate: 0.1}
  residuals: {stage: residual, of: [reals, fakes], model: both}
  detector: {stage: train, on: residuals, pretrained: both}
  table: {stage: evaluate, model: detector, test: residuals}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that has run."""
    with pytest.MonkeyPatch.context() as patch:
        made = Project(tmp_path_factory.mktemp("joint"), patch, PIPELINE)
        made.run("table")
        yield made


def artifact(project: Project, node: str) -> Path:
    found = project.plan().artifacts[node].found
    assert found is not None
    return found.path


def by_hand(folder: Path, rows: np.ndarray) -> np.ndarray:
    """Logit of fake (n,) of the compact network with these weights."""
    weights = {name: torch.from_numpy(value) for name, value in load_file(folder / "classifier.safetensors").items()}
    values = torch.from_numpy(rows.astype(np.float32))
    for number in range(3):
        values = F.conv2d(values, weights[f"convolutions.{number}.weight"], padding=1)
        norm = {name: weights[f"norms.{number}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")}
        values = F.avg_pool2d(F.batch_norm(values, **norm).relu(), 2)
    logits = values.mean(dim=(2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]
    return (logits[:, 1] - logits[:, 0]).numpy()


def test_evaluate_scores_with_the_classifier_that_was_trained_jointly(done: Project) -> None:
    card = json.loads((artifact(done, "detector") / "card.json").read_text())
    rows = open_node(done.file, "residuals").split("test")
    logits = by_hand(artifact(done, "both"), rows.array("residual_pixel")).astype(np.float64)
    expected = 1 / (1 + np.exp(-(card["state"]["slope"] * logits + card["state"]["intercept"])))
    with np.load(artifact(done, "table") / "scores.npz") as kept:
        order = [rows.ids.tolist().index(one) for one in kept["id"].tolist()]
        np.testing.assert_allclose(kept["score"], expected[order], atol=1e-5)
    assert card["trained_on"] == ["fakes"]
    assert card["counts"]["train"] == {"real": 0, "fake": 0, "sources": {"real": {}, "fake": {}}}
    assert card["pretrained"]["node"] == "both"
    assert card["state"]["receptive_field"]["input"]["size"] == [22, 22]
    assert card["licences"] == ["photos: toys 1"]
    results = json.loads((artifact(done, "table") / "results.json").read_text())
    assert results["model"]["detector"] == "compact CNN on residual_pixel, trained jointly"


def test_an_image_alone_gets_the_stored_score(done: Project) -> None:
    folder, reals = artifact(done, "detector"), open_node(done.file, "reals").split("test")
    with np.load(artifact(done, "table") / "scores.npz") as kept:
        stored = dict(zip(kept["id"].tolist(), kept["score"].tolist(), strict=True))
    found = load_detector(folder).of_images(chain_function(folder), list(reals.array("image")[:2]))
    assert found.arrays["score"].tolist() == [stored[one] for one in reals.ids[:2].tolist()]


def test_residuals_of_another_resynthesizer_are_refused(done: Project) -> None:
    changes = ["nodes.residuals.model=manifests/networks.yaml#rdn-small-SR"]
    with pytest.raises(StageError, match="residuals of other networks than those of 'both'; set `model: both` in the"):
        done.run("detector", overrides=tuple(changes))


def test_rows_of_other_fakes_are_refused(done: Project) -> None:
    text = done.file.read_text()
    done.replace("on: residuals,", "on: {of: residuals, where: domain = cat},")
    try:
        with pytest.raises(StageError, match="the fakes of split train in 'on' are not those that 'both' learned from"):
            done.run("detector")
    finally:
        done.write(text)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "    joint: {classifier: compact, learning_rate: 0.1}\n",
            "    patch: 32\n",
            "'both', which trains no cl",
        ),
        ("on: residuals, ", "", "lacks 'on' .*, which 'pretrained' needs"),
        ("model: both}", "model: both, levels: [stage1]}", "the rows of 'on' have no field 'residual_pixel'"),
        ("pretrained: both", "pretrained: both, detector: dct2d-cnn", "expected 'detector' or 'pretrained', found b"),
        ("pretrained: both", "detector: {family: joint_classifier, feature: a, classifier: compact}", "name an entry"),
    ],
)
def test_what_cannot_be_is_refused_at_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, sentence: str
) -> None:
    made = Project(tmp_path, monkeypatch, PIPELINE)
    made.replace(old, new)
    with pytest.raises(ConfigError, match=sentence):
        made.plan()
