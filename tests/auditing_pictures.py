"""Pictures and files for tests of the audit: textured like photographs, and none like another."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from stages.auditing.coding import coding
from stages.auditing.examined import Row
from stages.images.containers import inspect


def scene(seed: int, side: int = 32) -> np.ndarray:
    """(side, side, 3) uint8: smooth shapes with a little texture."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 1, (6, 6, 3))
    large = np.asarray(
        [Image.fromarray(coarse[..., channel].astype(np.float32)).resize((side, side), 3) for channel in range(3)]
    )
    fine = random.normal(0, random.uniform(1, 6), (side, side, 1))
    return np.clip(128 + 45 * large.transpose(1, 2, 0) + fine, 0, 255).astype(np.uint8)


def encoded(picture: np.ndarray | Image.Image, codec: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def folder(place: Path, contents: list[bytes], start: int = 0, suffix: str = ".png") -> Path:
    """Files 00000.png and so on."""
    place.mkdir(parents=True)
    for number, content in enumerate(contents):
        (place / f"{start + number:05d}{suffix}").write_bytes(content)
    return place


def of_file(name: str, content: bytes) -> Row:
    """A row of which only the container is known."""
    return Row(name, True, coding=coding(content, inspect(content)))


Make = Callable[[np.ndarray], bytes]


def jpeg(quality: int = 90, **options: Any) -> Make:
    return lambda picture: encoded(picture, "JPEG", quality=quality, **{"subsampling": 2, **options})


def texted(picture: np.ndarray, value: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", value)
    return encoded(picture, pnginfo=info)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


CONTAINERS: list[tuple[str, Make, Make]] = [
    ("codec", encoded, jpeg()),
    ("encoder", jpeg(), jpeg(optimize=True)),
    ("encoder", encoded, lambda picture: encoded(picture, compress_level=1)),
    ("quantization", jpeg(90), jpeg(89)),
    ("subsampling", jpeg(), jpeg(subsampling=0)),
    ("progressive", jpeg(), jpeg(progressive=True)),
    ("mode", encoded, lambda picture: encoded(Image.fromarray(picture).quantize(200))),
    ("alpha", encoded, lambda picture: encoded(Image.fromarray(picture).convert("RGBA"))),
    ("icc", encoded, lambda picture: encoded(picture, icc_profile=b"profile")),
    ("exif", jpeg(exif=exif(1)), jpeg()),
    ("orientation", jpeg(exif=exif(1)), jpeg(exif=exif(3))),
    ("metadata_text", lambda p: texted(p, "Camera 1"), lambda p: texted(p, "Diffuser 2")),
    ("size", encoded, lambda picture: encoded(picture[1:, 1:])),
    ("aspect", lambda picture: encoded(picture[8:]), lambda picture: encoded(picture[:, 8:])),
    ("file_size_per_pixel", encoded, lambda picture: encoded(picture // 2 * 2)),
]
"""Check -> how files of reals and of fakes are made that differ in it."""
