"""What twins say of single generators, from correlations by hand; what their claims name; what their clips show."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import seeds_page
from experiments.seeds_page import told
from experiments.twins import TWINS, by_quality, made_with
from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.declaring.document import load
from stages.claims import line


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [(-0.4, [-0.6, -0.1], "holds"), (-0.1, [-0.3, 0.1], "cannot tell"), (0.2, [0.0, 0.4], "does not hold"),
     (None, None, "cannot tell"), (-1.0, None, "cannot tell")],
)  # fmt: skip
def test_better_fakes_have_lower_scores_where_the_whole_interval_is_below_0(
    value: float | None, interval: list[float] | None, verdict: str
) -> None:
    one: dict[str, Any] = {"source": "fakes[a]", "spearman": value, "spearman_interval": interval}
    (claim,) = by_quality({"sources": [one], "model": {"node": "net"}, "variant": "raw"})
    assert (claim["verdict"], claim["value"]) == (verdict, value)
    assert line(claim).startswith(f"{verdict}: Of fakes[a] fakes that look better have lower scores")
    assert told(claim).startswith(f"Of fakes[a] fakes that look better have lower scores: **{verdict}**")


NAMES = sorted(path.stem for path in TWINS.glob("*.yaml") if "nodes:" in path.read_text(encoding="utf-8"))


def evaluated(pipeline: Pipeline) -> dict[str, set[str]]:
    """What a claim may name: models and variants of the evaluations, and nodes that rows may come from."""
    found: dict[str, set[str]] = {"node": set(), "variant": set(), "source": {"all", *pipeline.nodes}}
    for node in pipeline.nodes.values():
        if node.stage.name == "evaluate":
            found["node"] |= set(node.artifacts["model"])
            found["variant"] |= {name or "raw" for name in node.views["test"]}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_pattern_of_a_claim_fits_something_that_is_evaluated(name: str) -> None:
    known = evaluated(load_pipeline(TWINS / f"{name}.yaml"))
    claims = load(TWINS / f"{name}.yaml").data["nodes"].get("claims", {"claims": []})["claims"]
    assert claims or name == "wang2020_spectra"
    for side in (claim[side] for claim in claims for side in ("more", "than") if isinstance(claim[side], dict)):
        for part, patterns in side.items():
            for pattern in patterns.split("|"):
                literal = pattern.replace("[", "[[]")
                assert any(fnmatchcase(one, literal) for one in known[part]), f"{part} {pattern}"


@pytest.mark.parametrize("name", NAMES)
def test_photographs_beside_embedded_generators_are_of_what_these_make(name: str) -> None:
    """Else what a picture shows tells the classes apart."""
    embedded = "manifests/generators.yaml#" in (TWINS / f"{name}.yaml").read_text(encoding="utf-8")
    fitting = {"garments.yaml"} if embedded else {"photos.yaml", "half_a.yaml", "half_b.yaml"}
    nodes = load(TWINS / f"{name}.yaml").data["nodes"].values()
    found = {Path(node["manifest"]).name for node in nodes if node["stage"] == "ingest"}
    assert found <= fitting


@pytest.mark.parametrize(("side", "first", "last"), [(128, 36, 91), (64, 18, 45)])
def test_a_manipulated_photograph_differs_in_a_square_near_the_middle(
    side: int, first: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 pixels of 128, which begins at 44 - 8 at the least and at 44 + 8 at the most; and half of that."""
    monkeypatch.setattr(sys, "path", [str(TWINS), *sys.path])
    manipulated = import_module("manipulations").manipulated
    photo = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    assert (manipulated(photo, "none", np.random.default_rng(0)) == photo).all()
    for method in ("paste", "warp", "blur", "resynthesis"):
        found = []
        for seed in range(60):
            places = np.argwhere((manipulated(photo, method, np.random.default_rng(seed)) != photo).any(axis=-1))
            assert (np.ptp(places, axis=0) < side * 40 // 128).all()
            found += [places.min(), places.max()]
        assert (min(found), max(found)) == (first, last), method


def test_a_result_with_other_generators_is_marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the page of the sources, until the twin has been run again; one without generators of ours never is."""
    twins = {name: {"seconds": 1, "claims": [], "generators": made_with(TWINS / f"{name}.yaml")} for name in NAMES}
    assert {bool(one["generators"]) for one in twins.values()} == {True, False}
    (tmp_path / "against_detectors.json").write_text('{"claims": []}')
    monkeypatch.setattr(seeds_page, "RESULTS", tmp_path)
    (tmp_path / "twins.json").write_text(json.dumps(twins))
    assert "†" not in seeds_page.page()
    twins["he2021_table1"]["generators"] = "0" * 16
    (tmp_path / "twins.json").write_text(json.dumps(twins))
    text = seeds_page.page()
    assert "than those in `manifests/generators.yaml` today: he2021_table1.\n" in text
    lines = [one for one in text.splitlines() if one.startswith("|") and "†" in one]
    assert lines
    assert all("he2021_table1" in one for one in lines)
