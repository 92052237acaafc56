"""A finished generator as a function of its latent through which gradients flow, whatever its family.

A family draws the images of `sample` by its function `render`, which keeps no gradients; here it runs without that
decoration. Noise maps, where a family has them, are left out: they would blur what the latent alone does.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError
from stages.generators import generator_file
from stages.generators.families import FAMILIES
from stages.generators.latent_shifts import Shift, moved
from stages.generators.weights import Header

if TYPE_CHECKING:
    from torch import Tensor

WITHOUT_NOISE = "none"


def check_latent(stage: str, path: Any, header: Header, label_index: int | None) -> None:
    """Raise ValueError unless a generator makes RGB images of one latent, and of a class if it has some."""
    if header.network != "generator":
        raise ValueError(f"{stage}: {path} holds a {header.network}; give the weights of a generator")
    if FAMILIES[header.family].maker != "sample":
        raise ValueError(
            f"{stage}: {path} is of family {header.family}, which makes images of images; take another one"
        )
    if header.architecture.get("colors", 3) != 3:
        raise ValueError(f"{stage}: {path} makes images of {header.architecture['colors']} colors, expected RGB")
    if not header.dimensions["z_dim"]:
        raise ValueError(f"{stage}: {path} has no latent of fixed size; take a generator that has one")
    classes = header.dimensions["c_dim"]
    if classes and (label_index is None or label_index >= classes):
        raise ValueError(f"{stage}: {path} is conditional; label_index is {label_index}, expected 0 to {classes - 1}")
    if not classes and label_index is not None:
        raise ValueError(f"{stage}: {path} is unconditional, so label_index {label_index} has no effect; drop it")


class FrozenGenerator:
    """Latents (N, z_dim) float32 to images (N, 3, side, side) float32 RGB, about -1..1, not clamped."""

    def __init__(self, path: Path, device: str, label_index: int | None = None) -> None:
        self.family, shared, self.header = generator_file.load(path, device)
        self.generator = generator_file.apart(shared)
        self.path, self.device, self.label_index = path, device, label_index
        self.z_dim = self.header.dimensions["z_dim"]
        self._render = inspect.unwrap(self.family.render)
        drawn = self.draw(0)
        if set(drawn) != {"z"} or drawn["z"].shape != (self.z_dim,):
            raise StageError(f"{path} is drawn from {', '.join(sorted(drawn))}; expected one latent z alone")

    def draw(self, seed: int) -> dict[str, NDArray[np.float32]]:
        """What the image of a seed is made from, without noise maps."""
        found: dict[str, NDArray[np.float32]] = self.family.draw(self.header.architecture, seed, WITHOUT_NOISE)
        return found

    def latents(self, seeds: NDArray[np.int64]) -> Tensor:
        """(n, z_dim) of seeds, as `sample` draws them."""
        import torch

        return torch.from_numpy(np.stack([self.draw(int(seed))["z"] for seed in seeds])).to(self.device)

    def __call__(self, z: Tensor, shift: Shift | None = None) -> Tensor:
        """Images of latents, moved by a shift."""
        import torch

        rows = {"z": z}
        if self.header.dimensions["c_dim"]:
            label = torch.zeros((len(z), self.header.dimensions["c_dim"]), device=z.device)
            label[:, self.label_index or 0] = 1
            rows["label"] = label
        with moved(shift, self.generator, rows) as given:
            images: Tensor = self._render(self.generator, given, psi=1.0, cutoff=None, noise=WITHOUT_NOISE)
        return images

    def pixels(self, images: Tensor) -> NDArray[np.uint8]:
        """(N, side, side, 3) as `sample` writes them."""
        found: NDArray[np.uint8] = self.family.to_uint8(images.detach()).cpu().numpy()
        return found
