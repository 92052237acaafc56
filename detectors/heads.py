"""How the last values of a network are read: the loss of a training, and one decision for each row.

A head says how many values a network gives (`outputs`) and reads logits (n, outputs), or (n, outputs, h, w) of a
network whose cells speak for parts of a row. Another head is a class here with one line in `HEADS`. Decisions are
logits: above 0 = fake, and the logistic function of one is the probability before calibration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from detectors import ensembles, parts

if TYPE_CHECKING:
    from torch import Tensor


LEAST = 1e-38
"""About the smallest float32."""


class Head(parts.Settings):
    """Base of all heads."""

    outputs: ClassVar[int]

    kind: str

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss () of a batch; labels (n,) float32, 1 = fake."""
        raise NotImplementedError

    def decision(self, outputs: Tensor) -> Tensor:
        """Logit (n,) of each row."""
        raise NotImplementedError

    def fake_share(self, outputs: Tensor) -> Tensor:
        """Share (n,) of a row's cells that say fake; of one decision 0 or 1."""
        return (self.decision(outputs) > 0).float()


class Logit(Head):
    """One logit for the whole row; of a map the mean of its cells."""

    outputs: ClassVar[int] = 1

    kind: Literal["logit"] = Field(default="logit", description="one logit, binary cross-entropy")

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(self.decision(outputs), labels)

    def decision(self, outputs: Tensor) -> Tensor:
        """The logit."""
        return (outputs.mean(dim=(2, 3)) if outputs.ndim == 4 else outputs)[:, 0]


class SquaredError(Logit):
    """As `Logit`, but for the loss (Afchar et al. 2018)."""

    kind: Literal["squared_error"] = Field(  # type: ignore[assignment]
        default="squared_error", description="one logit, squared error of its probability"
    )

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean of the squares."""
        return (self.decision(outputs).sigmoid() - labels).square().mean()


class Classes(Head):
    """Logits of real and fake for the whole row; of a map the means of its cells."""

    outputs: ClassVar[int] = 2

    kind: Literal["classes"] = Field(default="classes", description="logits of real and fake, cross-entropy")

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; written out, because torch's has no deterministic form on every device."""
        from torch.nn.functional import softplus

        difference = self.decision(outputs)
        return softplus(difference * (1 - 2 * labels)).mean()

    def decision(self, outputs: Tensor) -> Tensor:
        """Logit of fake less that of real."""
        means = outputs.mean(dim=(2, 3)) if outputs.ndim == 4 else outputs
        return means[:, 1] - means[:, 0]


class Patches(Head):
    """Logits of real and fake for each cell, every one with the row's label (Chai et al. 2020, Eq. 1 and 2)."""

    outputs: ClassVar[int] = 2

    kind: Literal["patches"] = Field(default="patches", description="logits of real and fake for each cell of a map")
    ensemble: Literal["after_softmax", "before_softmax", "vote"] = Field(
        default="after_softmax",
        description="a row's score: mean of the cells' probabilities; probability of their mean logits; or the share "
        "of cells that say fake",
    )

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, the mean over rows and cells."""
        from torch.nn.functional import softplus

        return softplus(self._cells(outputs) * (1 - 2 * labels)[:, None]).mean()

    def decision(self, outputs: Tensor) -> Tensor:
        """Logit of the row's score; a score of 0 or 1 counts as half a cell, or the least float32, away from it."""
        cells = self._cells(outputs)
        if self.ensemble == "before_softmax":
            return cells.mean(dim=1)
        if self.ensemble == "vote":
            half = 0.5 / cells.shape[1]
            real, fake = (ensembles.vote(outputs) + half).unbind(1)
        else:
            real, fake = ensembles.after_softmax(outputs.double()).clamp_min(LEAST).unbind(1)
        return fake.log() - real.log()

    def fake_share(self, outputs: Tensor) -> Tensor:
        """Of the cells."""
        self._cells(outputs)
        return ensembles.vote(outputs)[:, 1].float()

    def _cells(self, outputs: Tensor) -> Tensor:
        """(n, cells): logit of fake less that of real. Raises ValueError unless there are cells."""
        if outputs.ndim != 4:
            raise ValueError("the head 'patches' reads a map of logits, but this network gives one of each row; cut it")
        return (outputs[:, 1] - outputs[:, 0]).flatten(1)


HEADS: dict[str, type[parts.Settings]] = {
    "logit": Logit,
    "squared_error": SquaredError,
    "classes": Classes,
    "patches": Patches,
}

AnyHead = Annotated[Head, parts.OneOf("kind", HEADS)]
