"""Finetune a generator: towards the spectra of photographs (variants +R and +A), or away from what a detector knows.

Starts from a file of any supported form or from a generator trained in the same pipeline, goes on with the family's own
losses and adds one term (see `stages.generators.spectral_training` and `evasion`). The card tells the distance of the
mean spectral profiles from that of the training photographs before and after, the log the ratio of the gradients.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from pipeline.contents import file_sha256
from pipeline.errors import StageError
from pipeline.stage import (
    FitContext,
    Input,
    Kind,
    Promise,
    Rows,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)
from stages.generators import families, generator_file
from stages.generators.families import AnyRecipe
from stages.generators.training_recipes import Growing, PlainRecipe, Recipe, by_size
from stages.train_generator import (
    check_precision,
    discriminator_architecture,
    new_game,
    new_network,
    publish,
    real_rows,
    side_of,
    training_images,
)

if TYPE_CHECKING:
    from torch import nn


WARM_UP_KIMG = 10.0
"""Thousands of images that a new discriminator sees before the generator learns from it."""


FINISHED = {"network", "grow_from", "grow_kimg", "fade_kimg"}
"""Settings of a recipe that make a generator or let it grow."""

EVADING = {"kimg": 100.0, "learning_rate": 1e-4}
"""Of a recipe, where a classifier is evaded."""


class FinetuneGeneratorConfig(StageConfig):
    """From which weights, with which term, for how long."""

    checkpoint: str = file_setting(
        description="a node that trains a generator, a weights file of any supported form, or MANIFEST.yaml#ENTRY"
    )
    method: Literal["regularization", "adversarial", "evade", "none"] = setting(
        description="regularization: +R; adversarial: +A; evade: against the input `classifier`; none: only go on, for "
        "comparison"
    )
    recipe: AnyRecipe = setting(
        description="as in train_generator, of the checkpoint's family, without network and growing; widths of the "
        "discriminator count for a new one only. With evade kimg is 100 and learning_rate 0.0001, if left out"
    )
    weight: float | None = setting(
        None,
        ge=0,
        description="+R: weight of the spectral loss; none: chosen in the first steps by gradient_ratio. evade: of the "
        "classifier's loss; none: 1",
    )
    gradient_ratio: float = setting(
        0.1,
        gt=0,
        description="+R: norm of the weighted spectral gradient over that of the adversarial one, at the start",
    )
    compare: Literal["images", "batch"] = setting(
        "images", description="+R: the profile of each image, as published, or their mean over batches"
    )
    loss: Literal["cross-entropy", "l1"] = setting(
        "cross-entropy", description="+R: of profiles against the mean real one; as published, or the mean difference"
    )
    share: float = setting(0.5, gt=0, lt=1, description="+A: share of the spectral discriminator in the loss")
    spectral_learning_rate: float | None = setting(
        None, gt=0, description="+A: of the spectral discriminator; none: that of the recipe"
    )
    spectral_r1_gamma: float | None = setting(
        None, ge=0, description="+A: weight of R1 on profiles, of logistic losses; none: that of the recipe on images"
    )
    damping: float = setting(
        0.0, ge=0, description="of the pull of weak coefficients, see stages.generators.spectral; 0: exact gradients"
    )
    stop_below: float = setting(
        0.65,
        ge=0,
        le=1,
        description="evade: ends when the classifier calls less than this share of images fake; 0: never",
    )
    stop_kimg: float = setting(5.0, gt=0, description="evade: thousands of images between two looks at that share")
    stop_images: int = setting(1024, ge=1, description="evade: fresh images of such a look")
    warm_up_kimg: float | None = setting(
        None,
        ge=0,
        description=f"images before the generator learns; none: {WARM_UP_KIMG:g} if its discriminator is new",
    )
    warm_up_learning_rate: float | None = setting(
        None, gt=0, description="of the discriminator while it learns alone; none: that of the recipe"
    )
    seed: int = setting(0, ge=0, description="seed of latents, noise, new networks and the order of images")
    mixed_precision: bool = setting(False, description="networks in bfloat16")
    save_kimg: float = row_setting(50.0, gt=0, description="thousands of images between two savings of the progress")
    pictures: int = setting(4, ge=1, le=64, description="pictures of samples made on the way")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """A short training at a small rate where a classifier is evaded (Chai et al. 2020 name none)."""
        if isinstance(data, dict) and data.get("method") == "evade" and isinstance(data.get("recipe"), Mapping):
            return data | {"recipe": {**EVADING, **data["recipe"]}}
        return data

    @model_validator(mode="after")
    def _without_effect(self) -> FinetuneGeneratorConfig:
        given, recipe = self.model_fields_set, self.recipe
        if not isinstance(recipe, Recipe):
            raise ValueError(
                f"{recipe.family} learns a density without a discriminator and is not finetuned; train it longer"
            )
        of = {"gradient_ratio": "regularization", "share": "adversarial"}
        of |= dict.fromkeys(("stop_below", "stop_kimg", "stop_images"), "evade")
        of |= {
            "spectral_learning_rate": "adversarial",
            "spectral_r1_gamma": "adversarial",
            "compare": "regularization",
            "loss": "regularization",
        }
        for name, method in of.items():
            if name in given and self.method != method:
                raise ValueError(f"{name} has no effect with method {self.method}; drop it")
        if self.weight is not None and self.method not in ("regularization", "evade"):
            raise ValueError(f"weight has no effect with method {self.method}; drop it")
        if self.weight == 0 and self.method == "regularization":
            raise ValueError("weight: 0 leaves nothing of method regularization; choose method none")
        loss, penalized = recipe.adversary()
        if self.spectral_r1_gamma is not None and not penalized:
            raise ValueError(f"spectral_r1_gamma has no effect with the {loss} loss of {recipe.family}; drop it")
        if self.damping and self.method in ("none", "evade"):
            raise ValueError(f"damping has no effect with method {self.method}; drop it")
        if self.warm_up_kimg == 0 and self.warm_up_learning_rate is not None:
            raise ValueError("warm_up_learning_rate has no effect with warm_up_kimg: 0; drop it")
        for name in sorted(FINISHED & self.recipe.model_fields_set):
            raise ValueError(f"recipe.{name} has no effect: the checkpoint's generator is used as it is; drop it")
        if self.weight is not None and "gradient_ratio" in given:
            raise ValueError("weight and gradient_ratio are two ways to say the same; drop one")
        return self


class FinetuneGenerator(Stage):
    """Artifact: as that of train_generator."""

    name: ClassVar[str] = "finetune_generator"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "generator"
    Config: ClassVar[type[StageConfig]] = FinetuneGeneratorConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input("rows", description="real images of the generator's size; only train rows are read"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="where to start"),
        "classifier": Input(
            "artifact", required=False, takes="detector", description="evade: a 'train' node of a network on pictures"
        ),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch", "safetensors")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split", "domain")
    splits: ClassVar[tuple[str, ...]] = ("train",)
    splits_through: ClassVar[tuple[str, ...]] = ("train", "val")  # a classifier was selected on validation rows

    def libraries_of(
        self, config: FinetuneGeneratorConfig, models: Mapping[str, Promise] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """Those of the training, and the classifier's."""
        classifier = models.get("classifier")
        return (*self.libraries, *(classifier.facts["libraries"] if classifier is not None else ()))

    def schema(self, config: FinetuneGeneratorConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where the inputs are no square images of a fitting size."""
        side_of(inputs["on"])
        classifier = inputs.get("classifier")
        if (config.method == "evade") != (classifier is not None):
            advice = "name a 'train' node" if classifier is None else "drop it"
            found = "needs one" if classifier is None else "makes no use of it"
            raise ValueError(f"finetune_generator: method {config.method} {found} as `classifier`; {advice}")
        if classifier is not None and ("members" in classifier.facts or not classifier.facts["runs_network"]):
            raise ValueError(f"finetune_generator: the detector of {classifier} is no network; name one on pictures")
        return {}

    def promise(self, config: FinetuneGeneratorConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the checkpoint is or promises."""
        header = generator_file.read_header(inputs["checkpoint"])
        domains = config.recipe.domains or header.domains
        return generator_file.promised(header.family, header.architecture, domains)

    def modules(
        self, config: FinetuneGeneratorConfig, files: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """The family's networks, its game, the spectral terms, and the readers of the checkpoint."""
        readers = generator_file.modules(files["checkpoint"])
        term = "evasion" if config.method == "evade" else "spectral_training"
        return (*families.modules(config.recipe.family), f"stages.generators.{term}", *readers)

    def check(self, config: FinetuneGeneratorConfig, files: Mapping[str, Path]) -> None:
        """The family of the file is the recipe's."""
        found = generator_file.read_header(files["checkpoint"])
        if found.network != "generator":
            raise ValueError(f"{files['checkpoint']} holds a {found.network}; give the weights of a generator")
        if found.family != config.recipe.family:
            raise ValueError(
                f"{files['checkpoint']} holds a generator of family {found.family}, but the recipe is one of "
                f"{config.recipe.family}"
            )

    def fit(
        self, config: FinetuneGeneratorConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext
    ) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        import torch

        from detectors.seeding import seeded
        from stages.generators.generator_metrics import profile_distance_of, swd_of
        from stages.generators.spectral_training import mean_profile
        from stages.training.course import train
        from stages.training.networks import prepare

        check_precision(config.mixed_precision, ctx.device)
        prepare(ctx.device, ctx.threads)
        rows = real_rows(views["on"])
        random = torch.Generator(device=ctx.device).manual_seed(config.seed)
        recipe = grown(config.recipe)
        images = training_images(rows, ctx.device, random, recipe)
        artifact = ctx.artifacts["checkpoint"][0].path if "checkpoint" in ctx.artifacts else None
        start = generator_file.place(ctx)
        target = mean_profile(images) if config.method == "regularization" else None
        with seeded(config.seed):
            architectures, players, fresh = opened(start, artifact, recipe, images)
            term = _term(config, recipe, images.side, target, ctx.device)
        watched = None
        if config.method == "evade":
            term, watched = _evasion(config, ctx)
        game = new_game(recipe, players, images, random, ctx.device, config.mixed_precision, term)
        game.warm_up_rate = config.warm_up_learning_rate
        before = profile_distance_of(game, images)  # of the weights given, also after a kill: progress comes later
        evaded: dict[str, float] = {}
        if watched is not None:
            evaded |= {"called_fake_before": watched.called_fake(game), "swd_before": swd_of(game, images)}
        warm_up = config.warm_up_kimg if config.warm_up_kimg is not None else WARM_UP_KIMG * fresh
        game.warm_up_images = round(warm_up * 1000)
        log = train(
            game,
            recipe.length(images.side, len(images)) + warm_up,
            ctx.scratch,
            save_images=round(config.save_kimg * 1000),
            pictures=config.pictures,
            warm_up=game.warm_up_images,
            watch=_watch(config, game, watched),
            ended=lambda: term is not None and term.numbers.get("called_fake", 1.0) < config.stop_below,
            report=ctx.report,
            stopping=ctx.stopping,
        )
        if watched is not None:
            evaded |= {"called_fake": watched.called_fake(game), "kimg": log[-1]["kimg"]}
        numbers = term.numbers if term is not None else {}
        publish(
            ctx, config, architectures, game, log, rows, images,
            method=config.method,
            warm_up_kimg=warm_up,
            started_from={"file": start.name, "sha256": file_sha256(start), "new_discriminator": fresh},
            profile_distance_before=before,
            spectral={name: number for name, number in numbers.items() if name == "weight"},
            **({"evasion": evaded} if evaded else {}),
        )  # fmt: skip


def _evasion(config: FinetuneGeneratorConfig, ctx: FitContext) -> tuple[Any, Any]:
    """The term of a classifier, and what watches it."""
    from detectors.gradients import Judge
    from stages.evaluation.detector_file import load_detector
    from stages.generators.evasion import Evasion, Watched

    (model,) = ctx.artifacts["classifier"]
    detector = load_detector(model.path)
    try:
        judge = Judge(detector.config, detector.state, ctx.device)
    except ValueError as error:
        raise StageError(f"the detector of '{model.node}' cannot lead a generator: {error}") from None
    weight = 1.0 if config.weight is None else config.weight
    return Evasion(judge.fake_logits, weight), Watched(model.path, config.stop_images, ctx.device)


def _watch(config: FinetuneGeneratorConfig, game: Any, watched: Any) -> Callable[[int, int], None]:
    """Notes, every so many images, how many of the generator's images the classifier calls fake."""
    every = round(config.stop_kimg * 1000)

    def watch(before: int, after: int) -> None:
        if watched is not None and config.stop_below and before // every < after // every:
            game.spectral.numbers["called_fake"] = watched.called_fake(game)

    return watch


def grown(recipe: PlainRecipe) -> Any:
    """The recipe without growing: a finished generator stays at full resolution."""
    return recipe.model_copy(update={"grow_kimg": 0.0, "fade_kimg": 0.0}) if isinstance(recipe, Growing) else recipe


def opened(
    path: Path, artifact: Path | None, recipe: Any, images: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, nn.Module], bool]:
    """Architectures and networks of both players, and whether the discriminator is new.

    Raises StageError where the checkpoint is of another family, size or number of classes than the images.
    """
    _, generator, header = generator_file.load(path, "cpu")
    if header.family != recipe.family:
        raise StageError(
            f"{path} holds a generator of family {header.family}, but the recipe is one of {recipe.family}"
        )
    if header.resolution != images.side:
        raise StageError(
            f"{path} makes images of {header.resolution} pixels, but those of 'on' have {images.side}; equalize the "
            f"photographs to {header.resolution}"
        )
    if header.dimensions["c_dim"] != images.count_of_classes:
        raise StageError(
            f"{path} has {header.dimensions['c_dim']} classes, the images of 'on' {images.count_of_classes}; set "
            "conditional in the recipe and give each row its domain"
        )
    architectures = {"generator": dict(header.architecture)}
    players: dict[str, nn.Module] = {"generator": copy.deepcopy(generator)}  # the loaded one may be kept for others
    found = _discriminator(path, artifact)
    if found is not None:
        architectures["discriminator"], players["discriminator"] = found
    else:
        given = discriminator_architecture(recipe, images.side, images.count_of_classes)
        architectures["discriminator"] = given
        players["discriminator"] = new_network(recipe.family, "discriminator", given)
    for name, player in players.items():
        players[name] = player.requires_grad_(True)
    fixed = getattr(players["generator"], "fan", None)  # landmarks of StarGAN v2: not trained
    if fixed is not None:
        fixed.requires_grad_(False)
    return architectures, players, found is None


def _discriminator(path: Path, artifact: Path | None) -> tuple[dict[str, Any], nn.Module] | None:
    """The discriminator beside a trained generator, or in the same official file."""
    from importlib import import_module

    from stages.generators import weights
    from stages.weights.filling import fill
    from stages.weights.weights_file import is_safetensors

    if artifact is not None:
        beside = artifact / "discriminator.safetensors"
        return dict(weights.read_header(beside).architecture), weights.load(beside, "discriminator")[1]
    if not is_safetensors(path):
        converted = import_module(generator_file.OFFICIAL).discriminator(path)
        if converted is not None:
            network = new_network(converted.family, "discriminator", converted.architecture)
            return dict(converted.architecture), fill(str(path), network, converted.tensors)
    return None


def _term(config: FinetuneGeneratorConfig, recipe: Any, side: int, target: Any, device: str) -> Any:
    """The spectral term, or None. target: the mean profile of the training images, for +R."""
    from stages.generators.losses import Logistic
    from stages.generators.spectral_training import Adversary, Regularization

    if config.method == "regularization":
        of_batch = config.compare == "batch"
        return Regularization(target, side, config.weight, config.gradient_ratio, of_batch, config.loss, config.damping)
    if config.method == "adversarial":
        rate = config.spectral_learning_rate or float(by_size(recipe.learning_rate, side))
        loss = recipe.adversarial()
        if config.spectral_r1_gamma is not None and isinstance(loss, Logistic):
            loss = dataclasses.replace(loss, gamma=config.spectral_r1_gamma)
        return Adversary(loss, side, rate, recipe.betas, config.share, device, config.damping)
    return None
