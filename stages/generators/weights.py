"""Our own file of the weights of a generator or discriminator: one safetensors file that says which network it holds.

Official checkpoints are pickles; here weights are plain data (safetensors), and the header's `__metadata__` has one
entry, "touchstone", a JSON text with the family, the arguments of its network, its dimensions, its usual truncation and
the names of its domains. `read_header` needs no torch, so that planning knows the size of images without loading
anything; `load` compares every tensor's name and shape with the network that the header describes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_bytes
from stages import GENERATORS
from stages.sentences import printable, shown
from stages.weights.kinds import NetworkKind, refuse_other
from stages.weights.weights_file import HEADER_LIMIT, METADATA_KEY, WeightsError

if TYPE_CHECKING:
    from torch import nn

KIND = NetworkKind(description="a generator; use it as `checkpoint` of sample or translate")
FORMAT = 1
FAMILIES = {name: f"stages.generators.{name}" for name in GENERATORS}
DISCRIMINATORS = {name: f"{module}_discriminator" for name, module in FAMILIES.items()}
NETWORKS = {"generator": FAMILIES, "discriminator": DISCRIMINATORS}
ITEM_BYTES = {"F16": 2, "F32": 4}
DIMENSIONS = ("resolution", "z_dim", "w_dim", "c_dim")


@dataclass(frozen=True)
class Header:
    """What a weights file says about itself.

    dimensions   resolution (pixels), z_dim, w_dim, c_dim (0: unconditional); 0 also where the network has none
    truncation   {"psi": float, "cutoff": int or None}: values that the authors of the weights suggest
    shapes       tensor name -> shape
    network      "generator" or "discriminator"
    domains      names of the c_dim classes, or () if the file does not name them
    """

    family: str
    architecture: Mapping[str, Any]
    dimensions: Mapping[str, int]
    truncation: Mapping[str, Any] = field(default_factory=lambda: {"psi": 1.0, "cutoff": None})
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    network: str = "generator"
    domains: tuple[str, ...] = ()

    @property
    def resolution(self) -> int:
        return self.dimensions["resolution"]

    @property
    def module(self) -> str:
        """Module of the network: a family's has `build(architecture)`, `draw(...)` and `render(...)`."""
        return NETWORKS[self.network][self.family]


