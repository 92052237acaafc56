"""Stage `mean_spectra`: which series, which files, bounded reading, stopping and going on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, rows_of, step, union
from PIL import Image
from pydantic import ValidationError

from pipeline.errors import Interrupted, StageError
from pipeline.stage import Field
from stages import mean_spectra
from stages.mean_spectra import MeanSpectra, MeanSpectraConfig, picture
from stages.spectra.spectrum_means import SpectrumSums
from stages.training import passes

SIDE = 16


def images(count: int, seed: int) -> dict[str, Any]:
    return {"image": np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)}


PHOTOS = rows_of("photos", 0, images(6, 1))
GAN = rows_of("fakes[progan <raw>]", 1, images(6, 2))
PERTURBED = rows_of("fakes[progan <raw>]", 1, images(6, 3), (step("perturb", protocol="he2021"),))


def config(*pictures: str) -> MeanSpectraConfig:
    return MeanSpectraConfig.model_validate_json(json.dumps({"pictures": pictures} if pictures else {}))


def fit(folder: Path, rows: MemoryRows, *pictures: str, **more: Any) -> Path:
    ctx = context(folder, "mean_spectra", **more)
    MeanSpectra().fit(config(*pictures), {"of": rows}, ctx)
    return ctx.out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_source_and_chain_has_its_arrays_its_pictures_and_its_place_in_the_card(tmp_path: Path) -> None:
    out = fit(tmp_path, union(GAN, PERTURBED, PHOTOS))
    card = json.loads((out / "card.json").read_text())
    shown = [(one["label"], one["source"], one["rows"], len(one["steps"])) for one in card["series"]]
    gan = "fakes[progan <raw>]"
    assert shown == [("real", "photos", 6, 0), ("fake", gan, 6, 0), ("fake", gan, 6, 1)]
    assert card["warnings"] == []
    assert (card["height"], card["width"]) == (SIDE, SIDE)
    names = ("mean_complex", "mean_logmag", "mean_mag_log")
    expected = {"card.json", *(f"{number:03d}.npz" for number in range(3))}
    for number, source in enumerate(("photos", "fakes-progan-raw", "fakes-progan-raw")):
        expected |= {f"{number:03d}-{source}-high_pass-{name}.png" for name in names}
    assert set(contents(out)) == expected


def test_arrays_are_the_means_of_the_series_rows_in_the_order_of_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = union(GAN, PHOTOS)
    added: list[Any] = []
    plain = SpectrumSums.add
    monkeypatch.setattr(SpectrumSums, "add", lambda self, images: (added.append(images), plain(self, images)))
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    out = fit(tmp_path / "one", rows, "dct2d", "high_pass")
    assert contents(fit(tmp_path / "two", shuffled, "high_pass", "dct2d")) == contents(out)
    order = np.argsort([bytes(one) for one in PHOTOS.ids])
    assert np.array_equal(added[0], PHOTOS.array("image", order))
    assert all(np.array_equal(one, other) for one, other in zip(added[:4], added[4:], strict=True))
    for kind in ("high_pass", "dct2d"):
        sums = SpectrumSums(kind, SIDE, SIDE)
        sums.add(PHOTOS.array("image", order))
        with np.load(out / "000.npz", allow_pickle=False) as file:
            for name, values in sums.means(6).items():
                assert np.array_equal(file[f"{kind}/{name}"], values)


def test_pictures_of_one_definition_share_their_levels(tmp_path: Path) -> None:
    out = fit(tmp_path, union(GAN, PHOTOS), "fft2d")
    card = json.loads((out / "card.json").read_text())
    low, high = card["levels"]["fft2d/mean_logmag"]
    ends = []
    for number, source in enumerate(("photos", "fakes-progan-raw")):
        with np.load(out / f"{number:03d}.npz", allow_pickle=False) as file:
            values = file["fft2d/mean_logmag"]
        with Image.open(out / f"{number:03d}-{source}-fft2d-mean_logmag.png") as shown:
            levels = np.asarray(shown)
        expected = np.rint(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1))
        assert np.array_equal(levels, expected)
        ends.append(np.percentile(values, [1, 99.9]))
    assert low == pytest.approx(min(first for first, _ in ends))
    assert high == pytest.approx(max(last for _, last in ends))


@pytest.mark.parametrize(("value", "level"), [(0.0, 0), (2.0, 255)])
def test_a_picture_of_one_value_is_drawn(value: float, level: int) -> None:
    with Image.open(io.BytesIO(picture(np.full((4, 5), value, np.float32), 0.0, 0.0))) as shown:
        assert np.asarray(shown).tolist() == [[level] * 5] * 4


def test_rows_are_read_in_blocks_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(fit(tmp_path / "one", PHOTOS))
    monkeypatch.setattr(mean_spectra, "READ_BYTES", 2 * SIDE * SIDE * 3)
    read: list[int] = []
    plain = MemoryRows.array

    def array(self: MemoryRows, field: str, rows: Any = None) -> Any:
        read.append(len(self) if rows is None else len(rows))
        return plain(self, field, rows)

    monkeypatch.setattr(MemoryRows, "array", array)
    assert contents(fit(tmp_path / "two", PHOTOS)) == whole
    assert read == [2, 2, 2]


def test_a_stopped_run_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = union(GAN, PHOTOS)
    expected = contents(fit(tmp_path / "whole", rows, "high_pass", "fft2d"))
    monkeypatch.setattr(mean_spectra, "READ_BYTES", 2 * SIDE * SIDE * 3)
    for _ in range(5):  # of six blocks; each attempt reads one
        with pytest.raises(Interrupted, match="the rows so far are kept"):
            fit(tmp_path / "stopped", rows, "high_pass", "fft2d", stopping=lambda: True)
    seen: list[tuple[int, int]] = []
    again = fit(tmp_path / "stopped", rows, "high_pass", "fft2d", report=lambda done, total: seen.append((done, total)))
    assert contents(again) == expected
    assert seen == [(6, 12), (12, 12)]


def test_progress_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mean_spectra, "READ_BYTES", 2 * SIDE * SIDE * 3)
    monkeypatch.setattr(passes, "SAVE_ROWS", 4)
    reads = iter(range(3))
    plain = MemoryRows.array

    def array(self: MemoryRows, field: str, rows: Any = None) -> Any:
        if next(reads) == 2:
            raise KeyboardInterrupt
        return plain(self, field, rows)

    monkeypatch.setattr(MemoryRows, "array", array)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, PHOTOS)
    with np.load(tmp_path / "scratch" / "000.npz", allow_pickle=False) as file:
        assert int(file["rows"]) == 4


def test_unequal_numbers_of_rows_are_said(tmp_path: Path) -> None:
    rows = union(GAN, PHOTOS)
    out = fit(tmp_path, rows.where(rows.column("split") != "val").take(np.arange(3, 10)))
    (warning,) = json.loads((out / "card.json").read_text())["warnings"]
    assert warning.startswith("Sources have 2 to 5 rows")


def test_no_rows_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the view 'of' holds no rows, expected at least one image"):
        fit(tmp_path, PHOTOS.where(np.zeros(6, bool)))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Field("uint8", (1, 1, 3)), "mean_spectra needs images of 8 px per side or more, found 1 x 1"),
        (Field("float32", (16, 16, 3)), r"mean_spectra needs a field 'image', .* found float32 \(16, 16, 3\)"),
        (None, "mean_spectra needs a field 'image', .* found nothing; put equalize before it"),
    ],
)
def test_an_input_without_usable_images_is_refused_at_planning(field: Field | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeanSpectra().schema(config(), {"of": {"image": field} if field else {}})


@pytest.mark.parametrize(
    ("pictures", "message"),
    [(["fft2d", "fft2d"], "name one twice"), ([], "at least 1 item"), (["fft"], "Input should be 'high_pass'")],
)
def test_a_config_that_makes_no_sense_is_rejected(pictures: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MeanSpectraConfig.model_validate_json(json.dumps({"pictures": pictures}))


def test_the_order_of_pictures_is_no_part_of_the_recipe() -> None:
    assert config("dct2d", "high_pass") == config("high_pass", "dct2d")
    assert config() == config("high_pass")
