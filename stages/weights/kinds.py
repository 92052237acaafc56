"""Which networks a weights file may hold, and what each is for: a file at the wrong place is told where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.weights.weights_file import WeightsError

IN_RECIPES = False

USES = {
    "generator": "a generator; use it as `checkpoint` of sample or translate",
    "rdn": "a re-synthesizer; use it as `model` of residual",
    "perceptual": "a perceptual network; use it as `perceptual` of residual",
}
"""Network in a description -> what it is, and the setting that takes it."""

ADD_LANDMARKS = "torch.save({**torch.load('nets_ema.ckpt'), **torch.load('wing.ckpt')}, 'faces.ckpt')"
WITHOUT_MASKS = (
    "without a landmark network no edges of the source are kept; put wing.ckpt beside the networks: " + ADD_LANDMARKS
)


def refuse_other(path: Path, about: Any, wanted: str) -> None:
    """Raise WeightsError, which says where the file belongs, if its description is that of another network."""
    if not isinstance(about, Mapping):
        return
    network = about.get("network", "generator" if "family" in about else None)
    if isinstance(network, str) and network != wanted and network in USES:
        raise WeightsError(f"{path} is {USES[network]}")
