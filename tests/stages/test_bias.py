"""The stage and the verb `bias`: what changes of pictures do to a detector, as scores of a prediction say it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, command
from predicted_project import artifact, packed, predicted_project
from scipy.stats import t
from toy_project import Project

import touchstone
from pipeline.errors import ConfigError
from pipeline.open import open_node
from stages.images.disturbances import DISTURBANCES
from stages.reporting import bias as section
from stages.reporting.section import Given

MORE = """
  looked: {stage: bias, model: svm, on: images, count: 3}
  moved: {stage: perturb, of: {of: images, where: label = fake}, protocol: he2021}
  curves: {stage: spectrum, of: moved, features: [profile]}
  apart: {stage: train, on: [{of: spectra, where: label = real}, curves], detector: profile-svm}
  looked_apart: {stage: bias, model: apart, on: images, as_class: real}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = predicted_project(tmp_path_factory.mktemp("biased"), patch, MORE)
        made.run("looked")
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def results(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact(project, "looked") / "bias.json").read_text())
    return found


def test_a_detector_of_unlike_steps_is_asked_by_the_steps_of_one_class(run: Command, project: Project) -> None:
    project.run("looked_apart")
    kept = json.loads((artifact(project, "looked_apart") / "bias.json").read_text())
    told = run("bias", "apart", "images", "--as", "real", "--json", "-f", str(project.file)).facts()
    assert [one["real"]["mean"] for one in told["changes"]] == [one["real"]["mean"] for one in kept["changes"]]
    refused = run("bias", "apart", "images", "-f", str(project.file))
    assert refused.code == 1
    assert "say whose steps an image should pass with --as real or --as fake (as_class in" in refused.err


def test_changes_of_test_rows_are_those_of_predictions(project: Project, tmp_path: Path) -> None:
    found = results(project)
    assert found["counts"] == {"real": 3, "fake": 3}
    assert [one["change"] for one in found["changes"]] == list(DISTURBANCES)
    model = touchstone.load(artifact(project, "svm"))
    rows = open_node(project.file, "images").split("test")
    fakes = rows.where(rows.column("label") == 1)
    shifts = {}
    for name, change in DISTURBANCES.items():
        before, after = (
            np.array([one.score for one in model.predict(list(pictures), band=False)])
            for pictures in (fakes.array("image"), [change(one) for one in fakes.array("image")])
        )
        shifts[name] = after - before
    for one in found["changes"]:  # three of the four, by hash
        three = [np.delete(shifts[one["change"]], left).mean() for left in range(4)]
        assert any(one["fake"]["mean"] == pytest.approx(mean, abs=1e-9) for mean in three)
    assert {one["verdict"] for one in found["changes"]} <= {
        "invariant", "towards real", "towards fake", "fragile", "cannot tell"
    }  # fmt: skip


def test_the_verb_takes_test_rows_of_a_node_as_the_stage_does(run: Command, project: Project) -> None:
    told = run("bias", "svm", "images", "--count", "3", "--json", "-f", str(project.file))
    assert told.code == 0, told.err
    assert told.facts()["changes"] == results(project)["changes"]
    found = run("bias", "svm", "images", "--json", "-f", str(project.file)).facts()["band"]
    rows = open_node(project.file, "images").split("test")
    model = touchstone.load(artifact(project, "svm")).of_pictures()
    said = model.predict(list(rows.array("image")))
    assert found["unsure"] == pytest.approx(np.mean([one.verdict == "unsure" for one in said]))
    assert found["outside"] == pytest.approx(np.mean([any(fact.far for fact in one.outside) for one in said]))
    labels = np.where(rows.column("label") == 1, "fake", "real")
    right = [one.verdict == label for one, label in zip(said, labels.tolist(), strict=True) if one.verdict != "unsure"]
    assert found["accuracy_told"] == (pytest.approx(np.mean(right)) if right else None)
    wrong = run("bias", "svm", "spectra", "-f", str(project.file))
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "spectra has no pictures, but" in wrong.err
    assert "nowhere" in run("bias", "svm", "nowhere", "-f", str(project.file)).err


