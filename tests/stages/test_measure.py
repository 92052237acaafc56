"""Stage `measure`: single numbers against closed forms and slow loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.stage import Batch, Context, Field
from stages.images.containers import FACTS
from stages.measure import Measure, border_step, clipped, spectral_slope

IMAGE = Field("uint8", (32, 32, 3), axes=("row", "column", "channel"))


def noise(side: int = 32, count: int = 3, seed: int = 0, width: int | None = None) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, width or side, 3), dtype=np.uint8)


def test_clipped_is_the_share_of_values_at_both_ends() -> None:
    images = np.full((2, 32, 32, 3), 7, np.uint8)
    images[0, :8, :, 0] = 255
    images[0, 0, 0, 1] = 0
    assert clipped(images) == pytest.approx([(8 * 32 + 1) / (32 * 32 * 3), 0.0])


def test_the_step_at_the_border_equals_a_slow_loop() -> None:
    images = noise(20, width=24)
    for image, found in zip(images.astype(float), border_step(images), strict=True):
        sums: dict[str, list[float]] = {"across": [], "inside": []}
        for lines in (image, image.transpose(1, 0, 2)):
            steps = [float(np.abs(lines[row + 1] - lines[row]).mean()) for row in range(len(lines) - 1)]
            sums["across"].append((steps[0] + steps[-1]) / 2)
            sums["inside"].append(sum(steps[1:-1]) / len(steps[1:-1]))
        expected = (np.mean(sums["across"]) + 1e-3) / (np.mean(sums["inside"]) + 1e-3)
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_frame_is_a_step_and_a_flat_image_is_none() -> None:
    framed = noise()
    framed[:, [0, -1]] = 0
    framed[:, :, [0, -1]] = 0
    assert (border_step(framed) > 1.2 * border_step(noise())).all()
    flat = np.full((1, 32, 32, 3), 9, np.uint8)
    assert border_step(flat) == pytest.approx([1.0])
    assert spectral_slope(flat) == pytest.approx([0.0], abs=1e-6)
    assert clipped(flat) == [0.0]


@pytest.mark.parametrize("exponent", [0.0, 2.0, 4.0])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (65, 65)])
def test_the_slope_is_that_of_a_spectrum_of_known_power(exponent: float, size: tuple[int, int]) -> None:
    """Gaussian noise of power f ** -exponent, in gray levels that are hardly rounded."""
    random = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    frequency[0, 0] = 1
    images = []
    for _ in range(12):
        plane = np.fft.irfft2(np.fft.rfft2(random.normal(size=size)) * frequency ** (-exponent / 2), s=size)
        images.append(np.clip(128 + 30 * plane / plane.std(), 0, 255).round())
    grays = np.stack(images).astype(np.uint8)[..., None].repeat(3, axis=3)
    assert spectral_slope(grays).mean() == pytest.approx(-exponent, abs=0.25)


def test_the_slope_equals_a_slow_loop() -> None:
    image = noise(32, count=1)
    gray = image[0] @ np.array([0.299, 0.587, 0.114])
    power = np.abs(np.fft.fft2(gray)) ** 2 / gray.size
    rings: dict[int, list[float]] = {number: [] for number in range(8, 17)}
    for row in range(32):
        for column in range(32):
            down, over = (value - 32 if value > 16 else value for value in (row, column))
            ring = math.floor(math.hypot(down, over) + 0.5)
            if ring in rings:
                rings[ring].append(power[row, column])
    logs = [math.log(np.mean(values) + 1e-6) for values in rings.values()]
    expected = np.polyfit(np.log([number / 32 for number in rings]), logs, 1)[0]
    assert spectral_slope(image) == pytest.approx([expected], rel=1e-5)


def test_numbers_do_not_depend_on_the_batch() -> None:
    images = noise(64, count=9)
    for measure in (clipped, border_step, spectral_slope):
        together = measure(images)
        assert together.dtype == np.float32
        for row in range(9):
            assert measure(images[row : row + 1]).tobytes() == together[row : row + 1].tobytes()


def test_files_have_bytes_per_pixel_and_pairs_have_all() -> None:
    facts = {"file_bytes": np.array([300, 50]), "native_size": np.array([[10, 20], [5, 5]], np.int32)}
    both = {"of": {"image": IMAGE}, "pair": FACTS}
    assert list(Measure().schema(Measure.Config(), {"of": FACTS})) == ["bytes_per_pixel"]
    assert list(Measure().schema(Measure.Config(), both)) == [
        "clipped", "border_step", "spectral_slope", "bytes_per_pixel"
    ]  # fmt: skip
    ids = np.zeros(2, "V16")
    found = Measure().compute(Measure.Config(), Batch(ids, inputs=({"image": noise(count=2)}, facts)), Context(0, "m"))
    assert found["bytes_per_pixel"] == pytest.approx([1.5, 2.0])
    assert set(found) == set(Measure().schema(Measure.Config(), both))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"profile": Field("float32", (43,))}, "measure needs a field 'image', .* found profile; put equalize before"),
        ({"image": Field("uint8", (8, 8, 3))}, "measure needs images of 16 px per side or more, found 8 x 8"),
    ],
)
def test_rows_without_anything_to_measure_are_refused(fields: dict[str, Field], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Measure().schema(Measure.Config(), {"of": fields})


BASELINES = """
nodes:
  reals: {stage: ingest, folder: real}
  fakes: {stage: ingest, folder: fake, label: fake}
  images: {stage: equalize, of: [reals, fakes], size: 32}
  measures: {stage: measure, of: [images, reals, fakes]}
  baselines: {stage: train, matrix: {detector: [clipped, bytes-per-pixel]}, on: measures, detector: "{detector}"}
  tables: {stage: evaluate, matrix: {model: baselines}, model: "{model}", test: measures}
"""


def test_one_node_serves_images_and_files_and_a_baseline_sees_an_unlike_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, BASELINES)
    for kind, suffix in (("real", "png"), ("fake", "jpg")):
        (tmp_path / kind).mkdir()
        for number, pixels in enumerate(noise(count=60, seed=kind == "fake")):
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.{suffix}")
    project.run("tables")
    facts: dict[str, Any] = {
        name: project.facts(f"tables[{name}]")["rows"][0]["auc"] for name in ("clipped", "bytes-per-pixel")
    }
    assert facts["bytes-per-pixel"] == 1.0
    first = open_node(project.file, "measures").having("bytes_per_pixel")
    assert first is not None
    assert len(first) == 120
    project.replace("on: measures", "on: [{of: measures, where: source = reals}, fakes]")
    with pytest.raises(ConfigError, match=r"'clipped' is .*missing in fakes"):
        project.plan()
