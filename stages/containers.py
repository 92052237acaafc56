"""What an image file says about itself before any pixel is decoded: codec, size, frames, tables, EXIF.

PNG, JPEG and WebP containers are walked here and not by an imaging library, for three reasons: the size must be known
before anything is allocated (a header may claim 50,000 x 50,000 pixels), damaged metadata must be neither a warning
nor a failure of a good image, and the decoder is then handed the image without any metadata, so that no profile,
text or thumbnail can reach the pixels. Formats: PNG (W3C 2003), JPEG (ITU-T T.81), EXIF 2.3, WebP (RFC 9649).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Field

TEXT = Field("uint8", (8,), "ASCII, filled up with zero bytes")
"""Short texts as bytes: every reader of Zarr knows this type."""

FACTS: Mapping[str, Field] = {
    "codec": TEXT,
    "mode": TEXT,
    "native_size": Field("int32", (2,), "pixels: width, height before EXIF rotation"),
    "quantization": Field(
        "uint16", (2, 64), "JPEG tables of luma and chroma, row by row; zeros: none", ("table", "entry")
    ),
    "subsampling": TEXT,
    "frames": Field("int32"),
    "orientation": Field("uint8", (), "EXIF 1 to 8; 0: not stated"),
    "has_icc": Field("uint8"),
    "has_exif": Field("uint8"),
    "file_bytes": Field("int64", (), "bytes"),
}
"""Fields of a row of `ingest`."""

MOST = 2**31 - 1
"""Pixels along one side that `native_size` can hold."""

MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
"""PNG color types as Pillow modes; 16 bits per channel add ";16"."""

ZIGZAG = np.array(
    sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8)), dtype=np.int64
)
"""Row-by-row place of the k-th coefficient of a JPEG quantization table (T.81, figure A.6)."""


@dataclass
class Container:
    """Facts of one file, and `picture`: the same image without metadata, for the decoder."""

    codec: str
    width: int
    height: int
    mode: str
    picture: bytes
    file_bytes: int
    frames: int = 1
    exif: bytes | None = None
    has_icc: bool = False
    subsampling: str = ""
    quantization: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((2, 64), np.uint16))

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8; 0 where it is not stated or the EXIF block is damaged."""
        return exif_orientation(self.exif) if self.exif is not None else 0

    def facts(self) -> dict[str, Any]:
        """Values of `FACTS` of one row."""
        return {
            "codec": packed(self.codec),
            "mode": packed(self.mode),
            "native_size": (self.width, self.height),
            "quantization": self.quantization,
            "subsampling": packed(self.subsampling),
            "frames": self.frames,
            "orientation": self.orientation,
            "has_icc": self.has_icc,
            "has_exif": self.exif is not None,
            "file_bytes": self.file_bytes,
        }


def packed(text: str) -> NDArray[np.uint8]:
    """(8,) uint8 of a short ASCII text; see `texts`."""
    return np.frombuffer(text.encode("ascii")[:8].ljust(8, b"\0"), np.uint8)


def texts(column: NDArray[np.uint8]) -> list[str]:
    """Texts of a `TEXT` column, (n, 8) uint8, such as `codec`."""
    return [bytes(row).rstrip(b"\0").decode("ascii") for row in column]


def inspect(content: bytes) -> Container:
    """Facts of a file. Raises ValueError with one sentence for an empty, foreign or damaged file."""
    if not content:
        raise ValueError("the file is empty (0 bytes), expected an image")
    for magic, walk in WALKS:
        if magic.match(content):
            try:
                found = walk(content)
            except (struct.error, IndexError) as error:
                raise ValueError("the file is cut off in its header") from error
            if not (0 < found.width <= MOST and 0 < found.height <= MOST):
                raise ValueError(f"the header claims {found.width:,} x {found.height:,} pixels, expected a picture")
            return found
    raise ValueError(f"starts with {content[:8]!r}, expected a PNG, JPEG, WebP, GIF, BMP, PPM or PGM file")


