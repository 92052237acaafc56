"""A step of any architecture can be recorded as a CUDA graph, and repeated to the bit: tried without a GPU."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from launches import GPU, on_a_gpu

from detectors.networks import NETWORKS
from detectors.networks.layers import draw_from

SETTINGS: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 18, "width": 8},
    "xception": {"last_block": 2},
    "gramnet": {"width": 8},
    "ferretnet": {"width": 8, "depths": (1,)},
}
OUTPUTS = {"compact": 2, "deep_stem_resnet50": 2}
QUICK = ("small_cnn", "compact", "mesoinception4", "tiny_ladeda", "mlp")
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.stress) for name in NETWORKS]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_a_network_neither_waits_nor_adds_in_an_order_of_chance(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = NETWORKS[name].model_validate({"architecture": name, **SETTINGS.get(name, {})})
    with torch.device(GPU):
        network = import_module(settings.code()).build(settings, 3, (64, 64), OUTPUTS.get(name, 1)).train()
    draw_from(network, 0)
    labels = torch.zeros(4, device=GPU)

    def step(images: torch.Tensor) -> None:
        logits = network(images).flatten(1).mean(dim=1)
        loss = F.binary_cross_entropy_with_logits(logits, labels) + getattr(network, "penalty", lambda: 0.0)()
        loss.backward()

    with on_a_gpu(monkeypatch) as counted:
        step(torch.zeros(4, 3, 64, 64, device=GPU))  # what is copied once
        counted.forget()
        step(torch.zeros(4, 3, 64, 64, device=GPU))
    assert counted.waits == {}
    assert counted.count > 4
