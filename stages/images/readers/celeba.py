"""CelebA and CelebA-HQ: splits, persons and attributes from the published lists; both are photographs.

A person is a group. A file of CelebA-HQ is called by its number there, which `image_list.txt` maps to a file of CelebA.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import ConfigError, SourceError
from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Pixels, Tree
from stages.images.readers.lists import LISTS, folder_of, found_list, missing_list, text_rows
from stages.images.readers.verifying import VERIFY

PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
IDENTITY = ("identity_CelebA.txt", "identity_CelebA.csv")
ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
HIGH_QUALITY = ("image_list.txt",)
DIGEST = "final_md5"
SPLITS = {"0": "train", "1": "val", "2": "test"}


def _fits(tree: Tree) -> bool:
    return found_list(tree.root, *PARTITION) is not None


def _columns(tree: Tree, config: Any) -> Columns:
    lists = folder_of(tree, config.lists)
    partition, identity = found_list(lists, *PARTITION), found_list(lists, *IDENTITY)
    if partition is None:
        raise missing_list(tree, PARTITION[0])
    splits, stems = _pairs(partition), [PurePosixPath(path).name for path in tree.paths]
    persons = {} if identity is None else _pairs(identity)
    high_quality = found_list(lists, *HIGH_QUALITY)
    names, pixels = stems, None
    if high_quality is not None and stems[0] not in splits:
        names, pixels = _originals(tree, high_quality, stems, config.verify != "none")
    lost = [name for name in names if name not in splits or splits[name] not in SPLITS]
    if lost:
        raise ConfigError(
            f"{tree.shown}: {partition.name} has no split 0, 1 or 2 for {lost[0]!r} and {len(lost)} in all"
        )
    more = {}
    if config.domain_by not in ("none", "folder"):
        more = _attribute(lists, config.domain_by, names, tree)
    domain = "celeba" if names is stems else "celebahq"
    notes = benchmark_notes(domain, tree.paths, [domain] * len(names))
    if not persons:
        notes.append(f"no {IDENTITY[0]}: each image is its own group, and one person may be in two splits")
    return Columns(
        label=["real"] * len(names),
        split=[SPLITS[splits[name]] for name in names],
        domain=[domain] * len(names),
        group=[f"identity {persons[name]}" if name in persons else "" for name in names],
        more=more,
        pixels=pixels,
        notes=notes,
    )


def _pairs(path: Path) -> dict[str, str]:
    """File -> the word behind it; lines of other kinds (headings) are passed over."""
    found = {}
    for line, words in text_rows(path):
        if "." in words[0] and len(words) == 2:
            found[words[0]] = words[1]
        elif line > 2:
            raise SourceError(f"{path}:{line} has {len(words)} words, expected a file and a number")
    return found


def _originals(tree: Tree, path: Path, names: list[str], verify: bool) -> tuple[list[str], Pixels | None]:
    """File of CelebA for each file of CelebA-HQ; with `verify` also what its pixels are."""
    rows = text_rows(path)
    _, heading = next(rows, (1, []))
    wanted = ["idx", "orig_file", *([DIGEST] if verify else [])]
    if not set(wanted) <= set(heading):
        raise SourceError(f"{path}:1 has the columns {heading}, expected {', '.join(wanted)} among them")
    number, *places = (heading.index(column) for column in wanted)
    known = {words[number]: [words[place] for place in places] for _, words in rows if len(words) == len(heading)}
    found = []
    for name in names:
        stem = PurePosixPath(name).stem
        original = known.get(str(int(stem))) if stem.isascii() and stem.isdigit() else None
        if original is None:
            raise ConfigError(f"{tree.shown}: {path.name} has no image of the number {stem!r} ({name})")
        found.append(original)
    md5 = [digest.lower() for _, *digests in found for digest in digests]
    return [original for original, *_ in found], Pixels(DIGEST, path, md5, planes=True) if verify else None


def _attribute(lists: Path | None, wanted: str, names: list[str], tree: Tree) -> dict[str, list[str]]:
    """Domains by one attribute: NAME, or "not NAME"."""
    path = found_list(lists, *ATTRIBUTES)
    if path is None:
        raise missing_list(tree, ATTRIBUTES[0])
    column, values = -1, {}
    for _, words in text_rows(path):
        if "." in words[0] and column >= 0:
            values[words[0]] = words[1 + column] == "1"
        elif wanted in words:
            column = words.index(wanted) - ("." in words[0] or words[0].startswith("image_id"))
    if column < 0:
        raise ConfigError(f"{path}: has no attribute {wanted!r}; correct domain_by")
    lost = next((name for name in names if name not in values), None)
    if lost is not None:
        raise ConfigError(f"{path}: has no line for {lost!r}")
    return {wanted: [wanted if values[name] else f"not {wanted}" for name in names]}


LAYOUT = Layout("celeba", _fits, _columns, {"lists": LISTS, "verify": VERIFY})
