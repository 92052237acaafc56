"""Which GPU computed what: its model and the builds of CUDA and cuDNN stand in each shard and each artifact.

A recipe says `cuda` and no more, so that a plan needs no GPU and machines share a chain. But rows of two kinds of GPU
differ in their last bits, so a run does not add rows of another kind to a chain unless it is told to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.storage.shards import read_attributes

if TYPE_CHECKING:
    from pipeline.stage import Stage
    from pipeline.storage.store import Store

Gpu = Mapping[str, str]


@cache
def gpu_here() -> Gpu | None:
    """Model, `cuda` and `cudnn` of the GPU that this process computes on; None where PyTorch finds none."""
    import torch

    if not torch.cuda.is_available():
        return None
    builds = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return {"model": torch.cuda.get_device_name(), **builds}


def visible_gpus() -> list[str]:
    """For each GPU that this process may use, the CUDA_VISIBLE_DEVICES of a process that is to see it alone."""
    import torch

    count = torch.cuda.device_count()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if told is None else [one.strip() for one in told.split(",")]
    return names[:count]  # CUDA itself ends the list at the first name that it does not know


def wants_device(stage: Stage, config: Any, device: str) -> bool:
    """Whether a task of this stage has to run where the GPU is."""
    return device == "cuda" and stage.on_device(config)


def gpus_of(stage: Stage, config: Any, device: str) -> list[Gpu]:
    """What stands in the shard or artifact that a task of this process makes."""
    found = gpu_here() if wants_device(stage, config, device) else None
    return [] if found is None else [found]


def named(gpu: Gpu) -> str:
    """In a sentence."""
    return f"{gpu['model']} (CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']})"


def kinds_of_chain(store: Store, stage: str, chain: bytes) -> set[str]:
    """The kinds of GPU that computed rows of a chain, as `named` says them."""
    index = store.index(stage, chain)
    shards = (read_attributes(index.path(number)) for number in range(len(index.names)))
    return {named(gpu) for one in shards for gpu in one.get("gpus", ())}


def mixed(node: str, before: set[str], now: Iterable[Gpu], allowed: bool) -> str | None:
    """A sentence for the report where a chain gets rows of more than one kind of GPU.

    before: kinds that have computed rows of it; now: GPUs of the run. Raises ConfigError unless it is allowed.
    """
    kinds = sorted({*before, *map(named, now)})
    if len(kinds) < 2:
        return None
    if not allowed:
        others = f"has rows of {' and '.join(sorted(before))}" if before else "would get rows of several GPUs"
        raise ConfigError(
            f"{node} {others}, and this run computes on {' and '.join(sorted(map(named, now)))}: they differ in their "
            "last bits; run it on GPUs of one kind, or add --mix-devices"
        )
    return f"{node}: rows of {' and '.join(kinds)} stand side by side (--mix-devices); they differ in their last bits"
