"""What looks at pictures block by block waits for a GPU at the end of a block only: counted without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import small_config
from launches import GPU, Launches, begun, on_a_gpu
from memory_rows import rows_of
from torch import Tensor, nn

from detectors import cells, cnn, composed, heat_maps, published_family
from detectors.contract import State
from pipeline.stage import PICTURE, FitContext
from stages import invert, strata
from stages.faces import cascade
from stages.faces.mtcnn import NETWORKS
from stages.generators import discriminator_file
from stages.generators.shift_training import Shifting
from stages.resynthesis import lpips, perceptual
from stages.segmentation import bisenet
from stages.training.networks import in_micro_batches

WEIGHTS = Path(__file__).parents[1] / "manifests" / "weights"
PICTURES = np.zeros((3, 16, 16, 3), np.uint8)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    with on_a_gpu(monkeypatch) as counted:
        yield counted


def without_values(make: Any) -> Any:
    with torch.device(GPU):
        return make().eval().requires_grad_(False)


@pytest.mark.stress
def test_classes_of_pixels_are_fetched_without_waiting(gpu: Launches) -> None:
    network = without_values(bisenet.BiSeNet)
    for _ in range(2):
        gpu.forget()  # of the first time, when constants are copied
        found = in_micro_batches(
            lambda rows: bisenet.parsed(network, rows["image"], GPU, side=32), {"image": PICTURES}, 2
        )
    assert found.shape == (3, 32, 32)
    assert not gpu.waits


class Looking(nn.Module):
    """A network with maps."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 3)

    def maps(self, rows: Tensor) -> Tensor:
        return self.convolution(rows.movedim(3, 1).float())  # type: ignore[no-any-return]

    def forward(self, rows: Tensor) -> Tensor:
        return self.maps(rows).mean(dim=(2, 3)).sum(dim=1, keepdim=True)


def test_heat_maps_are_fetched_without_waiting(gpu: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    given, state = (
        cnn.composed(small_config(normalization="pixels")),
        State({}, {"shape": [16, 16, 3], "axes": PICTURE}),
    )
    whole = nn.Sequential()
    whole.network = without_values(Looking)
    whole.forward = whole.network.forward  # type: ignore[method-assign]
    monkeypatch.setattr(composed, "loaded", lambda *some: whole)
    monkeypatch.setattr(heat_maps, "check_places", lambda *some: None)
    found = heat_maps.of_rows(given.model_copy(update={"micro_batch": 2}), state, PICTURES, GPU)
    assert found.shape == (3, 14, 14)
    assert not gpu.waits


def test_what_cells_say_is_fetched_without_waiting(gpu: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_family, "network_of", lambda *some: lambda x: x.movedim(3, 1)[:, :2])
    given = SimpleNamespace(family="published", preprocessing=None)
    assert cells.probabilities(given, State({}, {}), PICTURES, GPU).shape == (3, 16, 16)
    assert not gpu.waits


def test_vectors_of_pictures_are_fetched_block_by_block(gpu: Launches) -> None:
    path = WEIGHTS / "perceptual-small.safetensors"
    perceptual.load(path, GPU)
    gpu.forget()
    context = FitContext(0, "strata", GPU, 1)
    found = strata._vectors(rows_of("photos", 0, {"image": PICTURES}), np.arange(3), path, context)
    assert len(found) == 3
    assert not gpu.waits


def test_scores_of_a_discriminator_are_fetched_without_waiting(gpu: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    class Judge(nn.Conv2d):
        def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            return super().forward(x)

    monkeypatch.setattr(discriminator_file, "_load", lambda path: without_values(lambda: Judge(3, 1, 16)))
    score = discriminator_file.scorer(Path("d.safetensors"), GPU)
    assert [one.array().shape for one in [score(pixels) for pixels in PICTURES]] == [()] * 3
    assert not gpu.waits


def test_faces_are_fetched_once_for_each_network(gpu: Launches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "THRESHOLDS", (-1.0, -1.0, -1.0))
    networks = {name: without_values(make) for name, make in NETWORKS.items()}
    found = cascade.detect(np.zeros((36, 40, 3), np.uint8), networks, GPU)
    assert len(found.boxes)  # all three have run
    assert not gpu.waits


def test_a_descent_waits_for_its_images_alone(gpu: Launches) -> None:
    class Generator:
        device = GPU

        def __call__(self, z: Tensor) -> Tensor:
            return z[:, :3, None, None].expand(-1, -1, 16, 16)

        def pixels(self, made: Tensor) -> np.ndarray[Any, Any]:
            return np.zeros((len(made), 16, 16, 3), np.uint8)

    settings = {"checkpoint": "g", "steps": 2, "starts": 2, "perceptual_weight": 0.0}
    numbers = [(name, "f4") for name in ("loss", "distance", "psnr")]
    flags = [("steps", "i4"), ("in_range", "?")]
    kinds = np.dtype([("image", "u1", (16, 16, 3)), ("latent", "f4", (4,)), *numbers, *flags])
    config = invert.InvertConfig.model_validate(settings)
    given: Any = Generator()
    found = invert._inverted(config, given, None, PICTURES, np.zeros((3, 2, 4), np.float32), kinds)
    assert found["latent"].shape == (3, 4)
    assert not gpu.waits


def test_a_step_of_a_latent_shift_waits_once(gpu: Launches) -> None:
    class Generate:
        z_dim = 4

        def __call__(self, z: Tensor, shift: Any = None) -> Tensor:
            return z if shift is None else z - shift.vector

    game = Shifting(
        Generate(), lambda images: images[:, :1], lambda one, other: (one - other).square().mean(dim=1),
        space="z", size=4, weight=1.0, rate=0.1, batch=2, random=torch.Generator(),
    )  # fmt: skip
    game.device, game.shift = torch.device(GPU), game.shift.to(GPU)
    game.optimizer = torch.optim.Adam(game.shift.parameters(), lr=0.1)
    begun(game.optimizer)
    gpu.forget()
    game.step(0)
    assert gpu.waits == {"detectors/transfers.py:told": 1}


def test_constants_of_a_distance_are_copied_once(gpu: Launches) -> None:
    kind = lpips.Kind("small", lambda: [nn.Conv2d(3, 2, 3)], (1,), (2,), 3)
    features = without_values(lambda: lpips.Features(kind))
    distance = lpips.Lpips(features, [torch.ones(2, device=GPU)], kind)
    images = torch.zeros((2, 3, 8, 8), device=GPU, requires_grad=True)
    for _ in range(2):
        gpu.forget()
        distance(images, images.detach()).sum().backward()  # type: ignore[no-untyped-call]
    assert not gpu.waits
