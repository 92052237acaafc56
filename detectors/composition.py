"""The config of a network detector: five parts, each with a word under its tag and its own settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from detectors.augmentation import AnyAugmentation
from detectors.contract import DetectorConfig
from detectors.heads import AnyHead, Logit
from detectors.networks import AnyNetwork
from detectors.optimization import Training
from detectors.preprocessing import Preprocessing, kind_of, layout, sides_of


class Config(DetectorConfig):
    """The five parts."""

    on_device: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch",)

    family: Literal["deep"] = Field(default="deep", description="the family; written out unless `preset` is")
    feature: str = Field(description="field of maps or images: H x W, C x H x W, or H x W x C")
    network: AnyNetwork = Field(description="architecture and its settings")
    preprocessing: Preprocessing = Field(
        default=Preprocessing(), description="what becomes of a row as stored: resize, crop, scale, normalize"
    )
    augmentation: tuple[AnyAugmentation, ...] = Field(
        default=(), description="random changes of training rows, one after another"
    )
    head: AnyHead = Field(default=Logit(), description="how the network's last values are read")
    training: Training = Field(default=Training(), description="optimizer, rules of rate and stop, batches, precision")
    micro_batch: int = Field(default=32, ge=1, description="rows per forward pass when scoring, padded to this size")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        words = [one.augmentation for one in self.augmentation]
        if len(set(words)) < len(words):
            raise ValueError(f"'augmentation' is {', '.join(words)}; expected different ones")
        if self.training.select == "cell_accuracy" and self.head.kind != "patches":
            raise ValueError("'select: cell_accuracy' has no effect without the head 'patches'; select accuracy")
        if self.head.kind == "patches" and not self.network.has_cells:
            raise ValueError(
                f"the head 'patches' reads logits of cells, but '{self.network.architecture}' gives those of whole "
                "rows; cut the network (`patches: true`, `last_block`), or choose another head"
            )
        return self

    @property
    def standardizes(self) -> bool:
        """Whether a fit takes, or is given, statistics of the training rows."""
        return self.preprocessing.scaling == "standardize"

    @property
    def resamples(self) -> bool:
        """Whether preprocessing brings rows to one size."""
        return self.preprocessing.one_size

    @property
    def modules(self) -> tuple[str, ...]:
        """This one, and what the parts select."""
        chosen = (self.network, *self.augmentation, self.training.rate, self.training.stop)
        return ("detectors.deep", *(part.code() for part in chosen if part is not None))

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Rows are maps or pictures, large enough, and of a kind that each augmentation may act on."""
        if len(shape) == 1:
            self._check_curve(shape)
        _, sides = layout(shape, axes)
        sides_of(self.preprocessing, *sides)
        kind = kind_of(axes)
        seen = sides
        if self.preprocessing.spectrum is not None and kind != "image":
            raise ValueError(f"'spectrum' is made of images, but '{self.feature}' is of kind {kind}; remove it")
        for one in self.augmentation:
            if kind not in one.acts_on:
                raise ValueError(
                    f"the augmentation '{one.augmentation}' acts on {' and '.join(one.acts_on)} rows, but "
                    f"'{self.feature}' is of kind {kind}; remove it"
                )
            seen = (sides[0], *one.sides(*seen))
        if seen != sides:
            self._check_cut(sides, seen)

    def _check_cut(self, stored: tuple[int, int, int], cut: tuple[int, int, int]) -> None:
        """Where augmentations change the sides of rows, a network sees pixels as large as in scoring, and as many."""
        if self.preprocessing.resize is not None:
            raise ValueError(
                f"the augmentations cut rows to {cut[1]} x {cut[2]} before 'resize', so that a training would see them "
                "enlarged; store rows of the size of 'resize' and remove it"
            )
        trained, scored = (sides_of(self.preprocessing, *sides) for sides in (cut, stored))
        if trained != scored:
            raise ValueError(
                f"a training would see rows of {trained[0]} x {trained[1]}, as augmentations cut them, and scoring "
                f"those of {scored[0]} x {scored[1]}; give 'preprocessing.crop' the same size"
            )

    def environment(self) -> Mapping[str, str]:
        """Of the augmentations."""
        return {name: value for one in self.augmentation for name, value in one.environment().items()}

    def _check_curve(self, shape: tuple[int, ...]) -> None:
        """Rows of one axis have no places."""
        if not self.network.takes_curves:
            raise ValueError(
                f"'{self.network.architecture}' reads maps, but rows of '{self.feature}' are curves of {shape[0]}; "
                "choose the architecture mlp or linear, or another feature"
            )
        if self.preprocessing.resize or self.preprocessing.crop:
            raise ValueError("rows that are curves cannot be resized or cropped; remove 'resize' and 'crop'")

    def history(self, log: Sequence[Mapping[str, float]]) -> list[float]:
        """What chooses the epoch, a larger number being better."""
        name, sign = self.training.selecting()
        return [sign * entry[name] for entry in log]

    def chosen(self, log: Sequence[Mapping[str, float]]) -> int:
        """Number from 0 of the epoch whose weights stay, of those in the log."""
        history = self.history(log)
        kept = getattr(import_module(self.training.rate.code()), "kept", None)
        return int(kept(self.training.rate, history)) if kept else history.index(max(history))

    def rate_factor(self, log: Sequence[Mapping[str, float]]) -> float:
        """Of the learning rate in the next epoch; 0: there is none."""
        rate = self.training.rate
        return float(import_module(rate.code()).factor(rate, self.history(log)))

    def ended_by(self, log: Sequence[Mapping[str, float]]) -> str:
        """Why there is no next epoch: "epochs", "rate" or "stop"; else ""."""
        stop = self.training.stop
        if stop is not None and import_module(stop.code()).finished(stop, self.history(log)):
            return "stop"
        if len(log) >= self.training.epochs:
            return "epochs"
        return "" if self.rate_factor(log) else "rate"
