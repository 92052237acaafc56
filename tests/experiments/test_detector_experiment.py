"""The experiment of detectors: what it may cost, and how its cells become a result."""

from __future__ import annotations

import io
import json
import re
from itertools import product
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
from pipeline.declaring.document import load
from pipeline.declaring.matrix import expand
from stages.evaluation.claims import Cell, Chosen

ROOT = Path(__file__).parents[2]
NODES: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "detectors.yaml").read_text())["nodes"]
TRAININGS = {name: node for name, node in NODES.items() if node["stage"] == "train" and "members" not in node}


def configs() -> list[tuple[str, Any]]:
    """Entry and full config of each kind of detector."""
    found = []
    for name, node in TRAININGS.items():
        values = {"detector": [None], "level": [None], "probability": [0.5], "member": [None], **node["matrix"]}
        for word, level, member in product(values["detector"], values["level"], values["member"]):
            text = json.dumps(node["detector"]).replace('"{probability}"', "0.5").replace("{member}", str(member))
            text = text.replace("{detector}", str(word)).replace("{level}", str(level))
            found.append((name, detector_config(json.loads(text))))
    return found


def test_networks_have_three_seeds_and_fifteen_epochs_at_most() -> None:
    kinds = configs()
    assert len(kinds) == 22
    for name, config in kinds:
        seeds = TRAININGS[name]["matrix"].get("seed", [0])
        assert TRAININGS[name]["matrix"]["train"] == ["progan", "stylegan2"]
        if config.on_device and config.learns:
            assert seeds == [0, 1, 2]
            assert detectors.epochs(config) <= 15
            assert detectors.epochs(detectors.one_epoch(config)) == 1
        else:
            assert seeds in ([0], [0, 1, 2, 3, 4])


def test_ours_is_beside_each_detector_of_the_seeds_on_all_cells() -> None:
    """The patterns of `against` choose each training of the table but ours, once, and each its seeds alone."""
    document = load(ROOT / "experiments" / "detectors.yaml")
    nodes = expand(document.data["nodes"], document)
    for train in ("progan", "stylegan2"):
        models = [one.cell["model"] for one in nodes.values() if one.entry == "tables"]
        models = [name for name in models if nodes[name].cell["train"] == train]
        cells = [Cell(name, "raw", "all", *[np.zeros(0)] * 3, 0.5) for name in models]  # type: ignore[arg-type]
        first, second = nodes[f"against[{train}]"].raw["claims"]
        assert (first.get("over", "mean"), second["over"]) == (detectors_result.MEAN, detectors_result.LEAST)
        for claim in (first, second):
            chosen = [[one.node for one in Chosen(node).of(cells)] for node in claim["each"]]
            ours = [one.node for one in Chosen(claim["more"]["node"]).of(cells)]
            assert ours == [f"ours[{train}-{seed}]" for seed in range(3)]
            assert sorted(name for names in chosen for name in names) == sorted(set(models) - set(ours))
            assert all(len({re.sub(r"(?<=-)\d\]$", "", name) for name in names}) == 1 for names in chosen)
            assert claim["more"] == {"node": f"ours[{train}-*", **claim["than"]}
            assert claim["than"] == {"variant": "*", "source": "fakes[*|finetuned[*|translated|retranslated[*"}


def test_nothing_is_chosen_by_a_test_row_and_ours_learns_from_another_protocol_than_it_is_tested_on() -> None:
    assert all("split = val" in view["where"] for view in NODES["val_tables"]["test"].values())
    assert NODES["val_tables"]["split"] == "val"
    assert "split" not in NODES["tables"]  # of the test
    assert set(NODES["tables"]["matrix"]["model"]["of"]) < set(NODES["val_tables"]["matrix"]["model"]["of"])
    assert (NODES["copies"]["protocol"], NODES["P"]["protocol"]) == ("wang2020", "he2021")
    assert "split in [train, val]" in NODES["copies"]["of"]["where"]
    assert len(NODES["ours"]["members"]) == 2
    for made in (NODES["enlarged"], NODES["given_back"]):
        assert made["of"]["where"] == "source = photos and split in [train, val]"


def test_what_is_chosen_by_has_the_cells_of_the_test() -> None:
    """The same variants of the same sources, of validation rows: also of generators that no training knows.

    Only what StarGAN2's finetuned ones translate has none.
    """
    first, second = NODES["val_tables"]["test"], NODES["tables"]["test"]
    assert list(first) == list(second) == list(detectors_result.VARIANTS)
    for name, view in first.items():
        where = view["where"].replace("split = val", "split = test")
        if name in ("R", "A"):
            where = where.replace(f"= 'finetuned[*-{name}]'", f"in ['finetuned[*-{name}]', 'retranslated[{name}]']")
        assert {**view, "where": where} == second[name]


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
        "ours[0]": node("ours", train="progan", seed=0),
    }
)


