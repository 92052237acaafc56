"""Our own file of generator weights: one safetensors file that says which network it holds.

Official checkpoints are pickles; here weights are plain data (safetensors), and the header's `__metadata__` has one
entry, "touchstone", a JSON text with the family, the arguments of its network, its dimensions and its usual truncation.
`read_header` needs no torch, so that planning knows the size of images without loading anything; `load` compares
every tensor's name and shape with the network that the header describes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
FAMILIES = {"stylegan2": "stages.generators.stylegan2"}
METADATA_KEY = "touchstone"
HEADER_LIMIT = 8 << 20  # bytes; the largest network of the paper needs 40 KiB
ITEM_BYTES = {"F16": 2, "F32": 4}
DIMENSIONS = ("resolution", "z_dim", "w_dim", "c_dim")


class WeightsError(ValueError):
    """A weights file is not what it should be; one sentence, begins with the file's path."""


@dataclass(frozen=True)
class Header:
    """What a weights file says about itself.

    dimensions   resolution (pixels), z_dim, w_dim, c_dim (0: unconditional)
    truncation   {"psi": float, "cutoff": int or None}: values that the authors of the weights suggest
    shapes       tensor name -> shape
    """

    family: str
    architecture: Mapping[str, Any]
    dimensions: Mapping[str, int]
    truncation: Mapping[str, Any] = field(default_factory=lambda: {"psi": 1.0, "cutoff": None})
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def resolution(self) -> int:
        return self.dimensions["resolution"]

    @property
    def module(self) -> str:
        """Module of the family: it has `build(architecture)`, `draw(...)` and `render(...)`."""
        return FAMILIES[self.family]


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
    if start.lstrip()[:1] == b"<":
        raise WeightsError(f"{path} is an HTML or XML page, not weights; download the file behind the page")
    if start[:2] in (b"PK", b"\x1f\x8b") or start[:1] == b"\x80":
        raise WeightsError(f"{path} is a pickle or an archive, not safetensors; convert it before use")
    if len(start) < 8 or length > HEADER_LIMIT:
        expected = f"a safetensors file begins with a header of at most {HEADER_LIMIT} bytes"
        raise WeightsError(f"{path} is no safetensors file: {expected}, found {length}")
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
            raise WeightsError(f"{path}: the header entry of tensor {name!r} is not dtype, shape and data_offsets")
        kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in ITEM_BYTES:
            raise WeightsError(f"{path}: tensor {name!r} has dtype {kind}; expected {' or '.join(ITEM_BYTES)}")
        if not _naturals(shape) or not _naturals(place) or len(place) != 2:
            raise WeightsError(
                f"{path}: tensor {name!r} has shape {shape!r} at {place!r}, expected lists of integers >= 0"
            )
        expected = ITEM_BYTES[kind]
        for side in shape:
            expected *= side
        if place[1] - place[0] != expected:
            raise WeightsError(f"{path}: tensor {name!r} needs {expected} bytes and has {place[1] - place[0]}")
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
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(number) is int and number >= 0 for number in value)


def _described(path: Path, metadata: Any, shapes: Mapping[str, tuple[int, ...]]) -> Header:
    """The description under "touchstone" in the metadata."""
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise WeightsError(f"{path} holds tensors but no description of a generator (metadata entry {METADATA_KEY!r})")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its description is not JSON ({error})") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(f"{path} is of format {found!r}; this version reads format {FORMAT}")
    if about.get("family") not in FAMILIES:
        raise WeightsError(
            f"{path} holds a generator of family {about.get('family')!r}; known are {', '.join(FAMILIES)}"
        )
    architecture, dimensions, truncation = (about.get(key) for key in ("architecture", "dimensions", "truncation"))
    if not isinstance(architecture, dict):
        raise WeightsError(f"{path}: its description has no architecture")
    if not isinstance(dimensions, dict) or not _naturals([dimensions.get(key) for key in DIMENSIONS]):
        raise WeightsError(f"{path}: its description lacks one of the dimensions {', '.join(DIMENSIONS)}")
    if any(architecture.get(key) != dimensions[key] for key in DIMENSIONS):
        raise WeightsError(f"{path}: its dimensions {dimensions} are not those of its architecture {architecture}")
    if not isinstance(truncation, dict) or set(truncation) != {"psi", "cutoff"}:
        raise WeightsError(f"{path}: its truncation is {truncation!r}, expected psi and cutoff")
    return Header(about["family"], architecture, dimensions, truncation, shapes)


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
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fill(where: str, network: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> nn.Module:
    """Put checked tensors into a network (built on the "meta" device or not); returns it in evaluation mode."""
    import torch

    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    checked = check_tensors(where, tensors, expected)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in checked.items()}, assign=True)
    return network.eval().requires_grad_(False)


def build(where: str, header: Header) -> tuple[ModuleType, nn.Module]:
    """Family module and the network of a header, without values (device "meta")."""
    import torch

    family = import_module(header.module)
    try:
        with torch.device("meta"):
            return family, family.build(header.architecture)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{where}: its architecture {dict(header.architecture)} cannot be built: {error}") from error


def load(path: Path) -> tuple[ModuleType, nn.Module]:
    """Family module and generator (float32, CPU, evaluation mode) of a weights file; raises WeightsError."""
    from safetensors.numpy import load_file

    header = read_header(path)
    family, network = build(str(path), header)
    return family, fill(str(path), network, load_file(path))


def save(
    path: Path,
    family: str,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    truncation: Mapping[str, Any] | None = None,
) -> Header:
    """Write a weights file (float32), after checking it against its network; the same input gives the same bytes.

    The file appears whole or not at all (temporary name, then rename).
    """
    from safetensors.numpy import save as serialize

    dimensions = {key: int(architecture[key]) for key in DIMENSIONS}
    header = Header(family, dict(architecture), dimensions, truncation or {"psi": 1.0, "cutoff": None})
    _, network = build(str(path), header)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    checked = check_tensors(str(path), tensors, expected)
    about = {
        "format": FORMAT,
        "family": family,
        "architecture": header.architecture,
        "dimensions": header.dimensions,
        "truncation": header.truncation,
    }
    content = serialize(checked, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return read_header(path)