def test_the_report_shows_each_detector(project: Project) -> None:
    plan = project.plan(recorded=True)
    made = plan.artifacts["looked"].found
    assert made is not None
    (one,) = section.content(Given(None, [], [], {"biases": (made,)}))["biases"]
    assert one["node"] == "svm"
    assert one["about"].startswith("3 real rows in 3 groups and 3 fake rows in 3 groups. The band decides ")
    assert [row["change"] for row in one["rows"]][:2] == ["jpeg 96", "jpeg 75"]
    assert section.content(Given(None, [], [])) == {}


def test_a_folder_of_both_classes_is_told_by_class_and_group(run: Command, project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    for kind in ("real", "fake"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            (tmp_path / kind / f"{number}.png").write_bytes(packed(pixels))
    (tmp_path / "real" / "manifest.csv").write_text("file,group,by\n0.png,a,x\n1.png,a,x\n2.png,b,x\n3.png,b,x\n")
    folder = artifact(project, "svm")
    said = run("bias", str(folder), ".", "--json")
    assert said.code == 0, said.err
    found = said.facts()
    assert found["groups"] == {"real": 2, "fake": 4}
    assert said.err == "fake: no manifest.csv names groups, so that the intervals take images for independent\n"
    model = touchstone.load(folder)
    place = [tmp_path / "real" / f"{number}.png" for number in range(4)]
    scores = np.array([one.score for one in model.predict(place, band=False)])
    from PIL import Image

    changed = [DISTURBANCES["blur_1"](np.array(Image.open(one))) for one in place]
    moved = np.array([one.score for one in model.predict(changed, band=False)]) - scores
    blur = next(one for one in found["changes"] if one["change"] == "blur_1")
    sums = [moved[:2].sum() - 2 * moved.mean(), moved[2:].sum() - 2 * moved.mean()]
    half = t.ppf(0.975, 1) * np.sqrt(2 * (sums[0] ** 2 + sums[1] ** 2)) / 4
    ends = np.clip([moved.mean() - half, moved.mean() + half], -1, 1)
    assert blur["real"]["interval"] == pytest.approx(ends.tolist(), abs=1e-6)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for one in (tmp_path / "real").iterdir():
            archive.write(one, one.name if one.suffix == ".csv" else f"deep/{one.name}")
    in_zip = run("bias", str(folder), "packed.zip", "fake", "--json").facts()
    assert in_zip["groups"] == {"real": 2, "fake": 4}
    assert [one["real"] for one in in_zip["changes"]] == [one["real"] for one in found["changes"]]
    text = run("bias", str(folder), "real", "fake")
    assert text.out.splitlines()[-2].startswith("the band decides ")
    assert text.out.splitlines()[-1].startswith("far outside are ")
    assert len(text.out.splitlines()) == len(DISTURBANCES) + 2


def test_a_broken_image_is_named_and_places_that_are_not_clear_are_refused(
    run: Command, project: Project, tmp_path: Path
) -> None:
    folder = str(artifact(project, "svm"))
    for kind in ("real", "fake"):
        (tmp_path / kind).mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            (tmp_path / kind / f"{number}.png").write_bytes(packed(pixels))
    (tmp_path / "real" / "bad.png").write_bytes(b"?")
    said = run("bias", folder, ".", "--json")
    assert (said.code, said.facts()["unreadable"], said.facts()["counts"]) == (1, 1, {"real": 2, "fake": 2})
    assert "real/bad.png: " in said.err
    assert "found real, which has no folders real and fake" in run("bias", folder, "real").err
    assert "found 3 places; expected one folder" in run("bias", folder, "real", "fake", "more").err


def test_rows_without_pictures_or_of_one_class_are_refused_at_planning(project: Project) -> None:
    with pytest.raises(ConfigError, match="image"):
        project.plan("nodes.looked.on=spectra")
    with pytest.raises(ConfigError, match=r"'on' holds no fake rows of split 'test'; add some"):
        project.plan('nodes.looked.on={of: images, where: "label = real"}')
