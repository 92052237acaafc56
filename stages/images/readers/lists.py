"""Lists that lie beside images: where they are found, and their rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, SourceError
from pipeline.stage import row_setting
from stages.images.readers.contract import Tree

LISTS: tuple[Any, Any] = (
    str | None,
    row_setting(None, description="the folder of the lists of a data set; the folder of the images if left out"),
)
MOST_BYTES = 2**29


def folder_of(tree: Tree, asked: str | None) -> Path | None:
    """Where the lists of a tree lie; None: it is no folder and none is named."""
    return tree.root if asked is None else Path(tree.scan.resolve(asked))


def found_list(folder: Path | None, *names: str) -> Path | None:
    """The first of the files that is there, in the folder itself or one below."""
    if folder is None:
        return None
    for name in names:
        for path in (folder / name, folder / "Anno" / name, folder / "Eval" / name, folder / "splits" / name):
            if path.is_file():
                return path
    return None


def text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of a list, parted by spaces or, in files of Kaggle, by commas. Raises SourceError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                words = text.strip().split(",") if "," in text else text.split()
                if words:
                    yield line, words
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def json_file(path: Path, kind: type) -> Any:
    """Content of a JSON file that is of a kind. Raises SourceError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, kind):
        raise SourceError(f"{path}: holds a {type(content).__name__}, expected a {kind.__name__}")
    return content


def missing_list(tree: Tree, names: str) -> ConfigError:
    """What to say where a list is needed and none lies there."""
    return ConfigError(f"{tree.shown}: has no {names} beside its images; put it there, or name its folder with `lists`")
