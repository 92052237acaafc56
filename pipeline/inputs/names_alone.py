"""A look at inputs for those who ask for no ids: names and sizes alone, and no file is read to make a digest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.inputs.archives import Archive
from pipeline.inputs.scan import Scan
from pipeline.inputs.walk import four, reason_of


class NamesAlone(Scan):
    """All digests are zeros, and nothing is remembered; who reads a row learns why it cannot be read."""

    reads: ClassVar[bool] = False

    def __init__(self, base: Path, store: Path | None = None) -> None:
        super().__init__(base, None, store=store)

    def digests(self, text: str, count: int, read: Callable[[int], bytes]) -> tuple[NDArray[np.uint8], dict[int, str]]:
        """Zeros, and no reasons."""
        return np.zeros((count, 32), np.uint8), {}

    def _hash_all(
        self, text: str, jobs: list[tuple[int, str]]
    ) -> Iterable[tuple[int, tuple[bytes, tuple[int, int, int, int]] | str]]:
        for row, path in jobs:
            try:
                yield row, (bytes(32), four(os.stat(path)))
            except OSError as error:
                yield row, reason_of(error)

    def _hash_member(self, archive: Archive, name: str) -> tuple[bytes, str]:
        return bytes(32), ""
