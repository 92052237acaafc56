"""The perturb stage: what is drawn, for whom, in which order, and what is written down about it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as some
from pydantic import ValidationError
from toy_project import Project

from detectors.gaussian_filter import gaussian_filter
from detectors.jpeg_codecs import jpeg
from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.stage import ID, Batch, Context, Field
from stages.images import perturbations
from stages.perturb import OFF, PROTOCOLS, Perturb, PerturbConfig, drawn, named

STAGE = Perturb()


def row_ids(count: int) -> np.ndarray:
    return np.array([hashlib.sha256(b"row %d" % row).digest()[:16] for row in range(count)], ID)


def images(count: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def config(protocol: str, **more: Any) -> PerturbConfig:
    return PerturbConfig.model_validate({"protocol": protocol, **more})


def custom(*operations: dict[str, Any], **more: Any) -> PerturbConfig:
    return config("custom", operations=list(operations), **more)


def run(settings: PerturbConfig, rows: np.ndarray, parents: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    batch = Batch(rows, (rows,), ({"image": parents},), np.zeros(len(rows), np.int64))
    return dict(STAGE.compute(settings, batch, Context(seed, "perturb")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_fit_the_schema_and_hold_no_nan(protocol: str) -> None:
    settings, rows = config(protocol), row_ids(12)
    schema = STAGE.schema(settings, {"of": {"image": Field("uint8", (24, 24, 3))}})
    result = run(settings, rows, images(12))
    assert set(result) == set(schema)
    for name, values in result.items():
        assert values.dtype == schema[name].dtype
        assert values.shape == (12, *schema[name].shape)
        assert np.isfinite(values.astype(float)).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_row_depends_on_its_id_only(protocol: str) -> None:
    """Other neighbors, another order, alone: same bytes; another seed: others."""
    settings, rows, parents = config(protocol), row_ids(16), images(16)
    whole = run(settings, rows, parents)
    order = np.random.default_rng(0).permutation(16)
    shuffled = run(settings, rows[order], parents[order])
    for name, values in whole.items():
        assert values[order].tobytes() == shuffled[name].tobytes()
    alone = run(settings, rows[5:6], parents[5:6])
    assert alone["image"].tobytes() == whole["image"][5].tobytes()
    assert run(settings, rows, parents, seed=1)["image"].tobytes() != whole["image"].tobytes()


def test_he2021_applies_jpeg_blur_crop_noise_in_this_order() -> None:
    settings, rows, parents = config("he2021"), row_ids(64), images(64)
    result = run(settings, rows, parents)
    row = int(np.flatnonzero(result["applied"] == 0b1111)[0])
    image = jpeg(parents[row], int(result["jpeg_quality"][row]))
    image = perturbations.blur(image, int(result["blur_kernel"][row]))
    image = perturbations.crop(image, float(result["crop_fraction"][row]))
    normal = Context(0, "perturb").rng(rows[row], "noise/pixels").standard_normal(image.shape)
    image = perturbations.noise(image, normal, float(result["noise_variance"][row]) ** 0.5)
    assert np.array_equal(result["image"][row], image)
    assert [name for name, _ in named(config("yu2019"))] == [
        "crop_fraction",
        "blur_kernel",
        "jpeg_quality",
        "noise_variance",
    ]


def test_draws_cover_the_stated_ranges_and_probabilities() -> None:
    settings, count = config("he2021"), 600
    result = run(settings, row_ids(count), images(count, 8))
    for bit, (name, low, high) in enumerate(
        [("jpeg_quality", 10, 75), ("blur_kernel", 1, 9), ("crop_fraction", 0.05, 0.2), ("noise_variance", 5, 20)]
    ):
        on = result["applied"] >> bit & 1 == 1
        drawn = result[name][on]
        assert (result[name][~on] == OFF).all()
        assert 0.4 < on.mean() < 0.6  # 5 standard deviations of a fair coin are 0.1
        assert low <= drawn.min() < low + 0.1 * (high - low)
        assert high >= drawn.max() > high - 0.1 * (high - low)


def test_rows_without_any_operation_are_untouched() -> None:
    parents = images(64)
    result = run(config("he2021"), row_ids(64), parents)
    idle = result["applied"] == 0
    assert idle.any()
    assert np.array_equal(result["image"][idle], parents[idle])
    assert (result["image"][~idle] != parents[~idle]).any()


@pytest.mark.parametrize("protocol", ["frank2020-paper", "frank2020-released"])
def test_frank_applies_at_most_one_operation_per_row_and_each_about_equally_often(protocol: str) -> None:
    count = 800
    applied = run(config(protocol), row_ids(count), images(count, 8))["applied"]
    assert set(np.unique(applied)) == {0, 1, 2, 4, 8}
    assert 0.4 < (applied == 0).mean() < 0.6
    shares = [(applied == bit).mean() for bit in (1, 2, 4, 8)]
    assert min(shares) > 0.075  # an eighth each; 4 standard deviations are 0.047
    assert max(shares) < 0.175


def test_released_frank_jpeg_is_quality_95_whatever_was_drawn() -> None:
    rows, parents = row_ids(64), images(64)
    result = run(config("frank2020-released"), rows, parents)
    hit = np.flatnonzero(result["applied"] == 4)
    assert set(result["jpeg_quality"][hit]) == {95.0}
    assert np.array_equal(result["image"][hit[0]], jpeg(parents[hit[0]], 95, channel_order="bgr"))


EVERY = [
    {"op": "jpeg"},
    {"op": "blur"},
    {"op": "crop"},
    {"op": "noise"},
    {"op": "gaussian"},
    {"op": "jpeg", "low": 40, "high": 90},
    {"op": "noise", "unit": "standard deviation in gray levels"},
]
OTHER_RANGES: dict[str, dict[str, Any]] = {
    "jpeg": {"low": 20, "high": 30},
    "blur": {"kernels": [7]},
    **{op: {"low": 0.1, "high": 0.3} for op in ("crop", "noise", "gaussian")},
}
ROWS, PARENTS = row_ids(24), images(24, 9)


@limits(max_examples=12, deadline=None)
@given(
    steps=some.permutations(EVERY).flatmap(lambda steps: some.sampled_from([steps[:3], steps[:5], steps])),
    combine=some.sampled_from(["all", "one"]),
    which=some.integers(0, 6),
    change=some.sampled_from(["off", "never", "always", "range"]),
    seed=some.integers(0, 3),
)
def test_switching_one_operation_off_or_changing_its_range_leaves_the_other_draws(
    steps: list[dict[str, Any]], combine: str, which: int, change: str, seed: int
) -> None:
    number = which % len(steps)
    step = steps[number]
    changed = step | (OTHER_RANGES[step["op"]] if change == "range" else {"probability": float(change == "always")})
    one = custom(*steps, combine=combine)
    other = custom(*steps[:number], changed, *steps[number + 1 :], combine=combine)
    if change == "off":
        earlier = [before["op"] for before in steps[:number]].count(step["op"])
        other = custom(*steps, combine=combine, off=[step["op"] + f"_{earlier + 1}" * bool(earlier)])
    first, second = (run(settings, ROWS, PARENTS, seed) for settings in (one, other))
    names = [name for name, _ in named(one)]
    for position, name in enumerate(names):
        if position != number:
            assert np.array_equal(first[name], second[name]), name
            assert np.array_equal(first["applied"] >> position & 1, second["applied"] >> position & 1)
    quiet = (first["applied"] | second["applied"]) >> number & 1 == 0
    assert np.array_equal(first["image"][quiet], second["image"][quiet])
    if change in ("off", "never"):
        assert (second[names[number]] == OFF).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_operation_of_a_protocol_that_is_off_leaves_the_others_whether_switched_off_or_taken_out(
    protocol: str,
) -> None:
    """The same rows, once with all operations, once with `off`, and once with a list of one's own without it."""
    rows, parents, whole = row_ids(40), images(40, 9), config(protocol)
    first = run(whole, rows, parents)
    for number, (gone, step) in enumerate(named(whole)):
        switched = run(config(protocol, off=[step.op]), rows, parents)
        assert set(switched) == set(first)
        bit = np.uint8(1 << number)
        hit = first["applied"] & bit > 0
        assert np.array_equal(switched["applied"], first["applied"] & ~bit)
        assert (switched[gone] == OFF).all()
        assert np.array_equal(switched["image"][~hit], first["image"][~hit])
        if whole.combine == "one":
            assert np.array_equal(switched["image"][hit], parents[hit])
        else:
            left = [operation.model_dump() for operation in whole.operations if operation != step]
            taken_out = run(custom(*left), rows, parents)
            assert taken_out["image"].tobytes() == switched["image"].tobytes()
            assert all(np.array_equal(taken_out[name], first[name]) for name in set(taken_out) - {"image", "applied"})
        for name in set(first) - {gone, "image", "applied"}:
            assert np.array_equal(switched[name], first[name]), (gone, name)


