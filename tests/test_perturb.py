"""The perturb stage: what is drawn, for whom, in which order, and what is written down about it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.stage import ID, Batch, Context, Field
from stages import perturbations
from stages.perturb import OFF, PROTOCOLS, Perturb, PerturbConfig, named

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
    image = perturbations.jpeg(parents[row], int(result["jpeg_quality"][row]))
    image = perturbations.blur(image, int(result["blur_kernel"][row]))
    image = perturbations.crop(image, float(result["crop_fraction"][row]))
    normal = Context(0, "perturb").rng(rows[row], "he2021/noise_variance/pixels").standard_normal(image.shape)
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
    assert np.array_equal(result["image"][hit[0]], perturbations.jpeg(parents[hit[0]], 95, "bgr"))


def test_switching_one_operation_off_leaves_the_other_draws() -> None:
    steps = [operation.model_dump() for operation in config("he2021").operations]
    both, off = custom(*steps), custom({**steps[0], "probability": 0.0}, *steps[1:])
    first, second = (run(settings, row_ids(40), images(40)) for settings in (both, off))
    assert (second["jpeg_quality"] == OFF).all()
    for name in ("blur_kernel", "crop_fraction", "noise_variance"):
        assert np.array_equal(first[name], second[name])
    quiet = first["applied"] & 1 == 0
    assert np.array_equal(first["image"][quiet], second["image"][quiet])


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
    from PIL import features

    assert STAGE.environment(config("he2021")) == {"libjpeg": features.version("jpg")}
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
        ({"protocol": "he2022"}, "Input should be 'yu2019', 'he2021'"),
        ({"protocol": "he2021", "quality": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PerturbConfig.model_validate(settings)


def test_input_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"perturb needs a field `image`, .* found codec; put equalize before it"):
        STAGE.schema(config("he2021"), {"of": {"codec": Field("S8")}})
