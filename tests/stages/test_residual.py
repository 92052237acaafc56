"""Residuals against a reference that is written out here, whatever the neighbors; sides, overflow, flips, one pass."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from golden_files import Golden
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from toy_project import Project

from pipeline.planning.closure import closure
from pipeline.stage import Batch, Context, Field, Promise
from stages import residual as module
from stages.flip import Flip, FlipConfig
from stages.residual import MICRO_BATCH, Residual, ResidualConfig, micro_batch, micro_batches
from stages.resynthesis import perceptual, weights

SIZES = {"tiny": (16, 2, 2), "small": (32, 4, 3), "least": (4, 1, 1), "published": (64, 2, 8)}
"""Features and growth, blocks, layers; published: two of the sixteen blocks, which differ in their weights only."""

WIDTHS = (4, 6, 8, 10, 12)
ALL = ("pixel", "stage1", "stage2", "stage3", "stage4", "stage5")
State = dict[str, Tensor]
MANIFESTS = Path(__file__).parents[2] / "manifests"
NETWORKS = yaml.safe_load((MANIFESTS / "networks.yaml").read_text())
SHIPPED = [name for name, entry in NETWORKS.items() if entry["network"] == "rdn"]


def convolution(state: State, name: str, outputs: int, inputs: int, side: int, random: torch.Generator) -> None:
    bound = (inputs * side * side) ** -0.5
    for kind, shape in (("weight", (outputs, inputs, side, side)), ("bias", (outputs,))):
        state[f"{name}.{kind}"] = (torch.rand(shape, generator=random) * 2 - 1) * bound


def published_state(size: str, seed: int = 0) -> State:
    """Random tensors under the names of the published code."""
    width, blocks, layers = SIZES[size]
    random = torch.Generator().manual_seed(seed)
    state: State = {}
    convolution(state, "sfe1", width, 3, 3, random)
    convolution(state, "sfe2", width, width, 3, random)
    for block in range(blocks):
        for layer in range(layers):
            convolution(state, f"rdbs.{block}.layers.{layer}.conv", width, width * (layer + 1), 3, random)
        convolution(state, f"rdbs.{block}.lff", width, width * (layers + 1), 1, random)
    convolution(state, "gff.0", width, width * blocks, 1, random)
    convolution(state, "gff.1", width, width, 3, random)
    for step in (0, 2):
        convolution(state, f"upscale.{step}", 4 * width, width, 3, random)
    convolution(state, "output", 3, width, 3, random)
    return state


def save_published(path: Path, state: State) -> Path:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


def rebuilt(state: State, reduced: Tensor) -> Tensor:
    """The re-synthesizer written out: (1, 3, h, w) to (1, 3, 4h, 4w)."""

    def apply(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def shuffled(x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        x = x.reshape(count, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(count, channels // 4, 2 * height, 2 * width)

    blocks = {int(name.split(".")[1]) for name in state if name.startswith("rdbs.")}
    layers = {int(name.split(".")[3]) for name in state if name.endswith(".conv.weight")}
    shallow = apply("sfe1", reduced)
    x, found = apply("sfe2", shallow), []
    for block in sorted(blocks):
        dense = x
        for layer in sorted(layers):
            dense = torch.cat([dense, apply(f"rdbs.{block}.layers.{layer}.conv", dense).clamp(min=0)], dim=1)
        x = apply(f"rdbs.{block}.lff", dense) + x
        found.append(x)
    x = apply("gff.1", apply("gff.0", torch.cat(found, dim=1))) + shallow
    return apply("output", shuffled(apply("upscale.2", shuffled(apply("upscale.0", x)))))


def reference(
    state: State, network: Mapping[str, Any], image: NDArray[np.uint8], stages: int = 5
) -> dict[str, NDArray[np.float32]]:
    """Residual of each level, (C, H, W) float32, of one image (H, W, 3), without any of the project's code."""
    levels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    reduced = sum(levels[:, :, i::4, j::4] for i in range(4) for j in range(4)) / 16 / 255  # type: ignore[operator]
    pair = [rebuilt(state, reduced), levels / 255]
    found = {"pixel": (pair[0] - pair[1]).abs()[0].numpy()}
    for number in range(stages):
        for side in (0, 1):
            x = pair[side] if number == 0 else F.max_pool2d(pair[side], 2)
            weight, bias = (torch.as_tensor(network[f"features.{3 * number}.{kind}"]) for kind in ("weight", "bias"))
            pair[side] = F.conv2d(x, weight, bias, padding=1).clamp(min=0)
        found[f"stage{number + 1}"] = (pair[0] - pair[1]).abs()[0].numpy()
    return found


