"""Directories of tagged values: those of TIFF files (TIFF 6.0), and EXIF blocks, which have the same form (EXIF 2.3).

Of a TIFF file only its first picture is read, and only with 8 or 16 bits per channel and a compression that loses
nothing: what decoders make of the others is no 8-bit picture by any rule of theirs, or lacks parts without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ORIENTATION = 0x0112
EXIF, ICC = 34665, 34675
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""Types of whole numbers: BYTE, SHORT and LONG with and without a sign."""

COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
COLORS = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "YCbCr", 8: "LAB"}
"""Photometric interpretations as Pillow modes."""

MOST_PAGES = 10_000
OF_PIXELS = frozenset((256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339))
"""Tags that a decoder needs: size, samples, colors, strips and tiles."""


@dataclass(frozen=True)
class Directory:
    """`entries`: tag -> its 12 bytes; `following`: place of the next directory, 0 after the last."""

    order: str
    entries: dict[int, bytes]
    following: int

    def number(self, content: bytes, tag: int, default: int) -> int:
        """The first whole number of a tag; `default` where it has none."""
        values = self.numbers(content, tag)
        return values[0] if values else default

    def numbers(self, content: bytes, tag: int) -> tuple[int, ...]:
        """At most 16 whole numbers of a tag. Raises struct.error where they lie outside of `content`."""
        if tag not in self.entries:
            return ()
        entry = self.entries[tag]
        _, kind, count, place = struct.unpack(self.order + "HHII", entry)
        if kind not in WHOLE_NUMBERS or not count:
            return ()
        form = f"{self.order}{min(count, 16)}{WHOLE_NUMBERS[kind]}"
        if count * struct.calcsize(WHOLE_NUMBERS[kind]) <= 4:
            return struct.unpack_from(form, entry, 8)
        return struct.unpack_from(form, content, place)


@dataclass(frozen=True)
class Tiff:
    """What a TIFF file says of its first picture; `picture` is the file with the tags of its pixels alone."""

    width: int
    height: int
    mode: str
    pages: int
    orientation: int
    has_exif: bool
    has_icc: bool
    refused: str
    picture: bytes


def read_directory(content: bytes, at: int, order: str) -> Directory:
    """Raises struct.error where it is cut off."""
    count = struct.unpack_from(order + "H", content, at)[0]
    end = at + 2 + 12 * count
    following = struct.unpack_from(order + "I", content, end)[0]
    rows = (content[place : place + 12] for place in range(at + 2, end, 12))
    return Directory(order, {struct.unpack(order + "H", row[:2])[0]: row for row in reversed(list(rows))}, following)


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block; 0 where there is none, or the block is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 0
    try:
        at = struct.unpack_from(order + "I", exif, 4)[0]
        for place in range(at + 2, at + 2 + 12 * struct.unpack_from(order + "H", exif, at)[0], 12):
            entry = exif[place : place + 12]
            if len(entry) == 12 and struct.unpack(order + "H", entry[:2])[0] == ORIENTATION:
                value = Directory(order, {ORIENTATION: entry}, 0).numbers(exif, ORIENTATION)
                return value[0] if len(value) == 1 and 1 <= value[0] <= 8 else 0
    except struct.error:
        return 0
    return 0


def read_tiff(content: bytes) -> Tiff:
    """Facts of the first picture. Raises struct.error where a directory is cut off, ValueError where one is damaged."""
    order = BYTE_ORDERS[content[:4]]
    directories = list(_directories(content, order))
    first = directories[0]
    kinds = [directory.number(content, 254, 0) for directory in directories]
    pages = sum(not kind & 5 for kind in kinds)  # neither a reduced version nor a mask of another one
    bits = first.numbers(content, 258) or (1,)
    color = first.number(content, 262, 1)
    samples = first.number(content, 277, 1)
    mode = COLORS.get(color, f"{samples}ch")
    if mode in ("L", "RGB") and samples == len(mode) + 1:
        mode += "A"
    if max(bits) == 1 and mode == "L":
        mode = "1"
    entries = sorted(row for tag, row in first.entries.items() if tag in OF_PIXELS)
    return Tiff(
        width=first.number(content, 256, 0),
        height=first.number(content, 257, 0),
        mode=mode if max(bits) <= 8 else f"{mode};{max(bits)}",
        pages=max(pages, 1),
        orientation=exif_orientation(content),
        has_exif=EXIF in first.entries,
        has_icc=ICC in first.entries,
        refused=_refused(content, first, kinds[0], bits, color),
        picture=_with_one_directory(content, order, entries),
    )


def _directories(content: bytes, order: str) -> Iterator[Directory]:
    at, seen = struct.unpack_from(order + "I", content, 4)[0], set[int]()
    while at:
        if at in seen or len(seen) >= MOST_PAGES:
            raise ValueError(
                f"the TIFF file is damaged: its directories form a circle, or are more than {MOST_PAGES:,}"
            )
        seen.add(at)
        directory = read_directory(content, at, order)
        yield directory
        at = directory.following
    if not seen:
        raise ValueError("the TIFF file holds no image")


def _refused(content: bytes, first: Directory, kind: int, bits: tuple[int, ...], color: int) -> str:
    """Why the first picture cannot be taken, as a sentence; empty where it can."""
    compression = first.number(content, 259, 1)
    if kind & 5:
        return "begins with a thumbnail or a mask, expected the picture first (a camera's raw file?)"
    if compression not in COMPRESSIONS:
        known = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        return f"is a TIFF file of compression {compression}, expected one of {known}: save it as PNG"
    if len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16) or (bits[0] == 16 and color == 0):
        found = "16 bits with white as zero" if bits[0] == 16 else f"{max(bits)} bits per channel"
        return f"is a TIFF file of {found}, expected 8 or 16"
    if bits[0] == 16 and len(bits) > 1 and compression == 1 and first.number(content, 284, 1) == 2:
        return "is a TIFF file of 16 bits in planes, not compressed, which the decoder misreads: save it as PNG"
    if set(first.numbers(content, 339)) - {1}:
        return "is a TIFF file of signed or floating-point numbers, expected whole numbers without a sign"
    return ""


def _with_one_directory(content: bytes, order: str, entries: list[bytes]) -> bytes:
    """The file with a shorter directory of `entries` in the place of its first one, and no further ones."""
    at = struct.unpack_from(order + "I", content, 4)[0]
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:at] + directory + content[at + len(directory) :]
