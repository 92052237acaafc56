"""Small StyleGAN networks and checkpoints in the layouts of their authors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.generators import stylegan, stylegan_official
from stages.generators.stylegan_discriminator import Discriminator
from stages.weights.checkpoints import Contents, Converted, read_contents
from stages.weights.filling import fill

Array = np.ndarray[Any, Any]


ROSINALITY = ("generators", "stylegan_rosinality_*.npz")


SHAPE: dict[str, Any] = {"c_dim": 3, "resolution": 32, "fmap_base": 64, "fmap_max": 12}


SMALL: dict[str, Any] = {**SHAPE, "z_dim": 6, "w_dim": 5, "mapping_features": 7, "mapping_layers": 3}


BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def checkpoints(path: Path) -> dict[str, Contents]:
    """The checkpoints behind a file of outputs, by form: of the same name, and genforce's of the same network."""
    files = [file for file in path.parent.iterdir() if file.stem in (path.stem, f"genforce_{path.stem}")]
    contents = [read_contents(file) for file in files if file.suffix not in (".npz", ".md")]
    return {str(stylegan_official.recognize(each)): each for each in contents}


def filled(build: Callable[[dict[str, Any]], Any], converted: Converted) -> Any:
    return fill("golden", build(converted.architecture), converted.tensors)


def generator_of(contents: Contents, which: str = "average") -> stylegan.Generator:
    return filled(stylegan.build, stylegan_official.generator(contents, which))


def discriminator_of(contents: Contents) -> Discriminator:
    found = stylegan_official.discriminator(contents)
    assert found is not None
    return filled(lambda architecture: Discriminator(**architecture), found)


def small(kind: type[Any], **settings: Any) -> Any:
    """A network with random biases, noise strengths and averages too, without gradients of its parameters."""
    torch.manual_seed(0)
    network = kind(**{**(SMALL if kind is stylegan.Generator else SHAPE), **settings}).requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "noise_strength", "w_avg", "const")):
            tensor.normal_(std=0.3)
    return network


def inputs(count: int = 4) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, SMALL["z_dim"], generator=random), torch.eye(3)[torch.arange(count) % 3]
