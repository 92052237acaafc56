"""FFHQ: folders of a thousand photographs, `images1024x1024/00000/00000.png`; splits and licences by the number.

The first 60,000 are for training and the rest for validation, as its authors say; Chai et al. 2020 part those in
two. `ffhq-dataset-v2.json` says the licence of each picture; it is read once.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from pipeline.errors import SourceError
from pipeline.inputs.scan import decoded, encoded
from pipeline.stage import row_setting
from stages.images.readers.contract import Columns, Layout, Tree
from stages.images.readers.lists import LISTS, folder_of, found_list, json_file

PLACE = re.compile(r"(?:.*/)?(?:images1024x1024|thumbnails128x128|in-the-wild-images)/\d{5}/\d{5}\.\w+")
LIST = "ffhq-dataset-v2.json"
TRAINING, VALIDATION = 60_000, 65_000
CATEGORIES = {"training": "train", "validation": "val"}

SETTINGS: dict[str, tuple[Any, Any]] = {
    "lists": LISTS,
    "ffhq_split": (
        Literal["category", "chai2020"],
        row_setting("category", description="category: 60,000 train, 10,000 val; chai2020: 60,000, 5,000, 5,000 test"),
    ),
}


def _fits(tree: Tree) -> bool:
    return all(PLACE.fullmatch(path) for path in (tree.paths[0], tree.paths[-1]))


def _columns(tree: Tree, config: Any) -> Columns:
    numbers = [PurePosixPath(path).stem for path in tree.paths]
    odd = next((path for path in tree.paths if not PLACE.fullmatch(path)), None)
    if odd is not None:
        raise SourceError(f"{tree.shown}: {odd!r} is no file of FFHQ; expected images1024x1024/00000/00000.png")
    stated, licences = _stated(tree, config)
    split = [stated.get(int(number)) or ("train" if int(number) < TRAINING else "val") for number in numbers]
    if config.ffhq_split == "chai2020":
        split = ["train" if int(n) < TRAINING else "val" if int(n) < VALIDATION else "test" for n in numbers]
    counts = Counter(licences.get(int(number), "not stated") for number in numbers) if licences else {}
    return Columns(
        label=["real"] * len(numbers),
        split=split,
        domain=["ffhq"] * len(numbers),
        group=numbers,
        licence=", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
    )


def _stated(tree: Tree, config: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Split and licence by number, from the list if it is there."""
    path = found_list(folder_of(tree, config.lists), LIST)
    if path is None:
        return {}, {}

    def compute() -> dict[str, Any]:
        content = json_file(path, dict)
        numbers, splits, licences = [], [], []
        for number, entry in content.items():
            try:
                licence, category = entry["metadata"]["license"], entry["category"]
                numbers.append(int(number))
                splits.append(CATEGORIES[category])
                licences.append(str(licence))
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{path}: entry {number!r} lacks category or metadata.license") from error
        return {"numbers": np.array(numbers, np.int64), "splits": encoded(splits), "licences": encoded(licences)}

    table = tree.scan.cached(f"ffhq\0{path}", path, compute)
    numbers = table["numbers"].tolist()
    splits, licences = decoded(table["splits"]), decoded(table["licences"])
    return dict(zip(numbers, splits, strict=True)), dict(zip(numbers, licences, strict=True))


LAYOUT = Layout("ffhq", _fits, _columns, SETTINGS)
