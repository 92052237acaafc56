"""Small files that appear whole or not at all: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def flush(path: Path) -> None:
    """fsync one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """fsync every file and folder under a directory, and the directory itself."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            flush(Path(folder, name))
        flush(Path(folder))


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace a file in one step; `durable=False` skips the flush for files that may be lost (caches)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        flush(path.parent)


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file in one step; keys sorted, so that equal data make equal bytes."""
    write_bytes(path, (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())
