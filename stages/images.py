"""From the bytes of a file to pixels: one decoder for every class of images.

Pillow decodes; it is handed the file without metadata (`stages.containers`), by the plug-in of the codec that the
file's first bytes name. `Image.open` is avoided: it consults a process-wide pixel limit, warns, and tries plug-ins for
formats that no corpus of photographs needs. Nothing here changes a global of Pillow, so threads may decode at once.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.containers import Container, inspect

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


def decode(content: bytes, max_pixels: int, exif_rotate: bool = True) -> NDArray[np.uint8]:
    """Pixels of an image file, (H, W, 3) uint8 RGB, 0 to 255; profiles are not applied.

    Gray is repeated three times; 16 bits per channel keep the upper eight; palettes are looked up; CMYK is converted by
    Pillow's plain formula; an alpha channel is dropped if it is opaque everywhere. Raises ValueError with one sentence
    for a damaged file, an animation, transparent pixels, or more than `max_pixels` (before anything is allocated).
    """
    container = inspect(content)
    if container.width * container.height > max_pixels:
        size = f"{container.width:,} x {container.height:,} pixels"
        raise ValueError(f"the header claims {size}, expected at most {max_pixels:,} in all (max_pixels)")
    if container.frames > 1:
        raise ValueError(f"is an animation of {container.frames} frames, expected one picture")
    if container.codec == "ppm" and container.mode.endswith(";16"):
        raise ValueError("is a PPM or PGM file of 16 bits per channel, expected 8")
    image = _load(container)
    if exif_rotate and container.orientation in ORIENTATIONS:
        from PIL import Image

        image = image.transpose(Image.Transpose[ORIENTATIONS[container.orientation]])
    return _rgb(image)


def _load(container: Container) -> Image.Image:
    """Let the plug-in of the codec decode all pixels."""
    import struct
    import zlib

    try:
        image = _plugin(container.codec)(BytesIO(container.picture), "")
        if image.size != (container.width, container.height):
            raise ValueError(
                f"holds {image.size} pixels, expected {(container.width, container.height)} as in its header"
            )
        image.load()
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise ValueError(f"the {container.codec} image cannot be decoded: {error}") from error
    return image


def _plugin(codec: str) -> Any:
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin

    return {
        "png": PngImagePlugin.PngImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
        "gif": GifImagePlugin.GifImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
        "ppm": PpmImagePlugin.PpmImageFile,
    }[codec]


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
    if image.mode not in ("1", "L", "P", "RGB", "CMYK"):
        raise ValueError(f"has color mode {image.mode}, expected gray, RGB, palette or CMYK")
    return np.array(image.convert("RGB"))


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (0.299 R + 0.587 G + 0.114 B, rounded as Pillow does) repeated in three channels; (H, W, 3) uint8."""
    from PIL import Image

    return np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None], 3, axis=2)


def lanczos(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resample to (size, size, 3) uint8 with Pillow's antialiased Lanczos filter; unchanged if it is that size."""
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize((size, size), Image.Resampling.LANCZOS))
