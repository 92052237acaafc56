"""`predict`: the scores of `evaluate`, in another process and place, and what is said besides."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_photos
import yaml
from command_line import Command, command
from PIL import Image
from predicted_project import FIRST, KINDS, SIDE, artifact, exported, packed, photo, predicted_project, toy_id
from toy_project import ROOT, Project

import touchstone
from pipeline import ids
from pipeline.errors import ConfigError, StageError
from pipeline.open import open_node
from stages.auditing.pixels import STATISTICS, picture
from stages.predict import Model, Options, threshold_of_reals
from stages.predicting.ways import chain_number

ASK = """
import json, sys, touchstone
print(json.dumps({
    name: {one.file: one.score for one in touchstone.load(model).predict(images, band=False)}
    for name, model, images in json.loads(sys.stdin.read())
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = predicted_project(tmp_path_factory.mktemp("predicted"), patch)
        made.run()
        yield made


@pytest.fixture(scope="module")
def svm(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the SVM, where no store is."""
    return Path(shutil.copytree(artifact(project, "svm"), tmp_path_factory.mktemp("moved") / "svm"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


@pytest.mark.jobs  # six detectors, each in a process of its own: seconds
def test_scores_are_those_of_the_evaluation_to_the_bit_in_another_process_and_place(
    project: Project, tmp_path: Path
) -> None:
    expected = {name: exported(project, f"{name}_table", tmp_path / name) for name in KINDS}
    assert all(len(scores) > 5 for scores in expected.values())
    asked = [
        (name, str(shutil.copytree(artifact(project, name), tmp_path / "models" / name)), str(tmp_path / name))
        for name in KINDS
    ]
    said = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = {
        name: {Path(file).name: score for file, score in scores.items()}
        for name, scores in json.loads(said.stdout).items()
    }
    assert found == expected


def test_the_first_score_of_each_image_is_the_same_with_a_band_and_among_others(project: Project, svm: Path) -> None:
    model, images = touchstone.load(svm), [photo(number) for number in range(6)]
    plain = model.predict(images, band=False)
    banded = model.predict(images)
    assert [one.score for one in plain] == [one.score for one in banded]
    assert [one.score for one in plain] == [model.predict(image, band=False)[0].score for image in images]
    assert all(one.band is None for one in plain)
    assert all(one.band[0] <= one.score <= one.band[1] for one in banded if one.band and one.score)
    assert any(one.band[0] < one.band[1] for one in banded if one.band)


def test_blocks_keep_their_order_and_an_error_of_a_later_one_comes_after_the_answers_before(
    svm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = touchstone.load(svm), [photo(number) for number in (0, 1, 2, 3, 4)]
    alone = [model.predict(image, band=False)[0].score for image in images]
    monkeypatch.setattr("stages.predict.BLOCK_IMAGES", 2)
    assert [one.score for one in model.predict(images, band=False)] == alone
    taken = Model._take_pictures
    monkeypatch.setattr(Model, "_take_pictures", lambda self, block: 1 / 0 if len(block) == 1 else taken(self, block))
    told = model.stream(images, Options(band=False))
    assert [next(told).score for _ in range(4)] == alone[:4]
    with pytest.raises(ZeroDivisionError):
        next(told)


def by_hand(model: Model, picture: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Least and greatest score of a picture of the model's size and of its five copies."""

    def encoded(quality: int) -> np.ndarray[Any, Any]:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=2)
        return np.array(Image.open(stream))

    def through(side: int) -> np.ndarray[Any, Any]:
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
        return np.array(small.resize((SIDE, SIDE), Image.Resampling.LANCZOS))

    places = [*range(4, 0, -1), *range(SIDE - 4)]  # 4 lines come in, reflected at the first one
    copies = [picture, encoded(96), encoded(75), through(14), through(18), picture[places][:, places]]
    scores = [one.score for one in model.predict(copies, band=False)]
    assert None not in scores
    return min(scores), max(scores)  # type: ignore[type-var, return-value]


def test_the_band_is_that_of_the_picture_after_the_models_own_crop_and_resize(svm: Path) -> None:
    model = touchstone.load(svm)
    large = toy_photos.photo(toy_photos.identity(7))  # 32 pixels, the model has 16
    own = np.array(Image.fromarray(large).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    (found,) = model.predict(large)
    assert found.band == by_hand(model, own)


def test_a_verdict_is_unsure_where_the_band_crosses_the_threshold(svm: Path) -> None:
    model = touchstone.load(svm)
    found = model.predict([photo(number) for number in range(16)], outside=False)
    for one in found:
        assert one.band
        assert one.score is not None
        crosses = one.band[0] < one.threshold <= one.band[1]
        assert one.verdict == ("unsure" if crosses else "fake" if one.score >= one.threshold else "real")
    assert {one.verdict for one in found} > {"unsure"}


def test_one_line_for_each_image_says_all(run: Command, svm: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(photo(1))
    said = run("predict", str(svm), "one.png", "--json", "--csv", "table.csv")
    assert said.code == 0
    (line,) = said.out.splitlines()
    found = json.loads(line)
    assert list(found) == ["file", "score", "probability", "threshold", "verdict", "band", "outside"]
    assert found["file"] == "one.png"
    assert found["probability"] == found["score"] == touchstone.load(svm).predict(photo(1))[0].score
    assert found["threshold"] == json.loads((svm / "card.json").read_text())["threshold"]
    (row,) = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert (float(row["score"]), float(row["band_low"])) == (found["score"], found["band"][0])
    assert (row["file"], row["verdict"]) == ("one.png", found["verdict"])
    text = run("predict", str(svm), "one.png", "--no-band", "--no-outside")
    verdict = "fake" if found["score"] >= found["threshold"] else "real"
    assert text.out == f"{verdict}    {found['score']:.4f}  one.png\n"


HOSTILE = {
    "empty.png": b"", "text.jpg": b"no picture", "page.png": b"<!DOCTYPE html><p>moved</p>", "cut.png": photo(1)[:-40],
    "bomb.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x0f\xff\xff\0\x0f\xff\xff\x08\x02\0\0\0" + bytes(20),
}  # fmt: skip


def test_a_broken_file_is_named_and_stops_no_other(run: Command, svm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name, content in HOSTILE.items():
        (folder / name).write_bytes(content)
    (folder / "deep" / "good.jpg").write_bytes(photo(0))
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.txt").write_text("not asked about")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("in/good.png", photo(1))
        archive.writestr("bad.png", b"?")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "packed.zip").read_bytes()[:-30])
    said = run("predict", str(svm), "cut.zip", "folder", "packed.zip", "--no-band", "--json")
    lines = {one["file"]: one for one in map(json.loads, said.out.splitlines())}
    good = {"folder/deep/good.jpg", "packed.zip!in/good.png"}
    assert {name for name, one in lines.items() if "error" not in one} == good
    bad = {"cut.zip", "packed.zip!bad.png", *(f"folder/{name}" for name in (*HOSTILE, "gone.png", "pipe.png"))}
    assert lines.keys() - good == bad
    for name in bad:
        assert (lines[name]["score"], lines[name]["verdict"], lines[name]["band"]) == (None, None, None)
        assert lines[name]["error"]
        assert "\n" not in lines[name]["error"]
    assert "is cut off" in lines["cut.zip"]["error"]
    assert lines["folder/pipe.png"]["error"] == "is a device, pipe or socket, expected a file"
    assert said.code == 1
    assert said.err.endswith("9 of 11 images could not be read\n")


def test_an_image_below_the_models_size_is_enlarged_and_never_trusted(svm: Path) -> None:
    small = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    enlarged = np.array(Image.fromarray(small).resize((21, 16), Image.Resampling.LANCZOS))
    model = touchstone.load(svm)
    for given in (packed(small), small):
        (found,) = model.predict(given, outside=False)
        assert found.score == model.predict(enlarged)[0].score
        assert found.verdict == "unsure"
        assert [(one.fact, one.value, one.far) for one in found.outside if one.far] == [("size", "12x9", True)]


def test_images_from_python_may_be_anything(svm: Path, tmp_path: Path) -> None:
    pixels = np.array(Image.open(io.BytesIO(photo(1))))
    place = tmp_path / "photo.png"
    place.write_bytes(photo(1))
    model = touchstone.load(svm)
    found = model.predict([place, str(place), photo(1), pixels, pixels.astype(float), tmp_path / "gone.png"])
    assert [one.file for one in found] == [
        str(place),
        str(place),
        "image 2",
        "image 3",
        "image 4",
        f"{tmp_path}/gone.png",
    ]
    assert len({one.score for one in found[:4]}) == 1
    assert found[4].error == "is float64 (21, 25, 3), expected (H, W, 3) uint8"
    assert found[5].error.startswith("does not exist; expected")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nowhere", "one.png"), 2, r"touchstone: nowhere is no model: expected the folder of a trained model"),
        (
            ("SVM", "gone.png"),
            2,
            "touchstone: gone.png: does not exist; expected an image, a folder of images or a zip",
        ),
        (("SVM", "."), 2, "touchstone: .: found no image; expected files ending in .png"),
        (("manifests/detectors.yaml#dog", "one.png"), 2, "has no entry 'dog'"),
        (("SVM", "one.png", "--device", "tpu"), 2, "touchstone: the device is tpu, expected cpu or cuda"),
        (("SVM", "one.png", "--threshold-fpr", "0"), 2, "touchstone: the false positive rate is 0.0, expected a share"),
        (("SVM", "one.png", "--threshold-fpr", "0.01"), 1, "needs 100 validation reals or more, the model has"),
        (("SVM", "one.png", "--threshold-fpr", "nan"), 2, "the false positive rate is nan, expected a share"),
        (("SVM", "one.png", "--csv", "one.png/a.csv"), 2, "one.png/a.csv: no table can be written there: File exists"),
        (("SVM", "one.png", "--csv", ".."), 2, "..: no table can be written there: Is a directory"),
        (("SVM", "one.png", "--heatmap", "heat"), 1, "the family 'svm' is no network on maps of places"),
        (("SVM", "one.png", "--weights", "gone"), 2, "gone"),
        (("svm", "one.png", "--file", "gone.yaml"), 2, "svm is no model: expected the folder of a trained model"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    run: Command, svm: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    if "." not in arguments:
        (tmp_path / "one.png").write_bytes(photo(1))
    said = run("predict", *(str(svm) if word == "SVM" else word for word in arguments))
    assert sentence in said.err
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1)


def test_a_threshold_lets_at_most_a_share_of_validation_reals_through() -> None:
    scores = np.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], np.float32)
    for rate in (0.1, 0.2, 0.3, 0.75, 0.85, 0.95):
        threshold = threshold_of_reals(scores, rate)
        assert (scores >= threshold).mean() <= rate + 1e-9
        lower = scores[scores < threshold].max()  # the next candidate below would let too many through
        assert (scores >= lower).mean() > rate + 1e-9
    with pytest.raises(StageError, match=r"0\.09 needs 12 validation reals or more, the model has 10; ask for 0\.1"):
        threshold_of_reals(scores, 0.09)
    for count in range(2, 300):  # the rate that is advised is enough
        few = np.linspace(0, 1, count, dtype=np.float32)
        with pytest.raises(StageError) as told:
            threshold_of_reals(few, 1e-4)
        advised = float(str(told.value).partition("ask for ")[2].partition(" or more")[0])
        assert 1 / count <= advised < 1.1 / count
        threshold_of_reals(few, advised)
    with pytest.raises(StageError, match="the model has 1; train with more of them"):
        threshold_of_reals(scores[:1], 0.5)
    with pytest.raises(StageError, match="earlier version; train again"):
        threshold_of_reals(None, 0.5)
    with pytest.raises(ConfigError, match=r"rate is 1, expected a share between 0 and 1"):
        threshold_of_reals(scores, 1)


def test_the_reals_behind_a_threshold_are_those_of_the_validation_rows(project: Project, svm: Path) -> None:
    count = json.loads((svm / "card.json").read_text())["counts"]["val"]["real"]
    (found,) = touchstone.load(svm).predict(photo(0), threshold_fpr=1 / count)
    reals = [one.score for one in touchstone.load(svm).predict([photo(number) for number in range(16)], band=False)]
    assert sum(np.nextafter(np.float32(score), np.float32(2)) == found.threshold for score in reals) == 1


def way(stages: list[str], rows: dict[str, int], plain: bool = True) -> dict[str, Any]:
    kept = {"module": "m", "of": [-1], "multiplies": False, "variant": not plain, "recipe": "0" * 32, "config": {},
            "fields": {}, "files": {}, "artifacts": {}, "code": {}, "environment": {}}  # fmt: skip
    steps = [{**kept, "stage": name, "of": [number - 1]} for number, name in enumerate(stages)]
    return {"origins": [], "images": 1, "steps": steps, "plain": plain, "rows": {"train": rows}}


BOTH = way(["equalize"], {"real": 3, "fake": 3})
REALS = way(["equalize"], {"real": 3, "fake": 0})
MORE = way(["equalize", "perturb"], {"real": 0, "fake": 3}, plain=False)


@pytest.mark.parametrize(
    ("chains", "plain", "asked", "found"),
    [
        ([BOTH], 0, None, 0),
        ([BOTH], 0, "fake", 0),
        ([BOTH, MORE], 0, None, 0),
        ([MORE, REALS], 1, "real", 1),
        ([MORE, REALS], 1, "fake", 0),
        ([MORE, REALS], 1, None, r"real rows equalize, fake rows equalize > perturb.*--as real or --as fake"),
        ([MORE], None, None, r"no one way .*; say whose steps an image should pass with --as"),
        ([MORE], None, "fake", 0),
        ([MORE], None, "real", "learned from no real rows"),
        ([MORE, MORE], None, "fake", r"fake rows came by 2 ways \(equalize > perturb\), and none of them is the plain"),
    ],
)
def test_classes_that_passed_unlike_steps_need_a_word(chains: list[Any], plain: Any, asked: Any, found: Any) -> None:
    card = {"lineage": {"chains": chains, "plain": plain, "why_not": "" if plain is not None else "both"}}
    if isinstance(found, int):
        assert chain_number(card, asked) == found
    else:
        with pytest.raises(StageError, match=found):
            chain_number(card, asked)


def test_an_entry_of_a_manifest_is_asked_without_a_run(run: Command, tmp_path: Path) -> None:
    container = ROOT / "tests" / "golden" / "detectors" / "containers" / "tiny_ladeda_netC_module_legacy.pth"
    shutil.copy(container, tmp_path / "weights.pth")
    entry = yaml.safe_load((ROOT / "manifests" / "detectors.yaml").read_text())["tiny-ladeda-forensynth"]
    entry = {name: value for name, value in entry.items() if not name.startswith(("sha256", "size"))}
    entry |= {"file": "weights.pth", "sha256": hashlib.sha256(container.read_bytes()).hexdigest(), "micro_batch": 2}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"one": entry}))
    with np.load(ROOT / "tests" / "golden" / "detectors" / "images.npz") as images:
        Image.fromarray(images["im_96x96"]).save(tmp_path / "golden.png")
    cases = json.loads((ROOT / "tests" / "golden" / "detectors" / "tiny_ladeda.json").read_text())["cases"]
    (expected,) = (case["p_fake"] for case in cases if case["image"] == "im_96x96")
    said = run("predict", "mine.yaml#one", "golden.png", "--json", "--heatmap", "heat")
    assert said.code == 0, said.err
    assert np.array(Image.open(tmp_path / "heat" / "golden.png.png")).shape == (96, 96, 3)
    assert json.loads(said.out)["score"] == pytest.approx(expected, abs=2e-5)
    assert "not calibrated" in said.err
    (tmp_path / "weights.pth").write_bytes(container.read_bytes()[:-1])
    assert "but its entry says" in run("predict", "mine.yaml#one", "golden.png").err


