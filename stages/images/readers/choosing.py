"""Readers and layouts by name, and the config of `ingest`, which is made of what they declare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import create_model, field_validator, model_validator

from pipeline.inputs.walk import left_out
from pipeline.sentences import nearest
from pipeline.stage import SPLITS, StageConfig, row_setting
from stages import LAYOUTS, READERS
from stages.images import grouping
from stages.images.readers.contract import Layout, Reader

FILES = "folder"
"""Reader of locations that are plain paths."""


@cache
def readers() -> Mapping[str, Reader]:
    """All readers by the setting that names their source."""
    return {name: import_module(module).READER for name, module in READERS.items()}


@cache
def layouts() -> Mapping[str, Layout]:
    """All layouts by name, in the order in which `auto` tries them."""
    return {name: import_module(module).LAYOUT for name, module in LAYOUTS.items()}


def reader_of(name: str) -> Reader:
    """The reader of locations `name:...`; of plain paths, or of one that there is not, that of files."""
    return readers()[name if name in READERS else FILES]


def kind_of(place: Path) -> str | None:
    """Name of the reader of a folder, or of a file by its ending; None: no reader has files that end so.

    A folder in which there is an image is one of images, whatever lies beside it.
    """
    if not place.is_dir():
        return _by_ending(place.name)
    found: set[str | None] = set()
    for _, folders, names in os.walk(place):
        folders[:] = sorted(one for one in folders if not left_out(one))
        for name in names:
            kind = None if left_out(name) else _by_ending(name)
            if kind == FILES:
                return kind
            found.add(kind)
    return next((name for name, reader in readers().items() if name in found and reader.folders), FILES)


def _by_ending(name: str) -> str | None:
    return next((kind for kind, reader in readers().items() if name.lower().endswith(reader.suffixes)), None)


def chosen(config: Any) -> str:
    """Name of the reader whose source is given."""
    return next(name for name in READERS if getattr(config, name) is not None)


class LabelingConfig(StageConfig):
    """What classes, splits, groups and domains of rows are made of."""

    label: Literal["real", "fake"] = row_setting("real", description="class of all rows that the source gives none")
    label_by: Literal["none", "folder", "column"] = row_setting(
        "none",
        description="folder: by the name of a folder in the path, such as 0_real or nature; column: by what the source "
        "says of each row, which counts anyway where its words are known",
    )
    labels: dict[str, Literal["real", "fake"]] = row_setting(
        {}, description="further names of classes (folders, or values of a column) and what they are: {ours: fake}"
    )
    split_by: Literal["none", "folder"] = row_setting(
        "none", description="folder: by a folder in the path that is called train, val or test"
    )
    group_by: str = row_setting(
        "none",
        description="none: each image is its own group; folder: images of one folder; else a regular expression for "
        "the start of the file's stem, whose first group (or whole match) names the group",
    )
    domain_by: str = row_setting(
        "none",
        description="folder: the first folder of the path; else a column of the source, such as an attribute of CelebA",
    )
    layout: str = row_setting(
        "plain",
        description=f"how a published data set lies there: auto (the first that fits, which `plan` prints), plain "
        f"(nothing but `label`), or one of {', '.join(LAYOUTS)}",
    )
    splits: dict[str, float] | None = row_setting(
        None, description="fractions of groups for rows without a given split, in place of the pipeline's"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return {str(name): word for name, word in value.items()} if isinstance(value, dict) else value

    @field_validator("group_by")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        return grouping.check(value)

    @field_validator("layout")
    @classmethod
    def _is_layout(cls, value: str) -> str:
        if value not in (known := ("auto", "plain", *LAYOUTS)):
            raise ValueError(f"is {value!r}, expected one of {', '.join(known)}{nearest(value, known)}")
        return value

    @field_validator("splits")
    @classmethod
    def _is_whole(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        if not set(value) <= set(SPLITS) or min(value.values(), default=-1) < 0 or abs(sum(value.values()) - 1) > 1e-9:
            raise ValueError(f"are {value}, expected fractions of train, val and test that add up to 1")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> LabelingConfig:
        given = [name for name in READERS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of {', '.join(READERS)}; found {found}")
        reader, used = readers()[given[0]], self.model_fields_set
        values = {"label_by": "folder", "split_by": "folder", "domain_by": "folder"}
        asked = [name for name, value in values.items() if getattr(self, name) == value]
        asked += [name for name, value in (("group_by", "none"), ("layout", "plain")) if getattr(self, name) != value]
        if not reader.paths and asked:
            raise ValueError(f"{' and '.join(sorted(asked))} need file names, which {_a(given[0])} does not have")
        layout = layouts().get(self.layout)
        known = {*reader.settings, *(layout.settings if layout else ())}
        if self.layout == "auto":
            known |= {name for one in layouts().values() for name in one.settings}
        for name in sorted(used & _special() - known):
            raise ValueError(f"{name} has no effect on {given[0]}; remove it")
        if self.label_by != "none" and "label" in used:
            raise ValueError("label has no effect beside label_by; remove one of them")
        return self


def _a(name: str) -> str:
    return "a torchvision data set" if name == "torchvision" else f"a source of kind {name}"


def _special() -> set[str]:
    """Settings that only some readers or layouts have."""
    return set(_declared())


def _declared() -> dict[str, tuple[Any, Any]]:
    kinds: list[Reader | Layout] = [*readers().values(), *layouts().values()]
    return {name: declared for one in kinds for name, declared in one.settings.items()}


def ingest_config() -> type[StageConfig]:
    """The config of `ingest`: a source, and what some readers and layouts may be told besides."""
    fields: Any = {
        name: (reader.kind | None, row_setting(None, description=reader.description))
        for name, reader in readers().items()
    }
    fields |= _declared()
    return create_model(
        "IngestConfig",
        __base__=LabelingConfig,
        __module__="stages.ingest",
        __doc__="Everything here only chooses rows: none of it enters a recipe.",
        **fields,
    )