def evaluated(folder: Path) -> dict[str, Path]:
    rows = {"single[a]": 0.7, "single[b]": 0.8, "residual[0]": 0.9, "residual[1]": 0.7}
    places = {}
    for name, auc in rows.items():
        places[name] = folder / name
        places[name].mkdir()
        found = {"model": {"node": name}, "split": "test", "rows": [row(auc), row(auc / 2, "P", "all")]}
        (places[name] / "results.json").write_text(json.dumps(found))
        places[f"val of {name}"] = folder / f"val of {name}"
        places[f"val of {name}"].mkdir()
        found |= {"split": "val", "rows": [row(auc - 0.1), row(auc - 0.2, "E"), row(0.1, "E", "all")]}
        (places[f"val of {name}"] / "results.json").write_text(json.dumps(found))
    return places


def test_a_cell_is_the_mean_of_its_seeds_beside_the_best_single_number(tmp_path: Path) -> None:
    places = evaluated(tmp_path)
    found = detectors_result.cells(PIPELINE, places, "test")
    table = {key: detectors_result.summarized(rows) for key, rows in found.items()}
    assert table[Key("residual pixel", "progan", "raw", "fakes[progan]")] == {
        "auc": 0.8, "interval": [0.7, 0.85], "of_seeds": [0.7, 0.9], "balanced_accuracy": 0.6, "seeds": 2,
        "rows": [700, 650],
    }  # fmt: skip
    assert len(table) == 6
    val = detectors_result.cells(PIPELINE, places, "val")
    means = detectors_result.mean_cells({key: detectors_result.summarized(rows) for key, rows in val.items()})
    assert means == {("clipped", "progan"): 0.55, ("border-step", "progan"): 0.65, ("residual pixel", "progan"): 0.65}
    numbers = detectors_result.single_numbers(PIPELINE)
    assert numbers == {"clipped", "border-step"}
    best = detectors_result.best_number(table, numbers)
    assert best["progan raw fakes[progan]"] == {"number": "border-step", "auc": 0.8}
    claim = {"metric": "auc", "more": ["residual[0] on fakes[progan] (raw)"], "sides": [0.81, 0.5]}
    assert detectors_result.explained(claim, PIPELINE, best)
    assert not detectors_result.explained({**claim, "sides": [0.83, 0.5]}, PIPELINE, best)
    assert not detectors_result.explained({**claim, "metric": "ap"}, PIPELINE, best)


def against(value: float, over: str, than: list[str], sides: list[float], verdict: str = "holds") -> dict[str, Any]:
    tests = ["fakes[progan] (raw)", "fakes[stylegan] (P)"]
    return {
        "verdict": verdict, "value": value, "interval": [value - 0.1, value + 0.1], "sides": sides, "over": over,
        "few_groups": False, "more": [f"ours[0] on {one}" for one in tests],
        "than": [f"{name} on {one}" for name in than for one in tests],
    }  # fmt: skip


def test_ours_stands_beside_each_detector_in_the_mean_and_in_the_least_cell() -> None:
    both = ["residual[0]", "residual[1]"]
    claims = [
        against(0.3, "mean", ["single[a]"], [0.9, 0.6]), against(0.12, "mean", both, [0.9, 0.78]),
        against(0.3, "minimum of means", ["single[a]"], [0.7, 0.4]),
        against(-0.05, "minimum of means", both, [0.7, 0.75], "cannot tell"),
    ]  # fmt: skip
    chosen = {("ours", "progan"): 0.8, ("clipped", "progan"): 0.75, ("residual pixel", "progan"): 0.7}
    first, second = detectors_result.beside_ours(PIPELINE, claims, chosen)
    assert (first["detector"], first["train"], first["val"]) == ("clipped", "progan", [0.8, 0.75])
    assert (second["detector"], second["val"]) == ("residual pixel", [0.8, 0.7])
    assert second["mean"] == {
        "sides": [0.9, 0.78], "value": 0.12, "interval": [0.02, 0.22], "verdict": "holds",
        "few_groups": False, "seeds": [1, 2], "cells": 2,
    }  # fmt: skip
    assert second["minimum of means"]["verdict"] == "cannot tell"
    result = {"what": "T", "single_numbers": ["clipped"], "marks": {}, "claims": [], "cells": [], "val_cells": []}
    lines = detectors_result.markdown(result | {"against": [first, second]}).splitlines()
    (told,) = (one for one in lines if one.startswith("2 cells of the test"))
    assert "Ours has AUC 0.900 in their mean and 0.700 in the least. Of the others residual pixel is best in" in told
    assert "on validation rows it is clipped." in told
    assert "2 of 2 differences in the mean and 1 of 2 differences in the least cell have an interval above 0." in told
    least = "0.750 | -0.050, -0.150 to +0.050: cannot tell |"
    place = lines.index(f"| residual pixel | 0.700 | 0.780 | +0.120, +0.020 to +0.220: holds | {least}")
    assert lines[place - 2] == "| detector | mean (val) | mean | ours less it | least cell | ours less it |"
    assert lines[place + 1].startswith(
        "| clipped (single number) | 0.750 | 0.600 | +0.300, +0.200 to +0.400: holds | 0.400 |"
    )


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
        "claims": [claim], "cells": cells, "against": [], "val_cells": [
            {**cells[1], "auc": 0.7}, {**cells[1], "variant": "E", "auc": 0.5}, {**cells[0], "auc": 0.1},
            {**cells[1], "detector": "members", "auc": 0.8},
        ],
    }  # fmt: skip
    text = detectors_result.markdown(result)
    assert "| detector | learned from | raw | R | A | E | P | P-both | val |" in text
    assert "| clipped (single number) | progan | 0.500 |  |  |  | 0.500 |  | 0.600 |" in text
    assert "| residual pixel | progan | 0.750 |  |  |  | 0.750 |  |  |" in text
    assert "| members | progan |  |  |  |  |  |  | 0.800 |" in text  # of which no row of the test is scored
    assert "- fakes[progan]: clipped values tell" in text
    assert "+0.100 to +0.300. **A single number does as well.**" in text
    with Image.open(io.BytesIO(detectors_result.figure(result))) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("RGB")).std() > 1
    with Image.open(io.BytesIO(detectors_result.figure({**result, "cells": [], "val_cells": cells}))) as again:
        assert again.size == picture.size