def perceptual_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    found = {}
    for number, (before, width) in enumerate(pairwise((3, *WIDTHS))):
        found[f"features.{3 * number}.weight"] = random.normal(0, (2 / 9 / before) ** 0.5, (width, before, 3, 3))
        found[f"features.{3 * number}.bias"] = random.normal(0, 0.1, width)
    return {name: array.astype(np.float32) for name, array in found.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A published re-synthesizer of each size, and a small perceptual network."""
    folder = tmp_path_factory.mktemp("networks")
    perceptual.save(folder / "perceptual.safetensors", WIDTHS, perceptual_weights())
    found = {size: save_published(folder / f"{size}.pth", published_state(size)) for size in SIZES}
    return {**found, "perceptual": folder / "perceptual.safetensors"}


def noise(count: int, *sides: int, seed: int = 0) -> NDArray[np.uint8]:
    height, width = sides if len(sides) == 2 else (*sides, *sides)
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def configured(levels: tuple[str, ...] = ALL, **settings: Any) -> ResidualConfig:
    return ResidualConfig(model="given", levels=levels, **settings)  # type: ignore[arg-type]


def computed(
    files: Mapping[str, Path], images: NDArray[np.uint8], size: str = "least", **settings: Any
) -> tuple[dict[str, NDArray[Any]], Context]:
    """Fields of the images, and the context with the rows that failed."""
    config = configured(**settings)
    given = {"model": files[size]} | ({"perceptual": files["perceptual"]} if config.perceptual else {})
    context = Context(0, "residual", files=given)
    batch = Batch(np.zeros(len(images), "V16"), inputs=({"image": images},))
    found = dict(Residual().compute(config, batch, context))
    stage: Any = {"of": {"image": Field("uint8", images.shape[1:])}, **given}
    schema = Residual().schema(config, stage)
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        name: (np.dtype(field.dtype), (len(images), *field.shape)) for name, field in schema.items()
    }
    return found, context


def close(stored: NDArray[np.float16], expected: NDArray[np.float32]) -> bool:
    """Half a unit of float16, and 2e-6 for another order of additions."""
    half = np.maximum(np.abs(expected) * 2.0**-11, 2.0**-25)
    return bool((np.abs(stored.astype(np.float64) - expected) <= half + 2e-6).all())


@pytest.mark.parametrize(
    ("size", "side"), [*((size, side) for size in ("tiny", "small") for side in (64, 128, 256)), ("published", 64)]
)
def test_the_residual_of_a_published_file_is_that_of_the_reference(
    files: Mapping[str, Path], size: str, side: int
) -> None:
    images = noise(2, side, seed=side)
    images[1] = np.indices((side, side)).sum(axis=0)[..., None] * [1, 2, 3] // 6  # smooth, as photographs are
    found, context = computed(files, images, size)
    assert not context.failures
    for row in range(2):
        expected = reference(published_state(size), perceptual_weights(), images[row])
        for level in ALL:
            assert close(found[f"residual_{level}"][row], expected[level]), (row, level)
            mean = expected[level].astype(np.float64).mean()
            assert found[f"residual_{level}_mean"][row] == pytest.approx(mean, rel=1e-5)
    assert not found["residual_clipped"].any()


@pytest.mark.jobs
def test_the_residual_of_vgg19_is_that_of_torchvisions_layers(files: Mapping[str, Path], tmp_path: Path) -> None:
    from torchvision.models.vgg import cfgs, make_layers

    layers = make_layers(cfgs["E"])[:30].eval().requires_grad_(False)  # to relu5_1
    torch.manual_seed(0)
    for tensor in layers.parameters():  # values keep their size from layer to layer
        spread = (2 / tensor[0].numel()) ** 0.5 if tensor.ndim == 4 else 0.1
        tensor.copy_(spread * torch.randn(tensor.shape))
    path, images = tmp_path / "vgg19.pth", noise(1, 64, seed=5)
    torch.save({f"features.{name}": tensor for name, tensor in layers.state_dict().items()}, path)
    found, _ = computed({**files, "perceptual": path}, images, levels=("stage5",))
    levels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    made = rebuilt(published_state("least"), F.avg_pool2d(levels, 4) / 255)
    expected = (layers(made) - layers(levels / 255)).abs().numpy()
    np.testing.assert_allclose(found["residual_stage5"], expected, rtol=2.0**-11, atol=2e-5)
    assert 0.1 < found["residual_stage5_mean"][0] == pytest.approx(expected.mean(dtype=np.float64), rel=1e-5)


class Nearest(nn.Module):
    """Stands in for a re-synthesizer: each value four by four times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


@pytest.mark.golden("resynthesis", "downsample*.npz")
def test_golden_residual_of_a_stand_in(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key for key in golden.arrays if key.endswith("residual_f32_chw")]
    assert keys, f"{golden.path} has no residual"
    monkeypatch.setattr(module.weights, "load", lambda path, device: Nearest())
    images = golden["image_u8_hwc"]
    batch = Batch(np.zeros(1, "V16"), inputs=({"image": images[None]},))
    context = Context(0, "residual", files={"model": golden.path})
    found = Residual().compute(configured(("pixel",)), batch, context)
    for key in keys:
        expected = golden[key]
        assert (np.abs(found["residual_pixel"][0] - expected) <= expected * 2.0**-11 + 1e-7).all()
        assert found["residual_pixel_mean"][0] == pytest.approx(expected.mean(dtype=np.float64), rel=1e-6)


@examples(max_examples=12, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 9), min_size=1, max_size=14),
    size=st.sampled_from([None, 1, 3, 8]),
    levels=st.sampled_from([("pixel",), ("stage2", "stage5"), ALL]),
)
def test_bytes_of_a_row_do_not_depend_on_neighbors_position_or_count(
    files: Mapping[str, Path], chosen: list[int], size: int | None, levels: tuple[str, ...]
) -> None:
    images = noise(10, 16, 32)
    images[3], images[4] = 0, 255
    found, _ = computed(files, images[chosen], levels=levels, micro_batch=size)
    for position, row in enumerate(chosen):
        alone, _ = computed(files, images[row : row + 1], levels=levels, micro_batch=size)
        for name, values in alone.items():
            assert values[0].tobytes() == found[name][position].tobytes(), (name, row, position)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_bytes_do_not_depend_on_neighbors_in_networks_of_the_shipped_sizes(
    files: Mapping[str, Path], size: str
) -> None:
    images = noise(19, 64)
    whole, _ = computed(files, images, size, levels=("pixel", "stage5"))
    turned, _ = computed(files, images[::-1].copy(), size, levels=("pixel", "stage5"))
    alone, _ = computed(files, images[17:18], size, levels=("pixel", "stage5"))
    for name, values in whole.items():
        assert np.array_equal(values, turned[name][::-1])
        assert np.array_equal(values[17:18], alone[name])


