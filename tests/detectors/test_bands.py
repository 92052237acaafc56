"""Bands of FFT-2d maps inside the network: what its first convolution sees, against AutoGAN and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from detectors.choosing import detector_config
from detectors.cnn import Config, composed, describe
from detectors.composed import Composed, loaded
from detectors.normalization import band_mask, keep_band, percentile_scale
from detectors.seeding import seeded
from detectors.training import tensors_of
from pipeline.stage import MAPS
from stages.spectra.maps import fft2d_maps


def config(band: str | None = None) -> Config:
    found = detector_config({"preset": "fft2d-cnn", "widths": [2], **({"band": band} if band else {})})
    assert isinstance(found, Config)
    return found


def network_of(config: Config, shape: tuple[int, ...]) -> Composed:
    with seeded(0):
        return Composed(composed(config), shape, MAPS)


def first_layer(network: Any, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What reaches the first convolution for rows as stored."""
    seen: list[np.ndarray[Any, Any]] = []
    network.network.features.register_forward_pre_hook(
        lambda module, given: seen.append(given[0].detach().numpy().copy())
    )
    with torch.inference_mode():
        network.eval()(torch.from_numpy(rows))
    return seen[0]


@pytest.mark.golden("spectrum", "case_*.npz")
def test_the_network_sees_what_autogan_computes(golden: Any) -> None:
    crop = golden["img"][None, 16:240, 16:240]
    for band, key in ((None, "rgb224"), ("low", "rgb224_mode1_ch0"), ("mid", "rgb224_mode2_ch0"),
                      ("high", "rgb224_mode3_ch0")):  # fmt: skip
        if f"autogan_fft_{key}" not in golden:
            continue
        expected = golden[f"autogan_fft_{key}"]
        expected = expected.transpose(2, 0, 1) if expected.ndim == 3 else expected[None]
        for stored, tolerance in ((None, 5e-5), (np.float16, 2e-3)):
            rows = fft2d_maps(crop, "rgb", np.float32, stored)
            found = first_layer(network_of(config(band), rows.shape[1:]), rows)[0, : len(expected)]
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=f"{key} {stored}")


@pytest.mark.golden("resynthesis", "fft2d_*.npz")
def test_the_network_sees_what_autogan_computes_of_a_whole_image(golden: Any) -> None:
    """Of every set; crops of 224 pixels are in some only."""
    expected = golden["feature_f32_hwc"].transpose(2, 0, 1)
    for stored, tolerance in ((None, 5e-5), (np.float16, 2e-3)):
        rows = fft2d_maps(golden["image_u8_hwc"][None], "rgb", np.float32, stored)
        found = first_layer(network_of(config(), rows.shape[1:]), rows)[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(stored))


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 12)])
@pytest.mark.parametrize("band", ["low", "mid", "high"])
def test_bands_of_the_network_are_those_of_numpy_at_every_size(band: str, shape: tuple[int, ...]) -> None:
    rows = np.random.default_rng(0).normal(0, 3, (4, *shape)).astype(np.float16)
    expected = keep_band(percentile_scale(rows)[0], band)  # type: ignore[arg-type]
    assert (expected == 0).mean() > 0.3
    found = first_layer(network_of(config(band), shape), rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_a_loaded_network_keeps_its_band() -> None:
    tensors = tensors_of(network_of(config("high"), (1, 16, 16)))
    low = band_mask(16, 16, "low")
    rows = np.random.default_rng(1).normal(0, 3, (2, 1, 16, 16)).astype(np.float32)
    rows[:, :, ~low] = np.linspace(-3, 3, int((~low).sum()))  # so that the percentiles of both rows are alike
    network = loaded(composed(config("high")), (1, 16, 16), MAPS, tensors, "cpu")
    scaled = first_layer(network, rows)
    assert not scaled[:, 0, low].any()
    assert scaled[:, 0, band_mask(16, 16, "high")].any()


def test_a_band_is_named_and_refused_where_it_has_no_effect() -> None:
    assert describe(config("low")) == "CNN on fft2d (low band)"
    assert describe(config()) == "CNN on fft2d"
    with pytest.raises(ValueError, match="'band' has no effect with normalization 'standardize'; remove it"):
        detector_config({"preset": "dct2d-cnn", "band": "low"})
