"""Losses on power spectra of generated images: spectral regularization (+R) and a spectral discriminator (+A).

Both see the azimuthal profile "jung21" of `stages.spectra.profiles`, scaled to 0-1 per image (Jung and Keuper 2021,
arXiv:2012.03110), here in torch, so that gradients reach the generator and penalties on gradients work too.

+R is the loss of Durall et al. 2020 (arXiv:2003.01826, section 4): cross-entropy between the profiles of generated
images and the mean profile of the real ones. Unlike in the code released with that paper it is differentiated, and
profiles are kept off 0 and 1, where the gradient of the cross-entropy is mere rounding noise in float32.
+A is the discriminator of Jung and Keuper: one dense layer on the profile.

Neither the sums over rings nor their gradients scatter, so a GPU repeats them to the bit; nothing here multiplies
matrices under autocast, which would round profiles to three digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.generators.backward import gradients
from stages.generators.layers import SLOPE, Linear
from stages.spectra.profiles import EPSILON, profile_length

LUMA = (0.299, 0.587, 0.114)
CLAMP = 1e-6  # distance of profiles from 0 and 1 inside the cross-entropy
FLAT = 1e-4  # spread of a log profile, relative to its largest value, that is rounding only, as in detectors
CHUNK = 64  # images at a time where no gradient is needed

SpectralLoss = Literal["cross-entropy", "l1"]


class _RingSums(torch.autograd.Function):
    """(N, cells) to (N, rings): sum over the cells of each ring, read by index."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, members: Tensor, ring: Tensor) -> Tensor:
        ctx.save_for_backward(members, ring)
        return F.pad(cells, (0, 1)).index_select(1, members.flatten()).unflatten(1, members.shape).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _RingSpread.apply(gradients[0], *ctx.saved_tensors), None, None


class _RingSpread(torch.autograd.Function):
    """(N, rings) to (N, cells): the value of its ring for each cell, the transpose of _RingSums."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, members: Tensor, ring: Tensor) -> Tensor:
        ctx.save_for_backward(members, ring)
        return sums.index_select(1, ring)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _RingSums.apply(gradients[0], *ctx.saved_tensors), None, None


class Profile(nn.Module):
    """Azimuthal profiles of images, scaled to 0-1 each: (N, 3, side, side) RGB in -1..1 to (N, length).

    With y the luma of (x + 1) / 2 and F its discrete Fourier transform, a profile is the mean of 20 ln(|F|^2 + 1e-8)
    over each whole-pixel ring around DC of the half plane, less its minimum, over its range. It has
    floor(side / sqrt(2)) + 1 entries where the side is even. A flat profile (of a black image) becomes zeros.
    float64 in, float64 out; everything else is computed in float32. Images of another side raise ValueError.

    damping  0: exact gradients. The logarithm of a coefficient has a slope of 1 / |F|^2 in its power, so a batch's
             gradient comes from the few coefficients that happen to be near zero, among them the corner that sets the
             minimum of all profiles; at 64 pixels, training then stalled far from the target. Above 0 the slope is
             1 / (|F|^2 + damping * m), with m the mean power of the ring in the batch. Values are the same.
    """

    def __init__(self, side: int, damping: float = 0.0) -> None:
        super().__init__()
        self.side, self.length, self.damping = side, profile_length(side, side, "jung21"), damping
        down = torch.arange(side).view(-1, 1)
        across = torch.arange(side // 2 + 1)
        squares = (torch.minimum(down, side - down) ** 2 + across**2).flatten()
        ring = squares.double().sqrt().long()
        counts = ring.bincount(minlength=self.length)
        order, starts = ring.argsort(stable=True), counts.cumsum(0) - counts
        members = torch.full((self.length, int(counts.max())), len(ring))
        members[ring[order], torch.arange(len(ring)) - starts[ring[order]]] = order
        self.members: Tensor
        self.ring: Tensor
        self.counts: Tensor
        self.register_buffer("members", members, persistent=False)  # cells of each ring, one past the last as filler
        self.register_buffer("ring", ring, persistent=False)  # of each cell
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"profiles were set up for images (N, 3, {self.side}, {self.side}), found {tuple(images.shape)}; "
                "give the images at full size"
            )
        raw = self.logs(images if images.dtype == torch.float64 else images.float())
        low, high = raw.amin(dim=1, keepdim=True), raw.amax(dim=1, keepdim=True)
        spread = high - low
        flat = spread.detach() <= FLAT * torch.maximum(low.detach().abs(), high.detach().abs())
        return torch.where(flat, 0.0, (raw - low) / torch.where(flat, 1.0, spread))

    def logs(self, images: Tensor) -> Tensor:
        """The profiles before scaling, as `stages.spectra.profiles.profiles(..., "jung21")` gives them."""
        red, green, blue = LUMA
        gray = (red * images[:, 0] + green * images[:, 1] + blue * images[:, 2]) / 2  # of (x + 1) / 2, less 1 / 2
        # The FFT runs without the mean, in whose rounding weak coefficients would drown; any constant may be moved.
        level = gray.detach().mean(dim=(1, 2), keepdim=True)
        spectrum = torch.fft.rfft2(gray - level)
        spectrum[:, 0, 0] += (level[:, 0, 0] + 0.5) * self.side**2
        power = torch.view_as_real(spectrum).square().sum(dim=-1).flatten(1)
        logs = (power + EPSILON).log()
        if self.damping:
            fixed = power.detach()
            rings = _RingSums.apply(fixed.mean(dim=0, keepdim=True), self.members, self.ring) / self.counts
            share = power / (fixed + self.damping * rings[:, self.ring] + EPSILON)
            logs = logs.detach() + (share - share.detach())
        sums: Tensor = _RingSums.apply(logs, self.members, self.ring)
        return sums * (20 / self.counts.to(sums.dtype))


@torch.no_grad()
def target_profile(images: Tensor | Iterable[Tensor]) -> Tensor:
    """Mean of the profiles of real images, the target of +R. -> (length,) float32.

    images  (N, 3, H, H) in -1..1, or batches of such. Raises ValueError if there are none.
    """
    batches = images.split(CHUNK) if isinstance(images, Tensor) else images
    profile: Profile | None = None
    total, count = torch.zeros(()), 0
    for batch in batches:
        profile = profile or Profile(batch.shape[-1]).to(batch.device)
        total = total.to(batch.device) + profile(batch).double().sum(dim=0)
        count += len(batch)
    if not count:
        raise ValueError("the target profile is a mean over real images, and there are none")
    return (total / count).float()


def entropy(target: Tensor) -> Tensor:
    """Mean binary entropy of a profile in nats, the least value of the cross-entropy with it. (length,) -> scalar."""
    return -(torch.xlogy(target, target) + torch.special.xlog1py(1 - target, -target)).mean()


def regularization(profiles: Tensor, target: Tensor, kind: SpectralLoss = "cross-entropy") -> Tensor:
    """The loss of +R: how far profiles (N, length) of generated images are from the mean real one (length,). -> scalar.

    cross-entropy  mean over images and rings of -t ln p - (1 - t) ln(1 - p), with p kept in 1e-6..1 - 1e-6, less its
                   floor, the entropy of t: zero where all profiles equal the target
    l1             mean over images and rings of |p - t|
    """
    if kind == "l1":
        return (profiles - target).abs().mean()
    kept = profiles.clamp(CLAMP, 1 - CLAMP)
    return -(target * kept.log() + (1 - target) * (-kept).log1p()).mean() - entropy(target)


def gradient_norm_ratio(
    adversarial: Tensor, spectral: Tensor, parameters: Iterable[nn.Parameter], weight: float = 1.0
) -> float:
    """||weight * d spectral|| / ||d adversarial|| over all parameters together (those that neither uses count as zero).

    The graph of both losses (scalars) is kept and no `.grad` is touched. An adversarial gradient of zero gives inf.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]

    def norm(loss: Tensor) -> float:
        found = [one for one in gradients(loss, trained, retain_graph=True, allow_unused=True) if one is not None]
        squares = [one.double().square().sum() for one in found]
        return math.sqrt(sum(torch.stack(squares).tolist())) if squares else 0.0  # one wait for all of them

    above, below = weight * norm(spectral), norm(adversarial)
    return above / below if below else math.inf


