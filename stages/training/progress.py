"""The progress of a training as one file, so that arrays and plain data are replaced together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from detectors.contract import State
from pipeline.errors import StageError

FILE = "progress.safetensors"


def pack(state: State) -> bytes:
    """A state as the bytes of a safetensors file; plain data are JSON under `plain` of its metadata, in their order."""
    from safetensors.numpy import save

    tensors = {name: np.asarray(value, order="C") for name, value in state.tensors.items()}
    return save(tensors, metadata={"plain": json.dumps(state.plain)})


def unpack(path: Path) -> State:
    """The state that `pack` wrote. Raises StageError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            plain = json.loads((file.metadata() or {})["plain"])
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise StageError(
            f"the progress of a training in {path} is damaged ({error}); remove the file, and the training begins anew"
        ) from None
    return State(tensors, plain)


def restore(path: Path) -> State | None:
    """The state in a file; None where there is no file."""
    return unpack(path) if path.is_file() else None
