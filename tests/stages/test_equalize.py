"""One outcome, computed or one sentence, for every kind of file; the chain against Pillow step by step."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from pydantic import ValidationError

from detectors.profiles import prepared
from pipeline.stage import CONTENT, ID, Batch, Context, Field, RowError
from stages.equalize import Equalize, EqualizeConfig
from stages.images.containers import inspect
from stages.images.decoding import decode
from stages.images.jpeg_quality import nearest_quality
from stages.spectra.profiles import line_spectra

STAGE = Equalize()
LIMIT = 10**6


def scene(height: int = 40, width: int = 56) -> np.ndarray:
    """A picture that no flip or rotation leaves unchanged, smooth enough for JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 4, y * 5, (x * y) // 9]
    return np.clip(np.stack(channels, axis=2), 0, 255).astype(np.uint8)


def encoded(picture: np.ndarray | Image.Image, codec: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def config(size: int = 8, **more: Any) -> EqualizeConfig:
    return EqualizeConfig.model_validate({"size": size, **more})


def run(settings: EqualizeConfig, *contents: bytes | RowError) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    def read(row: int) -> bytes:
        content = contents[row]
        if isinstance(content, RowError):
            raise content
        return content

    context = Context(0, "equalize")
    rows = np.array([hashlib.sha256(b"%d" % row).digest()[:16] for row in range(len(contents))], ID)
    batch = Batch(rows, (rows,), ({},), reader=read)
    return dict(STAGE.compute(settings, batch, context)), context.failures


# Decoding


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "BMP", "PPM", "GIF"])
def test_pixels_equal_those_of_pillow_without_metadata(codec: str) -> None:
    content = encoded(scene(), codec)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decode(content, LIMIT), np.asarray(image.convert("RGB")))


