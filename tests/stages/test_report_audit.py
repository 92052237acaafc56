"""The report's section on audits: what is an alarm, what a declaration covers, what files say; in a pipeline, too."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing_pictures import encoded, folder, scene
from memory_rows import MemoryRows, rows_of, step, union

from pipeline.stage import Artifact
from stages.auditing.audit import Finding, whole
from stages.auditing.vocabulary import CHECKS
from stages.images.containers import FACTS, inspect
from stages.report import ReportConfig, sections
from stages.reporting import audit, compared
from stages.reporting.section import Given

STEPS = {
    "a": [step("ingest"), step("equalize", size=16)],
    "b": [step("sample"), {**step("perturb", protocol="he2021"), "moves": ["noise_level", "grid8"]}],
}
EVALUATION = {"steps": STEPS, "variants": {}, "rows": [], "model": {"node": "svm"}}


def test_a_stage_covers_the_checks_of_the_groups_that_it_names() -> None:
    steps = {
        "a": [{**step("equalize", size=16), "moves": ["size", "history"]}],
        "b": [{**step("perturb"), "moves": ["pixels"]}],
    }
    found = audit.moved([{**EVALUATION, "steps": steps}])
    histories = {check.name for check in CHECKS if check.kind == "H"}
    assert set(found["equalize"]) == {"size", *histories}
    assert set(found["perturb"]) == histories | {"bit_depth", "gray_share", "borders", "learned"} | {
        check.name for check in CHECKS if check.kind == "L"
    }


def artifact(place: Path, **letters: str) -> Artifact:
    """An audit in which checks differ, each speaking for C, H or L."""
    findings = [
        Finding(
            check.name, check.kind, "differs" if check.name in letters else "equal", 9.0, 0.0002, 0.5, 40, 40,
            ["fake/1"], "do this", "the column", letters.get(check.name, "C"),
        )
        for check in CHECKS
    ]  # fmt: skip
    result = whole(findings)
    place.mkdir()
    (place / "audit.json").write_text(json.dumps(result.plain()))
    details = {one.name: {"column": one.column, "biased": one.name in result.biased} for one in findings}
    return Artifact("audit", "0" * 32, place, {"facts": {"details": details}})


def given(audits: list[Artifact], rows: dict[str, MemoryRows] | None = None, **declared: str) -> Given:
    return Given(ReportConfig(declared=declared), [EVALUATION], [], {"audits": audits}, rows or {})


def rendered(content: Any) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(audit.TEMPLATE).render(content)


def test_the_audit_stands_below_the_results_and_its_verdict_above_them(tmp_path: Path) -> None:
    assert list(sections())[:2] == ["results", "audit"]
    one = given([artifact(tmp_path / "a"), artifact(tmp_path / "b", codec="C")])
    audit.content(one)
    (tile,) = one.tiles
    assert (tile.value, tile.about, tile.state) == ("found", "audit: codec", "bad")
    calm = given([artifact(tmp_path / "c")])
    audit.content(calm)
    assert [(tile.value, tile.state) for tile in calm.tiles] == [("none", "good")]


def test_without_an_audit_there_is_no_section() -> None:
    assert audit.content(given([])) == {}


def test_an_undeclared_check_of_containers_is_an_alarm_and_a_trace_is_to_be_explained(tmp_path: Path) -> None:
    one = given([artifact(tmp_path / "a", codec="C", grid8="H", brightness="L")])
    content = audit.content(one)
    (shown,) = content["audits"]
    assert (shown["verdict"], shown["bias"], shown["alarms"]) == ("differs", "found", "codec")
    assert one.facts["audits"] == {"audit": {"verdict": "differs", "bias": "found"}}
    page = rendered(content)
    assert page.count("not declared") == 1
    assert page.count("content or generator, to explain") == 2
    assert "do this" in page
    assert [found.topic for found in audit.differences(one)] == ["codec"]


@pytest.mark.parametrize("declared", [{"codec": "Born as JPEG."}, {"perturb": "x", "codec": "Born as JPEG."}])
def test_a_check_is_declared_by_its_name(declared: dict[str, str], tmp_path: Path) -> None:
    content = audit.content(given([artifact(tmp_path / "a", codec="C")], **declared))
    (shown,) = content["audits"]
    assert (shown["bias"], shown["alarms"]) == ("none", "")
    assert "Born as JPEG." in rendered(content)


def test_a_declared_stage_covers_the_checks_that_it_may_move(tmp_path: Path) -> None:
    audits = [artifact(tmp_path / "a", noise_level="C", size="C", exif="C")]
    rows = {row["name"]: row for row in audit.content(given(audits, perturb="Fakes are noisy."))["audits"][0]["rows"]}
    assert (rows["noise_level"]["alarm"], rows["noise_level"]["told"]) == (False, "Fakes are noisy.")
    assert rows["size"]["alarm"]
    assert rows["exif"]["alarm"]
    (shown,) = audit.content(given(audits, native_size="Fakes are native.", reduction="Reals are reduced."))["audits"]
    assert shown["alarms"] == "exif"


def facts(codec: str, start: int, side: int = 16, count: int = 24, **options: Any) -> dict[str, Any]:
    found = [inspect(encoded(scene(start + k, side), codec, **options)).facts() for k in range(count)]
    return {name: np.array([one[name] for one in found], kind.dtype) for name, kind in FACTS.items()}


def test_files_of_both_classes_are_compared_by_shares_and_not_by_sets() -> None:
    """The old comparison of sets saw no difference between qualities, and a difference in one odd file."""
    real, fake = facts("JPEG", 0, quality=95), facts("JPEG", 100, quality=75)
    rows = union(rows_of("photos", 0, real), rows_of("fakes", 1, fake))
    assert [one.topic for one in audit.differences(given([], {"container": rows}))] == ["quantization"]
    odd = {name: values.copy() for name, values in facts("JPEG", 100, quality=95).items()}
    odd["codec"][0] = facts("PNG", 0, count=1)["codec"][0]
    rows = union(rows_of("photos", 0, real), rows_of("fakes", 1, odd))
    assert list(audit.differences(given([], {"container": rows}))) == []


def test_codecs_and_sizes_are_counted() -> None:
    rows = union(rows_of("photos", 0, facts("JPEG", 0)), rows_of("fakes", 1, facts("PNG", 50, 17)))
    found = {one.topic: (one.real, one.fake) for one in audit.differences(given([], {"container": rows}))}
    assert found["codec"] == ("jpeg (24)", "png (24)")
    assert found["size"] == ("16 × 16 (24)", "17 × 17 (24)")


def test_lossy_photographs_beside_fakes_without_files_are_a_difference() -> None:
    rows = rows_of("photos", 0, facts("JPEG", 0, count=3))
    (found,) = audit.differences(given([], {"container": rows}))
    assert (found.topic, found.real, found.fake) == ("codec", "jpeg (3)", "no file: never compressed")
    plain = rows_of("photos", 0, facts("PNG", 0, count=3))
    assert list(audit.differences(given([], {"container": plain}))) == []


def test_what_an_audit_calls_a_bias_is_flagged_beside_the_lineages(tmp_path: Path) -> None:
    one = given([artifact(tmp_path / "a", exif="C")])
    assert compared.content(one)["undeclared"] == 1
    assert one.facts["undeclared"] == ["exif"]
    assert compared.content(given([artifact(tmp_path / "b", exif="C")], exif="Cameras wrote it."))["undeclared"] == 0


def test_a_pipeline_audits_files_before_equalize_and_arrays_after_it(tmp_path: Path) -> None:
    from pipeline.declaring.config import load_pipeline
    from pipeline.open import open_node
    from pipeline.running.run import run

    folder(tmp_path / "real", [encoded(scene(k), "JPEG", quality=80) for k in range(12)], suffix=".jpg")
    folder(tmp_path / "fake", [encoded(scene(100 + k)) for k in range(12)])
    (tmp_path / "pipeline.yaml").write_text(
        textwrap.dedent("""
        nodes:
          photos: {stage: ingest, folder: real}
          fakes: {stage: ingest, folder: fake, label: fake}
          examined: {stage: examine, of: [photos, fakes]}
          before: {stage: audit, of: examined}
          images: {stage: equalize, of: [photos, fakes], size: 16, protocol: jpeg96}
          after: {stage: audit, of: images}
        """)
    )
    done = run(load_pipeline(tmp_path / "pipeline.yaml"), [], 1)
    assert done.computed["examined"] == 24
    found = {one.parent.name: json.loads(one.read_text()) for one in tmp_path.glob("store/audit/*/audit.json")}
    before, after = sorted(found.values(), key=lambda one: one["checks"][0]["verdict"] == "does not apply")
    codec = before["checks"][0]
    assert (codec["name"], codec["verdict"], before["bias"]) == ("codec", "differs", "found")
    assert {one["verdict"] for one in after["checks"] if one["kind"] == "C"} <= {
        "does not apply", "equal", "cannot tell"
    }  # fmt: skip
    (part, *_) = open_node(tmp_path / "pipeline.yaml", "images").parts
    assert "size" in part.steps[-1]["moves"]
