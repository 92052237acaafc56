"""Files that are odd and valid are read, and those that are refused are told why."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.images.containers import inspect
from stages.images.decoding import decode
from stages.images.readers.contract import SUFFIXES
from stages.images.tiff_directories import exif_orientation

LIMIT = 10**6
PIXELS = np.random.default_rng(5).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def encoded(codec: str, picture: np.ndarray | Image.Image = PIXELS, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def test_every_suffix_that_ingest_takes_is_of_a_codec_that_is_read() -> None:
    codecs = {".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF"}
    assert set(codecs) < set(SUFFIXES)
    for codec in codecs.values():
        found = inspect(encoded(codec))
        assert (found.codec, found.width, found.height, found.mode) == (codec.lower(), 20, 12, "RGB")


# EXIF


def exif(kind: int, value: bytes, order: str = "<", count: int = 1) -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "letter"), [(1, "B"), (3, "H"), (4, "I"), (6, "b"), (8, "h"), (9, "i")])
def test_orientation_is_read_from_every_type_of_whole_number(kind: int, letter: str, order: str) -> None:
    block = exif(kind, struct.pack(order + letter, 6), order)
    assert exif_orientation(block) == exif_orientation(b"Exif\0\0" + block) == 6
    for wrong in (0, 9):
        assert exif_orientation(exif(kind, struct.pack(order + letter, wrong), order)) == 0
    assert exif_orientation(exif(kind, struct.pack(order + letter, 6), order, count=2)) == 0
    content = encoded("JPEG", exif=b"Exif\0\0" + block)
    assert decode(content, LIMIT).shape == (20, 12, 3)
    assert np.array_equal(decode(content, LIMIT), np.rot90(decode(content, LIMIT, exif_rotate=False), -1))


@pytest.mark.parametrize("kind", [2, 5, 7, 12, 99])
def test_orientation_of_another_type_is_none(kind: int) -> None:
    assert exif_orientation(exif(kind, b"\6")) == 0


# BMP


def os2_bitmap(width: int, height: int, picture: np.ndarray) -> bytes:
    """The header of OS/2: 12 bytes, sides of 16 bits; rows from below, blue first, filled up to four bytes."""
    rows = b"".join(row[:, ::-1].tobytes().ljust(-(-3 * width // 4) * 4, b"\0") for row in picture[::-1])
    head = struct.pack("<IHHI", 26 + len(rows), 0, 0, 26)
    return b"BM" + head + struct.pack("<IHHHH", 12, width, height, 1, 24) + rows


def test_a_bitmap_of_os2_has_sides_of_16_bits() -> None:
    content = os2_bitmap(20, 12, PIXELS)
    found = inspect(content)
    assert (found.width, found.height, found.mode) == (20, 12, "RGB")
    assert np.array_equal(decode(content, LIMIT), PIXELS)


def test_a_bitmap_from_the_top_down_has_a_height_below_zero() -> None:
    content = bytearray(encoded("BMP", np.ascontiguousarray(PIXELS[::-1])))
    content[22:26] = struct.pack("<i", -12)
    assert inspect(bytes(content)).height == 12
    assert np.array_equal(decode(bytes(content), LIMIT), PIXELS)


# GIF, JPEG, PPM


def test_a_gif_file_without_its_last_byte_is_whole_and_one_without_more_is_cut() -> None:
    content = encoded("GIF", PIXELS[:, :, 0])
    assert content.endswith(b"\0;")
    assert inspect(content[:-1]).frames == 1
    assert np.array_equal(decode(content[:-1], LIMIT), decode(content, LIMIT))
    for lacking in (2, 3, 40):
        with pytest.raises(ValueError, match=r"cut off|cannot be decoded"):
            decode(content[:-lacking], LIMIT)
    with pytest.raises(ValueError, match="cut off"):
        inspect(content[: 13 + 3 * 256])


def test_stray_zeros_between_the_blocks_of_a_gif_file_are_passed_over() -> None:
    content = encoded("GIF", PIXELS[:, :, 0])
    assert np.array_equal(decode(content[:-1] + b"\0\0;", LIMIT), decode(content, LIMIT))


def starts(content: bytes) -> list[int]:
    """Places of all segments before the first scan, and of the first scan."""
    places, at = [], 2
    while True:
        places.append(at)
        if content[at + 1] == 0xDA:
            return places
        at += 2 + struct.unpack_from(">H", content, at + 2)[0]


@pytest.mark.parametrize("stray", [b"\0", b"\x12\x34", b"\xff", b"\xff\xff\xff", b"\xff\0", b"\xff\xd0"])
def test_stray_bytes_between_segments_of_a_jpeg_file_are_passed_over(stray: bytes) -> None:
    content = encoded("JPEG", exif=b"Exif\0\0" + exif(3, b"\6"))
    assert len(starts(content)) > 7
    for at in starts(content):
        odd = content[:at] + stray + content[at:]
        assert np.array_equal(decode(odd, LIMIT), decode(content, LIMIT)), at
        assert inspect(odd).orientation == 6
        assert np.array_equal(inspect(odd).quantization, inspect(content).quantization)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"P3\n1 1\n255\n1 2 3\n", r"^is a netpbm file of kind P3, expected the binary kinds P5 .PGM. or P6"),
        (b"P2\n1 1\n255\n1\n", r"^is a netpbm file of kind P2, expected .*: convert it$"),
        (b"P4\n8 1\n\0", r"^is a bitmap of one bit .P4."),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"^is a HEIC file, expected a JPEG or PNG file: convert it$"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", r"^is a JPEG XL file"),
        (b"II+\0\x08\0\0\0", r"^is a BigTIFF file"),
        (b"<!DOCTYPE html><html>404", r"^is an HTML page or a drawing, expected a picture: get it again"),
    ],
)
def test_formats_that_are_not_read_are_named(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        inspect(content)


# TIFF and AVIF


@pytest.mark.parametrize("order", ["little", "big"])
def test_tiff_pictures_of_every_kind_become_rgb_by_the_rules_of_the_others(order: str) -> None:
    big = order == "big"
    gray = PIXELS[:, :, 0]
    assert np.array_equal(decode(encoded("TIFF", gray, big_tiff=False), LIMIT), np.repeat(gray[:, :, None], 3, axis=2))
    wide = (np.arange(240, dtype=np.uint16) * 273).reshape(12, 20)
    content = encoded("TIFF", Image.fromarray(wide.astype(">u2") if big else wide))
    assert inspect(content).mode == "L;16"
    assert np.array_equal(decode(content, LIMIT)[:, :, 1], (wide >> 8).astype(np.uint8))
    palette = Image.fromarray(PIXELS).quantize(32)
    assert np.array_equal(decode(encoded("TIFF", palette), LIMIT), np.asarray(palette.convert("RGB")))
    inks = Image.fromarray(PIXELS).convert("CMYK")
    assert np.array_equal(decode(encoded("TIFF", inks), LIMIT), np.asarray(inks.convert("RGB")))
    opaque = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    assert np.array_equal(decode(encoded("TIFF", opaque), LIMIT), PIXELS)
    opaque[2, 3, 3] = 254
    with pytest.raises(ValueError, match="has transparent pixels, expected none"):
        decode(encoded("TIFF", opaque), LIMIT)


def test_what_a_tiff_file_may_hold_besides_is_refused_with_its_reason() -> None:
    for picture, options, sentence in [
        (PIXELS[:, :, 0].astype(np.float32), {}, "is a TIFF file of 32 bits per channel, expected 8 or 16"),
        (PIXELS[:, :, 0].astype(np.int32), {}, "is a TIFF file of 32 bits per channel, expected 8 or 16"),
        (PIXELS, {"compression": "jpeg"}, "compression 7, expected one of none, LZW, Deflate, PackBits: save it as"),
        (PIXELS[:, :, 0] > 9, {"compression": "group4"}, "compression 4, expected"),
    ]:
        content = encoded("TIFF", Image.fromarray(picture), **options)
        assert inspect(content).codec == "tiff"
        with pytest.raises(ValueError, match=sentence):
            decode(content, LIMIT)


def test_a_tiff_file_of_several_pages_fails_and_thumbnails_are_no_pages() -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS[::2, ::2].copy())
    content = encoded("TIFF", first, save_all=True, append_images=[second, second])
    assert inspect(content).frames == 3
    with pytest.raises(ValueError, match=r"^has 3 pages, expected one picture$"):
        decode(content, LIMIT)
    thumbnails = encoded("TIFF", first, save_all=True, append_images=[second], tiffinfo={254: 0})
    at = struct.unpack_from("<I", thumbnails, 4)[0]
    following = struct.unpack_from("<I", thumbnails, at + 2 + 12 * struct.unpack_from("<H", thumbnails, at)[0])[0]
    marked = bytearray(thumbnails)
    assert struct.unpack_from("<H", marked, following + 2)[0] == 254
    marked[following + 10] = 1
    assert inspect(bytes(marked)).frames == 1
    assert np.array_equal(decode(bytes(marked), LIMIT), PIXELS)
    marked = bytearray(thumbnails)
    assert struct.unpack_from("<H", marked, at + 2)[0] == 254
    marked[at + 10] = 1
    with pytest.raises(ValueError, match="begins with a thumbnail or a mask, expected the picture first"):
        decode(bytes(marked), LIMIT)


def test_directories_of_a_tiff_file_that_form_a_circle_are_damage() -> None:
    content = bytearray(encoded("TIFF"))
    at = struct.unpack_from("<I", content, 4)[0]
    place = at + 2 + 12 * struct.unpack_from("<H", content, at)[0]
    content[place : place + 4] = struct.pack("<I", at)
    with pytest.raises(ValueError, match="its directories form a circle"):
        inspect(bytes(content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("codec", ["TIFF", "AVIF"])
def test_tiff_and_avif_pictures_are_put_upright_as_others_are(codec: str, orientation: int) -> None:
    block = b"Exif\0\0" + exif(3, bytes([orientation]))
    options: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"} if codec == "AVIF" else {}
    content = encoded(codec, exif=block, **options)
    assert inspect(content).orientation == orientation or (codec, orientation) == ("AVIF", 1)
    stored = decode(content, LIMIT, exif_rotate=False)
    with_png = encoded("PNG", stored, exif=block)
    assert np.array_equal(decode(content, LIMIT), decode(with_png, LIMIT))
    assert np.abs(stored.astype(int) - PIXELS).max() <= (12 if codec == "AVIF" else 0)


def test_metadata_of_a_tiff_file_do_not_reach_the_decoder() -> None:
    content = encoded("TIFF", icc_profile=b"nonsense" * 9, tiffinfo={270: "a description", 34665: {}}, dpi=(3, 3))
    found = inspect(content)
    assert found.has_icc
    with Image.open(io.BytesIO(found.picture)) as image:
        assert set(image.tag_v2) <= {256, 257, 258, 259, 262, 273, 277, 278, 279, 284}  # type: ignore[attr-defined]
    assert np.array_equal(decode(content, LIMIT), PIXELS)


def test_headers_of_tiff_and_avif_files_are_bounded_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = bytearray(encoded("TIFF"))
    at = struct.unpack_from("<I", content, 4)[0]
    for place in range(at + 2, at + 2 + 12 * content[at], 12):
        if struct.unpack_from("<H", content, place)[0] in (256, 257):
            content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 50_000)
    monkeypatch.setattr("stages.images.decoding._load", None)
    with pytest.raises(ValueError, match="the header claims 50,000 x 50,000 pixels, expected at most 1,000,000"):
        decode(bytes(content), LIMIT)
    with pytest.raises(ValueError, match="the header claims 20 x 12 pixels, expected at most 100"):
        decode(encoded("AVIF"), 100)


def test_an_avif_sequence_is_an_animation() -> None:
    frames = [Image.fromarray(np.roll(PIXELS, 5 * k, axis=1)) for k in range(3)]
    content = encoded("AVIF", frames[0], save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(ValueError, match="is an animation of 3 frames, expected one picture"):
        decode(content, LIMIT)


def test_no_prefix_of_a_tiff_or_avif_file_raises_anything_but_one_sentence() -> None:
    for codec in ("TIFF", "AVIF"):
        content = encoded(codec)
        for length in range(1, len(content), 5):
            with pytest.raises(ValueError, match=r"^[^\n]+$"):
                decode(content[:length], LIMIT)
