"""Weights and inputs by rule, and summaries of arrays, as the README of `golden/detectors` defines them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

Arrays = dict[str, np.ndarray[Any, Any]]


def z(seed: str, name: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Normal values (float64) that belong to a name."""
    key = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(size=tuple(shape))


def torch_entry(seed: str, name: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """One tensor of a state dict."""
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros((), np.int64)
    drawn = z(seed, name, shape)
    if last == "running_mean":
        value = 0.1 * drawn
    elif last == "running_var":
        value = 0.5 + drawn**2 / (1 + drawn**2)
    elif last == "alpha":
        value = drawn
    elif len(shape) > 1:
        value = drawn * math.sqrt(1 / math.prod(shape[1:]))
    else:
        value = 1 + 0.1 * drawn if last in ("weight", "scale") else 0.1 * drawn
    return np.asarray(value, np.float32)


def keras_entry(seed: str, name: str, shape: Sequence[int], prefix: str = "") -> np.ndarray[Any, Any]:
    """One weight of a Keras layer."""
    drawn = z(seed, prefix + name, shape)
    part = name.rpartition("/")[2].removesuffix(":0")
    value = {
        "kernel": drawn * math.sqrt(1 / math.prod(shape[:-1])),
        "gamma": 1 + 0.1 * drawn,
        "moving_variance": 0.5 + drawn**2 / (1 + drawn**2),
    }.get(part, 0.1 * drawn)
    return np.asarray(value, np.float32)


def values_digest(entries: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """SHA-256 over sorted keys and the bytes of their values."""
    digest = hashlib.sha256()
    for name in sorted(entries):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(entries[name]).tobytes())
    return digest.hexdigest()


def keys_digest(network: nn.Module) -> str:
    """SHA-256 of the sorted names and shapes of a state dict."""
    lines = sorted(f"{name}:{'x'.join(map(str, value.shape))}" for name, value in network.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def load(network: nn.Module, entries: Mapping[str, np.ndarray[Any, Any]]) -> nn.Module:
    """The network with these values, all of them and no others, ready to score."""
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in entries.items()})
    return network.eval().requires_grad_(False)


def check(value: Any, summary: Mapping[str, Any], relative: float, what: str, absolute: float | None = None) -> None:
    """A value against shape, mean, deviation, extremes and samples of the reference.

    relative  tolerance in parts of max(1, largest magnitude of the reference)
    absolute  in its place
    """
    array = np.asarray(value, np.float64)
    assert list(array.shape) == summary["shape"], what
    tolerance = absolute if absolute is not None else relative * max(1, abs(summary["min"]), abs(summary["max"]))
    count = len(summary["sample"])
    flat = array.reshape(-1)
    sample = flat[[i * flat.size // count for i in range(count)]]
    np.testing.assert_allclose(sample, summary["sample"], rtol=0, atol=tolerance, err_msg=what)
    found = [array.mean(), array.std(), array.min(), array.max()]
    expected = [summary[name] for name in ("mean", "std", "min", "max")]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=what)
