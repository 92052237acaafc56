"""The way back through networks that may have run in bfloat16: each operation in the precision of its way there.

Inside `torch.autocast` the products of a float32 layer (a spectral discriminator, a penalty) would be rounded to three
digits on the way back although they were not on the way there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def backward(loss: Tensor) -> None:
    """Add the gradients of a loss (scalar) to those of its parameters."""
    with _as_they_were(loss):
        loss.backward()


def gradients(value: Tensor, places: Tensor | Sequence[Tensor], **more: Any) -> tuple[Tensor, ...]:
    """Gradients of a scalar; places and `more` as in `torch.autograd.grad`."""
    with _as_they_were(value):
        return torch.autograd.grad(value, places, **more)


def _as_they_were(value: Tensor) -> AbstractContextManager[Any]:
    kind = value.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
