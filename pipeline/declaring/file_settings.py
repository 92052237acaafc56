"""Files that a setting names: a path, or an entry of a manifest that promises a digest and may say where to get it.

Nothing is fetched unless the user says `--download` and the entry names a URL. What was fetched appears under its name
only after its digest was compared; whole digests are compared at every plan.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.contents import file_sha256, kept_while_same
from pipeline.declaring.document import Document, Place, load
from pipeline.sentences import closest, describe, nearest

SHIPPED = Path(__file__).parents[2]
"""Where `manifests` lies: what a pipeline in another folder does not have itself is taken from there."""

TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20
MOST_NAMES = 1000
"""Files of a folder that are looked through for a similar name."""


_manifest = kept_while_same(16)(load)
"""A manifest, of which many nodes name an entry; nobody changes it."""


@dataclass(frozen=True)
class FileReference:
    """A file setting: the path, and the digest that a manifest entry promises."""

    path: Path
    sha256: str | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)


def file_reference(text: str, place: Place, document: Document, download: bool) -> FileReference:
    """A path relative to the YAML file, or `MANIFEST#ENTRY`. Raises ConfigError with the line that is wrong.

    A manifest that is not beside the YAML file may be one of those that come with the project.
    """
    name, separator, entry = text.partition("#")
    path = document.path.parent / name
    if separator and not path.is_file() and Path(name).parent == Path("manifests"):
        path = SHIPPED / name
    if not path.is_file():
        beside = f"but {name} is not a file beside {document.path.name}{nearest_file(path)}"
        raise document.error(place, f"names {text}, {beside}")
    if not separator:
        return FileReference(path)
    manifest = _manifest(path)
    if not isinstance(manifest.data, dict) or entry not in manifest.data:
        known = manifest.data if isinstance(manifest.data, dict) else {}
        raise document.error(place, f"names {text}, but {name} has no entry '{entry}'{nearest(entry, known)}")
    facts = manifest.data[entry]
    if not isinstance(facts, dict) or not isinstance(facts.get("file"), str):
        source = f"get it from {facts['page']}, then " if isinstance(facts, dict) and facts.get("page") else ""
        raise manifest.error((entry,), f"lacks 'file', the path of the checkpoint; {source}add the line 'file: PATH'")
    target = path.parent / facts["file"]
    if not target.is_file():
        if not (download and facts.get("url")):
            way_out = f", or get it from {facts['url']} with --download" if facts.get("url") else ""
            raise manifest.error(
                (entry, "file"), f"is {facts['file']}, which does not exist; put the file there{way_out}"
            )
        _fetch(facts, target, entry, manifest)
    digest = facts.get("sha256")
    if digest is None:  # first use: the user says that this is the file, and from then on it is checked
        found = file_sha256(target)
        prefix = str(facts.get("sha256_prefix") or "")
        if not found.startswith(prefix):
            raise manifest.error(
                (entry, "file"), f"is {facts['file']}, whose SHA-256 is {found[:12]}..., but it begins with {prefix} "
                "where it was published; get the file again",
            )  # fmt: skip
        raise manifest.error(
            (entry,), f"lacks 'sha256'; if {facts['file']} is the right file, add the line 'sha256: {found}'"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
        raise manifest.error((entry, "sha256"), f"is {describe(digest)}; expected 64 hexadecimal digits")
    return FileReference(target, digest, facts)


def nearest_file(path: Path) -> str:
    """`; did you mean 'x'?` where the folder of a missing file has one of much the same name."""
    try:
        names = sorted(entry.name for entry in islice(os.scandir(path.parent), MOST_NAMES) if entry.is_file())
    except OSError:
        return ""
    return closest(path.name, names, likeness=0.7)


def _fetch(facts: Mapping[str, Any], target: Path, entry: str, manifest: Document) -> None:
    """Get the file of an entry; it appears only if its digest begins as the entry says. Raises ConfigError."""
    import http.client
    import urllib.request

    url = str(facts["url"])
    expected = str(facts.get("sha256") or facts.get("sha256_prefix") or "")
    if not url.startswith("https://"):
        raise manifest.error((entry, "url"), f"is {url}; only https:// is fetched")
    if not re.fullmatch(r"[0-9a-f]{8,64}", expected):
        raise manifest.error(
            (entry,), "has a url but no 'sha256', nor a 'sha256_prefix' of 8 digits or more; add one to check the file"
        )
    digest = hashlib.sha256()
    try:
        with atomic.replacing(target) as file, urllib.request.urlopen(url, timeout=TIMEOUT_S) as source:
            while block := source.read(BLOCK_BYTES):
                digest.update(block)
                file.write(block)
            if not digest.hexdigest().startswith(expected):
                raise manifest.error(
                    (entry, "url"), f"gives a file whose SHA-256 is {digest.hexdigest()[:12]}..., expected "
                    f"{expected[:12]}...; it was not kept: try again, or correct the entry",
                )  # fmt: skip
    except (OSError, http.client.HTTPException) as error:
        raise manifest.error((entry, "url"), f"is {url}, which cannot be fetched: {error}") from None
