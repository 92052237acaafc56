"""What was found out about sources, kept in the store by content: no run parses a source that an earlier one has.

One JSON file under a checksum, replaced atomically. Its entries hold for one version of the code that reads syntax
trees, so a digest of that code stands in its head. Whatever is wrong with the file (cut off, changed, of another
version), it counts as empty, and deleting it costs a second.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import atomic

FILE = Path(".cache", "sources.json")
MOST = 4096
"""Entries that are kept, those used last."""

Fact = tuple[str, tuple[str, ...]]
"""Digest of a source, and what it imports."""

_known: dict[str, Any] = {}
_used: dict[str, Any] = {}


def mark(source: bytes, name: str, topic: str = "") -> str:
    """Key of what is known about `topic` of the source of the module `name`."""
    return hashlib.sha256("\0".join((name, topic) if topic else (name,)).encode() + b"\0" + source).hexdigest()


def recall(key: str) -> Any:
    """What is known of a source: plain data, tuples for lists; None: nothing."""
    found = _used.get(key) or _known.get(key)
    if found is not None:
        _used[key] = found
    return found


def learn(key: str, fact: Any) -> None:
    """Keep what was found out about a source: texts, numbers and tuples of them."""
    _used[key] = fact


def load(store: Path, reader: bytes) -> None:
    """Take what the store knows. reader: source of the code that finds facts; what another version found is none."""
    for key, fact in _read(store / FILE, _head(reader)).items():
        _known.setdefault(key, _as_tuples(fact))


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def save(store: Path, reader: bytes) -> None:
    """Write what this process has used, and what others did before, if the store does not know it all."""
    head = _head(reader)
    before = _read(store / FILE, head)
    if not _used.keys() - before.keys():
        return
    kept = dict([*_used.items(), *((key, fact) for key, fact in before.items() if key not in _used)][:MOST])
    body = json.dumps(kept, separators=(",", ":"))
    seal = hashlib.sha256((head + body).encode()).hexdigest()
    (store / FILE).parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(store / FILE, f"{head} {seal}\n{body}".encode(), durable=False)


def _head(reader: bytes) -> str:
    return hashlib.sha256(sys.version.encode() + b"\0" + reader).hexdigest()


def _read(path: Path, head: str) -> Mapping[str, Any]:
    try:
        first, body = path.read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):
        return {}
    if first != f"{head} {hashlib.sha256((head + body).encode()).hexdigest()}":
        return {}
    found: Mapping[str, Any] = json.loads(body)  # what has the checksum was written by `save`
    return found
