"""The papers' small networks in plain torch on the same shards are as good as ours, within the interval of a rate."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from memory_rows import context
from store_rows import make_rows
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pipeline.dataset import Dataset, Part
from pipeline.runs import this_run
from pipeline.stage import MAPS, SPECTRA, Field
from pipeline.storage.store import Store
from stages.evaluation.detector_file import load_detector
from stages.train import Train, TrainConfig

COUNT, SIDE, EPOCHS = 240, 16, 12
SCHEMA = {
    "dct2d": Field("float32", (3, SIDE, SIDE), axes=SPECTRA),
    "residual_pixel": Field("float16", (3, SIDE, SIDE), axes=MAPS),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two chains whose classes overlap: higher high frequencies, larger residuals; the splits go round."""
    store = Store(tmp_path_factory.mktemp("shards") / "store", writable=True)
    parts, random = [], np.random.default_rng(8)
    for label in (0, 1):
        ids, _ = make_rows(label * COUNT, (label + 1) * COUNT)
        maps = random.normal(-3, 2, (COUNT, 3, SIDE, SIDE)) + random.normal(0, 0.5, (COUNT, 1, 1, 1))
        maps[:, :, 12:, 12:] += label
        scale = 0.03 * np.exp(random.normal(0, 0.25, (COUNT, 1, 1, 1)) + 0.5 * label)
        values = {"dct2d": maps.astype(np.float32), "residual_pixel": abs(random.normal(0, scale, maps.shape))}
        values["residual_pixel"] = values["residual_pixel"].astype(np.float16)
        chain = bytes([label] * 16)
        store.stage_shard("spectrum", chain, ids, values, SCHEMA, this_run())
        parts.append(Part("spectrum", chain, SCHEMA, ids))
    table = {
        "label": np.repeat(np.array([0, 1], np.uint8), COUNT),
        "split": np.tile(np.array(["train", "train", "val", "test"]), COUNT // 2),
        "source": np.repeat(np.array(["photos", "progan"]), COUNT),
    }
    return Dataset(store, parts, table)


def plain(kind: str) -> nn.Module:
    """3 x 3 convolutions of 8, 16 and 32 channels, halved between them; one dense unit for all places or their mean."""
    layers: list[nn.Module] = []
    for number, (channels, width) in enumerate(((3, 8), (8, 16), (16, 32))):
        layers += [nn.AvgPool2d(2)] * (number > 0)
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    last = SIDE // 4 if kind == "dct2d" else 1
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(last), nn.Flatten(), nn.Linear(32 * last**2, 1), nn.Flatten(0))


def trained(network: nn.Module, rows: dict[str, Tensor], labels: dict[str, Tensor]) -> nn.Module:
    """Adam, batches of 32; the epoch with the smallest validation loss."""
    optimizer, best = torch.optim.Adam(network.parameters(), 1e-3), (math.inf, network)
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(labels["train"])).split(32):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(rows["train"][batch]), labels["train"][batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(binary_cross_entropy_with_logits(network.eval()(rows["val"]), labels["val"]))
        best = min(best, (loss, copy.deepcopy(network)), key=lambda one: one[0])
    return best[1]


@pytest.mark.parametrize(
    ("preset", "field"),
    [
        ("dct2d-cnn", "dct2d"),
        pytest.param("residual-pixel", "residual_pixel", marks=pytest.mark.stress),  # likewise, seconds
    ],
)
@pytest.mark.jobs
def test_plain_torch_reaches_the_same_accuracy(preset: str, field: str, shards: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path, "train")
    settings = f'{{"detector": {{"preset": "{preset}", "epochs": {EPOCHS}}}}}'
    Train().fit(TrainConfig.model_validate_json(settings), {"on": shards}, ctx)
    test, detector = shards.split("test"), load_detector(ctx.out)
    ours = float(((detector(test) >= detector.card["threshold"]) == test.column("label")).mean())

    rows = {name: torch.from_numpy(shards.split(name).array(field)).float() for name in ("train", "val", "test")}
    labels = {name: torch.from_numpy(shards.split(name).column("label")).float() for name in rows}
    if field == "dct2d":
        deviation, mean = torch.std_mean(rows["train"], dim=0, correction=0)
        rows = {name: (values - mean) / deviation for name, values in rows.items()}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = trained(plain(field), rows, labels).eval()
    with torch.no_grad():
        theirs = float(((network(rows["test"]) > 0) == (labels["test"] == 1)).float().mean())
    pooled = (ours + theirs) / 2
    assert 0.7 < ours < 0.99
    assert abs(ours - theirs) <= 1.96 * math.sqrt(pooled * (1 - pooled) * 2 / len(test))
