"""Files of a detector that are damaged, of another kind or of other shapes: one sentence each, never a wrong score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from training_rows import CNN, fit, rows

from detectors import prnu, threshold
from detectors.contract import State, misfit
from pipeline.errors import StageError
from stages.evaluation.detector_file import load_detector
from stages.training.progress import unpack


def changed_card(out: Path, **entries: Any) -> None:
    card = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps({**card, **entries}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "card.json is not readable as JSON"),
        (b'{"format": 1', "card.json is not readable as JSON"),
        (b"\xff\xfe", "card.json is not readable as JSON"),
        (b"[" * 100_000, "card.json is not readable as JSON"),
        (b"[1]", "card.json is a JSON list, expected an object"),
        (b"{}", "card has format None, this version reads 1"),
        (b'{"format": 1, "detector": 3}', "no detector card: its 'detector' is 3; train again"),
    ],
)
def test_a_card_that_is_none_is_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    out = fit(tmp_path, rows())
    (out / "card.json").write_bytes(content)
    with pytest.raises(StageError, match=sentence) as caught:
        load_detector(out)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"threshold": "high"}, "its 'threshold' is 'high'; train again"),
        ({"config": []}, "its 'config' is a list"),
        ({"state": None}, "its 'state' is None"),
        ({"feature_shape": "64"}, "its 'feature_shape' is '64'"),
        ({"state": {}}, "does not fit its card: its 'slope' is None, expected a finite number; train again$"),
        ({"state": {"slope": 1.0, "intercept": math.nan, "gamma": 1.0}}, "its 'intercept' is nan, expected a finite"),
        ({"state": {"slope": 1.0, "intercept": True, "gamma": 1.0}}, "its 'intercept' is True, expected a finite"),
    ],
)
def test_a_card_with_entries_of_another_kind_is_one_sentence(
    entries: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    out = fit(tmp_path, rows())
    changed_card(out, **entries)
    with pytest.raises(StageError, match=sentence):
        load_detector(out)


def other_shapes(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Variants of one tensor that no fit writes."""
    longer = np.concatenate([array.reshape(-1), array.reshape(-1)[:1]]) if array.size else array
    return {"flat and longer": longer, "one axis more": array[None], "not finite": np.full_like(array, np.nan)}


@pytest.mark.parametrize("detector", ["profile-svm", "profile-logistic", CNN])
def test_tensors_that_do_not_fit_the_card_are_refused_by_name(detector: Any, tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), detector)
    whole = load_file(out / "model.safetensors")
    load_detector(out)
    for name in whole:
        variants = other_shapes(name, whole[name]) if whole[name].dtype.kind == "f" else {}
        for changed in variants.values():
            save_file({**whole, name: np.ascontiguousarray(changed)}, out / "model.safetensors")
            with pytest.raises(StageError, match=f"does not fit its card: its tensor '{name}'.*; train again"):
                load_detector(out)
    save_file({"other": np.zeros(1)}, out / "model.safetensors")
    with pytest.raises(StageError, match=f"its tensors are other, expected {', '.join(sorted(whole))}; train again"):
        load_detector(out)
    (out / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(StageError, match="its tensors are none, expected"):
        load_detector(out)
    (out / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(StageError, match="is no whole safetensors file"):
        load_detector(out)


def test_a_support_vector_machine_must_have_as_many_coefficients_as_vectors(tmp_path: Path) -> None:
    out = fit(tmp_path, rows())
    whole = load_file(out / "model.safetensors")
    count, length = whole["support"].shape
    save_file({**whole, "coefficient": whole["coefficient"][:-1].copy()}, out / "model.safetensors")
    with pytest.raises(StageError, match=rf"'coefficient' is \({count - 1},\), expected \({count},\)"):
        load_detector(out)
    save_file({**whole, "support": whole["support"][:, :-1].copy()}, out / "model.safetensors")
    with pytest.raises(StageError, match=rf"'support' is \({count}, {length - 1}\), expected \('?\w+'?, {length}\)"):
        load_detector(out)


def test_a_network_is_of_the_shape_that_its_card_names(tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), CNN)
    state = json.loads((out / "card.json").read_text())["state"]
    for shape, found in (([4, 4], r"\[4, 4\]"), ("wide", "wide"), ([-1, 3], r"\[-1, 3\]"), (None, "None")):
        changed_card(out, state={**state, "shape": shape})
        with pytest.raises(StageError, match=f"its 'shape' is {found}, expected (that|sides) of "):
            load_detector(out)


def test_damaged_progress_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "progress.safetensors"
    for content in (b"", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(StageError, match=r"progress of a training in .* is damaged .*; remove the file, and"):
            unpack(path)


def test_sides_that_a_family_does_not_know_are_compared_with_each_other() -> None:
    numbers = {"slope": 1.0, "intercept": 0.0}
    config = prnu.Config()
    one, other = np.zeros((4, 6), np.float32), np.zeros((4, 5), np.float32)
    for feature, sentence in ((None, ""), ((4, 6), ""), ((8, 8), "its tensor 'real' is (4, 6), expected (8, 8)")):
        assert misfit(State({"real": one, "fake": one}, numbers), prnu.shapes(config, feature, {}), numbers) == sentence
    found = misfit(State({"real": one, "fake": other}, numbers), prnu.shapes(config, None, {}), numbers)
    assert found == "its tensor 'fake' is (4, 5), expected (4, 6)"
    assert misfit(State({}, numbers), threshold.shapes(threshold.Config(), (), {}), numbers) == ""
