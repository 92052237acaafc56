"""Stage `features`: numbers that somebody else computed of the images, such as those of CLIP, become a field of rows.

The file is an .npz archive of arrays of one length. One of them says whose numbers an entry holds: `id` (of the row, or
SHA-256 of its file, as hexadecimal digits) or `name` (its path, relative to the archive or to `folder`; the files are
read once, for their digests). All others, or those that `fields` names, are fields. Nothing in the archive is run.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import NamedFiles, kept_while_same, known_sha256
from pipeline.sentences import closest, counted
from pipeline.stage import Batch, Context, Field, Input, Kind, Schema, Stage, StageConfig, file_setting, setting

NAME, ID = "name", "id"
WHOSE = (ID, NAME)
HEXADECIMAL = frozenset("0123456789abcdef")


class FeaturesConfig(StageConfig):
    """Which archive, and what of it."""

    file: str = file_setting(description="an .npz archive with `id` or `name` and one array for each field")
    folder: str = setting(".", description="where paths of `name` begin, relative to the archive")
    fields: list[str] | None = setting(None, description="arrays that become fields; none: all of them")


class Features(Stage):
    """Joins an archive of given features to rows, by id or by file name."""

    name: ClassVar[str] = "features"
    kind: ClassVar[Kind] = Kind.MAP
    Config: ClassVar[type[StageConfig]] = FeaturesConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="rows of the files, as `ingest` gives them, or of what was made of each")
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)

    def schema(self, config: FeaturesConfig, inputs: Mapping[str, Any]) -> Schema:
        """One field for each array. Raises ValueError where the archive cannot be what is wanted."""
        path = Path(inputs["file"])
        found = headers(path)
        return {name: Field(str(found[name][1]), found[name][0][1:]) for name in _fields(config, path, found)}

    def check(self, config: FeaturesConfig, files: Mapping[str, Any]) -> None:
        """The archive is one, and no entry stands twice in it."""
        path = Path(files["file"])
        _fields(config, path, headers(path))
        names_of(path)

    def named_files(self, config: FeaturesConfig, files: Mapping[str, Any]) -> NamedFiles | None:
        """The files that an archive of names names: which entry is whose depends on what they hold."""
        path = Path(files["file"])
        whose, texts = names_of(path)
        return NamedFiles(path.parent / config.folder, texts) if whose == NAME else None

    def compute(self, config: FeaturesConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        """The entries of the batch's rows; a row without one fails."""
        path = Path(ctx.files["file"])
        places = places_of(path, config.folder)
        chosen = np.zeros(len(batch), dtype=np.int64)
        for row, one in enumerate(batch.ids.tolist()):
            if bytes(one) not in places:
                ctx.fail(row, f"{path.name} has no entry for it; add one, or take these rows out")
            chosen[row] = places.get(bytes(one), 0)
        result = {}
        for name in _fields(config, path, headers(path)):
            values = array_of(path, name)[chosen]
            result[name] = values
            if values.dtype.kind == "f":
                bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
                for row in np.flatnonzero(bad).tolist():
                    if row not in ctx.failures:
                        ctx.fail(row, f"'{name}' of {path.name} has values that are no finite numbers")
        return result


@kept_while_same(64)
def headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of each array of an archive, without reading values. Raises ValueError with one sentence."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    read = {
                        (1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0,
                    }[version]
                    shape, _, dtype = read(file)
                found[member.filename.removesuffix(".npy")] = (shape, dtype)
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, RuntimeError, tokenize.TokenError
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is no .npz archive of numpy: {str(error) or type(error).__name__}") from None
    except ValueError as error:
        raise ValueError(f"{path} holds other things than arrays of numpy: {error}") from None
    return found


def _fields(config: FeaturesConfig, path: Path, found: Mapping[str, Any]) -> list[str]:
    """Names of the arrays that become fields. Raises ValueError with one sentence."""
    whose = [name for name in WHOSE if name in found]
    if len(whose) != 1:
        raise ValueError(f"{path} has {' and '.join(whose) or 'neither'} of 'id' and 'name'; expected one of them")
    names = config.fields if config.fields is not None else [name for name in found if name not in WHOSE]
    if not names:
        raise ValueError(f"{path} has no array but '{whose[0]}'; add one for each field")
    entries = found[whose[0]][0]
    if len(entries) != 1 or found[whose[0]][1].kind not in "US":
        shape, dtype = found[whose[0]]
        raise ValueError(f"'{whose[0]}' of {path} is {shape} of {dtype}, expected a list of texts")
    for name in names:
        if name not in found or name in WHOSE:
            others = [one for one in found if one not in WHOSE]
            raise ValueError(f"{path} has no array '{name}', it has {', '.join(others)}{closest(name, others)}")
        shape, dtype = found[name]
        if dtype.kind not in "fiu" or dtype.hasobject:
            raise ValueError(f"'{name}' of {path} is of {dtype}, expected numbers")
        if shape[:1] != entries:
            raise ValueError(
                f"'{name}' of {path} is {shape}, expected {counted(entries[0], 'row')} as '{whose[0]}' has"
            )
    return list(names)


@kept_while_same(8)
def array_of(path: Path, name: str) -> NDArray[Any]:
    """One array; pickles are never read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, RuntimeError, tokenize.TokenError
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: '{name}' cannot be read: {error}") from None


@kept_while_same(8)
def names_of(path: Path) -> tuple[str, list[str]]:
    """ "id" or "name", and the texts. Raises ValueError where one stands twice."""
    whose = next(name for name in WHOSE if name in headers(path))
    texts = [
        one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in array_of(path, whose).tolist()
    ]
    first: dict[str, int] = {}
    for number, text in enumerate(texts):
        if first.setdefault(text, number) != number:
            raise ValueError(f"{path} has '{text}' twice in '{whose}', entries {first[text]} and {number}; keep one")
    return whose, texts


def places_of(path: Path, folder: str) -> dict[bytes, int]:
    """Id of a row -> number of its entry. Raises ValueError with one sentence."""
    whose, texts = names_of(path)
    ids = ids_of_files(path.parent / folder, texts) if whose == NAME else _of_texts(path, texts)
    found: dict[bytes, int] = {}
    for number, one in enumerate(ids):
        if found.setdefault(one, number) != number:
            raise ValueError(
                f"{path} has two entries for one picture, '{texts[found[one]]}' and '{texts[number]}'; keep one"
            )
    return found


def _of_texts(path: Path, texts: Sequence[str]) -> list[bytes]:
    for number, text in enumerate(texts):
        if len(text) not in (32, 64) or not set(text.lower()) <= HEXADECIMAL:
            raise ValueError(
                f"{path}: 'id' {number} is '{text[:80]}', expected an id of 32 hexadecimal digits or a SHA-256 of 64"
            )
    return [bytes.fromhex(text)[:16] for text in texts]


def ids_of_files(folder: Path, texts: Sequence[str]) -> list[bytes]:
    """Ids of named files, from their content."""
    return [bytes.fromhex(known_sha256(folder / text))[:16] for text in texts]
