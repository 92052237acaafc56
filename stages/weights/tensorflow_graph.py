"""Constants of a frozen TensorFlow graph (GraphDef, `.pb`), as data: no node is run, and no other node is read.

The messages are those of TensorFlow's `graph.proto`, `node_def.proto`, `attr_value.proto`, `tensor.proto`: GraphDef.1
is a NodeDef (1 name, 2 operation, 5 attributes by name), whose attribute "value" has under 8 a TensorProto (1 type, 2
shape, 4 content, 5, 6 and 13 numbers).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import shown
from stages.weights.pickle_machine import Budget
from stages.weights.protobuf import FOUR_BYTES, PIECE, VARINT, Span, fields, signed, spans, varint
from stages.weights.weights_file import WeightsError

FLOATS = {1: "<f4", 2: "<f8", 19: "<f2"}
"""Numbers of TensorFlow's floating-point types -> those of numpy."""

NUMBERS = {1: 5, 2: 6, 19: 13}
"""Fields of a TensorProto that list the values of such a type."""

MOST_AXES = 8
NODE = 500  # bytes charged for a node
NAME_LENGTH = 200


def begins_like_graph(start: bytes) -> bool:
    """Whether the first bytes may be those of a graph: a node, whose name comes first."""
    if start[:1] != b"\x0a":
        return False
    try:
        _, at = varint(memoryview(start), 1, len(start))
    except ValueError:
        return False
    return start[at : at + 1] == b"\x0a"


def read_constants(data: memoryview, budget: Budget) -> dict[str, NDArray[Any]]:
    """Name -> values of each constant of floating-point numbers; raises WeightsError, without a path.

    Arrays are views of `data` where it holds their bytes.
    """
    found: dict[str, NDArray[Any]] = {}
    try:
        for node in spans(data, (0, len(data)), 1):
            budget.spend(NODE)
            name, tensor = _constant(data, node)
            if tensor is None:
                continue
            if name in found:
                raise WeightsError(f"its graph has two constants of the name {shown(name)}")
            array = _values(data, tensor, name, budget)
            if array is not None:
                found[name] = array
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"it is a damaged TensorFlow graph, download it again: {error}") from error
    if not found:
        raise WeightsError("it is a TensorFlow graph without constants; take the frozen graph, which holds the weights")
    return found


def _constant(data: memoryview, node: Span) -> tuple[str, Span | None]:
    """Name of a node, and its tensor if it is a constant."""
    parts = {1: b"", 2: b""}
    attributes = []
    for number, wire, (at, end) in fields(data, node):
        if wire == PIECE and number in parts:
            parts[number] = bytes(data[at : min(end, at + NAME_LENGTH + 1)])
        elif wire == PIECE and number == 5:
            attributes.append((at, end))
    if parts[2] != b"Const":
        return "", None
    if len(parts[1]) > NAME_LENGTH:
        raise WeightsError(f"its graph has a constant whose name has more than {NAME_LENGTH} characters")
    name = parts[1].decode("utf-8", "replace")
    for attribute in attributes:
        entry = {number: value for number, wire, value in fields(data, attribute) if wire == PIECE}
        if 1 in entry and 2 in entry and data[slice(*entry[1])] == b"value":
            tensors = list(spans(data, entry[2], 8))
            return name, tensors[-1] if tensors else None
    return name, None


def _values(data: memoryview, tensor: Span, name: str, budget: Budget) -> NDArray[Any] | None:
    """The array of a TensorProto; None: of another type."""
    kind, content, lists = 0, None, []
    shape: tuple[int, ...] = ()
    for number, wire, value in fields(data, tensor):
        if number == 1 and wire == VARINT:
            kind = value[0]
        elif number == 2 and wire == PIECE:
            shape = shape_of(data, value)
        elif number == 4 and wire == PIECE:
            content = value
        elif number in NUMBERS.values():
            lists.append((number, wire, value))
    if kind not in FLOATS:
        return None
    dtype, where = np.dtype(FLOATS[kind]), f"its constant {shown(name)} of shape {shape}"
    count = math.prod(shape)
    if content is not None and content[1] > content[0]:
        if content[1] - content[0] != count * dtype.itemsize:
            needed = count * dtype.itemsize
            raise WeightsError(f"{where} needs {needed} bytes and has {content[1] - content[0]}")
        return np.frombuffer(data[slice(*content)], dtype).reshape(shape)
    listed = _listed(data, kind, [one for one in lists if one[0] == NUMBERS[kind]])
    if len(listed) > max(count, 1) or (count and not len(listed)):
        raise WeightsError(f"{where} needs {count} values and has {len(listed)}")
    budget.spend(count * dtype.itemsize)
    array = np.full(count, listed[-1] if len(listed) else 0, dtype)  # the last value stands for all that follow
    array[: len(listed)] = listed[:count]
    return array.reshape(shape)


def _listed(data: memoryview, kind: int, lists: list[tuple[int, int, Span]]) -> NDArray[Any]:
    """Values that are listed one by one or packed."""
    dtype = np.dtype(FLOATS[kind])
    if kind == 19:  # half precision, as integers
        bits: list[int] = []
        for _, wire, (at, end) in lists:
            if wire == VARINT:
                bits.append(at)
            while wire == PIECE and at < end:
                one, at = varint(data, at, end)
                bits.append(one)
        if any(one >> 16 for one in bits):
            raise WeightsError("its graph has a number of half precision with more than 16 bits")
        return np.array(bits, np.uint16).view(dtype)
    single = FOUR_BYTES if kind == 1 else 1
    if any(wire not in (PIECE, single) or (end - at) % dtype.itemsize for _, wire, (at, end) in lists):
        raise ValueError("a list of numbers is no list of whole numbers of bytes")
    return np.frombuffer(b"".join(data[slice(*span)] for _, _, span in lists), dtype)


def shape_of(data: memoryview, span: Span) -> tuple[int, ...]:
    """Sides of a TensorShapeProto (2 dimensions, each 1 size; 3: unknown); raises ValueError or WeightsError."""
    sides: list[int] = []
    for number, wire, value in fields(data, span):
        if number == 2 and wire == PIECE:
            sides.append(0)
            for inner, kind, (size, _) in fields(data, value):
                if inner == 1 and kind == VARINT:
                    sides[-1] = signed(size)
        elif number == 3 and wire == VARINT and value[0]:
            raise WeightsError("it has a tensor of unknown shape")
    if len(sides) > MOST_AXES or any(side < 0 for side in sides):
        raise WeightsError(
            f"it has a tensor of shape {tuple(sides[: MOST_AXES + 1])}; expected at most {MOST_AXES} sides"
        )
    return tuple(sides)
