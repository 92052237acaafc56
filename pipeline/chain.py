"""The steps in a model's card as a function of images in memory: files or arrays in, features out, without a store.

`train` writes into its card what happened to an image between its origin and the feature that was learned from
(`pipeline.lineage`), and keeps the files that this takes beside the card. `chain_function` does the same to other
images, by the same code in the same blocks (`running.compute`), so that a stored row and its file give the same bytes.

A card is data: a stage is one of Touchstone's own, or one that the caller hands over; a file is opened where its
content is what the card says, in the model's folder or in those that the caller names, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.errors import OldFormatError, StageError
from pipeline.lineage import KeptChain
from pipeline.running.compute import Arrays, Rows, Step, Values, compute
from pipeline.running.kept_files import KeptFiles
from pipeline.running.kept_steps import Ready, read_chains, ready, unlike_versions
from pipeline.stage import CONTENT, ID, PICTURE, Field, Kind, Schema, Stage
from pipeline.steps import JOIN
from pipeline.storage.artifacts import CARD, verify_files
from pipeline.storage.sealed import CARD_BYTES, read_sealed

FIELD = "image"
"""Field that an array stands for."""

BLOCK_ROWS, FILE_BYTES, VALUE_BYTES = 256, 2**26, 2**28
"""At once, about: rows, bytes of files, and bytes of the values of all steps."""

Image = bytes | Path | NDArray[np.uint8]
"""A file's bytes or place, or pixels (H, W, 3) uint8 RGB."""

FILES: Schema = {CONTENT: Field("V0")}


@dataclass(frozen=True)
class Made:
    """Rows in memory. rows: (k,) their positions among those that were asked for, ascending."""

    rows: NDArray[np.int64]
    ids: NDArray[np.void]
    arrays: Arrays
    schema: Schema
    files: Sequence[bytes] | None = None


def follow(
    step: Step, parents: Sequence[Made], failures: dict[int, str], index: NDArray[np.int64] | None = None
) -> Made:
    """Rows of a step from those of its parents; positions that fail go to `failures` with their reasons.

    index: (k,) draw numbers of an expand; 0 if left out.
    """
    rows = reduce(np.intersect1d, [parent.rows for parent in parents])
    places = [np.searchsorted(parent.rows, rows) for parent in parents]
    above = tuple(parent.ids[place] for parent, place in zip(parents, places, strict=True))
    own = above[0]
    if step.stage.kind is Kind.EXPAND:
        index = np.zeros(len(rows), dtype=np.int64) if index is None else index
        own = ids.expanded(above, index)

    def inputs(chosen: NDArray[np.int64]) -> tuple[Arrays, ...]:
        return tuple(
            {name: array[place[chosen]] for name, array in parent.arrays.items()}
            for parent, place in zip(parents, places, strict=True)
        )

    files, first = parents[0].files, places[0]
    reader = None if files is None else lambda row: files[int(first[row])]
    values = compute(step, Rows(own, above, tuple(one.schema for one in parents), inputs, index, reader=reader))
    failures |= {int(rows[row]): reason for row, reason in values.failures.items()}
    return Made(rows[values.done], own[values.done], values.arrays, step.schema)


@dataclass(frozen=True)
class Found(Values):
    """What a chain gives for images. ids: (k,) V16, of the rows that succeeded."""

    ids: NDArray[np.void]