def test_draws_depend_on_the_name_of_an_operation_not_on_protocol_or_place() -> None:
    rows, parents = row_ids(64), images(64, 9)
    he, yu = (run(config(protocol), rows, parents) for protocol in ("he2021", "yu2019"))
    other_unit = custom({"op": "noise", "unit": "standard deviation in gray levels"})
    for name in ("jpeg_quality", "blur_kernel", "crop_fraction", "noise_variance"):
        assert np.array_equal(he[name], yu[name])
    assert np.array_equal(run(other_unit, rows, parents)["noise_std"], he["noise_variance"])


def test_the_first_of_two_of_one_name_is_switched_off_without_the_second() -> None:
    twice = [{"op": "jpeg"}, {"op": "blur"}, {"op": "jpeg", "low": 40, "high": 90}]
    rows, parents = row_ids(40), images(40, 9)
    whole, off = (run(custom(*twice, off=names), rows, parents) for names in ([], ["jpeg"]))
    assert (off["jpeg_quality"] == OFF).all()
    assert np.array_equal(off["jpeg_quality_2"], whole["jpeg_quality_2"])
    assert (whole["jpeg_quality_2"] >= 40).any()
    second = run(custom(*twice, off=["jpeg_2"]), rows, parents)
    assert (second["jpeg_quality_2"] == OFF).all()
    assert np.array_equal(second["jpeg_quality"], whole["jpeg_quality"])


