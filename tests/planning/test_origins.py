"""What sources say of rows, from Python: files, licences and whom to name, also of rows that were made from others."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from reader_rows import picture
from toy_project import ROOT, Project

from pipeline.dataset import Dataset
from pipeline.errors import ConfigError, StoreError
from pipeline.open import open_node
from pipeline.planning.origins import texts_of
from pipeline.planning.selection import Selection, Side
from stages.generators.weights import read_header

CHECKPOINT = "manifests/generators.yaml#progan-raw"
TRANSLATOR = "manifests/generators.yaml#stargan2-raw"
ENTRIES = yaml.safe_load((ROOT / "manifests" / "generators.yaml").read_text())
DOMAINS = read_header(ROOT / "manifests" / ENTRIES["stargan2-raw"]["file"]).domains

PIPELINE = f"""
nodes:
  listed: {{stage: ingest, manifest: list.yaml}}
  folder: {{stage: ingest, folder: OUTSIDE, label: real}}
  images: {{stage: equalize, of: [listed, folder], size: 8}}
  twice: {{stage: upsample, of: {{of: images, where: source = listed}}, method: nearest}}
  large: {{stage: equalize, of: listed, size: 64, upsample: true}}
  turned: {{stage: translate, checkpoint: "{ROOT}/{TRANSLATOR}", of: large}}
  drawn: {{stage: sample, checkpoint: "{ROOT}/{CHECKPOINT}", count: 2}}
"""

MANIFEST = f"""
name: two
licence: CC-BY-4.0
root: photos
rows:
  - {{file: a.png, domain: {DOMAINS[0]}, author: Ann, url: "https://x.org/a", source: album 1}}
  - {{file: sub/b.png, domain: {DOMAINS[1]}, licence: MIT, author: Bob}}
"""


def plant(folder: Path, *paths: str) -> None:
    """Pictures that `equalize` takes."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(path, (9, 9)))


def project(tmp_path: Path, patch: pytest.MonkeyPatch) -> Project:
    plant(tmp_path / "project" / "photos", "a.png", "sub/b.png")
    plant(tmp_path / "elsewhere", "deep/c.png")
    found = Project(tmp_path / "project", patch, PIPELINE.replace("OUTSIDE", str(tmp_path / "elsewhere")))
    (found.folder / "list.yaml").write_text(MANIFEST)
    return found


def told(rows: Dataset) -> dict[str, tuple[str, ...]]:
    """File, or source of rows without one -> what is said of it."""
    names = [file or source for file, source in zip(rows.column("file"), rows.column("source"), strict=True)]
    columns = [rows.column(name).tolist() for name in ("licence", "author", "url", "provenance")]
    return dict(zip(names, zip(*columns, strict=True), strict=True))


def test_rows_say_their_file_and_what_their_source_says_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project(tmp_path, monkeypatch)
    found.run("twice", "images")
    listed = {
        "photos/a.png": ("CC-BY-4.0", "Ann", "https://x.org/a", "album 1"),
        "photos/sub/b.png": ("MIT", "Bob", "", ""),
    }
    rows = open_node(found.file, "images")
    assert told(rows) == {**listed, "deep/c.png": ("", "", "", "")}
    assert told(rows.where(rows.column("source") == "folder")) == {"deep/c.png": ("", "", "", "")}
    made = open_node(found.file, "twice")
    assert set(made.column("file")) == {""}  # a row with values of its own came from no file
    assert sorted(made.column("author")) == ["Ann", "Bob"]
    assert sorted(made.column("licence")) == ["CC-BY-4.0", "MIT"]
    copied = pickle.loads(pickle.dumps(rows))
    with pytest.raises(StoreError, match=r"^these rows have no column 'file'; they have domain, group, label, source,"):
        copied.column("file")
    assert (copied.column("source") == rows.column("source")).all()


def test_what_a_checkpoint_draws_owes_what_its_entry_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = project(tmp_path, monkeypatch).plan()
    (branch,) = plan.branches["drawn"]
    found = texts_of([Selection((Side(branch, branch.usable),))], plan.names.words, tmp_path)
    assert np.asarray(found["licence"]).tolist() == [ENTRIES["progan-raw"]["licence"]] * 2
    assert np.asarray(found["provenance"]).tolist() == [ENTRIES["progan-raw"]["origin"]] * 2
    assert np.asarray(found["file"]).tolist() == ["", ""]


def test_what_a_checkpoint_makes_of_rows_owes_what_both_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = project(tmp_path, monkeypatch).plan()
    (branch,) = plan.branches["turned"]
    found = texts_of([Selection((Side(branch, branch.usable),))], plan.names.words, tmp_path)
    weights = ENTRIES["stargan2-raw"]["licence"]
    each = len(DOMAINS) - 1  # a row goes to each of the other domains
    assert sorted(np.asarray(found["licence"])) == [f"{weights}; CC-BY-4.0"] * each + [f"{weights}; MIT"] * each
    assert sorted(np.asarray(found["author"])) == ["Ann"] * each + ["Bob"] * each
    assert set(np.asarray(found["file"])) == {""}


def test_conditions_of_views_select_rows_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project(tmp_path, monkeypatch)
    found.run("images")
    assert open_node(found.file, "images", where="source = folder").column("file").tolist() == ["deep/c.png"]
    assert len(open_node(found.file, "images", take=2)) == 2
    for where, problem in (
        ("lable = fake", r"^images: where asks for 'lable'; did you mean 'label'\?$"),
        (
            "source = listd",
            r"^images: the selection compares source with 'listd', which no row has; did you mean 'listed'",
        ),
    ):
        with pytest.raises(ConfigError, match=problem):
            open_node(found.file, "images", where=where)
    with pytest.raises(ConfigError, match=r"^images: the selection takes 9 rows of a view that has 3$"):
        open_node(found.file, "images", take=9)


def test_the_list_of_ffhq_names_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "project" / "images1024x1024", "00000/00000.png", "00000/00001.png")
    entries = {
        str(number): {
            "category": "training",
            "metadata": {
                "license": f"License {number}",
                "author": f"Author {number}",
                "photo_url": f"https://f/{number}",
            },
        }
        for number in range(2)
    }
    (tmp_path / "project" / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    found = Project(tmp_path / "project", monkeypatch, "nodes: {photos: {stage: ingest, folder: ., layout: ffhq}}")
    found.run()
    assert told(open_node(found.file, "photos")) == {
        f"images1024x1024/00000/0000{number}.png": (f"License {number}", f"Author {number}", f"https://f/{number}", "")
        for number in range(2)
    }
    assert np.unique(open_node(found.file, "photos").column("split")).tolist() == ["train"]
