"""Official checkpoints that are pickles, read as data: the persistent modules of stylegan2-ada-pytorch.

Such a file is a pickle of a dictionary G, D, G_ema; each network is a call that carries the source text of its class
and the `__dict__` of the module. The source is dropped unread; names, numbers and tensors are kept. Nothing of the file
is imported or run (see `pickle_machine`). The networks themselves are built by the family's own module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generators.arrays import (
    NUMPY_NAMES,
    NumpyArray,
    Storage,
    Tensor,
    dictionary,
    numpy_calls,
    read_torch,
    set_of,
    tensor_calls,
)
from stages.generators.pickle_machine import Budget, Call, PickleMachine, Symbol
from stages.generators.weights import WeightsError

PERSISTENCE_VERSION = 6
CLASSES = frozenset(
    (
        "Generator",
        "MappingNetwork",
        "SynthesisNetwork",
        "SynthesisBlock",
        "SynthesisLayer",
        "ToRGBLayer",
        "FullyConnectedLayer",
        "Conv2dLayer",
        "Discriminator",
        "DiscriminatorBlock",
        "MinibatchStdLayer",
        "DiscriminatorEpilogue",
        "AugmentPipe",
    )
)
PLAIN_NODES = 10_000  # of one network's settings; real ones have hundreds


@dataclass(frozen=True)
class PickledNetwork:
    """One network of a checkpoint as plain data.

    settings    keyword arguments that it was built from
    attributes  further plain values of its parts, by dotted name: "synthesis.b8.conv0.conv_clamp"
    tensors     arrays by the dotted name of a state dict
    """

    class_name: str
    settings: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Module:
    """A persistent module as it stands in the pickle; its source text is already gone."""

    def __init__(self, meta: Any) -> None:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise WeightsError("it has a persistent object that is no class with a state")
        if meta.get("version") != PERSISTENCE_VERSION:
            raise WeightsError(
                f"it has a persistent object of version {meta.get('version')!r}; expected {PERSISTENCE_VERSION}"
            )
        if not isinstance(meta.get("class_name"), str):
            raise WeightsError("it has a persistent object without a class name")
        self.class_name: str = meta["class_name"]
        self.state: dict[Any, Any] = meta["state"]
        if self.class_name == "SynthesisInput":
            raise WeightsError("it is an alias-free StyleGAN3 network, which is not supported; StyleGAN2 networks are")
        if self.class_name not in CLASSES:
            raise WeightsError(
                f"its network has a part of class {self.class_name[:100]!r}, which is not one of StyleGAN2"
            )


def read_pickle(path: Path) -> dict[str, PickledNetwork]:
    """Networks "G_ema" and "D" of an official StyleGAN2 checkpoint in the torch form (.pkl); raises WeightsError.

    Later containers (TensorFlow pickles, torch files) get their place here, chosen by what the file holds.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if data[:1] != b"\x80":
        kind = "an HTML or XML page" if data.lstrip()[:1] == b"<" else "not a pickle of protocol 2 or higher"
        raise WeightsError(f"{path} is {kind}; expected the .pkl file of a StyleGAN2 (stylegan2-ada-pytorch)")
    try:
        return read_persistent(memoryview(data))
    except WeightsError as error:
        raise WeightsError(f"{path} is refused: {error}") from error


def read_persistent(data: memoryview) -> dict[str, PickledNetwork]:
    """As `read_pickle`, for the bytes of the file."""
    budget = Budget(len(data))
    machine = PickleMachine(data, budget, persistent_calls(budget), None, NUMPY_NAMES)
    content = machine.load()
    if machine.position != len(data):
        raise WeightsError(f"it has {len(data) - machine.position} bytes behind its pickle")
    if not isinstance(content, dict) or not {"D", "G_ema"} <= set(content):
        raise WeightsError("it is a pickle, but not of a dictionary with the networks G_ema and D")
    for name, value in content.items():
        if not isinstance(value, Module):
            plain(name), plain(value)
    networks = {}
    for name, expected in (("G_ema", "Generator"), ("D", "Discriminator")):
        if not isinstance(content[name], Module) or content[name].class_name != expected:
            raise WeightsError(f"its {name} is not a {expected}")
        networks[name] = collect(content[name])
    return networks


def persistent_calls(budget: Budget) -> dict[tuple[str, str], Call]:
    """All symbols that may be called in such a file."""

    def storage(content: Any) -> Storage:
        if not isinstance(content, bytes | memoryview):
            raise WeightsError("it has a nested torch file that is no byte string")
        found = read_torch(memoryview(content), budget, depth=1)
        if not isinstance(found, Storage):
            raise WeightsError("it has a nested torch file that holds more than one storage")
        return found

    return {
        **numpy_calls(budget),
        **tensor_calls(budget),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): Module,
        ("torch.storage", "_load_from_bytes"): storage,
        ("builtins", "set"): set_of,
        ("__builtin__", "set"): set_of,
        ("dnnlib.util", "EasyDict"): dictionary,
    }


def collect(module: Module) -> PickledNetwork:
    """Settings, attributes and tensors of a module and its parts."""
    attributes: dict[str, Any] = {}
    tensors: dict[str, NDArray[Any]] = {}
    seen: set[int] = set()

    def visit(part: Any, prefix: str) -> None:
        if not isinstance(part, Module) or id(part) in seen or prefix.count(".") > 8:
            raise WeightsError(f"its part {prefix[:100]!r} is no module, is deeper than 8 levels or occurs twice")
        seen.add(id(part))
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = part.state.get(kind)
            if not isinstance(entries, dict) or not all(isinstance(name, str) and "." not in name for name in entries):
                raise WeightsError(f"its part {prefix[:100]!r} has no dictionary {kind}")
            for name, entry in entries.items():
                if entry is None:
                    continue
                if kind == "_modules":
                    visit(entry, f"{prefix}{name}.")
                elif not isinstance(entry, Tensor):
                    raise WeightsError(f"its entry {prefix}{name} is no tensor")
                elif prefix + name in tensors:
                    raise WeightsError(f"its tensor {prefix}{name} occurs twice")
                else:
                    tensors[prefix + name] = finite(prefix + name, entry.array())
        for name, value in part.state.items():
            if isinstance(name, str) and isinstance(value, str | int | float | type(None)):
                attributes[prefix + name] = value

    visit(module, "")
    settings = plain(module.state.get("_init_kwargs", {}))
    if plain(module.state.get("_init_args", ())) != [] or not isinstance(settings, dict):
        raise WeightsError("its network was built from unnamed arguments, which are not read")
    return PickledNetwork(module.class_name, settings, attributes, tensors)


def finite(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WeightsError(f"its tensor {name} has {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def plain(value: Any) -> Any:
    """A copy of nested dictionaries, lists and numbers (tuples as lists), of bounded size."""
    left = PLAIN_NODES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > 16:
            raise WeightsError("its settings are nested too deeply or are too many")
        if isinstance(value, dict):
            return {copy(key, depth + 1): copy(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [copy(entry, depth + 1) for entry in value]
        if isinstance(value, NumpyArray) and value.array is not None:
            return value.array.tolist() if value.array.size < PLAIN_NODES else copy(None, 99)
        if isinstance(value, str | int | float | type(None)):
            return value
        kind = value if isinstance(value, Symbol) else type(value).__name__
        raise WeightsError(f"its settings hold a {kind}; expected text and numbers")

    return copy(value, 0)
