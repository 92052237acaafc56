"""StarGAN v2's discriminator: one output per domain (Choi et al. 2020, arXiv:1912.01865, section 2.1).

Apart from the generator, because sampling has no need of it. Tensors have the names of the authors' checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn

from stages.generators.stargan2 import chosen, initialize, trunk


class Discriminator(nn.Module):
    """Image and domain (N,) int64 to a score (N, 1): higher means more like a photograph of this domain."""

    def __init__(
        self, *, resolution: int, c_dim: int, width: int | None = None, max_width: int = 512, colors: int = 3
    ) -> None:
        super().__init__()
        if c_dim < 1:
            raise ValueError(f"StarGAN2's discriminator has at least one domain: c_dim is at least 1, not {c_dim!r}")
        layers, features = trunk(resolution, width, max_width, colors)
        self.main = nn.Sequential(*layers, nn.Conv2d(features, c_dim, 1))
        initialize(self)

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        return chosen(self.main(image).flatten(1).split(1, dim=1), domain)
