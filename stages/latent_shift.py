"""Fit one shift of a generator's latent space along which its images look more fake to a detector.

Chai et al. 2020, section 4.2, equation 3: w minimizes, over latents z, the loss of a frozen classifier towards "fake"
on G(z - w) plus a perceptual distance between G(z) and G(z - w). `sample` with `shift` then exaggerates what gives
fakes away (shift_scale 1) or suppresses it (-1). The paper gives no constants; those here are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import model_validator

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
from stages.generators import frozen, generator_file
from stages.generators.latent_shifts import FILE, SPACES, TENSOR, Space
from stages.resynthesis import distance_settings
from stages.resynthesis.distance_settings import EMBEDDED

LEARNING = "stages.generators.shift_training"


class LatentShiftConfig(StageConfig):
    """Which generator, which distance, for how long."""

    checkpoint: str = file_setting(
        description="the generator: a training node, a weights file of any supported form, or MANIFEST.yaml#ENTRY"
    )
    label_index: int | None = setting(None, ge=0, description="class of a conditional generator")
    space: Space = setting(
        "z", description="what is moved: the drawn latent, or the style w of a generator that has one"
    )
    distance: Literal["perceptual", "squared"] = setting(
        "perceptual",
        description="between an image and its moved one: relative, in the layers of a perceptual network (with `heads` "
        "LPIPS); or the mean square over values",
    )
    perceptual: str | None = file_setting(
        None, description=f"distance perceptual: VGG-19, or the small network {EMBEDDED}, if left out"
    )
    heads: str | None = distance_settings.heads_setting()
    weight: float = setting(0.03, ge=0, description="of the distance, against the loss of the classifier")
    steps: int = setting(150, ge=1, description="steps of Adam, from no shift at all")
    batch: int = setting(8, ge=1, description="latents of a step")
    learning_rate: float = setting(0.03, gt=0, description="of Adam at the start; it falls to 0 along a cosine")
    seed: int = setting(0, ge=0, description="seed of the latents")
    images: int = setting(512, ge=2, description="fresh latents behind the numbers of the card")
    save_steps: int = row_setting(200, ge=1, description="steps between two savings of the progress")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """The small network where it is needed."""
        wanted = not isinstance(data, dict) or data.get("distance", "perceptual") == "perceptual"
        return distance_settings.with_network(data, wanted)

    @model_validator(mode="after")
    def _no_idle_key(self) -> LatentShiftConfig:
        wanted = self.distance == "perceptual"
        distance_settings.check(self.perceptual, self.heads, wanted, f"distance {self.distance}")
        return self


class LatentShift(Stage):
    """Artifact: shift.safetensors (`shift`, float32), card.json, log.json, samples-*.png (scales -3 to 3)."""

    name: ClassVar[str] = "latent_shift"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "latent shift"
    Config: ClassVar[type[StageConfig]] = LatentShiftConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "classifier": Input("artifact", description="a 'train' node of a network on pictures", takes="detector"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="the generator"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "pillow", "torch", "safetensors")
    network: ClassVar[bool] = True

    def schema(self, config: LatentShiftConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where the generator has no such latent, or the detector is no network."""
        header = generator_file.read_header(inputs["checkpoint"])
        frozen.check_latent(self.name, inputs["checkpoint"], header, config.label_index)
        if not header.dimensions[SPACES[config.space]]:
            raise ValueError(f"latent_shift: {inputs['checkpoint']} has no styles; drop space: {config.space}")
        classifier: Promise = inputs["classifier"]
        if "members" in classifier.facts or not classifier.facts["runs_network"]:
            raise ValueError(f"latent_shift: the detector of {classifier} is no network; name one on pictures")
        return {}

    def promise(self, config: LatentShiftConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The space and its size."""
        header = generator_file.read_header(inputs["checkpoint"])
        return {"space": config.space, "size": header.dimensions[SPACES[config.space]]}

    def modules(self, config: LatentShiftConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The generator's, the course's, and those of the distance."""
        return (LEARNING, *generator_file.modules(files["checkpoint"]), *distance_settings.modules(files))

    def fit(self, config: LatentShiftConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        import torch
        from safetensors.numpy import save_file

        from detectors.gradients import Judge
        from detectors.training import tensors_of
        from stages.evaluation.detector_file import load_detector
        from stages.generators.frozen import FrozenGenerator
        from stages.generators.shift_training import Shifting, measured
        from stages.resynthesis.perceptual_distance import distance_of
        from stages.training.cards import publish_training
        from stages.training.course import train
        from stages.training.networks import prepare

        prepare(ctx.device, ctx.threads)
        (model,) = ctx.artifacts["classifier"]
        generator = FrozenGenerator(generator_file.place(ctx), ctx.device, config.label_index)
        detector = load_detector(model.path)
        try:
            judge = Judge(detector.config, detector.state, ctx.device)
        except ValueError as error:
            raise StageError(f"the detector of '{model.node}' cannot lead a latent: {error}") from None
        network, heads = distance_settings.paths(ctx.files)
        game = Shifting(
            generator, judge.fake_logits, distance_of(network, ctx.device, heads),
            space=config.space, size=generator.header.dimensions[SPACES[config.space]], weight=config.weight,
            rate=config.learning_rate, batch=config.batch, falling=config.steps,
            random=torch.Generator(device=ctx.device).manual_seed(config.seed),
        )  # fmt: skip
        log = train(
            game, config.steps * config.batch / 1000, ctx.scratch, save_images=config.save_steps * config.batch,
            pictures=1, report=ctx.report, stopping=ctx.stopping,
        )  # fmt: skip
        figures = measured(game, model, config.images, ctx.device)
        save_file({TENSOR: tensors_of(game.shift)[TENSOR]}, ctx.out / FILE)
        card = {
            "space": config.space,
            "settings": config.model_dump(mode="json", exclude={"seed", "save_steps"}),
            "seed": config.seed,
            "classifier": {"node": model.node, "key": model.key, "detector": detector.card["detector"]},
            "distance": distance_settings.told(ctx.files),
            "figures": figures,
        }
        publish_training(ctx, card, self.libraries, log)
        ctx.facts.update({"space": config.space, "size": game.size})
