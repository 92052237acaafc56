"""Generators that are published family by family, and the page that tells all of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from test_publishing_generators import SMALL_PHOTOS, photographs
from toy_project import Project

from experiments import generators_page, publish_generators, quality
from experiments.publish_generators import Origin, artifacts, results
from experiments.quality import Seen
from stages.generators import progan, weights

FIGURES = {
    "photographs": 1438.0, "senders": 208.0, "precision": 0.512, "recall": 0.318, "kernel_distance": 0.7306,
    "swd": 21.46, "profile_distance": 1.502, "diversity": 0.7512, "diversity_real": 0.8112, "auc_clipped": 0.844,
    "auc_border_step": 0.42, "auc_spectral_slope": 0.9,
}  # fmt: skip
CLIPPED = "clipped alone tells it from held-out photographs with an AUC of 0.84, outside 0.2 to 0.8"
BORDER = "border step alone tells it from held-out photographs with an AUC of 0.84, outside 0.2 to 0.8"
ORDER = ("progan-raw", "progan-none", "progan-R", "progan-A")


def test_the_page_has_a_row_of_figures_for_each_and_the_sentences() -> None:
    raw = {"held_out": FIGURES, "misses": [CLIPPED, BORDER], "kimg": 108.0, "hours": 2.5, "grid": "Trousers."}
    gain = {"gain": 0.504, "deviation": 0.198, "named": True}
    finetuned = {"held_out": FIGURES, "misses": [], "kimg": 16.0, "hours": 1, "compared_with_none": gain}
    told = {
        "progan-A": {**finetuned, "not_published": "It moves nothing.", "grid": "Dresses."},
        "progan-raw": raw,
        "progan-none": {"held_out": FIGURES, "misses": [], "kimg": 16.0},
    }
    lines = generators_page.page(told, ORDER).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == list(generators_page.COLUMNS)
    shared = ["1438 of 208", "0.751 (0.811)", "0.51", "0.32", "0.731", "21.5", "1.50", "0.84", "0.42", "0.90"]
    assert rows[2:] == [
        ["progan-raw", "108", "2.5", *shared, "clipped, border step", "-"],
        ["progan-none", "+16", "-", *shared, "-", "-"],
        ["progan-A", "+16", "1", *shared, "-", "0.50 ± 0.20"],
    ]
    start = lines.index("## What the pictures show") + 2
    assert lines[start : start + 2] == ["- progan-raw: Trousers.", "- progan-A: Dresses."]
    assert lines[-2:] == ["", "- progan-A: It moves nothing."]
    assert lines[-3] == "## Not published"
    assert "they are no evidence about detectors." in generators_page.HEAD.replace("\n", " ")
    assert "Not published" not in generators_page.page({"progan-raw": raw}, ORDER)


def test_results_keep_what_they_told_of_others(tmp_path: Path) -> None:
    file = tmp_path / "generators.json"
    one = {"held_out": FIGURES, "misses": [], "kimg": 4.0}
    results(file, {"stylegan-raw": one, "progan-raw": one})
    results(file, {"progan-raw": {**one, "kimg": 8.0}, "progan-R": one})
    known = json.loads(file.read_text())
    assert {name: told["kimg"] for name, told in known.items()} == {"stylegan-raw": 4, "progan-raw": 8, "progan-R": 4}
    page = (tmp_path / "generators.md").read_text()
    assert page == generators_page.page(known, (*ORDER, "stylegan-raw"))


def test_artifacts_are_those_of_the_families_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = "{{stage: train_generator, on: photos, recipe: {{family: {}}}}}"
    lines = [f"  {family}_raw: {node.format(family)}" for family in ("progan", "stylegan", "stargan2")]
    text = 'nodes:\n  photos: {stage: "few_photos:Photos"}\n' + "\n".join(lines)
    made = Project(tmp_path, monkeypatch, text)
    (made.folder / "few_photos.py").write_text(SMALL_PHOTOS)

    def plan(pipeline: Any, store: Any, scan: Any, wanted: Iterable[str], pins: Any) -> Any:
        """As if all of them were made."""
        found = {name: SimpleNamespace(found=SimpleNamespace(path=Path(name))) for name in wanted}
        return SimpleNamespace(artifacts=found)

    monkeypatch.setattr(publish_generators, "make_plan", plan)
    origin = Origin(made.file, [])
    assert set(artifacts(origin)) == {"progan_raw", "stylegan_raw", "stargan2_raw"}
    found = artifacts(origin, ["stargan2", "progan"])
    assert found == {name: Path(name) for name in ("stargan2_raw", "progan_raw")}
    assert artifacts(origin, ["stylegan2"]) == {}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where two trainings of ProGAN are found, with figures that take no time, and entries of others."""
    architecture = {"z_dim": 3, "c_dim": 0, "resolution": 8, "features": [4, 4]}
    tensors = {name: value.numpy() for name, value in progan.build(architecture).state_dict().items()}
    places = {name: tmp_path / name for name in ("progan_raw", "progan_none", "progan_R", "stylegan_raw")}
    for name, place in places.items():
        place.mkdir()
        weights.save(place / "generator.safetensors", "progan", architecture, tensors)
        card = {"kimg": 8.0 if name.endswith("raw") else 2.0, "figures": {}}
        (place / "card.json").write_text(json.dumps(card))

    def found(origin: Origin, families: Sequence[str]) -> dict[str, Path]:
        return {name: place for name, place in places.items() if name.partition("_")[0] in families}

    monkeypatch.setattr(publish_generators, "artifacts", found)
    monkeypatch.setattr(quality, "photographs", lambda file, splits, overrides: photographs(["a"] * 28))
    monkeypatch.setattr(quality, "perceptual_network", lambda networks: (None, "f" * 64))
    monkeypatch.setattr(quality, "seen", lambda path, held_out, sources: Seen(held_out, held_out.images))
    monkeypatch.setattr(quality, "figures", lambda one, network: FIGURES)
    monkeypatch.setattr(quality, "rounding", lambda trained, stored, sources: {"most": 1.0})
    monkeypatch.setattr(quality, "gain", lambda one, none: quality.Gain(0.1, 0.2, (1.0, 0.9)))
    (tmp_path / "generators.yaml").write_text("other: {family: x}\nstylegan-raw: {family: stylegan}\n")
    return tmp_path


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, Any]:
    """Entries of the manifest, and what the results tell."""
    named = {"out": "weights", "manifest": "generators.yaml", "notes": "notes.yaml", "results": "generators.json"}
    options = [part for name, file in named.items() for part in (f"--{name}", str(folder / file))]
    monkeypatch.setattr(sys, "argv", ["publish_generators", *arguments, *options])
    publish_generators.main()
    entries = yaml.safe_load((folder / "generators.yaml").read_text())
    return entries, json.loads((folder / "generators.json").read_text())


