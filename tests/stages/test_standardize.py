"""Stage `standardize`: statistics of training rows, what they are tied to, and a detector that applies them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, rows_of, union

from pipeline.errors import Interrupted
from pipeline.stage import MAPS, Artifact, Field, Promise
from stages import standardize
from stages.evaluation.detector_file import load_detector
from stages.spectra import statistics_file
from stages.spectra.maps import dct2d_maps
from stages.spectra.statistics_file import StatisticsError
from stages.standardize import Standardize, StandardizeConfig
from stages.train import Train, TrainConfig

FIELD = Field("float16", (1, 8, 8), axes=MAPS)
CNN = {"preset": "dct2d-cnn", "feature": "map", "widths": [4], "epochs": 1, "batch_size": 8, "micro_batch": 8}


def maps(count: int, seed: int) -> dict[str, Any]:
    values = np.random.default_rng(seed).normal(3, 2, (count, 1, 8, 8)).astype(np.float16)
    values[:, 0, 0, 0] = 5  # a coefficient that never varies
    return {"map": values, "label_like": np.zeros((count, 2), np.int32)}


ROWS = union(rows_of("photos", 0, maps(40, 1)), rows_of("progan", 1, maps(40, 2)))


def fit(folder: Path, rows: MemoryRows, feature: str = "map", **more: Any) -> Path:
    ctx = context(folder, "standardize", **more)
    Standardize().fit(StandardizeConfig(feature=feature), {"on": rows}, ctx)
    return ctx.out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.golden("spectrum", "set_dct.npz")
def test_statistics_of_stored_dct_maps_are_the_published_ones_within_their_rounding(
    golden: Any, tmp_path: Path
) -> None:
    images = np.repeat(golden["gray"][..., None], 3, axis=-1)
    stored = dct2d_maps(images, "gray", np.float32, np.float16)
    out = fit(tmp_path, rows_of("photos", 0, {"dct2d": stored}, split="train"), "dct2d")
    mean, variance = statistics_file.load(out / statistics_file.FILE)
    strong = golden["log_mean"] > -10  # weaker ones are round-off of the transform
    gap = (
        2.0**-7
    )  # a step of float16 between 8 and 16; a few coefficients near zero in one image are float32's round-off
    for found, expected in ((mean, golden["log_mean"]), (np.sqrt(variance), np.sqrt(golden["log_var"]))):
        errors = np.abs(found[0] - expected)[strong]
        assert (errors > gap).mean() < 2e-3
        assert errors.max() < 1


def test_statistics_are_those_of_all_training_rows_of_both_classes_and_no_others(tmp_path: Path) -> None:
    spoiled = ROWS.take(np.arange(len(ROWS)))
    spoiled.values = {name: array.copy() for name, array in spoiled.values.items()}
    spoiled.values["map"][spoiled.column("split") != "train"] = np.nan
    mean, variance = statistics_file.load(fit(tmp_path, spoiled) / statistics_file.FILE)
    train = ROWS.array("map")[ROWS.column("split") == "train"].astype(np.float64)
    np.testing.assert_allclose(mean, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, train.var(axis=0), rtol=1e-10, atol=0)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["rows"], card["constant"], card["shape"], card["feature"]) == (40, 1, [1, 8, 8], "map")


def test_the_order_of_the_view_does_not_change_a_byte(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(ROWS))
    assert contents(fit(tmp_path / "one", ROWS)) == contents(fit(tmp_path / "two", ROWS.take(order)))


def test_a_stopped_fit_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardize, "READ_BYTES", 10 * FIELD.row_bytes)
    whole = contents(fit(tmp_path / "whole", ROWS))
    for _ in range(3):  # of four blocks; each attempt reads one
        with pytest.raises(Interrupted, match="the rows so far are kept"):
            fit(tmp_path / "stopped", ROWS, stopping=lambda: True)
    seen: list[tuple[int, int]] = []
    assert contents(fit(tmp_path / "stopped", ROWS, report=lambda *now: seen.append(now))) == whole
    assert seen == [(40, 40)]


def test_a_field_that_is_missing_or_no_float_names_those_that_would_do() -> None:
    schema = {"on": {"map": FIELD, "label_like": Field("int32", (2,))}}
    for feature in ("dct2d", "label_like"):
        with pytest.raises(ValueError, match=f"no field '{feature}' of floating-point numbers, they have map; change"):
            Standardize().schema(StandardizeConfig(feature=feature), schema)


def trained(folder: Path, rows: MemoryRows, **more: Any) -> Any:
    values = {"detector": CNN, **({"standardization": "statistics"} if more else {})}
    ctx = context(folder, "train", **more)
    Train().fit(TrainConfig.model_validate_json(json.dumps(values)), {"on": rows}, ctx)
    return load_detector(ctx.out)


def test_a_detector_applies_given_statistics_and_keeps_them(tmp_path: Path) -> None:
    own = trained(tmp_path / "own", ROWS)
    same = fit(tmp_path / "same", ROWS)
    given = trained(tmp_path / "given", ROWS, artifacts={"standardization": (Artifact("standard", "", same),)})
    assert given.card["standardized_by"].startswith("statistics ")
    assert own.card["standardized_by"] == "its training rows"
    for name, values in own.state.tensors.items():  # statistics of the same rows are the same statistics
        np.testing.assert_allclose(given.state.tensors[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    other = fit(tmp_path / "other", rows_of("photos", 0, {"map": 2 * maps(40, 1)["map"]}, split="train"))
    path = {"standardization": other / statistics_file.FILE}
    scaled = trained(tmp_path / "scaled", ROWS, files=path)
    np.testing.assert_allclose(
        scaled.state.tensors["mean"], statistics_file.load(path["standardization"])[0], rtol=1e-6
    )
    assert not scaled.state.tensors["scale"][0, 0, 0]  # never varied


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            Field("float16", (1, 8, 9), axes=MAPS),
            r"has statistics of shape \[1, 8, 8\], expected \[1, 8, 9\]; standardize the rows",
        ),
        (Field("float16", (1, 8, 8), "ln", MAPS), 'has statistics of units "", expected "ln"'),
    ],
)
def test_statistics_of_something_else_are_refused_when_planning(field: Field, message: str) -> None:
    facts = Standardize().promise(StandardizeConfig(feature="map"), {"on": {"map": FIELD}})
    config = TrainConfig.model_validate_json(json.dumps({"detector": CNN, "standardization": "standard"}))
    with pytest.raises(StatisticsError, match=message):
        Train().schema(config, {"on": {"map": field}, "standardization": Promise("standard", facts)})
    Train().schema(config, {"on": {"map": FIELD}, "standardization": Promise("standard", facts)})


def test_statistics_without_effect_are_refused() -> None:
    config = TrainConfig.model_validate_json(json.dumps({"detector": "fft2d-cnn", "standardization": "standard"}))
    with pytest.raises(ValueError, match="'standardization' has no effect on a detector without `normalization: stand"):
        Train().check(config, {"standardization": Promise("standard", {})})


def test_a_file_that_holds_no_statistics_is_one_sentence(tmp_path: Path) -> None:
    import safetensors.numpy

    path = tmp_path / "statistics.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(StatisticsError, match="is no whole safetensors file"):
        statistics_file.read_description(path)
    safetensors.numpy.save_file({"mean": np.zeros(2)}, path)
    with pytest.raises(StatisticsError, match="holds no standardization statistics"):
        statistics_file.read_description(path)
    with pytest.raises(StatisticsError, match="node 'x' holds no standardization statistics"):
        statistics_file.read_description(Promise("x", {"kind": "generator"}))
    for mean, variance, message in (
        (np.zeros((1, 8, 9)), np.ones((1, 8, 8)), "'mean' is no finite float64 array of shape"),
        (np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan), "'variance' is no finite float64 array"),
        (np.zeros((1, 8, 8)), -np.ones((1, 8, 8)), "'variance' has negative numbers"),
    ):
        path.write_bytes(statistics_file.pack("map", FIELD, mean, variance))
        with pytest.raises(StatisticsError, match=message):
            statistics_file.load(path)
    altered = statistics_file.pack("map", FIELD, np.zeros(2), np.zeros(2)).replace(
        b'\\"format\\": 1', b'\\"format\\": 9'
    )
    path.write_bytes(altered)
    with pytest.raises(StatisticsError, match="is of format 9; this version reads format 1"):
        statistics_file.read_description(path)