def test_without_its_jpeg_a_protocol_needs_no_codec() -> None:
    settings = config("he2021", off=["jpeg"])
    assert settings.codecs is None
    assert STAGE.environment(settings) == {}
    assert STAGE.schema(settings, {"of": {"image": Field("uint8", (8, 70000, 3))}})["image"].shape == (8, 70000, 3)
    assert "jpeg_quality" in drawn(settings)
    assert PerturbConfig.model_validate(settings.model_dump()) == settings
    twice = custom({"op": "jpeg"}, {"op": "jpeg"}, off=["jpeg"])
    assert twice.codecs == ["pillow"]
    assert config("he2021", off=["noise", "jpeg"]) == config("he2021", off=["jpeg", "noise"])  # one recipe


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_done_can_be_done_again_from_the_record(protocol: str) -> None:
    """Columns and the row's id are enough to make each image again, operation by operation."""
    settings, rows, parents = config(protocol), row_ids(20), images(20, 16)
    result = run(settings, rows, parents)
    for row in range(20):
        image = parents[row]
        for bit, (name, step) in enumerate(named(settings)):
            value = float(result[name][row])
            if not result["applied"][row] >> bit & 1:
                assert value == OFF
                continue
            if step.op == "jpeg":
                image = jpeg(image, int(value), channel_order=step.channel_order)
            elif step.op == "blur":
                image = perturbations.blur(image, int(value), step.sigma_px)
            elif step.op == "gaussian":
                image = gaussian_filter(image, value)
            elif step.op == "crop":
                image = perturbations.crop(image, value)
            else:
                normal = Context(0, "perturb").rng(rows[row], "noise/pixels").standard_normal(image.shape)
                std = value if name == "noise_std" else value**0.5
                image = perturbations.noise(image, normal, std, step.rounding)
        assert np.array_equal(image, result["image"][row])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (5, 3), (17, 8)])
