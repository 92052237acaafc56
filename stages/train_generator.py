"""Train a generator on real images: a view of rows in, weights of both players, a card and pictures out.

Only training rows of real images are read. The recipe's defaults are the published ones of the family; a long training
saves its progress and goes on from there after a kill, on a CPU with the same result to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import model_validator

from pipeline.errors import StageError
from pipeline.stage import FitContext, Input, Kind, Rows, Schema, Stage, StageConfig, row_setting, setting
from stages import GENERATORS
from stages.generators import families, generator_file
from stages.generators.families import AnyRecipe
from stages.generators.training_recipes import Growing, PlainRecipe, Recipe
from stages.training.alike import check_alike

if TYPE_CHECKING:
    from torch import nn


class TrainGeneratorConfig(StageConfig):
    """What to train and for how long."""

    recipe: AnyRecipe = setting(
        description=f"a mapping with `family` ({', '.join(GENERATORS)}) and its settings; what is not given is as "
        "published"
    )
    seed: int = setting(0, ge=0, description="seed of initial weights, latents, noise and the order of images")
    mixed_precision: bool = setting(False, description="networks in bfloat16")
    save_kimg: float = row_setting(50.0, gt=0, description="thousands of images between two savings of the progress")
    pictures: int = setting(4, ge=1, le=64, description="pictures of samples made on the way")

    @model_validator(mode="after")
    def _of_games(self) -> TrainGeneratorConfig:
        if self.mixed_precision and not isinstance(self.recipe, Recipe):
            raise ValueError(f"mixed_precision has no effect on {self.recipe.family}, which learns a density; drop it")
        return self


class TrainGenerator(Stage):
    """Artifact: generator.safetensors, discriminator.safetensors (of most), card.json, log.json, samples-*.png."""

    name: ClassVar[str] = "train_generator"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "generator"
    Config: ClassVar[type[StageConfig]] = TrainGeneratorConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input("rows", description="real images, square, side a power of two; only train rows are read")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch", "safetensors")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "domain")
    splits: ClassVar[tuple[str, ...]] = ("train",)

    def schema(self, config: TrainGeneratorConfig, inputs: Mapping[str, Schema]) -> Schema:
        """No rows come out; raises ValueError where the inputs are no square images of a fitting size."""
        side = side_of(inputs["on"])
        recipe, kimg = config.recipe, config.recipe.length(side, 0)
        recipe.check_side(side)
        if isinstance(recipe, Growing):
            if recipe.grow_from > side:
                raise ValueError(f"grow_from is {recipe.grow_from}, but the images of 'on' have {side} pixels")
            levels = (side // recipe.grow_from).bit_length() - 1
            needed = levels * (recipe.grow_kimg + recipe.fade_kimg)
            if kimg < needed:
                raise ValueError(
                    f"kimg is {kimg:g}, but growing from {recipe.grow_from} to {side} pixels takes {needed:g}; "
                    "raise kimg or lower grow_kimg and fade_kimg"
                )
        return {}

    def promise(self, config: TrainGeneratorConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Family and architecture; classes as far as the recipe names them."""
        recipe = config.recipe
        classes = len(recipe.domains) if recipe.domains else None if recipe.conditional else 0
        architecture = generator_architecture(recipe, side_of(inputs["on"]), classes)
        return generator_file.promised(recipe.family, architecture, recipe.domains)

    def modules(self, config: TrainGeneratorConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The family's networks, its recipe and its game."""
        return families.modules(config.recipe.family)

    def fit(
        self, config: TrainGeneratorConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext
    ) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        import torch

        from stages.training.course import left, train
        from stages.training.networks import prepare

        prepare(ctx.device, ctx.threads)
        rows = real_rows(views["on"])
        random = torch.Generator(device=ctx.device).manual_seed(config.seed)
        recipe = config.recipe
        images = training_images(rows, ctx.device, random, recipe)
        kimg = recipe.length(images.side, len(images))
        check_precision(config.mixed_precision and left(kimg, ctx.scratch), ctx.device)
        architectures = {"generator": generator_architecture(recipe, images.side, images.count_of_classes)}
        if isinstance(recipe, Recipe):
            architectures["discriminator"] = discriminator_architecture(recipe, images.side, images.count_of_classes)
        players = new_players(recipe.family, architectures, config.seed)
        game = new_game(recipe, players, images, random, ctx.device, config.mixed_precision)
        log = train(
            game,
            kimg,
            ctx.scratch,
            save_images=round(config.save_kimg * 1000),
            pictures=config.pictures,
            report=ctx.report,
            stopping=ctx.stopping,
        )
        publish(ctx, config, architectures, game, log, rows, images)


def training_images(rows: Rows, device: str, random: Any, recipe: PlainRecipe) -> Any:
    """The training rows as the recipe wants them."""
    from stages.generators.training_images import TrainingImages

    return TrainingImages(
        rows,
        device,
        random,
        flips=recipe.flips,
        enlarged=recipe.enlarged,
        conditional=recipe.conditional,
        domains=recipe.domains,
    )


def side_of(schema: Schema) -> int:
    """Side of the square images of a schema; raises ValueError."""
    check_alike(schema, "image")
    field = schema.get("image")
    if field is None or field.shape != (*field.shape[:1] * 2, 3) or field.dtype != "uint8":
        found = "no field 'image'" if field is None else f"'image' {field.dtype} {field.shape}"
        raise ValueError(
            f"a generator learns from square uint8 RGB images of one size, found {found}; put `equalize` before"
        )
    side = field.shape[0]
    if side not in [1 << power for power in range(3, 13)]:
        raise ValueError(f"the side of the images is {side}; a generator needs a power of two from 8 to 4096")
    return side


def real_rows(view: Any) -> Rows:
    """Training rows of real images, ordered by id; raises StageError if there are fakes or too few."""
    from stages.training.row_order import in_order

    rows: Rows = in_order(view.split("train"))
    fakes = int((rows.column("label") == 1).sum())
    if fakes:
        raise StageError(f"{fakes} of {len(rows)} training rows are fakes; a generator learns from real images only")
    if len(rows) < 2:
        raise StageError(f"there are {len(rows)} training rows in 'on'; a generator needs more")
    return rows


def generator_architecture(recipe: PlainRecipe, side: int, classes: int | None) -> dict[str, Any]:
    """Arguments of the family's Generator."""
    return recipe.arguments("generator", side, classes)


def discriminator_architecture(recipe: Recipe, side: int, classes: int) -> dict[str, Any]:
    """Arguments of the family's Discriminator."""
    return recipe.arguments("discriminator", side, classes)


def new_players(family: str, architectures: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, nn.Module]:
    """Generator and discriminator, or one of them, with the fresh weights of a seed."""
    from detectors.seeding import seeded

    with seeded(seed):
        return {name: new_network(family, name, given) for name, given in architectures.items()}


def new_network(family: str, player: str, architecture: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights from torch's default random generator: see `detectors.seeding.seeded`."""
    from importlib import import_module

    module = import_module(f"stages.generators.{family}" + ("_discriminator" if player == "discriminator" else ""))
    network: nn.Module = getattr(module, player.capitalize())(**architecture)
    return network


def check_precision(mixed: bool, device: str) -> None:
    """Raise StageError where half precision would be computed in software."""
    from stages.training.networks import imitates_half

    if mixed and imitates_half(device):
        raise StageError(
            "mixed_precision: true needs bfloat16 instructions, which this CPU does not have and "
            "would imitate slowly; set mixed_precision: false or run on a GPU"
        )


def new_game(
    recipe: PlainRecipe,
    players: Mapping[str, nn.Module],
    images: Any,
    random: Any,
    device: str,
    mixed: bool,
    spectral: Any = None,
) -> Any:
    """The game of the recipe's family, its networks on the device and in training mode."""
    from importlib import import_module

    import torch

    players = {
        name: network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        for name, network in players.items()
    }
    module, name = recipe.game
    return getattr(import_module(module), name)(
        recipe, players, images, random, mixed_precision=mixed, spectral=spectral
    )


def publish(
    ctx: FitContext,
    config: Any,
    architectures: Mapping[str, Mapping[str, Any]],
    game: Any,
    log: list[dict[str, float]],
    rows: Rows,
    images: Any,
    **more: Any,
) -> None:
    """Weights, card, log and pictures of a finished training."""
    from detectors.training import tensors_of
    from stages.generators import weights
    from stages.generators.generator_metrics import card_figures
    from stages.generators.layers import parameters
    from stages.training.cards import publish_training
    from stages.training.row_order import fingerprint

    family, kimg = config.recipe.family, config.recipe.length(images.side, len(images))
    domains = [str(name) for name in images.domains] if config.recipe.conditional else []
    for name, network in {**game.players, "generator": game.average}.items():
        weights.save(
            ctx.out / f"{name}.safetensors",
            family,
            architectures[name],
            tensors_of(network),
            network=name,
            domains=domains,
        )
    figures = card_figures(game, images)
    if wrong := [name for name, value in figures.items() if not np.isfinite(value)]:
        raise StageError(
            f"the images of the trained generator have no finite {', '.join(wrong)}: the training went astray; lower "
            "learning_rate, or train on more images"
        )
    card = {
        "family": family,
        "recipe": config.recipe.model_dump(mode="json", exclude={"network", "discriminator"}),  # stand below as built
        "settings": config.model_dump(mode="json", exclude={"recipe", "seed", "save_kimg", "pictures"}),
        "seed": config.seed,
        "architecture": architectures["generator"],
        **{name: given for name, given in architectures.items() if name != "generator"},
        "parameters": parameters(game.average),
        "steps": game.steps,
        "kimg": kimg,
        "photographs": len(rows),
        "data_fingerprint": fingerprint(rows),
        "figures": figures,
        **({"remarks": remarks} if (remarks := game.remarks()) else {}),
        **more,
    }
    publish_training(ctx, card, TrainGenerator.libraries, log)
    ctx.facts.update({"family": family, "kimg": kimg})
