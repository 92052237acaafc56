"""What lies under the cells of a patch network: golden vectors, and a loop over pixels of other sizes and offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_files import GoldenDocument

from detectors.networks.receptive_field import Field
from stages.evaluation import patch_parts
from stages.evaluation.best_patches import Named
from stages.evaluation.bootstrap import interval_of, ratio_intervals
from stages.evaluation.seen_frame import SeenFrame
from stages.segmentation.classes import FACES, told


def ends_of(expected: Any) -> patch_parts.Ends:
    field = Field(expected["receptive_field"], expected["stride"], expected["offset"])
    return patch_parts.windows(expected["cells"], field, expected["input_side"])


@pytest.mark.golden("patch_histogram", "*.json", keys="images")
def test_every_cell_shows_the_class_of_the_reference(golden: GoldenDocument) -> None:
    arrays, ends = golden.beside("maps.npz"), ends_of(golden)
    classes = len(golden["merge"])
    named = Named.of(told("a parser", FACES[:classes]))
    assert [named.names[number] for number in named.merged] == golden["merge"]
    total = np.zeros(len(named.names))
    for number, parts in enumerate(arrays["segmentation"]):
        counts = patch_parts.counted(parts, ends, ends, classes)
        shares = patch_parts.by_share(counts, parts, ends, ends)
        most = patch_parts.by_majority(counts, parts, ends, ends)
        np.testing.assert_array_equal(shares, arrays["class_of_every_cell"][number])
        np.testing.assert_array_equal(most, arrays["most_pixels_class_of_every_cell"][number])
        total += patch_parts.fractions(shares, named.merged, len(named.names))
        about = golden["images"][number]
        assert patch_parts.top_cells(arrays["probability"][number]).tolist() == about["top_cells"]
        for top in about["top"]:
            row, column = top["cell"]
            window = [ends[0][row], ends[1][row], ends[0][column], ends[1][column]]
            assert window == top["window_y0y1x0x1"]
            assert (shares[row, column], most[row, column]) == (top["class"], top["most_pixels_class"])
            assert named.names[named.merged[shares[row, column]]] == top["merged"]
    found = {name: value / len(arrays["segmentation"]) for name, value in zip(named.names, total, strict=True) if value}
    assert found == pytest.approx(golden["expected_random_patch_fraction"], abs=1e-9)


def test_windows_of_other_sizes_are_those_of_a_loop_over_pixels() -> None:
    random = np.random.default_rng(0)
    parts = random.integers(0, 4, (9, 14)).astype(np.uint8)
    parts[1:, :5] = patch_parts.NOTHING
    rows, columns = patch_parts.windows(4, Field(5, 3, -4), 9), patch_parts.windows(6, Field(3, 2, 1), 14)
    counts = patch_parts.counted(parts, rows, columns, 4)
    merged = np.array([0, 1, 1, 2])
    shares = patch_parts.by_share(counts, parts, rows, columns)
    most = patch_parts.by_majority(counts, parts, rows, columns)
    edges = patch_parts.on_boundary(counts, merged)
    for row in range(4):
        for column in range(6):
            inside = [
                int(parts[y, x])
                for y in range(3 * row - 4, 3 * row + 1)
                for x in range(2 * column + 1, 2 * column + 4)
                if 0 <= y < 9 and 0 <= x < 14 and parts[y, x] != patch_parts.NOTHING
            ]
            held = {one: inside.count(one) for one in dict.fromkeys(inside)}
            of_all = {one: count / int((parts == one).sum()) for one, count in held.items()}
            wanted = [max(scores, key=lambda one: scores[one]) if inside else 255 for scores in (of_all, held)]
            assert [shares[row, column], most[row, column]] == wanted
            together = [sum(count for one, count in held.items() if merged[one] == name) for name in range(3)]
            assert edges[row, column] == (sum(count >= 0.1 * len(inside) for count in together) > 1 and bool(inside))


def test_two_equal_shares_go_to_the_class_that_is_met_first() -> None:
    parts = np.array([[1, 0], [0, 1]], np.uint8)
    ends = patch_parts.windows(1, Field(2, 1, 0), 2)
    assert patch_parts.by_share(patch_parts.counted(parts, ends, ends, 2), parts, ends, ends) == 1
    assert patch_parts.by_share(patch_parts.counted(1 - parts, ends, ends, 2), 1 - parts, ends, ends) == 0


class Cut:
    """A resize of the shorter side to 8 pixels, and the middle 6 of them."""

    resize, crop, shape = 8, 6, "shorter"


def test_a_frame_looks_up_the_pixels_that_the_network_sees() -> None:
    frame = SeenFrame.of(Cut, (16, 16), (6, 6))
    picture = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(frame.resampled(picture, -1), picture[3:15:2, 3:15:2])
    np.testing.assert_array_equal(frame.resampled(picture[::2, ::2], -1), picture[2:14:2, 2:14:2])
    tile = frame.window(picture, (-1, 2), (4, 7), -1)
    assert tile.tolist() == [[-1, -1, -1], [59, 61, -1], [91, 93, -1]]


def test_intervals_of_ratios_resample_groups() -> None:
    top, below = np.array([[1.0], [0.0], [1.0], [0.0]]), np.full((4, 1), 0.25)
    (ratio, apart), *_ = ratio_intervals(top, below, np.arange(4), 0)
    assert ratio == 2.0
    assert apart is not None
    assert apart[0] < 1.2 < 2.8 < apart[1]
    ((_, together),) = ratio_intervals(top, below, np.array([0, 0, 1, 1]), 0)
    assert together == pytest.approx([2.0, 2.0])  # half of each group
    assert ratio_intervals(top, 0 * below, np.arange(4), 0) == [(None, None)]
    values = np.random.default_rng(1).normal(3, 1, 100)
    low, high = interval_of(lambda rows: float(values[rows].mean()), np.arange(100), 0) or (0, 0)
    assert [low, high] == pytest.approx(values.mean() + np.array([-0.196, 0.196]) * values.std(), abs=0.05)
    assert interval_of(lambda rows: 0.0, np.zeros(3, np.int64), 0) is None
