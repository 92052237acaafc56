"""How a network detector is trained: optimizer, rules of rate and stop, batches, what chooses the epoch, precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from detectors import parts
from detectors.schedules import AnyRate, AnyStop
from detectors.schedules.constant import Constant

if TYPE_CHECKING:
    import torch

BLIND = ("constant", "quarter_cosine", "steps")
"""Rules of rates that count epochs and read nothing else."""

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adam(parts.Settings):
    """Adam (Kingma and Ba 2015)."""

    method: Literal["adam"] = Field(default="adam", description="Adam")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="decay of both moments")
    weight_decay: float = Field(default=0.0, ge=0, description="part of the gradient, or with `decoupled` of the step")
    decoupled: bool = Field(default=False, description="weight decay beside the gradient (AdamW)")

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Adam:
        if self.decoupled and not self.weight_decay:
            raise ValueError("'decoupled' has no effect with weight_decay 0; remove it")
        return self


class Sgd(parts.Settings):
    """Gradient descent with momentum."""

    method: Literal["sgd"] = Field(default="sgd", description="gradient descent")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="share of the last step that is kept")
    dampening: float = Field(
        default=0.0, ge=0, lt=1, description="share of the gradient that is not added to the momentum"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="part of the gradient")


OPTIMIZERS: dict[str, type[parts.Settings]] = {"adam": Adam, "sgd": Sgd}
AnyOptimizer = Annotated[parts.Settings, parts.OneOf("method", OPTIMIZERS)]


class Training(parts.Settings):
    """Defaults are those of the small networks of Frank et al. 2020."""

    optimizer: AnyOptimizer = Field(default=Adam(), description="method and its settings")
    learning_rate: float = Field(default=1e-3, gt=0, description="size of a step")
    rate: AnyRate = Field(default=Constant(), description="rule of the learning rate")
    stop: AnyStop | None = Field(default=None, description="rule that ends the training before `epochs`; null: none")
    epochs: int = Field(default=50, ge=1, description="passes over the training rows at most")
    batch: int = Field(default=32, ge=2, description="rows per step")
    balance: bool = Field(default=True, description="as many real as fake rows in an epoch, rare ones repeated")
    select: Literal["loss", "accuracy", "cell_accuracy", "last"] = Field(
        default="loss",
        description="what of validation chooses the epoch, both classes with equal weight: loss; share of rows, or of "
        "all cells of a map, on the right side of 0; or last: nothing does, the last one stays",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the network; weights stay float32"
    )

    @model_validator(mode="after")
    def _rules_read_what_selects(self) -> Training:
        if self.select == "last" and (self.stop is not None or getattr(self.rate, "rule", "") not in BLIND):
            raise ValueError(
                f"'select: last' leaves nothing that a rule could read; remove 'stop' and take one of "
                f"{', '.join(BLIND)} as 'rate', or select otherwise"
            )
        return self

    def selecting(self) -> tuple[str, float]:
        """Name of the log's number that chooses, and the sign with which a larger one is better."""
        if self.select == "last":
            return "epoch", 1.0
        return f"validation_{self.select}", -1.0 if self.select == "loss" else 1.0


def optimizer_of(settings: Training, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """A new optimizer of these parameters; on a GPU one kernel moves them all, and may be recorded."""
    import torch

    chosen, rate = settings.optimizer, settings.learning_rate
    parameters = list(parameters)
    on_gpu = {one.device.type for one in parameters} == {"cuda"}
    fused: dict[str, Any] = {"fused": True} if on_gpu else {}
    if isinstance(chosen, Adam):
        kind = torch.optim.AdamW if chosen.decoupled else torch.optim.Adam
        return kind(
            parameters, lr=rate, betas=chosen.betas, weight_decay=chosen.weight_decay, capturable=on_gpu, **fused
        )
    assert isinstance(chosen, Sgd)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=chosen.momentum,
        dampening=chosen.dampening,
        weight_decay=chosen.weight_decay,
        **fused,
    )
