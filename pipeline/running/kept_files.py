"""Files that a model was made with, found by their content: beside its card, in a user's folders, in manifests.

What a card says decides only which content is wanted. Whatever is found is compared with it before anybody reads it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.contents import file_sha256
from pipeline.errors import ConfigError, StageError
from pipeline.importing import ROOT
from pipeline.lineage import FOLDER, KeptArtifact, KeptFile


class KeptFiles:
    """Files of one model, each under a name that a stage expects, in a temporary folder of links as long as this lives.

    folder: the model's; weights: folders that are searched; manifests: YAML files whose entries name files and digests.
    """

    def __init__(
        self, folder: Path | None, weights: Sequence[Path] = (), manifests: Sequence[Path] | None = None
    ) -> None:
        for place in weights:
            if not place.is_dir():
                raise ConfigError(f"{place} is not a folder; name one that holds the weights")
        self.folder, self.weights = folder, tuple(weights)
        self.manifests = sorted((ROOT / "manifests").glob("*.yaml")) if manifests is None else manifests
        self.links = Path(tempfile.mkdtemp(prefix="touchstone-"))
        self.count = 0
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.links, ignore_errors=True)

    def file(self, kept: KeptFile, what: str) -> Path:
        """A place of the file; what: in sentences. Raises StageError if it is nowhere, or damaged."""
        return self._link(self._new(), what.rpartition(" ")[2], self._find(kept, what))

    def artifact(self, kept: KeptArtifact, what: str) -> Path:
        """A folder with the artifact's files by their names."""
        folder = self._new()
        for name, file in kept.files.items():
            self._link(folder, name, self._find(file, f"{what}/{name}"))
        return folder

    def _new(self) -> Path:
        self.count += 1
        folder = self.links / str(self.count)
        folder.mkdir()
        return folder

    def _link(self, folder: Path, name: str, target: Path) -> Path:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target.absolute())
        return place

    def _find(self, kept: KeptFile, what: str) -> Path:
        own = None if self.folder is None else self.folder / FOLDER / kept.sha256
        wrong = "" if own is None else _unlike(own, kept)
        if own is not None and not wrong:
            return own
        for place in self._elsewhere(kept):
            if not _unlike(place, kept):
                return place
        asked = f"{what} (SHA-256 {kept.sha256[:12]}..., {kept.size:,} bytes)"
        if own is not None and os.path.lexists(own):
            raise StageError(f"{own} is damaged: it {wrong}, expected {asked}; restore it, or train again")
        raise StageError(
            f"{asked} is neither in the model's folder nor in a manifest; name a folder that has it with --weights"
        )

    def _elsewhere(self, kept: KeptFile) -> Iterator[Path]:
        """Files that may be it: all in the named folders, and those of manifests that name its digest."""
        for folder in self.weights:
            for above, _, names in os.walk(folder):
                yield from (Path(above, name) for name in sorted(names))
        for manifest in self.manifests:
            if kept.sha256 in manifest.read_text(encoding="utf-8", errors="replace"):
                yield from _entries(manifest, kept.sha256)


def _entries(manifest: Path, sha256: str) -> Iterator[Path]:
    from pipeline.declaring.document import load

    data: Any = load(manifest).data
    for entry in data.values() if isinstance(data, dict) else ():
        if isinstance(entry, dict) and entry.get("sha256") == sha256 and isinstance(entry.get("file"), str):
            yield manifest.parent / entry["file"]


def _unlike(path: Path, kept: KeptFile) -> str:
    """How a file differs from the one wanted: the rest of a sentence that begins with "it"; "" if not at all."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file"
        if status.st_size != kept.size:
            return f"has {status.st_size:,} bytes"
        found = file_sha256(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == kept.sha256 else f"has SHA-256 {found[:12]}..."
