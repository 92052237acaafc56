"""A picture that decodes only in part is a failure with one sentence; whole ones pass, however they are encoded."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_by_hand import CHANNELS, Picture, chunk, closed, encoded, lines, noise, png, scan
from PIL import Image

from stages.images.containers import inspect
from stages.images.decoding import decode

LIMIT = 10**6
ROOT = Path(__file__).parents[2]


def pictures(height: int, width: int) -> Iterator[Picture]:
    """Noise, a ramp, flat ones (one in the color of each canvas), and noise over a flat bottom."""
    y, x = np.mgrid[0:height, 0:width]
    yield noise(height, width)
    yield np.stack([x * 4 % 256, y * 5 % 256, (x * y) // 9 % 256], axis=2).astype(np.uint8)
    for level in (0, 128, 255, 0xA5):
        yield np.full((height, width, 3), level, np.uint8)
    for level in (0, 128):
        yield np.concatenate([noise(height, width)[: height // 3], np.full((height, width, 3), level, np.uint8)])[
            :height
        ]


def by_pillow(content: bytes) -> Picture:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


# Whole files


JPEG_OPTIONS: list[dict[str, Any]] = [
    {"quality": quality, **more}
    for quality in (5, 75, 100)
    for more in (
        {},
        {"progressive": True},
        {"optimize": True},
        {"subsampling": 0},
        {"subsampling": 1},
        {"progressive": True, "subsampling": 0},
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 7, "progressive": True},
    )
]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_jpeg_files_give_the_pixels_of_pillow(mode: str) -> None:
    for height in range(1, 71, 7):
        width = height * 37 % 70 + 1
        for number, picture in enumerate(pictures(height, width)):
            for options in random.Random(height * 10 + number).sample(JPEG_OPTIONS, 3):
                content = encoded(Image.fromarray(picture).convert(mode), "JPEG", **options)
                expected = by_pillow(content)
                assert np.array_equal(decode(content, LIMIT), expected), (height, number, options)
                assert np.array_equal(decode(content[:-2], LIMIT), expected), "without its end marker"


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("GIF", {}),
    ("GIF", {"interlace": 0}),
    ("BMP", {}),
    ("PPM", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"speed": 10}),
    ("TIFF", {}),
    *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
]


@pytest.mark.parametrize(("codec", "options"), OTHERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_whole_files_of_other_codecs_give_the_pixels_of_pillow(codec: str, options: dict[str, Any], mode: str) -> None:
    if codec == "PPM" and mode in ("P", "1"):
        mode = "L"  # it has no palettes, and bitmaps are refused
    for height in (1, 2, 7, 40) if codec != "AVIF" else (40,):
        for picture in pictures(height, height * 37 % 70 + 1):
            content = encoded(Image.fromarray(picture).convert(mode), codec, **options)
            assert np.array_equal(decode(content, LIMIT), by_pillow(content)), height


def test_every_photograph_of_the_repository_is_whole() -> None:
    paths = sorted(path for path in (ROOT / "manifests" / "photos").rglob("*") if path.is_file())
    images = [path for path in paths if path.suffix in (".jpg", ".png", ".webp")]
    assert len(images) > 400
    for path in images:
        decode(path.read_bytes(), LIMIT)


# JPEG


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True},
        {"subsampling": 0, "progressive": True},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 5, "progressive": True},
        {"quality": 20, "progressive": True},
    ],
)
@pytest.mark.parametrize("picture", [noise(80, 56), next(iter([*pictures(80, 56)][1:])), [*pictures(80, 56)][-1]])
def test_a_cut_jpeg_file_with_an_end_marker_fails_wherever_it_was_cut(
    picture: Picture, options: dict[str, Any]
) -> None:
    """But for the very last blocks: the 64 bits that a decoder looks ahead can stand for three of them.

    Cut behind every third byte, and behind each of the last ones.
    """
    content = encoded(picture, "JPEG", **options)
    whole = decode(content, LIMIT)
    unseen, last = 0, max(scan(content), len(content) - 90)
    for end in [*range(scan(content), last, 3), *range(last, len(content) - 2)]:
        try:
            part = decode(closed(content, end), LIMIT)
        except ValueError:
            continue
        lacking = (part != whole).any(axis=2)
        assert lacking.sum() <= 18 * 18
        assert not lacking[: 80 - 18].any()
        unseen = max(unseen, len(content) - end)
    assert unseen < 0.02 * len(content) + 20


def test_the_sentence_of_a_cut_jpeg_file() -> None:
    content = encoded(noise(80, 80), "JPEG")
    half = closed(content, (scan(content) + len(content)) // 2)
    assert by_pillow(half).shape == (80, 80, 3)  # which says nothing
    with pytest.raises(ValueError, match=r"^the jpeg image cannot be decoded: its scans end before the last line$"):
        decode(half, LIMIT)


def test_a_progressive_file_that_ends_between_two_scans_fails() -> None:
    content = encoded(noise(40, 56), "JPEG", progressive=True)
    starts = [at for at in range(len(content)) if content[at : at + 2] in (b"\xff\xda", b"\xff\xc4")]
    first = content.index(b"\xff\xda")
    ends = [at for at in starts if at > first and content[at : at + 2] == b"\xff\xc4"]
    assert len(ends) > 5
    for end in ends:
        with pytest.raises(ValueError, match=r"its \d+ scans do not hold the whole picture"):
            decode(closed(content, end), LIMIT)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_header_that_claims_more_lines_than_the_scans_hold_fails(options: dict[str, Any]) -> None:
    content = bytearray(encoded(noise(64, 64), "JPEG", **options))
    at = content.index(b"\xff\xc2" if "progressive" in options else b"\xff\xc0")
    content[at + 5 : at + 7] = struct.pack(">H", 96)
    with pytest.raises(ValueError, match=r"cannot be decoded: .*(scans end before|restart markers|hold the whole)"):
        decode(bytes(content), LIMIT)


def test_a_cut_scan_before_another_picture_fails_and_a_picture_behind_the_end_is_none_of_it() -> None:
    content = encoded(noise(64, 64), "JPEG")
    other = encoded(noise(64, 64, seed=1), "JPEG")
    assert np.array_equal(decode(content + other, LIMIT), decode(content, LIMIT))
    with pytest.raises(ValueError, match="scans end before the last line"):
        decode(content[: len(content) // 2].rstrip(b"\xff") + other, LIMIT)


def test_end_markers_in_thumbnails_and_comments_are_not_those_of_the_picture() -> None:
    content = encoded(noise(64, 64), "JPEG")
    inner = encoded(noise(8, 8), "JPEG")
    for marker in (b"\xff\xe1", b"\xff\xe2", b"\xff\xfe"):
        segment = marker + struct.pack(">H", len(inner) + 2) + inner
        assert np.array_equal(decode(content[:2] + segment + content[2:], LIMIT), decode(content, LIMIT))


def test_arithmetic_coding_is_refused() -> None:
    content = bytearray(encoded(noise(8, 8), "JPEG"))
    content[content.index(b"\xff\xc0") + 1] = 0xC9
    assert inspect(bytes(content)).codec == "jpeg"
    with pytest.raises(ValueError, match=r"is a JPEG file of arithmetic coding, .* save it as PNG"):
        decode(bytes(content), LIMIT)


# PNG


PART = r"decodes only in part: \d+ of [\d,]+ pixels are missing|image file is truncated"
"""Pillow itself sees some ends: those that come before the first or within a line."""


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "color"),
    [(depth, 0) for depth in (1, 2, 4, 8, 16)]
    + [(depth, 3) for depth in (1, 2, 4, 8)]
    + [(depth, color) for color in (2, 4, 6) for depth in (8, 16)],
)
def test_png_files_whose_data_end_early_fail_whatever_line_is_the_first_to_lack(
    depth: int, color: int, interlaced: bool
) -> None:
    for width, height in ((9, 11), (1, 1), (5, 2), (3, 1)):
        count = len(lines(width, height, depth * CHANNELS[color], interlaced))
        assert decode(png(width, height, depth, color, interlaced, count), LIMIT).shape == (height, width, 3)
        for kept in range(count):
            with pytest.raises(ValueError, match=PART):
                decode(png(width, height, depth, color, interlaced, kept), LIMIT)


@pytest.mark.parametrize("level", [0, 0xA5, 255])
def test_a_png_file_without_its_last_row_fails_in_every_color(level: int) -> None:
    rows = (b"\0" + bytes([level]) * 120) * 39
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=r"^decodes only in part: 40 of 1,600 pixels are missing$"):
        decode(content, LIMIT)
    partial = header + chunk(b"IDAT", zlib.compress(rows + rows[:70])) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=PART):
        decode(b"\x89PNG\r\n\x1a\n" + partial, LIMIT)


# Others


def gif(width: int, height: int, pixels: int, covered: int | None = None) -> bytes:
    """A GIF picture of 9-bit codes that ends properly after `pixels` pixels; `covered`: height of its only frame."""
    codes = [code for pixel in range(pixels) for code in ((256, pixel % 7) if pixel % 100 == 0 else (pixel % 7,))]
    bits = sum(code << (9 * place) for place, code in enumerate([*codes, 257]))
    data = bits.to_bytes(-(-9 * (len(codes) + 1) // 8), "little")
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    palette = bytes(range(256)) * 3
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, covered or height, 0) + b"\x08" + blocks + b"\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette + frame + b";"


def test_a_gif_file_whose_codes_end_early_fails() -> None:
    assert decode(gif(10, 12, 120), LIMIT)[3, 4, 0] == by_pillow(gif(10, 12, 120))[3, 4, 0]
    for pixels in (1, 60, 110, 119):
        with pytest.raises(ValueError, match=PART):
            decode(gif(10, 12, pixels), LIMIT)
    with pytest.raises(ValueError, match="decodes only in part: 20 of 120 pixels are missing"):
        decode(gif(10, 12, 100, covered=10), LIMIT)


def test_short_bmp_ppm_and_run_length_data_fail() -> None:
    picture = noise(20, 32)
    for codec in ("BMP", "PPM"):
        with pytest.raises(ValueError, match="image cannot be decoded: image file is truncated"):
            decode(encoded(picture, codec)[:-1], LIMIT)
    header = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 4, 4, 1, 8, 1, 0, 0, 0, 256, 0)
    ramp = bytes(value for level in range(256) for value in (level, 0, level, 0))
    whole = b"BM" + header + ramp + b"\x04\x07\0\0" * 4 + b"\0\1"
    assert decode(whole, LIMIT)[3, 3].tolist() == [7, 0, 7]
    with pytest.raises(ValueError, match="the bmp image cannot be decoded: not enough image data"):
        decode(b"BM" + header + ramp + b"\x04\x07\0\0" * 3 + b"\0\1", LIMIT)
    with pytest.raises(ValueError, match="the ppm image cannot be decoded: not enough image data"):
        decode(b"P6\n2 2\n100\n" + bytes(11), LIMIT)


def tiff(offsets: list[int], counts: list[int], data: bytes, compression: int = 1, rows: int = 10) -> bytes:
    """A gray TIFF picture of 40 x 40 in strips of `rows`; places of strips are counted from the start of `data`."""
    start = 8 + 2 + 12 * 8 + 4
    many = len(offsets)
    tables = struct.pack(f"<{2 * many}I", *(start + 8 * many + offset for offset in offsets), *counts)
    numbers = {256: 40, 257: 40, 258: 8, 259: compression, 262: 1, 278: rows}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items()}
    for tag, place, values in ((273, start, offsets), (279, start + 4 * many, counts)):
        value = place if many > 1 else struct.unpack_from("<I", tables, place - start)[0]
        entries[tag] = struct.pack("<HHII", tag, 4, len(values), value)
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + tables + data


def planes(bits: int, planar: int, data: bytes) -> bytes:
    """A TIFF picture of 4 x 2 in three colors, not compressed; planar 2: one plane after the other."""
    numbers = {256: 4, 257: 2, 259: 1, 262: 2, 277: 3, 278: 2, 284: planar}
    parts = 3 if planar == 2 else 1
    start = 8 + 2 + 12 * 10 + 4
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items()}
    entries[258] = struct.pack("<HHII", 258, 3, 3, start)
    for tag, place in ((273, start + 6), (279, start + 6 + 4 * parts)):
        entries[tag] = struct.pack("<HHII", tag, 4, parts, place)
    size, body = len(data) // parts, start + 6 + 8 * parts
    places = [body + size * part for part in range(parts)]
    if parts == 1:
        entries[273], entries[279] = (struct.pack("<HHII", tag, 4, 1, v) for tag, v in ((273, body), (279, size)))
    tables = struct.pack("<3H", *[bits] * 3) + struct.pack(f"<{2 * parts}I", *places, *[size] * parts)
    directory = struct.pack("<H", 10) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + tables + data


def test_sixteen_bits_in_planes_that_the_decoder_misreads_are_refused() -> None:
    colors = np.random.default_rng(5).integers(0, 1 << 16, (2, 4, 3)).astype("<u2")
    eight = (colors >> 8).astype(np.uint8)
    assert np.array_equal(decode(planes(8, 2, eight.transpose(2, 0, 1).tobytes()), LIMIT), eight)
    with pytest.raises(ValueError, match=r"16 bits in planes, not compressed, .*: save it as PNG"):
        decode(planes(16, 2, colors.transpose(2, 0, 1).tobytes()), LIMIT)


def test_a_tiff_file_without_some_of_its_strips_fails() -> None:
    data = noise(40, 40)[:, :, 0].tobytes()
    offsets, counts = [0, 400, 800, 1200], [400] * 4
    assert decode(tiff(offsets, counts, data), LIMIT)[:, :, 0].tobytes() == data
    for content in (tiff(offsets[:3], counts[:3], data), tiff(offsets, counts, data[:-1])):
        with pytest.raises(ValueError, match=r"decodes only in part: 400 of 1,600 pixels|image file is truncated"):
            decode(content, LIMIT)
    packed = zlib.compress(data)
    assert decode(tiff([0], [len(packed)], packed, 8, 40), LIMIT)[:, :, 0].tobytes() == data
    for wrong in (zlib.compress(data[:-40]), packed[: len(packed) // 2]):
        with pytest.raises(ValueError, match="the tiff image cannot be decoded"):
            decode(tiff([0], [len(wrong)], wrong, 8, 40), LIMIT)


@pytest.mark.parametrize(("codec", "options"), [("WEBP", {}), ("WEBP", {"lossless": True}), ("AVIF", {})])
def test_cut_webp_and_avif_files_fail_also_where_their_sizes_agree(codec: str, options: dict[str, Any]) -> None:
    content = encoded(noise(64, 64), codec, **options)
    for part in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(ValueError, match=r"truncated|cannot be decoded"):
            decode(content[: int(len(content) * part)], LIMIT)
    if codec == "WEBP":
        body = content[20 : 20 + (len(content) - 20) // 4 * 2]
        head = b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + content[12:16] + struct.pack("<I", len(body))
        with pytest.raises(ValueError, match="the webp image cannot be decoded"):
            decode(head + body, LIMIT)
