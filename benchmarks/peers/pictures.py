"""The pictures that all tools are given: PNG files of 64 pixels, smooth with some noise, each a different one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def write_pictures(folder: Path, first: int, count: int) -> None:
    """Pictures number `first` and on, about 9 kB each, as PNG packs photographs of that size."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float32)
        noisy = np.clip(smooth + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:06d}.png")
