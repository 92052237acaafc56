"""Augmentation against slow loops with the same draws; gradients; that both players' images get it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_games import game_of
from torch import Tensor

from stages.generators import games
from stages.generators.augmentation import augment
from stages.generators.training_recipes import Augmentation

N, SIDE = 5, 8
PLAIN = Augmentation.model_validate({})
NONE = {"brightness": 0.0, "saturation": 0.0, "contrast": 0.0, "translation": 0.0, "cutout": 0.0}


def reach(**more: float) -> Augmentation:
    return Augmentation.model_validate({**NONE, **more})


def random(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> Tensor:
    return torch.rand((N, 3, SIDE, SIDE), generator=random(1)) * 2 - 1


def color_draws(generator: torch.Generator) -> list[np.ndarray[Any, Any]]:
    """-1..1 for each image: brightness, saturation, contrast, in the order of the code."""
    return [(torch.rand((N, 1, 1, 1), generator=generator) * 2 - 1).numpy().reshape(N) for _ in range(3)]


def test_without_reach_nothing_changes() -> None:
    torch.testing.assert_close(augment(images(), reach(), random()), images(), rtol=0, atol=1e-6)


def test_colors_change_as_in_a_slow_loop() -> None:
    found = augment(images(), reach(brightness=0.3, saturation=0.6, contrast=0.4), random()).numpy()
    brightness, saturation, contrast = color_draws(random())
    for k, image in enumerate(images().numpy().astype(np.float64)):
        changed = image + 0.3 * brightness[k]
        for y in range(SIDE):
            for x in range(SIDE):
                gray = changed[:, y, x].mean()
                changed[:, y, x] = gray + (changed[:, y, x] - gray) * (1 + 0.6 * saturation[k])
        middle = changed.mean()
        changed = middle + (changed - middle) * (1 + 0.4 * contrast[k])
        np.testing.assert_allclose(found[k], changed, atol=1e-5)


def test_each_image_is_shifted_as_in_a_slow_loop() -> None:
    found = augment(images(), reach(translation=0.25), random()).numpy()
    generator = random()
    color_draws(generator)
    corners = torch.randint(0, 5, (N, 2), generator=generator).tolist()  # 2 pixels to each side
    for k, (top, left) in enumerate(corners):
        for y in range(SIDE):
            for x in range(SIDE):
                from_y, from_x = y + top - 2, x + left - 2
                inside = 0 <= from_y < SIDE and 0 <= from_x < SIDE
                expected = images()[k, :, from_y, from_x].numpy() if inside else np.zeros(3)
                np.testing.assert_allclose(found[k, :, y, x], expected, atol=1e-6)
    assert len({tuple(corner) for corner in corners}) > 1


@pytest.mark.parametrize(("share", "hole"), [(0.25, 2), (0.4, 3)])
def test_a_square_of_each_image_is_cut_out_as_in_a_slow_loop(share: float, hole: int) -> None:
    found = augment(images(), reach(cutout=share), random()).numpy()
    generator = random()
    color_draws(generator)
    first = torch.randint(-(hole // 2), SIDE - hole // 2, (N, 2, 1), generator=generator)[:, :, 0].tolist()
    for k, (top, left) in enumerate(first):
        assert 0 <= top + hole // 2 < SIDE
        for y in range(SIDE):
            for x in range(SIDE):
                cut = top <= y < top + hole and left <= x < left + hole
                expected = np.zeros(3) if cut else images()[k, :, y, x].numpy()
                np.testing.assert_allclose(found[k, :, y, x], expected, atol=1e-6)


def test_every_place_is_cut_out_sometimes() -> None:
    x = torch.ones(400, 3, SIDE, SIDE)
    cut = (augment(x, reach(cutout=0.3), random()) == 0).float().mean(dim=(0, 1))
    assert cut.min() > 0.01
    assert cut.max() < 0.2


def test_gradients_flow_through_all_changes() -> None:
    x = images()[:2, :, :4, :4].double().requires_grad_(True)
    whole = Augmentation.model_validate({"translation": 0.25, "cutout": 0.3})
    assert torch.autograd.gradcheck(lambda given: augment(given, whole, random()), (x,))


def test_each_image_has_its_own_change_and_the_same_draws_give_the_same_images() -> None:
    x = images()[:1].expand(N, -1, -1, -1)
    one, two = augment(x, PLAIN, random()), augment(x, PLAIN, random())
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, augment(x, PLAIN, random(9)))


@pytest.mark.parametrize(
    ("family", "calls"),
    [("progan", 3 + 1), ("stylegan", 2 + 1), ("stylegan2", 2 + 1), ("stargan2", 2 * 2 + 2 * 1)],
)
@pytest.mark.parametrize("wanted", [True, False])
def test_the_discriminator_sees_real_and_generated_images_augmented_alike_or_not_at_all(
    family: str, calls: int, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reals, fakes (and the mixture of WGAN-GP), then the generator's fakes."""
    game = game_of(family, path_weight=0.0, augment={} if wanted else None) if family == "stylegan2" else game_of(
        family, augment={} if wanted else None
    )  # fmt: skip
    made: list[Tensor] = []
    seen: list[Tensor] = []

    def watched(x: Tensor, reach: Augmentation, generator: torch.Generator) -> Tensor:
        assert reach == PLAIN
        assert generator is game.random
        made.append(augment(x, reach, generator))
        return made[-1]

    monkeypatch.setattr(games, "augment", watched)
    game.discriminator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    game.step(0)
    assert len(seen) == calls
    assert len(made) == (calls if wanted else 0)
    assert all(one is other for one, other in zip(made, seen, strict=wanted))