def test_a_family_is_published_with_the_page_and_others_stay(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (published / "notes.yaml").write_text("progan-raw: {hours: 2.5, grid: Trousers.}\n")
    one = {"held_out": FIGURES, "misses": [], "kimg": 4.0, "grid": "Skirts."}
    (published / "generators.json").write_text(json.dumps({"stylegan-raw": one}))
    entries, told = publish(published, monkeypatch, "progan")
    assert list(entries) == ["progan-raw", "stylegan-raw", "other"]
    assert entries["progan-raw"]["origin"] == "experiments/garments.yaml"
    assert entries["stylegan-raw"] == {"family": "stylegan"}
    card = json.loads((published / entries["progan-raw"]["card"]).read_text())
    assert (card["hours"], card["grid"], card["misses"]) == (2.5, "Trousers.", [CLIPPED])
    assert card["note"] == "A small generator that shows the pipeline at work; it is no evidence about detectors."
    assert sorted(told) == ["progan-R", "progan-none", "progan-raw", "stylegan-raw"]
    assert told["stylegan-raw"] == one
    assert (told["progan-raw"]["kimg"], told["progan-raw"]["hours"], told["progan-R"]["kimg"]) == (8, 2.5, 2)
    verdict = quality.told("R", quality.Gain(0.1, 0.2, (1.0, 0.9)))["verdict"]
    assert verdict.startswith("+R moves the mean profile no more than two deviations beyond")
    assert told["progan-R"]["not_published"] == verdict
    page = (published / "generators.md").read_text()
    for line in ("- progan-raw: Trousers.", "- stylegan-raw: Skirts.", f"- progan-R: {verdict}"):
        assert line in page
    out = capsys.readouterr().out
    assert f"progan-R: not published. {verdict}" in out
    assert "progan-A: not trained yet" in out
    assert "stylegan" not in out


def test_all_families_are_published_where_none_is_named(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (published / "notes.yaml").write_text("stylegan-raw: {hours: 1, grid: Skirts.}\n")
    entries, told = publish(published, monkeypatch)
    assert entries["stylegan-raw"]["licence"] == "Apache-2.0; trained on CC0-1.0 photographs"
    assert "progan-raw" not in entries
    assert "notes.yaml lacks its hours and grid" in told["progan-raw"]["not_published"]
    with pytest.raises(SystemExit, match=r"^stylegan2, stargan2: not trained yet; nothing is published$"):
        publish(published, monkeypatch, "stylegan2", "stargan2")
    monkeypatch.setattr(publish_generators, "artifacts", artifacts)
    with pytest.raises(SystemExit, match=r"no/pipeline\.yaml"):
        publish(published, monkeypatch, "--file", "no/pipeline.yaml")
    with pytest.raises(SystemExit, match="2"):
        publish(published, monkeypatch, "stylegan3")
    assert "stylegan3 is no family of generators; expected progan, stylegan, stylegan2, " in capsys.readouterr().err


def test_distances_of_mean_profiles_are_those_of_the_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.generators.held_out_metrics.described", lambda network, x: [np.ones((len(x), 2))])
    random = np.random.default_rng(0)
    reals = photographs(["a"] * 9)
    images = random.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    reals = quality.Photographs(images, reals.groups, reals.domains)
    others = Seen(reals, random.integers(0, 128, (9, 16, 16, 3), dtype=np.uint8))
    assert quality.figures(Seen(reals, images), None)["profile_distance"] == 0
    distance = quality.figures(others, None)["profile_distance"]
    assert distance == pytest.approx(quality.gain(others, Seen(reals, images)).distances[1])
    assert distance > 0
