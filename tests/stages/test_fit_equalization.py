"""Learning a spectrum equalization: golden statistics, what it says about itself, kills, and rows it must not read."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.numpy
from memory_rows import MemoryRows, context, rows_of, union
from pydantic import ValidationError

from pipeline.errors import Interrupted, StageError
from pipeline.stage import Field, FitContext, Promise
from stages import fit_equalization
from stages.fit_equalization import FitEqualization, FitEqualizationConfig
from stages.spectra import equalization_file
from stages.training import passes

if TYPE_CHECKING:
    from tests.conftest import Golden

STAGE = FitEqualization()


def noise(rows: int, height: int = 16, width: int = 12, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, 3), dtype=np.uint8)


def dull(rows: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Noise with little contrast: all gains are larger than 1."""
    return 100 + noise(rows, seed=seed) // 8


def train_rows(reals: np.ndarray[Any, Any], fakes: np.ndarray[Any, Any], split: str = "train") -> MemoryRows:
    return union(
        rows_of("photos", 0, {"image": reals}, split=split), rows_of("progan", 1, {"image": fakes}, split=split)
    )


def fitted(folder: Path, rows: MemoryRows, **settings: Any) -> FitContext:
    ctx = context(folder, "fit_equalization")
    STAGE.fit(FitEqualizationConfig.model_validate(settings), {"on": rows}, ctx)
    return ctx


def arrays(ctx: FitContext) -> dict[str, np.ndarray[Any, Any]]:
    return safetensors.numpy.load_file(ctx.out / equalization_file.FILE)


def files(ctx: FitContext) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(ctx.out.iterdir())}


@pytest.mark.golden("spectrum", "equalise_E.npz")
def test_mean_profiles_and_what_is_left_after_rounding_equal_the_reference(golden: Golden, tmp_path: Path) -> None:
    ctx = fitted(tmp_path, train_rows(golden["real"], golden["fake"]))
    found = arrays(ctx)
    for name, key in (
        ("target", "target_profile"),
        ("source", "source_profile"),
        ("profile_target", "target_profile"),
        ("profile_source", "source_profile"),
        ("profile_rounded", "profile_after_uint8"),
    ):
        np.testing.assert_allclose(found[name], golden[key], rtol=0, atol=1e-7, err_msg=name)
    gaps = ctx.facts["gap_nepers"]
    for name, key in (("before", "source_profile"), ("after_rounding", "profile_after_uint8")):
        wanted = np.abs(golden[key] - golden["target_profile"])[:, 1:]
        assert gaps[name] == pytest.approx(wanted.mean(), abs=1e-7)
    assert gaps["largest_after_rounding"] == pytest.approx(wanted.max(), abs=1e-7)
    assert gaps["before_rounding"] < 1e-9  # the invariant
    assert np.abs(found["profile_unrounded"] - golden["target_profile"])[:, 1:].max() < 1e-9
    errors = np.mean((golden["out_uint8"].astype(float) - golden["fake"]) ** 2, axis=(1, 2, 3))
    ratios = [10 * math.log10(255**2 / error) for error in errors]
    assert ctx.facts["psnr_db"]["mean"] == pytest.approx(np.mean(ratios), abs=0.01)
    assert ctx.facts["psnr_db"]["least"] == pytest.approx(min(ratios), abs=0.01)


@pytest.mark.parametrize("shape", ["radial", "2d"])
@pytest.mark.parametrize("channels", ["separate", "gray"])
@pytest.mark.parametrize("gain_per", ["set", "image"])
def test_the_invariant_is_measured_for_every_kind_of_gain(
    shape: str, channels: str, gain_per: str, tmp_path: Path
) -> None:
    ctx = fitted(tmp_path, train_rows(noise(5), dull(4)), shape=shape, channels=channels, gain_per=gain_per)
    gaps = ctx.facts["gap_nepers"]
    assert gaps["before"] > 1
    assert gaps["before_rounding"] < 1e-8  # a ring of a small image has few cells
    assert gaps["before_rounding"] < gaps["after_rounding"] < gaps["before"]
    planes = 1 if channels == "gray" else 3
    expected = (planes, 11) if shape == "radial" else (planes, 16, 7)
    found = arrays(ctx)
    assert found["target"].shape == found["source"].shape == expected
    assert found["target"].dtype == np.float64
    assert found["profile_rounded"].shape == (planes, 11)


def test_card_and_facts_name_rows_sources_and_settings(tmp_path: Path) -> None:
    ctx = fitted(tmp_path, train_rows(noise(5), dull(4)), largest_gain=2.0, pool_below=4)
    card = json.loads((ctx.out / "card.json").read_text())
    assert card == ctx.facts
    assert card["counts"] == {"real": {"photos": 5}, "fake": {"progan": 4}}
    assert (card["height"], card["width"], card["largest"], card["pool_below"]) == (16, 12, 2.0, 4)
    assert card["gap_nepers"]["before_rounding"] > 0.1  # limited gains cannot reach the reals