def test_levels_together_are_those_alone_and_their_means_stay_without_maps(files: Mapping[str, Path]) -> None:
    (together, _), (bare, _) = (computed(files, noise(3, 32), maps=maps) for maps in (True, False))
    for level in ALL:
        alone, _ = computed(files, noise(3, 32), levels=(level,))
        assert set(alone) == {name := f"residual_{level}", mean := f"{name}_mean", "residual_clipped"}
        assert alone[name].tobytes() == together[name].tobytes()
        assert alone[mean].tobytes() == together[mean].tobytes() == bare.pop(mean).tobytes()
    assert not bare


def test_each_image_is_rebuilt_once_and_the_perceptual_network_runs_no_deeper_than_needed(
    files: Mapping[str, Path],
) -> None:
    model, network = weights.load(files["least"], "cpu"), perceptual.load(files["perceptual"], "cpu")
    runs: list[tuple[str, int]] = []
    hooks = [model.register_forward_hook(lambda _, given, __: runs.append(("model", len(given[0]))))]
    for number, layer in enumerate(network.features):
        hooks.append(layer.register_forward_hook(lambda _, given, __, n=number: runs.append((f"{n}", len(given[0])))))
    try:
        computed(files, noise(4, 16), levels=("pixel", "stage1", "stage3"), micro_batch=4)
    finally:
        for hook in hooks:
            hook.remove()
    assert runs == [("model", 4), *((f"{number}", 8) for number in range(8))]


