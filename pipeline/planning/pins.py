"""Pins: artifacts frozen by content, so that they no longer change when rows are added.

`manifests/pins.yaml` names for each pinned node the artifact's key and the SHA-256 of its files, which lie beside it in
`manifests/pins/<key>/`. The key is the one that the artifact had when it was pinned: what was computed with it stays
fresh. The digests are checked at every plan (through the stat cache).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.declaring.document import load
from pipeline.errors import ConfigError
from pipeline.sentences import describe
from pipeline.stage import Artifact
from pipeline.yaml_text import dump

if TYPE_CHECKING:
    from pipeline.inputs.scan import Scan

PINS = Path("manifests") / "pins.yaml"


@dataclass(frozen=True)
class Pin:
    """A pinned artifact: key, folder, and the SHA-256 of each file."""

    node: str
    key: bytes
    folder: Path
    files: Mapping[str, str]

    def artifact(self, scan: Scan) -> Artifact:
        """The artifact, its files checked. Raises ConfigError for a missing or changed file."""
        for name, expected in self.files.items():
            path = self.folder / name
            found = scan.digest(path).hex() if path.is_file() else None
            if found != expected:
                what = f"has SHA-256 {found[:12]}..." if found else "is missing"
                raise ConfigError(
                    f"{PINS.as_posix()} {self.node}: {path.name} {what}, expected {expected[:12]}...; "
                    f"restore the file, or remove the pin"
                )
        info = json.loads((self.folder / "artifact.json").read_text(encoding="utf-8"))
        return Artifact(self.node, self.key.hex(), self.folder, info)


def read_pins(base: Path) -> dict[str, Pin]:
    """Pins by node name; an absent file means none."""
    path = base / PINS
    if not path.is_file():
        return {}
    document = load(path)
    pins = {}
    entries = document.data or {}
    if not isinstance(entries, dict):
        raise document.error((), f"is {describe(entries)}; expected pins by node, as `touchstone pin` writes them")
    for node, entry in entries.items():
        try:
            key, files = bytes.fromhex(entry["key"]), dict(entry["files"])
            if not all(isinstance(digest, str) for digest in files.values()) or "artifact.json" not in files:
                raise ValueError("files")
        except (KeyError, TypeError, ValueError):
            raise document.error(
                (node,), "is no pin; expected 'key' and 'files', as `touchstone pin` writes them"
            ) from None
        pins[node] = Pin(node, key, path.parent / "pins" / entry["key"], files)
    return pins


def write_pin(base: Path, node: str, artifact: Artifact, digests: Mapping[str, str]) -> Path:
    """Copy an artifact beside the manifests and enter it in the pins. Returns the file of pins.

    Several commands may pin at once. Raises ConfigError if the file of pins cannot be read.
    """
    path = base / PINS
    with atomic.editing(path):
        entries: dict[str, Any] = {
            pin.node: {"key": pin.key.hex(), "files": dict(pin.files)} for pin in read_pins(base).values()
        }
        _copy(artifact.path, path.parent / "pins" / artifact.key)
        entries[node] = {"key": artifact.key, "files": dict(digests)}
        atomic.write_bytes(path, dump(dict(sorted(entries.items()))).encode())
    return path


def _copy(source: Path, folder: Path) -> None:
    """Copy a folder; it appears whole, and one that is there stays."""
    if folder.exists():
        return
    draft = atomic.temporary(folder)
    try:
        shutil.copytree(source, draft)
        atomic.flush_tree(draft)
        os.rename(draft, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
