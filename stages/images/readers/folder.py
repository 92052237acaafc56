"""A folder of images, searched through all its subfolders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.stage import row_setting
from stages.images.readers.choosing import layouts
from stages.images.readers.contract import SUFFIXES, VIDEO_SUFFIXES, Found, Locations, Reader

FOLLOW_LINKS = (
    bool,
    row_setting(
        False, description="read links to regular files outside the folder, as DVC, git-annex and model hubs make them"
    ),
)


def _rows(config: Any, scan: Any) -> Found:
    root: Path = scan.resolve(config.folder)
    suffixes: tuple[str, ...] = SUFFIXES
    if config.layout != "plain":
        asked = layouts().values() if config.layout == "auto" else [layouts()[config.layout]]
        suffixes = VIDEO_SUFFIXES if any(layout.videos(root) for layout in asked) else SUFFIXES
    listing = scan.folder(config.folder, suffixes, config.follow_links)
    return listed(f"{root}/", listing, config.folder, suffixes, root)


def listed(
    before: str, listing: Any, shown: str, suffixes: tuple[str, ...] = SUFFIXES, root: Path | None = None
) -> Found:
    """Rows of files that were listed by suffix. Raises ConfigError where there are none."""
    if not listing.paths:
        passed = "".join(f"; {note}" for note in listing.notes)
        raise ConfigError(f"{shown}: found no image; expected files ending in {', '.join(suffixes)}{passed}")
    notes = [*listing.notes]
    if listing.ignored:
        notes.append(f"{listing.ignored} files passed over that do not end in {', '.join(suffixes)}")
    return Found(
        shown,
        listing.ids,
        Locations(before, listing.paths),
        listing.paths,
        root,
        problems=listing.problems,
        notes=notes,
    )


def _read(config: Any, location: str) -> bytes:
    with open(location, "rb", buffering=0) as file:
        return file.readall()


READER = Reader(
    "a folder of images, searched through all its subfolders", _rows, _read, settings={"follow_links": FOLLOW_LINKS},
    suffixes=SUFFIXES,
)  # fmt: skip
