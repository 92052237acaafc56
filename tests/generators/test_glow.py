"""Glow: the flow and its likelihood, files of its authors, sampling as published, training, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_images import sampled
from glow_cases import encoded, variables
from memory_rows import context
from small_games import game_of, photos, settings_of
from tensorflow_files import checkpoint, graph
from toy_project import Project

from detectors.training import tensors_of
from pipeline.errors import Interrupted
from pipeline.stage import PICTURE, Field
from stages.generators import generator_file, generator_metrics, glow, glow_latents, inspection, official, weights
from stages.generators.weights import WeightsError
from stages.train_generator import TrainGenerator, TrainGeneratorConfig

Array = np.ndarray[Any, Any]


def file_of(folder: Path, **shape: Any) -> Path:
    path = folder / "glow.pb"
    path.write_bytes(graph(variables(**shape)))
    return path


def normals(found: list[torch.Tensor]) -> list[Array]:
    return [one.permute(0, 2, 3, 1).numpy() for one in found]


# The flow


@pytest.mark.golden("glow", "**/expected*.npz", whole=True)
def test_golden_images_latents_and_samples(golden: Any, tmp_path: Path) -> None:
    folder = golden.path.parent
    given = json.loads(next(folder.glob("*config*.json")).read_text())
    files = [*folder.glob("*.pb"), *folder.glob("*.index")]
    assert files
    for path in files:
        converted = official.open_checkpoint(path)
        architecture = {**converted.architecture, "resolution": given["image_size"], "bits": given["n_bits_x"]}
        own = tmp_path / f"{path.name}.safetensors"
        weights.save(own, "glow", architecture, converted.tensors)
        _, made, _ = generator_file.load(own, "cpu")
        label = torch.eye(made.c_dim)[torch.from_numpy(golden["label"])] if made.c_dim else None
        assert sum(one.numel() for one in made.parameters()) == given["parameters"]
        levels = 2.0 ** given["n_bits_x"]
        x = (np.floor(golden["image"] * (levels / 256)) + 0.5) / levels - 0.5  # the middle of a level
        with torch.no_grad():
            latents, likelihood = made.encode(torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)), label)
            for number, one in enumerate(normals(latents)):
                np.testing.assert_allclose(one, golden[f"enc_eps_{number}"], atol=1e-5)
            np.testing.assert_allclose(likelihood, golden["log_likelihood_without_dequantization"], atol=1e-3)
            back = made.decode(latents, label).permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(back, golden["decode_of_enc_float"], atol=1e-5)
            eps = torch.from_numpy(golden["flat_eps"].astype(np.float32))
            drawn = made(eps, label).permute(0, 2, 3, 1).numpy() / 2
            np.testing.assert_allclose(drawn, golden["sample_float"], atol=1e-5)
        rows = {"eps": eps, "levels": torch.full((len(eps),), levels), **({"label": label} if made.c_dim else {})}
        found = glow.to_uint8(glow.render(made, rows)).numpy().astype(int)
        assert np.abs(found - golden["sample"]).max() <= 256 / levels
        assert (found != golden["sample"]).mean() <= 0.001


SHAPES: list[dict[str, Any]] = [
    {"levels": 2, "depth": 2, "affine": True, "classes": 3},
    {"levels": 1, "depth": 1, "affine": False, "top": False, "width": 3},
    {"levels": 3, "depth": 1, "affine": False, "classes": 2, "top": False},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_latents_are_those_of_the_operations_one_at_a_time(shape: dict[str, Any], tmp_path: Path) -> None:
    given = variables(**shape)
    _, made, header = generator_file.load(file_of(tmp_path, **shape), "cpu")
    assert header.architecture["resolution"] == 4 << shape["levels"]
    images = np.random.RandomState(1).uniform(-0.5, 0.5, (2, 8, 8, 3))
    classes = [1, 0]
    label = torch.eye(shape["classes"])[classes] if "classes" in shape else None
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        found, _ = made.encode(x, label)
        assert (made.decode(found, label) - x).abs().max() < 1e-4
    for number, image in enumerate(images):
        wanted = encoded(
            given, image, levels=shape["levels"], depth=shape["depth"], affine=shape["affine"],
            label=classes[number] if label is not None else None,
        )  # fmt: skip
        for one, other in zip(normals(found), wanted, strict=True):
            np.testing.assert_allclose(one[number], other, atol=2e-5)
    if label is not None:
        with pytest.raises(ValueError, match="is conditional: it needs a label of width"):
            made.encode(x)


@pytest.mark.parametrize("affine", [False, True])
def test_the_likelihood_is_that_of_the_change_of_volume(affine: bool, tmp_path: Path) -> None:
    _, made, _ = generator_file.load(file_of(tmp_path, affine=affine), "cpu")
    made = made.double()
    x = torch.from_numpy(np.random.RandomState(2).uniform(-0.5, 0.5, (1, 3, 4, 4)))

    def flat(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([one.flatten() for one in made.encode(image)[0]])

    slopes = torch.autograd.functional.jacobian(flat, x).reshape(48, 48)
    wanted = -0.5 * (flat(x).square().sum() + 48 * math.log(2 * math.pi)) + torch.linalg.slogdet(slopes)[1]
    assert made.encode(x)[1].item() == pytest.approx(wanted.item(), rel=1e-9)


def test_the_official_size_has_the_published_number_of_parameters_and_latents() -> None:
    with torch.device("meta"):
        made = glow.build({"resolution": 256, "levels": 6, "depth": 32, "width": 512, "bits": 5})
    assert sum(one.numel() for one in made.parameters()) == 175_099_620
    sides = [(128, 6), (64, 12), (32, 24), (16, 48), (8, 96), (4, 384)]
    assert made.shapes() == [(side, side, channels) for side, channels in sides]


# Sampling


def latents_of(path: Path, seeds: list[int], **settings: Any) -> Array:
    """Images, as bytes, of latents that the test draws itself."""
    _, made, header = generator_file.load(path, "cpu")
    values = 3 * header.resolution**2
    eps = torch.from_numpy(np.stack([settings["eps"](seed, values) for seed in seeds]).astype(np.float32))
    shades = 2 ** settings.get("bits", 5)
    with torch.no_grad():
        x = made(eps).permute(0, 2, 3, 1).numpy() / 2
    return np.clip(np.floor((x + 0.5) * shades) * (256 // shades), 0, 255)


def alike(found: Array, wanted: Array, step: int) -> None:
    assert np.abs(found.astype(int) - wanted).max() <= step
    assert (found == wanted).mean() > 0.999


def test_the_image_of_a_seed_is_drawn_from_its_own_stream_at_the_published_temperature(tmp_path: Path) -> None:
    path = file_of(tmp_path)

    def eps(seed: int, values: int) -> Array:
        return np.random.RandomState(seed).normal(scale=0.7, size=values)

    images = sampled(path, list(range(5)), micro_batch=4)
    alike(images, latents_of(path, list(range(5)), eps=eps), 8)
    assert set(np.unique(images)) <= {*range(0, 256, 8), 255}  # 32 levels per color, and what is clipped
    assert np.array_equal(sampled(path, [4, 1], micro_batch=4), images[[4, 1]])
    hot = sampled(path, [2], drawing={"temperature": 1.0, "bits": 8}, micro_batch=4)
    alike(hot, latents_of(path, [2], eps=lambda seed, n: eps(seed, n) / 0.7, bits=8), 1)
    assert len(np.unique(hot)) > 32


@pytest.mark.parametrize(
    ("bits", "drawn", "levels"), [(5, {}, 32), (5, {"bits": 3}, 8), (6, {"temperature": 0.5}, 64), (8, {}, None)]
)
def test_few_levels_per_color_stand_in_the_lineage_of_images(
    bits: int, drawn: dict[str, Any], levels: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a report finds them: they give a fake away until it is resized."""
    converted = official.open_checkpoint(file_of(tmp_path))
    weights.save(tmp_path / "g.safetensors", "glow", {**converted.architecture, "bits": bits}, converted.tensors)
    text = f"nodes: {{fakes: {{stage: sample, checkpoint: g.safetensors, count: 1, drawing: {json.dumps(drawn)}}}}}\n"
    project = Project(tmp_path, monkeypatch, text)
    ((step,),) = (branch.steps for branch in project.plan().all_branches())
    wanted = {} if levels is None else {"bit_depth": f"{levels} levels per color, until images are resized"}
    assert step.get("leaves", {}) == wanted