SIDES = [
    (65, 65, ("pixel",), "the images are 65 x 65; equalize to a multiple of 4, e.g. size: 64"),
    (1, 1, ("pixel",), "the images are 1 x 1; equalize to a multiple of 4, e.g. size: 4"),
    (64, 66, ("pixel",), "the images are 64 x 66; equalize to a multiple of 4, e.g. size: 64"),
    (12, 64, ALL, "stage5 has one value per 16 x 16 pixels, and the images are 12 x 64; equalize to 16 or more"),
    (4, 4, ("stage4",), "stage4 has one value per 8 x 8 pixels, .* equalize to 8 or more, or leave stage4 out"),
]


@pytest.mark.parametrize(("height", "width", "levels", "sentence"), SIDES)
def test_sides_that_do_not_fit_are_refused_at_planning(
    files: Mapping[str, Path], height: int, width: int, levels: tuple[str, ...], sentence: str
) -> None:
    given: Any = {"of": {"image": Field("uint8", (height, width, 3))}, "model": files["least"], **files}
    with pytest.raises(ValueError, match=sentence) as caught:
        Residual().schema(configured(levels), given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{}, {"image": Field("float32", (64, 64, 3))}, {"image": Field("uint8", (64, 64))}, {"x": Field("<f4")}]
)
def test_rows_without_images_are_refused(files: Mapping[str, Path], fields: dict[str, Field]) -> None:
    with pytest.raises(ValueError, match=r"residual needs a field 'image', uint8 .* put equalize before it"):
        Residual().schema(configured(("pixel",)), {"of": fields, "model": files["least"]})


def test_sides_that_are_no_multiples_of_16_lose_their_last_pixels(files: Mapping[str, Path]) -> None:
    images = noise(1, 36, 56)
    found, _ = computed(files, images)
    assert found["residual_stage5"].shape == (1, 12, 2, 3)
    expected = reference(published_state("least"), perceptual_weights(), images[0])
    assert close(found["residual_stage5"][0], expected["stage5"])


