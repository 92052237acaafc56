"""What a network reads and gives: the values of the host, and one network for many blocks."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from detector_examples import maps, small_config, small_state

from detectors import cnn, composed, transfers

ROWS = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [2, 7, 16])
def test_groups_are_full_and_filled_up_with_zeros(size: int) -> None:
    groups = [one.numpy() for one in transfers.padded(ROWS, size, "cpu")]
    assert {group.shape for group in groups} == {(size, 8, 8, 3)}
    whole = np.concatenate(groups)
    np.testing.assert_array_equal(whole[:7], ROWS)
    assert not whole[7:].any()


def test_arrays_of_rows_lie_behind_one_another_and_keep_their_types() -> None:
    random = np.random.default_rng(1)
    rows = [{"z": random.random(3, np.float32), "n": random.random((2, 5)), "k": np.int64(k)[None]} for k in range(4)]
    found = transfers.stacked(rows, "cpu")
    assert {name: (one.dtype, tuple(one.shape)) for name, one in found.items()} == {
        "z": (torch.float32, (4, 3)), "n": (torch.float64, (4, 2, 5)), "k": (torch.int64, (4, 1))
    }  # fmt: skip
    assert len({one.untyped_storage().data_ptr() for one in found.values()}) == 1
    for name, one in found.items():
        np.testing.assert_array_equal(one.numpy(), np.stack([row[name] for row in rows]))


def test_numbers_of_a_step_are_told_as_they_are() -> None:
    given = {"a": torch.tensor(0.1), "b": 2.5, "c": torch.tensor(1e-30, dtype=torch.bfloat16, requires_grad=True)}
    assert transfers.told(given) == {"a": float(np.float32(0.1)), "b": 2.5, "c": given["c"].item()}
    assert list(transfers.told(given)) == ["a", "b", "c"]
    assert transfers.told({}) == {}


def test_a_network_is_built_once_for_all_blocks_and_goes_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    build = composed.loaded
    monkeypatch.setattr(composed, "loaded", lambda *given: made.append(build(*given)) or made[-1])
    state, rows = small_state(small_config()), maps(12, 0, shape=(3, 8, 8)).features
    first = [cnn.score(small_config(), state, rows[start : start + 4]) for start in (0, 4, 8)]
    assert len(made) == 1
    np.testing.assert_array_equal(np.concatenate(first), cnn.score(small_config(), small_state(small_config()), rows))
    cnn.score(small_config(micro_batch=3), state, rows)
    assert len(made) == 3  # of another state, and of other settings
    gone = weakref.ref(made[0])
    made.clear()
    del state
    gc.collect()
    assert gone() is None