def starting_weight(unweighted: float, ratio: float = 0.1) -> float:
    """The weight of the spectral loss at which its gradient is `ratio` times as long as the adversarial one.

    unweighted  `gradient_norm_ratio` at weight 1, best as a mean over a few batches; ValueError if not positive, finite
    """
    if not 0 < unweighted < math.inf:
        raise ValueError(f"the ratio of the gradient norms is {unweighted}, so no weight can set it; give the weight")
    return ratio / unweighted


class SpectralDiscriminator(nn.Module):
    """The discriminator of +A: images (N, 3, side, side) in -1..1 to scores (N, 1) of their profiles, higher = real.

    hidden  0: one dense layer, as finetuning of StyleGAN2 used it and as recommended; else the width of a hidden layer
            with a leaky rectifier (published: as wide as the profile). Learning rates are equalized.
    damping  see `Profile`
    """

    def __init__(self, side: int, hidden: int = 0, damping: float = 0.0) -> None:
        super().__init__()
        self.profile = Profile(side, damping)
        self.hidden = Linear(self.profile.length, hidden) if hidden else None
        self.output = Linear(hidden or self.profile.length, 1, gain=1)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.scores(self.profile(images))

    def scores(self, profiles: Tensor) -> Tensor:
        """(N, length) profiles to (N, 1) scores."""
        with torch.autocast(profiles.device.type, enabled=False):
            x = profiles if self.hidden is None else F.leaky_relu(self.hidden(profiles), SLOPE)
            scores: Tensor = self.output(x)
        return scores


def profile_distance(a: Tensor, b: Tensor) -> float:
    """Sum over rings of |a - b|, for mean profiles (length,) as `target_profile` gives them.

    The distance that SpectralGAN reports. It grows with the side of the images, as there are more rings.
    """
    return float((a.detach().double() - b.detach().double()).abs().sum())