@dataclass(frozen=True)
class Chain:
    """A function of images.

    kept      the chain as the card has it
    reads     whether files go in; else images have to be decoded before
    warnings  a sentence for each library, device or piece of code that is not what it was when the rows were computed
    """

    kept: KeptChain
    reads: bool
    warnings: tuple[str, ...]
    steps: tuple[Ready, ...] = field(repr=False)
    files: KeptFiles = field(repr=False)  # keeps the files in their places as long as the chain lives

    def __call__(self, images: Sequence[Image], row_ids: NDArray[np.void] | None = None) -> Found:
        """Fields of the last step for each image that succeeds, and the reasons of the others.

        row_ids: (n,) V16, which steps that draw at random draw by; if left out digests of what is given, which are the
        ids of rows that were read from files. Raises StageError where images of several sizes give several shapes.
        """
        failures: dict[int, str] = {}
        parts: list[Made] = []
        for schema, positions in _alike(images, failures):
            try:
                steps = self._steps(schema)
            except ValueError as error:
                failures |= dict.fromkeys(positions, str(error))
                continue
            for block in _blocks(images, positions, _rows_at_once(steps), failures):
                parts.append(self._follow(steps, _origin(images, block, schema, row_ids), failures))
        schemas = {tuple(sorted(part.schema.items())) for part in parts}
        if len(schemas) > 1:
            raise StageError("the images are of several sizes and give features of several shapes; give those of one")
        if not parts:
            return Found(np.empty(0, np.int64), {}, failures, np.empty(0, ID))
        failures = dict(sorted(failures.items()))
        if len(parts) == 1:  # ascending
            return Found(parts[0].rows, parts[0].arrays, failures, parts[0].ids)
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)
        arrays = {name: np.concatenate([part.arrays[name] for part in parts])[order] for name in parts[0].schema}
        own = np.concatenate([part.ids for part in parts])[order]
        return Found(rows[order], arrays, failures, own)

    def at_picture(self) -> tuple[Chain, Chain] | None:
        """This chain in two: to the last picture (`FIELD`) that all later steps come from, and from there on.

        None where no step gives one, and files become features at once.
        """
        last = next((number for number in reversed(range(len(self.steps))) if self._only_picture(number)), -1)
        if last < 0 and self.reads:
            return None
        return self._part(slice(0, last + 1), self.reads), self._part(slice(last + 1, None), False)

    def _only_picture(self, number: int) -> bool:
        """Whether a step gives pictures, and all later ones are made of them. A join only passes them on."""
        found = self.steps[number].kept.fields.get(FIELD, [])
        pixels = len(found) > 1 and found[0] == "uint8" and isinstance(found[1], list) and found[1][2:] == [3]
        makes = pixels and self.steps[number].kept.stage != JOIN
        return makes and all(above >= number for later in self.steps[number + 1 :] for above in later.kept.of)

    def _part(self, steps: slice, reads: bool) -> Chain:
        """Some steps as a chain; those before them are its origin."""
        start = steps.start
        kept = [replace(one, kept=one.kept.read_from(start)) for one in self.steps[steps]]
        chain = self.kept.model_copy(update={"steps": [one.kept for one in kept]})
        return replace(self, kept=chain, reads=reads, steps=tuple(kept))

    def _steps(self, schema: Schema) -> list[Step]:
        """The steps for images of this schema. Raises ValueError where one cannot do with what it would get."""
        if not self.steps and CONTENT in schema:
            raise ValueError("is a file, but the detector was trained on pixels as they are; decode it before")
        done: list[Step] = []
        for one in self.steps:
            above = [done[number].schema if number >= 0 else schema for number in one.kept.of]
            done.append(one.step(above))
        lacking = [name for name in self.steps[-1].kept.fields if name not in done[-1].schema] if done else []
        if lacking:
            raise ValueError(f"the card says that {done[-1].node} gives '{lacking[0]}', which it does not; train again")
        return done

    def _follow(self, steps: list[Step], origin: Made, failures: dict[int, str]) -> Made:
        done: list[Made] = []
        for step, one in zip(steps, self.steps, strict=True):
            parents = [done[number] if number >= 0 else origin for number in one.kept.of]
            done.append(follow(step, parents, failures))
        return done[-1] if done else origin


def chain_function(
    card: Path | Mapping[str, object],
    chain: int | None = None,
    device: str | None = None,
    weights: Sequence[Path] = (),
    manifests: Sequence[Path] | None = None,
    stages: Mapping[str, Stage] | None = None,
) -> Chain:
    """The function of images that leads to the feature of a detector.

    card       folder of a model, or what its card.json says
    chain      number of the chain in the card; the plain one if left out
    device     where networks run; where the card says that they ran, if left out
    weights    folders with files that are too large to lie beside the card
    manifests  YAML files whose entries name files and digests; those that come with the project, if left out
    stages     stages of a user's own by name, which no card may load

    Raises StageError for a card that has no such chain, is damaged or asks for what is not there.
    """
    folder = card if isinstance(card, Path) else None
    data, chains = read_chains(card)
    number = chains.plain if chain is None else chain
    if number is None:
        raise StageError(f"the model has no one way from an image to its feature: {chains.why_not}")
    if not 0 <= number < len(chains.chains):
        raise StageError(f"chain {number} is asked for, the card has {len(chains.chains)}, counted from 0")
    kept = chains.chains[number]
    if kept.images > 1:
        raise StageError(f"the model's rows are made of {kept.images} images each; one image has no feature")
    files = KeptFiles(folder, weights, manifests)
    warnings = unlike_versions("the detector", data.get("environment"))
    steps = []
    for step in kept.steps:
        one, found = ready(step, files, device, stages or {})
        steps.append(one)
        warnings += found
    reads = bool(steps) and any(origin.content for origin in kept.origins)
    return Chain(kept, reads, tuple(dict.fromkeys(warnings)), tuple(steps), files)


