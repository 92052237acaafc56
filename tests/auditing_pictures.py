"""Pictures and files for tests of the audit: textured like photographs, and none like another."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


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
