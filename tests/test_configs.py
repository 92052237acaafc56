"""The configs that ship: they are read, planned with stand-ins for data that nobody has here, and fit their papers."""

from __future__ import annotations

import hashlib
import re
import shutil
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from glow_cases import variables
from tensorflow_files import graph

from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.declaring.document import load
from pipeline.declaring.missing import missing_files
from pipeline.inputs.scan import Scan
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan
from pipeline.storage.store import Store
from stages.reporting.matrix_table import Column, Evaluation, from_paper

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "configs" / "he2021_table1.yaml"
VARIANTS = ("raw", "R", "E", "A", "P")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The whole of Table 1 over the shipped photographs and fakes that are never made."""
    sets = ["nodes.photos.manifest=../manifests/photos.yaml", "nodes.images.upsample=true"]
    for entry, count in (("fakes", 60), ("finetuned", 12)):
        sets += [f'nodes.{entry}.stage="he_stand_ins:Fakes"', f"nodes.{entry}.count={count}"]
    pipeline = load_pipeline(TABLE, sets)
    return make_plan(pipeline, Store(tmp_path_factory.mktemp("store")), Scan(pipeline.base, None))


def test_the_whole_of_table_1_fits_in_sixty_lines() -> None:
    assert len(TABLE.read_text(encoding="utf-8").splitlines()) <= 60


def test_every_cell_of_the_paper_has_a_node_that_makes_it(planned: Plan) -> None:
    paper = from_paper(load(ROOT / "configs" / "papers" / "he2021_table1.yaml").data)
    rows: dict[str, set[str]] = {}
    for name, node in planned.pipeline.nodes.items():
        if node.entry == "table1":
            detector = planned.pipeline.nodes[node.artifacts["model"][0]]
            about = {"model": {"trained_on": []}}
            one = Evaluation(name, about, node.config.called, detector.entry, detector.matrix)
            rows.setdefault(one.row, set()).add(one.trained)
            assert tuple(node.views["test"]) == ("raw", "R", "A", "E", "P")
    assert set(rows) - set(paper.cells) == {"clipped", "border-step", "spectral-slope"}
    assert set(paper.cells) <= set(rows)
    assert all(trained == {"progan", "stylegan"} for trained in rows.values())
    blocks = [(a, b) for a in ("progan", "stylegan") for b in ("progan", "stylegan")]
    assert set(paper.columns) == {Column(a, b, variant) for a, b in blocks for variant in VARIANTS}
    assert sum(len(cells) for cells in paper.cells.values()) == 15 * 20


def test_each_evaluation_reads_the_rows_of_its_detectors_own_features(planned: Plan) -> None:
    def read(node: str) -> dict[str, set[str]]:
        views = planned.artifacts[node].views["test"]
        return {name: {one.sides[0].branch.node for one in found} for name, found in views.items()}

    clean = {"detectors-progan-prnu": "prints", "detectors-stylegan-dct2d-frank-cnn": "spectra",
             "detectors-progan-clipped": "measures"}  # fmt: skip
    for name, node in clean.items():
        found = read(f"table1[{name}]")
        assert found == {"raw": {f"{node}[images]"}, "R": {f"{node}[images]"}, "A": {f"{node}[images]"},
                         "E": {f"{node}[E]"}, "P": {f"{node}[P]"}}  # fmt: skip
    assert read("table1[detectors-progan-gramnet]")["raw"] == {"images"}
    assert read("table1[detectors-progan-gramnet]")["E"] == {"E[progan-raw]", "E[stylegan-raw]"}
    for name in ("residual-stylegan-stage5-SR+C", "average-progan-SR+C"):
        assert read(f"table1[{name}]") == {variant: {f"residuals[SR+C-{of}]"} for variant, of in (
            ("raw", "images"), ("R", "images"), ("A", "images"), ("E", "E"), ("P", "P"))}  # fmt: skip


def test_training_rows_are_those_of_the_named_source(planned: Plan) -> None:
    for name in ("detectors[stylegan-profile-svm]", "residual[stylegan-pixel-SR]", "average[stylegan-SR+D]"):
        views = planned.artifacts[name].views["on"][""]
        words = planned.names.words
        sources = {words[number] for one in views for number in one.table().source.tolist()}
        assert sources == {"photos", "fakes[stylegan-raw]"}


# The other configs, over a few photographs in place of their data


CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path != TABLE)
TWINS = sorted(path.stem for path in (ROOT / "configs" / "twins").glob("*.yaml") if not path.stem.startswith("half"))


def check_single_numbers(pipeline: Pipeline) -> None:
    """Beside detectors stand three numbers of images in each variant, and the bytes where rows were files."""
    beside: dict[str, set[str]] = {}
    wanted: set[str] = set()
    for node in pipeline.nodes.values():
        if node.stage.name == "evaluate":
            (model,) = node.artifacts["model"]
            feature = getattr(pipeline.nodes[model].config.detector, "feature", None)
            if feature in ("clipped", "border_step", "spectral_slope", "bytes_per_pixel"):
                beside.setdefault(feature, set()).update(node.views["test"])
            else:
                wanted |= set(node.views["test"])
    of_images = {"clipped", "border_step", "spectral_slope"}
    assert {name: beside.get(name) for name in of_images} == dict.fromkeys(of_images, wanted)
    if not {"sample", "translate", "frames", "clips"} & {node.stage.name for node in pipeline.nodes.values()}:
        plain = {name for name in wanted if not name.startswith(("blur", "jpeg", "down", "before", "after"))}
        assert beside["bytes_per_pixel"] == plain


def test_each_config_has_a_twin_and_each_twin_a_config() -> None:
    assert sorted([*CONFIGS, TABLE.stem]) == TWINS
    for name in TWINS:
        text = (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
        assert f"# Twin   configs/twins/{name}.yaml" in text or name == TABLE.stem
        for word in ("# Needs", "# Cost"):
            assert word in text
        assert f"configs/{name}.yaml" in (ROOT / "configs" / "twins" / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_planned_with_all_its_claims(name: str) -> None:
    pipeline = load_pipeline(ROOT / "configs" / "twins" / f"{name}.yaml")
    assert pipeline.store == ROOT / "configs" / "twins" / ".." / ".." / "scratch" / "twins" / "store"
    tables = [node for node in pipeline.nodes.values() if node.stage.name == "evaluate"]
    if tables:
        assert {one for node in pipeline.nodes.values() if node.stage.name == "claims"
                for one in node.artifacts["of"]} == {node.name for node in tables}  # fmt: skip
        check_single_numbers(pipeline)


def test_random_nestings_of_classes_are_prefixes_of_drawn_orders() -> None:
    nodes = load(ROOT / "configs" / "wang2020_diversity.yaml").data["nodes"]
    named = [one.split(", ") for one in nodes["detectors"]["matrix"]["classes"]]
    everything = sorted(named[-1])
    assert [len(one) for one in named] == [2, 4, 8, 16, 20]
    assert all(one == named[-1][: len(one)] for one in named)
    for node, size in (("two", 2), ("four", 4), ("eight", 8), ("sixteen", 16)):
        for seed, classes in enumerate(nodes[node]["matrix"]["classes"], 1):
            order = np.random.RandomState(seed).permutation(20)
            assert classes.split(", ") == [everything[number] for number in order[:size]]


CELLS = {"detectors": "progan-celebahq, inverted -> ", "plain": "progan-celebahq -> "}
"""Of configs/papers/chai2020_table2.yaml: how the cells of a node begin."""


def published(side: dict[str, str] | float, cells: dict[str, Any]) -> list[float]:
    """Cells of the paper that a claim's side names; a number is a cell itself."""
    if isinstance(side, float):
        return [side]
    found = []
    for pattern in side["node"].split("|"):
        node, _, detector = pattern.partition("[")
        for row, columns in cells.items():
            if fnmatchcase(f"{row}]", detector):
                found += [value / 100 for name, each in columns.items() if name.startswith(CELLS[node])
                          for variant, value in each.items()
                          if any(fnmatchcase(variant, one) for one in side["variant"].split("|"))]  # fmt: skip
    return found


