"""Stage `train_generator`: through the engine and alone; what it writes, what makes it stale, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import context, union
from PIL import Image
from small_games import KINDS, NAMES, SIDES, photos, settings_of
from toy_project import Project

from pipeline.errors import ConfigError, Interrupted, StageError
from pipeline.planning.closure import closure
from pipeline.planning.recipes import recipe_config
from pipeline.stage import Batch, Context, Field, Kind, SourceRows, Stage, StageConfig, row_setting
from stages.generators import generator_metrics, stylegan2, weights
from stages.generators.training_recipes import by_size
from stages.train_generator import (
    TrainGenerator,
    TrainGeneratorConfig,
    discriminator_architecture,
    generator_architecture,
    new_network,
)


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws behind the figures of a card, which have tests of their own."""
    monkeypatch.setattr(generator_metrics, "PAIRS", 10)
    monkeypatch.setattr(generator_metrics, "PATCHES", 8)
    monkeypatch.setattr(generator_metrics, "DIRECTIONS", generator_metrics.DIRECTIONS_AT_ONCE)


SHORT = {"grow_kimg": 0.004, "fade_kimg": 0.004}


def config(family: str = "progan", recipe: Mapping[str, Any] | None = None, **more: Any) -> Any:
    growing = SHORT if family in ("progan", "stylegan") else {}
    given = settings_of(family, **{"kimg": 0.012, **growing, **(recipe or {})})
    return TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": given, "pictures": 2, **more}))


def plain(family: str) -> Any:
    """A config with nothing but the family's name."""
    return TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": {"family": family}}))


