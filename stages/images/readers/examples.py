"""The protocol buffer `Example` of TensorFlow, as far as records of images need it; nothing is ever executed."""

from __future__ import annotations

from stages.weights.protobuf import PIECE, VARINT, Span, fields, signed, spans, varint


def features(data: memoryview) -> dict[str, Span]:
    """Name -> span of each feature; the last one of a name wins. Raises ValueError for what is no Example."""
    found: dict[str, Span] = {}
    for message in spans(data, (0, len(data)), 1):
        for entry in spans(data, message, 1):
            parts = {number: value for number, wire, value in fields(data, entry) if wire == PIECE}
            if 1 in parts:
                found[bytes(data[slice(*parts[1])]).decode("utf-8", "replace")] = parts.get(2, (0, 0))
    return found


def integers(data: memoryview, feature: Span) -> list[int]:
    """Values of an int64 list, packed or not."""
    values: list[int] = []
    for items in spans(data, feature, 3):
        for number, wire, (at, end) in fields(data, items):
            if number == 1 and wire == VARINT:
                values.append(at)
            while number == 1 and wire == PIECE and at < end:
                one, at = varint(data, at, end)
                values.append(one)
    return [signed(value) for value in values]


def texts(data: memoryview, feature: Span) -> list[Span]:
    """Spans of the values of a bytes list."""
    return [value for items in spans(data, feature, 1) for value in spans(data, items, 1)]
