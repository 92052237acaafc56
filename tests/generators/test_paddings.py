"""What layers of generators see beyond the border: checked against numpy's padding and convolutions without any."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from pipeline.digests import digest
from pipeline.planning.recipes import recipe_config
from stages.generators import layers, paddings, stylegan, stylegan2, weights

NUMPY = {"replicate": "edge", "reflect": "reflect"}
"""What numpy calls it."""

SMALL: dict[str, dict[str, Any]] = {
    "progan": {"z_dim": 5, "c_dim": 0, "resolution": 16, "features": [6, 6, 6]},
    "stylegan": {"z_dim": 5, "c_dim": 0, "w_dim": 5, "resolution": 16, "features": [6, 6, 6], "mapping_features": 5},
    "stylegan2": {"z_dim": 5, "c_dim": 0, "w_dim": 5, "resolution": 16, "features": [6, 6, 6]},
    "stargan2": {"z_dim": 5, "c_dim": 2, "w_dim": 5, "resolution": 64, "width": 6, "max_width": 6, "mapping_width": 5},
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def valid(x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Correlation (N, C, H, W) with (O, C, k, k) where the kernel fits, pixel by pixel."""
    size = weight.shape[2]
    rows, columns = x.shape[2] - size + 1, x.shape[3] - size + 1
    found = np.empty((len(x), len(weight), rows, columns))
    for row in range(rows):
        for column in range(columns):
            found[:, :, row, column] = np.tensordot(
                x[:, :, row : row + size, column : column + size], weight, ((1, 2, 3),) * 2
            )
    return found


def padded(x: Tensor, margin: int, padding: str) -> NDArray[Any]:
    return np.pad(x.double().numpy(), ((0, 0), (0, 0), (margin, margin), (margin, margin)), NUMPY[padding])


@pytest.mark.parametrize("padding", NUMPY)
def test_a_map_goes_on_as_numpy_pads_it(padding: str) -> None:
    x = drawn(2, 3, 4, 5)
    assert np.array_equal(paddings.continued(x, padding).numpy(), padded(x, 1, padding).astype(np.float32))


