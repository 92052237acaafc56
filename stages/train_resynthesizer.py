"""Train a re-synthesizer: a view of rows in, weights, card, log and pictures out (He et al. 2021, section 3).

On real images alone it learns to enlarge what was reduced four times (Eq. 1), with colorization and denoising as
further tasks; with `joint` it goes on together with a classifier of its residuals, on both classes (Eq. 2 and 3).
PSNR is measured on val rows. A long training saves its progress and goes on from there after a kill, on a CPU with the
same result to the byte.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from pipeline.contents import file_sha256
from pipeline.errors import StageError
from pipeline.stage import (
    FAKE,
    REAL,
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
from stages.images.image_field import image_size
from stages.resynthesis import joint_files, weights
from stages.resynthesis.scale import SCALE
from stages.weights.weights_file import WeightsError

if TYPE_CHECKING:
    from torch import nn


PERCEPTUAL = "stages.resynthesis.perceptual"
JOINT, CLASSIFIERS = "stages.resynthesis.joint", "detectors.networks.resnet"
LEAST_PERCEPTUAL = 16
"""Pixels: the fifth stage has one value."""

LEAST_COLORED = 12
"""Pixels: of 3 x 3 low-resolution ones, 10 to 25 % are one or two; of fewer it may be none."""

LEAST_JOINT = 4
"""Images in a batch of joint training: half are real, and two real ones make a reconstruction loss (released code)."""

ALONE = {"kimg": 18_750.0, "batch": 12, "patch": 96, "learning_rate": 1e-4}
"""Defaults on real images alone: those of the published script (750 epochs of 25,000 patches)."""

TOGETHER = {"kimg": 1_000.0, "batch": 6, "patch": None, "learning_rate": 1e-6}
"""Defaults of joint training: 20 epochs of 50,000 images (section 4.5), batch and rate of the published script."""

HALVINGS = 0.3
"""Part of the training between two halvings of the learning rate: 225 of 750 epochs, as published."""


class JointSettings(StageConfig):
    """The classifier of a joint training; needs rows of both classes."""

    classifier: Literal["resnet50", "compact"] = setting(
        "resnet50", description="resnet50: that of the published program; compact: 94 thousand parameters"
    )
    feature: Literal["pixel", "stage1", "stage2", "stage3", "stage4", "stage5"] = setting(
        "pixel", description="residual that it sees: of pixels, or of a stage of `perceptual`"
    )
    weight: float = setting(1.0, gt=0, description="lambda of Eq. 2: weight of the reconstruction loss")
    learning_rate: float = setting(0.01, gt=0, description="of the classifier; halved as that of the re-synthesizer")
    momentum: float = setting(0.9, ge=0, lt=1, description="of both networks")
    weight_decay: float = setting(1e-4, ge=0, description="of both networks")
    warm_up_kimg: float = setting(
        0.0, ge=0, description="thousands of images, added at the start, of which the classifier alone learns"
    )


class TrainResynthesizerConfig(StageConfig):
    """Which network, for which task, from which weights, for how long."""

    size: Literal["full", "small", "tiny"] | None = setting(
        None, description="22.3 million, 336 or 40 thousand parameters; none: that of checkpoint, or full"
    )
    task: Literal["SR", "SR+C", "SR+D", "SR+C+D"] = setting(
        "SR", description="enlargement, also of images with gray pixels (C) or noise (D), each on half of the images"
    )
    checkpoint: str | None = file_setting(
        None, description="where to start: a node, a file, the published torch file, or MANIFEST.yaml#ENTRY; none: anew"
    )
    perceptual: str | None = file_setting(
        None, description="perceptual network of the loss, a file; none: the loss is that of pixels alone"
    )
    loss: Literal["paper", "released"] | None = setting(
        None,
        description="of the perceptual stages; paper: absolute differences; released: squares. none: paper",
    )
    perceptual_weight: float | None = setting(
        None, gt=0, description="factor of the perceptual sum; none: 1 in the paper's loss, 0.2 in the released one"
    )
    kimg: float | None = setting(
        None,
        gt=0,
        description=f"length in thousands of patches; none: {ALONE['kimg']:g}, in joint training {TOGETHER['kimg']:g}",
    )
    batch: int | None = setting(
        None, ge=1, description=f"patches per step; none: {ALONE['batch']}, in joint training {TOGETHER['batch']}"
    )
    patch: int | None = setting(
        None,
        ge=SCALE,
        multiple_of=SCALE,
        description=f"side of a patch in pixels; none: {ALONE['patch']}, in joint training whole images",
    )
    learning_rate: float | None = setting(
        None,
        gt=0,
        description=f"of the re-synthesizer (Adam; joint: SGD); none: {ALONE['learning_rate']:g}, in joint training "
        f"{TOGETHER['learning_rate']:g}",
    )
    halve_kimg: float | None = setting(
        None,
        gt=0,
        description=f"thousands of patches between halvings of the learning rate, counted from the end of "
        f"the warm-up; none: {HALVINGS} of kimg",
    )
    mirrors: bool = setting(
        True, description="patches are mirrored and turned by quarters at random; in joint training mirrored sideways"
    )
    joint: JointSettings | None = setting(
        None, description="train together with a classifier of the residuals, on both classes; none: on real images"
    )
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", description="of the networks that learn; weights, losses and figures stay float32"
    )
    seed: int = setting(0, ge=0, description="seed of initial weights, patches and degradations")
    validations: int = setting(20, ge=1, le=1000, description="measurements of PSNR on val rows, evenly spaced")
    pictures: int = setting(4, ge=1, le=64, description="pictures of val rows made on the way")
    save_kimg: float = row_setting(10.0, gt=0, description="thousands of patches between two savings of the progress")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Defaults where they depend on others, so that leaving one out and writing it are one recipe."""
        if not isinstance(data, Mapping):
            return data
        filled = dict(data)
        for name, value in (TOGETHER if filled.get("joint") is not None else ALONE).items():
            filled[name] = value if filled.get(name) is None else filled[name]
        if filled.get("halve_kimg") is None and isinstance(filled["kimg"], int | float):
            filled["halve_kimg"] = round(HALVINGS * filled["kimg"], 9)
        if filled.get("size") is None and filled.get("checkpoint") is None:
            filled["size"] = "full"
        if filled.get("perceptual") is not None:
            filled["loss"] = filled.get("loss") or "paper"
            if filled.get("perceptual_weight") is None:
                filled["perceptual_weight"] = {"paper": 1.0, "released": 0.2}.get(str(filled["loss"]))
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> TrainResynthesizerConfig:
        if self.perceptual is None:
            for name in ("loss", "perceptual_weight"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without perceptual; name a perceptual network, or drop it")
            if self.joint is not None and self.joint.feature != "pixel":
                raise ValueError(f"the feature {self.joint.feature} needs a network: set perceptual, or feature: pixel")
        elif self.patch is not None and self.patch < LEAST_PERCEPTUAL:
            raise ValueError(f"patch is {self.patch}; five perceptual stages need {LEAST_PERCEPTUAL} pixels or more")
        if self.colors and self.patch is not None and self.patch < LEAST_COLORED:
            raise ValueError(
                f"patch is {self.patch}; the task {self.task} needs {LEAST_COLORED} pixels or more, so that a share of "
                "10 to 25 % is at least one low-resolution pixel"
            )
        if self.joint is not None and self.batch is not None and self.batch < LEAST_JOINT:
            raise ValueError(
                f"batch is {self.batch}; joint training needs {LEAST_JOINT} or more: two real images and two fakes"
            )
        return self

    @property
    def colors(self) -> bool:
        """Whether colorization is one of the tasks."""
        return "C" in self.task.split("+")


class TrainResynthesizer(Stage):
    """Artifact: resynthesizer.safetensors, card.json, log.json, samples-*.png; joint: also classifier.safetensors."""

    name: ClassVar[str] = "train_resynthesizer"
    kind: ClassVar[Kind] = Kind.FIT
    makes: ClassVar[str] = "re-synthesizer"
    Config: ClassVar[type[StageConfig]] = TrainResynthesizerConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "on": Input(
            "rows", description="real images with sides of multiples of 4, train and val rows; joint: of both classes"
        ),
        "checkpoint": Input(
            "artifact", required=False, takes="re-synthesizer", description="where to start"
        ),
    }  # fmt: skip
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch", "safetensors")
    network: ClassVar[bool] = True
    uses_columns: ClassVar[tuple[str, ...]] = ("label", "split")
    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def schema(self, config: TrainResynthesizerConfig, inputs: Mapping[str, Any]) -> Schema:
        """No rows come out; raises ValueError where the inputs are no images of a fitting size."""
        height, width = image_size(inputs["on"], self.name)
        smallest = min(height, width)
        if height % SCALE or width % SCALE:
            raise ValueError(f"the images of 'on' have {height} x {width} pixels; expected multiples of {SCALE}")
        if config.patch is not None and config.patch > smallest:
            raise ValueError(f"patch is {config.patch}, but the images of 'on' have {height} x {width} pixels")
        if config.perceptual is not None and smallest < LEAST_PERCEPTUAL:
            raise ValueError(
                f"the images of 'on' have {height} x {width} pixels; five perceptual stages need {LEAST_PERCEPTUAL}"
            )
        if config.colors and smallest < LEAST_COLORED:
            raise ValueError(
                f"the images of 'on' have {height} x {width} pixels; the task {config.task} needs {LEAST_COLORED} or "
                "more per side"
            )
        return {}

    def promise(self, config: TrainResynthesizerConfig, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Architecture and task, and the classifier of a joint training."""
        architecture = architecture_of(config, inputs.get("checkpoint"))
        return {**weights.promised(architecture, config.task), **joint_files.promised(config.joint)}

    def modules(
        self, config: TrainResynthesizerConfig, files: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """The readers of the files, and the classifier of a joint training."""
        found: tuple[str, ...] = ()
        if "checkpoint" in files:
            found += weights.modules(files["checkpoint"])
        if "perceptual" in files:
            found += (PERCEPTUAL, *import_module(PERCEPTUAL).modules(files["perceptual"]))
        return found if config.joint is None else (*found, JOINT, CLASSIFIERS)

    def check(self, config: TrainResynthesizerConfig, files: Mapping[str, Any]) -> None:
        """The files hold the right networks, and that of the checkpoint is of the size that is asked for."""
        if "perceptual" in files:
            import_module(PERCEPTUAL).read_header(files["perceptual"])
        architecture_of(config, files.get("checkpoint"))

    def fit(
        self, config: TrainResynthesizerConfig, views: Mapping[str, Rows | Mapping[str, Rows]], ctx: FitContext
    ) -> None:
        """Write the artifact; progress is kept in `ctx.scratch`."""
        from detectors.seeding import seeded
        from stages.training.course import train
        from stages.training.networks import imitates_half, prepare

        prepare(ctx.device, ctx.threads)
        if config.precision == "bfloat16" and imitates_half(ctx.device):
            raise StageError(
                "precision: bfloat16 needs instructions that this CPU does not have and would imitate slowly; set "
                "precision: float32 or run on a GPU"
            )
        if config.joint is None:
            refuse_fakes(views["on"])
        rows = {label: rows_of(views["on"], label) for label in ([REAL] if config.joint is None else [REAL, FAKE])}
        start = weights.place(ctx) if config.checkpoint is not None else None
        architecture = architecture_of(config, start)
        with seeded(config.seed):
            network, classifier = new_network(architecture, start), new_classifier(config, ctx)
        training = new_training(config, rows, network, classifier, ctx)
        warm_up = config.joint.warm_up_kimg if config.joint else 0.0
        assert config.kimg is not None  # filled
        log = train(
            training,
            config.kimg + warm_up,
            ctx.scratch,
            save_images=round(config.save_kimg * 1000),
            pictures=config.pictures,
            warm_up=round(warm_up * 1000),
            report=ctx.report,
            stopping=ctx.stopping,
        )
        publish(ctx, config, architecture, training, log, rows, start)


def architecture_of(config: TrainResynthesizerConfig, checkpoint: Path | Promise | None) -> weights.Architecture:
    """That of the checkpoint, or of `size`; raises ValueError where they differ."""
    if checkpoint is None:
        return weights.SIZES[config.size or "full"]
    header = weights.read_header(checkpoint)
    if config.size is not None and header.architecture != weights.SIZES[config.size]:
        raise WeightsError(
            f"{checkpoint} holds a re-synthesizer of size {header.size}, but size is {config.size}; leave size out"
        )
    return header.architecture


def new_network(architecture: weights.Architecture, start: Path | None) -> nn.Module:
    """A network to be trained, on the CPU: fresh from torch's default random generator (see
    `detectors.seeding.seeded`), or from a file.
    """
    from stages.resynthesis.rdn import RDN

    if start is None:
        return RDN(**asdict(architecture))
    return copy.deepcopy(weights.load(start, "cpu")).requires_grad_(True)  # the loaded one may be kept for others


def new_classifier(config: TrainResynthesizerConfig, ctx: FitContext) -> nn.Module | None:
    """The classifier of a joint training, likewise; None without one."""
    joint = config.joint
    if joint is None:
        return None
    channels, stage = 3, stage_of(joint)
    if stage:
        channels = import_module(PERCEPTUAL).read_header(ctx.files["perceptual"]).channels[stage - 1]
    network: nn.Module = import_module(CLASSIFIERS).NETWORKS[joint.classifier](channels)
    return network


def stage_of(joint: JointSettings) -> int:
    """Number of the stage whose residual the classifier sees; 0: pixels."""
    return 0 if joint.feature == "pixel" else int(joint.feature.removeprefix("stage"))


def refuse_fakes(view: Any) -> None:
    """Raise StageError if there are fakes among the rows."""
    fakes = int((view.column("label") == FAKE).sum())
    if fakes:
        raise StageError(
            f"{fakes} of {len(view)} train and val rows are fakes; a re-synthesizer learns from real images only: "
            "select `where: label = real`, or set joint"
        )


def rows_of(view: Any, label: int) -> dict[str, Rows]:
    """Rows of one class of train and val, ordered by id; raises StageError where there are none."""
    from stages.training.row_order import in_order

    found: dict[str, Rows] = {}
    for split in ("train", "val"):
        rows = in_order(view.split(split))
        found[split] = rows.where(rows.column("label") == label)
        if not len(found[split]):
            kind = "fake" if label == FAKE else "real"
            use = "learns from them" if split == "train" else "is measured on them"
            raise StageError(f"'on' has no {kind} rows of split {split}, but the training {use}; add some")
    return found


def new_training(
    config: TrainResynthesizerConfig,
    rows: Mapping[int, Mapping[str, Rows]],
    network: nn.Module,
    classifier: nn.Module | None,
    ctx: FitContext,
) -> Any:
    """The training of a config with its networks on the device, in training mode."""
    import torch

    from stages.resynthesis.losses import ReconstructionLoss
    from stages.resynthesis.patches import Patches
    from stages.resynthesis.reconstruction import Reconstruction, Schedule

    random = torch.Generator(device=ctx.device).manual_seed(config.seed)
    perceptual = import_module(PERCEPTUAL).load(ctx.files["perceptual"], ctx.device) if config.perceptual else None
    loss = ReconstructionLoss(perceptual, config.loss or "paper", config.perceptual_weight or 1.0)
    mirrors = ("all" if config.joint is None else "horizontal") if config.mirrors else "none"
    patches = {label: Patches(some["train"], ctx.device, random, config.patch, mirrors) for label, some in rows.items()}
    warm_up = config.joint.warm_up_kimg if config.joint else 0.0
    total, halve = round(((config.kimg or 0) + warm_up) * 1000), (config.halve_kimg or 0) * 1000
    schedule = Schedule(total, halve, config.validations, round(warm_up * 1000))
    arguments = (placed(network, ctx.device), loss, patches[REAL], rows[REAL]["val"], schedule)
    shared: dict[str, Any] = {
        "task": config.task, "batch": config.batch, "learning_rate": config.learning_rate, "random": random,
        "half": config.precision == "bfloat16",
    }  # fmt: skip
    joint = config.joint
    if joint is None or classifier is None:
        return Reconstruction(*arguments, **shared)
    return import_module(JOINT).Joint(
        *arguments,
        **shared,
        fakes=patches[FAKE],
        held_out_fakes=rows[FAKE]["val"],
        classifier=placed(classifier, ctx.device),
        stage=stage_of(joint),
        weight=joint.weight,
        classifier_rate=joint.learning_rate,
        momentum=joint.momentum,
        weight_decay=joint.weight_decay,
    )


def placed(network: nn.Module, device: str) -> nn.Module:
    """On the device and in training mode."""
    import torch

    return network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


def publish(
    ctx: FitContext,
    config: TrainResynthesizerConfig,
    architecture: weights.Architecture,
    training: Any,
    log: list[dict[str, float]],
    rows: Mapping[int, Mapping[str, Rows]],
    start: Path | None,
) -> None:
    """Weights, card, log and pictures of a finished training."""
    from detectors.training import tensors_of
    from stages.training.cards import publish_training
    from stages.training.row_order import fingerprint

    tensors = tensors_of(training.network)
    header = weights.save(ctx.out / weights.FILE, architecture, config.task, tensors)
    if config.joint is not None:
        joint_files.save_classifier(ctx.out / joint_files.CLASSIFIER, config.joint, tensors_of(training.classifier))
    figures = training.validate()
    if config.task != "SR":
        figures |= {f"{name}_degraded": value for name, value in training.fidelity(config.task).items()}
    names = {REAL: "real", FAKE: "fake"}
    counts = {names[label]: {split: len(part) for split, part in some.items()} for label, some in rows.items()}
    prints = {names[label]: {split: fingerprint(part) for split, part in some.items()} for label, some in rows.items()}
    files = {"checkpoint": start, "perceptual": ctx.files.get("perceptual")}
    card: dict[str, Any] = {
        "network": weights.NETWORK,
        "size": header.size,
        "task": config.task,
        "architecture": asdict(architecture),
        "parameters": sum(int(array.size) for array in tensors.values()),
        "config": config.model_dump(mode="json", exclude={"checkpoint", "perceptual", "save_kimg"}),
        "files": {name: {"file": path.name, "sha256": file_sha256(path)} for name, path in files.items() if path},
        "steps": training.steps,
        "rows": counts,
        "data_fingerprint": prints,
        "figures": figures,
    }
    if config.joint is not None:
        card["fake_ids"] = joint_files.ids_digest(rows[FAKE]["train"])
    publish_training(ctx, card, TrainResynthesizer.libraries, log)
    promise = {**weights.promised(architecture, config.task), **joint_files.promised(config.joint)}
    ctx.facts.update({"size": header.size, **promise})
