"""Find the images that go in: a folder, a manifest, a zip file or a torchvision data set.

No pixel is decoded here. A row's id is the digest of its file's bytes, so that renaming, moving or relabeling a file
computes nothing again, and nothing about paths, labels or splits is part of the recipe. What is computed per row are
facts of the container (codec, native size, JPEG quantization tables, EXIF), which the audit compares between classes:
published detectors have partly learned such facts and not the generator (Grommelt et al. 2024).
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from pipeline.contents import kept_while_same
from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.archives import Archive
from pipeline.inputs.walk import left_out
from pipeline.sentences import counted
from pipeline.spelling import normalized, spellings, usual
from pipeline.stage import (
    FAKE,
    ID,
    REAL,
    SPLITS,
    Batch,
    Context,
    Kind,
    RowError,
    Schema,
    SourceRows,
    Stage,
    StageConfig,
    row_setting,
)
from stages.images import grouping
from stages.images.containers import FACTS
from stages.images.manifests import Manifest, read_manifest

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
SUFFIXES = (".png", *JPEG_SUFFIXES, ".webp", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".avif")
TORCHVISION_LOCK = threading.Lock()
"""Some torchvision data sets set the global seed while they make an item."""


class TorchvisionDataset(StageConfig):
    """A data set of torchvision.datasets that is already on disk; nothing is ever downloaded."""

    dataset: str = row_setting(description="class name in torchvision.datasets, e.g. CIFAR10")
    arguments: dict[str, Any] = row_setting({}, description="its arguments; `root` is relative to pipeline.yaml")

    @model_validator(mode="after")
    def _no_download(self) -> TorchvisionDataset:
        if self.arguments.get("download", False) is not False:
            raise ValueError("download must be false: put the data set on disk first")
        return self


class IngestConfig(StageConfig):
    """Everything here only chooses rows: none of it enters a recipe."""

    folder: str | None = row_setting(None, description="a folder of images, searched through all its subfolders")
    manifest: str | None = row_setting(None, description="a CSV or YAML manifest")
    zip: str | None = row_setting(None, description="a zip file of images")
    torchvision: TorchvisionDataset | None = row_setting(None, description="a data set of torchvision")
    label: Literal["real", "fake"] = row_setting("real", description="class of all rows")
    group_by: str = row_setting(
        "none",
        description="none: each image is its own group; folder: images of one folder; else a regular expression for "
        "the start of the file's stem, whose first group (or whole match) names the group",
    )
    domain_by: Literal["none", "folder"] = row_setting("none", description="folder: the first folder of the path")
    follow_links: bool = row_setting(
        False, description="read links to regular files outside the folder, as DVC, git-annex and model hubs make them"
    )
    splits: dict[str, float] | None = row_setting(
        None, description="fractions of groups for rows without a given split, in place of the pipeline's"
    )

    @field_validator("group_by")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        return grouping.check(value)

    @field_validator("splits")
    @classmethod
    def _is_whole(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        if not set(value) <= set(SPLITS) or min(value.values(), default=-1) < 0 or abs(sum(value.values()) - 1) > 1e-9:
            raise ValueError(f"are {value}, expected fractions of train, val and test that add up to 1")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> IngestConfig:
        given = [name for name in ("folder", "manifest", "zip", "torchvision") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of folder, manifest, zip, torchvision; found {found}")
        if given == ["torchvision"] and (self.group_by != "none" or self.domain_by != "none"):
            raise ValueError("group_by and domain_by need file names, which a torchvision data set does not have")
        if self.follow_links and given[0] in ("zip", "torchvision"):
            raise ValueError(f"follow_links has no effect on {given[0]}; remove it")
        return self


class Locations(Sequence[str]):
    """Places of rows as texts, `before + name + after`, made when asked for; integer arrays and slices select some."""

    def __init__(self, before: str, names: Sequence[str]) -> None:
        self._before = before
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, (int, np.integer)):
            return self._before + self._names[int(rows)]
        if isinstance(rows, slice):
            return Locations(self._before, self._names[rows])
        picked = np.arange(len(self))[rows]
        return Locations(self._before, [self._names[row] for row in picked.tolist()])

    def __iter__(self) -> Iterator[str]:
        return (self._before + name for name in self._names)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(list(self), dtype=object if dtype is None else dtype)


class Ingest(Stage):
    """Rows of images in files; `compute` gives container facts, and later stages read the bytes."""

    name: ClassVar[str] = "ingest"
    kind: ClassVar[Kind] = Kind.SOURCE
    Config: ClassVar[type[StageConfig]] = IngestConfig
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    content: ClassVar[bool] = True

    def schema(self, config: IngestConfig, inputs: Mapping[str, Schema]) -> Schema:
        """Container facts; see `stages.images.containers.FACTS`."""
        return dict(FACTS)

    def discover(self, config: IngestConfig, scan: Any) -> SourceRows:
        """Rows of the one source that is given. Raises ConfigError for a bad manifest or setting."""
        if config.folder is not None:
            listing = scan.folder(config.folder, SUFFIXES, config.follow_links)
            return _rows_of_files(config, f"{scan.resolve(config.folder)}/", listing, config.folder)
        if config.zip is not None:
            listing = scan.archive(config.zip, SUFFIXES)
            return _rows_of_files(config, f"zip:{scan.resolve(config.zip)}!", listing, config.zip)
        if config.manifest is not None:
            return _rows_of_manifest(config, scan, read_manifest(scan.resolve(config.manifest)))
        assert config.torchvision is not None
        return _rows_of_torchvision(config, config.torchvision, scan)

    def read(self, config: IngestConfig, location: str) -> bytes:
        """Bytes of a row: a file, a member of a zip file, or an item of a torchvision data set as PPM or PGM."""
        if location.startswith("zip:"):
            return _read_member(*_split_zip_location(location))
        if location.startswith("torchvision:"):
            assert config.torchvision is not None
            root, _, item = location[len("torchvision:") :].rpartition("#")
            return _netpbm(_torchvision(config.torchvision, root), int(item), config.torchvision.dataset)
        return Path(location).read_bytes()

    def compute(self, config: IngestConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """One array per fact; a file that is no image fails its row."""
        from stages.images.containers import inspect

        facts = {name: np.zeros((len(batch), *item.shape), item.dtype) for name, item in FACTS.items()}
        for row in range(len(batch)):
            try:
                values = inspect(batch.read(row)).facts()
            except (RowError, ValueError) as error:
                ctx.fail(row, str(error))
                continue
            for name, value in values.items():
                facts[name][row] = value
        return facts


def _label(config: IngestConfig) -> int:
    return FAKE if config.label == "fake" else REAL


def _rows_of_files(config: IngestConfig, before: str, listing: Any, shown: str) -> SourceRows:
    """Rows of a folder or a zip file."""
    if not listing.paths:
        passed = "".join(f"; {note}" for note in listing.notes)
        raise ConfigError(f"{shown}: found no image; expected files ending in {', '.join(SUFFIXES)}{passed}")
    notes = [*listing.notes]
    if listing.ignored:
        notes.append(f"{listing.ignored} files passed over that do not end in {', '.join(SUFFIXES)}")
    names, rewritten = _named(config, listing.paths)
    return SourceRows(
        id=listing.ids,
        label=_label(config),
        group=_groups(config, names),
        domain=_domains(config, names),
        payload={"location": Locations(before, listing.paths)},
        splits=config.splits,
        notes=tuple(f"{shown}: {note}" for note in [*notes, *rewritten]),
        problems=listing.problems,
    )


def _named(config: IngestConfig, paths: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Paths as groups and domains are made from them, and what to say.

    A backslash in a file's name was a folder where it was packed. An expression sees names in their normal form, since
    it would tell the letters of a decomposed name apart.
    """
    if config.group_by == config.domain_by == "none":
        return paths, []
    expression = config.group_by not in ("none", "folder")
    if "\\" not in "\0".join(paths) and (not expression or usual(paths)):
        return paths, []
    normal = spellings(paths) if expression else dict(zip(paths, paths, strict=True))
    names = [normal[path].replace("\\", "/") for path in paths]
    odd = [path for path, name in zip(paths, names, strict=True) if path != name]
    return names, [f"{counted(len(odd), 'name')} read in another spelling, e.g. {odd[0]!a}"] if odd else []