@pytest.mark.parametrize("padding", NUMPY)
@pytest.mark.parametrize("fused", [False, True])
def test_convolutions_are_those_of_a_padded_map_where_the_kernel_fits(padding: str, fused: bool) -> None:
    x = drawn(2, 3, 5, 5)
    plain = paddings.Convolution(3, 4, bias=False, padding=padding)
    weight = (plain.weight * plain.scale).detach().double().numpy()
    np.testing.assert_allclose(plain(x).detach().numpy(), valid(padded(x, 1, padding), weight), atol=1e-5)
    doubled = paddings.Convolution(3, 4, resample="up", fused=fused, bias=False, padding=padding)
    doubled.load_state_dict(plain.state_dict())
    twice = padded(x, 1, padding).repeat(2, axis=2).repeat(2, axis=3)  # the nearest pixel
    weight = weight[:, :, ::-1, ::-1] if fused else weight  # a transposed convolution turns its kernel
    np.testing.assert_allclose(doubled(x).detach().numpy(), valid(twice, weight)[:, :, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("padding", NUMPY)
def test_stylegan2_convolves_padded_maps(padding: str) -> None:
    x, weight, style = drawn(2, 3, 5, 5), drawn(4, 3, 3, 3, seed=1), drawn(2, 3, seed=2)
    scaled = padded(x * style[:, :, None, None], 2, padding)
    norm = ((style.square() @ weight.square().sum(dim=(2, 3)).T) + 1e-8).rsqrt()[:, :, None, None].double().numpy()
    found = stylegan2.modulated_convolution(x, weight, style, up=False, demodulate=True, padding=padding)
    expected = valid(scaled[:, :, 1:-1, 1:-1], weight.double().numpy()) * norm
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    spread = np.zeros((2, 3, 18, 18))
    spread[:, :, ::2, ::2] = scaled  # zeros between pixels; the pixel x[0] lies at 4
    turned = weight.double().numpy()[:, :, ::-1, ::-1]
    line = np.array([1, 3, 3, 1]) / 8
    fir = np.zeros((4, 4, 4, 4))
    fir[range(4), range(4)] = np.outer(line, line) * 4
    whole = valid(valid(spread, turned), fir)  # its first pixel lies at 1 of the spread map, half a pixel further
    found = stylegan2.modulated_convolution(x, weight, style, up=True, demodulate=True, padding=padding)
    np.testing.assert_allclose(found.numpy(), whole[:, :, 1:11, 1:11] * norm, atol=1e-5)


FILTERS: dict[str, tuple[Callable[[Tensor, str], Tensor], Callable[[Tensor], Tensor], int]] = {
    "blur": (lambda x, padding: stylegan.blur(x, None, padding), stylegan.blur, 1),
    "upsample": (lambda x, padding: paddings.bordered(stylegan2.upsample, x, padding), stylegan2.upsample, 2),
}
"""A filter with a padding; the same with zeros; by how much it enlarges."""


@pytest.mark.parametrize("padding", NUMPY)
@pytest.mark.parametrize("name", FILTERS)
def test_filters_see_a_wide_margin_of_the_same_kind(name: str, padding: str) -> None:
    """Of which zeros come too late to be seen."""
    found, plain, factor = FILTERS[name]
    x, margin = drawn(2, 3, 6, 6), 4
    inside = slice(margin * factor, -margin * factor)
    wide = plain(torch.from_numpy(padded(x, margin, padding)).float())[:, :, inside, inside]
    torch.testing.assert_close(found(x, padding), wide)


def blocks_of(family: str, padding: str, **more: Any) -> list[Callable[[], Tensor]]:
    """What each enlarging block of a generator of random weights makes of a map with one value per channel."""
    network = import_module(f"stages.generators.{family}").build({**SMALL[family], "padding": padding, **more}).double()
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(network.named_parameters())):
            parameter.copy_(drawn(*parameter.shape, seed=number))
    w = drawn(2, 3, 5).double()
    alike, colors = (drawn(2, channels, 1, 1).double().expand(-1, -1, 8, 8) for channels in (6, 3))
    if family == "progan":
        return [partial(network.get_submodule(name), alike) for name in ("b8", "b16")]
    if family == "stargan2":
        ups = [block for block in network.generator.decode if block.up]
        return [partial(block, alike, w[:, 0]) for block in ups]
    found = network.synthesis.blocks()[1:]
    if family == "stylegan":
        return [partial(block, alike, w, (None, None)) for block in found]

    def of(block: Any) -> Tensor:
        image = colors if more.get("network", "skip") == "skip" else None
        x, image = block(alike, image, w, (None, None))
        return x if image is None else torch.cat([x, image], dim=1)

    return [partial(of, block) for block in found]


KINDS: list[tuple[str, dict[str, Any]]] = [
    *((family, {}) for family in SMALL),
    *(("stylegan2", {"network": network}) for network in stylegan2.NETWORKS[1:]),
    ("stylegan", {"early_bias": True}),
    ("stylegan", {"fused": True}),
]


@pytest.mark.parametrize(("family", "more"), KINDS)
@pytest.mark.parametrize("padding", paddings.PADDINGS)
def test_what_is_the_same_everywhere_stays_so_up_to_the_border_in_the_last_block(
    family: str, more: dict[str, Any], padding: str
) -> None:
    """And in no block with zeros, which those of smaller sides keep."""
    blocks = blocks_of(family, padding, **more)
    assert len(blocks) == 2
    with torch.no_grad():
        made = [block() for block in blocks]
    spreads = [((one.amax(dim=(2, 3)) - one.amin(dim=(2, 3))).max() / one.abs().max()).item() for one in made]
    assert spreads[0] > 0.05
    assert spreads[1] > 0.05 if padding == "zeros" else spreads[1] < 1e-4


@pytest.mark.parametrize("family", SMALL)
def test_a_padding_has_no_weights_and_stands_in_the_file_only_where_it_is_set(family: str, tmp_path: Path) -> None:
    module = import_module(f"stages.generators.{family}")
    plain = module.build(SMALL[family])
    tensors = {name: value.numpy() for name, value in plain.state_dict().items()}
    for padding in ("", "reflect"):
        path = tmp_path / f"{padding}.safetensors"
        architecture = SMALL[family] | ({"padding": padding} if padding else {})
        header = weights.save(path, family, architecture, tensors)
        assert header.architecture.get("padding", "") == padding
        _, network = weights.load(path)
        assert {name: value.numpy().tobytes() for name, value in network.state_dict().items()} == {
            name: value.tobytes() for name, value in tensors.items()
        }
        assert (b"padding" in path.read_bytes()) == bool(padding)
    with pytest.raises(ValueError, match="padding is one of zeros, replicate, reflect, not 'mirror'"):
        module.build({**SMALL[family], "padding": "mirror"})


def test_slopes_of_slopes_are_right() -> None:
    x = drawn(1, 2, 3, 4).double().requires_grad_()
    for padding in NUMPY:
        assert torch.autograd.gradgradcheck(lambda maps, how=padding: paddings.continued(maps, how).square(), (x,))


def test_layers_that_see_one_pixel_are_left_alone() -> None:
    layer = paddings.Convolution(3, 4, 1, padding="reflect")
    assert torch.equal(layer(drawn(1, 3, 4, 4)), layers.Convolution.forward(layer, drawn(1, 3, 4, 4)))


BEFORE = {
    "progan": "6cc62b3b150a7540aed7b0ebd7271eda",
    "stylegan": "658be3a30269243db81c56961d91df29",
    "stylegan2": "1c0f005a7acddd1dc1b6bf76bcf59908",
    "stargan2": "5d51e8a96ed9e44a00ab62ce83377c27",
}
"""Of the settings of a recipe before there was a padding."""


@pytest.mark.parametrize("family", BEFORE)
def test_a_recipe_without_a_padding_is_what_it_was(family: str) -> None:
    model = import_module(f"stages.generators.{family}_recipe").RECIPE

    def of(**network: Any) -> Any:
        return model.model_validate({"family": family, "network": {"z_dim": 8, **network}})

    for recipe in (of(), of(padding="zeros")):
        assert digest("test", recipe_config(recipe)).hex() == BEFORE[family]
        assert "padding" not in recipe.arguments("generator", 64, 2)
        assert "padding" not in recipe.model_dump()["network"]
    other = of(padding="reflect")
    assert digest("test", recipe_config(other)).hex() != BEFORE[family]
    assert other.arguments("generator", 64, 2)["padding"] == "reflect"
    assert model.model_validate_json(other.model_dump_json()) == other
    for network, said in (
        ({"padding": "mirror"}, "padding is 'mirror'; expected zeros or replicate or reflect"),
        ({"padding": "reflect", "z_dim": 0}, r"network\.z_dim\n.*greater than or equal to 1"),
        ({"padding": "reflect", "zdim": 3}, r"network\.zdim\n.*not permitted"),
    ):
        with pytest.raises(ValidationError, match=said):
            of(**network)
    known = model.model_json_schema()["$defs"][type(of().network).__name__]["properties"]["padding"]
    assert (known["default"], known["enum"]) == ("zeros", ["zeros", "replicate", "reflect"])
