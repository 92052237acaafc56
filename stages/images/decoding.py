"""From the bytes of a file to pixels: one decoder for every class of images.

Pillow decodes; it is handed the file without metadata (`stages.images.containers`), by the plug-in of the codec that
the file's first bytes name. `Image.open` is avoided: it consults a process-wide pixel limit, warns, and tries plug-ins
for formats that no corpus of photographs needs. Nothing here changes a global of Pillow, so threads may decode at once.

Decoders fill what a file lacks and say nothing. So a picture counts only if it was decoded whole: a JPEG decoder has to
finish without having seen the end marker (the last three blocks of 8 x 8 may be lacking, as it looks ahead by 64 bits),
every other decoder has to write each pixel, which is seen from decoding over a canvas of an unusual color and,
where that color comes out, over another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.images.containers import Container, inspect
from stages.images.jpeg_segments import Stream, entropy_coded

if TYPE_CHECKING:
    from PIL import Image

ORIENTATIONS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation -> Pillow's name of the step that puts the picture upright (EXIF 2.3, tag 0x0112)."""

PLUGINS = {
    "png": "Png",
    "jpeg": "Jpeg",
    "webp": "WebP",
    "gif": "Gif",
    "bmp": "Bmp",
    "ppm": "Ppm",
    "tiff": "Tiff",
    "avif": "Avif",
}
MODES = ("1", "L", "P", "RGB", "CMYK", "LA", "PA", "RGBA", "I", "I;16", "I;16B")
"""Color modes that become RGB by a rule of `decode`."""

CANVASES = (0xA5, 0)
"""Bytes of the canvases: one that is rare at the end of a picture, and another one, also in black and white."""

ROW_BY_ROW = ("png", "bmp", "ppm")
"""Codecs whose decoders write whole rows in their order; of BMP the first row may be the last."""
WHOLE_FRAMES = ("webp", "avif")
"""Codecs whose libraries give a whole frame or an error."""
LOOKED_OVER = b"\xff\0"
"""A stuffed byte: eight bits of the data of a scan, and nothing between two scans."""


def decode(content: bytes, max_pixels: int, exif_rotate: bool = True, luma: bool = False) -> NDArray[np.uint8]:
    """Pixels of an image file, (H, W, 3) uint8 RGB, 0 to 255; profiles are not applied.

    luma: of a JPEG file in YCbCr the Y plane instead, as the decoder gives it, repeated three times.

    Gray is repeated three times; 16 bits per channel keep the upper eight; palettes are looked up; CMYK is converted by
    Pillow's plain formula; an alpha channel is dropped if it is opaque everywhere. Raises ValueError with one sentence
    for a damaged file, an animation, transparent pixels, or more than `max_pixels` (before anything is allocated).
    """
    container = inspect(content)
    if container.width * container.height > max_pixels:
        size = f"{container.width:,} x {container.height:,} pixels"
        raise ValueError(f"the header claims {size}, expected at most {max_pixels:,} in all (max_pixels)")
    if container.codec == "mp4":
        raise ValueError(container.refused)
    if container.frames > 1:
        found = (
            f"has {container.frames} pages"
            if container.codec == "tiff"
            else f"is an animation of {container.frames} frames"
        )
        raise ValueError(f"{found}, expected one picture")
    if container.refused:
        raise ValueError(container.refused)
    image = _load(container, luma)
    if exif_rotate and container.orientation in ORIENTATIONS:
        from PIL import Image

        image = image.transpose(Image.Transpose[ORIENTATIONS[container.orientation]])
    return _rgb(image)


def _load(container: Container, luma: bool) -> Image.Image:
    """Let the plug-in of the codec decode all pixels. Raises ValueError where it cannot, or not all."""
    if container.scans is not None:
        with _one_sentence(container):
            stream = entropy_coded(container.picture, container.scans)
        return _decode_scans(container, stream, luma)
    image = _decode_on(CANVASES[0], container)
    if _may_lack_pixels(container, image):
        other = _decode_on(CANVASES[1], container)
        lacking = np.asarray(image) != np.asarray(other)
        count = int(lacking.reshape(*lacking.shape[:2], -1).any(axis=2).sum())
        if count:
            raise ValueError(f"decodes only in part: {count:,} of {image.width * image.height:,} pixels are missing")
    return image


