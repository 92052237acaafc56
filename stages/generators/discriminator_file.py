"""The discriminator of a generator as a score of images: from the artifact of a training, or from a file that holds it.

What it says of an image of its own generator is a stand-in for quality (Wang et al. 2020, figure 6, judge by eye).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Context, Promise
from stages.generators import generator_file, weights
from stages.weights.filling import fill
from stages.weights.weights_file import WeightsError, is_safetensors

if TYPE_CHECKING:
    from torch import nn

    from detectors.transfers import Fetched

FILE = "discriminator.safetensors"  # in the artifact of a training


def check(stage: str, path: Any, side: int) -> None:
    """Raise ValueError unless a file or node holds, or will hold, a discriminator of images of this side alone."""
    header = generator_file.read_header(path)
    if not isinstance(path, Promise) and is_safetensors(path) and header.network != "discriminator":
        raise ValueError(f"{stage}: {path} holds a {header.network}; give the file of its discriminator, or its node")
    if header.family not in weights.NETWORKS["discriminator"]:
        raise ValueError(f"{stage}: {path} is of family {header.family}, which has no discriminator; drop checkpoint")
    if header.dimensions["c_dim"]:
        raise ValueError(f"{stage}: {path} is conditional, and rows have no class; drop checkpoint")
    if header.resolution != side:
        raise ValueError(f"{stage}: {path} judges images of {header.resolution} pixels, those of 'on' have {side}")


def modules(path: Any) -> tuple[str, ...]:
    """Modules that a score depends on, beside this one; none for a node, whose artifact has them in its recipe."""
    if isinstance(path, Promise):
        return ()
    judge = weights.NETWORKS["discriminator"][generator_file.read_header(path).family]
    return (judge,) if is_safetensors(Path(path)) else (judge, *generator_file.modules(path))


def place(ctx: Context) -> Path:
    """Where the discriminator of the setting `checkpoint` lies: in the artifact of a node, or a file."""
    if "checkpoint" in ctx.artifacts:
        return ctx.artifacts["checkpoint"][0].path / FILE
    return Path(ctx.files["checkpoint"])


def scorer(path: Path, device: str) -> Callable[[NDArray[np.uint8]], Fetched]:
    """A function of one image (side, side, 3) to its score (), higher where it looks more real; one by one, so that
    what a network compares within a batch says nothing. Raises WeightsError where a file holds no discriminator.
    """
    import torch

    from detectors.transfers import Fetched, sent

    network = _load(path).to(device)

    def score(pixels: NDArray[np.uint8]) -> Fetched:
        x = sent(pixels, device).movedim(2, 0)[None].float() / 127.5 - 1
        with torch.inference_mode():
            return Fetched(network(x, None).mean())

    return score


def _load(path: Path) -> nn.Module:
    if is_safetensors(path):
        return weights.load(path, "discriminator")[1]
    converted = import_module(generator_file.OFFICIAL).discriminator(path)
    if converted is None:
        raise WeightsError(f"{path} holds no discriminator; drop checkpoint, or name another file")
    dimensions: Mapping[str, int] = {key: converted.architecture.get(key, 0) for key in weights.DIMENSIONS}
    header = weights.Header(converted.family, converted.architecture, dimensions, network="discriminator")
    return fill(str(path), weights.build(str(path), header)[1], converted.tensors)
