"""LPIPS from files as they are published, against torchvision's layers and a sum place by place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from stages.invert import InvertConfig
from stages.latent_shift import LatentShift, LatentShiftConfig
from stages.resynthesis import lpips
from stages.resynthesis.perceptual_distance import distance_of
from stages.weights.weights_file import WeightsError

ENDS = {"alexnet": (2, 5, 8, 10, 12), "vgg16": (4, 9, 16, 23, 30), "squeezenet1_1": (2, 5, 8, 10, 11, 12, 13)}
"""Layers of torchvision's `features` behind which the package lpips looks."""

SIZES = {
    "alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512),
    "squeezenet1_1": (64, 128, 256, 384, 384, 512, 512),
}  # fmt: skip


def features_of(name: str) -> Any:
    """torchvision's layers with random values, as the published files hold them, without the classifier."""
    with torch.device("meta"):
        features = getattr(torchvision.models, name)().features
    made, random = features.to_empty(device="cpu"), torch.Generator().manual_seed(3)
    for tensor in made.parameters():
        tensor.data.normal_(0, (2 / max(tensor[0].numel(), 1)) ** 0.5, generator=random)
    return made.eval().requires_grad_(False)


def files_of(name: str, folder: Path, features: Any = None) -> tuple[Path, Path, list[np.ndarray[Any, Any]]]:
    """The network, its heads, and the heads' values."""
    random = np.random.default_rng(4)
    heads = [random.exponential(size=size).astype(np.float32) * (random.random(size) > 0.3) for size in SIZES[name]]
    state = {
        f"lin{number}.model.1.weight": torch.from_numpy(one)[None, :, None, None] for number, one in enumerate(heads)
    }
    torch.save(state, folder / "heads.pth", _use_new_zipfile_serialization=False)
    if features is not None:
        tensors = {f"features.{key}": value for key, value in features.state_dict().items()}
        tensors["classifier.1.weight"] = torch.zeros(2, 3)
        torch.save(tensors, folder / "network.pth", _use_new_zipfile_serialization=False)
    return folder / "network.pth", folder / "heads.pth", heads


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1"])
def test_the_distance_is_that_of_the_formula_place_by_place(name: str, tmp_path: Path) -> None:
    features = features_of(name)
    network, path, heads = files_of(name, tmp_path, features)
    images = torch.rand((2, 2, 3, 35, 40), generator=torch.Generator().manual_seed(5)) * 2 - 1
    images[1, 0, :, :16] = images[0, 0, :, :16]
    found = distance_of(network, "cpu", path)(images[0], images[1])
    wanted = np.zeros(2)
    seen = []
    for pair in images:
        x = (pair - torch.tensor([-0.03, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.45])[
            :, None, None
        ]
        seen.append([(x := layer(x)).double().numpy().copy() for layer in features[: ENDS[name][-1]]])
    for head, end in zip(heads, ENDS[name], strict=True):
        one, other = (maps[end - 1] for maps in seen)
        for row, channels in enumerate(one):
            places = list(np.ndindex(channels.shape[1:]))
            for place in places:
                units = [maps[row][:, *place] / (np.linalg.norm(maps[row][:, *place]) + 1e-10) for maps in (one, other)]
                wanted[row] += head @ (units[0] - units[1]) ** 2 / len(places)
    assert found.numpy() == pytest.approx(wanted, rel=1e-4)
    moved = images[1].clone().requires_grad_()
    distance_of(network, "cpu", path)(images[1], moved).sum().backward()  # of equal images: slopes are numbers, too
    assert moved.grad is not None
    assert torch.equal(moved.grad, torch.zeros_like(moved))


def test_slopes_are_numbers_where_a_place_has_no_features() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0]])[:, :, None, None].requires_grad_()
    scaled = lpips._of_unit_length(features)
    assert scaled.flatten(1).tolist() == [pytest.approx([0, 0]), pytest.approx([0.6, 0.8])]
    scaled.sum().backward()
    assert features.grad is not None
    assert bool(features.grad.isfinite().all())


@pytest.mark.parametrize("name", ENDS)
def test_layers_are_torchvisions(name: str) -> None:
    (kind,) = (kind for kind in lpips.KINDS if kind.ends == ENDS[name])
    assert kind.channels == SIZES[name]
    with torch.device("meta"):
        theirs, ours = getattr(torchvision.models, name)().features[: kind.ends[-1]], lpips.Features(kind).features
    assert {key: value.shape for key, value in theirs.state_dict().items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }
    for one, other in zip(theirs, ours, strict=True):
        for setting in ("kernel_size", "stride", "padding", "ceil_mode"):
            values = [np.broadcast_to(getattr(layer, setting, 0), 2).tolist() for layer in (one, other)]
            assert values[0] == values[1]


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    network, heads, _ = files_of("alexnet", tmp_path)
    torch.save({"features.0.weight": torch.zeros(64, 3, 5, 5)}, network)
    with pytest.raises(WeightsError, match=r"network of heads for AlexNet, does not fit its network: it lacks"):
        lpips.load(network, heads, "cpu")
    for state, sentence in (
        ({"conv.weight": torch.ones(1)}, "holds no heads of LPIPS: it has conv.weight; expected lin0"),
        ({"lin0.model.1.weight": torch.ones(1, 9, 1, 1)}, r"has heads of 9 channels; expected 64, 192, .* \(AlexNet\)"),
        ({"lin1.model.1.weight": torch.ones(1, 9, 1, 1)}, "lin0.model.1.weight is absent; expected"),
        ({"lin0.model.1.weight": -torch.ones(1, 9, 1, 1)}, "values that are no weights of LPIPS, 0 or more"),
    ):
        torch.save(state, heads)
        with pytest.raises(WeightsError, match=sentence):
            lpips.load(network, heads, "cpu")
    heads.write_text("<html>")
    with pytest.raises(WeightsError, match=r"heads\.pth is an HTML or XML page"):
        lpips.load(network, heads, "cpu")
    small = lpips.Lpips(None, [], lpips.KINDS[0])  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="LPIPS of AlexNet needs images of 31 pixels or more, these have 16"):
        small(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))


def test_heads_choose_lpips_and_enter_the_code_that_counts() -> None:
    config = LatentShiftConfig.model_validate({"checkpoint": "g", "heads": "h.pth", "perceptual": "n.pth"})
    files = {"checkpoint": Path("manifests/weights/progan-small-raw.safetensors"), "perceptual": Path("n.pth"),
             "heads": Path("h.pth")}  # fmt: skip
    assert "stages.resynthesis.lpips" in LatentShift().modules(config, files)
    with pytest.raises(ValueError, match="heads are given without their network; name its file as perceptual"):
        InvertConfig.model_validate({"checkpoint": "g", "heads": "h.pth"})
    with pytest.raises(ValueError, match="heads has no effect with distance squared; drop it"):
        LatentShiftConfig.model_validate({"checkpoint": "g", "distance": "squared", "heads": "h.pth"})
    with pytest.raises(ValueError, match="heads has no effect with perceptual_weight: 0; drop it"):
        InvertConfig.model_validate({"checkpoint": "g", "perceptual_weight": 0, "heads": "h.pth"})
    assert InvertConfig.model_validate({"checkpoint": "g"}).perceptual == "manifests/networks.yaml#perceptual-small"
