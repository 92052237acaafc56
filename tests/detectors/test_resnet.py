"""Networks on residuals: the published ResNet-50 by its counts and sizes, the compact one against a slow reading."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectors.networks.resnet import Compact, DeepStemResNet50


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module", params=[3, 512])
def published(request: pytest.FixtureRequest) -> tuple[int, DeepStemResNet50]:
    torch.manual_seed(0)
    return request.param, DeepStemResNet50(request.param).eval().requires_grad_(False)


def test_the_published_network_has_the_published_counts(published: tuple[int, DeepStemResNet50]) -> None:
    channels, network = published
    assert (parameters(network), parameters(network.conv1)) == {
        3: (23_635_906, 112_576), 512: (23_929_090, 405_760)
    }[channels]  # fmt: skip


def test_maps_have_the_published_sides(published: tuple[int, DeepStemResNet50]) -> None:
    channels, network = published
    sides = {3: {256: 8, 128: 4, 64: 2}, 512: {64: 2, 16: 1, 8: 1, 4: 1}}[channels]
    for side, expected in sides.items():
        x = torch.rand(1, channels, side, side)
        assert network.maps(x).shape == (1, 2048, expected, expected)
        assert network(x).shape == (1, 2)


def test_a_single_map_of_one_value_cannot_be_normalized(published: tuple[int, DeepStemResNet50]) -> None:
    channels, network = published
    network.train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network(torch.rand(1, channels, 4, 4))
    network.eval()


def test_strides_stand_where_the_published_network_has_them(published: tuple[int, DeepStemResNet50]) -> None:
    _, network = published
    strided = [name for name, module in network.named_modules() if getattr(module, "stride", 1) in (2, (2, 2))]
    bottlenecks = [f"layer{k}.0.{part}" for k in (1, 2) for part in ("conv2", "downsample.0")]
    assert sorted(strided) == sorted(["conv1.0", "conv1.3", "maxpool", *bottlenecks])


def test_without_early_strides_small_maps_stay_larger() -> None:
    network = DeepStemResNet50(8, early_strides=False).eval()
    assert network.maps(torch.rand(1, 8, 16, 12)).shape == (1, 2048, 4, 3)


def test_convolutions_begin_with_the_published_deviation() -> None:
    torch.manual_seed(0)
    network = Compact(3, (64, 64))
    for convolution in network.convolutions:
        weight = convolution.weight.detach()
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)
    assert (network.norms[0].weight == 1).all()


def test_the_compact_network_is_what_it_says() -> None:
    torch.manual_seed(0)
    assert parameters(Compact(3)) == 93_730
    network = Compact(2, (4, 5, 6)).eval()
    state = network.state_dict()
    x = torch.rand(3, 2, 6, 5)
    expected = x.clone()
    for k in range(3):
        expected = F.conv2d(expected, state[f"convolutions.{k}.weight"], padding=1)
        expected = torch.relu(expected / math.sqrt(1 + 1e-5))  # fresh statistics: mean 0, variance 1
        n, c, h, w = expected.shape
        if min(h, w) > 1:
            expected = expected[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).mean(dim=(3, 5))
    pooled = expected.flatten(2).mean(dim=2)
    logits = pooled @ state["fc.weight"].T + state["fc.bias"]
    np.testing.assert_allclose(network(x).detach().numpy(), logits.numpy(), rtol=0, atol=1e-5)