def read_header(path: Path) -> Header:
    """Header of a weights file, without torch and without reading weights; raises WeightsError."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            text = file.read(length) if length <= HEADER_LIMIT else b""
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(start) < 8 or length > HEADER_LIMIT:
        if start.lstrip()[:1] == b"<":
            raise WeightsError(f"{path} is an HTML or XML page, not weights; download the file behind the page")
        if start[:2] in (b"PK", b"\x1f\x8b") or start[:1] == b"\x80":
            raise WeightsError(f"{path} is a pickle or an archive, not safetensors; convert it before use")
        expected = f"a safetensors file begins with a header of at most {HEADER_LIMIT} bytes"
        raise WeightsError(f"{path} is no safetensors file, or damaged: {expected}, found {length}; get it again")
    if len(text) < length:
        raise WeightsError(
            f"{path} is truncated: its header has {length} bytes, the file ends after {len(text)} of them"
        )
    try:
        header = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is no safetensors file: its header is not JSON of named tensors ({error})"
        ) from error
    if not isinstance(header, dict):
        raise WeightsError(
            f"{path} is no safetensors file: its header is a JSON {type(header).__name__}, not an object"
        )
    metadata = header.pop("__metadata__", {})
    shapes = _shapes(path, header, size - 8 - length)
    return _described(path, metadata, shapes)


def _shapes(path: Path, entries: Mapping[str, Any], data_bytes: int) -> dict[str, tuple[int, ...]]:
    """Check dtypes, shapes and places of all tensors: they must fill the rest of the file exactly."""
    shapes: dict[str, tuple[int, ...]] = {}
    places: list[tuple[int, int]] = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise WeightsError(f"{path}: the header entry of tensor {shown(name)} is not dtype, shape and data_offsets")
        kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in ITEM_BYTES:
            found = f"{printable(str(kind))}; expected {' or '.join(ITEM_BYTES)}"
            raise WeightsError(f"{path}: tensor {shown(name)} has dtype {found}")
        if not _naturals(shape) or not _naturals(place) or len(place) != 2:
            found = f"shape {printable(repr(shape))} at {printable(repr(place))}"
            raise WeightsError(f"{path}: tensor {shown(name)} has {found}, expected lists of integers >= 0")
        expected = ITEM_BYTES[kind]
        for side in shape:
            expected *= side
        if place[1] - place[0] != expected:
            raise WeightsError(f"{path}: tensor {shown(name)} needs {expected} bytes and has {place[1] - place[0]}")
        shapes[name] = tuple(shape)
        places.append((place[0], place[1]))
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise WeightsError(f"{path}: tensors overlap or leave a gap at byte {min(first, end)} of the data")
        end = last
    if end > data_bytes:
        raise WeightsError(f"{path} is truncated: its tensors need {end} bytes, the file has {data_bytes}")
    if end < data_bytes:
        raise WeightsError(f"{path} has {data_bytes - end} bytes behind its last tensor; expected none")
    return shapes


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {shown(next(name for name in names if names.count(name) > 1))} occurs twice")
    return found


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(number) is int and number >= 0 for number in value)


def _described(path: Path, metadata: Any, shapes: Mapping[str, tuple[int, ...]]) -> Header:
    """The description under "touchstone" in the metadata."""
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise WeightsError(f"{path} holds tensors but no description of a network (metadata entry {METADATA_KEY!r})")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its description is not JSON ({error})") from error
    refuse_other(path, about, "generator")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(f"{path} is of format {printable(repr(found))}; this version reads format {FORMAT}")
    family, network = about.get("family"), about.get("network", "generator")
    if not isinstance(family, str) or family not in FAMILIES or str(network) not in NETWORKS:
        known = f"known are {' and '.join(NETWORKS)} of {', '.join(FAMILIES)}"
        raise WeightsError(f"{path} holds a network {shown(network)} of family {shown(family)}; {known}")
    architecture, dimensions, truncation = (about.get(key) for key in ("architecture", "dimensions", "truncation"))
    if not isinstance(architecture, dict):
        raise WeightsError(f"{path}: its description has no architecture")
    if not isinstance(dimensions, dict) or not _naturals([dimensions.get(key) for key in DIMENSIONS]):
        raise WeightsError(f"{path}: its description lacks one of the dimensions {', '.join(DIMENSIONS)}")
    if any(architecture.get(key, 0) != dimensions[key] for key in DIMENSIONS):
        found = f"{printable(str(dimensions))} are not those of its architecture {printable(str(architecture))}"
        raise WeightsError(f"{path}: its dimensions {found}")
    if not isinstance(truncation, dict) or set(truncation) != {"psi", "cutoff"} or not _truncates(**truncation):
        found = printable(repr(truncation))
        raise WeightsError(f"{path}: its truncation is {found}, expected psi, a number, and cutoff, a count")
    domains = about.get("domains", [])
    if not isinstance(domains, list) or not _named(domains, dimensions["c_dim"]):
        found = f"{printable(repr(domains))}, expected {dimensions['c_dim']} different names"
        raise WeightsError(f"{path}: its domains are {found}")
    return Header(family, architecture, dimensions, truncation, shapes, network, tuple(domains))


def _truncates(psi: Any, cutoff: Any) -> bool:
    return type(psi) in (int, float) and math.isfinite(psi) and (cutoff is None or (type(cutoff) is int and cutoff > 0))


def _named(domains: Sequence[Any], classes: int) -> bool:
    """No names, or one of its own for each class."""
    names = {name for name in domains if isinstance(name, str) and name}
    return not domains or len(domains) == len(names) == classes


def check_tensors(
    where: str, found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """`found` as float32, if names and shapes are those `expected` and all values are finite; else WeightsError."""
    missing, leftover = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or leftover:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has the unknown {_some(leftover)}"] * bool(leftover)
        raise WeightsError(f"{where} does not fit its network: it {' and '.join(parts)}")
    for name, array in found.items():
        if tuple(array.shape) != tuple(expected[name]):
            needed = tuple(expected[name])
            raise WeightsError(f"{where}: tensor {name!r} has shape {tuple(array.shape)}, its network needs {needed}")
        if not np.isfinite(array).all():
            count = int(np.size(array) - np.isfinite(array).sum())
            raise WeightsError(f"{where}: tensor {name!r} has {count} values that are not finite (NaN or infinity)")
    return {name: np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape) for name, array in found.items()}


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fill(where: str, network: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> nn.Module:
    """Put checked tensors into a network (built on the "meta" device or not); returns it in evaluation mode."""
    import torch

    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    checked = check_tensors(where, tensors, expected)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in checked.items()}, assign=True)
    return network.eval().requires_grad_(False)


def build(where: str, header: Header) -> tuple[ModuleType, nn.Module]:
    """Module of the network of a header, and this network without values (device "meta")."""
    import torch

    module = import_module(header.module)
    try:
        with torch.device("meta"):
            if header.network == "generator":
                network = module.build(header.architecture)
            else:
                network = module.Discriminator(**header.architecture)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        architecture = printable(str(dict(header.architecture)), 400)
        reason = printable(str(error), 200)
        raise WeightsError(f"{where}: its architecture {architecture} cannot be built: {reason}") from error
    for key, stated in header.dimensions.items():
        if getattr(network, key, stated) != stated:
            raise WeightsError(f"{where}: its architecture must name {key}, which is {getattr(network, key)}")
    return module, network


def load(path: Path, network: str | None = None) -> tuple[ModuleType, nn.Module]:
    """Module and network (float32, CPU, evaluation mode) of a weights file; raises WeightsError.

    network  "generator" or "discriminator": refuse a file that holds the other
    """
    from safetensors.numpy import load_file

    header = read_header(path)
    if network not in (None, header.network):
        raise WeightsError(f"{path} holds a {header.network}; a {network} is wanted")
    module, empty = build(str(path), header)
    return module, fill(str(path), empty, load_file(path))


def save(
    path: Path,
    family: str,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    truncation: Mapping[str, Any] | None = None,
    network: str = "generator",
    domains: Sequence[str] = (),
) -> Header:
    """Write a weights file (float32), after checking it against its network; the same input gives the same bytes.

    architecture  keyword arguments of the network; they name each dimension that it has
    domains       names of its c_dim classes, or nothing
    The file appears whole or not at all (temporary name, then rename). Raises WeightsError.
    """
    from safetensors.numpy import save as serialize

    about = {
        "format": FORMAT,
        "network": network,
        "family": family,
        "architecture": dict(architecture),
        "dimensions": {key: architecture.get(key, 0) for key in DIMENSIONS},
        "truncation": dict(truncation or {"psi": 1.0, "cutoff": None}),
    }
    if domains:
        about["domains"] = list(domains)
    text = json.dumps(about, sort_keys=True)
    _, empty = build(str(path), _described(path, {METADATA_KEY: text}, {}))
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    checked = check_tensors(str(path), tensors, expected)
    content = serialize(checked, metadata={METADATA_KEY: text})
    write_bytes(Path(path), content)
    return read_header(path)
