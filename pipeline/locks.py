"""Locks: one holder of a file's name at a time, among processes and threads.

`flock` ends with its process, so nothing needs mending after a crash. Some network file systems have none; there a file
that is made exclusively stands for it, and what a killed process leaves is named together with the way out.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import Interrupted, StoreError
from pipeline.runs import alive, parse_run, this_run

try:
    import fcntl
except ImportError:  # not on every system
    fcntl = None  # type: ignore[assignment]

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What `flock` answers where the file system has no locks."""


@contextmanager
def hold(
    path: Path,
    poll_s: float = 0.2,
    stopping: Callable[[], bool] = lambda: False,
    patience_s: float | None = None,
) -> Iterator[None]:
    """Hold the lock `path`; waits for another holder. The file goes when the lock is released.

    Raises Interrupted when `stopping` says so, StoreError after `patience_s` seconds, and where the file system has no
    `flock` and a killed process left its claim.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    while (release := _take(path)) is None:
        if stopping():
            raise Interrupted(f"stopped while another run works on {path.stem[:12]}")
        if patience_s is not None and time.monotonic() - start > patience_s:
            raise StoreError(
                f"{path} has been held by another command for {patience_s:.0f} s; wait for that command, and remove "
                f"{_claim(path).name} beside it if none is on"
            )
        time.sleep(poll_s)
    try:
        yield
    finally:
        release()


def _take(path: Path) -> Callable[[], None] | None:
    """The lock, as the function that releases it; None while another has it."""
    if fcntl is None:
        return _take_without(path)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is(file, path):  # its holder has removed it meanwhile
            file.close()
            return None
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        file.close()
        if error.errno in WITHOUT:
            path.unlink(missing_ok=True)
            return _take_without(path)
        raise

    def release() -> None:
        path.unlink(missing_ok=True)
        file.close()

    return release


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _claim(path: Path) -> Path:
    """The file that stands for the lock where there is no `flock`."""
    return path.with_name(f"{path.name}.held")


def _take_without(path: Path) -> Callable[[], None] | None:
    claim = _claim(path)
    try:
        with claim.open("x") as file:
            file.write(this_run().id)
    except FileExistsError:
        try:
            holder = parse_run(claim.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None
        if holder is not None and not alive(holder, claim):
            raise StoreError(
                f"{claim} was left by a command that was killed (process {holder.pid} on {holder.host}), and this file "
                "system has no locks that end with their process; remove that file and try again"
            ) from None
        return None
    return lambda: claim.unlink(missing_ok=True)
