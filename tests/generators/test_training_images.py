"""Random batches of the training rows: what is drawn, in which form, of which class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_games import photos

from pipeline.errors import StageError
from stages.generators.training_images import TrainingImages
from stages.training import kept_images

SIDE = 8


def images(rows: Any = None, seed: int = 0, **more: Any) -> TrainingImages:
    random = torch.Generator().manual_seed(seed)
    return TrainingImages(photos(SIDE) if rows is None else rows, "cpu", random, **more)


def test_pixels_become_floats_from_minus_one_to_one() -> None:
    rows = photos(SIDE)
    rows.values["image"][0, 0, 0] = (0, 255, 128)
    drawn, classes = images(rows).draw(50)
    assert drawn.shape == (50, 3, SIDE, SIDE)
    assert drawn.dtype == torch.float32
    assert classes.tolist() == [0] * 50
    wanted = rows.array("image").astype(np.float64).transpose(0, 3, 1, 2) / 127.5 - 1
    places = [int(np.abs(wanted - image.double().numpy()).max(axis=(1, 2, 3)).argmin()) for image in drawn]
    np.testing.assert_allclose(drawn.numpy(), wanted[places], atol=1e-6)
    assert set(places) == set(range(6))
    assert drawn.min() == -1
    assert drawn.max() == 1


def test_half_of_the_images_are_mirrored() -> None:
    plain, _ = images().draw(400)
    mirrored, _ = images(flips=True).draw(400)  # the same rows: mirroring is drawn after them
    flipped = [torch.equal(one, other.flip(2)) for one, other in zip(plain, mirrored, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(plain, mirrored, strict=True)]
    assert all(one != other for one, other in zip(flipped, same, strict=True))
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.08)


def test_classes_are_the_domains_in_alphabetical_order() -> None:
    rows = photos(SIDE, 9, ("cow", "ape", "bee"))
    given = images(rows, conditional=True)
    assert given.domains == ["ape", "bee", "cow"]
    assert given.count_of_classes == 3
    assert given.class_of(np.array([0, 1, 2, 8])).tolist() == [2, 0, 1, 1]
    whole = given.floats(rows.array("image"))
    drawn, classes = given.draw(30)
    for image, number in zip(drawn, classes, strict=True):
        (row,) = [k for k in range(9) if torch.equal(whole[k], image)]
        assert rows.column("domain")[row] == given.domains[number]
    label = given.one_hot(classes)
    assert label is not None
    assert label.dtype == torch.float32
    assert torch.equal(label, torch.eye(3)[classes])
    assert set(given.classes(60).tolist()) == {0, 1, 2}
    assert images().one_hot(classes) is None
    assert images().count_of_classes == 0


def test_classes_may_be_given_an_order_but_are_those_of_the_rows() -> None:
    rows = photos(SIDE, 9, ("cow", "ape", "bee"))
    given = images(rows, conditional=True, domains=["bee", "cow", "ape"])
    assert given.domains == ["bee", "cow", "ape"]
    assert given.class_of(np.arange(3)).tolist() == [1, 2, 0]
    for wrong in (["bee", "cow"], ["ape", "bee", "cow", "dog"], ["ape", "bee", "cat"]):
        found = f"the recipe's domains are {', '.join(wrong)}, those of the training rows ape, bee, cow; they must be"
        with pytest.raises(StageError, match=found):
            images(rows, conditional=True, domains=wrong)


def test_images_of_wanted_classes_are_all_of_these_with_equal_chance() -> None:
    rows = photos(SIDE, 9, ("ape", "bee", "bee"))
    given = images(rows, conditional=True)
    wanted = torch.tensor([0, 1, 1, 0] * 150)
    drawn, classes = given.draw(600, wanted)
    assert torch.equal(classes, wanted)
    whole = given.floats(rows.array("image"))
    counts = np.zeros(9, dtype=int)
    for image, number in zip(drawn, wanted, strict=True):
        (row,) = [k for k in range(9) if torch.equal(whole[k], image)]
        assert (row % 3 != 0) == bool(number)
        counts[row] += 1
    assert counts[[0, 3, 6]].min() > 70  # of 300 for 3 rows
    assert counts[[1, 2, 4, 5, 7, 8]].min() > 30  # of 300 for 6


def test_a_set_too_large_for_memory_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = images(flips=True)
    monkeypatch.setattr(kept_images, "IN_MEMORY", 0)
    read = images(flips=True)
    assert (kept.kept.whole is None, read.kept.whole is None) == (False, True)
    for _ in range(3):
        assert torch.equal(kept.draw(5)[0], read.draw(5)[0])


def test_batches_depend_on_the_seed_only() -> None:
    assert torch.equal(images(seed=3).draw(20)[0], images(seed=3).draw(20)[0])
    assert not torch.equal(images(seed=3).draw(20)[0], images(seed=4).draw(20)[0])


@pytest.mark.parametrize(("domains", "found"), [(("",), "'none'"), (("ape",), "'ape'"), (("ape", ""), r"found .*ape")])
def test_conditional_training_needs_a_domain_of_each_row(domains: tuple[str, ...], found: str) -> None:
    with pytest.raises(StageError, match=rf"needs rows of two or more domains, .*{found}.*; give each row a domain"):
        images(photos(SIDE, 6, domains), conditional=True)
    assert images(photos(SIDE, 6, domains)).count_of_classes == 0


def test_photographs_are_enlarged_and_cut_at_random_places() -> None:
    images = TrainingImages(photos(32, 6), "cpu", torch.Generator().manual_seed(0), enlarged=1.25)
    found, _ = images.draw(32)
    assert found.shape == (32, 3, 32, 32)
    floats = images.floats(images.pixels(np.arange(len(images))))
    wide = torch.nn.functional.interpolate(floats, size=(40, 40), mode="bicubic").clamp(-1, 1)
    windows = wide.unfold(2, 32, 1).unfold(3, 32, 1)  # (N, 3, 9, 9, 32, 32)
    places = set()
    for image in found:
        distance = (windows - image[None, :, None, None]).abs().amax(dim=(1, 4, 5))
        assert distance.min() < 1e-5
        places.add(tuple((distance == distance.min()).nonzero()[0, 1:].tolist()))
    assert len(places) > 20
    assert max(row for row, _ in places) == 8 or max(column for _, column in places) == 8
