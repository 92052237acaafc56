"""What people come for, done from the documents alone."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from detector_page import photographs
from documented import ROOT, pictures
from PIL import Image
from user_at_work import UserAtWork

pytestmark = pytest.mark.jobs
GOLDEN = ROOT / "tests" / "golden" / "generators" / "progan_tf_32_nofuse.pkl"


def example(page: str, pattern: str) -> str:
    """A block of a page."""
    found = re.search(pattern, (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S)
    assert found
    return found[1]


def computed(out: str) -> dict[str, int]:
    """Node -> rows, as `run` tells it."""
    return {name: int(count) for name, count in re.findall(r"^(\S+): (\d+) computed", out, re.M)}


@pytest.mark.stress
def test_own_folders_to_report_in_2_steps(user: UserAtWork) -> None:
    pictures(user.folder / "real", 0, 44)
    pictures(user.folder / "fake", 1, 44)
    said = user.types("touchstone quickstart --real real/ --fake fake/ --out mine --no-open")
    report = Path(said.out.partition("the report: ")[2].splitlines()[0])
    assert "<h2" in report.read_text(encoding="utf-8")
    assert "profile-svm" in user.types("touchstone table -f mine/pipeline.yaml").out


@pytest.mark.parametrize("kind", ["forensynths", "imagefolder", "table", "zip"])
def test_sets_come_in_as_they_are_in_2_steps(user: UserAtWork, kind: str) -> None:
    """The second step says how many images there are, and their classes."""
    names = {"forensynths": "progan/{}", "imagefolder": "train/{}", "table": "all", "zip": "{}"}[kind]
    words = ("0_real", "1_fake") if kind == "forensynths" else ("real", "fake")
    for number, word in enumerate(words):
        pictures(user.folder / "mine" / names.format(word) / ("ab"[number] if kind == "table" else ""), number, 44)
    place = "mine"
    if kind == "table":
        place = "mine/list.csv"
        files = sorted((user.folder / "mine").rglob("*.png"))
        lines = [
            f"{file.relative_to(user.folder / 'mine')},{'real' if '/a/' in str(file) else 'fake'}" for file in files
        ]
        (user.folder / place).write_text("path,label\n" + "\n".join(lines) + "\n")
    if kind == "zip":
        place = "mine.zip"
        with zipfile.ZipFile(user.folder / place, "w") as archive:
            for file in sorted((user.folder / "mine").rglob("*.png")):
                archive.write(file, file.relative_to(user.folder / "mine"))
    assert "for 88 images" in user.types(f"touchstone quickstart --data {place} --out out --no-run").out
    facts = user.types("touchstone plan images --json -f out/pipeline.yaml").facts()
    assert "88" in str(facts)


PHOTOGRAPHS = """
nodes:
  photos: {stage: ingest, manifest: manifest.yaml}
  images: {stage: equalize, of: photos, size: 32}
  drawn: {stage: sample, checkpoint: manifests/generators.yaml#stylegan2-raw, count: 24}
  fakes: {stage: equalize, of: drawn, size: 32}
  spectra: {stage: spectrum, of: [images, fakes], features: [profile]}
"""


def test_is_this_image_fake_in_3_steps(user: UserAtWork) -> None:
    photographs(user.folder)
    user.writes("pipeline.yaml", PHOTOGRAPHS + "  forest: {stage: train, on: spectra, detector: profile-forest}\n")
    user.types("touchstone run forest")
    shutil.copy(ROOT / "manifests" / "photos" / "budgie_0001.png", user.folder / "photo.png")
    line, *reasons = user.types("touchstone predict forest photo.png --no-band").out.splitlines()
    assert re.match(r"(real|fake|unsure) +[01]\.\d+ +photo\.png", line)
    assert all(reason.startswith("        far outside: ") for reason in reasons)


def test_an_official_pickle_to_20_pictures_in_7_steps(user: UserAtWork) -> None:
    """The stand-in is a file of the authors' classes, with small networks."""
    (user.folder / "checkpoints").mkdir()
    shutil.copy(GOLDEN, user.folder / "checkpoints" / "official.pkl")
    assert "progan (tensorflow)" in user.types("touchstone checkpoint checkpoints/official.pkl").out
    entry = "mine:\n  family: progan\n  file: ../checkpoints/official.pkl\n  licence: CC BY-NC 4.0\n"
    user.writes("manifests/official.yaml", entry)
    user.writes(
        "pipeline.yaml", "nodes:\n  fakes: {stage: sample, checkpoint: manifests/official.yaml#mine, count: 20}\n"
    )
    said = user.types("touchstone plan", code=2)
    digest = re.search(r"add the line '(sha256: [0-9a-f]{64})'", said.err)
    assert digest
    user.writes("manifests/official.yaml", f"{entry}  {digest[1]}\n")
    assert computed(user.types("touchstone run").out) == {"fakes": 20}
    user.types("touchstone export fakes --to imagefolder --out pictures")
    files = sorted((user.folder / "pictures").rglob("*.png"))
    assert len(files) == 20
    with Image.open(files[0]) as picture:
        assert picture.size == (32, 32)
    assert "CC BY-NC 4.0" in (user.folder / "pictures" / "ATTRIBUTION.csv").read_text()


def test_a_stage_and_a_detector_of_ones_own_in_5_steps(user: UserAtWork) -> None:
    photographs(user.folder)
    user.writes("example_edges.py", example("writing_a_stage.md", r"```python\n(.*?)```"))
    user.writes("nearest_mean.py", example("writing_a_detector.md", r"```python\n(.*?)```"))
    nodes = example("writing_a_detector.md", r"```yaml\n(  mine:.*?)```")
    user.writes("pipeline.yaml", f'{PHOTOGRAPHS}  edges: {{stage: "example_edges:Edges", of: images}}\n{nodes}')
    done = computed(user.types("touchstone run").out)
    assert done["edges"] == 14
    assert done["mine"] == done["table"] == 1
    assert "mine" in user.types("touchstone table").out


def test_ten_more_images_and_another_setting_in_6_steps(user: UserAtWork) -> None:
    pictures(user.folder / "photos", 0, 30)
    text = """
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: equalize, of: photos, size: 16}
  spectra: {stage: spectrum, of: images, features: [profile]}
"""
    user.writes("pipeline.yaml", text)
    assert computed(user.types("touchstone run").out) == {"photos": 30, "images": 30, "spectra": 30}
    pictures(user.folder / "photos" / "more", 2, 10)
    assert computed(user.types("touchstone run").out) == {"photos": 10, "images": 10, "spectra": 10}
    user.writes("pipeline.yaml", text.replace("[profile]", "[profile, dct2d]"))
    assert "spectra" in user.types("touchstone explain spectra", code=1).out
    assert computed(user.types("touchstone run").out) == {"spectra": 40}


def test_rows_are_taken_away_and_read_again_in_4_steps(user: UserAtWork) -> None:
    photographs(user.folder)
    user.writes("pipeline.yaml", PHOTOGRAPHS)
    user.types("touchstone run images")
    user.types("touchstone export images --to imagefolder --out pictures --where 'split = test'")
    with (user.folder / "pictures" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["test"] * 4
    assert all((user.folder / "pictures" / row["file"]).is_file() for row in rows)
    sets = "--set nodes.photos.manifest=pictures/manifest.csv"
    facts = user.types(f"touchstone plan photos --json {sets}").facts()
    assert "4" in str(facts)


def test_table_1_of_he_et_al_is_planned_with_stand_ins_in_2_steps(user: UserAtWork) -> None:
    config = ROOT / "configs" / "he2021_table1.yaml"
    said = user.types(f"touchstone doctor -f {config}", code=1)
    assert said.out.count("FAIL  missing file") > 1
    sets = ["nodes.photos.manifest=../manifests/photos.yaml", "nodes.images.upsample=true"]
    sets += [f"nodes.{entry}.{setting}" for entry, count in (("fakes", 60), ("finetuned", 12))
             for setting in ('stage="he_stand_ins:Fakes"', f"count={count}")]  # fmt: skip
    sets += ["device=cpu"]
    words = " ".join(f"--set '{one}'" for one in [*sets, f"store={user.folder / 'store'}"])
    assert "table1" in user.types(f"touchstone plan -f {config} {words}").out
