"""The residual dense network against a slow reading of the published graph, and what goes into it and is compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import Tensor

from stages.resynthesis.degradations import degraded, gray_masks, grayed, noisy
from stages.resynthesis.downsampling import downsample
from stages.resynthesis.fidelity import bicubic, psnr, to_bytes
from stages.resynthesis.losses import ReconstructionLoss
from stages.resynthesis.rdn import RDN
from stages.resynthesis.weights import SIZES
from stages.training.networks import in_micro_batches, prepare

if TYPE_CHECKING:
    from tests.conftest import Golden

Array = np.ndarray[Any, Any]


def published_shapes(features: int, growth: int, blocks: int, layers: int) -> dict[str, tuple[int, ...]]:
    """Tensors of the published layout, name by name."""

    def convolution(name: str, inputs: int, outputs: int, size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}

    found = convolution("sfe1", 3, features, 3) | convolution("sfe2", features, features, 3)
    for d in range(blocks):
        for c in range(layers):
            found |= convolution(f"rdbs.{d}.layers.{c}.conv", features + c * growth, growth, 3)
        found |= convolution(f"rdbs.{d}.lff", features + layers * growth, features, 1)
    found |= convolution("gff.0", blocks * features, features, 1) | convolution("gff.1", features, features, 3)
    found |= convolution("upscale.0", features, 4 * features, 3) | convolution("upscale.2", features, 4 * features, 3)
    return found | convolution("output", features, 3, 3)


def enlarged(state: dict[str, Tensor], x: Tensor, blocks: int, layers: int) -> Tensor:
    """The published graph, step by step."""

    def convolution(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def shuffled(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        out = torch.zeros(n, c // 4, 2 * h, 2 * w)
        for k in range(c):
            row, column = k % 4 // 2, k % 2
            out[:, k // 4, row::2, column::2] = x[:, k]
        return out

    first = convolution("sfe1", x)
    y = convolution("sfe2", first)
    local = []
    for d in range(blocks):
        grown = y
        for c in range(layers):
            new = convolution(f"rdbs.{d}.layers.{c}.conv", grown)
            grown = torch.cat([grown, torch.where(new > 0, new, 0)], 1)
        y = y + convolution(f"rdbs.{d}.lff", grown)
        local.append(y)
    y = first + convolution("gff.1", convolution("gff.0", torch.cat(local, 1)))
    for number in (0, 2):
        y = shuffled(convolution(f"upscale.{number}", y))
    return convolution("output", y)


@pytest.mark.parametrize(("size", "count"), [("full", 22_271_107), ("small", 336_451), ("tiny", 40_067)])
def test_tensors_are_those_of_the_published_layout(size: str, count: int) -> None:
    network = RDN(**asdict(SIZES[size])).requires_grad_(False)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == published_shapes(**asdict(SIZES[size]))
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("counts", [(16, 16, 2, 2), (8, 5, 3, 1), (4, 12, 1, 3)])
def test_the_network_is_the_published_graph_also_where_growth_is_not_the_number_of_features(
    counts: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    network = RDN(*counts)
    x = torch.rand(2, 3, 5, 7)
    expected = enlarged(network.state_dict(), x, counts[2], counts[3])
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)
        network.train()
        torch.testing.assert_close(network(x), network.eval()(x), rtol=0, atol=0)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"whole numbers of 1 or more, not \{'growth': 0\}"):
        RDN(4, 0, 1, 1)


def test_an_enlarged_image_does_not_depend_on_its_neighbors() -> None:
    prepare("cpu", 1)
    torch.manual_seed(0)
    network = RDN(**asdict(SIZES["tiny"])).eval()
    images = np.random.default_rng(0).random((5, 3, 6, 9), dtype=np.float32)

    def run(arrays: Any) -> Array:
        with torch.no_grad():
            made: Array = network(torch.from_numpy(arrays["x"])).numpy()
        return made

    together = in_micro_batches(run, {"x": images}, 4)
    for k in range(5):
        assert (in_micro_batches(run, {"x": images[k : k + 1]}, 4)[0] == together[k]).all()


# Reduced images


@pytest.mark.golden("resynthesis", "downsample_*.npz", keys="lr_01_.*|lr_255_.*|block_sum_.*|nearest_f32_chw")
def test_reduced_images_are_the_reference_to_the_bit(golden: Golden) -> None:
    image = golden["image_u8_hwc"]
    for layout in (image[None], image.transpose(2, 0, 1)[None]):
        found = downsample(torch.from_numpy(np.ascontiguousarray(layout))).numpy()[0]
        assert found.dtype == np.float32
        for key in ("lr_01_f32_chw", "lr_01_f32_chw_srtrain"):
            if key in golden:
                assert (found == golden[key]).all()
        if "lr_255_f32_chw" in golden:
            assert (found == golden["lr_255_f32_chw"] / np.float32(255)).all()
        if "block_sum_i64_hwc" in golden:
            sums = golden["block_sum_i64_hwc"].transpose(2, 0, 1)
            assert (found == (sums / 16).astype(np.float32) / np.float32(255)).all()
        if "nearest_f32_chw" in golden:
            assert (found.repeat(4, 1).repeat(4, 2) == golden["nearest_f32_chw"]).all()
    divided_first = F.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float() / 255, 4).numpy()
    reduced = np.asarray(
        Image.fromarray(image).resize((image.shape[1] // 4, image.shape[0] // 4), Image.Resampling.BOX)
    )
    assert (found != divided_first).any()
    assert (found != reduced.transpose(2, 0, 1).astype(np.float32) / np.float32(255)).any()


@pytest.mark.golden("resynthesis", "downsample_*.npz", keys="lr_gray_.*|lr_noisy_.*")
def test_gray_pixels_and_noise_are_the_reference(golden: Golden) -> None:
    reduced = torch.from_numpy(golden["lr_01_f32_chw"])[None]
    if "gray_mask_hw" in golden:
        found = grayed(reduced, torch.from_numpy(golden["gray_mask_hw"])[None]).numpy()[0]
        np.testing.assert_allclose(found, golden["lr_gray_f32_chw"], rtol=0, atol=1e-7)
    if "lr_noisy_f32_chw" in golden:
        found = noisy(reduced, torch.from_numpy(golden["noise_f32_chw"])[None]).numpy()[0]
        np.testing.assert_allclose(found, golden["lr_noisy_f32_chw"], rtol=0, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    images=hnp.arrays(
        np.uint8, st.tuples(st.just(2), st.sampled_from((4, 8, 12)), st.sampled_from((4, 16)), st.just(3))
    )
)
def test_reduced_pixels_are_rounded_means_of_their_blocks(images: Array) -> None:
    n, h, w, _ = images.shape
    sums = images.astype(np.int64).reshape(n, h // 4, 4, w // 4, 4, 3).sum(axis=(2, 4)).transpose(0, 3, 1, 2)
    expected = (sums / 16).astype(np.float32) / np.float32(255)
    for layout in (images, images.transpose(0, 3, 1, 2)):
        assert (downsample(torch.from_numpy(layout.copy())).numpy() == expected).all()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            torch.zeros(1, 6, 8, 3, dtype=torch.uint8),
            r"sides are multiples of 4, found uint8 \(1, 6, 8, 3\); crop them",
        ),
        (torch.zeros(1, 3, 8, 9, dtype=torch.uint8), r"sides are multiples of 4, found uint8 \(1, 3, 8, 9\)"),
        (torch.zeros(1, 3, 0, 8, dtype=torch.uint8), r"sides are multiples of 4, found uint8 \(1, 3, 0, 8\)"),
        (torch.zeros(1, 8, 8, 1, dtype=torch.uint8), r"expected RGB images .*found uint8 \(1, 8, 8, 1\)"),
        (
            torch.zeros(1, 3, 8, 8),
            r"^expected images \(N, H, W, 3\) or \(N, 3, H, W\) uint8, found float32 \(1, 3, 8, 8\)",
        ),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"found uint8 \(3, 8, 8\)$"),
    ],
)
def test_images_that_cannot_be_reduced_are_refused(images: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        downsample(images)


# Degradations


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", ["SR", "SR+C", "SR+D", "SR+C+D"])
def test_degradations_leave_their_input_alone_and_are_drawn_from_the_generator(task: str) -> None:
    images = torch.rand(40, 3, 16, 12, generator=draws(1))
    before = images.clone()
    made = degraded(images, task, draws())
    assert (images == before).all()
    assert made.data_ptr() != images.data_ptr()
    assert (made == degraded(images, task, draws())).all()
    changed = (made != images).flatten(1).any(dim=1)
    if task == "SR":
        assert not changed.any()
    else:
        assert 10 <= int(changed.sum()) < 40
        assert (made != degraded(images, task, draws(2))).any()
        everyone = degraded(images, task, draws(), chance=1.0)
        assert (everyone != images).flatten(1).any(dim=1).all()


def test_a_tenth_to_a_quarter_of_the_pixels_of_half_the_images_turn_gray() -> None:
    images = torch.rand(400, 3, 20, 20, generator=draws(1))
    made = degraded(images, "SR+C", draws())
    gray = (made == made.mean(dim=1, keepdim=True)).all(dim=1) | ((made - images.mean(1, True)).abs() < 1e-6).all(dim=1)
    shares = gray.flatten(1).float().mean(dim=1)
    touched = shares > 0
    assert 160 <= int(touched.sum()) <= 240  # 200 expected, standard deviation 10
    assert shares[touched].min() >= 0.0975  # 39.5 of 400 pixels at the rounding
    assert shares[touched].max() <= 0.2525
    assert shares[touched].max() - shares[touched].min() > 0.14
    assert 0.165 < float(shares[touched].mean()) < 0.185
    torch.testing.assert_close(
        made[~gray[:, None].expand_as(made)], images[~gray[:, None].expand_as(images)], rtol=0, atol=0
    )
    places = gray[touched].float().mean(dim=0)
    assert places.min() > 0.05  # no place is spared
    assert places.max() < 0.35


def test_of_nine_pixels_one_or_two_turn_gray() -> None:
    """The smallest images that the task takes: no share of 10 to 25 % rounds to nothing."""
    masks = gray_masks(torch.rand(500, 3, 3, 3, generator=draws(1)), draws())
    assert set(masks.flatten(1).sum(dim=1).tolist()) == {1, 2}


def test_half_the_images_get_noise_of_four_gray_levels_that_is_not_clamped() -> None:
    images = torch.cat([torch.zeros(200, 3, 12, 12), torch.ones(200, 3, 12, 12)])
    made = degraded(images, "SR+D", draws())
    noise = made - images
    touched = noise.flatten(1).abs().max(dim=1).values > 0
    assert 160 <= int(touched.sum()) <= 240
    assert abs(float(noise[touched].std()) * 255 - 4) < 0.05
    assert abs(float(noise[touched].mean()) * 255) < 0.05
    assert float(made.min()) < 0
    assert float(made.max()) > 1
    assert (noise[touched] != 0).float().mean() > 0.99


def test_colors_and_noise_have_coins_of_their_own() -> None:
    images = torch.rand(400, 3, 8, 8, generator=draws(1))
    made = degraded(images, "SR+C+D", draws())
    share = (made != images).flatten(1).any(dim=1).float().mean()
    assert 0.68 < float(share) < 0.82  # 3/4 expected


# Losses and figures


class Halves:
    """Five stages of a stand-in for a perceptual network: powers of the means of 2^k pixels."""

    def stages(self, images: Tensor, wanted: list[int]) -> dict[int, Tensor]:
        return {k: F.avg_pool2d(images, 1 << (k - 1)) ** (k + 1) for k in wanted}


def powers(images: Array, k: int) -> Array:
    side = 1 << (k - 1)
    n, c, h, w = images.shape
    means: Array = images.reshape(n, c, h // side, side, w // side, side).mean(axis=(3, 5)) ** (k + 1)
    return means


@pytest.mark.parametrize(("kind", "factor"), [("paper", 1.0), ("paper", 0.01), ("released", 0.2)])
def test_the_loss_is_the_weighted_sum_of_pixels_and_stages(kind: str, factor: float) -> None:
    random = np.random.default_rng(0)
    made, originals = (random.random((2, 3, 16, 32)) for _ in range(2))
    expected = np.abs(made - originals).mean()
    for k, alpha in zip(range(1, 6), (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), strict=True):
        difference = powers(made, k) - powers(originals, k)
        expected += factor * alpha * (np.abs(difference) if kind == "paper" else difference**2).mean()
    leaf = torch.from_numpy(made).requires_grad_()
    truth = torch.from_numpy(originals).requires_grad_()
    total, terms = ReconstructionLoss(Halves(), kind, factor)(leaf, truth)  # type: ignore[arg-type]
    assert float(total.detach()) == pytest.approx(expected, rel=1e-12)
    assert float(terms["loss"]) == float(total.detach())
    assert set(terms) == {"loss", "pixel", "stage1", "stage2", "stage3", "stage4", "stage5"}
    assert float(terms["pixel"]) == pytest.approx(np.abs(made - originals).mean(), rel=1e-12)
    total.backward()
    assert leaf.grad is not None
    assert (leaf.grad != 0).all()
    alone, terms = ReconstructionLoss()(leaf, truth)
    assert float(alone.detach()) == pytest.approx(np.abs(made - originals).mean(), rel=1e-12)
    assert set(terms) == {"loss", "pixel"}


def test_psnr_is_that_of_rounded_bytes_of_each_image() -> None:
    originals = torch.full((3, 3, 4, 4), 100, dtype=torch.uint8)
    made = originals.clone()
    made[0] += 2
    made[1, 0] += 30  # a third of the values
    expected = [10 * np.log10(255**2 / 4), 10 * np.log10(255**2 / 300), 100.0]
    np.testing.assert_allclose(psnr(made, originals).numpy(), expected, rtol=1e-12)
    floats = torch.tensor([-0.3, 0.0, 0.5019, 0.9999, 7.0])
    assert to_bytes(floats).tolist() == [0, 0, 128, 255, 255]


def test_bicubic_enlargement_is_that_of_pillow() -> None:
    values = np.random.default_rng(0).random((2, 3, 5, 6), dtype=np.float32)
    found = bicubic(torch.from_numpy(values)).numpy()
    for n in range(2):
        for c in range(3):
            expected = np.asarray(Image.fromarray(values[n, c], mode="F").resize((24, 20), Image.Resampling.BICUBIC))
            np.testing.assert_allclose(found[n, c], expected, rtol=0, atol=2e-6)
