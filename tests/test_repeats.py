"""What torch refuses on a GPU where results have to repeat is not asked for: tried on tensors without values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from launches import GPU, Launches, on_a_gpu

from detectors.gradients import _sized
from stages.generators import mfa


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    with on_a_gpu(monkeypatch) as counted:
        yield counted


def test_what_has_no_order_on_a_gpu_is_refused(gpu: Launches) -> None:
    x = torch.zeros(2, 3, 8, 8, device=GPU, requires_grad=True)
    ways = {
        "cumsum": lambda: x.cumsum(0),
        "_upsample_bicubic2d_aa_backward": lambda: F.interpolate(x, size=(4, 4), mode="bicubic", antialias=True),
        "reflection_pad2d_backward": lambda: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        "_adaptive_avg_pool2d_backward": lambda: F.adaptive_avg_pool2d(x, 2),
        "median": lambda: x.median(dim=0).values,
    }
    for name, way in ways.items():
        with pytest.raises(RuntimeError, match=f"^{name} does not give the same bytes twice on a GPU"):
            way().sum().backward()
    torch.zeros(3, dtype=torch.int64, device=GPU).cumsum(0)
    F.adaptive_avg_pool2d(x, 1).sum().backward()
    torch.zeros(3).cumsum(0)


@pytest.mark.parametrize("sides", [(13, 9), (31, 40)])
def test_pictures_of_another_size_lead_a_generator_on_a_gpu_as_on_a_cpu(
    sides: tuple[int, int], gpu: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = torch.zeros(2, 3, 20, 24, device=GPU, requires_grad=True)
    for _ in range(2):
        gpu.forget()
        _sized(levels, sides).sum().backward()  # type: ignore[no-untyped-call]
    assert not gpu.waits
    values = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1)) * 255
    expected = _sized(values, sides)
    monkeypatch.setattr("detectors.transfers.elsewhere", lambda device: True)
    torch.testing.assert_close(_sized(values, sides), expected, rtol=1e-5, atol=1e-3)


def test_components_of_a_mixture_are_found_by_weights_that_the_host_adds_up(gpu: Launches) -> None:
    with torch.device(GPU):
        generator = mfa.Generator(components=3, z_dim=2, resolution=8)
    for _ in range(2):
        gpu.forget()  # of the first time, when the weights are fetched
        generator.component(torch.zeros(4, dtype=torch.float64, device=GPU))
    assert not gpu.waits
    here = mfa.Generator(components=3, z_dim=2, resolution=8)
    before = here.edges()
    with torch.no_grad():
        here.logits[0] += 1.0
    assert not torch.equal(here.edges(), before)
