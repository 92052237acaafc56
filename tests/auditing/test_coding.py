"""Facts of files: what Pillow wrote is read back, metadata apart; damaged and endless metadata cost nothing."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from auditing_pictures import encoded, scene
from PIL import Image, PngImagePlugin

from stages.auditing.coding import Coding, coding
from stages.images.containers import inspect

PHOTO = scene(1, 24)


def facts(content: bytes) -> Coding:
    return coding(content, inspect(content))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(*chunks: bytes) -> bytes:
    """A PNG with chunks after its header."""
    content = encoded(PHOTO)
    return content[:33] + b"".join(chunks) + content[33:]


def test_a_png_says_how_it_was_packed() -> None:
    plain, best = facts(encoded(PHOTO)), facts(encoded(PHOTO, compress_level=9))
    assert plain.encoder == "png zlib 789c filtered IHDR-IDAT-IEND"
    assert best.encoder == "png zlib 78da filtered IHDR-IDAT-IEND"
    flat = facts(encoded(Image.fromarray(PHOTO).quantize(200)))
    assert flat.encoder is not None
    assert " plain " in flat.encoder  # Pillow filters no palettes
    assert (plain.codec, plain.mode, plain.depth, plain.icc, plain.exif) == ("png", "RGB", 8, "none", "none")


def test_metadata_are_no_habit_of_the_encoder() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "Diffuser 2.1")
    info.add_text("parameters", "steps " * 40, zip=True)
    info.add_itxt("Title", "a long one", zip=True)
    rich, plain = facts(encoded(PHOTO, pnginfo=info, icc_profile=b"profile")), facts(encoded(PHOTO))
    assert rich.encoder == plain.encoder
    assert rich.picture_bytes == plain.picture_bytes
    assert rich.texts == (
        "Software=Diffuser 2.1",
        f"Title={'a long one'}",
        f"parameters={('steps ' * 40)[:80].strip()}",
    )
    assert rich.icc != "none"


@pytest.mark.parametrize(
    ("options", "kind"), [({}, "standard"), ({"optimize": True}, "own"), ({"progressive": True}, "own")]
)
def test_huffman_tables_are_those_of_the_standard_or_own(options: dict[str, bool], kind: str) -> None:
    found = facts(encoded(PHOTO, "JPEG", **options))
    assert found.encoder == f"jpeg Huffman {kind} E0-DB-SOF-C4-DA"
    assert found.progressive is options.get("progressive", False)


def test_a_jpeg_says_maker_program_comment_and_quality() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0131] = "Canon", "Editor 3"
    found = facts(encoded(PHOTO, "JPEG", quality=50, exif=exif, comment=b"hello"))
    assert found.texts == ("EXIF Make=Canon", "EXIF Software=Editor 3", "comment=hello")
    assert found.exif not in ("none", "present")
    assert found.coarseness == pytest.approx(1)
    assert facts(encoded(PHOTO, "JPEG", quality=50)).picture_bytes == found.picture_bytes


def test_webp_says_whether_it_loses_anything() -> None:
    lossy, exact = facts(encoded(PHOTO, "WEBP")), facts(encoded(PHOTO, "WEBP", lossless=True))
    assert (lossy.encoder, exact.encoder) == ("webp VP8", "webp VP8L")
    exif = Image.Exif()
    exif[0x0131] = "Editor"
    rich = facts(encoded(PHOTO, "WEBP", exif=exif))
    assert (rich.encoder, rich.texts) == ("webp VP8", ("EXIF Software=Editor",))


def test_sixteen_bits_are_counted() -> None:
    values = (np.arange(24 * 24).reshape(24, 24) * 100).astype(np.uint16)
    assert facts(encoded(Image.fromarray(values))).depth == 16


@pytest.mark.parametrize(
    "content",
    [
        with_chunks(chunk(b"zTXt", b"key\0\0no zlib"), chunk(b"iTXt", b"key"), chunk(b"tEXt", b"")),
        with_chunks(chunk(b"eXIf", b"MM\0*\0\0\xff\xff")),
        with_chunks(chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(10**7)))),
        with_chunks(*[chunk(b"tEXt", b"k%d\0v" % k) for k in range(5000)]),
        with_chunks(*[chunk(b"pHYs" if k % 2 else b"gAMA", bytes(9)) for k in range(5000)]),
    ],
)
def test_damaged_and_endless_metadata_are_bounded(content: bytes) -> None:
    found = facts(content)
    assert len(found.encoder or "") < 300
    assert len(found.texts or ()) <= 32
    assert all(len(text) < 200 for text in found.texts or ())
