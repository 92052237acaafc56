"""The filter and its ways back: against a plain convolution, and against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.generators.low_pass import filtered, kernel_of

CASES = [((2, 1), 1, 6), ((1, 1), 2, 6), ((2, 2), 1, 5), ((1, 2), 2, 7)]


def plain(x: Tensor, kernel: Tensor, pads: tuple[int, int], stride: int) -> Tensor:
    wide = F.pad(x, (*pads, *pads))
    return torch.cat([F.conv2d(wide[:, [one]], kernel, stride=stride) for one in range(x.shape[1])], dim=1)


@pytest.mark.parametrize(("pads", "stride", "side"), CASES)
def test_gradients_of_gradients_are_those_of_a_plain_convolution(pads: tuple[int, int], stride: int, side: int) -> None:
    kernel = kernel_of((1.0, 3.0, 3.0, 2.0), torch.float64, torch.device("cpu"))
    x = torch.randn(1, 2, side, side + 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(filtered(x, kernel, pads, stride), plain(x, kernel, pads, stride))
    assert torch.autograd.gradcheck(lambda one: filtered(one, kernel, pads, stride), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda one: filtered(one, kernel, pads, stride), x, fast_mode=True)


def test_each_channel_may_have_its_own_kernel_and_half_precision_its_own_type() -> None:
    kernels = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: filtered(one, kernels, (1, 2)), x, fast_mode=True)
    half = torch.randn(1, 3, 6, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = filtered(half, kernels.float(), (1, 2))
    made.sum().backward()
    assert (made.dtype, half.grad.dtype) == (torch.bfloat16, torch.float32)  # type: ignore[union-attr]


@pytest.mark.parametrize(("pads", "stride", "side"), CASES)
def test_the_way_back_in_half_precision_is_rounded_once(pads: tuple[int, int], stride: int, side: int) -> None:
    kernel = kernel_of((1.0, 3.0, 3.0, 1.0), torch.bfloat16, torch.device("cpu"))  # exact in bfloat16
    half = torch.randn(2, 3, side, side + 2).bfloat16().requires_grad_()
    made = filtered(half, kernel, pads, stride)
    slope = torch.randn(made.shape).bfloat16()
    made.backward(slope)
    exact = half.detach().double().requires_grad_()
    plain(exact, kernel.double(), pads, stride).backward(slope.double())
    torch.testing.assert_close(half.grad, exact.grad.bfloat16(), rtol=2**-7, atol=0)  # type: ignore[union-attr]


def test_a_kernel_is_made_once_for_a_type_and_a_device() -> None:
    with torch.inference_mode():  # and may be used by whoever learns afterwards
        found = kernel_of((1.0, 2.0, 1.0), torch.float32, torch.device("cpu"))
    assert found is kernel_of((1.0, 2.0, 1.0), torch.float32, torch.device("cpu"))
    assert not found.is_inference()
    assert found[0, 0].tolist() == [[1 / 16, 1 / 8, 1 / 16], [1 / 8, 1 / 4, 1 / 8], [1 / 16, 1 / 8, 1 / 16]]
