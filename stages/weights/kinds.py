"""Which networks a weights file may hold, and what each is for: a file at the wrong place is told where it belongs.

What a network is for is said by the module that reads its files, as `KIND`; `stages.WEIGHTS` names these modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from stages import WEIGHTS
from stages.weights.weights_file import WeightsError

IN_RECIPES = False

ADD_LANDMARKS = "torch.save({**torch.load('nets_ema.ckpt'), **torch.load('wing.ckpt')}, 'faces.ckpt')"
WITHOUT_MASKS = (
    "without a landmark network no edges of the source are kept; put wing.ckpt beside the networks: " + ADD_LANDMARKS
)


@dataclass(frozen=True)
class NetworkKind:
    """One kind of network: what it is in words, and the setting that takes it; no part of any recipe."""

    description: str


def refuse_other(path: Path, about: Any, wanted: str) -> None:
    """Raise WeightsError, which says where the file belongs, if its description is that of another network."""
    if not isinstance(about, Mapping):
        return
    network = about.get("network", "generator" if "family" in about else None)
    if isinstance(network, str) and network != wanted and network in WEIGHTS:
        kind: NetworkKind = import_module(WEIGHTS[network]).KIND
        raise WeightsError(f"{path} is {kind.description}")
