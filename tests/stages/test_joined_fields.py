"""A fusion whose members read fields of several nodes: rows are joined by id and source, and nothing is copied."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import give_other_values
from numpy.typing import NDArray
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.planning.descent import review
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import ArtifactPlan, Plan
from pipeline.planning.sides import stored
from pipeline.running.run import open_scan
from pipeline.stage import SPLITS
from pipeline.steps import unlike
from stages.evaluation.detector_file import load_detector
from stages.predict import load

PIPELINE = """
nodes:
  reals: {stage: "toy_photos:LargePhotos", count: 24, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 24, first: 300, label: 1, splits: [train, val, test]}
  images: {stage: equalize, of: [reals, fakes], size: 16}
  radial: {stage: spectrum, of: images, features: [profile, dct2d]}
  lines: {stage: spectrum, of: images, features: [projections]}
  by_profile: {stage: train, on: radial, detector: profile-svm}
  by_lines: {stage: train, on: lines, detector: row-profile-logistic}
  by_pixels: {stage: train, on: images, detector: {preset: eigenfaces, components: 4, C: 1.0}}
  fused:
    stage: train
    on: [images, lines, radial]
    members: [by_profile, by_lines, by_pixels]
    detector: {family: fusion, mean: logit}
  table: {stage: evaluate, model: fused, test: [radial, images, lines]}
  larger: {stage: equalize, of: [reals, fakes], size: 32}
  by_larger: {stage: train, on: larger, detector: {preset: eigenfaces, components: 4, C: 1.0}}
  of_two_sizes: {stage: train, on: [larger, radial], members: [by_larger, by_profile], detector: fusion}
  looked: {stage: bias, model: fused, on: images, count: 2}
"""

MORE = """
  turned: {stage: "toy_photos:Invert", of: images}
  radial_of_others: {stage: spectrum, of: turned, features: [profile, dct2d]}
  blurs: {stage: perturb, of: images, protocol: custom, operations: [{op: blur}]}
  noises: {stage: perturb, of: images, protocol: custom, operations: [{op: noise}]}
  radial_of_blurs: {stage: spectrum, of: blurs, features: [profile, dct2d]}
  radial_of_noises: {stage: spectrum, of: noises, features: [profile, dct2d]}
  lines_of_blurs: {stage: spectrum, of: blurs, features: [projections]}
  lines_of_noises: {stage: spectrum, of: noises, features: [projections]}
"""

BLURRED = """  lines_turned: {stage: spectrum, of: turned, features: [projections]}
  blurs_turned: {stage: perturb, of: turned, protocol: custom, operations: [{op: blur}]}
  again: {stage: spectrum, of: blurs_turned, features: [projections]}
