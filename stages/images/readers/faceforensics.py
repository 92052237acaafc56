"""FaceForensics++: videos by method and compression; a pair of videos is a group, and splits are lists of pairs.

`original_sequences/youtube/c23/videos/071.mp4`, `manipulated_sequences/METHOD/c23/videos/071_054.mp4` (target, source).
In DeepFakeDetection an actor plays in many fakes, with many others: actors who meet in a fake, directly or through
others, are one group, unless `actors` says which split each is in. Folders `frames` are read in place of `videos`, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
ACROSS = "across"
"""In place of a split: of a fake whose actors are in two. No row has it."""

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
    "actors": (
        dict[Literal["train", "val", "test"], list[str]] | None,
        row_setting(
            None,
            description="of DeepFakeDetection which actors are in which split, {val: ['25'], test: ['27', '28']}, all "
            "others in train; fakes of actors in two splits are left out. Without it all actors who meet in "
            "fakes, directly or through others, are one group",
        ),
    ),
}


def _videos(folder: Path) -> bool:
    roots = [folder / f"{kind}_sequences" for kind in ("original", "manipulated")]
    found = (path for root in roots for path in root.glob("*/*/videos/*"))
    return any(path.suffix in VIDEO_SUFFIXES for path in found)


def _fits(tree: Tree) -> bool:
    return PLACE.fullmatch(tree.paths[0]) is not None and PLACE.fullmatch(tree.paths[-1]) is not None


def _columns(tree: Tree, config: Any) -> Columns:
    matches = [PLACE.fullmatch(path) for path in tree.paths]
    names = ["" if match is None else _name(match) for match in matches]
    taken = [name for name, match in zip(names, matches, strict=True)
             if match and match["kind"] in KINDS and config.compression in (None, match["compression"])]  # fmt: skip
    actors = _Actors.of(taken, config.actors, tree.shown)
    pairs = _pairs(tree, config, any(ACTORS.fullmatch(name) is None for name in taken))
    found = {match["compression"] for match in matches if match}
    if config.compression is None and len(found) > 1:
        raise ConfigError(f"{tree.shown}: has the compressions {', '.join(sorted(found))}; name one with `compression`")
    columns: list[tuple[str, str, str, str]] = []
    keep, unlisted, across = [], [], 0
    for row, match in enumerate(matches):
        if match is None:
            columns.append(("real", "", "", ""))
            continue
        name = names[row]
        pair = actors.group(name) or pairs.of(name)
        said = "real" if match["class"] == "original" else "fake"
        split = pairs.split.get(pair, "") or actors.split(name)
        columns.append((said, split, match["method"], pair or name))
        if match["kind"] not in KINDS or config.compression not in (None, match["compression"]):
            continue
        if split == ACROSS:
            columns[-1] = (said, "", *columns[-1][2:])
            across += 1
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
    label, split_words, domain, group = zip(*columns, strict=True)
    counted_here = [match["method"] for match in matches if match and match["kind"] == "videos"
                    and config.compression in (None, match["compression"])]  # fmt: skip
    notes = benchmark_notes("faceforensics", tree.paths, counted_here) if counted_here else []
    notes += actors.notes(taken, across)
    return Columns(label, split_words, domain, group, keep=keep, notes=notes)


def _name(match: re.Match[str]) -> str:
    """Of a video, whether it is a file or a folder of frames."""
    return match["name"] if match["rest"] else PurePosixPath(match["name"]).stem


def actors_of(name: str) -> list[str]:
    """Who plays in a video of DeepFakeDetection, `01_02__meeting__YVGY8LOK` or `01__kitchen`; [] in any other."""
    found = ACTORS.fullmatch(name)
    return sorted({one for one in found.groups() if one}) if found else []


def connected(meetings: Iterable[Sequence[str]]) -> dict[str, frozenset[str]]:
    """Actor -> all whom a chain of meetings leads to, the actor among them."""
    found: dict[str, frozenset[str]] = {}
    for actors in meetings:
        joined = frozenset(actors).union(*(found.get(one, frozenset()) for one in actors))
        found |= dict.fromkeys(joined, joined)
    return found


@dataclass(frozen=True)
class _Actors:
    """known: actor -> those of one group; given: actor -> split, empty where the settings name none."""

    known: Mapping[str, frozenset[str]]
    given: Mapping[str, str]

    @classmethod
    def of(cls, names: Iterable[str], asked: Mapping[str, list[str]] | None, shown: str) -> _Actors:
        """Raises ConfigError for an actor in two splits, or in no video."""
        meetings = [actors_of(name) for name in names]
        known = connected(meetings)
        given: dict[str, str] = {} if asked is None else dict.fromkeys(known, "train")
        named = [(actor, split) for split, actors in (asked or {}).items() for actor in actors]
        for actor, split in named:
            if actor not in known:
                raise ConfigError(f"{shown}: has no video of the actor '{actor}' that `actors` names; remove it")
            if [one for one, _ in named].count(actor) > 1:
                raise ConfigError(f"{shown}: `actors` names '{actor}' twice; an actor is in one split")
            given[actor] = split
        within = [actors for actors in meetings if len({given.get(one) for one in actors}) == 1]
        return cls(connected(within), given)

    def group(self, name: str) -> str:
        """ "" where it is no video of actors."""
        return "_".join(sorted(set().union(*(self.known.get(one, {one}) for one in actors_of(name)))))

    def split(self, name: str) -> str:
        """That of its actors, "" where none is given, `ACROSS` where they are in two."""
        found = {self.given.get(one, "") for one in actors_of(name)}
        return found.pop() if len(found) == 1 else ACROSS if found else ""

    def notes(self, names: Sequence[str], across: int) -> list[str]:
        """What is left out, or why all videos are in one split. across: fakes of actors in two."""
        if across:
            return [f"{counted(across, 'fake')} of actors in two splits left out"]
        groups = {self.group(name) for name in names if actors_of(name)}
        if len(groups) == 1 and len(self.known) > 2 and not self.given:
            return [
                f"all {len(self.known)} actors meet in fakes, directly or through others: they are one group, in one "
                "split; say with `actors` who is in val and in test"
            ]
        return []


@dataclass(frozen=True)
class _Pairs:
    """member: video -> its pair; split: pair -> split; reference: names of listed fakes and of their targets."""

    member: dict[str, str]
    split: dict[str, str]
    reference: set[str]

    def of(self, name: str) -> str:
        """The group of a video; "" where it is in no list."""
        groups = {self.member.get(part, "") for part in name.split("_")}
        return groups.pop() if len(groups) == 1 else ""


def _pairs(tree: Tree, config: Any, wanted: bool) -> _Pairs:
    """The official lists. Raises ConfigError where there are none and they are wanted, or a video is in two."""
    folder = folder_of(tree, config.lists)
    pairs = _Pairs({}, {}, set())
    for split in SPLITS:
        path = found_list(folder, f"{split}.json")
        if path is None:
            if config.allow_unlisted or not wanted:
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
