"""Stage `features`: given numbers of images are joined to rows by id or name, and what cannot be joined is told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project

from pipeline.errors import ConfigError, TouchstoneError
from pipeline.open import open_node
from stages.features import Features

PIPELINE = """
nodes:
  photos: {stage: ingest, folder: photos}
  given: {stage: features, of: photos, file: given/clip.npz, folder: ../photos}
"""
CLIP = np.arange(12, dtype=np.float16).reshape(3, 4)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    from PIL import Image

    made = Project(tmp_path, monkeypatch, PIPELINE)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "given").mkdir()
    for number, name in enumerate(("a.png", "more/b.png", "c.png")):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / name)
    return made


def sha256(project: Project, name: str) -> str:
    return hashlib.sha256((project.folder / "photos" / name).read_bytes()).hexdigest()


def give(project: Project, **arrays: Any) -> None:
    np.savez(project.folder / "given" / "clip.npz", **arrays)


def values(project: Project) -> dict[str, list[float]]:
    rows = open_node(project.file, "given")
    names = {bytes.fromhex(sha256(project, name))[:16]: name for name in ("a.png", "more/b.png", "c.png")}
    return {names[bytes(one)]: row.tolist() for one, row in zip(rows.ids.tolist(), rows.array("clip"), strict=True)}


def test_entries_are_joined_by_name_whatever_their_order(project: Project) -> None:
    give(project, name=["c.png", "a.png", "more/b.png"], clip=CLIP, tokens=np.zeros((3, 2, 5), np.int16))
    project.run()
    assert values(project) == {"c.png": [0, 1, 2, 3], "a.png": [4, 5, 6, 7], "more/b.png": [8, 9, 10, 11]}
    fields = open_node(project.file, "given").fields
    assert {name: (one.dtype, one.shape) for name, one in fields.items()} == {
        "clip": ("float16", (4,)), "tokens": ("int16", (2, 5))
    }  # fmt: skip


def test_entries_are_joined_by_id_or_by_the_digest_of_the_file(project: Project) -> None:
    digests = [sha256(project, "more/b.png"), sha256(project, "c.png")[:32], sha256(project, "a.png").upper()]
    give(project, id=np.array(digests, dtype="S"), clip=CLIP, other=CLIP)
    project.replace("../photos}", "../photos, fields: [clip]}")
    project.run()
    assert values(project) == {"more/b.png": [0, 1, 2, 3], "c.png": [4, 5, 6, 7], "a.png": [8, 9, 10, 11]}
    assert list(open_node(project.file, "given").fields) == ["clip"]


NAMES = ["a.png", "more/b.png", "c.png"]


def test_files_that_swap_their_contents_after_the_run_are_joined_anew(project: Project) -> None:
    give(project, name=NAMES, clip=CLIP)
    project.run()
    one, other = project.folder / "photos" / "a.png", project.folder / "photos" / "c.png"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert project.run().computed == {"given": 3}
    assert values(project) == {"a.png": [0, 1, 2, 3], "more/b.png": [4, 5, 6, 7], "c.png": [8, 9, 10, 11]}
    assert project.run().computed == {}


def test_files_that_change_under_the_stage_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    give(project, name=NAMES, clip=CLIP)
    compute = Features.compute

    def late(self: Features, *arguments: Any) -> Any:
        (project.folder / "photos" / "a.png").write_bytes(b"other")
        return compute(self, *arguments)

    monkeypatch.setattr(Features, "compute", late)
    with pytest.raises(TouchstoneError, match=r"files in .*photos were changed while the run went on; run again"):
        project.run()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"clip": CLIP}, "has neither of 'id' and 'name'; expected one of them"),
        ({"name": NAMES, "id": NAMES, "clip": CLIP}, "has id and name of 'id' and 'name'"),
        ({"name": NAMES}, "has no array but 'name'; add one for each field"),
        ({"name": NAMES, "clip": CLIP[:2]}, r"'clip' of .* is \(2, 4\), expected 3 rows as 'name' has"),
        ({"name": NAMES, "clip": np.array(["x"] * 3)}, "'clip' of .* is of <U1, expected numbers"),
        ({"name": np.arange(3), "clip": CLIP}, r"'name' of .* is \(3,\) of int64, expected a list of texts"),
        ({"name": ["a.png", "c.png", "a.png"], "clip": CLIP}, "has 'a.png' twice in 'name', entries 0 and 2; keep one"),
        ({"name": NAMES, "clip": np.array([{}] * 3)}, "'clip' of .* is of object, expected numbers"),
    ],
)
def test_an_archive_that_cannot_be_joined_is_refused_at_planning(
    project: Project, arrays: dict[str, Any], sentence: str
) -> None:
    give(project, **arrays)
    with pytest.raises(ConfigError, match=rf"pipeline\.yaml:\d+ nodes\.given .*{sentence}"):
        project.plan()


def test_a_field_that_is_not_there_and_a_file_that_is_no_archive_are_refused(project: Project) -> None:
    give(project, name=NAMES, clip=CLIP)
    project.replace("../photos}", "../photos, fields: [clipp]}")
    with pytest.raises(ConfigError, match="has no array 'clipp', it has clip; did you mean 'clip'"):
        project.plan()
    (project.folder / "given" / "clip.npz").write_text("no archive")
    with pytest.raises(ConfigError, match=r"clip\.npz is no \.npz archive of numpy"):
        project.plan()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"name": NAMES[:2], "clip": CLIP[:2]}, r"clip\.npz has no entry for it; add one, or take these rows out"),
        ({"name": NAMES, "clip": np.full((3, 4), np.nan)}, "has values that are no finite numbers"),
        ({"name": [*NAMES[:2], "d.png"], "clip": CLIP}, r"names 'd\.png', which cannot be read in"),
        (
            {"name": [*NAMES, "more/../a.png"], "clip": CLIP[[0, 1, 2, 2]]},
            "has two entries for one picture, 'a.png' and",
        ),
        ({"id": ["a", "b", "c"], "clip": CLIP}, "'id' 0 is 'a', expected an id of 32 hexadecimal digits or a SHA-256"),
    ],
)
def test_rows_without_an_entry_and_entries_without_a_file_are_named(
    project: Project, arrays: dict[str, Any], sentence: str
) -> None:
    give(project, **arrays)
    with pytest.raises(TouchstoneError, match=sentence):
        project.run()
