"""Official checkpoints of any container as plain data: `read_contents(path)`.

Pickles of TensorFlow networks (ProGAN, StyleGAN, StyleGAN2), pickles of persistent modules (stylegan2-ada-pytorch and
stylegan3), torch files, zip archives or older (StarGAN v2 and all foreign versions of the networks), frozen graphs and
checkpoints of TensorFlow (Glow). None needs its own library here: one stack machine reads all pickles as data, within a
budget. What a file is stands in its first bytes, or in its last ones; files that only look like a
checkpoint are named for what they are. Which family a checkpoint belongs to is the families' business (`official`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import printable, shown
from stages.weights import tensorflow_checkpoint
from stages.weights.arrays import ENTRY, NumpyArray, Record, Tensor, read_torch
from stages.weights.pickle_machine import Budget
from stages.weights.pickles import (
    ForeignError,
    Module,
    NetworkData,
    TensorFlowNetwork,
    of_module,
    of_tensorflow,
    plain,
    read_object,
)
from stages.weights.tensorflow_graph import begins_like_graph, read_constants
from stages.weights.weights_file import WeightsError

__all__ = ["Contents", "Converted", "NetworkData", "read_contents", "refusal"]

TENSORFLOW, PERSISTENCE = "tensorflow pickle", "persistence pickle"
TORCH_ZIP, TORCH_LEGACY = "torch zip", "torch legacy"
TENSORFLOW_GRAPH, TENSORFLOW_CHECKPOINT = "tensorflow graph", "tensorflow checkpoint"
LEGACY_START = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # the magic number
LEGACY_PLACES = (2, 11)  # of the magic number: behind the protocol, from protocol 4 on also behind a frame's length
OLD_PICKLE = re.compile(rb"\(*(?:[ci][\w.]+\n\w+\n|[dlt]p\d+\n|[}\])]q.|L\d+L\n)", re.DOTALL)  # protocols 0 and 1
JSON_START = re.compile(rb'\{\s*["}]|\[\s*["{[]')
DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
TUPLE_NAMES = ("G", "D", "Gs")
START = 4096  # bytes that show what a file is
NAME_LENGTH = 200  # of an entry, or of a tensor of a state dict
SENTENCE_LENGTH = 600
EXPECTED = (
    "expected an official checkpoint: a .pkl of NVIDIA's networks, a torch file, a frozen graph (.pb) or an .index of "
    "TensorFlow; take one that docs/checkpoints.md names, or download it again"
)
ZIP_END = b"PK\x05\x06"


@dataclass(frozen=True)
class Contents:
    """A checkpoint as plain data.

    container  "tensorflow pickle", "persistence pickle", "torch zip", "torch legacy", "tensorflow graph" or
               "tensorflow checkpoint"
    version    of the TensorFlow or persistence objects, or of the checkpoint; None for torch files and graphs
    networks   TensorFlow "G", "D", "Gs" (the average); persistence "G", "D", "G_ema"; torch files: each key whose value
               is a dictionary of tensors ("generator", "g_ema", ...), or "" if the file is one such dictionary, as
               the constants of a graph are
    extra      other top-level values: plain ones, and single tensors and arrays of numpy as arrays
    ignored    names of top-level values that are neither, such as the state of an optimizer
    """

    container: str
    version: int | None
    networks: Mapping[str, NetworkData]
    extra: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """A network of a checkpoint in our form.

    architecture  keyword arguments of the family's network
    tensors       float32 arrays by the names of its state dict
    truncation    {"psi", "cutoff"} that the authors suggest
    source        which network of the file it is, e.g. "Gs"
    notes         what a user should know about how it was read
    """

    family: str
    architecture: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]
    truncation: dict[str, Any]
    source: str
    notes: tuple[str, ...] = ()


def read_contents(path: Path) -> Contents:
    """Everything of an official checkpoint that is data; raises WeightsError, one sentence that begins with the path.

    Arrays are read-only views of the file's bytes where these stand in order. They are not checked for NaN.
    """
    path = Path(path)
    try:
        indexed = tensorflow_checkpoint.is_index(path)
        with path.open("rb") as file:
            kind = None if indexed else other_kind(file.read(START))
            file.seek(0)
            data = b"" if kind or indexed else file.read()
        if (beside := DATA.fullmatch(path.name)) is not None:
            kind = f"is the data of a TensorFlow checkpoint; give the file {beside[1]}.index beside it"
        if not kind:
            return _indexed(path) if indexed else read_bytes(data)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except WeightsError as error:
        raise refusal(path, error) from error
    raise WeightsError(f"{path} {kind}")


def _indexed(path: Path) -> Contents:
    """A checkpoint of TensorFlow, of several files."""
    tensors = tensorflow_checkpoint.read_tensors(path)
    return Contents(TENSORFLOW_CHECKPOINT, 2, {"": NetworkData("", {}, tensors, {})})


def refusal(path: Path, error: WeightsError) -> WeightsError:
    """The error of a file, in one line of bounded length whatever the file holds."""
    return WeightsError(f"{path} is refused: {printable(str(error), SENTENCE_LENGTH)}")


def other_kind(start: bytes) -> str | None:
    """What a file is that begins like this and is no checkpoint, and what to do; None if it may be a checkpoint."""
    if not start:
        return "is empty; download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the checkpoint itself; fetch the file with `git lfs pull`"
    if start.startswith(b"\x1f\x8b"):
        return "is packed with gzip; unpack it first with gunzip"
    if 2 <= int.from_bytes(start[:8], "little") <= 8 << 20 and start[8:9] == b"{":
        return "is a safetensors file, not an official checkpoint; only such files of this project hold generators"
    text = start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n")  # of 8, 16 or 32 bits a letter
    if text.startswith(b"<"):
        return "is an HTML or XML page, a web page in place of the file; download it again"
    if JSON_START.match(text):
        return "is a JSON text, perhaps an error message in place of the file; download it again"
    if OLD_PICKLE.match(start):
        return (
            "is a pickle of protocol 0 or 1, which is not read; load it with the program that wrote it and save it "
            "again with protocol 2 or later"
        )
    if not start.startswith((b"PK\x03\x04", b"\x80")) and not begins_like_graph(start):
        return f"is no checkpoint: it begins with {start[:8]!r}; {EXPECTED}"
    return None


def read_bytes(data: bytes) -> Contents:
    """As `read_contents`, for the bytes of a file; error sentences have no path."""
    budget = Budget(len(data))
    view = memoryview(data)
    if begins_like_graph(data[:START]):
        return Contents(TENSORFLOW_GRAPH, None, {"": NetworkData("", {}, read_constants(view, budget), {})})
    if data.startswith(b"PK"):
        if ZIP_END not in data[-70_000:]:
            raise WeightsError("it is a torch file that is cut off (its archive has no end); download it again")
        return of_torch(read_torch(view, budget, 0), TORCH_ZIP, budget)
    if any(data.startswith(LEGACY_START, place) for place in LEGACY_PLACES):
        return of_torch(read_torch(view, budget, 0), TORCH_LEGACY, budget)
    content = read_object(view, budget)
    if isinstance(content, TensorFlowNetwork):
        content = (content,)
    if isinstance(content, list | tuple) and any(isinstance(entry, TensorFlowNetwork) for entry in content):
        return of_tuple(content, budget)
    if isinstance(content, Module):
        content = {"D" if content.class_name == "Discriminator" else "G_ema": content}
    if isinstance(content, dict) and any(isinstance(entry, Module) for entry in content.values()):
        return of_dictionary(content, budget)
    raise WeightsError(f"it is a pickle of {shown(content)} without a network of a known kind; {EXPECTED}")


def of_tuple(content: list[Any] | tuple[Any, ...], budget: Budget) -> Contents:
    """TensorFlow: (G, D, Gs), or one network, which is taken for the average unless its name or function differs."""
    if len(content) not in (1, 3) or not all(isinstance(entry, TensorFlowNetwork) for entry in content):
        raise WeightsError(
            f"it is a pickle of {len(content)} objects; expected the networks G, D and Gs, or one network"
        )
    networks = [of_tensorflow(entry, budget) for entry in content]
    names: tuple[str, ...] = TUPLE_NAMES
    if len(networks) == 1:
        name = networks[0].attributes["name"]
        names = (name if name in TUPLE_NAMES else "D" if networks[0].class_name.startswith("D_") else "Gs",)
    return Contents(TENSORFLOW, content[-1].said()["version"], dict(zip(names, networks, strict=True)))


def of_dictionary(content: dict[Any, Any], budget: Budget) -> Contents:
    """Persistent modules under the names that training gave them; the augmentation is not kept.

    A module alone (see `read_bytes`) has no name, and is taken for the average unless it is a discriminator.
    """
    classes = {value.class_name for value in content.values() if isinstance(value, Module)}
    if not classes & {"Generator", "Discriminator"}:
        raise WeightsError(f"it holds a {min(classes)}, a part of a network or training; take the file that has G_ema")
    networks: dict[str, NetworkData] = {}
    extra: dict[str, Any] = {}
    for name, value in content.items():
        _check_name("an entry", name)
        if isinstance(value, Module):
            if value.class_name != "AugmentPipe":
                networks[name] = of_module(value, budget)
        else:
            extra[name] = plain(value, budget)
    return Contents(PERSISTENCE, 6, networks, extra)


def of_torch(content: Any, container: str, budget: Budget) -> Contents:
    """State dicts of a torch file, whatever else it holds."""
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"it is a torch file of {shown(content)}; expected dictionaries of tensors (state dicts), save these"
        )
    if _is_state(content):
        return Contents(container, None, {"": _state(content)})
    networks: dict[str, NetworkData] = {}
    extra: dict[str, Any] = {}
    ignored = []
    for name, value in content.items():
        _check_name("an entry", name)
        budget.spend(ENTRY * (len(value) if isinstance(value, dict) else 1))  # one dictionary can have many names
        if isinstance(value, Tensor):
            extra[name] = value.array()
        elif isinstance(value, NumpyArray) and value.array is not None:
            extra[name] = value.named_array()
        elif _is_state(value):
            networks[name] = _state(value)
        else:
            try:
                extra[name] = plain(value.state if isinstance(value, Record) else value, budget)
            except ForeignError:
                ignored.append(name)
    if not networks:
        raise WeightsError(f"it is a torch file without a dictionary of tensors (a state dict); {EXPECTED}")
    return Contents(container, None, networks, extra, tuple(ignored))


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or len(name) > NAME_LENGTH:
        raise WeightsError(f"it has {what} named {shown(name)}; expected a text of at most {NAME_LENGTH} characters")


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(entry, Tensor) for entry in value.values())


def _state(tensors: dict[Any, Tensor]) -> NetworkData:
    """One state dict; the prefix that DataParallel adds to every name is taken off."""
    for name in tensors:
        _check_name("a tensor", name)
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    arrays = {name.removeprefix(prefix): tensor.array() for name, tensor in tensors.items()}
    return NetworkData("", {}, arrays, {"prefix": prefix} if prefix else {})
