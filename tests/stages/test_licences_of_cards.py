"""What manifests say of licences stands in the card of a detector, and a card is never that of other words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from predicted_project import artifact, photo
from toy_project import Project

PIPELINE = """
nodes:
  photos: {stage: ingest, manifest: rows.csv}
  images: {stage: equalize, of: photos, size: 16}
  spectra: {stage: spectrum, of: images, features: [profile]}
  svm: {stage: train, on: spectra, detector: profile-svm}
"""


def write(folder: Path, licence: str) -> None:
    rows = [
        f"{number}.png,{('real', 'fake')[number % 2]},{('train', 'val')[number // 2 % 2]},{licence}"
        for number in range(16)
    ]
    (folder / "rows.csv").write_text("\n".join(["file,label,split,licence", *rows]) + "\n")


def test_another_licence_gives_another_card_and_the_same_one_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(16):
        (tmp_path / f"{number}.png").write_bytes(photo(number))
    project = Project(tmp_path, monkeypatch, PIPELINE)
    for licence, computed in (("CC0", 1), ("CC-BY-NC-4.0", 1), ("", 1), ("CC0", 0)):
        write(tmp_path, licence)
        assert project.run().computed.get("svm", 0) == computed
        (told,) = json.loads((artifact(project, "svm") / "card.json").read_text())["licences"]
        assert (licence or "not stated") in told


def test_each_of_two_sources_states_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are read by one recipe."""
    for number in range(16):
        (tmp_path / f"{number}.png").write_bytes(photo(number))
    one, other = "  photos: {stage: ingest, manifest: rows.csv}\n", "  fakes: {stage: ingest, manifest: fakes.csv}\n"
    project = Project(
        tmp_path, monkeypatch, PIPELINE.replace(one, one + other).replace("of: photos", "of: [photos, fakes]")
    )
    for licence, computed in (("CC0", 1), ("PROPRIETARY", 1), ("CC0", 0)):
        write(tmp_path, "MIT")
        lines = (tmp_path / "rows.csv").read_text().splitlines()
        for name, chosen in (("rows.csv", "real"), ("fakes.csv", "fake")):
            text = "\n".join([lines[0], *(line for line in lines if f",{chosen}," in line)]) + "\n"
            (tmp_path / name).write_text(text.replace("MIT", "MIT" if chosen == "real" else licence))
        assert project.run().computed.get("svm", 0) == computed
        told = json.loads((artifact(project, "svm") / "card.json").read_text())["licences"]
        assert told == [f"ingest: {one} 8" for one in sorted((licence, "MIT"))]
