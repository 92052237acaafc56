"""Files of shards: memory maps, sizes, and what an error on reading one means."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from pipeline.errors import DamagedShardError, StoreError, TouchstoneError

MOST_FILES = 65536


def reading_error(error: Exception, place: Path, shard: Path | str) -> TouchstoneError:
    """What an exception on reading a file of a shard means; the caller raises it.

    Damage is a file that is not there or not what was written. Anything else that the system reports (no file handle or
    memory left, no permission, a network that is away) says nothing about the shard, which must stay where it is.
    """
    if is_trouble(error):
        return StoreError(trouble(error, place))
    return DamagedShardError(f"{place} cannot be read: {error}", str(shard))


def is_trouble(error: Exception) -> TypeGuard[OSError]:
    """Whether an exception is the system's trouble and no damage."""
    return isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def trouble(error: OSError, place: Path) -> str:
    """The sentence about a file that the system did not let us read."""
    way_out = "allow more open files (`ulimit -n`)" if error.errno in (errno.EMFILE, errno.ENFILE) else "mend it"
    return f"{place} could not be read ({error.strerror}), which is not taken for damage; {way_out} and run again"


def raise_error(error: OSError) -> NoReturn:
    """For `os.walk`, which else takes a folder that it cannot list for an empty one."""
    raise error


@cache
def allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may: before Python 3.13 each map keeps a descriptor."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # a system with another ceiling
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def map_file(path: Path) -> mmap.mmap:
    """The file as read-only memory."""
    allow_many_files()
    options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **options)


def file_sizes(directory: Path) -> dict[str, int]:
    """Size in bytes of each file under a directory but its own `zarr.json`, by relative name, sorted."""
    found = {}
    for folder, _, names in os.walk(directory, onerror=raise_error):
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(directory).as_posix()] = path.stat().st_size
    found.pop("zarr.json", None)
    return dict(sorted(found.items()))