"""

TWINS = """twins:
    {stage: "toy_photos:LargePhotos", count: 24, first: 300, label: 1, splits: [train, val, test]}
  images: {stage: equalize, of: [reals, fakes, twins]"""

MEMBERS = {"by_profile": "radial", "by_lines": "lines", "by_pixels": "images"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = Project(tmp_path_factory.mktemp("joined"), patch, PIPELINE)
        made.run()
        yield made


@pytest.fixture
def project(done: Project) -> Iterator[Project]:
    """The finished project, whose file a test may change."""
    yield done
    done.write(PIPELINE)


def found(project: Project, node: str) -> Path:
    artifact = project.plan().artifacts[node].found
    assert artifact is not None
    return artifact.path


def logits(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = scores.astype(np.float64).clip(2.0**-24, 1 - 2.0**-24)
    return np.log(inside) - np.log1p(-inside)


def evaluated(project: Project) -> dict[bytes, float]:
    with np.load(found(project, "table") / "scores.npz") as kept:
        return dict(zip(map(bytes, kept["id"]), kept["score"].tolist(), strict=True))


def reads(project: Project, node: str) -> bytes:
    """Digest of the rows that a node reads, whatever else it is made with."""
    planned: ArtifactPlan = project.plan().artifacts[node]
    return planned.rows_key


def test_scores_are_those_of_the_members_joined_by_id(project: Project) -> None:
    sums: dict[bytes, float] = {}
    for member, node in MEMBERS.items():
        rows = open_node(project.file, node).split("test")
        values = logits(load_detector(found(project, member))(rows))
        for row, value in zip(map(bytes, rows.ids), values.tolist(), strict=True):
            sums[row] = sums.get(row, 0.0) + value
    scores = evaluated(project)
    assert len(scores) == 16
    assert scores.keys() == sums.keys()
    state = load_detector(found(project, "fused")).state.plain
    expected = {row: 1 / (1 + np.exp(-(state["slope"] * one / 3 + state["intercept"]))) for row, one in sums.items()}
    np.testing.assert_allclose([scores[row] for row in expected], list(expected.values()), rtol=1e-6)


def test_a_picture_gets_the_score_of_its_row(project: Project) -> None:
    model = load(found(project, "fused")).of_pictures()
    rows = open_node(project.file, "images").split("test")
    asked = model.predict(list(rows.array("image")), band=False)
    scores = evaluated(project)
    assert [one.score for one in asked] == [scores[bytes(row)] for row in rows.ids]


@pytest.mark.parametrize("model", ["fused", "of_two_sizes"])
def test_pictures_that_were_learned_from_are_not_outside_of_them(project: Project, model: str) -> None:
    rows = open_node(project.file, "reals").split("train")
    asked = load(found(project, model)).predict(list(rows.array("image")), band=False)
    assert [one.outside for one in asked] == [()] * len(rows)


def test_the_order_of_the_nodes_changes_nothing(project: Project) -> None:
    project.replace("[images, lines, radial]", "[radial, lines, images]")
    project.replace("[radial, images, lines]", "[lines, images, radial]")
    assert project.plan().complete


def test_other_values_of_one_node_make_it_stale_and_nothing_else_does(project: Project, tmp_path: Path) -> None:
    assert review(project.plan(), everything=True) == []
    plan = project.plan()
    (branch, *_) = plan.branches["lines"]
    shard = plan.indices[branch.chain].path(0)
    shutil.copytree(shard, tmp_path / "kept")
    give_other_values(shard, "row_profile")
    try:
        plan = project.plan()
        review(plan, everything=True)
    finally:
        shutil.rmtree(shard)
        shutil.copytree(tmp_path / "kept", shard)
    assert {name for name, one in plan.artifacts.items() if one.found is None} == {"by_lines", "fused", "table"}


def test_rows_count_by_the_chains_of_all_nodes(project: Project) -> None:
    before = {node: reads(project, node) for node in ("fused", "table", "by_profile")}
    project.replace("features: [projections]", "features: [projections, dct2d]")
    after = {node: reads(project, node) for node in before}
    assert [node for node in before if before[node] != after[node]] == ["fused", "table"]


def test_of_two_nodes_with_a_field_that_of_the_member_counts(project: Project) -> None:
    before = {node: reads(project, node) for node in ("fused", "table")}
    project.write(PIPELINE + "  more: {stage: spectrum, of: images, features: [profile]}\n")
    project.replace("[images, lines, radial]", "[more, images, lines, radial]")
    project.replace("[radial, images, lines]", "[radial, images, lines, more]")
    assert {node: reads(project, node) for node in before} == before


def test_rows_of_one_id_in_two_sources_stay_apart(project: Project) -> None:
    text = PIPELINE.replace("images: {stage: equalize, of: [reals, fakes]", TWINS)
    project.write(text.replace("larger: {stage: equalize, of: [reals", "larger: {stage: equalize, of: [twins, reals"))
    planned = project.plan().artifacts["fused"]
    assert planned.rows == 3 * 16, "train and val of three sources"
    selections = planned.views["on"][""]
    assert len(selections) == 3
    for one in selections:
        branch = one.sides[0].branch
        assert branch.joins == {"image": 0, "profile": 1, "row_profile": 2}, "else the classes have come by two ways"
        sources = [side.branch.rows.source[side.positions] for side in stored(one.sides[0])]
        assert all((other == sources[0]).all() for other in sources)


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (
            "[images, lines, {of: radial, where: source = fakes}]",
            "of which 24 of images have no 'profile' in radial (first reals ",
        ),
        (
            "[images, lines, radial, radial_of_others]",
            "of which 24 have 'profile' more than once, in radial, radial_of",
        ),
        (
            "[images, lines, {of: [radial, radial_of_others], where: source = fakes}]",
            "of which 24 of images have no 'profile' in radial, radial_of_others (first reals ",
        ),
        ("[images, radial]", "none of which has 'row_profile'; add the node that computes it"),
        ("{of: [images, lines, radial], take: 100}", "name nodes that were made of the same rows, each with"),
        ("[images, blurs, lines, radial]", "of which 24 of blurs have no 'profile' in radial (first reals "),
        (
            "[blurs, radial_of_noises, lines_of_noises]",
            "of which 24 of blurs have no 'profile' in radial_of_noises (fi",
        ),
    ],
)
def test_a_row_without_a_field_or_with_one_twice_is_refused(project: Project, nodes: str, sentence: str) -> None:
    project.write(PIPELINE + MORE)
    project.replace("on: [images, lines, radial]", f"on: {nodes}")
    place = r"pipeline\.yaml:\d+ nodes\.fused reads rows in 'on', .*"
    with pytest.raises(ConfigError, match=place + re.escape(sentence)):
        project.plan()


def test_each_variant_of_a_picture_has_its_own_fields(project: Project) -> None:
    project.write(PIPELINE + MORE)
    nodes = "images, lines, radial, blurs, radial_of_blurs, lines_of_blurs, noises, radial_of_noises, lines_of_noises"
    project.replace("[radial, images, lines]", f"[{nodes}]")
    planned = project.plan().artifacts["table"]
    assert planned.rows == 3 * 48
    found = {tuple(side.branch.node for side in stored(one.sides[0])) for one in planned.views["test"][""]}
    assert found == {
        ("images", "radial", "lines"),
        ("blurs", "radial_of_blurs", "lines_of_blurs"),
        ("noises", "radial_of_noises", "lines_of_noises"),
    }


def test_a_field_of_two_nodes_is_that_of_the_member_which_reads_it(project: Project) -> None:
    project.write(PIPELINE)
    project.replace("features: [projections]", "features: [projections, profile]")
    planned = project.plan().artifacts["fused"]
    assert planned.rows == 2 * 16
    for one in planned.views["on"][""]:
        sides = stored(one.sides[0])
        where = {name: sides[number].branch.node for name, number in one.sides[0].branch.joins.items()}
        assert where == {"image": "images", "profile": "radial", "row_profile": "lines"}


def test_rows_that_failed_in_one_node_are_left_out(project: Project) -> None:
    project.write(PIPELINE)
    project.replace("on: lines,", "on: [images, lines],")
    project.replace("features: [projections]", "features: [projections, dct2d]")
    plan = project.plan()
    assert {name: plan.artifacts[name].rows for name in ("by_lines", "fused", "table")} == {
        "by_lines": 32, "fused": 32, "table": 48
    }  # fmt: skip
    planned = planned_after_failures(plan, "lines")
    assert {name: planned[name].rows for name in ("by_lines", "fused", "table")} == {
        "by_lines": 30, "fused": 30, "table": 44
    }  # fmt: skip


def test_rows_that_failed_above_one_node_are_left_out(project: Project) -> None:
    project.write(PIPELINE + MORE + BLURRED)
    project.replace(
        "[radial, images, lines]", "{raw: [images, radial, lines_turned], P: [blurs, radial_of_blurs, again]}"
    )
    plan = project.plan()
    assert plan.artifacts["table"].rows == 2 * 48
    assert planned_after_failures(plan, "turned")["table"].rows == 2 * 44


def test_a_source_that_failed_as_a_whole_is_left_out(project: Project) -> None:
    project.write(PIPELINE)
    project.replace("on: lines,", "on: [images, lines],")
    project.replace("features: [projections]", "features: [projections, dct2d]")
    plan = project.plan()
    (gone,) = (
        one for one in plan.branches["lines"] if "fakes" in {side.branch.sides[0].branch.node for side in one.sides}
    )
    scan = open_scan(plan.pipeline, False)
    planned = make_plan(plan.pipeline, plan.store, scan, failed={gone.chain: gone.rows.id}).artifacts
    assert {name: planned[name].rows for name in ("by_lines", "fused", "table")} == {
        "by_lines": 16, "fused": 16, "table": 24
    }  # fmt: skip


def planned_after_failures(plan: Plan, node: str) -> dict[str, ArtifactPlan]:
    """Artifacts of a plan where the first val and the first test row of each source have failed in a node."""
    failed = {}
    for branch in plan.branches[node]:
        splits = branch.rows.split.tolist()
        failed[branch.chain] = branch.rows.id[[splits.index(SPLITS.index(name)) for name in ("val", "test")]]
    return make_plan(plan.pipeline, plan.store, open_scan(plan.pipeline, False), failed=failed).artifacts


def test_what_was_made_otherwise_is_told_by_the_node_that_made_it() -> None:
    def spectrum(*features: str, **more: str) -> dict[str, Any]:
        return {"stage": "spectrum", "config": {"features": list(features), **more}}

    def join(**fields: str) -> dict[str, Any]:
        return {"stage": "join", "config": fields}

    learned = [
        spectrum("profile", convention="durall19"),
        join(profile="aa", row_profile="bb"),
        spectrum("projections"),
    ]
    other = join(profile="aa", row_profile="cc")
    clause = "spectrum.config: features ['projections'] -> ['projections', 'dct2d']"
    assert unlike(learned, [spectrum("projections", "dct2d"), other]) == clause
    assert unlike(learned, [other]) == "other values of row_profile"
    assert unlike([spectrum("profile")], [other]) == "fields of several nodes instead of spectrum"
    assert unlike(learned, [{"stage": "residual"}]) == "residual instead of spectrum"
