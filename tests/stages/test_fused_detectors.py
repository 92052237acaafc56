"""A fusion in a pipeline: trained from nodes, evaluated, pinned, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project

from pipeline.commands.upkeep import accept_nodes, pin_nodes
from pipeline.errors import ConfigError, StageError, StoreError
from pipeline.open import open_node
from stages.evaluation.detector_file import load_detector

PIPELINE = """
nodes:
  reals: {stage: "toy_photos:LargePhotos", count: 48, splits: [train, val, test]}
  fakes: {stage: "toy_photos:LargePhotos", count: 48, first: 300, label: 1, splits: [train, val, test]}
  rows: {stage: spectrum, of: [reals, fakes], features: [profile, projections]}
  radial: {stage: train, on: rows, detector: profile-svm}
  lines: {stage: train, on: rows, detector: row-profile-logistic}
  fused: {stage: train, on: rows, members: [radial, lines], detector: fusion}
  table: {stage: evaluate, model: fused, test: rows}
"""

MORE = "  more: {stage: spectrum, of: [reals, fakes], features: [profile, projections, dct2d]}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch, PIPELINE)


def made(project: Project, node: str) -> Path:
    found = project.plan().artifacts[node].found
    assert found is not None
    return found.path


def test_a_fusion_is_evaluated_and_pinned_as_any_other_detector(project: Project) -> None:
    project.run("table")
    fused, radial, lines = (load_detector(made(project, node)) for node in ("fused", "radial", "lines"))
    assert fused.fields == ("profile", "row_profile")
    cards = fused.card["state"]["members"]
    assert [card["node"] for card in cards] == ["radial", "lines"]
    for card, one in zip(cards, (radial, lines), strict=True):
        assert {name: card[name] for name in one.card} == one.card
    assert fused.card["trained_on"] == ["fakes"]
    assert fused.card["counts"]["train"] == {"real": 0, "fake": 0, "sources": {"real": {}, "fake": {}}}
    results = json.loads((made(project, "table") / "results.json").read_text())
    assert results["model"]["detector"] == "fusion of members"
    with np.load(made(project, "table") / "scores.npz") as kept:
        ids, scores = kept["id"], kept["score"]
    rows = open_node(project.file, "rows").split("test")
    mean = (radial(rows).astype(np.float64) + lines(rows)) / 2
    state: Any = fused.card["state"]
    expected = 1 / (1 + np.exp(-(state["slope"] * mean + state["intercept"])))
    order = [rows.ids.tolist().index(one) for one in ids.tolist()]
    np.testing.assert_allclose(scores, expected[order], rtol=1e-6)

    pin_nodes(project.load(), ["fused"])
    project.replace("count: 48, splits", "count: 60, splits")
    plan = project.plan()
    assert plan.artifacts["radial"].found is None
    assert plan.artifacts["fused"].found is not None
    assert load_detector(made(project, "fused")).state.plain == fused.state.plain


def test_a_member_that_learned_from_other_features_is_refused(project: Project) -> None:
    """The names and shapes of both conventions are the same, and one member would score what it has never seen."""
    project.replace(
        "  table:",
        """  others: {stage: spectrum, of: [reals, fakes], features: [profile], convention: jung21}
  stranger: {stage: train, on: others, detector: profile-svm}
  mixed: {stage: train, on: rows, members: [stranger, lines], detector: fusion}
  table:""",
    )
    with pytest.raises(StageError, match=r"the member stranger has learned from other features .*\(spectrum.config: "):
        project.run("mixed")


def test_another_weight_trains_the_fusion_alone(project: Project) -> None:
    project.run("table")
    project.replace("detector: fusion", "detector: {family: fusion, weights: [0.25, 0.75]}")
    plan = project.plan()
    assert {node for node, artifact in plan.artifacts.items() if artifact.found is None} == {"fused", "table"}


def test_a_fusion_runs_on_the_device_if_a_member_does(project: Project) -> None:
    plain = project.plan().artifacts["fused"].recipe.components["env"]
    project.replace("detector: row-profile-logistic", "detector: {preset: fft2d-cnn, feature: dct2d}")
    project.replace("features: [profile, projections]", "features: [profile, dct2d]")
    found = project.plan().artifacts["fused"]
    assert set(found.recipe.components["env"]) - set(plain) >= {"torch", "device"}
    assert found.promise["runs_network"] is True


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "members: [radial, lines], ",
            "",
            "a fusion needs two members or more, but 'members' names 0; name 'train' nodes",
        ),
        ("members: [radial, lines]", "members: [radial]", "a fusion needs two members or more, but 'members' names 1;"),
        (
            "detector: fusion",
            "detector: profile-svm",
            "'members' has no effect on the family 'svm'; remove it, or choose",
        ),
        (
            "on: rows, members",
            "on: {of: others}, members",
            "the rows of 'on' have no field 'row_profile', which the detector of node 'lines' reads; they have profile",
        ),
        (
            "on: rows, members",
            "on: [rows, more], members",
            r"reads rows in 'on', of which 48 have 'profile' more than once, in rows, more \(first reals ",
        ),
    ],
)
def test_a_fusion_that_cannot_be_is_refused_at_planning(project: Project, old: str, new: str, sentence: str) -> None:
    project.write(
        project.file.read_text() + "  others: {stage: spectrum, of: [reals, fakes], features: [profile]}\n" + MORE
    )
    project.replace(old, new)
    with pytest.raises(ConfigError, match=rf"pipeline\.yaml:\d+ nodes\.fused {sentence}"):
        project.plan()


def test_a_fusion_of_a_fusion_is_refused(project: Project) -> None:
    project.write(
        project.file.read_text() + "  twice: {stage: train, on: rows, members: [fused, lines], detector: fusion}\n"
    )
    with pytest.raises(ConfigError, match="node 'fused' is a fusion itself; name its members in 'members' instead"):
        project.plan()


def test_what_other_members_made_is_not_accepted_as_of_these(project: Project) -> None:
    project.run("table")
    project.replace("detector: profile-svm}", "detector: profile-logistic}")
    with pytest.raises(
        StoreError, match="fused: what it was made with changed too; accept lines, radial first, or run"
    ):
        accept_nodes(project.load(), ["fused"])


def test_equalized_spectra_without_a_profile_are_no_rows_that_may_be_left_out(project: Project) -> None:
    """They have the ids of the raw ones, and other pixels."""
    project.replace(
        "  table:",
        """  gains: {stage: fit_equalization, on: [reals, fakes]}
  equalized: {stage: equalize_spectrum, of: {of: [reals, fakes], where: label = fake}, equalization: gains}
  both: {stage: train, on: [rows, equalized], detector: profile-svm}
  table:""",
    )
    with pytest.raises(ConfigError, match=r"'profile' is .* missing in"):
        project.plan()


def test_a_pinned_detector_that_has_seen_today_s_test_rows_is_told(project: Project) -> None:
    project.run("table")
    pin_nodes(project.load(), ["radial", "lines"])
    assert not [note for note in project.plan().notes if "in its test split" in note]
    for label in ("count: 48, splits", "first: 300, label: 1, splits"):
        project.replace(f"{label}: [train, val, test]", f"{label}: [test, train, val]")
    project.replace("model: fused", "model: radial")
    (note,) = (note for note in project.plan().notes if "in its test split" in note)
    assert note.startswith(
        "WARNING: the pinned radial was made from 32 rows that table has in its test split: splits or"
    )
