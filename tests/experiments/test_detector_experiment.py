"""The experiment of detectors: what it may cost, and how its cells become a result."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detectors.choosing import detector_config
from experiments import detectors, detectors_result
from experiments.detectors import Cost
from experiments.detectors_result import Key

ROOT = Path(__file__).parents[2]
NODES: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "detectors.yaml").read_text())["nodes"]
TRAININGS = {name: node for name, node in NODES.items() if node["stage"] == "train" and node["detector"] != "fusion"}


def configs() -> list[tuple[str, Any]]:
    """Entry and full config of each kind of detector."""
    found = []
    for name, node in TRAININGS.items():
        values = {"detector": [None], "level": [None], "probability": [0.5], **node["matrix"]}
        for word in values["detector"]:
            for level in values["level"]:
                text = json.dumps(node["detector"]).replace('"{probability}"', "0.5")
                text = text.replace("{detector}", str(word)).replace("{level}", str(level))
                found.append((name, detector_config(json.loads(text))))
    return found


def test_networks_have_three_seeds_and_fifteen_epochs_at_most() -> None:
    kinds = configs()
    assert len(kinds) == 20
    for name, config in kinds:
        seeds = TRAININGS[name]["matrix"].get("seed", [0])
        assert TRAININGS[name]["matrix"]["train"] == ["progan", "stylegan2"]
        if config.on_device and config.learns:
            assert seeds == [0, 1, 2]
            assert detectors.epochs(config) <= 15
            assert detectors.epochs(detectors.one_epoch(config)) == 1
        else:
            assert seeds in ([0], [0, 1, 2, 3, 4])


def test_a_step_of_a_network_is_measured_by_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own: a training of one epoch takes a second and a hundredth for each row."""
    clock, disturbed = [0.0], [9.0, 0.0, 0.3, 0.2, 0.1, 0.0]
    seen = []

    def fit(config: Any, train: Any, val: Any, control: Any) -> None:
        seen.append((detectors.epochs(config), [len(labels) for _, labels, _ in train.batches(20, 0, True, "cpu")]))
        clock[0] += 1 + 0.01 * len(train) + disturbed.pop(0)

    config = detector_config({"preset": "pixel-cnn", "epochs": 9})
    monkeypatch.setattr("detectors.choosing.family_module", lambda family: SimpleNamespace(fit=fit))
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    assert detectors.step_ms(config, (16, 16, 3)) == pytest.approx(10.0)
    assert seen == [(1, [20, 12])] * 3 + [(1, [20] * 8)] * 3


def test_hours_are_added_and_limits_named() -> None:
    lines = list(detectors.told([Cost("slow", 2, 5.0, 9.0), Cost("rows", 1, 0.0, 4.5)]))
    assert lines[0] == "  9.00 h  slow, 2 times, 5.00 ms per image and step (more than 4)"
    assert lines[1] == "  4.50 h  rows"
    assert lines[2] == " 13.50 h  of one core at most, above the 12 that are meant"
    assert list(detectors.told([Cost("fine", 3, 4.0, 12.0)]))[-1] == " 12.00 h  of one core at most"


def row(auc: float, variant: str = "raw", source: str = "fakes[progan]") -> dict[str, Any]:
    return {
        "auc": auc, "auc_interval": [auc - 0.1, auc + 0.05], "balanced_accuracy": auc - 0.2, "n_real": 700,
        "n_fake": 650, "variant": variant, "source": source,
    }  # fmt: skip


def node(entry: str, **matrix: Any) -> Any:
    config = SimpleNamespace(detector=SimpleNamespace(feature=matrix.pop("feature", "image")))
    return SimpleNamespace(entry=entry, matrix=matrix, stage=SimpleNamespace(name="train"), config=config, files={})


PIPELINE: Any = SimpleNamespace(
    nodes={
        "single[a]": node("single", train="progan", detector="clipped", feature="clipped"),
        "single[b]": node("single", train="progan", detector="border-step", feature="border_step"),
        "residual[0]": node("residual", train="progan", level="pixel", seed=0),
        "residual[1]": node("residual", train="progan", level="pixel", seed=1),
    }
)


def evaluated(folder: Path) -> dict[str, Path]:
    rows = {"single[a]": 0.7, "single[b]": 0.8, "residual[0]": 0.9, "residual[1]": 0.7}
    places = {}
    for name, auc in rows.items():
        places[name] = folder / name
        places[name].mkdir()
        found = {"model": {"node": name}, "rows": [row(auc), row(auc / 2, "P", "all")]}
        (places[name] / "results.json").write_text(json.dumps(found))
    return places