def test_what_is_claimed_of_table_2_of_chai2020_is_what_was_printed_there() -> None:
    """Of the published cells each claim holds, but for the one on trainings that the paper does not print."""
    cells = load(ROOT / "configs" / "papers" / "chai2020_table2.yaml").data["cells"]
    claims = load(ROOT / "configs" / "chai2020_table2.yaml").data["nodes"]["claims"]["claims"]
    told = [one for one in claims if one["says"] != "Glow is found better without reprojections"]
    assert len(told) == len(claims) - 1
    for claim in told:
        more, than = (published(claim[side], cells) for side in ("more", "than"))
        assert more, claim["says"]
        assert than, claim["says"]
        assert sum(more) / len(more) > sum(than) / len(than), claim["says"]
    for words in ("97.22 to 100.00 against 42.82 to 91.38", "97.22 to 100.00 against 60.44 to 95.48"):
        (claim,) = [one for one in claims if words in one["where"]]
        ends = [f"{100 * end:.2f}" for side in ("more", "than")
                for end in (min(published(claim[side], cells)), max(published(claim[side], cells)))]  # fmt: skip
        assert words == "{} to {} against {} to {}".format(*ends)


@cache
def shipped(manifest: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(ROOT / "manifests" / f"{manifest}.yaml").data
    return found


def shipped_stand_ins(folder: Path, text: str) -> None:
    """Entries that a config names of the project's manifests, whose files nobody ships."""
    folder.mkdir()
    (folder / "stand_in.pth").write_bytes(b"")
    nothing = {"file": str(folder / "stand_in.pth"), "sha256": hashlib.sha256(b"").hexdigest()}
    lacking = {"detectors": ("cnndetection-0.1", "cnndetection-0.5"), "networks": ("vgg19",)}
    for manifest, names in lacking.items():
        if any(f"{manifest}.yaml#{name}" in text for name in (*names, "cnndetection-{p}")):
            entries = {name: shipped(manifest)[name] | nothing for name in names}
            (folder / f"{manifest}.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_valid_once_its_data_are_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of files and a generator stand in for all that it needs; of networks for faces no file is here."""
    monkeypatch.setattr("stages.landmarks.Landmarks.check", lambda *_: None)
    monkeypatch.setattr("stages.segment.Segment.check", lambda *_: None)
    folder = tmp_path / "configs"
    folder.mkdir()
    shutil.copy(ROOT / "configs" / f"{name}.yaml", folder)
    data = tmp_path / "data"
    data.mkdir()
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    weights = shipped("generators")
    names = set(re.findall(r"data/generators\.yaml#([a-z0-9-]+)", text)) | {"bedroom", "church"}
    names |= {f"{family}-{of}" for family in ("progan", "stylegan", "stylegan2")
              for of in ("raw", "R", "A", "celebahq", "ffhq")}  # fmt: skip
    entries = {}
    for entry in names:
        family = next((one for one in ("stargan2", "stylegan2", "stylegan") if one in entry), "progan")
        entries[entry] = weights[f"{family}-raw"] | {"file": str(ROOT / "manifests" / weights[f"{family}-raw"]["file"])}
    (data / "generators.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    shipped_stand_ins(folder / "manifests", text)
    for path in missing_files(folder / f"{name}.yaml"):
        found = re.search(r"names \.\./data/(\S+),", path)
        assert found, path
        (data / found[1]).parent.mkdir(parents=True, exist_ok=True)
        if found[1].endswith(".pb"):
            (data / found[1]).write_bytes(graph(variables()))
        else:
            (data / found[1]).write_text("file\n" if found[1].endswith(".csv") else "rows: [{file: a.png}]\n")
    pipeline = load_pipeline(folder / f"{name}.yaml")
    if "mean_spectra" not in {node.stage.name for node in pipeline.nodes.values()}:
        check_single_numbers(pipeline)
