"""Architectures by name. Part of no recipe: one more changes nothing that was trained.

An architecture is a module here and one entry in this file: a subclass of `Network` that names the module and has its
settings with their defaults, which a recipe keeps in full. The module may import torch at its top (planning reads this
file only) and has

    build(settings, channels, sides, outputs) -> nn.Module

a network with new weights, as torch's default generator draws them; the caller has seeded it, and may build on torch's
meta device to learn shapes. Floats (n, channels, *sides) go in as `detectors.preprocessing` makes them, logits
(n, outputs) come out, or (n, outputs, h, w) where cells speak for parts of a row (`detectors.heads` reads both). Names
of tensors are those of the published file where there is one. All buffers are persistent. ValueError: rows too small.

Of the network a row's logits must not depend on its neighbors in a batch of fixed size. Where there are maps for heat
pictures, its method `maps(x)` gives them, (n, c, h, w) before pooling and head; `detectors.networks.receptive_field`
computes from it what a cell sees. A file that has other names for tensors than the network, or other shapes, is brought
to it by `own_tensors(settings, tensors) -> tensors` of the module: named arrays, as published, to named arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from detectors.parts import OneOf, Settings

IN_RECIPES = False


class Network(Settings):
    """Base of all architectures: `module` builds it, `title` names it in a table."""

    title: ClassVar[str]

    architecture: str


class SmallCnn(Network):
    """Of Frank et al. 2020, with batch normalization."""

    module: ClassVar[str] = "detectors.networks.small_cnn"
    title: ClassVar[str] = "CNN"

    architecture: Literal["small_cnn"] = Field("small_cnn", description="3 x 3 convolutions and one dense unit")
    widths: tuple[int, ...] = Field((8, 16, 32), min_length=1, description="channels of the convolutions")
    places: Literal["all", "mean"] = Field(
        "all", description="all: a weight for each place (a spectrum's frequencies); mean: their mean (an image)"
    )


NETWORKS: Mapping[str, type[Network]] = {
    "small_cnn": SmallCnn,
}

AnyNetwork = Annotated[Network, OneOf("architecture", NETWORKS)]
