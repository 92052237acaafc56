"""FFHQ: folders of a thousand photographs, `images1024x1024/00000/00000.png`; splits and licences by the number.

The first 60,000 are for training and the rest for validation, as its authors say; Chai et al. 2020 part those in
two. `ffhq-dataset-v2.json` says licence, author and address of each picture; it is read once.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Literal

from pipeline.errors import SourceError
from pipeline.inputs.scan import decoded, encoded
from pipeline.stage import row_setting
from stages.images.readers.benchmarks import benchmark_notes
from stages.images.readers.contract import Columns, Layout, Pixels, Tree
from stages.images.readers.lists import LISTS, folder_of, found_list, json_file, missing_list
from stages.images.readers.verifying import VERIFY

KINDS = {"images1024x1024": "image", "thumbnails128x128": "thumbnail", "in-the-wild-images": "in_the_wild"}
"""Folder -> what the list calls its pictures."""
PLACE = re.compile(rf"(?:.*/)?(?:{'|'.join(KINDS)})/\d{{5}}/\d{{5}}\.\w+")
NUMBER = re.compile(r"\d{5}\.\w+")
"""A record of a TFRecord file has no folder; it is a photograph of 1024 pixels, or made of one."""
DIGEST = "pixel_md5"
LIST = "ffhq-dataset-v2.json"
TRAINING, VALIDATION = 60_000, 65_000
CATEGORIES = {"training": "train", "validation": "val"}
TOLD = {"licence": "license", "author": "author", "url": "photo_url"}
"""What attributions say of a row -> where the list has it; the licence must be there."""

SETTINGS: dict[str, tuple[Any, Any]] = {
    "lists": LISTS,
    "verify": VERIFY,
    "ffhq_split": (
        Literal["category", "chai2020"],
        row_setting("category", description="category: 60,000 train, 10,000 val; chai2020: 60,000, 5,000, 5,000 test"),
    ),
}


def _fits(tree: Tree) -> bool:
    return all(PLACE.fullmatch(path) for path in (tree.paths[0], tree.paths[-1]))


def _columns(tree: Tree, config: Any) -> Columns:
    numbers = [PurePosixPath(path).stem for path in tree.paths]
    odd = next((path for path in tree.paths if not (PLACE.fullmatch(path) or NUMBER.fullmatch(path))), None)
    if odd is not None:
        raise SourceError(f"{tree.shown}: {odd!r} is no file of FFHQ; expected images1024x1024/00000/00000.png")
    stated = _stated(tree, config)
    entries = [stated.get(int(number), {}) for number in numbers]
    first = ["train" if int(number) < TRAINING else "val" for number in numbers]
    split = [entry.get("split") or other for entry, other in zip(entries, first, strict=True)]
    if config.ffhq_split == "chai2020":
        split = ["train" if int(n) < TRAINING else "val" if int(n) < VALIDATION else "test" for n in numbers]
    told = {name: [entry.get(name, "") for entry in entries] for name in TOLD} if stated else {}
    domain = ["ffhq"] * len(numbers)
    return Columns(
        label=["real"] * len(numbers),
        split=split,
        domain=domain,
        notes=benchmark_notes("ffhq", tree.paths, domain),
        group=numbers,
        told=told,
        pixels=None if config.verify == "none" else _pixels(tree, config),
    )


def _stated(tree: Tree, config: Any) -> dict[int, dict[str, str]]:
    """Number -> split and what attributions say of it, from the list if it is there."""
    path = found_list(folder_of(tree, config.lists), LIST)
    if path is None:
        return {}

    def compute() -> dict[str, Any]:
        columns: dict[str, list[str]] = {name: [] for name in ("number", "split", *TOLD)}
        for number, entry in json_file(path, dict).items():
            try:
                about = entry["metadata"]
                found = {name: str(about.get(key, "")) for name, key in TOLD.items()}
                found |= {"number": str(int(number)), "split": CATEGORIES[entry["category"]]}
                found["licence"] = str(about["license"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SourceError(f"{path}: entry {number!r} lacks category or metadata.license") from error
            for name, column in columns.items():
                column.append(found[name])
        return {name: encoded(column) for name, column in columns.items()}

    table = {name: decoded(column) for name, column in tree.scan.cached(f"ffhq list\0{path}", path, compute).items()}
    numbers = table.pop("number")
    return {int(number): {name: column[row] for name, column in table.items()} for row, number in enumerate(numbers)}


def _pixels(tree: Tree, config: Any) -> Pixels:
    """Digests of all rows, by folder and number. Raises ConfigError without the list."""
    path = found_list(folder_of(tree, config.lists), LIST)
    if path is None:
        raise missing_list(tree, LIST)

    def compute() -> dict[str, Any]:
        numbers, digests = [], dict[str, list[str]]({key: [] for key in KINDS.values()})
        for number, entry in json_file(path, dict).items():
            numbers.append(str(number))
            for key, column in digests.items():
                about = entry.get(key) if isinstance(entry, dict) else None
                column.append(str(about.get(DIGEST, "")) if isinstance(about, dict) else "")
        return {"number": encoded(numbers), **{key: encoded(column) for key, column in digests.items()}}

    table = {name: decoded(column) for name, column in tree.scan.cached(f"ffhq pixels\0{path}", path, compute).items()}
    places = {int(number): row for row, number in enumerate(table.pop("number")) if number.isdigit()}
    md5 = []
    for one in tree.paths:
        *_, kind, _, name = ["images1024x1024", "", *one.split("/")]
        row = places.get(int(PurePosixPath(name).stem))
        md5.append("" if row is None else table[KINDS[kind]][row].lower())
    return Pixels(DIGEST, path, md5, planes=False)


LAYOUT = Layout("ffhq", _fits, _columns, SETTINGS)
