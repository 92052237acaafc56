"""Reading a dataset manifest: the text file that says which images go in, with digest, split, group and licence.

A manifest is a CSV table, or a YAML header that holds the rows inline (`rows:` a list) or names a CSV table
(`rows: photos.csv`). Paths start at the manifest's folder, or at `root`. All values are read as text: YAML's ideas of
what a number or a truth value looks like never reach a digest or a split. Errors name file and line.
"""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import ConfigError
from pipeline.sentences import closest, counted, nearest
from pipeline.spelling import spellings
from pipeline.stage import SPLITS
from pipeline.yaml_text import ROWS, compose, read_text

COLUMNS = {
    "file": "path of the image, relative to the root of the manifest; required",
    "label": "a name such as real or fake, see `labels`; empty everywhere: the node's `label`",
    "sha256": "SHA-256 of the file, 64 hexadecimal digits; where it is given no file is read while planning",
    "size": "bytes",
    "split": "train, val or test; empty: assigned by hash of the group",
    "group": "rows that no split may divide: same product, person or photograph",
    "domain": "a kind of picture, for tables per domain",
    "licence": "SPDX name",
    "author": "who made it, for attributions",
    "url": "where the original can be found, for attributions",
    "source": "where the image comes from (provenance, for attributions)",
    "native_size": "size before curation, WIDTHxHEIGHT (provenance, not used)",
    "crop": "square cut out of the original: left, top, side (provenance, not used)",
}

PATHS = ("path", "image", "filename", "file_name", "filepath")
"""What other tables call the column `file`."""

HEADER = {
    "name": "name of the dataset",
    "description": "what it is",
    "licence": "licence of rows that name none",
    "origin": "where it comes from",
    "citation": "what to cite",
    "grouping": "what a group is",
    "processing": "what curators did to the files",
    "root": "folder that paths start at, relative to the manifest",
    "rows": "a list of rows, or the name of a CSV table beside this file",
}


@dataclass
class Manifest:
    """A manifest as read: columns of equal length, where each row stands, and sentences on what was read otherwise."""

    path: Path
    root: Path
    columns: dict[str, list[str]]
    lines: list[int]
    header: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[str]:
        """Values of a column, empty texts where the manifest does not have it."""
        return self.columns.get(name) or [""] * len(self)

    def place(self, row: int) -> str:
        return f"{self.path}:{self.lines[row]}"