@pytest.mark.parametrize("level", [None, 0, 255])
def test_tiny_odd_and_constant_images_have_a_defined_outcome(
    protocol: str, shape: tuple[int, int], level: int | None
) -> None:
    settings, rows = config(protocol), row_ids(8)
    parents = np.random.default_rng(0).integers(0, 256, (8, *shape, 3), dtype=np.uint8)
    if level is not None:
        parents[:] = level
    schema = STAGE.schema(settings, {"of": {"image": Field("uint8", (*shape, 3))}})
    result = run(settings, rows, parents)
    for name, values in result.items():
        assert values.shape == (8, *schema[name].shape)
        assert np.isfinite(values.astype(float)).all()
    untouched = result["applied"] == 0
    assert np.array_equal(result["image"][untouched], parents[untouched])


def test_images_beyond_the_limit_of_jpeg_are_refused_before_anything_runs() -> None:
    long = {"of": {"image": Field("uint8", (8, 70000, 3))}}
    with pytest.raises(ValueError, match=r"images of up to 65500 px per side, found 8 x 70000; reduce them"):
        STAGE.schema(config("he2021"), long)
    assert STAGE.schema(custom({"op": "crop"}), long)["image"].shape == (8, 70000, 3)


def test_the_same_operation_twice_has_two_columns() -> None:
    settings = custom(*[{"op": "jpeg", "low": 30, "high": 60, "probability": 1.0}] * 2)
    result = run(settings, row_ids(8), images(8))
    assert (result["jpeg_quality"] != result["jpeg_quality_2"]).any()
    assert (result["applied"] == 3).all()


def test_resolved_config_states_every_operation_and_reads_back_as_itself() -> None:
    for protocol in PROTOCOLS:
        resolved = config(protocol).model_dump()
        assert all({"probability", "unit"} <= set(step) for step in resolved["operations"])
        assert PerturbConfig.model_validate(resolved) == config(protocol)


def test_draws_choose_rows_and_are_no_part_of_the_recipe() -> None:
    assert STAGE.fan_out(config("he2021", draws=3)) == 3
    assert PerturbConfig.model_fields["draws"].json_schema_extra == {"recipe": False}


