"""A published detector whose entry names two more files: FreDect, spectra standardized by moments of its authors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rule_weights import torch_entry
from scipy.fft import dctn

from detectors import published_family
from detectors.published import PUBLISHED
from pipeline.errors import StageError
from stages.training.pretrained import check_files, detector_of, read_weights

SIDE = 32
FACTS: dict[str, Any] = {
    "network": "small",
    "paper": "p",
    "repository": "r",
    "licence": "l",
    "released_as": "f",
    "page": "p",
    "preprocessing": {"resize": 36, "crop": SIDE},
    "micro_batch": 2,
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """The same with a smaller network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PUBLISHED, "small", replace(PUBLISHED["fredect_aigcdetect"], arguments={"depth": 18, "width": 8}))
        yield


@pytest.fixture(scope="module")
def folder(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights by rule, and moments of random numbers, as bare tensors."""
    made, random = tmp_path_factory.mktemp("fredect"), np.random.default_rng(3)
    network = PUBLISHED["small"].make({})
    state = {
        name: torch.from_numpy(np.asarray(torch_entry("seed", name, list(one.shape))))
        for name, one in network.state_dict().items()
    }
    torch.save({"netC": state}, made / "fredect.pth")
    torch.save(torch.from_numpy(random.normal(0, 2, (3, SIDE, SIDE)).astype(np.float32)), made / "dct_mean")
    torch.save(torch.from_numpy(random.uniform(1, 3, (3, SIDE, SIDE)).astype(np.float32)), made / "dct_var")
    return made


def config(folder: Path, **changes: Any) -> Any:
    moments = {
        name: {"file": file, "sha256": digest(folder / file)} | changes.get(name, {})
        for name, file in (("mean", "dct_mean"), ("variance", "dct_var"))
    }
    return detector_of("mine.yaml#one", {**FACTS, "moments": moments, **changes.get("facts", {})})


def test_spectra_are_standardized_by_the_named_files(folder: Path) -> None:
    made = config(folder)
    check_files(made, folder / "fredect.pth")
    state = read_weights(made, folder / "fredect.pth")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    found = published_family.decision(made, state, pictures)

    mean, variance = (torch.load(folder / name).numpy() for name in ("dct_mean", "dct_var"))
    inputs = []
    for picture in pictures:
        smaller = Image.fromarray(picture).resize((43, 36), Image.Resampling.BILINEAR)
        middle = np.asarray(smaller)[2:34, 6:38].transpose(2, 0, 1).astype(np.float64)
        logarithms = np.log(np.abs(dctn(middle, axes=(1, 2), norm="ortho")) + 1e-12)
        inputs.append((logarithms - mean) / np.sqrt(variance))
    network = PUBLISHED["small"].make({})
    network.load_state_dict(torch.load(folder / "fredect.pth")["netC"])
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(np.stack(inputs)).float())[:, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 1e-2
    names = published_family.shapes(made, None, json.loads(json.dumps(dict(state.plain))))
    assert set(names) == set(state.tensors)


def test_moments_of_another_size_than_the_crop_are_refused(folder: Path) -> None:
    made = config(folder, facts={"preprocessing": {"resize": 40, "crop": 40}})
    state = read_weights(made, folder / "fredect.pth")
    with pytest.raises(ValueError, match=r"spectra of small are \(3, 40, 40\), but their moments \(3, 32, 32"):
        published_family.decision(made, state, np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"mean": {"file": "lost"}},
            r"lost is not a file; .* two more files of its authors \(lost, dct_var\), which lie",
        ),
        (
            {"variance": {"sha256": None}},
            r"lacks the 'sha256' of dct_var; if .*dct_var is the right file, add 'sha256: ",
        ),
        ({"mean": {"sha256": "0" * 64}}, r"dct_mean has the SHA-256 .*, but its entry says 000000000000...; get the"),
        ({"mean": {"file": "../dct_mean"}}, r"'moments.mean.file' is '\.\./dct_mean'; String should match pattern"),
        ({"facts": {"moments": None}}, "'moments' go with the cosine spectrum and with nothing else"),
        ({"facts": {"network": "cnndetection", "preprocessing": None}}, "'moments' go with the cosine spectrum"),
    ],
)
def test_files_that_are_not_those_of_the_entry_are_refused(folder: Path, changes: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        check_files(config(folder, **changes), folder / "fredect.pth")
    assert "\n" not in str(caught.value)


def test_variances_that_cannot_be_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("fredect.pth", "dct_mean"):
        (tmp_path / name).symlink_to(folder / name)
    torch.save(torch.zeros(3, SIDE, SIDE), tmp_path / "dct_var")
    with pytest.raises(StageError, match="dct_var has variances of 0 or less"):
        read_weights(config(tmp_path), tmp_path / "fredect.pth")
