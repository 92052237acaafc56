"""Published detectors as data: which network reads their file, what it is fed with, and how its output is to be read.

Facts of each are cited in the documentation of its network; names are what an entry of `manifests/detectors.yaml` calls
its `network`. Part of no recipe: what is chosen of it stands in the config of `detectors.published_family`. Nothing
here imports torch before `build` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any

from detectors.decisions import Decision
from detectors.published_preprocessing import CLIP, HALF, Preprocessing

IN_RECIPES = False

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor of the published file -> its shape."""


@dataclass(frozen=True)
class Published:
    """A published detector.

    network        class in `detectors.networks`, as "module:Class", and its arguments
    sizes          further arguments that the shapes of the file's tensors tell
    preprocessing  of a picture; None: it is fed with other features
    options        arguments that the file does not tell and an entry may say, with all that they can be
    """

    network: str
    decision: Decision
    preprocessing: Preprocessing | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Callable[[Shapes], dict[str, int]] | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Of the network."""
        return f"detectors.networks.{self.network.partition(':')[0]}"

    def build(self, shapes: Shapes) -> Any:
        """The network (an nn.Module), with new weights; shapes: of the tensors of its file."""
        return self.make(self.sizes(shapes) if self.sizes else {})

    def make(self, sizes: Mapping[str, int], options: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The same of sizes that are known already, with arguments of `options`."""
        made = getattr(import_module(self.module), self.network.partition(":")[2])
        return made(**{**self.arguments, **sizes, **options})


def _rine(shapes: Shapes) -> dict[str, int]:
    _, blocks, width = shapes["alpha"]
    depth = sum(name.startswith("proj1.") and name.endswith(".weight") for name in shapes)
    return {"depth": depth, "width": width, "blocks": blocks, "inputs": shapes["proj1.1.weight"][1]}


def _channels(shapes: Shapes) -> dict[str, int]:
    return {"channels": shapes["conv1.0.weight"][1]}


def _width(shapes: Shapes) -> dict[str, int]:
    return {"width": shapes["weight"][1]}


CROPPED = Preprocessing(crop=224)
SQUASHED = Preprocessing(resize=256, shape="square")
XCEPTION = Preprocessing(resize=333, filter="lanczos", crop=333, statistics=HALF)
RESNET18 = Preprocessing(resize=256, filter="lanczos", crop=256, statistics=HALF)
STRIDES = (1, 2, 2, 2)
FILTERS = {"input_filter": ("NPR", "raw", "x_grad", "y_grad", "left_diag", "right_diag")}

PUBLISHED: dict[str, Published] = {
    "cnndetection": Published("resnet:ResNet", "logit", CROPPED, {"depth": 50}),
    "grip_nodown": Published(
        "resnet:ResNet", "logit", Preprocessing(parts=True), {"depth": 50, "early_strides": (1, 1)}
    ),
    "dire_classifier": Published("resnet:ResNet", "logit", Preprocessing(resize=256, crop=224), {"depth": 50}),
    "npr": Published("npr:NPR", "logit", SQUASHED),
    "gramnet": Published(
        "gram:GramNet", "fake, real", Preprocessing(order="bgr", levels=255, statistics=None), {"outputs": 2}
    ),
    "gramnet_aigcdetect": Published("gram:GramNet", "logit", CROPPED, {"outputs": 1}),
    "ferretnet_s": Published("ferretnet:FerretNet", "logit", Preprocessing(crop=256, statistics=CLIP)),
    "ladeda9": Published("ladeda:LaDeDa", "logit", SQUASHED, {"input_filter": "NPR"}, options=FILTERS),
    "tiny_ladeda": Published("ladeda:TinyLaDeDa", "logit", SQUASHED, {"input_filter": "NPR"}, options=FILTERS),
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
