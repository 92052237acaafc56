"""What an image file says about itself before any pixel is decoded: codec, size, frames, tables, EXIF.

Containers are walked here and not by an imaging library (but for AVIF), for three reasons: the size must be known
before anything is allocated (a header may claim 50,000 x 50,000 pixels), damaged metadata must be neither a warning
nor a failure of a good image, and the decoder is then handed the image without any metadata, so that no profile,
text or thumbnail can reach the pixels. Formats: PNG (W3C 2003), JPEG (ITU-T T.81), TIFF 6.0, WebP (RFC 9649).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Field
from stages.images import jpeg_segments, video_container
from stages.images.tiff_directories import exif_orientation, read_tiff

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
    "orientation": Field("uint8", (), "EXIF 1 to 8, of a video likewise; 0: not stated"),
    "has_icc": Field("uint8"),
    "has_exif": Field("uint8"),
    "file_bytes": Field("int64", (), "bytes"),
}
"""Fields of a row of `ingest`."""

MOST = 2**31 - 1
"""Pixels along one side that `native_size` can hold."""

MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
"""PNG color types as Pillow modes; 16 bits per channel add ";16"."""


VIDEO = "is a video, expected a picture: take its frames with the stage 'frames'"
ARITHMETIC = "is a JPEG file of arithmetic coding, where a part cannot be told from the whole: save it as PNG"


@dataclass
class Container:
    """Facts of one file, and `picture`: the same image without metadata, for the decoder.

    `refused` says why its pixels are not taken, where a rule of the project and no damage speaks against it; `scans` is
    what a JPEG header says of them, its places being those in `picture`.
    """

    codec: str
    width: int
    height: int
    mode: str
    picture: bytes
    file_bytes: int
    frames: int = 1
    orientation: int = 0
    has_exif: bool = False
    has_icc: bool = False
    subsampling: str = ""
    quantization: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((2, 64), np.uint16))
    refused: str = ""
    scans: jpeg_segments.Header | None = None

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
            "has_exif": self.has_exif,
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
    for magic, what in FOREIGN:
        if magic.match(content):
            what = what.format(kind=content[:2].decode("latin-1"))
            raise ValueError(f"is {what}" if ": " in what else f"is {what}: convert it")
    raise ValueError(f"starts with {content[:8]!r}, expected a PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP, PPM or PGM file")


def _walk_png(content: bytes) -> Container:
    """Chunks of a PNG file; only those that make pixels are kept."""
    width, height, depth, color = struct.unpack_from(">IIBB", content, 16)
    if content[12:16] != b"IHDR" or color not in MODES:
        raise ValueError("the PNG header is damaged")
    kept, found, frames, exif = [content[:8]], set(), 1, None
    for kind, start, end in png_chunks(content):
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[start - 8 : end + 4])
        elif kind == b"acTL" and end - start >= 8:
            frames = max(1, struct.unpack_from(">I", content, start)[0] & 0x7FFFFFFF)
        elif kind == b"eXIf":
            exif = content[start:end]
        found.add(kind)
    mode = MODES[color] + (";16" if depth == 16 else "")
    if b"tRNS" in found:
        mode += "+tRNS"
    facts = {**_of_exif(exif), "has_icc": b"iCCP" in found}
    return Container("png", width, height, mode, b"".join(kept), len(content), frames, **facts)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk of a PNG file up to the last one, and where its data start and end; ValueError if cut off."""
    at, kind = 8, b""
    while at < len(content) and kind != b"IEND":
        if at + 12 > len(content):
            raise ValueError("the PNG file is truncated between chunks")
        length = struct.unpack_from(">I", content, at)[0]
        kind, end = content[at + 4 : at + 8], at + 12 + length
        if end > len(content):
            raise ValueError(
                f"the PNG file is truncated: chunk {kind.decode('latin-1')} ends {end - len(content)} "
                "bytes after the file"
            )
        yield kind, at + 8, end - 4
        at = end
    if kind != b"IEND":
        raise ValueError("the PNG file is truncated: its last chunk IEND is missing")


def _walk_jpeg(content: bytes) -> Container:
    """Segments of a JPEG file up to the first scan; of the application segments only JFIF and Adobe are kept."""
    kept = [content[:2]]
    tables = np.zeros((4, 64), np.uint16)
    frame: jpeg_segments.Frame | None = None
    exif, has_icc, interval = None, False, 0
    for marker, body, start, end in jpeg_segments.segments(content):
        if marker == jpeg_segments.END:
            raise ValueError("the JPEG file ends before its first scan")
        if marker == 0xE1 and body.startswith(b"Exif\0\0") and exif is None:
            exif = body
        has_icc |= marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")
        if marker == jpeg_segments.TABLES:
            jpeg_segments.read_tables(body, tables)
        elif marker in jpeg_segments.FRAMES and frame is None:
            frame = jpeg_segments.read_frame(marker, body)
        elif marker == jpeg_segments.RESTARTS:
            interval = int.from_bytes(body[:2], "big")
        if marker == jpeg_segments.ADOBE or not (0xE1 <= marker <= 0xEF or marker == jpeg_segments.COMMENT):
            kept.append(content[start:end])
    if frame is None:
        raise ValueError("the JPEG file has no frame header")
    parts = frame.components
    quantization = np.zeros((2, 64), np.uint16)
    for row, part in enumerate(parts[:2]):
        quantization[row] = tables[part.table & 3]
    before = b"".join(kept)
    return Container(
        "jpeg",
        frame.width,
        frame.height,
        {1: "L", 3: "RGB", 4: "CMYK"}.get(len(parts), f"{len(parts)}ch"),
        before + content[end:],
        len(content),
        **_of_exif(exif),
        has_icc=has_icc,
        subsampling=jpeg_segments.subsampling(parts),
        quantization=quantization,
        refused=ARITHMETIC if frame.arithmetic else "",
        scans=jpeg_segments.Header(frame, body, interval, len(before)),
    )


