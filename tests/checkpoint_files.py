"""Checkpoints in the containers of official releases, written at run time: harmless ones and hostile ones.

The classes that such files name do not exist here. While a test writes a file, `StandIns` makes modules in which pickle
finds classes and functions of these names; none of them can be called.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.generators.weights import WeightsError
from stages.weights.checkpoints import read_bytes

MEBIBYTE = 1 << 20


class Calls:
    """Pickles as a call of a function with arguments, and optionally a state."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.made


def must_not_run(*arguments: Any) -> Any:
    raise AssertionError("a stand-in was called")


@contextmanager
def stand_ins(*names: tuple[str, str]) -> Iterator[list[Any]]:
    """For each (module, name) something that pickles as a reference to it; a name in capitals is a class."""
    before = dict(sys.modules)
    made = []
    try:
        for module in {module for module, _ in names}:
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                whole = ".".join(parts[:end])
                if end == len(parts) or whole not in sys.modules:
                    sys.modules[whole] = types.ModuleType(whole)
        for module, name in names:
            kind: Any = type(name, (), {}) if name[0].isupper() else types.FunctionType(must_not_run.__code__, {})
            kind.__module__, kind.__qualname__, kind.__name__ = module, name, name
            setattr(sys.modules[module], name, kind)
            made.append(kind)
        yield made
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


