"""How many kernels a piece of work would launch on a GPU, counted on tensors without values.

Views and questions launch nothing. A wait is what makes the CPU wait for the GPU: `.item()` and `.tolist()`. A group of
tensors that one call changes (`_foreach_`) counts once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FREE = ("detach", "empty", "new_empty", "empty_like", "empty_strided", "alias", "lift_fresh", "_local_scalar_dense")


class Launches(TorchDispatchMode):
    """Counts operations by name while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), more: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        if not function.is_view and name not in FREE and "::" not in name:
            self.found[name] += 1
        return function(*given, **(more or {}))

    @property
    def count(self) -> int:
        return sum(self.found.values())


def answered(monkeypatch: pytest.MonkeyPatch, number: float = 0.75) -> list[str]:
    """Let tensors without values answer, and note each question."""
    waits: list[str] = []
    original = Tensor.item

    def item(self: Tensor) -> float:
        if not self.is_meta:
            return original(self)
        waits.append("item")
        return number

    def tolist(self: Tensor) -> Any:
        waits.append("tolist")
        return torch.ones(self.shape, dtype=self.dtype).numpy().tolist()

    monkeypatch.setattr(Tensor, "item", item)
    monkeypatch.setattr(Tensor, "tolist", tolist)
    return waits
