"""WebDataset: samples in tar files, each some members with one key, such as `0_real/p0.png` and `0_real/p0.cls`.

A key is the folder and the name up to the first dot; the rest is the field. Members are listed once by their headers
and then read where they lie.
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.archives import MEMBER_BYTES
from pipeline.inputs.scan import decoded, encoded
from pipeline.sentences import counted
from pipeline.stage import RowError
from stages.images.readers.contract import SUFFIXES, Columns, Found, Reader, ids_of
from stages.images.readers.naming import split_of_file
from stages.images.readers.opened import Opened, files_ending
from stages.images.readers.zip import split_member

IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
CLASSES = ("cls", "cls.txt")
ENDINGS = (".tar", ".tgz", *(f".tar.{packed}" for packed in ("gz", "bz2", "xz", "zst")))
"""Of tar files; packed ones are told what to do."""
BLOCK, TEXT_BYTES = 512, 2**20


@dataclass
class Sample:
    """Fields of a key -> their members."""

    key: str
    fields: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    @property
    def image(self) -> tarfile.TarInfo | None:
        return next((self.fields[name] for name in IMAGES if name in self.fields), None)

    @property
    def overlooked(self) -> list[str]:
        """Names of images that are not taken: a further one of the key, or one whose name has a further dot."""
        taken = self.image
        if taken is None:
            return [one.name for name, one in self.fields.items() if name.rpartition(".")[2] in IMAGES]
        return [one.name for name, one in self.fields.items() if name in IMAGES and one is not taken]


class Shard:
    """An open tar file that is not compressed; threads may read it at once."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError where it is none, or is cut off."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size
        self.members: dict[str, tarfile.TarInfo] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                self.ordered = [one for one in archive if not one.isdir()]
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            packed = os.pread(self.descriptor, 6, 0).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
            what = "a compressed tar file, in which nothing can be found at once; unpack it to a .tar file"
            raise SourceError(f"{path}: is {what if packed else f'no tar file ({error})'}") from error
        for one in self.ordered:
            name = posixpath.normpath(one.name).lstrip("/")
            if name in self.members:
                raise SourceError(f"{path}: holds two members {name!r}, of which one would count; pack them anew")
            self.members[name] = one
        self._check_end()

    def _check_end(self) -> None:
        last = self.ordered[-1] if self.ordered else None
        end = 0 if last is None else last.offset_data + (-(-last.size // BLOCK) * BLOCK if last.isreg() else 0)
        rest = os.pread(self.descriptor, BLOCK, end) if end <= self.size else b""
        if last is not None and (last.offset_data + last.size > self.size or rest.strip(b"\0") or len(rest) % BLOCK):
            raise SourceError(f"{self.path}: is cut off or damaged behind {last.name!r}; copy or download it again")

    def read(self, member: str, most: int = MEMBER_BYTES) -> bytes:
        """Content of a member; raises RowError."""
        one = self.members.get(member)
        if one is None:
            raise RowError("the archive holds no member of this name")
        if not one.isreg():
            raise RowError(f"is {'a link' if one.issym() or one.islnk() else 'no file'}, expected a file")
        if one.size > most:
            raise RowError(f"has {one.size:,} bytes, expected at most {most:,}")
        return os.pread(self.descriptor, one.size, one.offset_data)

    def samples(self) -> Iterator[Sample]:
        """Samples in their order. Raises SourceError for a key that comes twice."""
        seen: set[str] = set()
        sample = Sample("")
        for name, one in self.members.items():
            folder, slash, base = name.rpartition("/")
            stem, dot, rest = base.partition(".")
            if not stem or not dot:
                continue
            key = folder + slash + stem
            if key != sample.key:
                if sample.fields:
                    yield sample
                if key in seen:
                    raise SourceError(f"{self.path}: the key {key!r} comes twice; members of a sample stand together")
                seen.add(key)
                sample = Sample(key)
            sample.fields[rest.lower()] = one
        if sample.fields:
            yield sample

    def label(self, sample: Sample) -> str:
        """What the sample says of its class; "" nothing."""
        try:
            for name in CLASSES:
                if name in sample.fields:
                    return self._text(sample.fields[name]).strip()
            if "json" in sample.fields:
                content = json.loads(self._text(sample.fields["json"]))
                label = content.get("label", "") if isinstance(content, dict) else ""
                return str(label) if isinstance(label, str | int) else ""
        except (RowError, ValueError) as error:
            raise SourceError(f"{self.path}: the label of {sample.key!r} cannot be read ({error})") from error
        return ""

    def _text(self, one: tarfile.TarInfo) -> str:
        return self.read(posixpath.normpath(one.name).lstrip("/"), TEXT_BYTES).decode("utf-8")


SHARDS = Opened(lambda path: Shard(Path(path)))


def _listed(path: Path, scan: Any) -> dict[str, NDArray[Any]]:
    """Names, labels, digests and problems of a shard, and how many samples have no image."""
    shard = SHARDS.get(str(path))
    samples = list(shard.samples())
    named = [(posixpath.normpath(image.name).lstrip("/"), one) for one in samples if (image := one.image) is not None]
    overlooked = [name for one in samples for name in one.overlooked]
    names = [name for name, _ in named]
    digests, reasons = scan.digests(f"reading {path.name}", len(names), lambda row: shard.read(names[row]))
    return {
        "names": encoded(names),
        "labels": encoded([shard.label(one) for _, one in named]),
        "digests": digests,
        "bad": np.array(list(reasons), np.int64),
        "reasons": encoded(list(reasons.values())),
        "lacking": np.array([len(samples) - len(names)], np.int64),
        "overlooked": np.array([len(overlooked)], np.int64),
        "such_as": encoded(overlooked[:1]),
    }


def _rows(config: Any, scan: Any) -> Found:
    place: Path = scan.source(config.tar)
    files = files_ending(place, ENDINGS, "a tar file")
    paths: list[str] = []
    labels: list[str] = []
    split: list[str] = []
    locations: list[str] = []
    problems: dict[int, str] = {}
    lacking, overlooked, such_as, digests = 0, 0, "", []
    for path in files:
        table = scan.cached(f"tar\0{path}", path, lambda path=path: _listed(path, scan))
        names = decoded(table["names"])
        reasons = decoded(table["reasons"])
        problems |= {len(paths) + int(row): text for row, text in zip(table["bad"], reasons, strict=True)}
        paths += names
        split += [split_of_file(path, place)] * len(names)
        labels += decoded(table["labels"])
        locations += [f"tar:{path}!{name}" for name in names]
        digests.append(table["digests"])
        lacking += int(table["lacking"][0])
        overlooked += int(table["overlooked"][0])
        such_as = such_as or "".join(decoded(table["such_as"]))
    if not paths:
        raise ConfigError(f"{config.tar}: found no image; expected members ending in .{', .'.join(IMAGES)}")
    return Found(
        config.tar,
        ids_of(np.concatenate(digests)),
        locations,
        paths,
        columns=Columns(label=labels if any(labels) else None, split=split if any(split) else None),
        problems=problems,
        notes=_left_out(lacking, overlooked, such_as),
        container=f"members of {counted(len(files), 'tar file')}",
    )


def _left_out(samples: int, overlooked: int, name: str) -> list[str]:
    """Notes on samples without an image, and on images that no sample has for its own, such as `name`."""
    notes = [f"{counted(samples, 'sample')} without an image left out"] if samples else []
    if overlooked:
        notes.append(
            f"{counted(overlooked, 'image')} left out, such as {name!r}: a key is a name up to its first dot and has "
            "one image; give them other names, or read them as a folder or a zip file"
        )
    return notes


def _read(config: Any, location: str) -> bytes:
    path, _, member = location[len("tar:") :].partition("!")
    if path not in SHARDS or "!" in member:
        path, member = split_member(location, "tar")
    try:
        return SHARDS.get(path).read(member)
    except (RowError, SourceError) as error:
        raise RowError(f"{member} cannot be read from {path}: {error}") from error


def _member(place: Path, name: str) -> bytes | None:
    shard = SHARDS.get(str(place))
    return shard.read(name) if name in shard.members else None


READER = Reader(
    "a tar file of samples as WebDataset packs them, or a folder of such files", _rows, _read,
    suffixes=ENDINGS, folders=True, member=_member,
)  # fmt: skip
