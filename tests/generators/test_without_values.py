"""Networks whose values come from a file are built without drawing any: torch loads its compiler for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from detectors.networks import clip_heads, initial_weights, small_cnn
from stages.generators import weights

WEIGHTS = Path(__file__).parents[2] / "manifests" / "weights"
DRAWN = {"randn", "normal_", "div", "__truediv__", "mul", "__mul__"}


class Names(TorchFunctionMode):
    """What is called, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.__name__)
        return func(*args, **(kwargs or {}))


def called(build: Callable[[], Any]) -> set[str]:
    with Names() as names, torch.device("meta"):
        assert all(tensor.is_meta for tensor in build().state_dict().values())
    return names.seen


@pytest.mark.parametrize("name", ["progan", "stylegan", "stylegan2", "stargan2"])
def test_a_shipped_generator_is_built_without_drawing(name: str) -> None:
    header = weights.read_header(WEIGHTS / f"{name}-small-raw.safetensors")
    seen = called(lambda: weights.build("a test", header)[1])
    assert "empty" in seen
    assert not seen & DRAWN


def test_detectors_are_built_without_drawing() -> None:
    settings = SimpleNamespace(widths=[4, 4], places="mean")
    assert not called(lambda: small_cnn.build(settings, 1, (8, 8), 1)) & DRAWN
    assert not called(lambda: clip_heads.RINE(1, 4, 2, 4)) & DRAWN


def test_elsewhere_values_are_torchs_own() -> None:
    torch.manual_seed(3)
    drawn = torch.randn(2, 5) / 0.1
    torch.manual_seed(3)
    assert torch.equal(initial_weights.normal(2, 5, rate=0.1), drawn)