def fit(folder: Path, settings: Any, rows: Any, **more: Any) -> dict[str, bytes]:
    ctx = context(folder, "train_generator", **more)
    TrainGenerator().fit(settings, {"on": rows}, ctx)
    return contents(ctx.out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Through the engine


class PhotosConfig(StageConfig):
    train: int = row_setting(5, description="training rows")
    test: int = row_setting(2, description="test rows")
    label: int = row_setting(0, description="label")
    domains: bool = row_setting(True, description="whether rows have domains")


class Photos(Stage):
    """Noise instead of photographs, in two domains in turn."""

    name, kind, Config = "photos", Kind.SOURCE, PhotosConfig

    def schema(self, config: PhotosConfig, inputs: Mapping[str, Any]) -> dict[str, Field]:
        return {"image": Field("uint8", (8, 8, 3))}

    def discover(self, config: PhotosConfig, scan: Any) -> SourceRows:
        numbers = [*range(config.train), *range(100, 100 + config.test)]
        ids = np.frombuffer(b"".join(number.to_bytes(16, "little") for number in numbers), "V16")
        domains = [("ape", "bee")[number % 2] if config.domains else "" for number in numbers]
        return SourceRows(ids, config.label, None, ["train" if n < 100 else "test" for n in numbers], domains)

    def compute(self, config: PhotosConfig, batch: Batch, ctx: Context) -> dict[str, Any]:
        draws = [np.random.default_rng(list(bytes(row))) for row in batch.ids]
        return {"image": np.stack([draw.integers(0, 256, (8, 8, 3), np.uint8) for draw in draws])}


PIPELINE = """
nodes:
  photos: {{stage: "test_train_generator:Photos"}}
  generator: {{stage: train_generator, on: photos, recipe: {recipe}, pictures: 2}}
"""


def project(folder: Path, patch: pytest.MonkeyPatch, **recipe: Any) -> Project:
    settings = settings_of("stylegan2", **{"kimg": 0.012, "path_interval": 2, **recipe})
    return Project(folder, patch, PIPELINE.format(recipe=json.dumps(settings)))


def artifact(made: Project, *overrides: str) -> Any:
    return made.plan(*overrides).artifacts["generator"].found


def test_a_run_leaves_weights_card_log_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch, conditional=True)
    made.run()
    found = artifact(made)
    names = ["card.json", "discriminator.safetensors", "generator.safetensors", "log.json"]
    pictures = ["samples-000000008.png", "samples-000000012.png"]
    assert sorted(set(contents(found.path)) - {"artifact.json", "consumed.npy"}) == names + pictures
    card = json.loads((found.path / "card.json").read_text())
    generator, discriminator = (weights.load(found.path / f"{name}.safetensors", name)[1] for name in
                                ("generator", "discriminator"))  # fmt: skip
    header = weights.read_header(found.path / "generator.safetensors")
    assert (header.family, header.resolution, header.domains) == ("stylegan2", 8, ("ape", "bee"))
    assert weights.read_header(found.path / "discriminator.safetensors").domains == ("ape", "bee")
    assert card["family"] == "stylegan2"
    assert card["recipe"]["path_interval"] == 2
    assert card["recipe"]["mixing"] == 0.9  # a default
    assert card["architecture"] == dict(header.architecture)
    assert card["discriminator"]["c_dim"] == discriminator.c_dim == 2
    assert card["parameters"] == sum(parameter.numel() for parameter in generator.parameters())
    assert (card["seed"], card["steps"], card["kimg"], card["photographs"]) == (0, 3, 0.012, 5)
    assert (card["device"], card["threads"]) == ("cpu", 1)
    assert set(card["libraries"]) == {"numpy", "pillow", "torch", "safetensors"}
    assert len(card["data_fingerprint"]) == 32
    assert np.isfinite(list(card["figures"].values())).all()
    assert {"diversity", "swd", "profile_distance"} <= set(card["figures"])
    log = json.loads((found.path / "log.json").read_text())
    assert [entry["kimg"] for entry in log] == [0.004, 0.008, 0.012]
    assert set(log[-1]) == {"kimg", "generator", "discriminator"}
    assert "r1" in log[0]
    facts = found.info["facts"]
    assert (facts["family"], facts["figures"], facts["last"]) == ("stylegan2", card["figures"], log[-1])
    with Image.open(found.path / pictures[-1]) as picture:
        shown = np.asarray(picture).astype(int)
    for seed in (0, 9):  # classes in turn
        drawn = stylegan2.draw(card["architecture"], seed, "per-seed")
        rows = {name: torch.from_numpy(value)[None] for name, value in drawn.items()}
        rows["label"] = torch.eye(2)[seed % 2][None]
        image = stylegan2.to_uint8(stylegan2.render(generator, rows))[0].numpy()  # type: ignore[arg-type]
        top, left = 8 * (seed // 7), 8 * (seed % 7)
        assert np.abs(shown[top : top + 8, left : left + 8] - image).max() <= 1


def test_what_makes_a_trained_generator_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    assert artifact(made) is None
    made.run()
    key = artifact(made).key
    for override in ("generator.save_kimg=0.5", "photos.test=3"):
        assert artifact(made, f"nodes.{override}").key == key
    for override in ("photos.train=6", "generator.seed=1", "generator.recipe.r1_gamma=9.0", "generator.pictures=1"):
        assert artifact(made, f"nodes.{override}") is None


def test_planning_names_the_place_of_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    recipe = json.dumps(settings_of("progan", kimg=0.010, **SHORT, grow_from=4) | {"grow_kimg": 0.01})
    made.write(PIPELINE.format(recipe=recipe))
    sentence = r"generator.*kimg is 0\.01, but growing from 4 to 8 pixels takes 0\.014; raise kimg or lower grow_kimg"
    with pytest.raises(ConfigError, match=sentence):
        made.plan()


def test_fakes_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, monkeypatch)
    made.replace('"test_train_generator:Photos"', '"test_train_generator:Photos", label: 1')
    sentence = "^generator: 5 of 5 training rows are fakes; a generator learns from real images only$"
    with pytest.raises(StageError, match=sentence):
        made.run()


# The stage alone


@pytest.mark.parametrize("family", KINDS)
def test_stopping_and_the_order_of_rows_change_no_byte_and_the_seed_does(family: str, tmp_path: Path) -> None:
    settings, rows = config(family, {"kimg": 0.008, "grow_kimg": 0.002, "fade_kimg": 0.002} if family in
                            ("progan", "stylegan") else {"kimg": 0.008}), photos(SIDES[family])  # fmt: skip
    whole = fit(tmp_path / "whole", settings, rows)
    with pytest.raises(Interrupted, match="the same command goes on"):
        fit(tmp_path / "stopped", settings, rows, stopping=lambda: True)
    assert contents(tmp_path / "stopped" / "out") == {}
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    assert fit(tmp_path / "stopped", settings, shuffled, stopping=lambda: True) == whole
    other = fit(tmp_path / "other", settings.model_copy(update={"seed": 1}), rows)
    assert sorted(other) == sorted(whole)
    assert not [name for name in whole if name.endswith((".safetensors", ".json")) and other[name] == whole[name]]
    header = weights.read_header(tmp_path / "whole" / "out" / "generator.safetensors")
    assert header.family == family
    assert header.domains == (("ape", "bee") if family == "stargan2" else ())