def read_manifest(path: Path, root: Path | None = None) -> Manifest:
    """Read and check a manifest; raises ConfigError with file and line.

    root: the folder that paths start at, in place of what a YAML manifest says and of the manifest's own folder.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: the manifest does not exist; correct its path, which is relative to the pipeline file"
        )
    manifest = _read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else _read_csv(path, path.parent, {})
    manifest.root = manifest.root if root is None else root
    _check(manifest)
    return manifest


def read_table(path: Path, content: bytes) -> Manifest:
    """A CSV table that lies beside images; columns that no manifest has are passed over with a note.

    `path` names it in messages. Raises ConfigError with file and line.
    """
    manifest = _read_csv(path, path.parent, {}, content, strict=False)
    _check(manifest)
    return manifest


def _fail(place: str, message: str) -> NoReturn:
    raise ConfigError(f"{place} {message}")


def _read_csv(
    path: Path, root: Path, header: Mapping[str, str], content: bytes | None = None, strict: bool = True
) -> Manifest:
    """Rows of a CSV table. Raises ConfigError for an unknown column (if `strict`), a short or long row, or text that is
    not UTF-8. content: of the file, where it has been read already.
    """
    try:
        with open(path, "rb") if content is None else BytesIO(content) as binary:
            reader = csv.reader(TextIOWrapper(binary, "utf-8-sig", "strict", newline=""), strict=True)
            names = _with_file(f"{path}:1", next(reader, []))
            unknown = [name for name in names if name not in COLUMNS] if not strict else []
            _check_names(f"{path}:1", [name for name in names if name not in unknown])
            rows, lines = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    _fail(f"{path}:{reader.line_num}", f"has {len(row)} values, expected {len(names)} as in line 1")
                rows.append(row)
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x}") from error
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num} is no CSV: {error}") from error
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names) if name not in unknown}
    notes = [f"no manifest has {counted(len(unknown), 'column')} {', '.join(unknown)}: not used"] if unknown else []
    return Manifest(path, root, columns, lines, header, notes)


def _with_file(place: str, names: list[str]) -> list[str]:
    """Names of columns, with `file` for what other tables call so."""
    plain = [name.strip() for name in names]
    known = [name for name in plain if name in ("file", *PATHS)]
    if len(known) > 1 and "file" not in known:
        _fail(
            place, f"has the columns {' and '.join(known)}, and each may name the file; rename the right one to 'file'"
        )
    return ["file" if name in known else name for name in plain] if len(known) == 1 else plain


def _check_names(place: str, names: Sequence[str]) -> None:
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            _fail(place, f"{names[0]!r} has {word} between its columns, expected commas; save the table with commas")
    for position, name in enumerate(names):
        if name not in COLUMNS:
            _fail(place, f"{name!r} is not a column of a manifest{nearest(name, COLUMNS)}")
        if name in names[:position]:
            _fail(place, f"column {name!r} occurs twice")
    if "file" not in names:
        _fail(
            place,
            f"has no column 'file'; found {', '.join(names) or 'nothing'}; rename the column of the paths to 'file'",
        )


def _read_yaml(path: Path) -> Manifest:
    """A header with rows. Only node texts are used, so that no value is converted."""
    import yaml

    root_node = compose(read_text(path, ROWS), str(path), ROWS)
    if not isinstance(root_node, yaml.MappingNode):
        raise ConfigError(f"{path}:1 expected a mapping with the key 'rows', found something else")
    header: dict[str, str] = {}
    rows: Any = None
    for key, value, line in _pairs(path, root_node, "manifest key", HEADER):
        if key == "rows":
            rows = value
        elif isinstance(value, yaml.ScalarNode):
            header[key] = value.value
        else:
            _fail(f"{path}:{line}", f"{key!r} must be a text")
    root = path.parent / header.get("root", "").replace("\\", "/")
    if isinstance(rows, yaml.ScalarNode) and rows.value:
        table = path.parent / rows.value
        if not table.is_file():
            _fail(f"{path}:{rows.start_mark.line + 1}", f"rows: {table} does not exist, expected a CSV table")
        return _read_csv(table, root, header)
    if not isinstance(rows, yaml.SequenceNode):
        raise ConfigError(f"{path}: has no 'rows'; expected a list of rows or the name of a CSV table")
    return _inline_rows(path, root, header, rows)


def _inline_rows(path: Path, root: Path, header: Mapping[str, str], rows: Any) -> Manifest:
    import yaml

    columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
    lines = []
    for node in rows.value:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.MappingNode):
            _fail(f"{path}:{line}", "expected a row such as {file: a.png, split: train}")
        row = {}
        for key, value, at in _pairs(path, node, "column of a manifest", COLUMNS):
            if not isinstance(value, yaml.ScalarNode):
                _fail(f"{path}:{at}", f"{key!r} must be a single value")
            row[key] = value.value
        for name, values in columns.items():
            values.append(row.get(name, ""))
        lines.append(line)
    return Manifest(path, root, columns, lines, header)


def _pairs(path: Path, node: Any, kind: str, known: Mapping[str, str]) -> Iterator[tuple[str, Any, int]]:
    """(key, value node, line) of a mapping; keys are known and occur once."""
    seen = set()
    for key, value in node.value:
        line, name = key.start_mark.line + 1, str(key.value)
        if name not in known:
            _fail(f"{path}:{line}", f"{name!r} is no {kind}{nearest(name, known)}")
        if name in seen:
            _fail(f"{path}:{line}", f"{name!r} occurs twice")
        seen.add(name)
        yield name, value, line


def _check(manifest: Manifest) -> None:
    """Every value that is given is well formed, no file occurs twice, no path leaves the root; paths are normalized."""
    files = manifest.column("file")
    _use_slashes(manifest, files)
    first: dict[str, int] = {}
    inside = f"{posixpath.normpath(os.path.abspath(manifest.root))}/"
    for row, file in enumerate(files):
        file = posixpath.normpath(file).removeprefix(inside) if file.startswith("/") else file
        path = posixpath.normpath(file) if file else ""
        if not file:
            _fail(manifest.place(row), "has no file")
        if file.startswith("/") or path == ".." or path.startswith("../") or "\0" in file:
            _fail(
                manifest.place(row), f"{file!r} is a path outside the root {manifest.root}; set `root` or move the file"
            )
        if path in first:
            _fail(manifest.place(row), f"{file!r} is already in line {manifest.lines[first[path]]}; keep one of them")
        first[path] = row
        files[row] = path
    for row, digest in enumerate(manifest.column("sha256")):
        if digest and (len(digest) != 64 or not set(digest) <= set("0123456789abcdefABCDEF")):
            _fail(manifest.place(row), f"sha256 is {digest!r}, expected 64 hexadecimal digits")
    for row, size in enumerate(manifest.column("size")):
        if size and not (size.isascii() and size.isdigit()):
            _fail(manifest.place(row), f"size is {size!r}, expected a number of bytes")
    normal = spellings(manifest.column("split"))
    for row, split in enumerate(manifest.column("split")):
        if normal[split] and normal[split] not in SPLITS:
            _fail(manifest.place(row), f"split is {split!r}, expected train, val or test{closest(split, SPLITS)}")


def _use_slashes(manifest: Manifest, files: list[str]) -> None:
    """Paths as Windows writes them are paths here too: what stood in folders there must not become one flat folder."""
    odd = [row for row, file in enumerate(files) if "\\" in file]
    if odd:
        example = repr(files[odd[0]])
        manifest.notes.append(f"{counted(len(odd), 'path')} with backslashes, read as folders, e.g. {example}")
    for row in odd:
        files[row] = files[row].replace("\\", "/")