def _walk_png(content: bytes) -> Container:
    """Chunks of a PNG file; only those that make pixels are kept."""
    width, height, depth, color = struct.unpack_from(">IIBB", content, 16)
    if content[12:16] != b"IHDR" or color not in MODES:
        raise ValueError("the PNG header is damaged")
    kept, at, found, frames, exif = [content[:8]], 8, set(), 1, None
    while at < len(content):
        if at + 12 > len(content):
            raise ValueError("the PNG file is truncated between chunks")
        length = struct.unpack_from(">I", content, at)[0]
        kind, end = content[at + 4 : at + 8], at + 12 + length
        if end > len(content):
            raise ValueError(
                f"the PNG file is truncated: chunk {kind.decode('latin-1')} ends {end - len(content)} "
                "bytes after the file"
            )
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[at:end])
        elif kind == b"acTL" and length >= 8:
            frames = max(1, struct.unpack_from(">I", content, at + 8)[0] & 0x7FFFFFFF)
        elif kind == b"eXIf":
            exif = content[at + 8 : end - 4]
        found.add(kind)
        at = end
        if kind == b"IEND":
            break
    if b"IEND" not in found:
        raise ValueError("the PNG file is truncated: its last chunk IEND is missing")
    mode = MODES[color] + (";16" if depth == 16 else "")
    if b"tRNS" in found:
        mode += "+tRNS"
    return Container("png", width, height, mode, b"".join(kept), len(content), frames, exif, has_icc=b"iCCP" in found)


def _walk_jpeg(content: bytes) -> Container:
    """Segments of a JPEG file up to the first scan; of the application segments only JFIF and Adobe are kept."""
    kept, at = [content[:2]], 2
    tables = np.zeros((4, 64), np.uint16)
    frame: tuple[int, int, list[tuple[int, int, int]]] | None = None
    exif, has_icc = None, False
    while True:
        if content[at] != 0xFF:
            raise ValueError(f"the JPEG file is damaged: expected a marker at byte {at}")
        while content[at + 1] == 0xFF:
            at += 1
        marker = content[at + 1]
        if marker == 0xD9:
            raise ValueError("the JPEG file ends before its first scan")
        length = struct.unpack_from(">H", content, at + 2)[0]
        body, end = content[at + 4 : at + 2 + length], at + 2 + length
        if end > len(content):
            raise ValueError("the JPEG file is truncated in its header")
        if marker == 0xE1 and body.startswith(b"Exif\0\0") and exif is None:
            exif = body[6:]
        has_icc |= marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")
        if marker == 0xDB:
            _read_tables(body, tables)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, count = struct.unpack_from(">HHB", body, 1)
            frame = width, height, [(body[7 + 3 * k] >> 4, body[7 + 3 * k] & 15, body[8 + 3 * k]) for k in range(count)]
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            kept.append(content[at:end])
        at = end
        if marker == 0xDA:
            break
    if frame is None:
        raise ValueError("the JPEG file has no frame header")
    width, height, parts = frame
    used = [tables[part[2] & 3] for part in parts[:2]]
    quantization = np.stack(used + [np.zeros(64, np.uint16)] * (2 - len(used)))
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(len(parts), f"{len(parts)}ch")
    return Container(
        "jpeg",
        width,
        height,
        mode,
        b"".join(kept) + content[at:],
        len(content),
        exif=exif,
        has_icc=has_icc,
        subsampling=_subsampling(parts),
        quantization=quantization,
    )


def _read_tables(body: bytes, tables: NDArray[np.uint16]) -> None:
    """DQT segment: several tables, each 8 or 16 bits, in zigzag order."""
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 3
        size = 128 if wide else 64
        values = np.frombuffer(body, ">u2" if wide else "u1", 64, at + 1) if at + 1 + size <= len(body) else None
        if values is None:
            raise ValueError("the JPEG file is damaged: a quantization table is cut off")
        tables[number, ZIGZAG] = values
        at += 1 + size


