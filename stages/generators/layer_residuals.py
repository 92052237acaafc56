"""Numbers that are added between the first layers of a generator, so that it gives images outside its range.

Bau et al. 2019 ("Seeing what a GAN cannot generate", section 3.2) rebuild photographs so: a latent alone comes near
the whole picture, and small changes behind the first three layers bring its details. There they are added before what
the layer gives is scaled to unit length in each pixel, here behind that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BEHIND: Mapping[str, tuple[str, ...]] = {"progan": ("b4.conv", "b8.conv0", "b8.conv1")}
"""Family -> the modules that read what its first three layers give."""


def zeros(generator: nn.Module, family: str, draw: Any, z: Tensor) -> list[Tensor]:
    """No change: one tensor per layer, of the shape of what it gives for the latents z. draw: latents to images."""
    found: list[Tensor] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(torch.zeros_like(given[0]))

    with ExitStack() as stack, torch.no_grad():
        for name in BEHIND[family]:
            stack.callback(generator.get_submodule(name).register_forward_pre_hook(note).remove)
        draw(z)
    return found


@contextmanager
def added(generator: nn.Module, family: str, residuals: Sequence[Tensor]) -> Iterator[None]:
    """As long as this lasts, `residuals` are added behind the layers; gradients flow to them."""
    with ExitStack() as stack:
        for name, residual in zip(BEHIND[family], residuals, strict=True):

            def add(module: nn.Module, given: tuple[Tensor, ...], residual: Tensor = residual) -> tuple[Tensor, ...]:
                return (given[0] + residual, *given[1:])

            stack.callback(generator.get_submodule(name).register_forward_pre_hook(add).remove)
        yield
