"""CocoIndex: one component per file, whose two functions are memoized, and a file per curve."""

from __future__ import annotations

import sys
from pathlib import Path

import cocoindex as coco
import numpy as np
from cocoindex.connectors import localfs
from picture_work import curve, decode


@coco.fn(memo=True)
def image_of(data: bytes) -> bytes:
    return decode(data).tobytes()


@coco.fn(memo=True)
def curve_of(image: bytes, gain: float) -> bytes:
    return curve(np.frombuffer(image, np.uint8).reshape(64, 64, 3), gain).tobytes()


@coco.fn(memo=True)
async def process(file: localfs.File, gain: float) -> None:
    image = image_of(await file.read())
    localfs.declare_file(
        Path("curves") / f"{file.file_path.path.name}.bin", curve_of(image, gain), create_parent_dirs=True
    )


@coco.fn
async def pictures(folder: Path, gain: float) -> None:
    await coco.mount_each(process, localfs.walk_dir(folder).items(), gain)


if __name__ == "__main__":
    coco.App(coco.AppConfig(name="pictures"), pictures, Path("photos"), float(sys.argv[1])).update_blocking()