def test_libjpeg_is_named_where_jpeg_is_used() -> None:
    assert set(STAGE.environment(config("he2021"))) == {"libjpeg"}
    assert STAGE.environment(custom({"op": "crop"})) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"protocol": "he2021", "operations": [{"op": "jpeg"}]},
            "protocol he2021 fixes operations; use protocol: custom",
        ),
        ({"protocol": "frank2020-paper", "combine": "all"}, "protocol frank2020-paper fixes combine"),
        ({"protocol": "custom"}, "protocol custom needs operations, found none"),
        ({"protocol": "custom", "operations": [{"op": "jpeg", "low": 80, "high": 20}]}, "low is 80 and high is 20"),
        ({"protocol": "custom", "operations": [{"op": "blur", "kernels": [4]}]}, "expected odd sizes"),
        ({"protocol": "custom", "operations": [{"op": "blur", "kernels": [11]}]}, "at most 9 where sigma_px"),
        ({"protocol": "custom", "operations": [{"op": "crop"}], "codecs": ["pillow"]}, "codecs has no effect without"),
        ({"protocol": "he2021", "codecs": ["pillow", "pillow"]}, "name one twice"),
        ({"protocol": "he2021", "codecs": []}, "at least 1 item"),
        ({"protocol": "spectrum_equalization"}, "write stage: equalize_spectrum"),
        ({"protocol": "he2022"}, "Input should be 'yu2019', 'he2021'"),
        ({"protocol": "custom", "operations": [{"op": "noise", "high": float("inf")}]}, "finite number"),
        ({"protocol": "custom", "operations": [{"op": "blur", "sigma_px": 1e-200}]}, "greater than or equal"),
        ({"protocol": "custom", "operations": [{"op": "crop", "low": float("nan")}]}, "finite number"),
        ({"protocol": "he2021", "off": ["jpg"]}, "off names 'jpg', expected some of jpeg, blur, crop, noise"),
        ({"protocol": "he2021", "off": ["jpeg_2"]}, "off names 'jpeg_2', expected some of jpeg, blur"),
        ({"protocol": "he2021", "off": ["jpeg", "jpeg"]}, "off names one twice; name each once"),
        ({"protocol": "wang2020", "off": ["jpeg", "gaussian"]}, "off names every operation"),
        ({"protocol": "he2021", "off": ["jpeg"], "codecs": ["pillow"]}, "codecs has no effect without"),
        ({"protocol": "he2021", "off": "jpeg"}, "valid list"),
        ({"protocol": "he2021", "quality": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PerturbConfig.model_validate(settings)


def test_input_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"perturb needs a field 'image', .* found codec; put equalize before it"):
        STAGE.schema(config("he2021"), {"of": {"codec": Field("S8")}})


def test_a_draw_of_codecs_has_a_column_where_there_are_two() -> None:
    both = config("wang2020", codecs=["opencv", "pillow"])
    assert set(drawn(both)) - set(drawn(config("wang2020"))) == {"jpeg_codec"}
    assert drawn(both)["jpeg_codec"] == "opencv or pillow, counted from 0; -1: not applied"


PIPELINE = """
nodes:
  photos: {stage: "toy_photos:Photos", count: 6}
  he: {stage: perturb, of: photos, protocol: he2021}
  yu: {stage: perturb, of: photos, protocol: yu2019, draws: 2}
  single: {stage: perturb, of: photos, protocol: custom, operations: [{op: blur, kernels: [5], probability: 1.0}]}
  of_he: {stage: spectrum, of: he}
  of_all: {stage: spectrum, of: [photos, yu, single]}
"""


def test_a_change_of_protocol_recomputes_its_own_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    computed = project.run().computed
    assert computed == {"photos": 6, "he": 6, "yu": 12, "single": 6, "of_he": 6, "of_all": 24}
    assert project.run().computed == {}
    project.replace("protocol: he2021", "protocol: frank2020-paper")
    assert project.run().computed == {"he": 6, "of_he": 6}
    project.replace("kernels: [5]", "kernels: [7]")
    assert project.run().computed == {"single": 6, "of_all": 6}
    project.replace("draws: 2", "draws: 3")  # the first two of each row stay
    assert project.run().computed == {"yu": 6, "of_all": 6}
    project.replace("protocol: frank2020-paper", "protocol: he2021")  # and back: the old rows are still there
    assert project.run().computed == {}


def test_draws_of_a_row_have_ids_and_values_of_their_own_and_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run("yu")
    rows = open_node(project.file, "yu")
    assert len(set(rows.ids.tolist())) == 12
    groups, counts = np.unique(rows.column("group"), return_counts=True)
    assert len(groups) == 6
    assert (counts == 2).all()
    drawn_values = np.stack([rows.array(name) for name, _ in named(config("yu2019"))], axis=1)
    assert len(np.unique(drawn_values, axis=0)) > 6


def test_a_missing_opencv_stops_the_planning_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.replace("protocol: he2021", "protocol: he2021, codecs: [opencv]")
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:4.*codecs name opencv, and OpenCV cannot be imported"):
        project.run()