DEFAULT = (ROOT / "pipeline.yaml").read_text()
CUTS = {
    "../scratch/garments/photos.csv": "../" + re.findall(r"manifests/\w+\.yaml(?=})", DEFAULT)[0],
    "domain in [dress, pants, t-shirt]": re.findall(r"domain in \[[^]]*\]", DEFAULT)[0],
    "count: 2200": "count: 60",
    "take: 1000": "take: 24",
    "take: 500": "take: 24",
    "take: 300": "take: 8",
    "take: 240": "take: 12",
    "take: 150": "take: 8",
    "retranslated], where: split = test}": "retranslated], where: split = test, take: 60}",
    "epochs: 15": "epochs: 1",
    "[0, 1, 2, 3, 4]": "[0]",
    "[0, 1, 2]": "[0]",
    "task: [SR, SR+C, SR+D]": "task: [SR]",
    "residual[*-SR+C-*": "residual[*-SR-*",
}


@pytest.mark.stress
def test_a_cut_of_it_runs_to_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the embedded photographs and generators; a few rows of each kind, one seed, one epoch."""
    text = (ROOT / "experiments" / "detectors.yaml").read_text()
    for long, short in CUTS.items():
        assert long in text
        text = text.replace(long, short)
    text, left_out = re.subn(r' +- ".*SR\+[CD]-\*"\n', "", text)
    assert left_out == 6
    text = text.replace("../manifests/", f"{ROOT}/manifests/").replace("../scratch/detectors", str(tmp_path))
    file = tmp_path / "detectors.yaml"
    file.write_text(text)
    arguments = ["detectors", "val", "--file", str(file), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    detectors.main()
    result = json.loads((tmp_path / "out" / "detectors.json").read_text())
    assert (result["cells"], result["against"], result["claims"]) == ([], [], [])
    assert {cell["variant"] for cell in result["val_cells"]} == set(detectors_result.VARIANTS)
    assert len({(cell["variant"], cell["source"]) for cell in result["val_cells"]}) == 28  # with `all` of a variant
    monkeypatch.setattr("sys.argv", ["detectors", "run", *arguments[2:]])
    detectors.main()
    result = json.loads((tmp_path / "out" / "detectors.json").read_text())
    assert result["evaluated"][0] == result["evaluated"][1]
    assert {cell["variant"] for cell in result["cells"]} == set(detectors_result.VARIANTS)
    assert {one["verdict"] for one in result["claims"]} <= {"holds", "does not hold", "cannot tell"}
    shown = {(cell["detector"], cell["train"]) for cell in result["cells"]}
    assert {(one["detector"], one["train"]) for one in result["against"]} == {row for row in shown if row[0] != "ours"}
    gains = [json.loads(path.read_text())["counts"] for path in tmp_path.glob("store/fit_equalization/*/card.json")]
    assert [sum(one[kind].values()) for one in gains for kind in ("real", "fake")] == [24] * 8  # of training rows
    means = {}
    for row in shown:
        mine = [one for one in result["cells"] if (one["detector"], one["train"]) == row and one["source"] != "all"]
        assert len(mine) == 24
        means[row] = (np.mean([one["auc"] for one in mine]), min(one["auc"] for one in mine))
    for one in result["against"]:
        sides = means["ours", one["train"]], means[one["detector"], one["train"]]
        for place, over in enumerate(("mean", "minimum of means")):
            assert one[over]["sides"] == pytest.approx([side[place] for side in sides], abs=2e-4)
            assert one[over]["cells"] == 24
    text = (tmp_path / "out" / "detectors.md").read_text()
    assert text.count("| progan |") == len({cell["detector"] for cell in [*result["cells"], *result["val_cells"]]})
    assert text.count("Ours beside each detector of the seeds, learned from") == 2
    monkeypatch.setattr("sys.argv", ["detectors", "plan", *arguments[2:4]])
    detectors.main()
