"""Fakes of generators that miss a gate: what a manifest says of the checkpoint that they were made with.

An entry may have `misses`, a list of sentences: a number that tells its images from photographs, with its value and the
bounds. A detector of such fakes may have learned that number. Rows are led to entries by the SHA-256 of the checkpoint
among the steps of their chain, so that older evaluations are marked as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.sentences import describe
from pipeline.yaml_text import SETTINGS, compose, read_text
from stages.reporting.section import Results

MARK = "†"
KEY, DIGEST = "misses", "sha256"

Misses = Mapping[str, Sequence[str]]
"""Source of fakes, or digest of a checkpoint -> a sentence for each gate that is missed."""


def of_manifest(manifest: Path) -> dict[str, tuple[str, ...]]:
    """SHA-256 of the checkpoint -> sentences, of the entries that have some. Raises ConfigError."""
    import yaml

    root = compose(read_text(manifest, SETTINGS), manifest.name, SETTINGS)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{manifest.name}:1 is no mapping of names to checkpoints")
    found: dict[str, tuple[str, ...]] = {}
    for name, facts in yaml.constructor.SafeConstructor().construct_document(root).items():
        if isinstance(facts, Mapping):
            found |= of_entry(f"{manifest.name}: {name}", facts)
    return found


def of_entry(where: str, facts: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The same of one entry. Raises ConfigError."""
    sentences = facts.get(KEY, [])
    if not isinstance(sentences, list) or not all(isinstance(one, str) for one in sentences):
        raise ConfigError(f"{where}: {KEY} is {describe(sentences)}; expected a list of sentences")
    return {str(facts.get(DIGEST)): tuple(sentences)} if sentences else {}


def of_sources(evaluations: Sequence[Results], by_checkpoint: Misses) -> dict[str, tuple[str, ...]]:
    """Source of fakes -> sentences about the checkpoints that they were made with, by source."""
    found: dict[str, tuple[str, ...]] = {}
    for results in evaluations:
        for facts in results["variants"].values():
            for part in facts["parts"]:
                steps = results["steps"][part["chain"]]
                files = [str(file) for step in steps for file in (step.get("files") or {}).values()]
                sentences = tuple(one for file in files for one in by_checkpoint.get(file, ()))
                if part["fake"] and sentences:
                    found |= dict.fromkeys(part["sources"], sentences)
    return dict(sorted(found.items()))


def lines(misses: Misses) -> list[str]:
    """A sentence for each source and gate."""
    return [f"{source}: {sentence}." for source, sentences in misses.items() for sentence in sentences]