def test_small_sets_and_several_generators_are_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = union(train_rows(noise(5), dull(4)), rows_of("stylegan", 1, {"image": dull(3, 2)}, split="train"))
    of_maps = fitted(tmp_path / "maps", rows, shape="2d").facts["warnings"]
    assert "noisy at every frequency, 100 or more are better; largest_gain helps." in of_maps[0]
    assert fitted(tmp_path / "limited", rows, shape="2d", largest_gain=2.0).facts["warnings"][0].endswith("better.")
    assert fitted(tmp_path / "pooled", rows, pool_below=4).facts["warnings"][0].endswith("better.")
    reals, fakes, mixed = fitted(tmp_path / "few", rows, largest_gain=9.0).facts["warnings"]
    assert "5 real images is noisy at the innermost rings, 100 or more are better; pool_below: 4 helps" in reals
    assert "7 fake images" in fakes
    assert "Fakes of 2 sources share one gain" in mixed
    monkeypatch.setattr(fit_equalization, "FEW_ROWS", 5)
    monkeypatch.setattr(fit_equalization, "LARGE_GAIN", 1000.0)
    assert fitted(tmp_path / "enough", rows_of_both()).facts["warnings"] == []


def rows_of_both() -> MemoryRows:
    return train_rows(noise(6), dull(5))


def test_rows_of_other_splits_are_not_read(tmp_path: Path) -> None:
    ours = rows_of_both()
    others = [rows_of(f"{split} rows", label, {"image": noise(3, seed=9)}, split=split)
              for label in (0, 1) for split in ("val", "test")]  # fmt: skip
    one, two = fitted(tmp_path / "one", ours), fitted(tmp_path / "two", union(ours, *others))
    assert files(one) == files(two)


def test_the_order_of_the_view_does_not_count(tmp_path: Path) -> None:
    ours = union(rows_of_both(), rows_of("stylegan", 1, {"image": dull(5, 7)}, split="train"))
    shuffled = ours.take(np.random.default_rng(3).permutation(len(ours)))
    assert files(fitted(tmp_path / "one", ours)) == files(fitted(tmp_path / "two", shuffled))


class Counting:
    """Rows that count what is read of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        before = MemoryRows.array

        def array(rows: MemoryRows, field: str, which: Any = None) -> Any:
            self.read += len(rows) if which is None else len(which)
            return before(rows, field, which)

        monkeypatch.setattr(MemoryRows, "array", array)


@pytest.mark.parametrize("shape", ["radial", "2d"])
@pytest.mark.parametrize("stops", [[1], [3], [4, 2], [7]])
def test_a_stopped_fit_goes_on_where_it_was_and_gives_the_same_bytes(
    stops: list[int], shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 2 rows: 3 of reals, 3 of fakes, 3 of their second pass."""
    monkeypatch.setattr(fit_equalization, "READ_ROWS", 2)
    rows, config = rows_of_both(), FitEqualizationConfig(shape=shape)  # type: ignore[arg-type]
    whole = fitted(tmp_path / "whole", rows, shape=shape)
    counting = Counting(monkeypatch)
    for after in stops:
        calls = iter([False] * (after - 1) + [True])
        ctx = context(tmp_path / "parts", "fit_equalization", stopping=lambda calls=calls: next(calls))
        with pytest.raises(Interrupted, match="the rows so far are kept"):
            STAGE.fit(config, {"on": rows}, ctx)
        assert not list(ctx.out.iterdir())
    ctx = context(tmp_path / "parts", "fit_equalization")
    STAGE.fit(config, {"on": rows}, ctx)
    assert files(ctx) == files(whole)
    assert counting.read == 6 + 5 + 5


def test_a_killed_fit_loses_only_what_came_after_the_last_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_equalization, "READ_ROWS", 1)
    monkeypatch.setattr(passes, "SAVE_ROWS", 2)
    rows = rows_of_both()
    whole = fitted(tmp_path / "whole", rows)
    calls = iter(range(100))

    def killed() -> bool:
        if next(calls) == 4:  # while the fifth real is taken in: four are saved
            raise KeyboardInterrupt
        return False

    ctx = context(tmp_path / "parts", "fit_equalization", stopping=killed)
    with pytest.raises(KeyboardInterrupt):
        STAGE.fit(FitEqualizationConfig(), {"on": rows}, ctx)
    counting = Counting(monkeypatch)
    ctx = context(tmp_path / "parts", "fit_equalization")
    STAGE.fit(FitEqualizationConfig(), {"on": rows}, ctx)
    assert files(ctx) == files(whole)
    assert counting.read == 2 + 5 + 5


