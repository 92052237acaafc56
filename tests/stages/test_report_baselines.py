"""The report's section on single numbers that do as well as a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from memory_rows import digest

from stages.evaluation.intervals import summary
from stages.reporting.baselines import SECTION
from stages.reporting.section import Given

COUNT = 60
LABELS = np.repeat(np.array([0, 1], dtype=np.uint8), COUNT)
IDS = np.frombuffer(b"".join(digest(str(number)) for number in range(2 * COUNT)), dtype="V16")


def evaluation(folder: Path, node: str, scores: Any, stage: str = "spectrum", feature: str = "profile") -> Any:
    """Results and folder of a detector that gives the rows these scores."""
    folder.mkdir()
    row = {"variant": "raw", "source": "fakes", **summary(scores, LABELS, np.arange(2 * COUNT), 0.5)}
    model = {"node": node, "threshold": 0.5, "config": {"feature": feature}, "made_from": [{"stage": stage}]}
    results = {"model": model, "rows": [row], "variants": {"raw": {"reals_from": "raw"}}}
    (folder / "results.json").write_text(json.dumps(results))
    zeros = np.zeros(2 * COUNT, np.int32)
    words = {"sources": np.array(["fakes"]), "variants": np.array(["raw"])}
    np.savez(folder / "scores.npz", id=IDS, group=IDS, label=LABELS, score=np.asarray(scores, np.float32),
             variant=zeros, source=zeros, **words)  # fmt: skip
    return results, folder


def said(*evaluations: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    given = Given(None, [one for one, _ in evaluations], [place for _, place in evaluations])
    return dict(SECTION.content(given)), given.facts


def scores(shift: float, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=2 * COUNT) + shift * LABELS


def test_a_number_that_separates_as_well_stands_on_top_whatever_its_direction(tmp_path: Path) -> None:
    detector = evaluation(tmp_path / "svm", "svm", scores(2, 1))
    good = evaluation(tmp_path / "clipped", "clipped", -scores(2, 2), "measure", "clipped")
    poor = evaluation(tmp_path / "border", "border", scores(0, 3), "measure", "border_step")
    content, facts = said(detector, poor, good)
    assert content["lines"] == [
        "clipped does as well as svm in 1 of 1 comparisons that the detector wins over chance: fakes (raw)."
    ]
    assert facts["baselines_as_good"] == 1
    assert content["missing"] == ""


def test_a_better_detector_is_left_in_peace_and_one_at_chance_shows_nothing_anyway(tmp_path: Path) -> None:
    poor = evaluation(tmp_path / "clipped", "clipped", scores(0.3, 2), "measure", "clipped")
    for name, shift in (("good", 3.0), ("chance", 0.0)):
        content, facts = said(evaluation(tmp_path / name, "svm", scores(shift, 1)), poor)
        assert content == {}
        assert facts["baselines_as_good"] == 0


def test_detectors_without_a_number_beside_them_are_told_so(tmp_path: Path) -> None:
    content, _ = said(evaluation(tmp_path / "svm", "svm", scores(2, 1)))
    assert content == {"lines": [], "missing": " in raw"}


def test_a_number_of_other_images_says_nothing(tmp_path: Path) -> None:
    detector = evaluation(tmp_path / "svm", "svm", scores(2, 1))
    results, folder = evaluation(tmp_path / "clipped", "clipped", scores(2, 2), "measure", "clipped")
    with np.load(folder / "scores.npz") as file:
        kept = {name: file[name] for name in file.files}
    kept["id"] = np.frombuffer(b"".join(digest(f"other {number}") for number in range(2 * COUNT)), dtype="V16")
    np.savez(folder / "scores.npz", **kept)
    content, _ = said(detector, (results, folder))
    assert not content.get("lines")
