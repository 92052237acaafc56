"""`predict`: the scores of `evaluate`, in another process and place, and what is said besides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from predicted_project import KINDS, artifact, exported, predicted_project
from toy_project import Project, touchstone


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = predicted_project(tmp_path_factory.mktemp("predicted"), patch)
        made.run()
        yield made


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_the_evaluation_to_the_bit(project: Project, name: str, tmp_path: Path) -> None:
    expected = exported(project, f"{name}_table", tmp_path / "images")
    assert len(expected) > 5
    model = Path(shutil.copytree(artifact(project, name), tmp_path / "model"))
    said = touchstone(project, "predict", str(model), str(tmp_path / "images"), "--no-band", "--json")
    assert said.returncode == 0, said.stderr
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    found = {Path(line["file"]).name: line["score"] for line in lines}
    assert found == expected
