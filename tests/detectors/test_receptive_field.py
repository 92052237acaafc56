"""Fields of cells against gradients: all weights positive, so nothing cancels, and largest values become means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectors.networks.ferretnet import FerretNet
from detectors.networks.ladeda import LaDeDa, TinyLaDeDa
from detectors.networks.receptive_field import Field, fields_of, receptive_field
from detectors.networks.resnet import ResNet
from detectors.networks.xception import Xception

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "xception block 1": (lambda: Xception(2, 1), 96),
    "xception block 2": (lambda: Xception(2, 2), 160),
    "resnet18 layer 1": (lambda: ResNet(18, 2, strides=(1,), patches=True), 160),
    "resnet18 without early strides": (lambda: ResNet(18, 2, early_strides=(1, 0), strides=(2,)), 64),
    "ferretnet": (FerretNet, 288),
    "ladeda": (lambda: LaDeDa("raw", (3, 3)), 48),
    "tiny ladeda": (lambda: TinyLaDeDa("right_diag"), 48),
}


class Smooth(nn.Module):
    """A mean in place of the largest value; each value counts."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.pool(x)
        return found


def positive(network: nn.Module) -> nn.Module:
    """The same convolutions without a value that could hide another."""
    network = network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, Smooth(child))
            elif name == "lpd":
                setattr(parent, name, nn.AvgPool2d(3, 1, 1))
    return network


def seen(network: Any, side: int, cell: int) -> tuple[range, range]:
    """Rows and columns of the input that a cell in the middle of the map depends on."""
    x = torch.rand(1, 3, side, side, requires_grad=True)
    network.maps(x)[0, 0, cell, cell].backward()
    assert x.grad is not None
    touched = x.grad[0].abs().sum(dim=0) > 0
    places = [touched.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0)]
    return range(places[0][0], places[0][-1] + 1), range(places[1][0], places[1][-1] + 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_what_gradients_reach(name: str) -> None:
    build, side = NETWORKS[name]
    rows, columns = fields_of(build())
    network = positive(build())
    cell = (side // 2 - rows.first - rows.size // 2) // rows.stride
    expected = tuple(
        range(field.stride * cell + field.first, field.stride * cell + field.first + field.size)
        for field in (rows, columns)
    )
    assert all(place.start >= 0 and place.stop <= side for place in expected)
    assert seen(network, side, cell) == expected


def test_neighbors_in_pairs_add_no_pixel_to_cells_that_begin_at_even_places() -> None:
    with torch.device("meta"):
        assert fields_of(LaDeDa("NPR"))[0] == fields_of(LaDeDa("raw"))[0] == Field(9, 8, 0)


def test_rows_and_columns_differ_where_kernels_do() -> None:
    layer = nn.Conv2d(3, 1, (3, 7), stride=(2, 1), padding=(0, 3), dilation=(2, 1))
    assert fields_of(layer) == (Field(5, 2, 0), Field(7, 1, -3))


def test_no_field_behind_a_mean_over_the_map() -> None:
    with torch.device("meta"):
        network = ResNet(18).eval()
    with pytest.raises(ValueError, match="sees all of the input; ask for the map before it"):
        receptive_field(network)


def test_cells_that_see_fields_of_several_sizes_are_told() -> None:
    def paired(x: Tensor) -> Tensor:
        return x - nn.functional.interpolate(x[..., ::2, ::2], scale_factor=2, mode="nearest")

    with pytest.raises(ValueError, match=r"cells see fields of \[1, 2\] places"):
        receptive_field(paired)