def _groups(config: IngestConfig, paths: Sequence[str]) -> list[str] | None:
    """Group of each path, or None where every image is its own. Raises ConfigError where the expression fails."""
    if config.group_by == "none":
        return None
    if config.group_by == "folder":
        return [path.rpartition("/")[0] or "." for path in paths]
    matches = grouping.matched(config.group_by, [PurePosixPath(path).stem for path in paths])
    missed = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if missed:
        raise ConfigError(
            f"group_by {config.group_by!r} matches {len(paths) - len(missed)} of {len(paths)} "
            f"file names from their start (not {missed[0]!r}); "
            "expected a match in each, since a row without a group may leak"
        )
    return [match for match in matches if match is not None]


def _domains(config: IngestConfig, paths: Sequence[str]) -> list[str] | None:
    if config.domain_by == "none":
        return None
    return [path.partition("/")[0] if "/" in path else "." for path in paths]


def _rows_of_manifest(config: IngestConfig, scan: Any, manifest: Manifest) -> SourceRows:
    """Rows of a manifest: a declared digest is the id, files without one are read."""
    if not len(manifest):
        raise ConfigError(f"{manifest.path}: has no rows, expected at least one")
    _refuse_idle_settings(config, manifest)
    files, declared = manifest.column("file"), manifest.column("sha256")
    problems: dict[int, str] = {}
    spelled: dict[str, str] = {}
    digests = np.zeros((len(manifest), 32), np.uint8)
    for hashed in (False, True):
        rows = [row for row, digest in enumerate(declared) if bool(digest) != hashed]
        if not rows:
            continue
        listing = scan.files(manifest.root, [files[row] for row in rows], hashed, config.follow_links)
        spelled |= listing.spelled
        place = {path: position for position, path in enumerate(listing.paths)}
        order = [place[files[row]] for row in rows]
        if hashed:
            digests[rows] = listing.digests[order]
        else:
            packed = bytes.fromhex("".join(declared[row] for row in rows))
            digests[rows] = np.frombuffer(packed, np.uint8).reshape(-1, 32)
        sizes = manifest.column("size")
        for row, position in zip(rows, order, strict=True):
            if position in listing.problems:
                problems[row] = f"{listing.problems[position]} ({manifest.place(row)})"
            elif sizes[row] and int(sizes[row]) != listing.sizes[position]:
                found = f"has {listing.sizes[position]} bytes, expected {sizes[row]}"
                problems[row] = f"{found} ({manifest.place(row)})"
    ids = np.ascontiguousarray(digests[:, : ID.itemsize]).view(ID)[:, 0]
    names, rewritten = _named(config, files)
    notes, licences = [*manifest.notes, *rewritten], _licences(manifest)
    if spelled:
        notes.append(f"{counted(len(spelled), 'file')} found under another spelling, e.g. {min(spelled)!a}")
    return SourceRows(
        id=ids,
        label=_label(config),
        group=_manifest_groups(config, manifest, names, ids),
        split=manifest.column("split"),
        domain=manifest.columns.get("domain") or _domains(config, names),
        payload={"location": Locations(f"{manifest.root}/", [spelled.get(file, file) for file in files])},
        splits=config.splits,
        notes=(
            f"{manifest.header.get('name') or manifest.path.name}: licences {licences}",
            *(f"{manifest.path.name}: {note}" for note in notes),
        ),
        problems=dict(sorted(problems.items())),
        line=manifest.place,
        licence=licences,
    )