def test_a_cell_is_the_mean_of_its_seeds_beside_the_best_single_number(tmp_path: Path) -> None:
    found = detectors_result.cells(PIPELINE, evaluated(tmp_path))
    table = {key: detectors_result.summarized(rows) for key, rows in found.items()}
    assert table[Key("residual pixel", "progan", "raw", "fakes[progan]")] == {
        "auc": 0.8, "interval": [0.7, 0.85], "of_seeds": [0.7, 0.9], "balanced_accuracy": 0.6, "seeds": 2,
        "rows": [700, 650],
    }  # fmt: skip
    assert len(table) == 6
    numbers = detectors_result.single_numbers(PIPELINE)
    assert numbers == {"clipped", "border-step"}
    best = detectors_result.best_number(table, numbers)
    assert best["progan raw fakes[progan]"] == {"number": "border-step", "auc": 0.8}
    claim = {"metric": "auc", "more": ["residual[0] on fakes[progan] (raw)"], "sides": [0.81, 0.5]}
    assert detectors_result.explained(claim, PIPELINE, best)
    assert not detectors_result.explained({**claim, "sides": [0.83, 0.5]}, PIPELINE, best)
    assert not detectors_result.explained({**claim, "metric": "ap"}, PIPELINE, best)


def test_the_table_names_single_numbers_marks_and_claims_and_the_figure_is_a_picture() -> None:
    cells = [
        {"detector": name, "train": "progan", "variant": variant, "source": source, "auc": auc}
        for name, auc in (("clipped", 0.5), ("residual pixel", 0.75))
        for variant in ("raw", "P")
        for source in ("all", "fakes[progan]")
    ]
    claim = {
        "verdict": "holds", "says": "A claim", "where": "", "metric": "auc", "over": "mean", "margin": 0.0,
        "interval": [0.1, 0.3], "value": 0.2, "more": ["a"], "than": ["b"], "few_groups": False,
        "explained_by_one_number": True,
    }  # fmt: skip
    result = {
        "what": "Title", "single_numbers": ["clipped"], "marks": {"fakes[progan]": ["clipped values tell"]},
        "claims": [claim], "cells": cells,
    }  # fmt: skip
    text = detectors_result.markdown(result)
    assert "| clipped (single number) | progan | 0.500 |  |  |  | 0.500 |  |" in text
    assert "| residual pixel | progan | 0.750 |" in text
    assert "- fakes[progan]: clipped values tell" in text
    assert "+0.100 to +0.300. **A single number does as well.**" in text
    with Image.open(io.BytesIO(detectors_result.figure(result))) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("RGB")).std() > 1


DEFAULT = (ROOT / "pipeline.yaml").read_text()
CUTS = {
    "../scratch/garments/photos.csv": "../" + re.findall(r"manifests/\w+\.yaml(?=})", DEFAULT)[0],
    "domain in [dress, pants, t-shirt]": re.findall(r"domain in \[[^]]*\]", DEFAULT)[0],
    "count: 2200": "count: 60",
    "take: 1000": "take: 24",
    "take: 500": "take: 24",
    "take: 300": "take: 8",
    "where: split = test}": "where: split = test, take: 60}",
    "epochs: 15": "epochs: 1",
    "[0, 1, 2, 3, 4]": "[0]",
    "[0, 1, 2]": "[0]",
    "task: [SR, SR+C, SR+D]": "task: [SR]",
}


@pytest.mark.stress
def test_a_cut_of_it_runs_to_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded photographs and generators; a few rows of each kind, one seed, one epoch."""
    text = (ROOT / "experiments" / "detectors.yaml").read_text()
    for long, short in CUTS.items():
        assert long in text
        text = text.replace(long, short)
    text = text.replace("../manifests/", f"{ROOT}/manifests/").replace("../scratch/detectors", str(tmp_path))
    file = tmp_path / "detectors.yaml"
    file.write_text(text)
    arguments = ["detectors", "run", "--file", str(file), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    detectors.main()
    result = json.loads((tmp_path / "out" / "detectors.json").read_text())
    assert result["evaluated"][0] == result["evaluated"][1]
    assert {cell["variant"] for cell in result["cells"]} == set(detectors_result.VARIANTS)
    assert {one["verdict"] for one in result["claims"]} <= {"holds", "does not hold", "cannot tell"}
    assert (tmp_path / "out" / "detectors.md").read_text().count("| progan |") == len(
        {cell["detector"] for cell in result["cells"]}
    )
    monkeypatch.setattr("sys.argv", [*arguments[:1], "plan", *arguments[2:4]])
    detectors.main()