@contextmanager
def _one_sentence(container: Container) -> Iterator[None]:
    """Errors of Pillow and of damaged structures as ValueError."""
    import struct
    import zlib

    try:
        yield
    except (OSError, SyntaxError, EOFError, IndexError, ValueError, OverflowError, struct.error, zlib.error) as error:
        raise ValueError(f"the {container.codec} image cannot be decoded: {error}") from error


def _opened(container: Container, content: bytes) -> Any:
    """The image by the plug-in of its codec, not yet decoded."""
    with _one_sentence(container):
        image = _plugin(container.codec)(BytesIO(content), "")
    if image.size != (container.width, container.height):
        raise ValueError(f"holds {image.size} pixels, expected {(container.width, container.height)} as in its header")
    if image.mode not in MODES:
        raise ValueError(f"has color mode {image.mode}, expected gray, RGB, palette or CMYK")
    return image


def _decode_scans(container: Container, stream: Stream, luma: bool) -> Image.Image:
    """A JPEG image whose decoder needs no more than `stream` holds.

    It is handed the scans and then padding: all ones are the code of nothing and end a block after 34 bits. A decoder
    of one scan is done with its last line. One of several scans looks for the next marker instead, and passes over
    whatever is no marker byte by byte; one in want of data never takes a single byte, as it fills 57 bits or none.
    """
    from PIL import Image

    fed = stream.coded + LOOKED_OVER * 8
    image = _opened(container, fed)
    if luma:
        image.draft("L", None)
    image.load_prepare()
    (tile,) = image.tile
    decoder = Image._getdecoder(image.mode, tile.codec_name, tile.args, image.decoderconfig)
    try:
        decoder.setimage(image.im, tile.extents)
        taken, error = decoder.decode(fed)
        if stream.several and taken == len(fed) and decoder.decode(LOOKED_OVER)[0] == len(LOOKED_OVER):
            taken, error = decoder.decode(b"\xff\xd9")
    finally:
        decoder.cleanup()
    image.tile = []
    if taken >= 0 or error < 0:
        what = "data are damaged" if error < 0 else "scans end before the last line"
        raise ValueError(f"the jpeg image cannot be decoded: its {what}")
    return image  # type: ignore[no-any-return]


def _decode_on(ink: int, container: Container) -> Image.Image:
    """The image, decoded over a canvas that is `ink` in all its bytes."""
    from PIL import Image

    image = _opened(container, container.picture)
    bands = len(image.getbands())
    image.im = Image.new(image.mode, image.size, ink if bands == 1 else (ink,) * bands).im
    with _one_sentence(container):
        image.load()
    return image  # type: ignore[no-any-return]


def _may_lack_pixels(container: Container, image: Image.Image) -> bool:
    """Whether a pixel that is decoded last has the color of the canvas, or which one is the last is not known."""
    if container.codec in WHOLE_FRAMES:
        return False
    if container.codec in ROW_BY_ROW and image.mode != "1" and not image.info.get("interlace"):
        inks = CANVASES[0], (CANVASES[0],) * len(image.getbands())
        return any(image.getpixel((image.width - 1, row)) in inks for row in (0, image.height - 1))
    return True


def _plugin(codec: str) -> Any:
    from importlib import import_module

    name = PLUGINS[codec]
    return getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of an image in any mode that the plug-ins give."""
    transparent = "transparency" in image.info
    if image.mode in ("I;16", "I;16B", "I"):
        if transparent:
            raise ValueError("has transparent pixels, expected none: flatten the image first")
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("has more than 16 bits per channel, expected 8 or 16")
        return np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if transparent or image.mode in ("LA", "PA", "RGBA"):
        values = np.asarray(image.convert("RGBA"))
        if values[:, :, 3].min() < 255:
            raise ValueError("has transparent pixels, expected none: flatten the image first")
        return np.ascontiguousarray(values[:, :, :3])
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (0.299 R + 0.587 G + 0.114 B, rounded as Pillow does) repeated in three channels; (H, W, 3) uint8."""
    from PIL import Image

    return np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None], 3, axis=2)


def stored_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """8-bit gray as OpenCV rounds it, repeated in three channels; (H, W, 3) uint8. Equal channels stay as they are."""
    from stages.images.planes import opencv_gray

    return np.repeat(opencv_gray(pixels[None])[0].astype(np.uint8)[:, :, None], 3, axis=2)


def resized(pixels: NDArray[np.uint8], size: int, filter: str = "lanczos") -> NDArray[np.uint8]:
    """Resample to (size, size, 3) uint8 with one of Pillow's filters, which widen where they reduce; unchanged if it is
    that size."""
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((size, size), Image.Resampling[filter.upper()]))
