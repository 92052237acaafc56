"""Fakes of generators that miss a gate are marked in the report and in tables, from a manifest and steps of chains."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from evaluations import evaluation, row

from pipeline.errors import ConfigError
from stages.commands import table
from stages.report import Report
from stages.reporting import misses, table_formats
from stages.reporting.matrix_table import Column, Evaluation, columns_of, tabulated
from stages.reporting.results import SECTION
from stages.reporting.section import Given

STEP = "border step alone tells it from held-out photographs with an AUC of 0.84, outside 0.2 to 0.8"
CLIPPED = "clipped alone tells it from held-out photographs with an AUC of 0.91, outside 0.2 to 0.8"
MANIFEST = f"""
fine: {{file: a.safetensors, sha256: {"a" * 64}, misses: []}}
odd: {{file: b.safetensors, sha256: {"b" * 64}, misses: ["{STEP}", "{CLIPPED}"]}}
older: {{file: c.safetensors, sha256: {"c" * 64}}}
"""
SOURCES = {"fakes[fine]": "a", "fakes[odd-R]": "b", "fakes[older]": "c"}


def results(name: str, variants: tuple[str, ...] = ("raw", "P")) -> dict[str, Any]:
    """Of a detector that was tested on the fakes of three generators, each by a chain of its own."""
    rows = [row(source, 0.9, variant) for variant in variants for source in (*SOURCES, "all")]
    found = evaluation(name, ["fakes[odd-R]"], rows, name)
    parts = [{"chain": "00", "fake": 0, "real": 9, "sources": ["photos"]}]
    parts += [{"chain": digit, "fake": 5, "real": 0, "sources": [source]} for source, digit in SOURCES.items()]
    found["steps"] = {"00": [{"stage": "ingest", "files": {}}, {"stage": "residual", "files": {"model": "b" * 64}}]}
    for digit in SOURCES.values():
        made = {"stage": "sample", "files": {"checkpoint": digit * 64}}
        found["steps"][digit] = [made, {"stage": "equalize", "files": {}}, {"stage": "spectrum"}]
    for facts in found["variants"].values():
        facts["parts"] = parts
    return found


def page(tmp_path: Path, manifest: str | None) -> str:
    files = {}
    if manifest is not None:
        files["checkpoints"] = tmp_path / "generators.yaml"
        files["checkpoints"].write_text(manifest)
    found = SECTION.content(Given(None, [results("SVM"), results("forest")], [Path()] * 2, files=files))
    return jinja2.Template(SECTION.template, autoescape=True).render(found)


def test_a_report_marks_fakes_of_a_generator_that_misses_a_gate_and_says_which(tmp_path: Path) -> None:
    shown = page(tmp_path, MANIFEST)
    heads = re.findall(r'class="turned"><span>([^<]*)</span>', shown)
    assert heads == ["fakes[fine]", "fakes[odd-R] †", "fakes[older]", "mean", "minimum"] * 2
    lines = re.findall(r"<td>(fakes[^<]*|all together)</td>\n<td class", shown)
    assert lines == ["fakes[fine]", "fakes[odd-R] †", "fakes[older]", "all together"] * 4
    assert re.findall(r"<li>(.*)</li>", shown) == [f"fakes[odd-R]: {STEP}.", f"fakes[odd-R]: {CLIPPED}."]
    assert "† This generator misses" in shown


@pytest.mark.parametrize("manifest", [None, MANIFEST.replace("b" * 64, "d" * 64), "{}"])
def test_nothing_is_marked_where_no_entry_of_a_checkpoint_says_so(tmp_path: Path, manifest: str | None) -> None:
    shown = page(tmp_path, manifest)
    assert misses.MARK not in shown
    assert "gate" not in shown


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("a: {misses: border step}", r"generators\.yaml: a: misses is .*border step.*; expected a list of sentences"),
        ("a: {misses: [1]}", r"generators\.yaml: a: misses is .*; expected a list of sentences"),
        ("[a]", r"generators\.yaml:1 is no mapping of names to checkpoints"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_before_a_run(tmp_path: Path, manifest: str, said: str) -> None:
    place = tmp_path / "generators.yaml"
    place.write_text(manifest)
    with pytest.raises(ConfigError, match=said):
        Report().check(Report.Config(), {"checkpoints": place})  # type: ignore[arg-type]


def test_a_table_has_a_dagger_in_the_head_and_the_gates_as_notes() -> None:
    found = [(Evaluation(name, results(name), None, name, {}), Path()) for name in ("SVM", "forest")]
    entries = [{}, {"sha256": "a" * 64}, {"sha256": "b" * 64, "misses": [STEP]}]
    nodes = {str(number): SimpleNamespace(name=str(number), files={"checkpoint": SimpleNamespace(entry=entry)})
             for number, entry in enumerate(entries)}  # fmt: skip
    missed = table._missed(SimpleNamespace(nodes=nodes), found)
    assert missed == {"fakes[odd-R]": (STEP,)}
    assert misses.lines(missed) == [f"fakes[odd-R]: {STEP}."]
    evaluations = [one for one, _ in found]
    made = tabulated(evaluations, "auc")
    made.marked |= columns_of(evaluations, missed)
    assert made.marked == {Column("odd-R", "odd-R", "raw"), Column("odd-R", "odd-R", "P")}
    head, *rows = table_formats.grid(made, None, False, False)
    assert [word for word in head if "†" in word] == ["odd-R raw†", "odd-R P†"]
    assert not any("†" in word for line in rows for word in line)
    assert r"odd-R raw\textdagger{}" in table_formats.as_latex([head, *rows])
