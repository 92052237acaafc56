"""DF40 and DeepfakeBench: frames as lists in JSON name them, `{SET: {LABEL: {SPLIT: {[COMPRESSION:] {VIDEO: ...}}}}}`.

A photograph that several lists name counts once. Its class is LABEL by the table of names: `labels: {FF-real: real}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, SourceError
from pipeline.sentences import counted
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.lists import LISTS, folder_of, json_file, missing_list
from stages.images.readers.naming import SPLIT_WORDS

COMPRESSIONS = ("raw", "c0", "c23", "c40")


def _lists(folder: Path | None) -> list[Path]:
    """JSON files in the folder of the lists, or in `dataset_json` below it."""
    return [] if folder is None else sorted([*folder.glob("*.json"), *folder.glob("dataset_json/*.json")])


def _fits(tree: Tree) -> bool:
    return tree.root is not None and bool(_lists(tree.root / "dataset_json"))


def _columns(tree: Tree, config: Any) -> Columns:
    lists = _lists(folder_of(tree, config.lists))
    if not lists:
        raise missing_list(tree, "JSON list")
    place = {path: row for row, path in enumerate(tree.paths)}
    said: dict[int, tuple[str, str, str]] = {}
    lost: list[str] = []
    for path in lists:
        for label, split, video, frame in _frames(path):
            row = place.get(frame)
            if row is None:
                lost.append(frame)
            elif said.setdefault(row, (label, split, video))[1] != split:
                raise SourceError(f"{path}: {frame!r} is in {split}, and in {said[row][1]} by another list; remove one")
    if not said:
        raise ConfigError(
            f"{tree.shown}: none of {len(lost):,} frames of the lists is there, e.g. {lost[:1]}; name its root"
        )
    rows = [said.get(row, ("real", "", "")) for row in range(len(tree.paths))]
    notes = [f"{counted(len(lost), 'frame')} of the lists are not there, e.g. {lost[0]}"] if lost else []
    if len(said) < len(rows):
        notes.append(f"{counted(len(rows) - len(said), 'image')} in no list left out")
    return Columns(
        label=[one[0] for one in rows],
        split=[one[1] for one in rows],
        domain=[one[0] for one in rows],
        group=[one[2] for one in rows],
        keep=sorted(said),
        notes=notes,
    )


def _frames(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(label, split, video, frame) of a list. Raises SourceError where it is none."""
    try:
        for labels in json_file(path, dict).values():
            for label, splits in labels.items():
                for split, videos in splits.items():
                    yield from _of_videos(str(label), SPLIT_WORDS[split.lower()], videos)
    except (AttributeError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path}: is no list of DeepfakeBench, expected SET, LABEL, SPLIT and VIDEO inside"
        ) from error


def _of_videos(label: str, split: str, videos: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for video, entry in videos.items():
        if video in COMPRESSIONS and "frames" not in entry:
            yield from _of_videos(label, split, entry)
            continue
        for frame in entry["frames"]:
            yield label, split, str(video), str(frame).replace("\\", "/").removeprefix("./")


LAYOUT = Layout("df40", _fits, _columns, {"lists": LISTS})