def dumps(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


# TensorFlow


def tensorflow_state(name: str, function: str, **changes: Any) -> dict[str, Any]:
    """State of a network as the authors' class pickles it."""
    return {
        "version": 2,
        "name": name,
        "static_kwargs": {},
        "build_module_src": "",
        "build_func_name": function,
        "variables": [],
        **changes,
    }


def progan_states(resolution: int = 8, width: int = 4, source: str = "") -> list[dict[str, Any]]:
    """G, D and Gs of a ProGAN with `width` feature maps everywhere, unconditional and not fused."""
    rng = np.random.default_rng(7)

    def layer(name: str, *shape: int) -> list[tuple[str, Any]]:
        values = [(f"{name}/weight", rng.standard_normal(shape).astype(np.float32))]
        length = shape[-1] // 16 if name == "4x4/Dense" else shape[-1]
        return [*values, (f"{name}/bias", rng.standard_normal(length).astype(np.float32))]

    sides = [8 << index for index in range(resolution.bit_length() - 3)]
    lods = [(resolution // side).bit_length() - 1 for side in (4, *sides)]
    states = []
    for name in ("G", "D", "Gs"):
        judge = name == "D"
        variables = [("lod", np.float32(0))]
        if not judge:
            variables += layer("4x4/Dense", width, 16 * width)
        for side in sides:
            for number in (0, 1):
                variables += layer(f"{side}x{side}/Conv{number}", 3, 3, width, width)
        variables += layer("4x4/Conv", 3, 3, width + judge, width)
        for lod in lods:
            variables += (
                layer(f"FromRGB_lod{lod}", 1, 1, 3, width) if judge else layer(f"ToRGB_lod{lod}", 1, 1, width, 3)
            )
        if judge:
            variables += layer("4x4/Dense0", 16 * width, width) + layer("4x4/Dense1", width, 1)
        settings = {"num_channels": 3, "resolution": resolution, "label_size": 0}
        settings |= {"fmap_base": 8192, "fmap_max": width, "fused_scale": False}
        function = "D_paper" if judge else "G_paper"
        states.append(
            tensorflow_state(name, function, static_kwargs=settings, variables=variables, build_module_src=source)
        )
    return states


def tensorflow_bytes(content: Any, protocol: int = 4, module: str = "tfutil") -> bytes:
    """A pickle in which every `State` is a network; `content` may hold anything else too."""
    with stand_ins((module, "Network")) as (network,):

        def made(value: Any) -> Any:
            if isinstance(value, State):
                result = network()
                result.__dict__.update({key: made(entry) for key, entry in value.items()})
                return result
            if type(value) is dict and any(isinstance(entry, State) for entry in value.values()):
                return {key: made(entry) for key, entry in value.items()}
            return tuple(made(entry) for entry in value) if type(value) is tuple else value

        return dumps(made(content), protocol)


class State(dict[str, Any]):
    """A TensorFlow network's state, to be told from other dictionaries."""


def progan_bytes(protocol: int = 4, source: str = "") -> bytes:
    return tensorflow_bytes(tuple(State(state) for state in progan_states(source=source)), protocol)


# Persistent modules


RECONSTRUCT = ("torch_utils.persistence", "_reconstruct_persistent_obj")


def module_state(
    tensors: Mapping[str, Any], parts: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "training": False,
        "_parameters": collections.OrderedDict(tensors),
        "_buffers": {},
        "_modules": dict(parts or {}),
        "_non_persistent_buffers_set": set(),
        "_init_args": (),
        "_init_kwargs": dict(settings or {}),
        "weight_gain": np.sqrt(np.float64(2)),
    }


def persistence_bytes(content: Any, protocol: int = 4) -> bytes:
    """A pickle in which every `Meta` is a persistent module."""
    with stand_ins(RECONSTRUCT) as (reconstruct,):

        def made(value: Any) -> Any:
            if isinstance(value, Meta):
                return Calls(reconstruct, {key: made(entry) for key, entry in value.items()})
            if type(value) in (dict, collections.OrderedDict):
                return type(value)((key, made(entry)) for key, entry in value.items())
            return value

        return dumps(made(content), protocol)


class Meta(dict[str, Any]):
    """The dictionary by which a persistent module is called, to be told from other dictionaries."""


def meta(class_name: str, state: dict[str, Any], source: str = "") -> Meta:
    return Meta(type="class", version=6, module_src=source, class_name=class_name, state=state)


def persistence_content(source: str = "") -> dict[str, Any]:
    """G, D and G_ema with a tensor each; no family could build them."""
    classes = {"G": "Generator", "D": "Discriminator", "G_ema": "Generator"}
    made: dict[str, Any] = {
        name: meta(kind, module_state({"weight": torch.arange(4.0)}, settings={"z_dim": 4}), source)
        for name, kind in classes.items()
    }
    return {**made, "augment_pipe": None, "training_set_kwargs": {"path": "photos.zip"}}


# Torch files


def torch_bytes(value: Any, zipped: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def state_dict(*names: str) -> collections.OrderedDict[str, Any]:
    return collections.OrderedDict((name, torch.arange(6.0).reshape(2, 3) + k) for k, name in enumerate(names))


# Hostile parts


SHELLS: dict[str, tuple[Any, Any]] = {
    f"{os.system.__module__}.system": (os.system, ("touch marker",)),
    "builtins.eval": (eval, ("open('marker', 'w')",)),
    "builtins.exec": (exec, ("open('marker', 'w')",)),
    "builtins.getattr": (getattr, ("", "join")),
    "builtins.__import__": (__import__, ("antigravity",)),
    "subprocess.Popen": (subprocess.Popen, (["touch", "marker"],)),
    "torch.hub.load": (torch.hub.load, ("owner/name", "model")),
    "numpy.load": (np.load, ("marker",)),
}
"""Symbol as pickle names it -> function and arguments."""


@contextmanager
def little_memory(file_bytes: int = 0) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE + file_bytes
    finally:
        tracemalloc.stop()


def refused(data: bytes, sentence: str) -> None:
    """Within seconds of work, with little memory and in one line."""

    def too_slow(number: int, frame: Any) -> None:
        raise TimeoutError("refusing takes more than ten seconds of work")

    before = signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, 10)
    try:
        with little_memory(), pytest.raises(WeightsError, match=sentence) as caught:
            read_bytes(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def of_tensorflow(change: Callable[[list[Any]], Any], protocol: int = 4) -> bytes:
    states: list[Any] = [State(state) for state in progan_states()]
    change(states)
    return tensorflow_bytes(tuple(states), protocol)


def of_persistence(change: Callable[[dict[str, Any]], Any], protocol: int = 4) -> bytes:
    content = persistence_content()
    change(content)
    return persistence_bytes(content, protocol)


def of_torch(change: Callable[[dict[Any, Any]], Any], zipped: bool) -> bytes:
    content: dict[Any, Any] = {"generator": state_dict("a", "b"), "args": argparse.Namespace(size=4)}
    change(content)
    return torch_bytes(content, zipped)


def nested(value: Any, zipped: bool) -> Calls:
    return Calls(torch.storage._load_from_bytes, torch_bytes({"a": value}, zipped))  # type: ignore[attr-defined]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
