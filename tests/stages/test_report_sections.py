"""Sections of the report on scores, trainings, domains, the most wrong images, and the lineage's order."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import evaluation, row, stored
from memory_rows import MemoryRows, digest, rows_of, step, union

from pipeline.stage import Artifact
from stages.reporting import curves, domains, lineage, scores, wrong
from stages.reporting.figures import Picture
from stages.reporting.panels import panels
from stages.reporting.section import Given

KEYS = [*((0, "photos", f"photos {n}") for n in range(4)), *((1, "a", f"a {n}") for n in range(4))]


def given(folder: Path, *said: list[float], images: MemoryRows | None = None, **more: Any) -> Given:
    """A report of detectors with these scores, four reals and four fakes; thresholds are 0.5."""
    found = [evaluation(f"d{n}", ["a"], [row("a", 0.5)], f"d{n}", **more) for n in range(len(said))]
    places = [stored(folder / str(n), one, KEYS, line) for n, (one, line) in enumerate(zip(found, said, strict=True))]
    return Given(None, found, places, {}, {} if images is None else {"images": images})


def images() -> MemoryRows:
    picture = {"image": np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)}
    return union(rows_of("photos", 0, picture, (step("ingest"),)), rows_of("a", 1, picture, (step("sample"),)))


def svg(picture: Picture) -> str:
    return base64.b64decode(picture.uri.partition("base64,")[2]).decode()


def test_calibration_is_that_of_a_closed_form() -> None:
    values = np.repeat(np.array([0.15, 0.85], np.float32), 20)
    labels = np.array([1] * 5 + [0] * 15 + [1] * 15 + [0] * 5, np.uint8)
    said, shares, error = scores.calibration(values, labels)
    np.testing.assert_allclose(said, [0.15, 0.85], rtol=1e-6)
    np.testing.assert_allclose(shares, [0.25, 0.75])
    assert error == pytest.approx(0.1)
    few = scores.calibration(np.array([0.05] * 4 + [0.95] * 8, np.float32), np.array([0] * 4 + [1] * 8, np.uint8))
    assert few[0] == pytest.approx([0.95])  # a step of four rows says nothing


def test_scores_are_shown_for_every_detector_and_calibration_for_those_that_claim_it(tmp_path: Path) -> None:
    found = scores.content(given(tmp_path / "a", [0.1] * 4 + [0.9] * 4, [0.4] * 8))
    assert len(found["spread"]) == len(found["calibrated"]) == 1
    assert "fakes, unseen" in svg(found["spread"][0])
    assert "d1, trained on a" in svg(found["spread"][0])
    assert "Fakes of a." in found["about"]
    plain = scores.content(given(tmp_path / "b", [0.1] * 8, calibrated=False))
    assert plain["calibrated"] == []
    assert "Not calibrated: d0, trained on a." in plain["meaning"]
    logits = scores.content(given(tmp_path / "c", [-3.0] * 4 + [4.0] * 4))
    assert logits["calibrated"] == []


@pytest.mark.jobs
def test_many_panels_go_to_several_pictures() -> None:
    painted: list[int] = []
    pictures = panels([f"name {n}" for n in range(14)], lambda axis, number: painted.append(number), "x", "y")
    assert len(pictures) == 2
    assert painted == list(range(14))
    assert "name 13" in svg(pictures[1])
    assert "name 13" not in svg(pictures[0])


def training(folder: Path, node: str, ended: str, epochs: int) -> Artifact:
    folder.mkdir()
    lines = [{"epoch": n, "loss": 1 / n, "validation_loss": 2 / n} for n in range(1, epochs + 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    licence = ["ingest: CC0-1.0 3"]
    card = {"state": {"ended_by": ended, "epoch": epochs}, "licences": licence, "data_fingerprint": {"train": "ab"}}
    (folder / "card.json").write_text(json.dumps(card))
    return Artifact(node, node.encode().hex().ljust(32, "0"), folder)


def test_trainings_that_the_last_epoch_cut_off_are_named(tmp_path: Path) -> None:
    artifacts = (training(tmp_path / "a", "early", "stop", 4), training(tmp_path / "b", "late", "epochs", 9))
    found = curves.content(Given(None, [], [], {"detectors": artifacts}))
    assert found["cut"] == ["late, after 9 epochs"]
    drawn = svg(found["pictures"][0])
    assert "late (stopped by the last epoch)" in drawn
    assert "early" in drawn
    (artifacts[0].path / "log.jsonl").unlink()
    assert len(curves.content(Given(None, [], [], {"detectors": artifacts}))["cut"]) == 1
    assert curves.content(Given(None, [], [])) == {}


def test_images_that_most_detectors_get_wrong_stand_first(tmp_path: Path) -> None:
    first = [0.6, 0.1, 0.1, 0.1, 0.2, 0.9, 0.9, 0.9]  # photos 0 and a 0 are wrong
    second = [0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.9, 0.9]  # a 0 and a 1
    found = wrong.content(given(tmp_path / "x", first, second, images=images()))["wrong"]
    assert [one["about"].partition(": ")[2] for one in found] == [
        "fake, of a. Wrong for 2 of 2 detectors, mean score 0.15.",
        "real, of photos. Wrong for 1 of 2 detectors, mean score 0.35.",
        "fake, of a. Wrong for 1 of 2 detectors, mean score 0.65.",
    ]
    assert found[0]["name"] == f"a {digest('a 0').hex()[:12]}"
    assert found[0]["picture"].width == 150
    assert wrong.content(given(tmp_path / "y", [0.1] * 4 + [0.9] * 4, images=images())) == {}
    assert wrong.content(given(tmp_path / "z", first)) == {}


def test_an_image_that_was_perturbed_later_is_shown_as_it_was_before(tmp_path: Path) -> None:
    raw = rows_of("a", 1, {"image": np.full((4, 8, 8, 3), 7, np.uint8)}, (step("sample"),))
    later = rows_of("a", 1, {"image": np.full((4, 8, 8, 3), 9, np.uint8)}, (step("sample"), step("perturb")))
    places = wrong._places(union(later, raw))
    assert sorted(places.values()) == [4, 5, 6, 7]


def test_domains_are_told_apart(tmp_path: Path) -> None:
    rows = images()
    rows._table["domain"] = np.array(["cat", "cat", "dog", "dog", "cat", "cat", "", ""])
    one = given(tmp_path, [0.1, 0.6, 0.1, 0.1, 0.9, 0.2, 0.9, 0.9], images=rows)
    found = domains.content(one)
    assert found["heads"] == ["cat TNR (2)", "cat TPR (2)", "cat AUC (4)", "dog TNR (2)", "no domain TPR (2)"]
    assert found["rows"][0]["numbers"] == ["0.500", "0.500", "0.750", "1.000", "1.000"]
    rows._table["domain"] = np.full(8, "cat")
    assert domains.content(one) == {}


def test_lineage_is_ordered_by_node_and_source_and_tells_licenses(tmp_path: Path) -> None:
    facts = {"counts": {"train": {"real": 1, "fake": 2}, "val": {"real": 3, "fake": 4}}, "validation": {}}
    found = [evaluation("x", ["b"], [row("b", 0.5)], node, **facts) for node in ("z", "late")]
    for one, source in zip(found, ("b", "a"), strict=True):
        one["steps"] = {source * 32: [step("sample", generator=source)]}
        one["variants"]["raw"]["parts"] = [{"chain": source * 32, "real": 0, "fake": 1, "sources": [source]}]
    content = lineage.content(Given(None, found, [], {"detectors": (training(tmp_path / "t", "late", "stop", 2),)}))
    assert [one["node"] for one in content["models"]] == ["late", "z"]
    assert content["models"][0]["key"] == "6c6174650000"  # what the name in the results leads to
    lines = content["models"][0]["lines"]
    assert "license of ingest: CC0-1.0 3" in lines
    assert "train: 1 real, 2 fake, rows ab" in lines
    assert [(one["source"], one["chains"][0]["chain"]) for one in content["sources"]] == [
        ("a", "a" * 12),
        ("b", "b" * 12),
    ]
