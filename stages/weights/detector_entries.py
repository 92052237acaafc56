"""Entries of a manifest of published detectors: where a file comes from, which network it holds, and how it is used.

What is not said of network, preprocessing and decision is as `detectors.published` has it. Facts that authors do not
publish are entered as "not recorded"; who wants to use the file makes an entry of their own with what they choose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detectors.choosing import detector_config
from detectors.published import PUBLISHED
from detectors.published_family import Config, Moments
from pipeline.errors import ConfigError
from pipeline.sentences import describe, nearest
from pipeline.yaml_text import SETTINGS, compose, read_text
from stages.sentences import expected

NOT_RECORDED = "not recorded"
HEXADECIMAL = r"^[0-9a-f]+$"
OF_THE_CONFIG = ("micro_batch", "learned_from", "paper", "repository", "licence", "traps")


class Published(BaseModel):
    """Numbers of a publication."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: str = Field(description="paper, table or page")
    metric: str = Field(description="what the numbers are")
    values: dict[str, float | list[float]] = Field(description="test set -> number, or numbers as `metric` lists them")


class Entry(BaseModel):
    """One published file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    network: str = Field(description="name in `detectors.published`")
    paper: str = Field(description="authors and year")
    repository: str = Field(description="owner/name of its authors' code, and commit")
    licence: str = Field(description="of code and weights")
    released_as: str = Field(description="name of the file where its authors published it")
    page: str = Field(description="where that is")
    learned_from: tuple[str, ...] = Field((), description="sources of the fakes that it learned from")
    keys: str = Field("", description="where the tensors lie in the file")
    feature: str = Field("image", description="field of the rows that it reads")
    preprocessing: dict[str, Any] | None = Field(None, description="settings that differ from the network's own")
    arguments: dict[str, str] = Field({}, description="of the network, where the file does not tell them")
    moments: Moments | None = Field(None, description="files beside the weights that standardize a cosine spectrum")
    decision: str | None = Field(None, description="how the output is read, where it differs")
    micro_batch: int = Field(8, ge=1, description="rows per forward pass")
    published: tuple[Published, ...] = Field((), description="numbers of its authors")
    traps: tuple[str, ...] = Field((), description="what changes its scores, or what its authors do not say")
    file: str | None = Field(None, description="its place, relative to the manifest")
    url: str | None = Field(None, description="for --download")
    size: int | None = Field(None, ge=1, description="bytes")
    sha256: str | None = Field(None, pattern=HEXADECIMAL, min_length=64, max_length=64)
    sha256_prefix: str | None = Field(None, pattern=HEXADECIMAL, min_length=8, max_length=64)
    container: Literal["torch", "keras"] = Field("torch", description="torch file, or HDF5 or npz of Keras")

    def config(self, name: str) -> Config:
        """All that a recipe has of it; name: in the manifest. Raises ValueError with one sentence."""
        known = PUBLISHED.get(self.network)
        if known is None:
            raise ValueError(f"'network' is {self.network}; {expected(self.network, PUBLISHED)}")
        arguments: dict[str, Any] = {**known.arguments, **self.arguments}
        for argument, value in self.arguments.items():
            if value == NOT_RECORDED:
                raise ValueError(
                    f"its authors do not say '{argument}'; copy the entry into a manifest of yours and choose one of "
                    f"{', '.join(known.options.get(argument, ()))}"
                )
        preprocessing: Any = None
        if known.preprocessing is not None:
            plain = asdict(known.preprocessing)
            preprocessing = {**plain, **(self.preprocessing or {})}
        elif self.preprocessing:
            raise ValueError(f"'preprocessing' has no effect on {self.network}, which reads no pictures; remove it")
        config = detector_config({
            "family": "published",
            "name": name,
            "feature": self.feature,
            "network": self.network,
            "architecture": known.network,
            "arguments": arguments,
            "preprocessing": preprocessing,
            "moments": self.moments and {name: one.model_dump() for name, one in self.moments.items()},
            "decision": self.decision or known.decision,
            **{fact: getattr(self, fact) for fact in OF_THE_CONFIG},
        })  # fmt: skip
        assert isinstance(config, Config)
        return config


def entry_of(facts: Any) -> Entry:
    """A checked entry. Raises ValueError with one sentence."""
    if not isinstance(facts, Mapping):
        raise ValueError(f"is {describe(facts)}; expected the facts of a published detector")
    try:
        return Entry.model_validate_json(json.dumps(facts))
    except ValidationError as failure:
        problems = failure.errors()
        unknown = [one for one in problems if one["type"] == "extra_forbidden"]
        problem = (unknown or problems)[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        raise ValueError(f"'{name}' is no fact of a published detector{nearest(name, Entry.model_fields)}")
    if problem["type"] == "missing":
        raise ValueError(f"lacks '{name}' ({Entry.model_fields[name].description or name})")
    raise ValueError(
        f"'{name}' is {describe(problem['input'])}; {problem['msg'].replace('Input should be', 'expected')}"
    )


def read_entries(manifest: Path) -> dict[str, Entry]:
    """All entries of a manifest. Raises ConfigError with the line that is wrong."""
    if not manifest.is_file():
        raise ConfigError(f"{manifest} is not a file; give the path of a manifest of detectors")
    import yaml

    root = compose(read_text(manifest, SETTINGS), manifest.name, SETTINGS)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{manifest.name}:1 is no mapping of names to published detectors")
    lines = {key.value: key.start_mark.line + 1 for key, _ in root.value}
    found, name = {}, ""
    try:
        for name, facts in yaml.constructor.SafeConstructor().construct_document(root).items():
            found[str(name)] = entry_of(facts)
    except yaml.YAMLError as error:
        raise ConfigError(f"{manifest.name} cannot be read: {str(error).splitlines()[0]}") from None
    except ValueError as error:
        raise ConfigError(f"{manifest.name}:{lines.get(str(name), 1)} {name} {error}") from None
    return found
