"""What is learned on top of a frozen CLIP: the heads of UnivFD (Ojha et al. 2023) and RINE (Koutlis et al. 2024).

They take features that somebody computed with CLIP ViT-L/14; the project holds no CLIP.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detectors.networks.initial_weights import normal


class UnivFD(nn.Linear):
    """(N, width) projected image features, not scaled to length 1, to a logit (N, 1); the published width is 768."""

    def __init__(self, width: int = 768) -> None:
        super().__init__(width, 1)


class RINE(nn.Module):
    """(N, blocks, inputs) class tokens of each block behind its last layer normalization, to a logit (N, 1).

    Each token is projected, their sum weighted by a softmax over the blocks (for each channel), projected again, and
    classified. Published: 24 blocks of 1024; depth and width 4 and 1024 (1 class, LDM), 4 and 128 (2), 2 and 1024 (4).
    """

    def __init__(self, depth: int, width: int, blocks: int = 24, inputs: int = 1024) -> None:
        super().__init__()
        self.alpha = nn.Parameter(normal(1, blocks, width))
        self.proj1 = _projection(depth, inputs, width)
        self.proj2 = _projection(depth, width, width)
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, 1),
        )

    def embedding(self, tokens: Tensor) -> Tensor:
        """(N, width) before the classifier."""
        projected = self.proj1(tokens)
        found: Tensor = self.proj2((torch.softmax(self.alpha, dim=1) * projected).sum(dim=1))
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(tokens))
        return logits


def _projection(depth: int, inputs: int, width: int) -> nn.Sequential:
    """Linear layers at places 1, 4, 7, ..., each behind dropout and followed by ReLU."""
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Dropout(0.5), nn.Linear(width if number else inputs, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.5)) if depth else nn.Sequential()