def _refuse_idle_settings(config: IngestConfig, manifest: Manifest) -> None:
    """Settings that the manifest leaves no room for are errors, not silently without effect."""
    given = config.model_fields_set
    for setting, column in (("group_by", "group"), ("domain_by", "domain"), ("splits", "split")):
        if setting in given and getattr(config, setting) != "none" and all(manifest.column(column)):
            raise ConfigError(
                f"{setting} has no effect: {manifest.path} gives every row a {column}; remove one of them"
            )


def _manifest_groups(
    config: IngestConfig, manifest: Manifest, names: Sequence[str], ids: NDArray[np.void]
) -> list[str] | None:
    """Groups as given; rows without one are grouped as `group_by` says."""
    normal = spellings(manifest.column("group"))
    given = [group if normal[group] else "" for group in manifest.column("group")]
    if not any(given):
        return _groups(config, names)
    if all(given):
        return given
    missing = [row for row, group in enumerate(given) if not group]
    made = _groups(config, [names[row] for row in missing])
    groups = list(given)
    for position, row in enumerate(missing):
        groups[row] = made[position] if made is not None else f"id:{ids[row].tobytes().hex()}"
    return groups


def _licences(manifest: Manifest) -> str:
    """Each with the number of its rows."""
    fallback = manifest.header.get("licence", "")
    counts: dict[str, int] = {}
    for licence in manifest.column("licence"):
        name = normalized(licence or fallback) or "not stated"
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _rows_of_torchvision(config: IngestConfig, source: TorchvisionDataset, scan: Any) -> SourceRows:
    """Rows of a torchvision data set; its items are read once and remembered while its folder is untouched."""
    root = str(scan.source(source.arguments["root"])) if "root" in source.arguments else ""

    def compute() -> dict[str, NDArray[np.uint8]]:
        import hashlib

        dataset = _torchvision(source, root)
        digests = [hashlib.sha256(_netpbm(dataset, row, source.dataset)).digest() for row in range(len(dataset))]
        return {"digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)}

    if root and not Path(root).is_dir():
        raise ConfigError(f"{root}: expected the folder of torchvision.datasets.{source.dataset}, found none")
    key = "\0".join(("torchvision", source.dataset, root, json.dumps(source.arguments, sort_keys=True)))
    digests = (scan.cached(key, Path(root), compute) if root else compute())["digests"]
    return SourceRows(
        id=np.ascontiguousarray(digests[:, : ID.itemsize]).view(ID)[:, 0],
        label=_label(config),
        group=None,
        payload={"location": Locations(f"torchvision:{root}#", _Numbers(len(digests)))},
        splits=config.splits,
    )


class _Numbers(Sequence[str]):
    """The texts of 0, 1, ... without a list of them."""

    def __init__(self, count: int) -> None:
        self._rows = range(count)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Any:
        return [str(row) for row in self._rows[rows]] if isinstance(rows, slice) else str(self._rows[rows])


def _torchvision(source: TorchvisionDataset, root: str) -> Any:
    """The data set, opened once per process."""
    arguments = {**source.arguments, **({"root": root} if root else {})}
    return _open_torchvision(source.dataset, json.dumps(arguments, sort_keys=True))


@lru_cache(maxsize=4)
def _open_torchvision(name: str, arguments: str) -> Any:
    import inspect

    import torchvision

    found = getattr(torchvision.datasets, name, None)
    if not (isinstance(found, type) and issubclass(found, torchvision.datasets.VisionDataset)):
        raise ConfigError(f"{name!r} is no data set of torchvision.datasets; use a class name such as CIFAR10")
    given = json.loads(arguments)
    if "download" in inspect.signature(found).parameters:
        given["download"] = False
    try:
        dataset = found(**given)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"torchvision.datasets.{name} cannot be opened: {' '.join(str(error).split())}") from error
    hidden = next((file for file, *_ in getattr(dataset, "samples", ()) if _is_hidden(file, given.get("root"))), None)
    if hidden is not None:
        raise ConfigError(f"torchvision.datasets.{name} reads {hidden}, which is hidden; remove it, or use `folder`")
    return dataset