def directions(folder: Path, values: int) -> tuple[Path, Array]:
    made = np.random.RandomState(9).normal(0, 0.5, (40, values)).astype(np.float32)
    np.save(folder / "z.npy", made)
    changed = made.astype(np.float64)
    for attribute in (24, 39):  # No_Beard and Young in the list of CelebA
        changed[attribute] *= -1
    changed[23] *= 1.2  # Narrow_Eyes
    return folder / "z.npy", changed


def test_each_image_may_get_a_random_amount_of_a_random_attribute(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    file, along = directions(tmp_path, 768)

    def eps(seed: int, values: int) -> Array:
        state = np.random.RandomState(seed)
        plain = state.normal(scale=0.7, size=values)
        attribute = state.randint(40)
        return plain + state.uniform(-1, 1) * along[attribute]

    np.testing.assert_allclose(glow_latents.read_directions(file, 768), along)  # three of them are not as in the file
    alike(sampled(path, [0, 3, 8], file, micro_batch=4), latents_of(path, [0, 3, 8], eps=eps), 8)


def test_one_stream_for_all_images_is_the_published_programs(tmp_path: Path) -> None:
    """Batches of 16; attributes and amounts of a batch from a second stream."""
    path = file_of(tmp_path)
    file, along = directions(tmp_path, 768)
    normal, attribute, wanted = np.random.RandomState(5), np.random.RandomState(6), []
    for _ in range(3):
        eps = normal.normal(scale=0.7, size=(16, 768))
        tags = attribute.randint(40, size=16)
        wanted.append(eps + attribute.uniform(-1, 1, size=(16, 1)) * along[tags])
    whole = np.concatenate(wanted)
    for seeds in ([40, 0, 17], [3, 47]):  # in any order
        found = sampled(path, seeds, file, drawing={"shared_stream": 5}, micro_batch=4)
        alike(found, latents_of(path, seeds, eps=lambda seed, _: whole[seed]), 8)


def test_files_of_directions_that_are_none_are_refused(tmp_path: Path) -> None:
    bad = np.zeros((40, 12))
    bad[3, 4] = np.nan
    for made, said in (
        (np.zeros((39, 12)), r"has the shape \(39, 12\) of float64; expected \(40, 12\)"),
        (np.zeros((40, 13)), r"expected \(40, 12\) floating-point"), (np.zeros((40, 12), np.int64), "of int64"),
        (bad, "values that are not finite"), (np.array(3.0), r"has the shape \(\) of float64"),
    ):  # fmt: skip
        np.save(tmp_path / "z.npy", made)
        with pytest.raises(WeightsError, match=said):
            glow_latents.read_directions(tmp_path / "z.npy", 12)
    np.save(tmp_path / "z.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    huge = tmp_path / "huge.npy"
    with huge.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (40, 10**12), "fortran_order": False, "descr": "<f8"})
    (tmp_path / "text.npy").write_text("none")
    for name in ("z.npy", "huge.npy", "text.npy"):
        with pytest.raises(WeightsError, match=r"is no \.npy file of directions: "):
            glow_latents.read_directions(tmp_path / name, 12)


