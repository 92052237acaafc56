"""SNGAN's discriminator: residual blocks whose weights have a largest singular value of 1 (Miyato et al. 2018).

Spectral normalization divides a weight, as a matrix (outputs, rest), by its largest singular value, estimated by one
step of the power method in each forward pass of the training; the step's vector is kept with the weights. A conditional
one adds the inner product of its features with a vector of the class (Miyato and Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.networks.initial_weights import normal
from stages.generators.layers import resolutions
from stages.generators.sngan import initialize

EPSILON = 1e-12


def normalized(weight: Tensor, u: Tensor, *, keep: bool) -> Tensor:
    """The weight over its estimated largest singular value; with `keep`, u (1, outputs) becomes the new vector.

    The gradient is that of weight and singular value, both vectors taken as constants.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(u @ matrix, eps=EPSILON)
            new = F.normalize(v @ matrix.T, eps=EPSILON)
            if keep:
                u.copy_(new)
        return weight / (new @ matrix @ v.T)


class Normalized(nn.Module):
    """What the layers share: the vector of the power method, which a forward pass of the training moves on."""

    weight: Tensor
    u: Tensor

    def start(self) -> None:
        """A first vector; called once by the layer."""
        self.register_buffer("u", normal(1, self.weight.shape[0]))

    def bounded(self) -> Tensor:
        """The weight as it is used."""
        return normalized(self.weight, self.u, keep=self.training)


class Convolution(nn.Conv2d, Normalized):
    """A convolution that keeps the side."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.start()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.bounded(), self.bias, padding=self.padding)


class Dense(nn.Linear, Normalized):
    """A fully connected layer."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.start()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.bounded(), self.bias)


class Block(nn.Module):
    """Rectifier and convolution, twice, beside a shortcut, then a mean of 2x2 pixels where it halves the image.

    The first block of a network has no rectifier before, is as wide inside as behind, and halves its shortcut first.
    """

    def __init__(self, inputs: int, outputs: int, *, down: bool, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        inside = outputs if first else inputs
        self.c1, self.c2 = Convolution(inputs, inside, 3), Convolution(inside, outputs, 3)
        self.c_sc = Convolution(inputs, outputs, 1) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.c2(F.relu(self.c1(x if self.first else F.relu(x))))
        if self.c_sc is None:
            return y + x  # type: ignore[no-any-return]
        if self.first:
            return F.avg_pool2d(y, 2) + self.c_sc(F.avg_pool2d(x, 2))  # type: ignore[no-any-return]
        y = y + self.c_sc(x)
        return F.avg_pool2d(y, 2) if self.down else y


class Discriminator(nn.Module):
    """Image, and label if conditional, to a score (N, 1): higher means more real.

    ch  feature maps of all blocks up to 32 pixels; of larger networks those of the first block
    """

    def __init__(self, *, c_dim: int, resolution: int, ch: int) -> None:
        super().__init__()
        resolutions(resolution)
        if ch < 1:
            raise ValueError(f"SNGAN's discriminator has ch of at least 1, not {ch}")
        self.c_dim, self.resolution = c_dim, resolution
        small = resolution <= 32
        plan = [(ch, True), (ch, True), (ch, False), (ch, False)]
        if not small:
            halvings = max(resolution.bit_length() - 3, 5)
            plan = [(ch * min(1 << k, 16), True) for k in range(halvings)]
            plan += [(plan[-1][0], False)] * (resolution > 64)
        widths = [3, *(outputs for outputs, _ in plan)]
        self.blocks = nn.ModuleList(
            [Block(widths[k], width, down=down, first=k == 0) for k, (width, down) in enumerate(plan)]
        )
        self.l = Dense(widths[-1], 1, bias=not small)
        self.l_y = Dense(widths[-1], c_dim, bias=False) if c_dim else None
        initialize(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        x = image
        for block in self.blocks:
            x = block(x)
        x = F.relu(x).sum(dim=(2, 3))
        score: Tensor = self.l(x)
        if self.l_y is None:
            return score
        if label is None:
            raise ValueError(f"this discriminator is conditional: it needs a label of width {self.c_dim}")
        return score + (self.l_y(x) * label).sum(dim=1, keepdim=True)
