"""FaceForensics++: videos by method and compression; a pair of videos is a group, and splits are lists of pairs.

`original_sequences/youtube/c23/videos/071.mp4`, `manipulated_sequences/METHOD/c23/videos/071_054.mp4` (target, source).
Of the actors of DeepFakeDetection the unordered pair is the group. Folders `frames` in place of `videos` are read too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pipeline.errors import ConfigError
from pipeline.sentences import counted
from pipeline.stage import row_setting
from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import VIDEO_SUFFIXES, Columns, Layout, Tree
from stages.images.readers.lists import LISTS, folder_of, found_list, json_file, missing_list

PLACE = re.compile(
    r"(?:.*/)?(?P<class>original|manipulated)_sequences/(?P<method>[^/]+)/(?P<compression>raw|c0|c23|c40)/"
    r"(?P<kind>[^/]+)/(?P<name>[^/]+)(?P<rest>/.*)?"
)
ACTORS = re.compile(r"(\d\d)(?:_(\d\d))?__.+")
SPLITS = ("train", "val", "test")
KINDS = ("videos", "frames", "images")
"""Folders whose files are rows; masks are none."""

SETTINGS: dict[str, tuple[Any, Any]] = {
    "lists": LISTS,
    "compression": (str | None, row_setting(None, description="of several compressions the one that counts, e.g. c23")),
    "pairs": (
        Literal["both", "reference"],
        row_setting(
            "both", description="reference: of each pair only the fake TARGET_SOURCE as listed, and its target"
        ),
    ),
    "allow_unlisted": (bool, row_setting(False, description="keep videos that are in no list of pairs")),
}


def _videos(folder: Path) -> bool:
    roots = [folder / f"{kind}_sequences" for kind in ("original", "manipulated")]
    found = (path for root in roots for path in root.glob("*/*/videos/*"))
    return any(path.suffix in VIDEO_SUFFIXES for path in found)


def _fits(tree: Tree) -> bool:
    return PLACE.fullmatch(tree.paths[0]) is not None and PLACE.fullmatch(tree.paths[-1]) is not None


def _columns(tree: Tree, config: Any) -> Columns:
    pairs = _pairs(tree, config)
    matches = [PLACE.fullmatch(path) for path in tree.paths]
    found = {match["compression"] for match in matches if match}
    if config.compression is None and len(found) > 1:
        raise ConfigError(f"{tree.shown}: has the compressions {', '.join(sorted(found))}; name one with `compression`")
    columns: list[tuple[str, str, str, str]] = []
    keep, unlisted = [], []
    for row, match in enumerate(matches):
        if match is None:
            columns.append(("real", "", "", ""))
            continue
        name = match["name"] if match["rest"] else PurePosixPath(match["name"]).stem
        pair = pairs.of(name)
        said = "real" if match["class"] == "original" else "fake"
        columns.append((said, pairs.split.get(pair, ""), match["method"], pair or name))
        if match["kind"] not in KINDS or config.compression not in (None, match["compression"]):
            continue
        if not pair:
            unlisted.append(tree.paths[row])
        if (pair and (config.pairs == "both" or name in pairs.reference)) or (not pair and config.allow_unlisted):
            keep.append(row)
    if unlisted and not config.allow_unlisted:
        raise ConfigError(
            f"{tree.shown}: {counted(len(unlisted), 'video')} in no pair of the lists, e.g. {unlisted[0]}; remove them "
            "or set allow_unlisted: true"
        )
    if not keep:
        raise ConfigError(f"{tree.shown}: has no video that counts; correct `compression` or `pairs`")
    label, split, domain, group = zip(*columns, strict=True)
    counted_here = [match["method"] for match in matches if match and match["kind"] == "videos"
                    and config.compression in (None, match["compression"])]  # fmt: skip
    notes = benchmark_notes("faceforensics", tree.paths, counted_here) if counted_here else []
    return Columns(label, split, domain, group, keep=keep, notes=notes)


@dataclass(frozen=True)
class _Pairs:
    """member: video -> its pair; split: pair -> split; reference: names of listed fakes and of their targets."""

    member: dict[str, str]
    split: dict[str, str]
    reference: set[str]

    def of(self, name: str) -> str:
        """The group of a video; "" where it is in no list."""
        actors = ACTORS.fullmatch(name)
        if actors:
            return "_".join(sorted(one for one in actors.groups() if one))
        groups = {self.member.get(part, "") for part in name.split("_")}
        return groups.pop() if len(groups) == 1 else ""


def _pairs(tree: Tree, config: Any) -> _Pairs:
    """The official lists. Raises ConfigError where there are none and some video needs them, or a video is in two."""
    folder = folder_of(tree, config.lists)
    pairs = _Pairs({}, {}, set())
    for split in SPLITS:
        path = found_list(folder, f"{split}.json")
        if path is None:
            if config.allow_unlisted:
                continue
            raise missing_list(tree, "train.json, val.json and test.json")
        for pair in json_file(path, list):
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)):
                raise ConfigError(f"{path}: holds {pair!r}, expected pairs of numbers such as ['071', '054']")
            group = "_".join(sorted(pair))
            if any(pairs.member.get(one, group) != group for one in pair):
                raise ConfigError(f"{path}: a video of {pair} is in another pair too; a video is in one pair")
            pairs.member.update(dict.fromkeys(pair, group))
            pairs.split[group] = split
            pairs.reference.update((f"{pair[0]}_{pair[1]}", pair[0]))
    return pairs


LAYOUT = Layout("faceforensics", _fits, _columns, SETTINGS, _videos)
