"""Published detectors as data: which network reads their file, what it is fed with, and how its output is to be read.

Facts of each are cited in the documentation of its network; names are those of `manifests/detectors.yaml`. Nothing here
imports torch before `build` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.ensembles import after_softmax, softmax
from detectors.published_preprocessing import CLIP, HALF, Preprocessing

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor of the published file -> its shape."""

Decision = Literal["logit", "logit of real", "fake, real", "cells of fake, real"]
"""What an output says: a logit of fake or real, logits of both, or those of each cell, whose probabilities count.

Of equal probabilities the first class is taken: with one logit it must exceed 0 to be fake.
"""


@dataclass(frozen=True)
class Published:
    """A published detector.

    network        class in `detectors.networks`, as "module:Class", and its arguments
    sizes          further arguments that the shapes of the file's tensors tell
    preprocessing  of a picture; None: it is fed with other features
    """

    network: str
    decision: Decision
    preprocessing: Preprocessing | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Callable[[Shapes], dict[str, Any]] | None = None

    def build(self, shapes: Shapes) -> nn.Module:
        """The network, with new weights; shapes: of the tensors of its file."""
        module, name = self.network.split(":")
        sizes = self.sizes(shapes) if self.sizes else {}
        made: nn.Module = getattr(import_module(f"detectors.networks.{module}"), name)(**self.arguments, **sizes)
        return made


def fake_probability(output: NDArray[Any], decision: Decision) -> NDArray[np.float64]:
    """(N, outputs) or (N, 2, h, w) to the probability of fake (N,)."""
    values: NDArray[np.float64] = output.astype(np.float64)
    if decision == "cells of fake, real":
        return after_softmax(values)[:, 0]
    if decision == "fake, real":
        return softmax(values)[:, 0]
    return softmax(np.concatenate([np.zeros_like(values), values], axis=1))[:, 1 if decision == "logit" else 0]


def is_fake(output: NDArray[Any], decision: Decision) -> NDArray[np.bool_]:
    """The published decision of each row, before any calibration."""
    probability = fake_probability(output, decision)
    return probability >= 0.5 if decision.endswith("fake, real") else probability > 0.5


def _rine(shapes: Shapes) -> dict[str, Any]:
    _, blocks, width = shapes["alpha"]
    depth = sum(name.startswith("proj1.") and name.endswith(".weight") for name in shapes)
    return {"depth": depth, "width": width, "blocks": blocks, "inputs": shapes["proj1.1.weight"][1]}


def _channels(shapes: Shapes) -> dict[str, Any]:
    return {"channels": shapes["conv1.0.weight"][1]}


def _width(shapes: Shapes) -> dict[str, Any]:
    return {"width": shapes["weight"][1]}


CROPPED = Preprocessing(crop=224)
SQUASHED = Preprocessing(resize=256, shape="square")
XCEPTION = Preprocessing(resize=333, filter="lanczos", crop=333, statistics=HALF)
RESNET18 = Preprocessing(resize=256, filter="lanczos", crop=256, statistics=HALF)
STRIDES = (1, 2, 2, 2)

PUBLISHED: dict[str, Published] = {
    "cnndetection": Published("resnet:ResNet", "logit", CROPPED, {"depth": 50}),
    "grip_nodown": Published("resnet:ResNet", "logit", Preprocessing(), {"depth": 50, "early_strides": (1, 1)}),
    "dire_classifier": Published("resnet:ResNet", "logit", Preprocessing(resize=256, crop=224), {"depth": 50}),
    "npr": Published("npr:NPR", "logit", SQUASHED),
    "gramnet": Published(
        "gram:GramNet", "fake, real", Preprocessing(order="bgr", levels=255, statistics=None), {"outputs": 2}
    ),
    "gramnet_aigcdetect": Published("gram:GramNet", "logit", CROPPED, {"outputs": 1}),
    "ferretnet_s": Published("ferretnet:FerretNet", "logit", Preprocessing(crop=256, statistics=CLIP)),
    "ladeda9": Published("ladeda:LaDeDa", "logit", SQUASHED),
    "tiny_ladeda": Published("ladeda:TinyLaDeDa", "logit", SQUASHED),
    "autogan_fft": Published(
        "resnet:ResNet",
        "fake, real",
        Preprocessing(resize=256, shape="square", library="opencv", crop=224, order="bgr", spectrum="fourier"),
        {"depth": 34, "outputs": 2},
    ),
    "fredect_aigcdetect": Published(
        "resnet:ResNet", "logit", Preprocessing(resize=256, crop=224, spectrum="cosine"), {"depth": 50}
    ),
    "mesoinception4": Published(
        "meso:MesoInception4",
        "logit of real",
        Preprocessing(resize=256, shape="square", filter="nearest", statistics=None),
    ),
    "xception_full": Published("xception:Xception", "fake, real", replace(XCEPTION, crop=299)),
    "resnet18_full": Published("resnet:ResNet", "fake, real", replace(RESNET18, crop=224), {"depth": 18, "outputs": 2}),
    "he_pixel": Published("resnet:DeepStemResNet50", "fake, real", sizes=_channels),
    "univfd_head": Published("clip_heads:UnivFD", "logit", sizes=_width),
    "rine_head": Published("clip_heads:RINE", "logit", sizes=_rine),
}
PUBLISHED |= {
    f"xception_block{last}": Published("xception:Xception", "cells of fake, real", XCEPTION, {"last_block": last})
    for last in range(1, 13)
}
PUBLISHED |= {
    f"resnet18_layer{last}": Published(
        "resnet:ResNet",
        "cells of fake, real",
        RESNET18,
        {"depth": 18, "outputs": 2, "strides": STRIDES[:last], "patches": True},
    )
    for last in range(1, 5)
}
PUBLISHED |= {f"he_stage{stage}": PUBLISHED["he_pixel"] for stage in range(1, 6)}
PUBLISHED |= {f"rine_{name}": PUBLISHED["rine_head"] for name in ("1class", "2class", "4class", "ldm")}