def _is_hidden(file: Any, root: Any) -> bool:
    """Whether a folder source would leave this file out."""
    if not isinstance(file, str) or root is None:
        return False
    return any(left_out(part) for part in os.path.relpath(file, root).split(os.sep) if part != os.pardir)


def _netpbm(dataset: Any, row: int, name: str) -> bytes:
    """Item `row` as binary PPM, or PGM where it is gray: one image, one text of bytes."""
    from PIL import Image

    with TORCHVISION_LOCK:
        image = dataset[row][0]
    if not isinstance(image, Image.Image):
        raise ConfigError(f"torchvision.datasets.{name} gives {type(image).__name__} items, expected Pillow images")
    gray = image.mode == "L"
    pixels = image if gray or image.mode == "RGB" else image.convert("RGB")
    header = f"{'P5' if gray else 'P6'}\n{image.width} {image.height}\n255\n"
    return header.encode() + pixels.tobytes()


def _split_zip_location(location: str) -> tuple[str, str]:
    """(path of the archive, member) of "zip:PATH!MEMBER"; both may hold further exclamation marks."""
    text = location.removeprefix("zip:")
    for mark in re.finditer("!", text):
        if os.path.isfile(text[: mark.start()]):
            return text[: mark.start()], text[mark.end() :]
    raise RowError(f"{location} cannot be read: the zip file is gone")


@kept_while_same(4)
def _open_zip(path: Path) -> Archive:
    return Archive(path)


def _read_member(path: str, member: str) -> bytes:
    """Bytes of a zip member; the directory of the archive is read once as long as the archive is untouched."""
    try:
        return _open_zip(Path(path)).read(member)
    except (RowError, SourceError) as error:
        raise RowError(f"{member} cannot be read from {path}: {error}") from error