def test_progress_counts_both_passes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ctx = context(tmp_path, "fit_equalization", report=lambda done, total: seen.append((done, total)))
    STAGE.fit(FitEqualizationConfig(), {"on": rows_of_both()}, ctx)
    assert seen == [(6, 16), (11, 16), (16, 16)]


@pytest.mark.parametrize(("label", "missing"), [(0, "fake"), (1, "real")])
def test_a_missing_class_is_one_sentence(label: int, missing: str, tmp_path: Path) -> None:
    rows = rows_of("only", label, {"image": noise(3)}, split="train")
    with pytest.raises(StageError, match=f"training rows of 'on' hold no {missing} images, expected both classes; add"):
        fitted(tmp_path, rows)


def test_amplitudes_of_zero_are_counted_and_explain_what_is_left_of_the_gap(tmp_path: Path) -> None:
    """The highest frequencies of whole numbers are whole numbers, so they may be zero; no gain moves them."""
    fakes = dull(4)
    signs = (-1) ** np.add.outer(np.arange(16), np.arange(12))
    for channel in range(3):  # the corner frequency of one image becomes zero
        excess = int((fakes[2, :, :, channel].astype(int) * signs).sum())
        places = itertools.cycle(np.argwhere(signs == np.sign(excess)).tolist())
        for y, x in itertools.islice(places, abs(excess)):
            fakes[2, y, x, channel] -= 1
    ctx = fitted(tmp_path, train_rows(noise(5), fakes))
    assert ctx.facts["empty_amplitudes"] == 3
    found = arrays(ctx)
    missing = found["profile_target"] - found["profile_unrounded"]
    steps = found["target"] - found["source"]
    np.testing.assert_allclose(missing[:, -1], steps[:, -1] / 4, rtol=1e-4)  # the last ring is that cell alone
    assert np.abs(missing[:, 1:-1]).max() < 1e-8
    assert ctx.facts["gains"]["largest"] == pytest.approx(math.exp(steps[:, 1:].max()), rel=1e-9)
    assert ctx.facts["gains"]["least"] == pytest.approx(math.exp(steps[:, 1:].min()), rel=1e-9)
    assert re.fullmatch(
        r"Gains reach \d+: an amplitude of zero .*; largest_gain limits them\.", ctx.facts["warnings"][-1]
    )
    limited = fitted(tmp_path / "limited", train_rows(noise(5), fakes), largest_gain=9.0)
    assert not any("Gains reach" in line for line in limited.facts["warnings"])


def test_constant_and_black_images_give_finite_statistics(tmp_path: Path) -> None:
    flat = np.zeros((2, 16, 12, 3), np.uint8)
    for name, rows in {
        "reals": train_rows(flat, dull(2)),
        "fakes": train_rows(noise(2), flat),
        "both": train_rows(flat, flat),
    }.items():
        ctx = fitted(tmp_path / name, rows)
        assert all(np.isfinite(array).all() for array in arrays(ctx).values())
        text = (ctx.out / "card.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "found nothing; put equalize before it"),
        ({"codec": Field("S8")}, "found codec"),
        ({"image": Field("float32", (16, 16, 3))}, r"found float32 \(16, 16, 3\)"),
        ({"image": Field("uint8", (16, 16))}, r"found uint8 \(16, 16\)"),
        ({"image": Field("uint8", (1, 16, 3))}, "8 px per side or more, found 1 x 16"),
    ],
)
def test_inputs_without_images_of_one_size_are_refused(schema: dict[str, Field], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STAGE.schema(FitEqualizationConfig(), {"on": schema})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "round"}, "'radial' or '2d'"),
        ({"channels": "rgb"}, "'separate' or 'gray'"),
        ({"pool_below": 0}, "greater than or equal to 1"),
        ({"largest_gain": 0.5}, "greater than or equal to 1"),
        ({"largest_gain": math.nan}, "finite number"),
        ({"clamp": 2.0}, "Extra inputs are not permitted"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FitEqualizationConfig.model_validate(settings)


@pytest.mark.parametrize(
    "settings", [{}, {"shape": "2d", "channels": "gray", "gain_per": "image", "largest_gain": 3.0}]
)
def test_what_is_promised_is_what_the_file_says(settings: dict[str, Any], tmp_path: Path) -> None:
    config = FitEqualizationConfig.model_validate(settings)
    promised = STAGE.promise(config, {"on": {"image": Field("uint8", (16, 12, 3))}})
    ctx = fitted(tmp_path, rows_of_both(), **settings)
    assert equalization_file.read_description(ctx.out / equalization_file.FILE) == promised
    assert equalization_file.read_description(Promise("gains", promised)) == promised
