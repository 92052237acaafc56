"""Images that a training keeps on its device, and windows of them whose places only the device knows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory_rows import rows_of

from stages.training import kept_images
from stages.training.kept_images import KeptImages, windows

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_windows_are_slices_and_so_are_their_slopes(memory_format: torch.memory_format) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, 6, 7, dtype=torch.float64, generator=random).contiguous(memory_format=memory_format)
    tops, lefts = torch.tensor([0, 1, 2, 2]), torch.tensor([3, 0, 2, 1])
    ours, others = images.clone().requires_grad_(), images.clone().requires_grad_()
    made = windows(ours, tops, lefts, 4, 4)
    places = zip(tops.tolist(), lefts.tolist(), strict=True)
    expected = torch.stack([others[k, :, top : top + 4, left : left + 4] for k, (top, left) in enumerate(places)])
    assert torch.equal(made, expected)
    weights = torch.randn(made.shape, dtype=torch.float64, generator=random)
    ways = ((made, ours), (expected, others))
    slopes = [torch.autograd.grad((x**3 * weights).sum(), y, create_graph=True)[0] for x, y in ways]
    assert torch.equal(*slopes)
    twice = [torch.autograd.grad(x.square().sum(), y)[0] for x, (_, y) in zip(slopes, ways, strict=True)]
    assert torch.equal(*twice)


def test_a_set_is_held_once_or_read_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, chosen = rows_of("p", 0, {"image": IMAGES}), torch.tensor([3, 0, 3])
    held = KeptImages(rows, "cpu")
    monkeypatch.setattr(kept_images, "BLOCK_BYTES", 2 * IMAGES[0].nbytes)
    monkeypatch.setattr(kept_images, "elsewhere", lambda device: True)
    in_blocks = KeptImages(rows, "cpu:0")
    monkeypatch.setattr(kept_images, "free_memory", lambda device: IMAGES.nbytes)
    read = KeptImages(rows, "cpu")  # would fill all that is free
    assert [one.whole is None for one in (held, in_blocks, read)] == [False, False, True]
    for one in (held, in_blocks, read):
        np.testing.assert_array_equal(one.of(chosen).numpy(), IMAGES[[3, 0, 3]])
        np.testing.assert_array_equal(one.pixels(np.array([4, 1])), IMAGES[[4, 1]])
