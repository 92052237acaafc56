"""Safetensors files of this project: tensors, and one JSON text in the header's metadata that says what they are.

The library checks that a header is whole and that its tensors fill the rest of the file exactly; what it refuses is
named here for what it is. Headers are read without torch and without any tensor, so that planning stays light.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import printable, shown
from stages.weights.weights_file import HEADER_LIMIT, METADATA_KEY, WeightsError

FLOATS = ("F16", "F32")
MOST_AXES = 8


def read_header(
    path: Path,
    dtypes: Collection[str] = FLOATS,
    error: type[ValueError] = WeightsError,
    way_out: str = "get it again",
) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Description under "touchstone" in the metadata (plain data; None: there is none), and each tensor's shape.

    dtypes   which ones tensors may have, in the words of the format; none: any
    error    class of what is raised: one sentence that begins with the path; way_out: its end, where nothing else helps
    """
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as start:
            if int.from_bytes(start.read(8), "little") > HEADER_LIMIT:
                raise SafetensorError("header too large")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            kinds = {name: tensor.get_dtype() for name, tensor in tensors.items()}
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()}
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    except SafetensorError as problem:
        raise error(f"{path} is no whole safetensors file{_reason(path, str(problem), way_out)}") from problem
    for name, kind in sorted(kinds.items()):
        if dtypes and kind not in dtypes:
            raise error(f"{path}: tensor {shown(name)} has dtype {kind}; expected {' or '.join(dtypes)}")
        if len(shapes[name]) > MOST_AXES:
            raise error(f"{path}: tensor {shown(name)} has {len(shapes[name])} axes; expected {MOST_AXES} at most")
    try:
        return json.loads(metadata.get(METADATA_KEY, "null")), shapes
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: its description is not JSON ({problem})") from problem


def _reason(path: Path, library: str, way_out: str) -> str:
    """The rest of the sentence about a file that the library refuses."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        text = file.read(length) if length <= HEADER_LIMIT else b""
    if len(start) < 8 or length > HEADER_LIMIT:
        if start.lstrip()[:1] == b"<":
            return ": it is an HTML or XML page, not weights; download the file behind the page"
        if start[:2] in (b"PK", b"\x1f\x8b") or start[:1] == b"\x80":
            return ": it is a pickle or an archive, not safetensors; convert it before use"
        return f": one begins with a header of at most {HEADER_LIMIT} bytes, found {length}; {way_out}"
    if len(text) < length:
        return f": it is truncated: its header has {length} bytes, the file ends after {len(text)} of them; {way_out}"
    if "not fully covered" in library:  # of a header that is well formed
        tensors = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        needed, found = max((entry["data_offsets"][1] for entry in tensors.values()), default=0), size - 8 - length
        if needed > found:
            return f": it is truncated: its tensors need {needed} bytes, the file has {found}; {way_out}"
        return f": it has {found - needed} bytes behind its last tensor; expected none"
    said = library.removeprefix("Error while deserializing header: ")
    return f" ({printable(said, 300)}); {way_out}"


def pack(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """A file's bytes; equal tensors and an equal description give equal bytes, whatever their order."""
    from safetensors.numpy import save

    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    return save(whole, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})