def test_a_node_that_has_run_is_a_model(run: Command, project: Project, svm: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(photo(1))
    by_folder = run("predict", str(svm), "one.png", "--json", "--no-band")
    by_node = run("predict", "svm", "one.png", "--json", "--no-band", "-f", str(project.file))
    assert by_node.out == by_folder.out
    assert (
        "'images' gives rows, or is a matrix; name one node"
        in run("predict", "images", "one.png", "-f", str(project.file)).err
    )


def facts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return found


@pytest.mark.parametrize("name", ["svm", "resnet", "patches", "fused"])
def test_a_model_knows_the_files_and_pictures_of_its_training_rows(project: Project, name: str) -> None:
    """Found by lineage, whatever feature was learned: the ranges over pictures made by hand."""
    rows = open_node(project.file, "images")
    pictures = rows.split("train").array("image")
    values = np.stack([picture(one).statistics for one in pictures])
    low, high = np.quantile(values, (0.001, 0.999), axis=0)
    found = facts_of(artifact(project, name))
    assert found["statistics"] == {
        statistic: [pytest.approx(low[n]), pytest.approx(high[n])] for n, statistic in enumerate(STATISTICS)
    }
    train = rows.split("train")
    own = {toy_id(photo(number)): number for number in range(16)}
    numbers = [own[one] for one in ids.to_bytes(train.ids) if one in own]
    images = [Image.open(io.BytesIO(photo(number))) for number in numbers]
    assert found["files"] == {
        "codec": sorted({str(image.format).lower() for image in images}),
        "mode": ["RGB"],
        "width": [min(image.width for image in images), max(image.width for image in images)],
        "height": [min(image.height for image in images), max(image.height for image in images)],
        "quality": [75, 75],
    }


def test_what_the_training_rows_did_not_have_is_told_and_pictures_far_from_them_are_unsure(svm: Path) -> None:
    model = touchstone.load(svm)
    flat = np.full((40, 90, 3), 200, np.uint8)
    learned = toy_photos.photo(toy_photos.identity(FIRST))  # a training row
    strange, other = model.predict([packed(flat, "WEBP"), learned], band=False)
    assert strange.verdict == "unsure"
    told = {one.fact: one for one in strange.outside}
    assert (told["codec"].value, told["codec"].seen, told["codec"].far) == ("webp", "jpeg, png", False)
    assert (told["size"].value, told["size"].far) == ("90x40", False)
    deviation = told["contrast.deviation"]
    assert (deviation.value, deviation.far) == (0.0, True)
    assert deviation.seen == facts_of(svm)["statistics"]["contrast.deviation"]
    assert not [one for one in other.outside if one.far]
    assert other.verdict in ("real", "fake")
    (untold,) = model.predict(packed(flat, "WEBP"), band=False, outside=False)
    assert (untold.verdict in ("real", "fake"), untold.outside) == (True, ())


@pytest.mark.parametrize(
    ("entry", "value", "sentence"),
    [
        ("format", 2, "another format than 1"),
        ("validation_reals", [2.0], "no scores of validation reals"),
        ("validation_reals", None, "no scores of validation reals"),
        ("statistics", {"a": [2, 1]}, "no ranges of statistics"),
        ("files", {"codec": [1]}, "no facts of files"),
        ("files", {"width": ["a", "b"]}, "no facts of files"),
    ],
)
def test_facts_that_nobody_wrote_are_one_sentence(
    svm: Path, tmp_path: Path, entry: str, value: Any, sentence: str
) -> None:
    folder = Path(shutil.copytree(svm, tmp_path / "model"))
    (folder / "facts.json").write_text(json.dumps({**facts_of(svm), entry: value}))
    with pytest.raises(StageError, match=sentence):
        touchstone.load(folder)
    (folder / "facts.json").unlink()  # a model of an earlier version
    (found,) = touchstone.load(folder).predict(photo(0))
    assert found.outside == ()


def test_what_does_not_exist_stops_no_other_image(run: Command, svm: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(photo(1))
    said = run("predict", str(svm), "gone.png", "one.png", "--json")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [(one["file"], one.get("error", "")[:14]) for one in found] == [
        ("gone.png", "does not exist"),
        ("one.png", ""),
    ]
    assert (said.code, said.err) == (1, "1 of 2 images could not be read\n")


def test_a_model_whose_files_changed_is_not_asked(svm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(svm, tmp_path / "model"))
    (weights,) = folder.glob("model.*")
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        StageError, match=r"model/model\.\w+ is damaged: SHA-256 \w+, expected \w+; copy the model again, or"
    ):
        touchstone.load(folder)
    weights.write_bytes((svm / weights.name).read_bytes())
    (folder / "artifact.json").write_bytes((svm / "artifact.json").read_bytes().replace(b'"stage"', b'"stags"', 1))
    with pytest.raises(StageError, match=r"artifact\.json cannot be read: its text does not have the digest"):
        touchstone.load(folder)
    (folder / "artifact.json").unlink()  # nothing says what was there
    assert touchstone.load(folder).predict(photo(0)) == touchstone.load(svm).predict(photo(0))


def test_heat_maps_are_drawn_over_the_pictures_of_networks_on_places(
    run: Command, project: Project, svm: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, number in (("a.png", 1), ("b c.jpg", 0), ("\u732b.jpg", 0), ("\u72ac.jpg", 0)):
        (tmp_path / "in" / name).write_bytes(photo(number))
    folder = artifact(project, "resnet")
    said = run("predict", str(folder), "in", "--no-band", "--json", "--heatmap", "heat")
    assert said.code == 0, said.err
    pictures = ["in_a.png.png", "in_b_c.jpg.png", "in_\u72ac.jpg.png", "in_\u732b.jpg.png"]
    assert sorted(one.name for one in (tmp_path / "heat").iterdir()) == pictures
    assert sorted(json.loads(line)["heatmap"] for line in said.out.splitlines()) == [f"heat/{one}" for one in pictures]
    drawn = np.array(Image.open(tmp_path / "heat" / "in_a.png.png"))
    assert drawn.shape == (SIDE, SIDE, 3)
    assert (np.ptp(drawn.astype(int), axis=2) > 50).any()
    assert "the family 'svm' is no network" in run("predict", str(svm), "in", "--heatmap", "heat").err
    fused = run("predict", str(artifact(project, "fused")), "in", "--heatmap", "heat")
    assert "none of the fused detectors has heat maps" in fused.err
    (tmp_path / "full").write_bytes(b"")
    assert "full cannot be made: File exists" in run("predict", str(folder), "in", "--heatmap", "full").err
    cnn = artifact(project, "cnn")
    assert "reads frequencies" in run("predict", str(cnn), "in", "--heatmap", "heat").err
