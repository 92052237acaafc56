"""The smallest trainings of re-synthesizers: rows of noise, settings, trainings made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory_rows import MemoryRows, context, rows_of, union

from pipeline.stage import Context
from stages.resynthesis import perceptual, perceptual_networks
from stages.resynthesis.rdn import RDN
from stages.train_resynthesizer import TrainResynthesizer, TrainResynthesizerConfig, new_classifier, new_training

SIDE = 16
SHORT: dict[str, Any] = {"size": "tiny", "kimg": 0.008, "batch": 2, "patch": 16, "validations": 2, "pictures": 1}
JOINT: dict[str, Any] = {**SHORT, "batch": 4, "learning_rate": 0.001, "joint": {"classifier": "compact"}}
WIDTHS = (2, 3, 2, 2, 2)


def config(**more: Any) -> TrainResynthesizerConfig:
    return TrainResynthesizerConfig.model_validate_json(json.dumps({**SHORT, **more}))


def pixels(count: int, seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def photos(count: int = 8, split: str | None = None, label: int = 0, **more: Any) -> MemoryRows:
    return rows_of(f"source {label}", label, {"image": pixels(count, label, **more)}, split=split)


def both(count: int = 8) -> MemoryRows:
    return union(photos(count), photos(count, label=1))


def perceptual_network(folder: Path) -> Path:
    """The file of a small perceptual network with random weights."""
    path = folder / "perceptual.safetensors"
    torch.manual_seed(0)
    network = perceptual_networks.PerceptualNetwork(perceptual_networks.small(WIDTHS))
    perceptual.save(path, WIDTHS, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return path


def fit(folder: Path, given: TrainResynthesizerConfig, rows: Any, **more: Any) -> dict[str, bytes]:
    ctx = context(folder, "train_resynthesizer", **more)
    TrainResynthesizer().fit(given, {"on": rows}, ctx)
    return contents(ctx.out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def started(
    given: TrainResynthesizerConfig, rows: MemoryRows, network: Any = None, device: str = "cpu", **files: Path
) -> Any:
    """A training at its beginning."""
    parts = {
        label: {split: one.where(one.column("label") == label) for split in ("train", "val")
                for one in [rows.split(split)]}
        for label in ([0] if given.joint is None else [0, 1])
    }  # fmt: skip
    torch.manual_seed(0)
    network = RDN(4, 4, 1, 1) if network is None else network
    ctx: Any = Context(0, "train_resynthesizer", device, files=files)
    return new_training(given, parts, network, new_classifier(given, ctx), ctx)


def state(network: torch.nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}
