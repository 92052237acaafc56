"""How a file was coded, beyond what its rows keep: the encoder's habits, and what its metadata say.

`stages.images.containers` says what a decoder needs; this reads the same segments and chunks once more for traces of
the program that wrote them. Nothing here fails: a file of which `inspect` gives a container has facts.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.images import jpeg_segments
from stages.images.containers import Container, png_chunks, webp_chunks
from stages.images.jpeg_quality import table
from stages.images.tiff_directories import BYTE_ORDERS, read_directory

NONE, PRESENT = "none", "present"
TEXT_BYTES = 80
"""Of a text in the metadata, as much is compared."""
MOST_TEXTS, MOST_SEGMENTS = 32, 40
MOST_UNPACKED = 2**22
"""Bytes of a PNG that are unpacked to see its filters."""

PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME", b"PLTE", b"tRNS")
"""Chunks that other checks look at."""

EXIF_TEXTS = {0x010F: "Make", 0x0131: "Software"}
STANDARD_HUFFMAN = frozenset({"2f66814c", "a6283a08", "602f734c", "13f90e3c"})
"""Digests of the four tables of T.81, annex K.3 (counts and values), which every encoder has that does not optimize."""


@dataclass
class Coding:
    """Facts of one file, as plain data.

    tables    short name of the JPEG tables, "" where it has none; coarseness: mean step of luma over that of quality 50
    encoder   habits as one text; picture_bytes: coded bytes without metadata; depth: stored bits per channel
    icc, exif digest of the content, or "none"; texts: key=value
    From `encoder` on, None: not known, as of rows of which only the facts of `ingest` are kept.
    """

    codec: str
    mode: str
    width: int
    height: int
    orientation: int = 0
    subsampling: str = ""
    tables: str = ""
    coarseness: float = 0.0
    icc: str = NONE
    exif: str = NONE
    encoder: str | None = None
    picture_bytes: int | None = None
    progressive: bool | None = None
    depth: int | None = None
    texts: tuple[str, ...] | None = None


def coding(content: bytes, container: Container) -> Coding:
    """Facts of a file that `inspect` has taken."""
    found = of_container(container)
    found.encoder, found.picture_bytes = container.codec, len(container.picture)
    found.progressive, found.depth, found.texts = False, 16 if ";16" in container.mode else 8, ()
    read = READERS.get(container.codec)
    if read is not None:
        try:
            read(content, found)
        except (struct.error, IndexError, ValueError, zlib.error):
            found.encoder += " damaged"
    found.texts = tuple(sorted(set(found.texts)))
    return found


def of_container(container: Container) -> Coding:
    """What `ingest` keeps of a file, too."""
    return Coding(
        container.codec, container.mode, container.width, container.height, container.orientation,
        container.subsampling, *table_facts(container.quantization), PRESENT if container.has_icc else NONE,
        PRESENT if container.has_exif else NONE,
    )  # fmt: skip


def table_facts(quantization: NDArray[np.uint16]) -> tuple[str, float]:
    """Short name and coarseness of (2, 64) tables of luma and chroma."""
    if not quantization.any():
        return "", 0.0
    return f"{zlib.crc32(quantization.tobytes()):08x}", float(quantization[0].mean() / table(50).mean())


def _png(content: bytes, found: Coding) -> None:
    order: list[str] = []
    packed: list[bytes] = []
    header = b""
    for kind, start, end in png_chunks(content):
        body, name = content[start:end], kind.decode("latin-1")
        if kind == b"IHDR":
            header = body
        elif kind == b"iCCP":
            found.icc = _digest(body)
        elif kind == b"eXIf":
            _exif(body, found)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _add_text(found, _png_text(kind, body))
        elif kind == b"IDAT":
            packed.append(body)
        if kind not in PNG_METADATA:
            _append(order, name)
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    stream = b"".join(packed)
    line = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1) + 7) // 8
    filters = "interlaced" if interlaced else _filters(stream, line, min(height, MOST_UNPACKED // line))
    found.encoder = f"png zlib {stream[:2].hex()} {filters} {'-'.join(order)}"
    found.picture_bytes = len(stream)


def _filters(stream: bytes, line: int, lines: int) -> str:
    """Whether a PNG uses filters; its rows are `line` bytes long."""
    unpacked = zlib.decompressobj().decompress(stream, max(line * lines, 1))
    return "filtered" if any(unpacked[::line]) else "plain"


def _png_text(kind: bytes, body: bytes) -> str:
    """key=value of a tEXt, zTXt or iTXt chunk (PNG, 11.3.3)."""
    key, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        rest = _unpacked(rest[1:])
    elif kind == b"iTXt":
        flag, tail = rest[:1], rest[2:].split(b"\0", 2)[-1]
        rest = _unpacked(tail) if flag == b"\1" else tail
    return _pair(key, rest)


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, TEXT_BYTES)
    except zlib.error:
        return b""


def _pair(key: bytes, value: bytes) -> str:
    shown = value[:TEXT_BYTES].decode("utf-8", "replace").strip("\0 \r\n\t")
    return f"{key[:TEXT_BYTES].decode('latin-1')}={shown}"


def _jpeg(content: bytes, found: Coding) -> None:
    order: list[str] = []
    tables: list[bytes] = []
    found.icc = NONE
    for marker, body, _, _ in jpeg_segments.segments(content):
        if marker in jpeg_segments.FRAMES:
            found.progressive = marker & 3 == 2
            name = "SOF"
        elif marker == 0xE1:
            if body.startswith(b"Exif\0\0") and found.exif == PRESENT:
                _exif(body, found)
            continue
        elif marker == jpeg_segments.COMMENT:
            _add_text(found, _pair(b"comment", body))
            continue
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            found.icc = _digest(found.icc.encode() + body)
            continue
        elif 0xE2 <= marker <= 0xEF and marker != jpeg_segments.ADOBE:
            continue
        else:
            name = f"{marker:02X}"
        if marker == 0xC4:
            tables += _huffman_tables(body)
        _append(order, name)
    kind = "standard" if all(_digest(table) in STANDARD_HUFFMAN for table in tables) else "own"
    found.encoder = f"jpeg Huffman {kind} {'-'.join(order)}"


def _huffman_tables(body: bytes) -> Iterator[bytes]:
    """Counts and values of each table of a DHT segment (T.81, B.2.4.2)."""
    at = 0
    while at + 17 <= len(body):
        size = 16 + sum(body[at + 1 : at + 17])
        yield body[at + 1 : at + 1 + size]
        at += 1 + size


def _webp(content: bytes, found: Coding) -> None:
    kinds: list[str] = []
    for kind, start, end in webp_chunks(content):
        body = content[start:end]
        if kind == b"EXIF":
            _exif(body, found)
        elif kind == b"ICCP":
            found.icc = _digest(body)
        elif kind not in (b"XMP ", b"VP8X"):
            _append(kinds, kind.decode("latin-1").strip())
        if kind in (b"EXIF", b"ICCP", b"XMP ", b"VP8X"):
            found.picture_bytes = (found.picture_bytes or 0) - 8 - len(body)
    found.encoder = f"webp {'-'.join(dict.fromkeys(kinds))}"


def _exif(body: bytes, found: Coding) -> None:
    """Digest, maker and program of an EXIF block."""
    found.exif = _digest(body)
    block = body.removeprefix(b"Exif\0\0")
    order = BYTE_ORDERS.get(block[:4])
    if order is None:
        return
    try:
        directory = read_directory(block, struct.unpack_from(order + "I", block, 4)[0], order)
    except struct.error:
        return
    for tag, name in EXIF_TEXTS.items():
        if tag in directory.entries:
            _, kind, count, place = struct.unpack(order + "HHII", directory.entries[tag])
            value = directory.entries[tag][8:12] if count <= 4 else block[place : place + count]
            if kind == 2:
                _add_text(found, _pair(f"EXIF {name}".encode(), value[: min(count, TEXT_BYTES)]))


def _append(order: list[str], name: str) -> None:
    """The order in which kinds of segments stand, each run of one kind once; what a file repeats for ever is cut."""
    if len(order) < MOST_SEGMENTS and (not order or order[-1] != name):
        order.append(name)


def _add_text(found: Coding, text: str) -> None:
    """A text of the metadata; of very many the first are taken."""
    if len(found.texts or ()) < MOST_TEXTS:
        found.texts = (*(found.texts or ()), text)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


READERS: dict[str, Callable[[bytes, Coding], None]] = {"png": _png, "jpeg": _jpeg, "webp": _webp}