def check_files(folder: Path) -> None:
    """Raises StageError where a file of a model is not the one that its `artifact.json`, if there is one, names."""
    if not (folder / CARD).is_file():
        return
    try:
        card = read_sealed(folder / CARD, CARD_BYTES, ("files",))
    except OldFormatError:
        return
    except (OSError, ValueError) as error:
        raise StageError(f"{folder / CARD} cannot be read: {error}; copy the model again") from None
    kept = {name: about for name, about in card["files"].items() if (folder / name).is_file()}
    if wrong := verify_files(folder, {"files": kept}):
        raise StageError(f"{wrong[0]}; copy the model again, or let `touchstone run` make it again")


def _rows_at_once(steps: Sequence[Step]) -> int:
    """Whole micro-batches, and not more than memory bears."""
    weight = sum(one.row_bytes for step in steps for one in step.schema.values())
    least = max((step.stage.least_rows(step.config) for step in steps), default=1)
    return max(min(BLOCK_ROWS, VALUE_BYTES // max(weight, 1)) // least, 1) * least


def _alike(images: Sequence[Image], failures: dict[int, str]) -> Iterator[tuple[Schema, list[int]]]:
    """Positions of the files, and of the arrays of each shape; those that are neither fail."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, image in enumerate(images):
        if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
            failures[position] = f"is {image.dtype} {image.shape}, expected (H, W, 3) uint8"
        else:
            shape = image.shape if isinstance(image, np.ndarray) else ()
            groups.setdefault(shape, []).append(position)
    for shape, positions in groups.items():
        yield ({FIELD: Field("uint8", shape, "RGB, 0 to 255", PICTURE)} if shape else FILES), positions


_Block = dict[int, bytes | NDArray[np.uint8]]
"""Position -> bytes of the file, or the pixels."""


def _blocks(images: Sequence[Image], positions: Sequence[int], most: int, failures: dict[int, str]) -> Iterator[_Block]:
    """Images, few enough for memory, files as their bytes; files that cannot be read fail."""
    block: _Block = {}
    size = 0
    for position in positions:
        image = images[position]
        content: bytes | NDArray[np.uint8]
        if isinstance(image, Path):
            try:
                content = image.read_bytes()
            except OSError as error:
                failures[position] = f"{image} cannot be read: {error.strerror or error}"
                continue
        else:
            content = image
        length = len(content) if isinstance(content, bytes) else content.nbytes
        if block and (len(block) == most or size + length > FILE_BYTES):
            yield block
            block, size = {}, 0
        block[position] = content
        size += length
    if block:
        yield block


def _origin(images: Sequence[Image], block: _Block, schema: Schema, row_ids: NDArray[np.void] | None) -> Made:
    rows = np.array(list(block), dtype=np.int64)
    if row_ids is None:
        own = ids.from_bytes([_digest(one) for one in block.values()])
    else:
        own = np.asarray(row_ids, dtype=ID)[rows]
    if CONTENT in schema:
        return Made(rows, own, {}, schema, list(block.values()))  # type: ignore[arg-type]
    return Made(rows, own, {FIELD: np.stack(list(block.values()))}, schema)  # type: ignore[arg-type]


def _digest(image: bytes | NDArray[np.uint8]) -> bytes:
    """Of a file, or of pixels row by row; 16 bytes."""
    data = image if isinstance(image, bytes) else np.ascontiguousarray(image).data
    return hashlib.sha256(data).digest()[:16]