# Files


def test_a_graph_and_a_checkpoint_hold_the_same_flow_which_can_be_rewritten(tmp_path: Path) -> None:
    given = variables(affine=True, classes=2)
    copies = {
        "model/0/0/invconv/W/ExponentialMovingAverage": given["model/0/0/invconv/W"] + 1,
        "Variable_3": np.ones((2, 2), np.float32),
        "step": np.array(7, np.int64),
    }
    index = checkpoint(tmp_path, {**given, **copies})
    frozen = file_of(tmp_path, affine=True, classes=2)
    scoped = tmp_path / "scoped.pb"
    scoped.write_bytes(graph({f"import/{name}": array for name, array in given.items()}))
    first = official.open_checkpoint(frozen)
    for path in (index, scoped):
        found = official.open_checkpoint(path)
        assert found.architecture == first.architecture
        assert all(np.array_equal(found.tensors[name], array) for name, array in first.tensors.items())
    about = inspection.inspect(index)
    assert (about["container"], about["version"], about["form"]) == ("tensorflow checkpoint", 2, "checkpoint")
    text = "\n".join(inspection.lines(about))
    assert "noise comes back from its latents within" in text
    assert "largest condition number of a 1x1 convolution" in text
    assert "2^5" in text
    out = tmp_path / "own.safetensors"
    inspection.convert(frozen, "average", "safetensors", out, force=False)
    assert np.array_equal(sampled(out, [1], label_index=1), sampled(frozen, [1], label_index=1))
    assert not np.array_equal(sampled(out, [1], label_index=0), sampled(out, [1], label_index=1))


@pytest.mark.parametrize("shape", [{}, {"affine": True, "classes": 3}, {"levels": 1, "top": False}])
def test_constants_with_other_names_are_taken_in_their_order(shape: dict[str, Any], tmp_path: Path) -> None:
    given = variables(**shape)
    path = tmp_path / "other.pb"
    path.write_bytes(graph({f"op_{number}": array for number, array in enumerate(given.values())}))
    found, wanted = official.open_checkpoint(path), official.open_checkpoint(file_of(tmp_path, **shape))
    assert found.architecture == wanted.architecture
    assert all(np.array_equal(found.tensors[name], array) for name, array in wanted.tensors.items())
    assert "by order" in found.notes[0]


