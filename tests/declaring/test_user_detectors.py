"""A detector family of a user's: found beside the pipeline file, followed in recipes, refused in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_page import detector_project

from detectors import FAMILIES
from detectors.choosing import module_name
from pipeline.declaring.config import load_pipeline
from pipeline.errors import ConfigError, StageError
from pipeline.inputs.scan import Scan
from pipeline.open import open_node
from pipeline.planning.plan import make_plan
from pipeline.running.run import run
from pipeline.storage.store import Store
from stages.evaluation.detector_file import load_detector

MODULE = "nearest_mean"
DECISION = "    return real - fake\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    yield detector_project(tmp_path)
    sys.modules.pop(MODULE, None)
    sys.modules.pop("distances_of_mine", None)


def edit(file: Path, old: str, new: str) -> None:
    module = file.parent / f"{MODULE}.py"
    text = module.read_text()
    assert old in text
    module.write_text(text.replace(old, new))
    sys.modules.pop(MODULE, None)  # as a new process would have it


def planned(file: Path) -> Any:
    pipeline = load_pipeline(file)
    return make_plan(pipeline, Store(file.parent / "store"), Scan(pipeline.base, None)).artifacts


def keys(file: Path) -> dict[str, str]:
    return {name: one.key for name, one in planned(file).items()}


def test_an_edit_trains_again_and_a_comment_does_not(project: Path) -> None:
    with project.open("a") as file:
        file.write("  other: {stage: train, on: spectra, detector: profile-svm}\n")
    before = keys(project)
    assert planned(project)["mine"].recipe.components["code"].keys() & {MODULE, "detectors.svm"} == {MODULE}
    edit(project, DECISION, DECISION.replace("\n", "  # further from the reals\n"))
    assert keys(project) == before
    edit(project, "real - fake  #", "2 * (real - fake)  #")
    after = keys(project)
    assert {name for name in before if before[name] != after[name]} == {"mine", "table"}


def test_what_the_module_imports_is_followed(project: Path) -> None:
    helper = project.parent / "distances_of_mine.py"
    helper.write_text("WEIGHT = 1.0\n")
    edit(project, "import numpy as np\n", "import numpy as np\nfrom distances_of_mine import WEIGHT\n")
    edit(project, DECISION, "    return WEIGHT * (real - fake)\n")
    before = keys(project)
    helper.write_text("WEIGHT = 2.0\n")
    sys.modules.pop(MODULE, None)
    sys.modules.pop("distances_of_mine", None)
    assert keys(project)["mine"] != before["mine"]


def test_imports_by_name_are_refused_as_in_a_stage(project: Path) -> None:
    edit(project, "import numpy as np\n", "import importlib\nimport numpy as np\n")
    edit(project, DECISION, "    return importlib.import_module('math').pi * (real - fake)\n")
    with pytest.raises(StageError, match=r"nearest_mean\.py:\d+ uses importlib.import_module, and edits of"):
        planned(project)


def test_a_fusion_has_it_as_a_member_and_its_card_is_read_again(project: Path) -> None:
    with project.open("a") as file:
        file.write("  other: {stage: train, on: spectra, detector: profile-svm}\n")
        file.write("  both: {stage: train, on: spectra, members: [mine, other], detector: fusion}\n")
    run(load_pipeline(project), ["both"], 1)
    found = {name: load_detector(one.found.path) for name, one in planned(project).items() if one.found}
    rows = open_node(project, "spectra")
    mean = (found["mine"](rows).astype(np.float64) + found["other"](rows)) / 2
    state: Any = found["both"].card["state"]
    assert [card["family"] for card in state["members"]] == [MODULE, "svm"]
    expected = 1 / (1 + np.exp(-(state["slope"] * mean + state["intercept"])))
    np.testing.assert_allclose(found["both"](rows), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def score(", "def scored(", "'nearest_mean' is no detector family: the module has no score"),
        ("NUMBERS =", "OTHERS =", "has no NUMBERS .*writing_a_detector.md says what a family has"),
        (
            "class Config(DetectorConfig):",
            "class Config:",
            "'nearest_mean' is no detector family: its Config is no",
        ),
        (
            "import numpy as np\n",
            "import nothing_of_the_kind\n",
            "cannot be imported as a detector family: No module",
        ),
        ("def fit(", "def fit((", r"nearest_mean\.py:\d+ is no valid Python"),
        ("gt=0", "gt=5", "detector family 'nearest_mean': 'power' is 1.0; expected greater than 5"),
    ],
)
def test_a_module_that_is_no_family_is_one_sentence(old: str, new: str, sentence: str, project: Path) -> None:
    edit(project, old, new)
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_pipeline(project)
    assert str(caught.value).startswith("pipeline.yaml:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["os", "numpy", "pipeline.errors", "stages", "detectors.svm", "", "../x", "svn"])
def test_no_other_module_is_a_family(name: str) -> None:
    with pytest.raises(ValueError, match=f"is no detector family; expected one of {', '.join(FAMILIES)}, or a module"):
        module_name(name)


def test_a_card_runs_no_module_that_is_no_family(project: Path) -> None:
    """A file from elsewhere may name any module beside the pipeline file: it is read, and refused, not run."""
    load_pipeline(project)
    (project.parent / "cleanup_of_mine.py").write_text("raise SystemExit('this must not run')\n")
    folder = project.parent / "pinned"
    folder.mkdir()
    config = {"family": "cleanup_of_mine", "feature": "profile"}
    card = {
        "format": 1, "detector": "x", "family": "cleanup_of_mine", "config": config, "state": {}, "trained_on": [],
        "counts": {}, "threshold": 0.5, "threshold_rule": "", "validation": {},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(StageError, match="'cleanup_of_mine' is no detector family: the module has no Config and no N"):
        load_detector(folder)
