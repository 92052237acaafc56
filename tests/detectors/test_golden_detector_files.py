"""Files of published detectors, in all layouts that authors use, read as data and filled by the rule of the set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GoldenDocument
from rule_weights import keras_entry, torch_entry, values_digest

from detectors.networks.keras_tensors import of_keras
from detectors.published import PUBLISHED
from stages.weights.checkpoints import read_contents
from stages.weights.detectors import fitting_detectors, misfit, network_shapes, read_detector, read_tensor, state_dicts
from stages.weights.weights_file import WeightsError


def shapes_of(detector: str, path: Path) -> dict[str, tuple[int, ...]]:
    """Those of the network, whose sizes the file may tell."""
    return network_shapes(detector, state_dicts(path)[0].shapes)


def files(golden: GoldenDocument, expect: str, known: bool = True) -> list[tuple[Path, dict[str, Any]]]:
    """Entries that are at hand, with `expect` at the beginning of what is expected of them."""
    folder = golden.path.parent / "containers"
    found = [
        (folder / entry["file"], entry)
        for entry in golden["files"]
        if entry.get("expect", "").startswith(expect)
        and (entry.get("detector") in PUBLISHED) == known
        and (folder / entry["file"]).exists()
    ]
    assert found
    return found


@pytest.mark.golden("detectors", "*.json", keys="files")
def test_state_dicts_are_found_wherever_they_lie(golden: GoldenDocument) -> None:
    seed = golden["rule_seed"]
    for path, entry in files(golden, "load"):
        if "format" not in entry or ("tensor" in entry.get("note", "") and "path" not in entry):
            continue  # HDF5, or a tensor alone
        state = read_detector(path, shapes_of(entry["detector"], path), entry["detector"])
        assert (state.path, state.prefix) == (entry["path"], entry["prefix"]), path.name
        rule = {name: torch_entry(seed, name, value.shape) for name, value in state.tensors.items()}
        if "values_sha256" in entry:
            assert values_digest(state.tensors) == entry["values_sha256"] == values_digest(rule)
        else:  # stored in half precision
            assert "float16" in entry["note"]
            halved = {n: v.astype(np.float16).astype(np.float32) if v.dtype.kind == "f" else v for n, v in rule.items()}
            assert values_digest(state.tensors) == values_digest(halved)
        assert set(entry.get("extras", ())) <= extras(path)


def extras(path: Path) -> set[str]:
    contents = read_contents(path)
    return {*contents.networks, *contents.extra, *contents.ignored}


@pytest.mark.golden("detectors", "*.json", keys="files")
def test_files_that_do_not_fit_are_refused(golden: GoldenDocument) -> None:
    sentences = {
        "missing": "lacks 'bn1.running_var'",
        "too many": "which the network has not",
        "1,32": "of shape (1, 32)",
    }
    for path, entry in files(golden, "refuse"):
        with pytest.raises(WeightsError) as caught:
            read_detector(path, shapes_of(entry["detector"], path), entry["detector"])
        said = [sentence for note, sentence in sentences.items() if note in entry["note"]]
        assert said
        assert said[0] in str(caught.value)


@pytest.mark.golden("detectors", "*.json", keys="files")
def test_damaged_files_and_code_are_refused_and_nothing_runs(
    golden: GoldenDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path, entry in files(golden, "refuse", known=False):
        with pytest.raises(WeightsError) as caught:
            state_dicts(path)
        assert str(caught.value).startswith(str(path)), entry
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.golden("detectors", "*.json", keys="files")
def test_files_of_keras_are_read_by_name(golden: GoldenDocument) -> None:
    seed = golden["rule_seed"]
    names = {"mesoinception4": "", "gandct, model cnn_1": "cnn_1/"}
    for path, entry in [*files(golden, "load"), *files(golden, "load", known=False)]:
        if entry["detector"] not in names:
            continue
        (state,) = state_dicts(path)
        stored = dict(golden_keys(golden, entry["detector"]))
        rule = of_keras({n: keras_entry(seed, n, shape, names[entry["detector"]]) for n, shape in stored.items()})
        assert values_digest(state.tensors) == values_digest(rule)


def golden_keys(golden: GoldenDocument, detector: str) -> dict[str, list[int]]:
    """Shapes of a detector's tensors, from its own file of the same set."""
    name, _, model = detector.partition(", model ")
    for path in golden.path.parent.glob("*.json"):
        content = GoldenDocument(path)
        if "detector" in content.content and content["detector"] == name:
            found: dict[str, list[int]] = content["models"][model]["keys"] if model else content["keys"]
            return found
    raise AssertionError(f"no file of {detector}")


def saved(content: Any, path: Path, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_containers_that_a_training_writes_are_read(zipped: bool, tmp_path: Path) -> None:
    network = PUBLISHED["npr"].build({})
    network(torch.rand(4, 3, 32, 32)).sum().backward()
    optimizer = torch.optim.Adam(network.parameters())
    optimizer.step()
    state = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    wrapped = {f"module.{name}": value for name, value in state.items()}
    layouts = {
        "": (state, ""),
        "model": ({"model": state, "optimizer": optimizer.state_dict(), "total_steps": 7}, ""),
        "netC": ({"netC": wrapped, "optimizerC": {}, "epoch": 3}, "module."),
        "state_dict": ({"state_dict": state, "scheduler": {"best": 0.5}, "epoch": 7, "best_val_metric": 0.8}, ""),
    }
    for name, (content, prefix) in layouts.items():
        found = read_detector(saved(content, tmp_path / "some.pth", zipped), shapes, "NPR")
        assert (found.path, found.prefix) == (name, prefix)
        assert values_digest(found.tensors) == values_digest({n: v.numpy() for n, v in state.items()})


def test_every_network_is_listed_that_has_a_files_tensors() -> None:
    shapes = network_shapes("cnndetection", {})
    alike = {"cnndetection", "dire_classifier", "grip_nodown", "fredect_aigcdetect"}
    assert set(fitting_detectors(shapes)) == alike
    assert fitting_detectors({"weight": (1, 512), "bias": (1,)}) == ["univfd_head"]
    assert fitting_detectors({"weight": (1, 512)}) == []
    assert misfit(shapes | {"fc.bias": (2,)}, shapes) == "has 'fc.bias' of shape (2,), expected (1,)"


def test_two_dictionaries_that_fit_are_not_chosen_from(tmp_path: Path) -> None:
    head = {"weight": torch.ones(1, 4), "bias": torch.zeros(1)}
    path = saved({"model": head, "average": head}, tmp_path / "two.pth", True)
    with pytest.raises(WeightsError, match=r"several state dicts that fit a head \('model', 'average'\)"):
        read_detector(path, {"weight": (1, 4), "bias": (1,)}, "a head")


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = saved({"weight": torch.full((1, 4), torch.nan), "bias": torch.zeros(1)}, tmp_path / "nan.pth", True)
    with pytest.raises(WeightsError, match="values in 'weight' that are no finite numbers"):
        read_detector(path, {"weight": (1, 4), "bias": (1,)}, "a head")


def test_a_tensor_alone_is_read(tmp_path: Path) -> None:
    path = saved(torch.arange(6.0, dtype=torch.float64).reshape(1, 2, 3), tmp_path / "dct_mean", True)
    assert np.array_equal(read_tensor(path), np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    with pytest.raises(WeightsError, match="expected one tensor"):
        read_tensor(saved({"a": torch.ones(1)}, path, True))