def _walk_webp(content: bytes) -> Container:
    """Chunks of a WebP file. The whole file goes to the decoder, whose interface for one frame drops metadata."""
    frames, exif, has_icc, end = 0, None, False, 0
    size, mode = None, "RGB"
    for kind, start, end in webp_chunks(content):
        body = content[start:end]
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
            exif = body
        has_icc |= kind == b"ICCP"
    if size is None:
        raise ValueError("the WebP file has no image chunk")
    if end > len(content):
        raise ValueError("the WebP file is truncated")
    return Container("webp", *size, mode, content, len(content), max(1, frames), **_of_exif(exif), has_icc=has_icc)


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk of a WebP file, and where its data start and end, which may be behind the file's end."""
    at = 12
    while at + 8 <= len(content):
        kind, length = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _walk_gif(content: bytes) -> Container:
    """Blocks of a GIF file, to count the frames and to find the largest extent."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at, frames = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while content[at : at + 1] not in GIF_ENDS or (at == len(content) and not frames):
        if content[at] == 0x00:
            at += 1
            continue
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
    """Windows headers have sides of 32 bits, the height below zero from the top down; the one of OS/2 has 16 bits."""
    form = "<HHHH" if struct.unpack_from("<I", content, 14)[0] == 12 else "<iiHH"
    width, height, _, bits = struct.unpack_from(form, content, 18)
    mode = {1: "1", 8: "P", 24: "RGB", 32: "RGBA"}.get(bits, f"{bits}bit")
    return Container("bmp", abs(width), abs(height), mode, content, len(content))


def _walk_netpbm(content: bytes) -> Container:
    found = NETPBM.match(content)
    if found is None:
        raise ValueError("the PPM or PGM header is damaged")
    deep = int(found[4]) > 255
    mode = ("L" if found[1] == b"P5" else "RGB") + (";16" if deep else "")
    refused = "is a PPM or PGM file of 16 bits per channel, expected 8" if deep else ""
    return Container("ppm", int(found[2]), int(found[3]), mode, content, len(content), refused=refused)


def _walk_tiff(content: bytes) -> Container:
    tiff = read_tiff(content)
    return Container(
        "tiff",
        tiff.width,
        tiff.height,
        tiff.mode,
        tiff.picture,
        len(content),
        frames=tiff.pages,
        orientation=tiff.orientation,
        has_exif=tiff.has_exif,
        has_icc=tiff.has_icc,
        refused=tiff.refused,
    )


def _walk_avif(content: bytes) -> Container:
    """Boxes of an AVIF file are read by libavif, which decodes nothing yet."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise ValueError("is an AVIF file, and the installed Pillow reads none; convert it to PNG")
    try:
        image = AvifImagePlugin.AvifImageFile(BytesIO(content), "")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"the AVIF file is damaged or truncated: {error}") from error
    facts = {**_of_exif(image.info.get("exif")), "has_icc": "icc_profile" in image.info}
    return Container("avif", *image.size, image.mode, content, len(content), image.n_frames, **facts)


def _walk_video(content: bytes) -> Container:
    """The index of an MP4 file; its pixels are taken by the stage `frames`."""
    width, height, frames, turned = video_container.video_facts(content)
    return Container("mp4", width, height, "video", content, len(content), frames, turned, refused=VIDEO)


def _of_exif(exif: bytes | None) -> dict[str, Any]:
    """Fields of a container that its EXIF block fills; None: it has no such block."""
    return {"has_exif": exif is not None, "orientation": 0 if exif is None else exif_orientation(exif)}


NETPBM = re.compile(rb"(P[56])\s(?:\s|#[^\n]*\n)*(\d{1,6})\s(?:\s|#[^\n]*\n)*(\d{1,6})\s(?:\s|#[^\n]*\n)*(\d{1,5})\s")

WALKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Container]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _walk_png),
    (re.compile(rb"\xff\xd8"), _walk_jpeg),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _walk_webp),
    (re.compile(rb"GIF8[79]a"), _walk_gif),
    (re.compile(rb"BM.{24}", re.DOTALL), _walk_bmp),
    (re.compile(rb"P[56]\s"), _walk_netpbm),
    (re.compile(rb"II\*\0|MM\0\*"), _walk_tiff),
    (re.compile(rb".{4}ftyp(avif|avis|(mif1|msf1).{4}(.{4}){0,15}?avi[fs])", re.DOTALL), _walk_avif),
    (video_container.BRANDS, _walk_video),
)

FOREIGN = (
    (re.compile(rb"P[1-37Ff]\s"), "a netpbm file of kind {kind}, expected the binary kinds P5 (PGM) or P6 (PPM)"),
    (re.compile(rb"P4\s"), "a bitmap of one bit (P4), expected the binary kinds P5 (PGM) or P6 (PPM)"),
    (re.compile(rb".{4}ftyp(hei[cxfs]|hev[cx]|mif1|msf1)", re.DOTALL), "a HEIC file, expected a JPEG or PNG file"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a", re.DOTALL), "a JPEG XL file, expected a JPEG or PNG file"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 file, expected a JPEG or PNG file"),
    (re.compile(rb"II\+\0|MM\0\+"), "a BigTIFF file, expected a TIFF file of less than 4 GB"),
    (
        re.compile(rb"\s*<(!doctype|html|\?xml|svg)", re.IGNORECASE),
        "an HTML page or a drawing, expected a picture: get it again, or convert it",
    ),
)
"""Formats that are taken for pictures and are not read, by their first bytes."""

GIF_ENDS = (b"\x3b", b"")
"""The trailer; files that lack this last byte are whole."""
