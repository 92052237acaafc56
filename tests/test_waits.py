"""No path through a GPU waits for it in its inner loop, and none launches more than it has to: counted without one."""

from __future__ import annotations

import pytest
import torch
from detector_examples import maps, small_config, small_state
from launches import GPU, on_a_gpu

from detectors import cnn, composed, deep
from pipeline.stage import MAPS, PICTURE


@pytest.mark.parametrize("normalization", ["none", "standardize", "percentile", "pixels"])
def test_scoring_waits_once_in_a_block(normalization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = normalization == "pixels"
    given = small_config(normalization=normalization, band="low" if normalization == "percentile" else None)
    shape, axes = ((8, 8, 3), PICTURE) if picture else ((3, 8, 8), MAPS)
    network = deep.network_of(cnn.composed(given), cnn.with_prefix(small_state(given, shape, axes)), GPU)
    rows = maps(40, 0, "uint8" if picture else "float16", shape).features
    with on_a_gpu(monkeypatch) as gpu:
        network(torch.zeros((4, *shape), device=GPU))  # what is copied once
        gpu.forget()
        numbers = composed.read(network, [rows[:20], rows[20:]], 4, cnn.composed(given).head.decision)
    assert numbers.shape == (40,)
    assert not gpu.waits  # but those for a copy that is on its way
    assert gpu.found["convolution"] == 10
