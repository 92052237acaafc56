"""k-means: clusters without labels, names from labels, scores from distances."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detector_examples import MemoryExamples, profiles
from safetensors.numpy import load_file, save_file
from training_rows import fit, rows

from detectors import kmeans
from detectors.choosing import detector_config
from detectors.contract import Control
from pipeline.errors import StageError
from stages.evaluation.detector_file import load_detector


def config(**settings: Any) -> Any:
    return detector_config({"family": "kmeans", "normalization": "none", **settings})


def clouds(count: int, seed: int, places: tuple[float, ...] = (0.0, 9.0)) -> MemoryExamples:
    """Rows around points on a line, one cloud after another; every other row is fake."""
    random = np.random.default_rng(seed)
    number = np.arange(count) % len(places)
    values = random.normal(0, 0.5, (count, 8)) + np.array(places)[number][:, None]
    return MemoryExamples(values.astype(np.float32), (number % 2).astype(np.uint8))


def flipped(examples: MemoryExamples) -> MemoryExamples:
    return MemoryExamples(examples.features, 1 - examples.labels)


def test_centers_are_the_means_of_the_clouds_and_labels_of_training_rows_are_not_used() -> None:
    train, val = clouds(60, 1), clouds(40, 2)
    state = kmeans.fit(config(), flipped(train), val, Control())
    means = np.stack([train.features[train.labels == label].astype(np.float64).mean(axis=0) for label in (0, 1)])
    order = np.argsort(state.tensors["centers"][:, 0])
    np.testing.assert_allclose(state.tensors["centers"][order], means, rtol=1e-9)
    assert state.tensors["fake"][order].tolist() == [0, 1]


def test_all_rows_name_the_clusters_where_they_are_asked() -> None:
    train, val = clouds(60, 1), clouds(20, 2)
    names = {}
    for named_by in ("validation", "all"):
        state = kmeans.fit(config(named_by=named_by), flipped(train), val, Control())
        names[named_by] = state.tensors["fake"][np.argsort(state.tensors["centers"][:, 0])].tolist()
    assert names == {"validation": [0, 1], "all": [1, 0]}  # three times as many rows say so


def test_names_are_the_better_of_both_assignments() -> None:
    """On overlapping classes, counted for either assignment."""
    train, val = (profiles(80, seed) for seed in (1, 2))
    for one in (train, val):
        one.features[:, 30:] -= np.float32(9) * (one.labels == 1)[:, None]
    state = kmeans.fit(config(named_by="all"), train, val, Control())
    values = np.concatenate([train.features, val.features]).astype(np.float64)
    labels = np.concatenate([train.labels, val.labels])
    right = {}
    for first, second in itertools.permutations((0, 1)):
        near = [np.argmin([np.linalg.norm(row - center) for center in state.tensors["centers"]]) for row in values]
        right[first, second] = np.mean(np.array([first, second])[near] == labels)
    assert tuple(state.tensors["fake"].tolist()) == max(right, key=lambda names: right[names])


def test_a_decision_is_the_difference_of_distances_to_the_nearest_centers() -> None:
    train, test = clouds(90, 1, (0.0, 9.0, 20.0)), clouds(12, 2, (0.0, 9.0, 20.0))
    state = kmeans.fit(config(clusters=3), train, train, Control())
    expected = []
    for row in test.features.astype(np.float64):
        distances = [float(np.sqrt(sum((row - center) ** 2))) for center in state.tensors["centers"]]
        sides = [
            min(d for d, f in zip(distances, state.tensors["fake"], strict=True) if f == is_fake) for is_fake in (0, 1)
        ]
        expected.append(sides[0] - sides[1])
    np.testing.assert_allclose(kmeans.decision(config(clusters=3), state, test.features), expected, rtol=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_cluster_of_either_name_always_exists(share: float) -> None:
    labels = np.array([0, 1] * 10, dtype=np.uint8)
    places = np.zeros(20, dtype=np.intp) if share else np.arange(20) // 2 % 2
    assert sorted(kmeans._fakes(places, labels, 2).tolist()) == [False, True]


def test_too_few_different_rows_are_one_sentence() -> None:
    same = MemoryExamples(np.ones((10, 9), np.float32), (np.arange(10) % 2).astype(np.uint8))
    with pytest.raises(
        ValueError, match="as many different rows as clusters, 2, but the training rows of 'profile' have 1;"
    ):
        kmeans.fit(config(), same, same, Control())


def test_a_file_with_clusters_of_one_name_is_refused(tmp_path: Path) -> None:
    out = fit(tmp_path, rows(), "profile-kmeans")
    tensors = load_file(out / "model.safetensors")
    assert json.loads((out / "card.json").read_text())["detector"] == "k-means on profile"
    save_file({**tensors, "fake": np.ones(2, np.uint8)}, out / "model.safetensors")
    with pytest.raises(StageError, match=r"its tensor 'fake' holds \[1\], expected a 0 and a 1"):
        load_detector(out)
