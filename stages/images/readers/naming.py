"""Rows of `ingest` from what a reader found: classes, splits, groups and domains by names, in one way for all readers.

Names decide what is real, numbers never do: in one published data set class 0 is real, in another one it is fake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.sentences import counted
from pipeline.spelling import normalized, spellings, usual
from pipeline.stage import FAKE, REAL, SourceRows
from stages.images import grouping
from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.choosing import layouts
from stages.images.readers.contract import Columns, Found, Layout, Tree
from stages.images.readers.verifying import verified

REAL_WORDS = frozenset({"real", "0_real", "nature", "original", "youtube", "actors", "human", "authentic"})
FAKE_WORDS = frozenset({"fake", "1_fake", "ai", "manipulated", "generated", "synthetic"})
SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip

SPLIT_OF_FILE = re.compile(r"(?P<split>\w+?)-\d+(-of-\d+)?")
"""Stem of one of several files of a split."""


def class_table(labels: Mapping[str, str]) -> dict[str, str]:
    """Name in lower case -> "real" or "fake"; those of a config come first."""
    table = dict.fromkeys(REAL_WORDS, "real") | dict.fromkeys(FAKE_WORDS, "fake")
    return table | {normalized(name).lower(): word for name, word in labels.items()}


def source_rows(config: Any, found: Found, scan: Any) -> SourceRows:
    """The rows as the engine takes them.

    Raises ConfigError where a class, split, group or domain cannot be told.
    """
    notes = [*found.notes, *([found.container] if found.container else [])]
    columns = found.columns
    names, rewritten = _named(config, found.paths)
    if config.layout != "plain":
        columns, told = _laid_out(config, found, names, scan)
        notes += told
    notes += columns.notes
    if columns.label is None and config.label_by == "none":
        notes += _both_classes(config, found)
    label = _labels(config, found, columns, names)
    split, domain = _split(config, found, columns, names), columns.domain
    if names is not None and columns is found.columns and config.label_by == config.domain_by == "folder":
        notes += benchmark_notes("", names, first_folders(names))
    if config.domain_by != "none":
        made = _domains(config, found, columns, names)
        given = domain if domain is not None and columns is found.columns else [""] * len(found.ids)
        domain = [one or other for one, other in zip(given, made, strict=True)]
    problems, said = _compared(config, found, columns, scan)
    notes += [f"verified: {said}"] if said else []
    licences = _licences(columns)
    rows = SourceRows(
        id=found.ids,
        label=label,
        group=_groups(config, columns.group, names, found.ids),
        split=split,
        domain=domain,
        payload={"location": found.locations},
        splits=config.splits,
        notes=(
            *([f"{found.title or found.shown}: licences {licences}"] if licences else ()),
            *(f"{found.shown}: {note}" for note in [*notes, *rewritten]),
        ),
        problems=problems,
        line=found.line,
        licence=licences,
        told=columns.told if found.paths is None else {"file": found.paths, **columns.told},
        verified=said,
    )
    return rows if columns.keep is None else _kept(rows, np.asarray(columns.keep, np.int64))


def _kept(rows: SourceRows, keep: NDArray[np.int64]) -> SourceRows:
    """Some of the rows, in their order."""

    def some(column: Any) -> Any:
        return [column[row] for row in keep.tolist()] if isinstance(column, Sequence) else column

    place = {row: number for number, row in enumerate(keep.tolist())}
    line = rows.line
    return SourceRows(
        id=rows.id[keep],
        label=rows.label[keep] if isinstance(rows.label, np.ndarray) else rows.label,
        group=some(rows.group),
        split=some(rows.split),
        domain=some(rows.domain),
        payload={"location": rows.payload["location"][keep]},
        splits=rows.splits,
        notes=rows.notes,
        problems={place[row]: reason for row, reason in rows.problems.items() if row in place},
        line=None if line is None else lambda number: line(int(keep[number])),
        licence=rows.licence,
        told={name: some(column) for name, column in rows.told.items()},
        verified=rows.verified,
    )


def _compared(config: Any, found: Found, columns: Columns, scan: Any) -> tuple[Mapping[int, str], str]:
    """Problems of all rows, and what was verified of pixels; "": nothing. Raises ConfigError where nothing can be."""
    if config.verify == "none" or not scan.reads:
        return found.problems, ""
    if columns.pixels is None:
        raise ConfigError(
            f"{found.shown}: verify: pixels has no effect, since only FFHQ (pixel_md5 of ffhq-dataset-v2.json) and "
            "CelebA-HQ (final_md5 of image_list.txt) have lists of their pixels; remove it"
        )
    one = verified(config, found, columns.pixels, scan)
    return dict(sorted({**found.problems, **one.problems}.items())), one.says


def _licences(columns: Columns) -> str:
    """Each with the number of its rows; "" where the source knows of none."""
    counts = Counter(columns.told.get("licence", ()))
    return ", ".join(f"{name} {count}" for name, count in sorted((one or "not stated", n) for one, n in counts.items()))


def _named(config: Any, paths: Sequence[str] | None) -> tuple[Sequence[str] | None, list[str]]:
    """Paths as columns are made from them, and what to say.

    A backslash in a file's name was a folder where it was packed. An expression sees names in their normal form, since
    it would tell the letters of a decomposed name apart.
    """
    by_name = (config.group_by, config.domain_by, config.label_by, config.split_by, config.layout)
    if paths is None or by_name == ("none", "none", "none", "none", "plain"):
        return paths, []
    expression = config.group_by not in ("none", "folder")
    if "\\" not in "\0".join(paths) and (not expression or usual(paths)):
        return paths, []
    normal = spellings(paths) if expression else dict(zip(paths, paths, strict=True))
    names = [normal[path].replace("\\", "/") for path in paths]
    odd = [path for path, name in zip(paths, names, strict=True) if path != name]
    return names, [f"{counted(len(odd), 'name')} read in another spelling, e.g. {odd[0]!a}"] if odd else []


def _laid_out(config: Any, found: Found, names: Sequence[str] | None, scan: Any) -> tuple[Columns, list[str]]:
    """What the layout says, and a note which one it is."""
    if names is None:
        raise ConfigError(f"{found.shown}: a layout needs file names, and its rows have none")
    tree = Tree(names, sorted({name.rpartition("/")[0] for name in names}), found.root, found.shown, scan)
    one: Layout | None = layouts().get(config.layout)
    if config.layout == "auto":
        one = next((layout for layout in layouts().values() if layout.fits(tree)), None)
    if one is None:
        return found.columns, ["layout: plain, no published one fits"]
    return one.columns(tree, config), [f"layout: {one.title}"]


def _labels(config: Any, found: Found, columns: Columns, names: Sequence[str] | None) -> int | NDArray[np.uint8]:
    """One label for all rows, or (n,) uint8."""
    table = class_table(config.labels)
    if config.label_by == "folder":
        assert names is not None
        return _coded(by_folder(names, table, found.shown, "label_by: folder"))
    words = columns.label
    if config.label_by == "column" and words is None:
        raise ConfigError(f"{found.shown}: label_by: column has no effect, the source gives its rows no label")
    if words is None:
        return _one_label(config)
    distinct = sorted(set(words))
    unknown = [word for word in distinct if normalized(word).lower() not in table]
    if "label" in config.model_fields_set:
        if len(unknown) < len(distinct):
            known = next(word for word in distinct if word not in unknown)
            raise ConfigError(
                f"{found.shown}: gives rows a label such as {known!r}, so `label` has no effect; remove it"
            )
        return _one_label(config)
    if unknown:
        where = next(row for row, word in enumerate(words) if word in unknown)
        raise ConfigError(
            f"{found.shown}: {counted(len(unknown), 'label')} {', '.join(map(repr, unknown[:5]))} (first: "
            f"{_place(found, where)}) say neither real nor fake; write what they are, e.g. "
            f"labels: {{{unknown[0] or chr(34) * 2}: fake}}, or one `label` for all rows"
        )
    return _coded([table[normalized(word).lower()] for word in words])


def _place(found: Found, row: int) -> str:
    return found.line(row) if found.line is not None else str(found.locations[row])


def _one_label(config: Any) -> int:
    return FAKE if config.label == "fake" else REAL


def _coded(words: Iterable[str]) -> NDArray[np.uint8]:
    return np.array([FAKE if word == "fake" else REAL for word in words], np.uint8)


def _both_classes(config: Any, found: Found) -> list[str]:
    """A note on a tree with both classes in it that is taken for one: no number would show it."""
    if found.paths is None or config.layout != "plain" or {"label", "labels"} & config.model_fields_set:
        return []
    text = "/" + "\0/".join(found.paths)
    for real, fake in (("0_real", "1_fake"), ("real", "fake"), ("nature", "ai")):
        if f"/{fake}/" in text and f"/{real}/" in text:
            return [
                f"has folders {real!r} and {fake!r}, and all rows count as one class; layout: auto or label_by: "
                "folder of `ingest` tells them apart"
            ]
    return []


def by_folder(
    paths: Sequence[str], table: Mapping[str, str], shown: str, setting: str, which: int = -1,
    way_out: str = "labels: {{{0}: fake}}",
) -> list[str]:  # fmt: skip
    """For each path what the table says of the last (`which` 0: the first) of its folders that it knows.

    Raises ConfigError naming folders without any. way_out: what to write, with the folder's last name for {0}.
    """
    known: dict[str, str] = {}
    lost: dict[str, str] = {}
    found = []
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder not in known:
            words = [table[part] for part in normalized(folder).lower().split("/") if part in table]
            known[folder] = words[which] if words else ""
            if not words:
                lost[folder] = path
        found.append(known[folder])
    if lost:
        first = min(lost)
        asked = way_out.format(PurePosixPath(first).name or "FOLDER")
        raise ConfigError(
            f"{shown}: {setting} does not know {counted(len(lost), 'folder')}, e.g. {first or '.'!r} (of "
            f"{lost[first]!r}); expected one of {', '.join(sorted(table))} in each path; rename it, or write {asked}"
        )
    return found


def split_of_file(path: Path, root: Path) -> str:
    """Split of a file of many images, by its name, SPLIT-00000-of-00002, or by a folder; "": it says nothing."""
    match = SPLIT_OF_FILE.fullmatch(path.stem)
    words = [match["split"] if match else path.stem]
    words += [] if path == root else list(path.relative_to(root).parts[:-1])
    return next((SPLIT_WORDS[word.lower()] for word in words if word.lower() in SPLIT_WORDS), "")


def _split(config: Any, found: Found, columns: Columns, names: Sequence[str] | None) -> Sequence[str] | None:
    if config.split_by == "none":
        return columns.split
    assert names is not None
    return by_folder(names, SPLIT_WORDS, found.shown, "split_by: folder", 0, "`splits` and leave split_by out")


def _groups(
    config: Any, given: Sequence[str] | None, paths: Sequence[str] | None, ids: NDArray[np.void]
) -> list[str] | None:
    """Groups as given, and of the other rows as `group_by` says; None where every image is its own."""
    if given is None:
        if config.group_by == "none":
            return None
        given = [""] * len(ids)
    missing = [row for row, group in enumerate(given) if not group]
    if not missing or (len(missing) == len(given) and config.group_by == "none"):
        return None if missing else list(given)
    groups = list(given)
    made = [f"id:{ids[row].tobytes().hex()}" for row in missing]
    if config.group_by != "none":
        assert paths is not None
        made = _grouped(config.group_by, [paths[row] for row in missing])
    for row, group in zip(missing, made, strict=True):
        groups[row] = group
    return groups


def _grouped(expression: str, paths: Sequence[str]) -> list[str]:
    """Group of each path. Raises ConfigError where the expression fails."""
    if expression == "folder":
        return [path.rpartition("/")[0] or "." for path in paths]
    matches = grouping.matched(expression, [PurePosixPath(path).stem for path in paths])
    missed = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if missed:
        raise ConfigError(
            f"group_by {expression!r} matches {len(paths) - len(missed)} of {len(paths)} "
            f"file names from their start (not {missed[0]!r}); "
            "expected a match in each, since a row without a group may leak"
        )
    return [match for match in matches if match is not None]


def _domains(config: Any, found: Found, columns: Columns, paths: Sequence[str] | None) -> Sequence[str]:
    if config.domain_by in columns.more:
        return columns.more[config.domain_by]
    if config.domain_by != "folder":
        known = ", ".join(["folder", *sorted(columns.more)])
        raise ConfigError(f"{found.shown}: domain_by is {config.domain_by!r}, expected none or one of {known}")
    assert paths is not None
    return first_folders(paths)


def first_folders(paths: Sequence[str]) -> list[str]:
    """The first folder of each path; "." where there is none."""
    return [path.partition("/")[0] if "/" in path else "." for path in paths]
