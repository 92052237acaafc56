"""The documents say what the program does: the reference of stages is generated, the examples are valid pipelines."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from detector_page import ROOT, detector_project

from detectors.choosing import detector_config
from experiments import seeds_page
from pipeline.declaring.config import load_pipeline
from pipeline.declaring.schema import stages_markdown
from stages import GENERATORS
from stages.weights.detector_page import detectors_markdown


def test_the_reference_of_stages_is_that_of_the_program() -> None:
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8").rstrip()
    assert text == stages_markdown(), "docs/stages.md is old; run: make pages"


def test_the_page_of_detectors_is_that_of_the_manifests() -> None:
    text = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8").rstrip()
    assert text == detectors_markdown(), "docs/detectors.md is old; run: make pages"


def test_the_page_of_sources_is_that_of_the_results_and_names_every_config() -> None:
    text = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
    assert text == seeds_page.page(), "docs/seeds.md is old; run: make pages"
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} <= set(re.findall(r"\[(\w+)\]\(../configs/", text))
    claim = {"says": "It is so", "verdict": "holds", "metric": "ap", "value": 0.0209, "few_groups": True}
    assert seeds_page.told(claim | {"interval": [-0.01, 0.03]}) == (
        "It is so: **holds** (ap +0.021, -0.010 to +0.030, few groups)"
    )
    assert seeds_page.told(claim | {"value": None, "interval": None}) == "It is so: **holds**"


def test_a_card_says_what_its_entry_says() -> None:
    """Of one entry, by hand."""
    card = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8").partition("### cnndetection-0.5-nocrop\n")[2]
    lines = card.partition("\n### ")[0].strip().splitlines()
    assert lines[0] == "Wang et al. 2020, CNN-generated images are surprisingly easy to spot... for now."
    assert "- reads: `image`; preprocessing as `cnndetection`, but `crop: null`" in lines
    assert "- beware: the authors' second protocol: whole pictures, one at a time" in lines
    assert any("without crop" in line and "stylegan 77.5 / 99.3" in line for line in lines)


def test_every_page_is_in_the_index_and_every_link_leads_somewhere() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [page.name for page in pages if page.name != "README.md" and f"]({page.name})" not in index] == []
    for page in [ROOT / "README.md", *pages]:
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(
            r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", re.sub(r"```.*?```", "", text, flags=re.S)
        ):
            place = page.parent / target if target else page
            assert place.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(place), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """As a reader of Markdown makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_example_of_the_readme_is_a_valid_pipeline() -> None:
    example = re.search(r"```yaml\n(nodes:\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert example
    path = ROOT / ".readme-example.yaml"  # paths in it are relative to the project
    path.write_text(example[1], encoding="utf-8")
    try:
        fakes = ["fakes[progan-raw]", "fakes[stylegan2-raw]"]
        assert list(load_pipeline(path).nodes) == ["photos", *fakes, "images", "spectra", "svm", "table", "page"]
    finally:
        path.unlink()


def test_the_example_stage_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "writing_a_stage.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.S)
    assert example
    (tmp_path / "example_edges.py").write_text(example[1], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "photos.csv").write_text("file\nphotos/budgie_0001.png\nphotos/budgie_0002.png\n", encoding="utf-8")
    (tmp_path / "photos").symlink_to(ROOT / "manifests" / "photos")
    (tmp_path / "pipeline.yaml").write_text(
        textwrap.dedent("""
        nodes:
          photos: {stage: ingest, manifest: manifest.yaml}
          images: {stage: equalize, of: photos, size: 64}
          edges: {stage: "example_edges:Edges", of: images}
        """)
    )
    (tmp_path / "manifest.yaml").write_text(
        f"{{name: two, root: {ROOT / 'manifests'}, licence: CC0-1.0, rows: photos.csv}}\n", encoding="utf-8"
    )
    from pipeline.open import open_node
    from pipeline.running.run import run

    pipeline = load_pipeline(tmp_path / "pipeline.yaml")
    assert run(pipeline, [], 1).computed == {"photos": 2, "images": 2, "edges": 2}
    edges = open_node(tmp_path / "pipeline.yaml", "edges").array("edges")
    assert ((edges > 0) & (edges < 1)).all()


def test_every_module_has_a_place_in_the_design() -> None:
    """By its name, or by the registry that it is an entry of."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    files = [path for name in ("pipeline", "stages", "detectors") for path in (ROOT / name).rglob("*.py")]
    packages = (
        path.read_text(encoding="utf-8")
        for path in files
        if path.name == "__init__.py" and path.relative_to(ROOT).parts[0] != "pipeline"
    )
    lines = re.findall(r'^(?:    "| +module: |from ).*$', "\n".join(packages), re.M)  # entries of registries
    entries = {word for line in lines for word in re.findall(r"\w+", line)}
    lost = [
        str(path.relative_to(ROOT))
        for path in files
        if path.name != "__init__.py"
        and f"`{path.stem}`" not in text
        and path.stem not in entries
        and path.stem.partition("_")[0] not in GENERATORS
    ]
    assert lost == [], "say in docs/design.md what they are for"


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """Whoever comes next imports a module of its own."""
    yield
    sys.modules.pop("nearest_mean", None)


@pytest.mark.usefixtures("_forgotten")
def test_the_example_detector_is_trained_and_evaluated(tmp_path: Path) -> None:
    from pipeline.running.run import run

    pipeline = load_pipeline(detector_project(tmp_path))
    summary = run(pipeline, [], 1)
    assert {"mine", "table"} <= set(summary.computed)
    (results,) = tmp_path.glob("store/evaluate/*/results.json")
    found = json.loads(results.read_text())
    assert found["model"]["detector"] == "nearest mean on profile"
    assert found["model"]["config"] == {"family": "nearest_mean", "feature": "profile", "power": 1.0}
    assert all(row["auc"] == 1.0 for row in found["rows"])  # enlarged by repetition: easy


def test_the_composed_detector_of_the_example_is_valid() -> None:
    text = (ROOT / "docs" / "writing_a_detector.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n  detector:\n(.*?)```", text, re.S)
    assert example
    config = detector_config(yaml.safe_load(example[1]))
    config.check((64, 64, 3), ("row", "column", "channel"))
    assert config.feature == "image"
