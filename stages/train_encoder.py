"""Train a network that tells the latent of an image of a generator, where inversion begins (Bau et al. 2019).

It learns from samples alone: no photograph is read. `invert` with `encoder` then begins its descent with what the
network says of a photograph, in place of the best of some random latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pipeline.stage import (
    FitContext,
    Input,
    Kind,
    Rows,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)
from stages.generators import frozen, generator_file

ENCODER = "stages.generators.encoder"


class TrainEncoderConfig(StageConfig):
    """Of which generator, how wide, for how long."""

    checkpoint: str = file_setting(
        description="the generator: a training node, a weights file of any supported form, or MANIFEST.yaml#ENTRY"
    )
    label_index: int | None = setting(None, ge=0, description="class of a conditional generator")
    width: int = setting(64, ge=4, le=256, description="channels of the first stage of its ResNet-18")
    image_weight: float = setting(
        1.0, ge=0, description="of the image that the told latent gives back, against the latent"
    )
    steps: int = setting(10_000, ge=1, description="steps of Adam, each on fresh samples")
    batch: int = setting(32, ge=2, description="samples of a step")
    learning_rate: float = setting(
        1e-4, gt=0, description="of Adam; it falls to a tenth after 20 and after 60 % of the steps"
    )
    seed: int = setting(0, ge=0, description="seed of first weights and latents")
    images: int = setting(256, ge=2, description="fresh samples behind the numbers of the card")
    save_steps: int = row_setting(500, ge=1, description="steps between two savings of the progress")


class TrainEncoder(Stage):
    """Artifact: encoder.safetensors, card.json, log.json, samples-*.png (pairs of a sample and what is given back)."""

    name: ClassVar[str] = "train_encoder"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "encoder"
    Config: ClassVar[type[StageConfig]] = TrainEncoderConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "checkpoint": Input("artifact", required=False, takes="generator", description="the generator"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch", "safetensors")
    network: ClassVar[bool] = True

    def schema(self, config: TrainEncoderConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where the generator has no latent, or images of another side."""
        header = generator_file.read_header(inputs["checkpoint"])
        frozen.check_latent(self.name, inputs["checkpoint"], header, config.label_index)
        side = header.resolution
        if side < 8 or side & (side - 1):
            raise ValueError(f"train_encoder: images of {inputs['checkpoint']} have {side} pixels, expected 8, 16, ..")
        return {}

    def promise(self, config: TrainEncoderConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sizes of the network."""
        header = generator_file.read_header(inputs["checkpoint"])
        return {"side": header.resolution, "z_dim": header.dimensions["z_dim"], "width": config.width}

    def modules(self, config: TrainEncoderConfig, files: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
        """The generator's and the course's."""
        return (ENCODER, *generator_file.modules(files["checkpoint"]))

    def fit(self, config: TrainEncoderConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        import torch
        from safetensors.numpy import save_file

        from detectors.seeding import seeded
        from detectors.training import tensors_of
        from stages.generators.encoder import FILE, Encoder, Encoding, measured
        from stages.generators.frozen import FrozenGenerator
        from stages.training.cards import publish_training
        from stages.training.course import train
        from stages.training.networks import prepare

        prepare(ctx.device, ctx.threads)
        generator = FrozenGenerator(generator_file.place(ctx), ctx.device, config.label_index)
        side = generator.header.resolution
        with seeded(config.seed):
            encoder = Encoder(side, generator.z_dim, config.width)
        game = Encoding(
            generator, encoder, weight=config.image_weight, rate=config.learning_rate, batch=config.batch,
            random=torch.Generator(device=ctx.device).manual_seed(config.seed), falling=config.steps,
        )  # fmt: skip
        log = train(
            game, config.steps * config.batch / 1000, ctx.scratch, save_images=config.save_steps * config.batch,
            pictures=1, report=ctx.report, stopping=ctx.stopping,
        )  # fmt: skip
        save_file(tensors_of(game.encoder), ctx.out / FILE)
        sizes = {"side": side, "z_dim": generator.z_dim, "width": config.width}
        settings = config.model_dump(mode="json", exclude={"seed", "save_steps"})
        card = {"settings": settings, "seed": config.seed, **sizes, "figures": measured(game, config.images)}
        publish_training(ctx, card, self.libraries, log)
        ctx.facts.update(sizes)
