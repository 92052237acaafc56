"""What configs claim is about nodes that they have, and published cells (configs/papers) bear it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.declaring.document import load
from pipeline.declaring.matrix import Instance, expand

CONFIGS = Path(__file__).parents[1] / "configs"


@cache
def nodes_of(name: str) -> dict[str, Instance]:
    document = load(CONFIGS / f"{name}.yaml")
    return expand(document.data["nodes"], document)


def claims_of(name: str) -> list[dict[str, Any]]:
    return [claim for one in nodes_of(name).values() if one.raw["stage"] == "claims" for claim in one.raw["claims"]]


def sides_of(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    for claim in claims_of(name):
        yield from ((claim["says"], side) for side in (claim["more"], claim["than"]) if isinstance(side, dict))


def fits(name: str, patterns: str) -> bool:
    return any(fnmatchcase(name, one.replace("[", "[[]")) for one in patterns.split("|"))


WITH_CLAIMS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if "stage: claims" in path.read_text("utf-8"))


@pytest.mark.parametrize("name", WITH_CLAIMS)
def test_claims_speak_of_detectors_and_variants_that_are_evaluated(name: str) -> None:
    nodes = nodes_of(name)
    variants: dict[str, set[str]] = {}
    for one in nodes.values():
        if one.raw["stage"] == "evaluate":
            test = one.raw["test"]
            plain = not isinstance(test, dict) or "of" in test
            variants.setdefault(one.raw["model"], set()).update({"raw"} if plain else test)
    for says, side in sides_of(name):
        for pattern in side.get("node", "*").split("|"):
            chosen = [model for model in variants if fits(model, pattern)]
            assert chosen, (says, pattern)
            for variant in side.get("variant", "raw").split("|"):
                assert any(fits(one, variant) for model in chosen for one in variants[model]), (says, variant)
        for pattern in side.get("source", "all").split("|"):
            assert pattern == "all" or any(fits(one, pattern) for one in nodes), (says, pattern)


SOURCES = {
    "he2021_table1": {"R": "finetuned[{}-R]", "A": "finetuned[{}-A]", "": "fakes[{}-raw]"},
    "he2021_table2": {"0.5": "stylegan2[{}]", "1.0": "stylegan2[{}]", "": "{}"},
    "he2021_table3": {"": "fakes[{}]"},
    "wang2020_augmentation": {"": "{}"},
}
"""Node that makes the fakes of a cell, by its variant or by whose fakes they are."""


def published(name: str) -> Iterator[tuple[str, str, str, float]]:
    """Node of the detector, variant, node of the fakes and value of each published cell."""
    for row, blocks in load(CONFIGS / "papers" / f"{name}.yaml").data["cells"].items():
        entry, _, words = row.rpartition(" ")
        for block, variants in blocks.items():
            trained, tested = block.split(" -> ")
            inside = words if trained == "fakes" else f"{trained}-{words}"
            for variant, value in variants.items():
                sources = SOURCES[name]
                source = sources.get(variant) or sources.get(tested) or sources[""]
                yield f"{entry or 'detectors'}[{inside}]", variant, source.format(tested), value / 100


@pytest.mark.parametrize("name", SOURCES)
def test_every_published_cell_has_nodes_that_make_it(name: str) -> None:
    nodes = nodes_of(name)
    evaluated = {one.raw["model"]: one.raw["test"] for one in nodes.values() if one.raw["stage"] == "evaluate"}
    cells = list(published(name))
    assert len({cell[:3] for cell in cells}) == len(cells)
    for node, variant, source, value in cells:
        assert variant in ({"raw"} if "of" in evaluated[node] else evaluated[node]), (node, variant)
        assert source in nodes
        assert 0 <= value <= 1


def mean_of(side: Mapping[str, str] | float, over: str, name: str) -> float | None:
    """Of published cells; None where one side has none."""
    if isinstance(side, float):
        return side
    found = [
        value
        for node, variant, source, value in published(name)
        if fits(node, side["node"]) and fits(variant, side.get("variant", "raw"))
        and (side.get("source", "all") == "all" or fits(source, side["source"]))
    ]  # fmt: skip
    return None if not found else min(found) if over == "minimum" else sum(found) / len(found)


def test_what_is_claimed_of_these_tables_holds_of_their_published_cells() -> None:
    untold = []
    for name in SOURCES:
        for claim in claims_of(name):
            more, than = (mean_of(claim[side], claim.get("over", "mean"), name) for side in ("more", "than"))
            if more is None or than is None:
                untold.append(claim["says"])
            else:
                assert more > than + claim.get("margin", 0), claim["says"]
    assert untold == ["StyleGAN is found without augmentation"]  # that cell is printed nowhere