def changed(given: Mapping[str, Array], **change: Any) -> dict[str, Array]:
    """With some variables replaced (None: lost); names have _ for /."""
    found = dict(given)
    for name, array in change.items():
        full = next((one for one in found if one.replace("/", "_") == name), name)
        if array is None:
            del found[full]
        else:
            found[full] = array
    return found


def test_graphs_that_are_no_such_flow_are_refused(tmp_path: Path) -> None:
    given = variables(levels=1, depth=1)
    flat, nans, large = np.eye(12, dtype=np.float32), np.full((1, 1, 1, 12), np.nan, np.float32), np.float32(99)
    ordered, other = list(given.values()), np.zeros((2, 3), np.float32)
    flat[0, 0] = 1e-8
    cases: list[tuple[dict[str, Array], str]] = [
        (changed(given, model_0_0_invconv_W=flat), r"a 1x1 convolution of condition number 1e\+08; above 1e\+06"),
        (changed(given, model_0_0_f1_l_2_W=None), "lacks the variable model/0/0/f1/l_2/W"),
        (changed(given, more=np.zeros((2, 2), np.float32)), ""),
        (changed(given, **{"model/more": np.zeros((2, 2), np.float32)}), "1 unknown tensors, for example model/more"),
        (changed(given, model_prior_p_b=np.zeros((1, 1, 1, 5), np.float32)), "its model/prior/p/b has shape"),
        (changed(given, model_0_0_f1_l_last_W=np.zeros((3, 3, 5, 7), np.float32)), "first coupling changes 7 of 12"),
        (changed(given, model_0_0_actnorm_center_b=nans), "12 values that are not"),
        (changed(given, model_0_0_actnorm_scale_logs=np.full_like(nans, large)), "is not invertible"),
        ({f"x{n}": array for n, array in enumerate(ordered[::-1])}, "not those of a Glow, neither by name nor"),
        ({f"x{n}": array for n, array in enumerate([*ordered, other])}, "left over are 'x15'"),
    ]  # fmt: skip
    for constants, said in cases:
        path = tmp_path / "bad.pb"
        path.write_bytes(graph(constants))
        if not said:  # a constant of somebody else
            official.open_checkpoint(path)
            continue
        with pytest.raises(WeightsError, match=said) as caught:
            official.open_checkpoint(path)
        assert str(caught.value).startswith(f"{path} is refused: ")


def test_our_own_file_of_a_flow_that_cannot_be_inverted_is_refused(tmp_path: Path) -> None:
    converted = official.open_checkpoint(file_of(tmp_path))
    name = "levels.0.0.matrix"
    for value in (0.0, 1e-9):
        tensors = {**converted.tensors, name: converted.tensors[name].copy()}
        tensors[name][0] *= value
        weights.save(tmp_path / "own.safetensors", "glow", converted.architecture, tensors)
        with pytest.raises(WeightsError, match=r"has a 1x1 convolution of condition number .*; above 1e"):
            generator_file.load(tmp_path / "own.safetensors", "cpu")


# Training


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("PAIRS", 10), ("PATCHES", 8), ("DIRECTIONS", generator_metrics.DIRECTIONS_AT_ONCE)):
        monkeypatch.setattr(generator_metrics, name, small)


def fitted(folder: Path, rows: Any, stopping: Any = lambda: False, **recipe: Any) -> dict[str, bytes]:
    given = {"recipe": settings_of("glow", **recipe), "pictures": 1}
    ctx = context(folder, "train_generator", stopping=stopping)
    TrainGenerator().fit(TrainGeneratorConfig.model_validate_json(json.dumps(given)), {"on": rows}, ctx)
    return {path.name: path.read_bytes() for path in sorted(ctx.out.iterdir())}