def test_constant_images_and_a_single_block_have_a_residual(files: Mapping[str, Path]) -> None:
    images = np.zeros((4, 4, 4, 3), np.uint8)
    images[1:] = np.array([255, 7, 128])[:, None, None, None]
    found, context = computed(files, images, levels=("pixel", "stage1", "stage3"))
    assert not context.failures
    for row in range(4):
        expected = reference(published_state("least"), perceptual_weights(), images[row], stages=3)
        for level in ("pixel", "stage1", "stage3"):
            assert close(found[f"residual_{level}"][row], expected[level]), (row, level)
    silent = published_state("least")
    silent["output.weight"].zero_()
    silent["output.bias"].fill_(0.25)
    path = save_published(files["least"].with_name("silent.pth"), silent)
    found, _ = computed({"silent": path}, images, "silent", levels=("pixel",))
    known = np.abs(0.25 - images.transpose(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(found["residual_pixel"], known, rtol=2**-11)


def test_values_beyond_float16_become_its_largest_and_are_counted(files: Mapping[str, Path]) -> None:
    state = published_state("least")
    state["output.bias"] = torch.tensor([1e5, 0.0, 65000.0])
    path = save_published(files["least"].with_name("bright.pth"), state)
    images = noise(5, 8)
    found, context = computed({"bright": path}, images, "bright", levels=("pixel",))
    assert not context.failures
    assert (found["residual_pixel"][:, 0] == np.float16(65504)).all()
    assert np.isfinite(found["residual_pixel"]).all()
    assert found["residual_clipped"].tolist() == [64] * 5
    expected = [reference(state, {}, image, stages=0)["pixel"].astype(np.float64).mean() for image in images]
    np.testing.assert_allclose(found["residual_pixel_mean"], expected, rtol=1e-5)  # before anything is cut


def test_a_row_whose_residual_is_not_finite_fails_alone(files: Mapping[str, Path]) -> None:
    state = published_state("least")
    for name, tensor in state.items():
        tensor.mul_(0 if name.endswith("bias") else 1e12)
    path = save_published(files["least"].with_name("wild.pth"), state)
    images = noise(3, 8)
    images[1] = 0  # without biases this is rebuilt as zeros
    found, context = computed({"wild": path}, images, "wild", levels=("pixel",))
    assert sorted(context.failures) == [0, 2]
    assert context.failures[0].startswith("its residual is not finite; the weights")
    assert (found["residual_pixel"][1] == 0).all()


def test_a_flipped_residual_is_that_of_the_flipped_image(files: Mapping[str, Path]) -> None:
    images = noise(3, 32)
    flipped, _ = computed(files, images, orientation="flipped")
    mirrored, _ = computed(files, images[:, :, ::-1].copy())
    for name, values in mirrored.items():
        assert values.tobytes() == flipped[name].tobytes()


@pytest.mark.parametrize("name", ["tiny", *SHIPPED])
def test_the_flip_of_a_cached_residual_is_near_for_pixels_and_far_for_stages(
    files: Mapping[str, Path], name: str
) -> None:
    """The deviations that docs/features.md states, on photographs."""
    place = files["tiny"] if name == "tiny" else MANIFESTS / NETWORKS[name]["file"]
    photos = sorted((MANIFESTS / "photos").glob("*.png"))[::50]
    images = np.stack([np.array(Image.open(photo).convert("RGB")) for photo in photos])
    small = MANIFESTS / NETWORKS["perceptual-small"]["file"]
    given = {"model": place, "perceptual": small}
    cached, exact = (
        computed(given, images, "model", levels=("pixel", "stage5"), orientation=orientation)[0]
        for orientation in ("original", "flipped")
    )

    def deviation(level: str) -> float:
        one, two = (each[f"residual_{level}"].astype(np.float64) for each in (cached, exact))
        return float(np.abs(one[..., ::-1] - two).mean() / two.mean())

    assert 0.05 < deviation("pixel") < 0.35
    means = [each["residual_pixel_mean"] for each in (cached, exact)]
    np.testing.assert_allclose(*means, rtol=0.05)
    assert deviation("stage5") > 0.15


def test_both_orientations_come_as_two_rows() -> None:
    images, stage, config = noise(3, 8, 12), Flip(), FlipConfig()
    assert stage.fan_out(config) == 2
    image = Field("uint8", (8, 12, 3), "sRGB, 0..255")
    assert stage.schema(config, {"of": {"image": image}}) == {
        "image": image, "flipped": Field("uint8", (), "1: left and right exchanged")
    }  # fmt: skip
    index = np.array([0, 1, 1], np.int64)
    batch = Batch(np.zeros(3, "V16"), inputs=({"image": images},), index=index)
    found = stage.compute(config, batch, Context(0, "flip"))
    assert found["flipped"].tolist() == [0, 1, 1]
    for row in range(3):
        for y, x in np.ndindex(8, 12):
            assert (found["image"][row, y, x] == images[row, y, 11 - x if index[row] else x]).all()
    with pytest.raises(ValueError, match=r"flip needs a field 'image', .* found float32 .*; put equalize before it"):
        stage.schema(config, {"of": {"image": Field("float32", (8, 12, 3))}})


def test_settings_without_effect_and_twins_are_refused_and_defaults_are_written_out() -> None:
    assert configured(("pixel",)).perceptual is None
    assert configured(("stage1",)) == configured(("stage1",), perceptual="manifests/networks.yaml#perceptual-small")
    assert configured(("stage5", "pixel")) == configured(("pixel", "stage5"))
    with pytest.raises(ValueError, match="perceptual has no effect without a stage in levels"):
        configured(("pixel",), perceptual="vgg.pth")
    with pytest.raises(ValueError, match="levels pixel, pixel name one twice"):
        configured(("pixel", "pixel"))
    for wrong in ({"levels": ()}, {"levels": ("stage6",)}, {"micro_batch": 0}):
        with pytest.raises(ValueError, match=r"levels|micro_batch"):
            configured(**wrong)


def test_the_perceptual_network_is_in_the_recipe_only_where_a_stage_is_asked_for(files: Mapping[str, Path]) -> None:
    given = {"model": files["least"], "perceptual": files["perceptual"]}
    alone = closure(("stages.residual", *Residual().modules(configured(("pixel",)), given)))
    assert not any("perceptual" in name for name in alone)
    assert {"stages.resynthesis.rdn", "stages.resynthesis.downsampling", "stages.training.networks"} <= set(alone)
    staged = closure(("stages.residual", *Residual().modules(configured(("stage2",)), given)))
    assert {"stages.resynthesis.perceptual", "stages.resynthesis.perceptual_networks"} <= set(staged)


def test_files_of_another_kind_are_refused_at_planning(files: Mapping[str, Path]) -> None:
    stage = Residual()
    stage.check(configured(), files | {"model": files["tiny"]})
    with pytest.raises(ValueError, match="perceptual"):
        stage.check(configured(("pixel",)), {"model": files["perceptual"]})
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        stage.check(configured(), {"model": files["tiny"], "perceptual": files["tiny"].with_name("absent.pth")})
    with pytest.raises(ValueError, match="node 'n' does not train a re-synthesizer"):
        stage.check(configured(("pixel",)), {"model": Promise("n", {"family": "progan"})})


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize(
    "sides", [(4, 4), (16, 64), (60, 84), (64, 64), (128, 128), (256, 256), (1024, 1024), (4096, 4096)]
)
def test_a_micro_batch_is_a_power_of_two_that_divides_a_call(sides: tuple[int, int], device: str) -> None:
    rows, (pixels, most) = micro_batch(sides, device), MICRO_BATCH[device.partition(":")[0]]
    assert rows & (rows - 1) == 0
    assert 1 <= rows <= most
    assert rows == 1 or rows * sides[0] * sides[1] <= pixels
    if device == "cpu":
        assert Residual().least_rows(configured()) % rows == 0


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_micro_batches_are_full_and_repeat_the_last_row(count: int) -> None:
    images = noise(count, 4)
    groups = list(micro_batches(images, 4))
    assert all(len(group) == 4 for group in groups)
    expected = np.concatenate([images, np.repeat(images[-1:], -count % 4, axis=0)])
    assert np.array_equal(np.concatenate(groups), expected)
    assert np.shares_memory(groups[0], images) == (count >= 4)


PIPELINE = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 24, splits: [train, val]}
  fakes: {stage: "toy_photos:Photos", count: 24, first: 100, label: 1, splits: [train, val]}
  flipped: {stage: flip, of: [reals, fakes]}
  residuals:
    {stage: residual, of: [reals, fakes], model: rdn.pth, levels: [pixel, stage5], perceptual: small.safetensors}
  both: {stage: residual, of: flipped, model: rdn.pth}
  mean: {stage: train, on: residuals, detector: residual-mean}
"""


@pytest.mark.jobs
def test_a_run_stores_residuals_and_trains_the_baseline(
    files: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    (tmp_path / "rdn.pth").write_bytes(files["tiny"].read_bytes())
    (tmp_path / "small.safetensors").write_bytes(files["perceptual"].read_bytes())
    report = project.run()
    assert report.computed == {"reals": 24, "fakes": 24, "flipped": 96, "residuals": 48, "both": 96, "mean": 1}
    assert project.facts("mean")["detector"] == "threshold on residual_pixel_mean"
    assert 0 <= project.facts("mean")["validation"]["auc"] <= 1
    for (node, _, name), value in project.rows().items():
        if node in ("residuals", "both") and name.startswith("residual"):
            dtype = "int32" if name.endswith("clipped") else "float32" if name.endswith("mean") else "float16"
            assert np.isfinite(np.frombuffer(value, dtype)).all()
    (tmp_path / "rdn.pth").rename(tmp_path / "other.pth")
    project.write(PIPELINE.replace("[pixel, stage5]", "[stage5, pixel]").replace("rdn.pth", "other.pth"))
    assert project.run().computed == {}  # the content of a file counts, not its name
    save_published(tmp_path / "other.pth", published_state("tiny", seed=1))
    assert project.run().computed == {"residuals": 48, "both": 96, "mean": 1}
