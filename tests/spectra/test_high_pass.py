"""The 5 x 5 median and the high-pass residual against golden vectors, SciPy and a loop over windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.spectra.high_pass import high_pass, median5

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


def slow_median(plane):
    """The middle of each sorted window; pixels beyond the border repeat the nearest one."""
    height, width = plane.shape
    found = np.empty_like(plane)
    for y, x in itertools.product(range(height), range(width)):
        rows = np.clip(np.arange(y - 2, y + 3), 0, height - 1)
        columns = np.clip(np.arange(x - 2, x + 3), 0, width - 1)
        found[y, x] = sorted(plane[np.ix_(rows, columns)].ravel().tolist())[12]
    return found


@pytest.mark.golden("spectrum", "set_highpass.npz")
def test_medians_equal_opencv_exactly(golden):
    assert np.array_equal(median5(golden["gray"]), golden["median5"])


@given(arrays(np.uint8, SHAPES))
def test_medians_equal_sorted_windows_at_every_size(planes):
    assert np.array_equal(median5(planes), np.stack([slow_median(plane) for plane in planes]))


def test_the_network_selects_the_median_of_any_25_numbers():
    """A network of minima and maxima is right for all numbers if it is for zeros and ones.

    It begins by sorting each column. So it is enough to try every column (five times beside itself), and every number
    of ones in each of five sorted columns.
    """
    column = np.array(list(itertools.product(range(2), repeat=5)), np.uint8)
    windows = np.repeat(column[:, :, None], 5, axis=2)
    assert np.array_equal(median5(windows)[:, 2, 2], column.sum(axis=1) >= 3)
    counts = np.array(list(itertools.product(range(6), repeat=5)))  # ones in each of five columns
    windows = (np.arange(5)[None, :, None] >= 5 - counts[:, None, :]).astype(np.uint8)
    assert np.array_equal(median5(windows)[:, 2, 2], counts.sum(axis=1) >= 13)


@pytest.mark.parametrize("shape", [(1, 256, 256), (9, 65, 80), (2, 1024, 8), (0, 16, 16)])
def test_large_batches_equal_scipy(shape):
    from scipy.ndimage import median_filter

    planes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = [median_filter(plane, 5, mode="nearest") for plane in planes]
    assert np.array_equal(median5(planes), np.array(expected, np.uint8).reshape(shape))


def test_planes_of_a_batch_do_not_touch_each_other():
    planes = np.zeros((3, 9, 9, 2), np.uint8)
    planes[1, :, :, 0] = 255
    assert [int(plane.sum()) for plane in median5(planes[..., 0])] == [0, 255 * 81, 0]


def test_residuals_are_signed_and_do_not_wrap():
    planes = np.full((2, 11, 11), 100, np.uint8)
    planes[0, 5, 5], planes[1, 5, 5] = 255, 0
    found = high_pass(planes)
    assert found.dtype == np.int16
    assert found[:, 5, 5].tolist() == [155, -100]
    assert np.count_nonzero(found) == 2
    assert not high_pass(np.full((1, 16, 16), 200, np.uint8)).any()