def test_metadata_profiles_and_text_do_not_reach_the_pixels() -> None:
    exif = Image.Exif()
    exif[0x010E] = "description"
    plain, rich = {"quality": 80}, {"quality": 80, "exif": exif, "icc_profile": b"nonsense" * 50, "comment": b"hello"}
    assert np.array_equal(
        decode(encoded(scene(), "JPEG", **plain), LIMIT), decode(encoded(scene(), "JPEG", **rich), LIMIT)
    )
    assert np.array_equal(decode(encoded(scene(), icc_profile=b"nonsense"), LIMIT), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_puts_the_picture_upright(orientation: int, codec: str) -> None:
    """Stored pixels are made from the upright ones by the inverse step, written here with NumPy alone."""
    stored = {
        1: lambda up: up,
        2: lambda up: up[:, ::-1],
        3: lambda up: up[::-1, ::-1],
        4: lambda up: up[::-1],
        5: lambda up: up.transpose(1, 0, 2),
        6: lambda up: np.rot90(up, 1),
        7: lambda up: up[::-1, ::-1].transpose(1, 0, 2),
        8: lambda up: np.rot90(up, -1),
    }[orientation](scene())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(codec, {})
    content = encoded(np.ascontiguousarray(stored), codec, exif=exif, **options)
    upright = decode(content, LIMIT)
    assert upright.shape == scene().shape
    assert np.abs(upright.astype(int) - scene()).max() <= (8 if codec == "JPEG" else 0)
    assert decode(content, LIMIT, exif_rotate=False).shape == stored.shape


def test_gray_is_repeated_and_palette_looked_up() -> None:
    gray = scene()[:, :, 0]
    assert np.array_equal(decode(encoded(gray), LIMIT), np.repeat(gray[:, :, None], 3, axis=2))
    palette = Image.fromarray(scene()).quantize(32)
    assert np.array_equal(decode(encoded(palette), LIMIT), np.asarray(palette.convert("RGB")))
    bits = encoded(Image.fromarray(gray).convert("1"))
    assert set(np.unique(decode(bits, LIMIT))) == {0, 255}


def test_16_bits_keep_the_upper_eight_in_gray_and_color() -> None:
    values = np.arange(0, 65536, 257 * 3 + 1, dtype=np.uint16)
    gray = np.tile(values, (4, 1))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in gray)
    expected = np.repeat((gray >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(decode(png(len(values), 4, 16, 0, rows), LIMIT), expected)
    color = np.stack([gray, gray[:, ::-1], gray], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in color)
    assert np.array_equal(decode(png(len(values), 4, 16, 2, rows), LIMIT), (color >> 8).astype(np.uint8))


def test_16_bit_netpbm_fails() -> None:
    with pytest.raises(ValueError, match="is a PPM or PGM file of 16 bits per channel, expected 8"):
        decode(b"P6\n2 1\n65535\n" + bytes(12), LIMIT)


def test_cmyk_is_converted_by_the_plain_formula() -> None:
    """R = (255 - C) (255 - K) / 255 and so on, to the rounding of JPEG at quality 100."""
    inks = np.full((16, 16, 4), (40, 120, 200, 30), np.uint8)
    image = Image.merge("CMYK", [Image.fromarray(inks[:, :, channel].copy()) for channel in range(4)])
    content = encoded(image, "JPEG", quality=100)
    clear = (255 - inks[..., :3].astype(int)) * (255 - inks[..., 3:].astype(int)) / 255
    assert np.abs(decode(content, LIMIT) - clear).max() <= 3


def test_opaque_alpha_is_dropped() -> None:
    picture = np.dstack([scene(), np.full(scene().shape[:2], 255, np.uint8)])
    for codec in ("PNG", "WEBP"):
        options = {"lossless": True} if codec == "WEBP" else {}
        assert np.array_equal(decode(encoded(picture, codec, **options), LIMIT), scene())


def transparent(mode: str) -> bytes:
    alpha = np.full(scene().shape[:2], 255, np.uint8)
    alpha[3, 4] = 254
    if mode == "RGBA":
        return encoded(np.dstack([scene(), alpha]))
    if mode == "LA":
        return encoded(Image.merge("LA", [Image.fromarray(scene()[:, :, 0]), Image.fromarray(alpha)]))
    if mode == "palette with bytes":
        return encoded(Image.fromarray(scene()).quantize(16), transparency=bytes([0, 128] + [255] * 14))
    if mode == "palette":
        return encoded(Image.fromarray(scene()).quantize(16), transparency=0)
    if mode == "RGB with a key":
        return encoded(Image.fromarray(scene()), transparency=(0, 0, 0))
    values = np.zeros((4, 4), np.uint16)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return png(4, 4, 16, 0, rows, chunk(b"tRNS", b"\0\0"))


@pytest.mark.parametrize(
    "mode", ["RGBA", "LA", "palette with bytes", "palette", "RGB with a key", "16 bits with a key"]
)
def test_transparent_pixels_fail(mode: str) -> None:
    with pytest.raises(ValueError, match="has transparent pixels, expected none: flatten the image first"):
        decode(transparent(mode), LIMIT)


@pytest.mark.parametrize("codec", ["GIF", "PNG", "WEBP"])
def test_animations_fail_with_their_number_of_frames(codec: str) -> None:
    frames = [Image.fromarray(np.roll(scene(), 5 * k, axis=1)) for k in range(3)]
    content = encoded(frames[0], codec, save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(ValueError, match="is an animation of 3 frames, expected one picture"):
        decode(content, LIMIT)


@pytest.mark.parametrize("codec", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_truncated_files_fail(codec: str, part: float) -> None:
    content = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), codec)
    with pytest.raises(ValueError, match=r"truncated|cut off|cannot be decoded"):
        decode(content[: int(len(content) * part)], LIMIT)


def test_png_without_its_last_chunk_fails() -> None:
    with pytest.raises(ValueError, match="the PNG file is truncated: its last chunk IEND is missing"):
        decode(encoded(scene())[:-12], LIMIT)


def bomb(codec: str) -> bytes:
    """A header that claims 50,000 x 50,000 pixels (WebP: 16,383 x 16,383, the most it can)."""
    if codec == "png":
        return png(50_000, 50_000, 8, 2, b"")
    if codec == "bmp":
        return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)
    if codec == "ppm":
        return b"P6\n50000 50000\n255\n"
    if codec == "gif":
        frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 50_000, 50_000, 0) + b"\2\0\x3b"
        return b"GIF89a" + struct.pack("<HHBBB", 50_000, 50_000, 0, 0, 0) + frame
    if codec == "webp":
        body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    content = bytearray(encoded(scene(), "JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 50_000, 50_000)
    return bytes(content)


@pytest.mark.parametrize("codec", ["png", "jpeg", "webp", "gif", "bmp", "ppm"])
def test_a_bomb_fails_by_its_header_before_any_decoder_sees_it(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("a decoder was opened")

    monkeypatch.setattr("stages.images.decoding._load", never)
    with pytest.raises(
        ValueError, match=r"the header claims (50,000 x 50|16,383 x 16),\d+ pixels, expected at most 100"
    ):
        decode(bomb(codec), config().max_pixels)


def test_pictures_above_the_limit_of_pillow_neither_warn_nor_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for codec in ("PNG", "JPEG", "BMP", "PPM"):
        values, failures = run(config(), encoded(scene(), codec))
        assert not failures
        assert values["image"].any()


def test_damaged_metadata_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    """Pillow warns about such EXIF blocks and frame counts where it opens the files itself."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + struct.pack("<HHII", 0x011A, 5, 1, 0xFFFFFF) * 2
    jpeg = encoded(scene(), "JPEG", quality=90)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    plain = encoded(scene())
    animated = plain[:33] + chunk(b"acTL", struct.pack(">II", 0, 0)) * 2 + plain[33:]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert np.array_equal(decode(jpeg[:2] + segment + jpeg[2:], LIMIT), decode(jpeg, LIMIT))
        assert np.array_equal(decode(animated, LIMIT), scene())
    assert not recwarn.list


def test_threads_decode_alike_and_no_setting_of_pillow_moves() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:]
    contents = [encoded(np.roll(scene(), k, axis=0), codec) for k in range(8) for codec in ("PNG", "JPEG", "WEBP")]
    alone = [decode(content, LIMIT) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda content: decode(content, LIMIT), contents))
    assert all(np.array_equal(left, right) for left, right in zip(alone, together, strict=True))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.filters[:])


# The stage


def test_chain_is_decode_crop_lanczos_as_pillow_does_them() -> None:
    content = encoded(scene())
    values, failures = run(config(16), content)
    left = (56 - 40) // 2
    expected = Image.open(io.BytesIO(content)).crop((left, 0, left + 40, 40)).resize((16, 16), Image.Resampling.LANCZOS)
    assert np.array_equal(values["image"][0], np.asarray(expected))
    assert values["reduction"].tolist() == [2.5]
    assert not failures


def test_real_files_and_generated_arrays_get_the_same_bytes() -> None:
    content = encoded(scene())
    rows = np.zeros(1, ID)
    from_file, _ = run(config(16), content)
    batch = Batch(rows, (rows,), ({"image": scene()[None]},))
    from_array = STAGE.compute(config(16), batch, Context(0, "equalize"))
    assert from_file["image"].tobytes() == from_array["image"].tobytes()


def test_an_image_of_the_wanted_size_is_not_resampled() -> None:
    square = np.ascontiguousarray(scene()[:, :40])
    values, _ = run(config(40), encoded(square))
    assert np.array_equal(values["image"][0], square)
    assert values["reduction"].tolist() == [1.0]


def test_box_cuts_the_named_square() -> None:
    values, failures = run(config(8, crop={"left": 30, "top": 7, "side": 8}), encoded(scene()))
    assert np.array_equal(values["image"][0], scene()[7:15, 30:38])
    assert not failures
    _, failures = run(config(8, crop={"left": 30, "top": 7, "side": 40}), encoded(scene()))
    assert failures == {0: "is 56 x 40 pixels, too small for the crop 30, 7, 40 (left, top, side)"}


def test_crop_none_wants_squares() -> None:
    values, failures = run(config(8, crop="none"), encoded(scene()), encoded(scene(24, 24)))
    assert failures == {0: "is 56 x 40 pixels, expected a square; use crop: center or a box"}
    assert values["reduction"].tolist() == [0.0, 3.0]


def test_small_images_fail_unless_enlarging_is_declared() -> None:
    content = encoded(scene(20, 30))
    _, failures = run(config(32), content)
    assert failures[0].startswith("has a square of 20 pixels, expected at least 32; use a smaller size")
    values, failures = run(config(32, upsample=True), content)
    assert not failures
    assert values["reduction"].tolist() == [20 / 32]


def test_gray_is_the_luma_in_three_channels() -> None:
    values, _ = run(config(40, color="gray"), encoded(np.ascontiguousarray(scene()[:, :40])))
    luma = scene()[:, :40].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(values["image"][0] - luma[:, :, None]).max() <= 0.51


def test_bad_rows_fail_with_one_sentence_and_leave_the_others() -> None:
    wrong = RowError("a.png is not what its manifest or the scan says")
    good = encoded(scene())
    values, failures = run(config(), b"", good, wrong, good[:200], bomb("png"))
    assert sorted(failures) == [0, 2, 3, 4]
    assert failures[0] == "the file is empty (0 bytes), expected an image"
    assert failures[2] == "a.png is not what its manifest or the scan says"
    assert np.array_equal(values["image"][1], run(config(), good)[0]["image"][0])
    assert all("\n" not in reason for reason in failures.values())


def test_a_row_depends_on_its_own_bytes_only() -> None:
    contents = [encoded(np.roll(scene(), 3 * k, axis=0), codec) for k, codec in enumerate(("PNG", "JPEG", "WEBP"))]
    forward, backward = run(config(16), *contents)[0]["image"], run(config(16), *contents[::-1])[0]["image"]
    assert forward.tobytes() == backward[::-1].tobytes()


def test_schema_follows_the_size_and_checks_the_input() -> None:
    files = {"codec": Field("S8"), CONTENT: Field("V0")}
    assert STAGE.schema(config(64), {"of": files})["image"].shape == (64, 64, 3)
    assert STAGE.schema(config(64), {"of": {"image": Field("uint8", (128, 96, 3))}})["image"].shape == (64, 64, 3)
    for parent, message in [
        ({"codec": Field("S8")}, "equalize needs image files or an `image` field, found codec"),
        ({"image": Field("float32", (64, 64, 3))}, r"needs `image` as \(H, W, 3\) uint8, found \(64, 64, 3\) float32"),
        (
            {"image": Field("uint8", (32, 32, 3))},
            "`image` of the input has a square of 32 pixels, expected at least 64",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            STAGE.schema(config(64), {"of": parent})


def test_versions_of_the_lossy_decoders_are_part_of_the_environment() -> None:
    from PIL import features

    expected = {"libjpeg": features.version("jpg"), "libwebp": features.version("webp")}
    expected["libavif"] = features.version("avif")
    assert STAGE.environment(config()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Field required"),
        ({"size": 64, "resample": "cubic"}, "Input should be 'nearest', 'box'"),
        ({"size": 64, "crop": "centre"}, "Input should be 'center', 'native' or 'none'"),
        ({"size": "64"}, "valid integer"),
        ({"size": 64, "crop": {"left": -1, "top": 0, "side": 8}}, "greater than or equal to 0"),
        ({"size": 64, "prefer": "recompress"}, "prefer needs a quality"),
        ({"size": 64, "quality": 90}, "quality has no effect"),
        ({"size": 64, "crop": "native", "resample": "box"}, "crop native never resamples"),
        ({"size": 64, "protocol": "window", "sides": [9, 99]}, "protocol 'window' needs qualities"),
        ({"size": 64, "protocol": "jpeg96", "quality": 90}, "quality is 90, and protocol 'jpeg96' sets 96"),
        ({"size": 64, "sides": [90, 80]}, "expected least and most"),
        ({"size": 64, "qualities": [0]}, "expected numbers from 1 to 100"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EqualizeConfig.model_validate(settings)


# Protocols


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_each_filter_is_pillows(name: str) -> None:
    arrays, failures = run(config(16, resample=name), encoded(scene(40, 40)))
    expected = Image.fromarray(scene(40, 40)).resize((16, 16), Image.Resampling[name.upper()])
    assert not failures
    assert np.array_equal(arrays["image"][0], np.asarray(expected))


def test_jpeg96_recompresses_every_row_after_its_last_step() -> None:
    settings = config(16, protocol="jpeg96")
    assert (settings.prefer, settings.quality) == ("recompress", 96)
    contents = [encoded(scene(40, 40)), encoded(scene(40, 40), "JPEG", quality=75)]
    arrays, _ = run(settings, *contents)
    for row, content in enumerate(contents):
        small = Image.open(io.BytesIO(content)).convert("RGB").resize((16, 16), Image.Resampling.LANCZOS)
        again = Image.open(io.BytesIO(encoded(small, "JPEG", quality=96)))
        assert np.array_equal(arrays["image"][row], np.asarray(again))


def test_a_native_crop_is_never_resampled_and_keeps_the_grid_of_blocks() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (57, 90, 3), dtype=np.uint8)
    arrays, failures = run(config(16, protocol="native_crop"), encoded(picture), encoded(picture[:15]))
    assert np.array_equal(arrays["image"][0], picture[16:32, 32:48])  # from multiples of 8
    assert arrays["reduction"][0] == 1
    assert failures == {1: "is 90 x 15 pixels, expected at least 16 per side; use a smaller size"}


def test_a_window_takes_reals_of_its_qualities_and_codes_what_was_never_jpeg_once() -> None:
    settings = config(16, protocol="window", sides=[30, 50], qualities=[90])
    picture = scene(40, 40)
    arrays, failures = run(
        settings,
        encoded(picture, "JPEG", quality=90),
        encoded(picture),
        encoded(picture, "JPEG", quality=75),
        encoded(picture, "WEBP"),
        encoded(scene(40, 56)),
    )
    assert np.array_equal(arrays["image"][0], arrays["image"][1])
    assert failures == {
        2: "is a JPEG file of quality 75, expected 90 (qualities)",
        3: "is a webp file, expected JPEG or one that loses nothing (qualities)",
        4: "is 56 x 40 pixels, expected sides from 30 to 50 (sides)",
    }


def test_the_quality_of_a_row_is_drawn_by_its_id_from_those_of_the_reals() -> None:
    settings = config(40, qualities=[50, 95])
    picture = encoded(scene(40, 40))
    arrays, _ = run(settings, *[picture] * 40)
    expected = {
        np.asarray(Image.open(io.BytesIO(encoded(scene(40, 40), "JPEG", quality=q)))).tobytes() for q in (50, 95)
    }
    found = [image.tobytes() for image in arrays["image"]]
    assert set(found) == expected
    assert found == [image.tobytes() for image in run(settings, *[picture] * 40)[0]["image"]]


@pytest.mark.parametrize("quality", [5, 40, 50, 75, 90, 96, 100])
def test_the_quality_of_a_file_is_read_from_its_table(quality: int) -> None:
    assert nearest_quality(inspect(encoded(scene(), "JPEG", quality=quality)).quantization[0]) == quality


@pytest.mark.golden("spectrum", "jpeg_gray.npz")
def test_the_stored_luma_of_a_jpeg_file_is_the_published_gray_and_its_feature(golden: Any) -> None:
    for index in (match[1] for match in golden.matches(r"jpeg(\d+)")):
        content, expected = golden[f"jpeg{index}"].tobytes(), golden[f"gray{index}"]
        side = min(expected.shape)
        found, failures = run(config(side, color="stored_luma"), content)
        assert failures == {}
        top, left = ((length - side) // 2 for length in expected.shape)
        square = expected[top : top + side, left : left + side]
        np.testing.assert_array_equal(found["image"][0], np.repeat(square[:, :, None], 3, axis=2))
        if expected.shape == (side, side):
            profile = line_spectra(found["image"], "durall19", False, np.float64)["profile"]
            ours = prepared(profile, "divide_by_first", 80)[0]
            np.testing.assert_allclose(ours, golden[f"norm80_{index}"], rtol=0, atol=1e-9)


def test_the_stored_luma_of_all_else_is_gray_as_opencv_rounds_it() -> None:
    picture = scene(48, 48)
    red, green, blue = (picture[:, :, channel].astype(np.int64) for channel in range(3))
    gray = ((9798 * red + 19235 * green + 3735 * blue + 16384) >> 15).astype(np.uint8)
    settings = config(48, color="stored_luma")
    for codec in ("PNG", "PPM", "BMP"):
        found, _ = run(settings, encoded(picture, codec))
        np.testing.assert_array_equal(found["image"][0], np.repeat(gray[:, :, None], 3, axis=2))
    luma = np.asarray(Image.open(io.BytesIO(encoded(picture, "JPEG", quality=50))).convert("YCbCr"))[:, :, 0]
    found, _ = run(settings, encoded(picture, "JPEG", quality=50))
    assert np.abs(found["image"][0, :, :, 0].astype(int) - luma).max() <= 2  # there and back by RGB


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_the_stored_luma_comes_from_every_kind_of_scan(options: dict[str, Any]) -> None:
    content = encoded(scene(48, 48), "JPEG", quality=60, **options)
    with Image.open(io.BytesIO(content)) as file:
        file.draft("L", file.size)
        expected = np.asarray(file)
    np.testing.assert_array_equal(decode(content, LIMIT, luma=True)[:, :, 0], expected)


def test_a_stored_plane_is_not_asked_of_arrays_alone() -> None:
    image, file = {"image": Field("uint8", (48, 48, 3))}, {CONTENT: Field("V0")}
    settings = config(48, color="stored_luma")
    STAGE.check_branches(settings, [file, image])
    STAGE.check_branches(config(48), [image])
    with pytest.raises(ValueError, match="color is stored_luma, but no rows are read from files"):
        STAGE.check_branches(settings, [image, image])
    assert "declare equalize.color" in STAGE.remarks(settings, {})[0]
    assert STAGE.remarks(config(48), {}) == ()
