"""Sections of the report on residuals and on images of one latent."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from memory_rows import MemoryRows, rows_of, step, union

from stages.reporting import residuals, same_latents
from stages.reporting.section import Given


def residual_rows() -> MemoryRows:
    random = np.random.default_rng(0)
    parts = []
    for source, label, mean in (("photos", 0, 1.0), ("made", 1, 2.0)):
        maps = random.normal(mean, 0.1, (8, 3, 4, 4)).astype(np.float16)
        means = maps.astype(np.float32).mean(axis=(1, 2, 3))
        parts.append(rows_of(source, label, {"residual_pixel": maps, "residual_pixel_mean": means}, split="test"))
    return union(*parts)


def test_means_of_residuals_are_told_apart_and_maps_have_the_scale_of_the_reals() -> None:
    rows = residual_rows()
    found = residuals.content(Given(None, [], [], {}, {"residuals": rows}))
    (one,) = found["residual_means"]
    assert one["lines"] == ["made against photos: AUC 1.000 (above 0.5: fakes have more), overlap 0.00."]
    reals = rows.array("residual_pixel")[:8].astype(np.float64).mean(axis=1)
    assert f"pixel 0 to {np.percentile(reals, 99.5):.3g}." in found["residual_maps"]["about"]
    assert residuals.content(Given(None, [], [])) == {}


def test_bins_and_overlap_are_those_of_a_loop() -> None:
    random = np.random.default_rng(1)
    one, other = random.normal(0, 1, 500), random.normal(1, 1, 300)
    edges = residuals.bins([one, other])
    assert len(edges) == 61
    assert edges[[0, -1]] == pytest.approx(np.percentile(np.concatenate([one, other]), [0.5, 99.5]))
    shares = []
    for values in (one, other):
        inside = [value for value in values if edges[0] <= value <= edges[-1]]
        shares.append([sum(low <= value < high for value in inside) / len(inside)
                       for low, high in pairwise(edges)])  # fmt: skip
    assert residuals.overlap(one, other, edges) == pytest.approx(sum(map(min, *shares)), abs=0.01)


def test_images_that_share_a_latent_stand_side_by_side_by_source() -> None:
    random = np.random.default_rng(2)
    pixels = [random.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8) for _ in range(3)]
    raw, finetuned, other = (rows_of(name, 1, {"image": one}, (step("sample"),)) for name, one in
                             zip(("raw", "R", "other"), pixels, strict=True))  # fmt: skip
    finetuned.ids = raw.ids
    rows = union(raw, finetuned, other)
    found = same_latents.latents(rows)
    assert [list(images) for images in found.values()] == [["R", "raw"]] * 3
    assert list(found) == sorted(map(bytes, raw.ids))[:3]
    first = [bytes(one) for one in raw.ids].index(next(iter(found)))
    np.testing.assert_array_equal(found[next(iter(found))]["R"], pixels[1][first])
    one = union(raw.take(np.array([2])), finetuned.take(np.array([2])))
    assert len(same_latents.content(Given(None, [], [], {}, {"images": one}))["same_latents"]) == 1
    assert same_latents.content(Given(None, [], [], {}, {"images": other})) == {}
