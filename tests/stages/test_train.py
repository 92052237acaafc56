"""Stage `train`: what it reads, what it writes, how it stops and goes on, and what enters its recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from training_rows import CNN, config, fit, rows

from detectors import FAMILIES, PRESETS
from detectors.choosing import family_module
from pipeline.errors import Interrupted, StageError
from pipeline.planning.closure import closure
from pipeline.planning.recipes import recipe_config
from pipeline.stage import Field
from stages.evaluation.detector_file import FeatureRows, load_detector
from stages.train import Train, TrainConfig


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_artifact_is_a_model_and_a_card_without_pickles(tmp_path: Path) -> None:
    out = fit(tmp_path, rows())
    assert sorted(contents(out)) == ["card.json", "facts.json", "model.safetensors"]
    card = json.loads((out / "card.json").read_text())
    assert card["detector"] == "SVM (rbf) on profile"
    assert card["config"]["C"] == 6.37
    assert card["trained_on"] == ["progan"]
    assert card["counts"]["train"] == {
        "real": 30,
        "fake": 30,
        "sources": {"real": {"photos": 30}, "fake": {"progan": 30}},
    }
    assert card["counts"]["val"]["fake"] == 15
    assert card["validation"]["auc"] > 0.95
    assert 0 < card["threshold"] < 1
    assert len(card["data_fingerprint"]["train"]) == 32
    assert card["licences"] == ["not stated"]
    assert card["doubts"] == []


@pytest.mark.parametrize("detector", ["profile-svm", "profile-logistic", CNN])
def test_the_order_of_the_view_does_not_change_a_byte(detector: Any, tmp_path: Path) -> None:
    dataset = rows()
    order = np.random.default_rng(0).permutation(len(dataset))
    one, two = fit(tmp_path / "one", dataset, detector), fit(tmp_path / "two", dataset.take(order), detector)
    assert contents(one) == contents(two)


def test_no_test_row_is_read(tmp_path: Path) -> None:
    dataset = rows()
    spoiled = rows()
    test = spoiled.column("split") == "test"
    spoiled.values = {name: array.copy() for name, array in spoiled.values.items()}
    spoiled.values["profile"][test] = np.nan
    spoiled._table["label"][test] = 0
    assert contents(fit(tmp_path / "one", dataset)) == contents(fit(tmp_path / "two", spoiled))


def test_features_are_read_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found = FeatureRows(rows(5), "map")  # ten rows of 128 bytes
    assert [len(block) for block in found.blocks(512)] == [10]
    monkeypatch.setattr("stages.evaluation.detector_file.BLOCK_BYTES", 4 * 128)
    assert [len(block) for block in found.blocks(512)] == [4, 4, 2]
    assert [len(block) for block in found.blocks(3)] == [3, 3, 3, 1]
    monkeypatch.setattr("stages.evaluation.detector_file.BLOCK_BYTES", 100)
    assert [len(block) for block in found.blocks(512)] == [1] * 10


def test_the_saved_detector_scores_rows(tmp_path: Path) -> None:
    dataset = rows()
    detector = load_detector(fit(tmp_path, dataset))
    test = dataset.split("test")
    scores = detector(test, block=7)
    assert scores.dtype == np.float32
    assert ((scores >= detector.card["threshold"]) == (test.column("label") == 1)).mean() > 0.9
    assert detector(test, block=100).tobytes() == scores.tobytes()


def test_a_stopped_fit_goes_on_where_it_stood(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", rows(), CNN)
    for _ in range(2):
        with pytest.raises(Interrupted, match="the epochs so far are kept"):
            fit(tmp_path / "stopped", rows(), CNN, stopping=lambda: True)
    seen: list[tuple[int, int]] = []
    again = fit(tmp_path / "stopped", rows(), CNN, report=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 3)]  # two epochs came from before
    assert contents(again) == contents(whole)


@pytest.mark.parametrize(
    ("label", "split", "sentence"),
    [
        (0, "train", r"split 'train' holds 0 real rows of 30, but training needs 2 or more"),
        (1, "val", r"split 'val' holds 0 fake rows of 15, but training needs 2 or more"),
    ],
)
def test_a_missing_class_is_named(label: int, split: str, sentence: str, tmp_path: Path) -> None:
    dataset = rows()
    kept = ~((dataset.column("label") == label) & (dataset.column("split") == split))
    with pytest.raises(StageError, match=sentence):
        fit(tmp_path, dataset.where(kept))


@pytest.mark.parametrize(
    ("detector", "counts", "sentence"),
    [
        (
            CNN,
            {("train", 0): 9, ("val", 0): 3},
            r"'on' holds no fake row, .* says `label: fake` of its files, and gener",
        ),
        (
            CNN,
            {("train", 0): 9, ("train", 1): 1, ("val", 0): 3, ("val", 1): 3},
            r"'train' holds 1 fake rows of 10, but",
        ),
    ],
)
def test_a_missing_class_is_named_when_planning(detector: Any, counts: Any, sentence: str) -> None:
    config = TrainConfig.model_validate({"detector": detector})
    with pytest.raises(ValueError, match=sentence):
        Train().check_rows(config, {"on": counts})
    enough = {(split, label): 2 for split in ("train", "val") for label in (0, 1)}
    Train().check_rows(config, {"on": enough})


def test_a_missing_feature_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no field 'dct2d', which the detector's 'feature' names; they have map, prof"):
        fit(tmp_path, rows(), "dct2d-cnn")


@pytest.mark.parametrize(
    ("feature", "fields", "sentence"),
    [
        (
            "profil",
            ("profile", "dct2d"),
            r"names; they have dct2d, profile: change .* before; did you mean 'profile'\?$",
        ),
        (
            "image",
            ("dct2d",),
            "names; they have dct2d: change 'feature' in 'detector', or compute the field in a node before$",
        ),
        ("image", (), "names; they have no fields: change"),
    ],
)
def test_planning_refuses_rows_without_the_feature(feature: str, fields: tuple[str, ...], sentence: str) -> None:
    inputs = {"on": dict.fromkeys(fields, Field("float32"))}
    with pytest.raises(ValueError, match=rf"^the rows of 'on' have no field '{feature}', which the .*{sentence}"):
        Train().schema(config({"family": "svm", "feature": feature}), inputs)


@pytest.mark.parametrize(("detector", "network"), [("profile-svm", False), ("profile-logistic", False), (CNN, True)])
def test_only_a_network_depends_on_the_device(detector: Any, network: bool, tmp_path: Path) -> None:
    assert Train().on_device(config(detector)) is network
    two = fit(tmp_path / "two", rows(), detector, threads=2)
    one = fit(tmp_path / "one", rows(), detector)  # last, so that the process has one thread again
    assert (contents(one) != contents(two)) is network  # the card of a network says on what it was trained


def test_the_schema_of_the_config_knows_presets_and_all_settings_of_the_families() -> None:
    schema = TrainConfig.model_json_schema()
    presets, *families, users, changed = schema["properties"]["detector"]["anyOf"]
    assert presets["enum"] == list(PRESETS)
    assert [one["$ref"] for one in families] == [f"#/$defs/{name}" for name in FAMILIES]
    for name in FAMILIES:
        properties = schema["$defs"][name]["properties"]
        assert list(properties) == list(family_module(name).Config.model_fields)
        assert all(one["description"] for one in properties.values())
    assert users["properties"]["family"]["not"]["enum"] == list(FAMILIES)
    assert changed["required"] == ["preset"]


def test_a_wrong_detector_is_an_error_of_the_config() -> None:
    with pytest.raises(ValidationError, match=r"'profile-svn' is no detector preset.*did you mean 'profile-svm'"):
        config("profile-svn")


def test_the_name_of_a_preset_is_no_part_of_the_recipe() -> None:
    spelled_out = config("profile-svm").detector.model_dump(mode="json")
    assert recipe_config(config("profile-svm")) == recipe_config(config(spelled_out))
    assert recipe_config(config({"preset": "profile-svm", "C": 1.0})) != recipe_config(config("profile-svm"))
    assert recipe_config(config(seed=1)) != recipe_config(config())


def test_the_code_of_one_family_is_no_part_of_another_ones_recipe() -> None:
    code = {
        name: set(closure(("stages.train", *Train().modules(config(name))))) for name in ("profile-svm", "pixel-cnn")
    }
    assert {"detectors.svm", "detectors.profiles"} <= code["profile-svm"]
    assert {"detectors.cnn", "detectors.composed", "detectors.networks.small_cnn"} <= code["pixel-cnn"]
    assert not {"detectors.cnn", "detectors.logistic", "detectors.presets"} & code["profile-svm"]
    assert not {"detectors.svm", "detectors.profiles", "detectors.presets"} & code["pixel-cnn"]
    assert "stages.evaluation.metrics" not in code["profile-svm"]


def test_a_damaged_artifact_is_refused(tmp_path: Path) -> None:
    out = fit(tmp_path, rows())
    card = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(StageError, match="card has format 99, this version reads 1"):
        load_detector(out)
    (out / "card.json").write_text(json.dumps({**card, "config": {**card["config"], "family": "os"}}))
    with pytest.raises(StageError, match="'os' is no detector family"):
        load_detector(out)
    (out / "model.safetensors").unlink()
    with pytest.raises(StageError, match=r"has no model\.safetensors"):
        load_detector(out)