def test_a_training_leaves_a_generator_and_survives_stops_with_the_same_bytes(tmp_path: Path) -> None:
    rows = photos(8)
    whole = fitted(tmp_path / "whole", rows, conditional=True)
    assert sorted(whole) == ["card.json", "generator.safetensors", "log.json", "samples-000000016.png"]
    card, log = json.loads(whole["card.json"]), json.loads(whole["log.json"])
    assert (card["family"], card["kimg"], card["steps"], card["architecture"]["c_dim"]) == ("glow", 0.016, 4, 2)
    assert set(log[0]) == {"kimg", "bits_per_dimension"}
    for _ in range(3):
        with pytest.raises(Interrupted):
            fitted(tmp_path / "stopped", rows, lambda: True, conditional=True)
    assert fitted(tmp_path / "stopped", rows, lambda: True, conditional=True) == whole
    path = tmp_path / "whole" / "out" / "generator.safetensors"
    assert sampled(path, [0], label_index=1).shape == (1, 8, 8, 3)


def test_normalizations_begin_with_the_statistics_of_photographs_and_the_rate_rises() -> None:
    game = game_of(
        "glow", first_images=6, warm_up=2.0, learning_rate=0.3, network={"levels": 2, "depth": 1, "width": 4}
    )
    seen: list[torch.Tensor] = []
    for level in game.generator.levels:
        for norm in (level[0].norm, level[0].coupling.norm1, level[0].coupling.norm2):
            norm.register_forward_hook(lambda module, given, result: seen.append(result))
    random = torch.Generator().manual_seed(0)
    game.images.random, game.random = random, random  # the draws of the beginning again
    torch.Generator.manual_seed(random, 0)
    first, _ = game.images.draw(6)
    with torch.no_grad():
        game.generator.encode(game.dequantized(first))
    assert len(seen) == 6
    begun = tensors_of(game.generator)
    assert all(np.array_equal(array, begun[name]) for name, array in tensors_of(game.average).items())
    for one in seen:
        assert one.mean(dim=(0, 2, 3)).abs().max() < 1e-4
        assert (one.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3
    assert [game.rate(at, 3) for at in (0, 3, 9, 100)] == pytest.approx([0.075, 0.15, 0.3, 0.3])
    whole = game_of("glow", warm_up=0.0, learning_rate=0.3)
    assert whole.rate(0, 1) == pytest.approx(0.3)


def test_dequantization_keeps_the_level_of_each_value() -> None:
    game = game_of("glow", network={"levels": 1, "depth": 1, "width": 2, "bits": 3})
    shades = torch.arange(192).reshape(1, 3, 8, 8).float()
    x = game.dequantized(shades / 127.5 - 1)
    assert torch.equal(((x + 0.5) * 8).floor(), (shades / 32).floor())
    assert 0.4 < ((x + 0.5) * 8 % 1).mean() < 0.6


def test_training_lowers_the_bits_per_dimension_of_the_photographs() -> None:
    ramp = np.arange(8)
    pixels = np.stack(
        [np.add.outer(ramp * a, ramp * b)[..., None] * [3, 2, 1] + a * 9 for a in range(4) for b in range(4)]
    )
    rows = photos(8, 16)
    rows.values["image"][:] = pixels.clip(0, 255)
    game = game_of("glow", rows=rows, batch=8, warm_up=1.0, learning_rate=0.01, first_images=16)
    found, seen = [], 0
    for _ in range(25):
        batch, log = game.step(seen)
        seen += batch
        found.append(log["bits_per_dimension"])
    assert np.mean(found[-5:]) < np.mean(found[:5]) - 0.5
    slow, fast = tensors_of(game.average), tensors_of(game.generator)
    assert any(not np.array_equal(slow[name], fast[name]) for name in fast)


def test_settings_that_no_flow_has_are_refused(tmp_path: Path) -> None:
    config = TrainGeneratorConfig.model_validate({"recipe": {"family": "glow"}})
    field = {"image": Field("uint8", (32, 32, 3), "sRGB, 0..255", PICTURE)}
    with pytest.raises(
        ValueError, match=r"glow with 6 levels learns images whose side is a multiple of 64, .* have 32"
    ):
        TrainGenerator().schema(config, {"on": field})
    for change, said in (
        ({"levels": 3, "resolution": 12}, "3 levels need sides that are multiples of 2^3, not 12"),
        ({"coupling": "odd"}, "coupling is 'odd' and bits 8; expected additive or affine"),
        ({"bits": 9}, "coupling is 'additive' and bits 9"),
    ):
        with pytest.raises(ValueError, match=said.replace("^", r"\^")):
            glow.build({"resolution": 8, "levels": 1, "depth": 1, "width": 1, **change})
    path = file_of(tmp_path)
    for drawing, said in (
        (
            {"temprature": 0.5},
            r"drawing.temprature is no setting for .*; expected one of .*; did you mean 'temperature'",
        ),
        ({"bits": 0}, r"drawing.bits is 0: Input should be greater than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            sampled(path, [0], drawing=drawing)