def test_other_splits_are_not_read(tmp_path: Path) -> None:
    rows = photos(8, 8, split=None)
    spoiled = photos(8, 8, split=None)
    others = spoiled.column("split") != "train"
    spoiled.values["image"][others] = 0
    spoiled._table["label"][others] = 1
    assert fit(tmp_path / "one", config(), rows) == fit(tmp_path / "two", config(), spoiled)


def test_rows_that_nothing_can_be_learned_from_are_refused(tmp_path: Path) -> None:
    fakes = photos(8, 3)
    fakes._table["label"][:] = 1
    with pytest.raises(StageError, match=r"^3 of 9 training rows are fakes; a generator learns from real images only$"):
        fit(tmp_path, config(), union(photos(8, 6), fakes))
    with pytest.raises(StageError, match=r"^there are 1 training rows in 'on'; a generator needs more$"):
        fit(tmp_path, config(), photos(8, 1))
    with pytest.raises(
        StageError, match=r"^conditional training needs rows of two or more domains, found 'none'; give"
    ):
        fit(tmp_path, config("progan", {"conditional": True}), photos(8, domains=("",)))


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (None, "found no field 'image'; put `equalize` before$"),
        (Field("uint8", (8, 16, 3)), r"found 'image' uint8 \(8, 16, 3\); put `equalize` before$"),
        (Field("float32", (8, 8, 3)), r"found 'image' float32 \(8, 8, 3\); put"),
        (Field("uint8", (8, 8)), r"found 'image' uint8 \(8, 8\); put"),
        (Field("uint8", (8, 8, 1)), r"found 'image' uint8 \(8, 8, 1\); put"),
        (Field("uint8", (24, 24, 3)), "the side of the images is 24; a generator needs a power of two from 8 to 4096$"),
        (Field("uint8", (4, 4, 3)), "the side of the images is 4; a generator needs a power of two from 8 to 4096$"),
    ],
)
def test_images_that_no_generator_makes_are_refused(field: Field | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainGenerator().schema(config(), {"on": {} if field is None else {"image": field}})


@pytest.mark.parametrize(
    ("family", "recipe", "side", "sentence"),
    [
        ("progan", {"kimg": 0.015}, 16, r"kimg is 0\.015, but growing from 4 to 16 pixels takes 0\.016; raise kimg"),
        ("stylegan", {"grow_from": 16}, 8, "grow_from is 16, but the images of 'on' have 8 pixels"),
        ("stargan2", {}, 16, "stargan2 learns images of 32 pixels or more, those of 'on' have 16"),
        ("autogan", {}, 16, "autogan learns images of 32 pixels or more, those of 'on' have 16"),
    ],
)
def test_recipes_that_do_not_fit_the_images_are_refused(
    family: str, recipe: dict[str, Any], side: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainGenerator().schema(config(family, recipe), {"on": {"image": Field("uint8", (side, side, 3))}})
    fitting = {"on": {"image": Field("uint8", (32, 32, 3))}}
    assert TrainGenerator().schema(config(family, {"kimg": 1.0}), fitting) == {}


RECIPE = "^pipeline.yaml:4 nodes.generator.recipe"


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("stylegan2", " is 'stylegan2'; expected a mapping with 'family' "),
        ("{kimg: 3.0}", " is a mapping; lacks 'family', one of progan, stylegan, stylegan2, stargan2"),
        ("{family: stylgan2}", "its family is 'stylgan2'; expected one of progan.*; did you mean 'stylegan2'?"),
        ("{family: stylegan2, path_wieght: 3.0}", ".path_wieght is not a setting .*; did you mean 'path_weight'?"),
        ("{family: progan, mixing: 0.5}", "'mixing' is a setting of stylegan and stylegan2, not of progan; drop it$"),
        ("{family: progan, network: {z_dmi: 4}}", ".network.z_dmi is not a setting .*; did you mean 'z_dim'?"),
        ("{family: progan, kimg: long}", ".kimg is 'long'; expected a valid number$"),
        ("{family: progan, batch: 0}", ".batch is 0; expected greater than or equal to 1$"),
        ("{family: progan, batch: {4: 0}}", ".batch is a mapping; expected numbers above 0 by resolution, such as"),
        ("{family: progan, batch: {}}", ".batch is a mapping; expected numbers above 0 by resolution, such as"),
        ("{family: progan, learning_rate: {a: 0.1}}", ".learning_rate is a mapping; expected numbers above 0 by"),
        ("{family: progan, batch: 6}", "batch is 6, no multiple of the discriminator's group of 4 images$"),
        ("{family: stylegan, batch: {8: 16, 64: 6}}", "batch is 6, no multiple of the discriminator's group of 4"),
        ("{family: progan, betas: [0.5]}", ".betas is a list; expected two numbers, such as "),
        ("{family: progan, betas: [0.0, 1.0]}", ".betas.1 is 1.0; expected less than 1$"),
        ("{family: stylegan, average_beta: 0.9}", "one of average_beta and average_kimg is needed and the other null"),
        ("{family: progan, average_ramp: 0.1}", "average_ramp has no effect without average_kimg; drop it$"),
        ("{family: stylegan2, path_weight: 0.0, path_interval: 4}", "path_interval has no effect with path_weight: 0"),
        ("{family: stylegan, r1_gamma: 0.0, r1_interval: 2}", "r1_interval has no effect with r1_gamma: 0; drop it$"),
        ("{family: stargan2, diversity_weight: 0.0, diversity_kimg: 2.0}", "diversity_kimg has no effect with div"),
        (
            "{family: progan, augment: {brightness: 0, saturation: 0, contrast: 0, translation: 0, cutout: 0}}",
            "augment changes nothing, as all its reaches are 0; drop it$",
        ),
        ("{family: progan, domains: [a, b]}", "domains has no effect without conditional: true; drop it$"),
        ("{family: stargan2, conditional: false}", ".conditional is False; expected True$"),
        ("{family: progan, grow_from: 5}", ".grow_from is 5; expected 4, 8, 16, "),
        ("{family: sngan, network: {upsampling: cubic}}", ".network.upsampling is 'cubic'; expected 'nearest', 'bil"),
        ("{family: sngan, decay: 1.5}", ".decay is 1.5; expected less than or equal to 1$"),
        ("{family: sngan, discriminator_steps: 0}", ".discriminator_steps is 0; expected greater than or equal to 1$"),
        ("{family: dcgan, loss: wgan}", ".loss is 'wgan'; expected 'gan', 'lsgan', 'wgan-gp', 'dragan' or 'hinge'"),
        ("{family: dcgan, gradient_penalty: 1.0}", "gradient_penalty has no effect with loss: gan; drop it$"),
        ("{family: dcgan, conditional: true}", ".conditional is True; expected False$"),
        ("{family: dcgan, pool: 3}", "'pool' is a setting of autogan, not of dcgan; drop it$"),
        ("{family: autogan, enlarged: 0.5}", ".enlarged is 0.5; expected greater than or equal to 1$"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_with_its_place(
    recipe: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Project(tmp_path, monkeypatch, PIPELINE.format(recipe=recipe))
    pattern = RECIPE.replace(".", r"\.") + ("" if sentence.startswith((".", " is")) else " is a mapping; .*")
    with pytest.raises(ConfigError) as caught:
        made.load()
    assert caught.match(pattern + sentence.replace("?", r"\?"))
    assert "\n" not in str(caught.value)


# Published values


SIDES_TO_1024 = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCHES = (128, 128, 128, 64, 32, 16, 8, 4, 4)
PUBLISHED: dict[str, dict[str, Any]] = {
    "progan": {
        "kimg": 12000, "batch": BATCHES, "learning_rate": (0.001,) * 8 + (0.0015,), "average_beta": 0.999,
        "average_kimg": None, "grow_from": 4, "grow_kimg": 600, "fade_kimg": 600, "gradient_penalty": 10,
        "drift": 0.001, "loss": "wasserstein", "r1_gamma": 10, "r1_interval": 1,
    },
    "stylegan": {
        "kimg": 25000, "batch": BATCHES, "learning_rate": (0.001,) * 5 + (0.0015, 0.002, 0.003, 0.003),
        "average_beta": None, "average_kimg": 10, "grow_from": 8, "grow_kimg": 600, "fade_kimg": 600, "r1_gamma": 10,
        "r1_interval": 1, "mixing": 0.9,
    },
    "stylegan2": {
        "kimg": 25000, "batch": (32,) * 9, "learning_rate": (0.002,) * 9, "average_beta": None, "average_kimg": 10,
        "r1_gamma": 10, "r1_interval": 16, "path_weight": 2, "path_interval": 4, "mixing": 0.9,
    },
    "stargan2": {
        "kimg": 100_000 * 8 / 1000, "batch": (8,) * 9, "learning_rate": (0.0001,) * 9, "mapping_rate": 1e-6,
        "weight_decay": 0.0001, "average_beta": 0.999, "average_kimg": None, "r1_gamma": 1, "style_weight": 1,
        "diversity_weight": 1, "diversity_kimg": 100_000 * 8 / 1000, "cycle_weight": 1, "conditional": True,
    },
    "sngan": {
        "kimg": {8: 50_000 * 5 * 64 / 1000, 64: 250_000 * 5 * 64 / 1000}, "batch": (64,) * 9,
        "learning_rate": (0.0002,) * 9, "betas": (0.0, 0.9), "decay": {8: 1.0, 64: 50_000 / 250_000},
        "discriminator_steps": 5, "generator_batches": {8: 2, 64: 1}, "average_beta": 0, "average_kimg": None,
    },
    "dcgan": {
        "loss": "gan", "kimg": 25 * 202_599 / 1000, "batch": (64,) * 9, "learning_rate": (0.0002,) * 9,
        "betas": (0.5, 0.999), "discriminator_steps": 1, "gradient_penalty": 10, "average_beta": 0,
        "average_kimg": None,
    },
    "autogan": {
        "kimg": 200, "batch": (1,) * 9, "learning_rate": (0.0002,) * 9, "betas": (0.5, 0.999), "decay": 0.5,
        "flips": True, "enlarged": 286 / 256, "identity_weight": 0.5, "pool": 50, "average_beta": 0,
        "average_kimg": None,
    },
}  # fmt: skip
SHARED = {"betas": (0.0, 0.99), "augment": None, "average_ramp": None, "flips": False, "enlarged": 1.0, "domains": None}


@pytest.mark.parametrize("family", NAMES)
def test_what_is_not_given_is_as_published(family: str) -> None:
    recipe = plain(family).recipe
    expected = {"conditional": False, **SHARED, **PUBLISHED[family]}
    assert {*expected, "family", "network", "discriminator"} == set(type(recipe).model_fields)
    for name, value in expected.items():
        found = getattr(recipe, name)
        if name in ("batch", "learning_rate"):
            assert tuple(by_size(found, side) for side in SIDES_TO_1024) == value
        else:
            assert found == value, name


@pytest.mark.parametrize(
    ("family", "side", "classes", "generator", "discriminator"),
    [
        ("progan", 1024, 0, 23_079_115, 23_087_249),
        ("stylegan", 1024, 0, 26_219_627, 23_087_249),
        ("stylegan2", 1024, 0, 30_370_060, 29_012_513),
        ("stargan2", 256, 2, 33_892_995 + 2_438_272 + 20_916_928, 20_852_290),
        ("stargan2", 256, 3, 33_892_995 + 3_259_072 + 20_949_760, 20_852_803),
    ],
)
def test_networks_have_the_published_sizes(
    family: str, side: int, classes: int, generator: int, discriminator: int
) -> None:
    recipe = plain(family).recipe
    with torch.device("meta"):
        players = [
            new_network(family, "generator", generator_architecture(recipe, side, classes)),
            new_network(family, "discriminator", discriminator_architecture(recipe, side, classes)),
        ]
    assert [sum(one.numel() for one in player.parameters()) for player in players] == [generator, discriminator]


# Recipes in the engine's sense


def test_the_code_of_one_family_is_no_part_of_another_ones_recipe() -> None:
    own = {
        "progan": {"progan", "progan_discriminator", "progan_recipe"},
        "stylegan": {"stylegan", "stylegan_discriminator", "stylegan_recipe"},
        "stylegan2": {"stylegan2", "stylegan2_discriminator", "stylegan2_recipe"},
        "stargan2": {"stargan2", *(f"stargan2_{part}" for part in ("discriminator", "game", "masks", "recipe"))},
        "sngan": {"sngan", "sngan_discriminator", "sngan_recipe"},
        "dcgan": {"dcgan", "dcgan_discriminator", "dcgan_recipe"},
        "autogan": {"autogan", *(f"autogan_{part}" for part in ("discriminator", "game", "recipe"))},
    }
    for family, expected in own.items():
        code = closure(("stages.train_generator", *TrainGenerator().modules(plain(family))))
        names = {name.removeprefix("stages.generators.") for name in code}
        assert expected == {name for name in names if name.partition("_")[0] in NAMES}
        assert {"losses", "games", "training_images", "training_recipes", "layers"} <= names
        assert not {"official", "checkpoints", "pickles"} & names


def test_a_default_spelled_out_is_the_same_recipe_and_the_interval_of_saving_is_none() -> None:
    spelled_out = {"family": "stylegan2", **PUBLISHED["stylegan2"], "batch": 32, "learning_rate": 0.002}
    given = TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": spelled_out, "save_kimg": 3.0}))
    assert recipe_config(given) == recipe_config(plain("stylegan2"))
    assert recipe_config(plain("stylegan2")) != recipe_config(plain("stylegan"))


@pytest.mark.parametrize(
    "recipe",
    [
        *({"family": family} for family in NAMES),
        {"family": "progan", "loss": "logistic"},
        {"family": "dcgan", "loss": "lsgan"},
    ],
    ids=lambda recipe: "-".join(map(str, recipe.values())),
)
def test_a_recipe_reads_what_it_has_written(recipe: dict[str, Any]) -> None:
    """Batch sizes by resolution survive JSON, and settings that have no effect may stand at their defaults."""
    config = TrainGeneratorConfig.model_validate_json(json.dumps({"recipe": recipe}))
    assert TrainGeneratorConfig.model_validate_json(config.model_dump_json()) == config


def test_figures_that_are_no_numbers_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_metrics, "figures", lambda *given: {"swd": 1.0, "diversity": float("nan")})
    with pytest.raises(StageError, match=r"have no finite diversity: the training went astray; lower learning_rate"):
        fit(tmp_path, config("stylegan2"), photos(8))


def test_damaged_progress_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "progress.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(StageError, match=r"progress\.safetensors is damaged .*; remove the file, and the training"):
        fit(tmp_path, config("stylegan2"), photos(8))


def test_half_precision_is_refused_only_where_steps_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine has trained to its end is published by one that would imitate half precision."""
    half = config("stylegan2", mixed_precision=True)
    longer = config("stylegan2", {"kimg": 2 * half.recipe.kimg}, mixed_precision=True)
    monkeypatch.setattr("stages.training.networks.imitates_half", lambda device: False)
    made = fit(tmp_path, half, photos(8))
    monkeypatch.setattr("stages.training.networks.imitates_half", lambda device: True)
    assert fit(tmp_path, half, photos(8)) == made
    for folder, settings in ((tmp_path, longer), (tmp_path / "new", half)):
        with pytest.raises(StageError, match="set mixed_precision: false or run on a GPU"):
            fit(folder, settings, photos(8))


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from pipeline.stage import Field\n"
        "from stages.train_generator import TrainGenerator, TrainGeneratorConfig\n"
        'config = TrainGeneratorConfig.model_validate_json(\'{"recipe": {"family": "stylegan2"}}\')\n'
        "inputs = {'on': {'image': Field('uint8', (64, 64, 3))}}\n"
        "TrainGenerator().schema(config, inputs); TrainGenerator().promise(config, inputs)\n"
        "TrainGenerator().modules(config)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