def _subsampling(parts: list[tuple[int, int, int]]) -> str:
    """Chroma subsampling in the usual J:a:b notation."""
    if len(parts) == 1:
        return "gray"
    sampling = [part[:2] for part in parts[:3]]
    known = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
    return known.get(sampling[0], "other") if sampling[1:] == [(1, 1)] * (len(sampling) - 1) else "other"


def _walk_webp(content: bytes) -> Container:
    """Chunks of a WebP file. The whole file goes to the decoder, whose interface for one frame drops metadata."""
    at, frames, exif, has_icc = 12, 0, None, False
    size, mode = None, "RGB"
    while at + 8 <= len(content):
        kind, length = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        body = content[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
            mode = "RGBA" if body[0] & 0x10 else "RGB"
        elif kind == b"VP8L" and size is None:
            bits = struct.unpack_from("<I", body, 1)[0]
            size, mode = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), "RGBA" if bits >> 28 & 1 else "RGB"
        elif kind == b"VP8 " and size is None:
            wide, high = struct.unpack_from("<HH", body, 6)
            size = wide & 0x3FFF, high & 0x3FFF
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"EXIF":
            exif = body.removeprefix(b"Exif\0\0")
        has_icc |= kind == b"ICCP"
        at += 8 + length + (length & 1)
    if size is None:
        raise ValueError("the WebP file has no image chunk")
    if at > len(content) + 1:
        raise ValueError("the WebP file is truncated")
    return Container("webp", *size, mode, content, len(content), max(1, frames), exif, has_icc)


def _walk_gif(content: bytes) -> Container:
    """Blocks of a GIF file, to count the frames and to find the largest extent."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at, frames = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while content[at] != 0x3B:
        if content[at] == 0x2C:
            left, top, wide, high, local = struct.unpack_from("<HHHHB", content, at + 1)
            width, height, frames = max(width, left + wide), max(height, top + high), frames + 1
            at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0)
        elif content[at] == 0x21:
            at += 2
        else:
            raise ValueError(f"the GIF file is damaged at byte {at}")
        while content[at]:
            at += 1 + content[at]
        at += 1
    if not frames:
        raise ValueError("the GIF file holds no image")
    return Container("gif", width, height, "P", content, len(content), frames)


def _walk_bmp(content: bytes) -> Container:
    width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    mode = {1: "1", 8: "P", 24: "RGB", 32: "RGBA"}.get(bits, f"{bits}bit")
    return Container("bmp", abs(width), abs(height), mode, content, len(content))


def _walk_netpbm(content: bytes) -> Container:
    found = NETPBM.match(content)
    if found is None:
        raise ValueError("the PPM or PGM header is damaged")
    deep = ";16" if int(found[4]) > 255 else ""
    mode = ("L" if found[1] == b"P5" else "RGB") + deep
    return Container("ppm", int(found[2]), int(found[3]), mode, content, len(content))


def exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block (a TIFF header); 0 where there is none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 0
    try:
        at = struct.unpack_from(order + "I", exif, 4)[0]
        for k in range(struct.unpack_from(order + "H", exif, at)[0]):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * k)
            if tag == 0x0112:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 0
    except struct.error:
        return 0
    return 0


NETPBM = re.compile(rb"(P[56])\s(?:\s|#[^\n]*\n)*(\d{1,6})\s(?:\s|#[^\n]*\n)*(\d{1,6})\s(?:\s|#[^\n]*\n)*(\d{1,5})\s")

WALKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Container]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _walk_png),
    (re.compile(rb"\xff\xd8\xff"), _walk_jpeg),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _walk_webp),
    (re.compile(rb"GIF8[79]a"), _walk_gif),
    (re.compile(rb"BM.{24}", re.DOTALL), _walk_bmp),
    (re.compile(rb"P[56]\s"), _walk_netpbm),
)
