"""Networks in pickles, read as data: TensorFlow networks of dnnlib and persistent modules of stylegan2-ada-pytorch.

A TensorFlow pickle holds (G, D, Gs), or one network: its build function's name, the settings of the call and the
variables; parts of the network are networks of their own. A persistence pickle is a dictionary G, D, G_ema, or one
network; each is a call that carries the class's source and the module's `__dict__`. Both carry Python source that the
original readers execute. Here it is dropped unread; names, numbers and tensors are kept. Nothing of the file is
imported or run (see `pickle_machine`). The networks themselves are built by the family's own module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import shown
from stages.weights.arrays import (
    ARRAY,
    ENTRY,
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
from stages.weights.pickle_machine import (
    CONTAINER,
    PLAIN_LIMIT,
    Budget,
    Call,
    PickleMachine,
    Stub,
    Symbol,
)
from stages.weights.weights_file import WeightsError

WAY_OUT = "take a StyleGAN2 network, or make images with its own program and read them with the stage ingest"
PERSISTENCE_VERSION = 6
TENSORFLOW_VERSIONS = range(2, 6)  # ProGAN 2, StyleGAN 3, StyleGAN2 4, its later version with augmentation 5
TENSORFLOW_CLASSES = (("tfutil", "Network"), ("dnnlib.tflib.network", "Network"), ("network", "Network"))
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
NAME_LENGTH = 200  # of a tensor, in characters; real ones have less than 60
ATTRIBUTE_LENGTH = 100  # of a plain text among the attributes
DEEPEST_PART, DEEPEST_VALUE = 8, 16
LARGEST, LAYERS = 1_000_000, 100  # largest number in the settings of a network; of those that count layers


@dataclass(frozen=True)
class NetworkData:
    """One network of a checkpoint as plain data.

    class_name  name of the build function of a TensorFlow network ("G_style") or of the class of a persistent module
                ("Generator"); "" for a state dict
    settings    keyword arguments that it was built from (tuples as lists)
    tensors     arrays, often read-only views of the file's bytes: variables of TensorFlow by their names, those of
                parts as "synthesis/4x4/Const/const"; otherwise by the dotted name of a state dict
    attributes  further plain values. TensorFlow: "name", and "mapping/class_name", "mapping/settings" of parts;
                persistent modules: by dotted name, as "synthesis.b8.conv0.conv_clamp"; state dicts: "prefix", what
                was taken off all names
    """

    class_name: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


class ForeignError(WeightsError):
    """Something that is no plain data stands where it could be."""


class TensorFlowNetwork(Stub):
    """A TensorFlow network as it stands in the pickle; its source text is already gone."""

    state: Mapping[str, Any] | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise WeightsError("it has a TensorFlow network whose state is no dictionary")
        if "version" not in state and ("build_func_spec" in state or "param_values" in state):
            raise WeightsError(
                "it is a ProGAN of the authors' older Theano version, which is not supported; "
                "take the file of their TensorFlow version"
            )
        if state.get("version") not in TENSORFLOW_VERSIONS:
            raise WeightsError(
                f"it has a TensorFlow network of version {shown(state.get('version'))}; expected "
                f"{TENSORFLOW_VERSIONS.start} to {TENSORFLOW_VERSIONS.stop - 1}"
            )
        wanted = {"name": str, "static_kwargs": dict, "build_func_name": str, "variables": list}
        for key, kind in wanted.items():
            if not isinstance(state.get(key), kind):
                raise WeightsError(
                    f"it has a TensorFlow network whose {key} is {shown(state.get(key))}; expected a {kind.__name__}"
                )
        if not isinstance(state.get("components", {}), dict):
            raise WeightsError("it has a TensorFlow network whose components are no dictionary")
        self.state = {key: state.get(key, {}) for key in (*wanted, "components", "version")}

    def said(self) -> Mapping[str, Any]:
        if self.state is None:
            raise WeightsError("it has a TensorFlow network without a state")
        return self.state


class Module:
    """A persistent module as it stands in the pickle; its source text is already gone."""

    def __init__(self, meta: Any) -> None:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise WeightsError("it has a persistent object that is no class with a state")
        if meta.get("version") != PERSISTENCE_VERSION:
            raise WeightsError(
                f"it has a persistent object of version {shown(meta.get('version'))}; expected {PERSISTENCE_VERSION}"
            )
        if not isinstance(meta.get("class_name"), str):
            raise WeightsError("it has a persistent object without a class name")
        self.class_name: str = meta["class_name"]
        self.state: dict[Any, Any] = meta["state"]
        if self.class_name == "SynthesisInput":
            raise WeightsError(f"it is an alias-free StyleGAN3 network, which is not supported; {WAY_OUT}")
        if self.class_name not in CLASSES:
            raise WeightsError(
                f"its network has a part of class {shown(self.class_name)}, which is not one of StyleGAN2; {WAY_OUT}"
            )


def read_object(data: memoryview, budget: Budget) -> Any:
    """The object of a pickle of either kind: containers, numbers, arrays, `TensorFlowNetwork` and `Module`."""
    machine = PickleMachine(data, budget, calls(budget), None, NUMPY_NAMES)
    content = machine.load()
    if machine.position != len(data):
        raise WeightsError(f"it has {len(data) - machine.position} bytes behind its pickle; download it again")
    return content


def calls(budget: Budget) -> dict[tuple[str, str], Call]:
    """All symbols that may be called in such a file."""

    def storage(content: Any) -> Storage:
        if not isinstance(content, bytes | memoryview):
            raise WeightsError("it has a nested torch file that is no byte string")
        found = read_torch(memoryview(content), budget, depth=1)
        if not isinstance(found, Storage):
            raise WeightsError("it has a nested torch file that holds more than one storage")
        return found

    def new_dictionary(*arguments: Any) -> dict[Any, Any]:
        return dictionary(budget, *arguments)

    def new_set(*arguments: Any) -> set[Any]:
        return set_of(budget, *arguments)

    return {
        **numpy_calls(budget),
        **tensor_calls(budget),
        **dict.fromkeys(TENSORFLOW_CLASSES, TensorFlowNetwork),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): Module,
        ("torch.storage", "_load_from_bytes"): storage,
        ("builtins", "set"): new_set,
        ("__builtin__", "set"): new_set,
        ("dnnlib.util", "EasyDict"): new_dictionary,
    }


class Names:
    """Joined names of tensors: of bounded length, each once, and paid for, as parts can share what they name."""

    def __init__(self, separator: str, budget: Budget) -> None:
        self.separator, self.budget = separator, budget
        self.tensors: dict[str, NDArray[Any]] = {}
        self.parts: set[int] = set()

    def join(self, prefix: str, name: Any) -> str:
        if not isinstance(name, str) or not name or len(prefix) + len(name) > NAME_LENGTH:
            raise WeightsError(
                f"its network has a tensor or part of the name {shown(name)}; expected at most {NAME_LENGTH} characters"
            )
        self.budget.spend(ENTRY + 4 * (len(prefix) + len(name)))
        return prefix + name

    def enter(self, part: Any, kind: type, prefix: str) -> None:
        """Refuse a part that is there twice (a circle never ends) or too deep."""
        if not isinstance(part, kind) or id(part) in self.parts or prefix.count(self.separator) > DEEPEST_PART:
            raise WeightsError(
                f"its part {shown(prefix)} is no network, is deeper than {DEEPEST_PART} levels or occurs twice"
            )
        self.parts.add(id(part))

    def add(self, name: str, array: NDArray[Any]) -> None:
        if name in self.tensors:
            raise WeightsError(f"its tensor {shown(name)} occurs twice")
        self.budget.spend(ARRAY)
        self.tensors[name] = array


def of_tensorflow(network: TensorFlowNetwork, budget: Budget) -> NetworkData:
    """Variables of a TensorFlow network and its parts under one roof."""
    names = Names("/", budget)
    attributes: dict[str, Any] = {}

    def visit(part: Any, prefix: str) -> None:
        names.enter(part, TensorFlowNetwork, prefix)
        said = part.said()
        attributes[f"{prefix}name"] = said["name"][:ATTRIBUTE_LENGTH]
        if prefix:
            attributes[f"{prefix}class_name"] = said["build_func_name"][:ATTRIBUTE_LENGTH]
            attributes[f"{prefix}settings"] = settings(said["static_kwargs"], budget)
        for variable in said["variables"]:
            if not isinstance(variable, list | tuple) or len(variable) != 2:
                raise WeightsError(f"its part {shown(prefix)} has a variable that is not a pair of name and values")
            name = names.join(prefix, variable[0])
            names.add(name, values(name, variable[1]))
        for name, component in said["components"].items():
            visit(component, names.join(prefix, name) + "/")

    visit(network, "")
    said = network.said()
    given = settings(said["static_kwargs"], budget)
    return NetworkData(said["build_func_name"][:ATTRIBUTE_LENGTH], given, names.tensors, attributes)


def settings(value: Any, budget: Budget) -> Any:
    """Settings that a network was built from, as plain data; numbers that no network has are refused.

    Networks are built to be compared with their tensors, and some grow with a setting before they can be compared.
    """
    made = plain(value, budget)

    def check(name: str, inner: Any) -> None:
        if isinstance(inner, dict):
            for key, entry in inner.items():
                check(str(key)[:NAME_LENGTH], entry)
        elif isinstance(inner, list):
            for entry in inner:
                check(name, entry)
        elif isinstance(inner, int | float) and not abs(inner) <= (LAYERS if "layers" in name else LARGEST):
            raise WeightsError(f"its setting {shown(name)} is {shown(inner)}, which no network of these families has")

    check("", made)
    return made


def values(name: str, value: Any) -> NDArray[Any]:
    """An array of a TensorFlow variable; those without axes are pickled as numbers."""
    array = value.named_array() if isinstance(value, NumpyArray) else value
    if isinstance(array, np.ndarray):
        return array
    if isinstance(value, np.generic | float) or (isinstance(value, int) and value.bit_length() < 64):
        return np.asarray(value)
    raise WeightsError(f"its tensor {shown(name)} is {shown(value)}; expected numbers")


def of_module(module: Module, budget: Budget) -> NetworkData:
    """Settings, attributes and tensors of a persistent module and its parts."""
    names = Names(".", budget)
    attributes: dict[str, Any] = {}

    def visit(part: Any, prefix: str) -> None:
        names.enter(part, Module, prefix)
        budget.spend(ENTRY * len(part.state))
        for kind in ("_parameters", "_buffers", "_modules"):
            entries = part.state.get(kind)
            if not isinstance(entries, dict) or not all(isinstance(name, str) and "." not in name for name in entries):
                raise WeightsError(f"its part {shown(prefix)} has no dictionary {kind}")
            for key, entry in entries.items():
                name = names.join(prefix, key)
                if entry is None:
                    continue
                if kind == "_modules":
                    visit(entry, f"{name}.")
                elif not isinstance(entry, Tensor):
                    raise WeightsError(f"its entry {shown(name)} is no tensor")
                else:
                    names.add(name, entry.array())
        for key, value in part.state.items():
            number = value.item() if isinstance(value, np.generic) else value
            short = isinstance(number, int | float | type(None)) or (
                isinstance(number, str) and len(number) <= ATTRIBUTE_LENGTH
            )
            if short and isinstance(key, str):
                attributes[names.join(prefix, key)] = number

    visit(module, "")
    given = settings(module.state.get("_init_kwargs", {}), budget)
    if plain(module.state.get("_init_args", ()), budget) != [] or not isinstance(given, dict):
        raise WeightsError("its network was built from unnamed arguments, which are not read")
    return NetworkData(module.class_name, given, names.tensors, attributes)


def plain(value: Any, budget: Budget) -> Any:
    """A copy of nested dictionaries, lists and numbers (tuples as lists, arrays too).

    Raises ForeignError for other things, WeightsError where the file has too much, what it names repeatedly included.
    """

    def copy(value: Any, depth: int) -> Any:
        if isinstance(value, NumpyArray) and value.array is not None:
            value = value.array
        count = math.prod(max(side, 1) for side in np.shape(value)) if isinstance(value, np.ndarray) else 1
        budget.plain_left -= count
        if budget.plain_left < 0 or depth > DEEPEST_VALUE:
            raise WeightsError(
                "its settings and other values are nested too deeply or are too many; at most "
                f"{PLAIN_LIMIT} in {DEEPEST_VALUE} levels are read, save its networks alone"
            )
        budget.spend(CONTAINER * count)
        if isinstance(value, dict):
            return {copy(key, depth + 1): copy(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [copy(entry, depth + 1) for entry in value]
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, str | int | float | type(None)):
            return value
        kind = str(value) if isinstance(value, Symbol) else type(value).__name__
        raise ForeignError(f"its settings hold a {kind}; expected text and numbers")

    return copy(value, 0)
