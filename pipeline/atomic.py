"""Small files that appear whole or not at all: written under a temporary name, flushed, renamed.

A temporary name says which process writes it (`runs`), so that the next run can tell what a killed one has left.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import locks
from pipeline.runs import RunRecord, alive, host_name, parse_run, this_run

TEMPORARY = re.compile(r"\..*\.([A-Za-z0-9-]+-\d+-\d+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
NAME_LETTERS = 100
"""Letters of a file's name that its temporary name repeats: names end at 255 bytes."""

MANY = 2000
"""Files that are flushed one by one, at most: each takes a millisecond, of a disk with other work several."""

FOREIGN_S = 3600.0
"""Temporaries of another host, whose processes cannot be asked, are left alone until they are older than this."""

PATIENCE_S = 60.0


def flush(path: Path) -> None:
    """fsync one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path, folders: bool = True) -> None:
    """fsync every file under a directory, and every folder with itself; the whole system where they are many.

    folders  False where the directory is about to be renamed and its parent flushed: a journaled file system then has
             all that was named before (`tests/stress/power_cuts.py`); on others, who opens it must see what lacks
    """
    inner = ("",) if folders else ()
    paths = [Path(folder, name) for folder, _, names in os.walk(directory, topdown=False) for name in (*names, *inner)]
    if len(paths) > MANY:
        os.sync()
        return
    for path in paths:
        flush(path)


def temporary(path: Path) -> Path:
    """A name beside `path` that no one else uses, for a file or folder of this process that is not finished."""
    short = path.name.encode("utf-8", "surrogateescape")[:NAME_LETTERS].decode("utf-8", "ignore")
    return path.with_name(f".{short}.{this_run().id}.{secrets.token_hex(4)}.tmp")


def owner(path: Path) -> RunRecord | None:
    """The process that a temporary name speaks of; None for any other name."""
    found = TEMPORARY.fullmatch(path.name)
    return parse_run(found[1]) if found else None


def left_over(path: Path, record: RunRecord) -> bool:
    """Whether the process that wrote the temporary is gone."""
    if record.host == host_name():
        return not alive(record, path)
    try:
        return time.time() - path.stat().st_mtime > FOREIGN_S
    except FileNotFoundError:
        return False


def remove_left_over(folders: Iterable[Path]) -> list[Path]:
    """Remove temporaries of killed processes that lie directly in these folders; returns them."""
    found = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob(".*.tmp"))]
    removed = [path for path in found if (record := owner(path)) is not None and left_over(path, record)]
    for path in removed:
        remove(path)
    return removed


def remove(path: Path) -> None:
    """Remove a file or a folder that others may be removing too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def editing(path: Path) -> AbstractContextManager[None]:
    """The right to read a small file, change it and replace it, one command at a time.

    Raises StoreError where another command keeps it, or where a killed one left its claim (see `locks`).
    """
    return locks.hold(path.with_name(f".{path.name}.lock"), poll_s=0.02, patience_s=PATIENCE_S)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that replaces `path` at the end of the block, or is removed where the block raises.

    durable  False skips the flush, for files that may be lost (caches)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary(path)
    try:
        with draft.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        flush(path.parent)


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace a file in one step; `durable` as in `replacing`."""
    with replacing(path, durable) as file:
        file.write(data)


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file in one step; keys sorted, so that equal data make equal bytes.

    Names that are no UTF-8 are escaped, and `json.loads` gives them back.
    """
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))
