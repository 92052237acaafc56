"""How rows came to be, from their origin on, as plain data that a model's card can hold, and where the files lie.

The origin of a row is the source node that it was read or made by, or a stage that gave it values or a label of its
own (`Stage.origin`, `Stage.children`): what came before is another image's story. Everything after it happens to one
image, and can be done again with another one (`pipeline.chain`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.errors import StageError

FOLDER = "files"
"""In a model's folder: files that its steps need, each named by its SHA-256."""

LARGEST = 32 * 2**20
"""Bytes; a smaller file is copied into the model's folder."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Kept(BaseModel):
    """Part of a card: entries that this version does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)


class KeptFile(Kept):
    """A file by its content. size: bytes."""

    sha256: Digest
    size: int = Field(ge=0)


class KeptArtifact(Kept):
    """The artifact of a fit: its files by their names in its folder, and what its stage promised of it."""

    stage: str
    key: Key
    files: dict[str, KeptFile]
    promise: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, KeptFile]) -> dict[str, KeptFile]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
                raise ValueError(f"expected names of files inside a folder, found {name!r}")
        return files


class KeptOrigin(Kept):
    """Where the rows begin. content: a file lies behind each of them; licence: as stated, "": none is."""

    stage: str
    content: bool
    licence: str = ""


class KeptStep(Kept):
    """One stage after the origin.

    module       where the stage is found
    of           what it reads, by position: 0, 1, ... are steps before it; -1, -2, ... are origins
    multiplies   several rows come out of one; here the first
    variant      it makes a variant on purpose (`Stage.makes_variant`)
    recipe       digest of all that its values depend on
    config       settings that decide values
    fields       of a row that comes out: dtype, shape, units, axes
    code         module -> digest of its source
    environment  versions of libraries, device, threads
    """

    stage: str
    module: str
    of: list[int]
    multiplies: bool
    variant: bool
    recipe: Key
    seed: int = 0
    config: dict[str, Any]
    fields: dict[str, list[Any]]
    files: dict[str, KeptFile]
    artifacts: dict[str, list[KeptArtifact]]
    code: dict[str, str]
    environment: dict[str, str]

    def read_from(self, start: int) -> KeptStep:
        """The same where steps are counted from `start`, and what comes before is the origin."""
        return self.model_copy(update={"of": [number - start if number >= 0 else number for number in self.of]})

    @property
    def kept_files(self) -> Iterator[tuple[str, KeptFile]]:
        """Setting (or input and name in its folder) of each file, and the file."""
        yield from self.files.items()
        for name, artifacts in self.artifacts.items():
            for artifact in artifacts:
                yield from ((f"{name}/{file}", kept) for file, kept in artifact.files.items())


@dataclass(frozen=True)
class Lineage:
    """Origins of one row, the steps after them in an order of doing, and SHA-256 of each file -> where it lies."""

    origins: tuple[KeptOrigin, ...]
    steps: tuple[KeptStep, ...]
    places: Mapping[str, Path]


class KeptChain(Kept):
    """Steps that some of the rows have come by.

    origins  all origins of these rows
    images   origins that one row has: 1, or more where rows are joined
    plain    no step makes a variant, or several rows of one
    rows     split -> class -> number of rows
    """

    origins: list[KeptOrigin]
    images: int = Field(ge=1)
    steps: list[KeptStep]
    plain: bool
    rows: dict[str, dict[str, int]]

    @model_validator(mode="after")
    def _in_order(self) -> KeptChain:
        for number, step in enumerate(self.steps):
            if not step.of or any(not -self.images <= one < number for one in step.of):
                raise ValueError(f"step {number} reads {step.of}; expected earlier steps, or -1 to -{self.images}")
        return self

    def __str__(self) -> str:
        return " > ".join(step.stage for step in self.steps) or "no step"


class KeptChains(Kept):
    """All chains of a card. plain: that of all plain rows; where they have no common one, `why_not` says it."""

    chains: list[KeptChain]
    plain: Annotated[int, Field(ge=0)] | None = None
    why_not: str = ""

    @model_validator(mode="after")
    def _there(self) -> KeptChains:
        if self.plain is not None and self.plain >= len(self.chains):
            raise ValueError(f"the plain chain is number {self.plain} of {len(self.chains)}")
        return self


def keep(folder: Path, files: Mapping[KeptFile, Path]) -> None:
    """Copy small files into a model's folder. Raises StageError for one that is not what it was."""
    for kept, place in files.items():
        if kept.size >= LARGEST:
            continue
        content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() != kept.sha256:
            raise StageError(f"{place} was changed while the run went on; run again to plan with the new one")
        (folder / FOLDER).mkdir(exist_ok=True)
        (folder / FOLDER / kept.sha256).write_bytes(content)
