"""Joint training of re-synthesizer and classifier (He et al. 2021, Eq. 2 and 3), as the paper means it.

The classifier sees residuals of clean reduced images, of both classes; the reconstruction loss counts real images
only, enlarged from degraded copies. Both losses reach the re-synthesizer. The released program has it frozen and thus
trains nothing but the classifier.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.transfers import constant, told
from pipeline.stage import FAKE, REAL, Rows
from stages.resynthesis.downsampling import by_255, downsample
from stages.resynthesis.patches import Patches
from stages.resynthesis.reconstruction import Reconstruction

LEAST_REALS = 2
"""Real images in a batch, below which it has no reconstruction loss (released code)."""


class Joint(Reconstruction):
    """Re-synthesizer, classifier, their optimizers (SGD with momentum) and data.

    patches, fakes            of real and fake images; half of each batch is of either
    held_out, held_out_fakes  real images, on which PSNR is measured too, and fakes
    stage   0: pixel residual; 1 to 5: residual of this stage of the loss's perceptual network
    weight  lambda of Eq. 2, of the reconstruction loss
    """

    def __init__(
        self,
        *arguments: Any,
        fakes: Patches,
        held_out_fakes: Rows,
        classifier: nn.Module,
        stage: int,
        weight: float,
        classifier_rate: float,
        momentum: float,
        weight_decay: float,
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self.fakes, self.held_out_fakes = fakes, held_out_fakes
        self.classifier, self.stage, self.weight = classifier, stage, weight
        self.rates["classifier"] = classifier_rate
        self.optimizers = {
            name: torch.optim.SGD(network.parameters(), lr=1.0, momentum=momentum, weight_decay=weight_decay)
            for name, network in self.networks().items()
        }

    def networks(self) -> dict[str, nn.Module]:
        return {"resynthesizer": self.network, "classifier": self.classifier}

    def step(self, seen: int, train_generator: bool = True) -> tuple[int, dict[str, float]]:
        """One step of both networks, or in the warm-up (`train_generator` false) of the classifier alone."""
        self.set_rates(seen)
        reals = (self.batch + 1) // 2
        images = torch.cat([self.patches.draw(reals), self.fakes.draw(self.batch - reals)])
        labels = torch.tensor([REAL] * reals + [FAKE] * (self.batch - reals))
        loss, terms = self.losses(images, labels, train_generator)
        self.update(loss, tuple(self.optimizers))  # one without gradients stays where it is
        numbers = told(terms)
        if self.schedule.validates(seen, seen + self.batch):
            numbers |= self.validate()
        self.steps += 1
        return self.batch, numbers

    def losses(self, images: Tensor, labels: Tensor, both: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 2 of a batch (N, 3, H, W) uint8: cross-entropy and, with `both`, reconstruction.

        labels: (N,) int64, on the CPU, so that nobody waits for a GPU to know which images are real
        """
        numbers = labels.tolist()
        real = tuple(row for row, label in enumerate(numbers) if label == REAL)
        labels = constant(tuple(numbers), torch.int64, images.device)
        reduced = downsample(images)
        with torch.set_grad_enabled(both):
            features = self.residual(reduced, images)
        logits = self.run(self.classifier, features)
        total = cross_entropy(logits, labels)
        right = (logits.argmax(dim=1) == labels).float().mean()
        terms = {"classification": total.detach(), "accuracy": right.detach()}
        if both and len(real) >= LEAST_REALS:
            places = constant(real, torch.int64, images.device)
            loss, found = self.reconstruction(reduced[places], images[places])
            total = total + self.weight * loss
            terms |= found
        return total, terms

    def residual(self, reduced: Tensor, images: Tensor) -> Tensor:
        """Distance of the re-synthesized images from the originals (N, 3, H, W) uint8: (N, C, h, w), 0 or more."""
        made, originals = self.run(self.network, reduced), by_255(images.float())
        if self.stage:
            assert self.loss.network is not None  # the config is checked
            perceptual = self.loss.network
            with torch.no_grad():
                originals = perceptual.stages(originals, [self.stage])[self.stage]
            made = perceptual.stages(made, [self.stage])[self.stage]
        return (made - originals).abs()

    def validate(self) -> dict[str, float]:
        """PSNR, and the classifier's accuracy: the mean of both classes' shares of held-out images taken for theirs."""
        shares = [self.taken_for(FAKE, self.held_out_fakes), self.taken_for(REAL, self.held_out)]
        return {**super().validate(), "held_out_accuracy": sum(shares) / 2}

    @torch.no_grad()
    def taken_for(self, label: int, rows: Rows) -> float:
        """Share of the rows that the classifier takes for this class."""
        self.classifier.eval()
        found = []
        for images in self.blocks(rows):
            logits = self.classifier(self.residual(downsample(images), images))
            found.append((logits.argmax(dim=1) == label).float())
        self.classifier.train()
        return float(torch.cat(found).mean())


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy; written out, because torch's has no deterministic form on every device."""
    chosen = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return -(F.log_softmax(logits, dim=1) * chosen).sum(dim=1).mean()
