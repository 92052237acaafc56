"""A CSV or YAML manifest: a declared digest is a row's id, files without one are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.sentences import counted
from pipeline.spelling import normalized, spellings
from pipeline.stage import row_setting
from stages.images.manifests import Manifest, read_manifest
from stages.images.readers.contract import Columns, Found, Locations, Reader, ids_of
from stages.images.readers.folder import FOLLOW_LINKS

ROOT = (
    str | None,
    row_setting(None, description="the folder that paths of a CSV manifest start at; its own folder if left out"),
)


def _rows(config: Any, scan: Any) -> Found:
    """Raises ConfigError for a bad manifest, or for a setting that it leaves no room for."""
    root = None if config.root is None else scan.resolve(config.root)
    manifest = read_manifest(scan.resolve(config.manifest), root)
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
    notes = [*manifest.notes]
    if spelled:
        notes.append(f"{counted(len(spelled), 'file')} found under another spelling, e.g. {min(spelled)!a}")
    locations = Locations(f"{manifest.root}/", [spelled.get(file, file) for file in files])
    return Found(
        manifest.path.name,
        ids_of(digests),
        locations,
        files,
        columns=_columns(manifest),
        problems=dict(sorted(problems.items())),
        notes=notes,
        title=manifest.header.get("name", ""),
        line=manifest.place,
    )


def _columns(manifest: Manifest) -> Columns:
    normal = spellings(manifest.column("group"))
    labels = manifest.column("label")
    return Columns(
        label=labels if any(labels) else None,
        split=manifest.column("split"),
        domain=manifest.columns.get("domain"),
        group=[group if normal[group] else "" for group in manifest.column("group")],
        told=_told(manifest),
    )


def _refuse_idle_settings(config: Any, manifest: Manifest) -> None:
    """Settings that the manifest leaves no room for are errors, not silently without effect."""
    given = config.model_fields_set
    for setting, column in (("group_by", "group"), ("domain_by", "domain"), ("splits", "split")):
        if setting in given and getattr(config, setting) != "none" and all(manifest.column(column)):
            raise ConfigError(
                f"{setting} has no effect: {manifest.path} gives every row a {column}; remove one of them"
            )


def _told(manifest: Manifest) -> dict[str, list[str]]:
    """What attributions say of each row; a licence is always among it, stated or not."""
    fallback = normalized(manifest.header.get("licence", ""))
    names = {one: normalized(one) or fallback for one in set(manifest.column("licence"))}
    found = {"licence": [names[one] for one in manifest.column("licence")]}
    columns = {"author": "author", "url": "url", "provenance": "source"}
    return found | {name: values for name, column in columns.items() if any(values := manifest.column(column))}


def _read(config: Any, location: str) -> bytes:
    return Path(location).read_bytes()


READER = Reader(
    "a CSV or YAML manifest", _rows, _read, settings={"follow_links": FOLLOW_LINKS, "root": ROOT},
    suffixes=(".csv", ".yaml", ".yml"),
)  # fmt: skip
