"""A ResNet-50 in bfloat16 from shards, beside the same steps on one batch that lies in the memory of the device."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.results import Acceptance
from detectors.captured import Captured, recording
from detectors.networks.resnet import DeepStemResNet50
from pipeline.dataset import Dataset, Part
from pipeline.loader import Loader
from pipeline.runs import this_run
from pipeline.stage import MAPS, PICTURE, Field
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store


@dataclass(frozen=True)
class Case:
    """Rows of one kind: as a residual of pixels, of a deep stage, or images."""

    dtype: str
    shape: tuple[int, ...]
    rows: int
    batch: int
    early_strides: bool = True

    @property
    def picture(self) -> bool:
        return self.shape[-1] == 3

    def quick(self) -> Case:
        return Case(self.dtype, tuple(min(side, 32) for side in self.shape), 2, 2, self.early_strides)


CASES = {
    "pixel residual 3x64x64": Case("float16", (3, 64, 64), 32768, 512),
    "stage 5 512x4x4": Case("float16", (512, 4, 4), 32768, 512, early_strides=False),
    "images 256x256x3": Case("uint8", (256, 256, 3), 4096, 256),
}
MODES: dict[str, dict[str, Any]] = {
    "preload": {"preload": True},
    "stream": {"preload": False},
    "pinned": {"preload": False, "pinned": True},
    "workers": {"preload": False, "pinned": True, "workers": 4},
}


def feeding(run: Acceptance) -> dict[str, Any]:
    """Rows per second of each mode of the loader, and its ratio to resident tensors (goal 0.95)."""
    torch.use_deterministic_algorithms(False)  # the fastest consumer: what feeds it must keep up
    torch.backends.cudnn.benchmark = True
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = _compared(run, case.quick() if run.quick else case, Path(folder))
        run.keep("feeding", found)
        print(name, found[name], flush=True)
    return found


def _compared(run: Acceptance, case: Case, folder: Path) -> dict[str, Any]:
    rounds, warm = (1, 0) if run.quick else (3, 1)
    dataset, step, count = _stored(case, folder), _step(run, case), case.rows // case.batch
    x = torch.randint(0, 200, (case.batch, *case.shape), device=run.device).to(getattr(torch, case.dtype))
    y = torch.randint(0, 2, (case.batch,), device=run.device)
    resident = count * case.batch / run.time(lambda: [step(None, x, y) for _ in range(count)], rounds, warm)
    entry: dict[str, Any] = {"batch": case.batch, "resident_rows_s": resident}
    for mode, settings in MODES.items():
        if run.quick and mode == "workers":
            continue
        loader = Loader(dataset, ["x"], case.batch, seed=0, device=run.device, drop_last=True, **settings)
        try:
            seconds = run.time(partial(_pass, step, loader), rounds, warm)
        except Exception as error:  # one mode that fails leaves the others their numbers
            entry[f"{mode}_error"] = f"{type(error).__name__}: {error}"[:300]
            continue
        entry[f"{mode}_rows_s"] = count * case.batch / seconds
        entry[f"{mode}_ratio"] = entry[f"{mode}_rows_s"] / resident
    alone = Loader(dataset, ["x"], case.batch, seed=0, preload=False)
    entry["graph"] = "refused" if step.refused else "recorded" if step.replay else "not recorded"
    entry["gather_alone_rows_s"] = case.rows / run.time(lambda: [None for _ in alone], rounds, warm)
    return entry


def _pass(step: Captured, loader: Loader) -> None:
    for one in loader:
        step(None, one["x"], one["label"])


def _stored(case: Case, folder: Path) -> Dataset:
    """Random rows in a store of their own."""
    schema = {"x": Field(case.dtype, case.shape, axes=PICTURE if case.picture else MAPS)}
    store, chain, random = Store(folder, writable=True), bytes(16), np.random.default_rng(0)
    ids = np.frombuffer(random.bytes(16 * case.rows), dtype="V16")
    size = rows_per_shard(schema)
    for start in range(0, case.rows, size):
        some = ids[start : start + size]
        values = random.integers(0, 200, (len(some), *case.shape), dtype=np.uint8).astype(case.dtype)
        store.stage_shard("x", chain, some, {"x": values}, schema, this_run())
    return Dataset(store, [Part("x", chain, schema, ids)], {"label": np.arange(case.rows, dtype=np.uint8) % 2})


def _step(run: Acceptance, case: Case) -> Captured:
    channels = 3 if case.picture else case.shape[0]
    network: Any = DeepStemResNet50(channels, case.early_strides)
    network = network.to(run.device, memory_format=torch.channels_last)
    fused = {"fused": True} if run.on_gpu else {"foreach": True}
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, **fused)  # type: ignore[arg-type]

    def work(x: Tensor, y: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if case.picture else x
        x = x.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
        with torch.autocast(torch.device(run.device).type, dtype=torch.bfloat16):
            loss = F.cross_entropy(network(x), y.long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return Captured(work, recording(run.device, None))
