"""A data set of torchvision.datasets that is already on disk; nothing is ever downloaded."""

from __future__ import annotations

import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline.errors import ConfigError
from pipeline.inputs.walk import left_out
from pipeline.stage import StageConfig, row_setting
from stages.images.containers import inspect
from stages.images.readers.contract import Found, Locations, Numbers, Reader, ids_of
from stages.images.readers.netpbm import netpbm

TORCHVISION_LOCK = threading.Lock()
"""Some torchvision data sets set the global seed while they make an item."""

PLAIN = ("1", "L", "P", "RGB", "CMYK")
"""Color modes that become RGB without loss of bits or of transparency."""


class TorchvisionDataset(StageConfig):
    """A data set of torchvision.datasets that is already on disk; nothing is ever downloaded."""

    dataset: str = row_setting(description="class name in torchvision.datasets, e.g. CIFAR10")
    arguments: dict[str, Any] = row_setting({}, description="its arguments; `root` is relative to pipeline.yaml")

    @model_validator(mode="after")
    def _no_download(self) -> TorchvisionDataset:
        if self.arguments.get("download", False) is not False:
            raise ValueError("download must be false: put the data set on disk first")
        return self


def _rows(config: Any, scan: Any) -> Found:
    """Rows of a torchvision data set; its items are read once and remembered while its folder is untouched."""
    source: TorchvisionDataset = config.torchvision
    root = str(scan.source(source.arguments["root"])) if "root" in source.arguments else ""

    def compute() -> dict[str, NDArray[np.uint8]]:
        import hashlib

        dataset = _torchvision(source, root)
        if not scan.reads:
            return {"digests": np.zeros((len(dataset), 32), np.uint8)}
        digests = [hashlib.sha256(_netpbm(dataset, row, source.dataset)).digest() for row in range(len(dataset))]
        return {"digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)}

    if root and not Path(root).is_dir():
        raise ConfigError(f"{root}: expected the folder of torchvision.datasets.{source.dataset}, found none")
    key = "\0".join(("torchvision", source.dataset, root, json.dumps(source.arguments, sort_keys=True)))
    digests = (scan.cached(key, Path(root), compute) if root else compute())["digests"]
    locations = Locations(f"torchvision:{root}#", Numbers(len(digests)))
    return Found(source.dataset, ids_of(digests), locations)


def _torchvision(source: TorchvisionDataset, root: str) -> Any:
    """The data set, opened once per process."""
    arguments = {**source.arguments, **({"root": root} if root else {})}
    return _open_torchvision(source.dataset, json.dumps(arguments, sort_keys=True))


@lru_cache(maxsize=4)
def _open_torchvision(name: str, arguments: str) -> Any:
    from inspect import signature

    import torchvision

    found = getattr(torchvision.datasets, name, None)
    if not (isinstance(found, type) and issubclass(found, torchvision.datasets.VisionDataset)):
        raise ConfigError(f"{name!r} is no data set of torchvision.datasets; use a class name such as CIFAR10")
    given = json.loads(arguments)
    if "download" in signature(found).parameters:
        given["download"] = False
    try:
        dataset = found(**given)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"torchvision.datasets.{name} cannot be opened: {' '.join(str(error).split())}") from error
    hidden = next((file for file, *_ in getattr(dataset, "samples", ()) if _is_hidden(file, given.get("root"))), None)
    if hidden is not None:
        raise ConfigError(f"torchvision.datasets.{name} reads {hidden}, which is hidden; remove it, or use `folder`")
    return dataset


def _is_hidden(file: Any, root: Any) -> bool:
    """Whether a folder source would leave this file out."""
    if not isinstance(file, str) or root is None:
        return False
    return any(left_out(part) for part in os.path.relpath(file, root).split(os.sep) if part != os.pardir)


def _netpbm(dataset: Any, row: int, name: str) -> bytes:
    """Item `row` as binary PPM, or PGM where it is gray: one image, one text of bytes."""
    from PIL import Image

    with TORCHVISION_LOCK:
        image = dataset[row][0]
    if not isinstance(image, Image.Image):
        raise ConfigError(f"torchvision.datasets.{name} gives {type(image).__name__} items, expected Pillow images")
    if image.mode not in PLAIN:
        raise ConfigError(
            f"item {row} of torchvision.datasets.{name} has mode {image.mode}, expected {', '.join(PLAIN)}: save the "
            "images as files, and use `folder`"
        )
    _check_loaded(dataset, row, name)
    gray = image.mode == "L"
    pixels = image if gray or image.mode == "RGB" else image.convert("RGB")
    return netpbm(pixels.tobytes(), image.width, image.height, gray)


def _check_loaded(dataset: Any, row: int, name: str) -> None:
    """Raise ConfigError for a file of which torchvision's loader, which converts to RGB, drops what `folder` keeps."""
    from torchvision.datasets.folder import default_loader

    if getattr(dataset, "loader", None) is not default_loader or not getattr(dataset, "samples", None):
        return
    file = dataset.samples[row][0]
    found = inspect(Path(file).read_bytes())
    turned = f"EXIF orientation {found.orientation}" if found.orientation > 1 else ""
    if lost := turned or (f"mode {found.mode}" if found.mode not in PLAIN else ""):
        raise ConfigError(f"{file} has {lost}, which torchvision.datasets.{name} drops; read its root with `folder`")


def _read(config: Any, location: str) -> bytes:
    root, _, item = location.removeprefix("torchvision:").rpartition("#")
    return _netpbm(_torchvision(config.torchvision, root), int(item), config.torchvision.dataset)


READER = Reader("a data set of torchvision", _rows, _read, TorchvisionDataset, paths=False)
