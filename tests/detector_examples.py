"""Small rows and trainings for tests of detectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.choosing import detector_config, family_module
from detectors.contract import Control, DetectorConfig, State
from pipeline.stage import MAP, MAPS, PICTURE


class Killed(Exception):
    """Raised by a test to end a fit."""


class MemoryExamples:
    """`detectors.contract.Examples` over arrays."""

    def __init__(self, features: NDArray[Any], labels: NDArray[np.uint8]) -> None:
        self.features, self.labels, self.shape = features, labels, features.shape[1:]
        self.axes = {1: ("frequency",), 2: MAP, 3: PICTURE if features.dtype == np.uint8 else MAPS}.get(
            len(self.shape), ()
        )

    def __len__(self) -> int:
        return len(self.labels)

    def array(self) -> NDArray[Any]:
        return self.features

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        for start in range(0, len(self), size):
            yield self.features[start : start + size]

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> ShuffledBatches:
        assert balanced
        return ShuffledBatches(self, size, seed)


class ShuffledBatches:
    """Batches whose order is fixed by (seed, epoch)."""

    def __init__(self, examples: MemoryExamples, size: int, seed: int) -> None:
        self.examples, self.size, self.seed, self.epoch = examples, size, seed, 0

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        import torch

        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.examples))
        self.epoch += 1
        for start in range(0, len(order), self.size):
            some = order[start : start + self.size]
            ids = some.astype(">u8").view("V8").astype("V16")
            yield torch.from_numpy(self.examples.features[some]), torch.from_numpy(self.examples.labels[some]), ids

    def state(self) -> Mapping[str, Any]:
        return {"epoch": self.epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]


def profiles(count: int, seed: int) -> MemoryExamples:
    """Falling curves of 43 elements; the last third of a fake is raised."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    features = 200 - 2.5 * np.arange(43) + random.normal(0, 3, (count, 43))
    features[labels == 1, 30:] += 15
    return MemoryExamples(features.astype(np.float32), labels)


def maps(count: int, seed: int, dtype: str = "float16", shape: tuple[int, ...] = (3, 16, 16)) -> MemoryExamples:
    """Noise; a fake has a peak in the middle."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    features = random.normal(0, 1, (count, *shape))
    places = (slice(None), slice(6, 10), slice(6, 10)) if shape[0] == 3 else (slice(6, 10), slice(6, 10))
    features[labels == 1, *places] += 4
    if dtype == "uint8":
        features = np.clip(128 + 20 * features, 0, 255)
    return MemoryExamples(features.astype(dtype), labels)


def residuals(count: int, seed: int) -> MemoryExamples:
    """Noise; that of a fake has a pattern in it."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    pattern = np.random.default_rng(0).normal(0, 1, (16, 12))
    features = random.normal(0, 1, (count, 16, 12)) + 0.5 * labels[:, None, None] * pattern
    return MemoryExamples(features.astype(np.float16), labels)


def means(count: int, seed: int) -> MemoryExamples:
    """One number per row, larger for a fake."""
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = np.random.default_rng(seed).normal(0.03, 0.003, count) + 0.01 * labels
    return MemoryExamples(values.astype(np.float32), labels)


SMALL: dict[str, Any] = {"widths": [4, 8], "epochs": 8, "batch_size": 16, "micro_batch": 8}


CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "svm-rbf": ({"preset": "profile-svm", "length": None}, profiles),
    "svm-linear": ({"family": "svm", "kernel": "linear"}, profiles),
    "svm-poly": ({"family": "svm", "kernel": "poly", "gamma": "auto", "normalization": "min_max"}, profiles),
    "svm-search": ({"preset": "profile-svm", "C": [0.1, 6.37], "gamma": [0.1, "scale"]}, profiles),
    "logistic": ({"preset": "profile-logistic"}, profiles),
    "forest": ({"preset": "profile-forest", "trees": 12}, profiles),
    "kmeans": ({"preset": "profile-kmeans", "starts": 2}, profiles),
    "threshold-element": ({"preset": "profile-threshold", "element": [60, 80]}, profiles),
    "eigenfaces": ({"preset": "eigenfaces"}, lambda n, s: maps(n, s, "uint8", (16, 16, 3))),
    "eigenfaces-standardize": ({"preset": "dct2d-eigenfaces", "components": 3, "C": 0.1}, maps),
    "knn": ({"preset": "knn"}, lambda n, s: maps(n, s, "uint8", (16, 16, 3))),
    "knn-standardize": ({"preset": "dct2d-knn", "k": 9}, maps),
    "prnu": ({"preset": "prnu", "terms": None}, residuals),
    "prnu-argmax": ({"preset": "prnu-argmax", "terms": None}, residuals),
    "cnn-percentile": ({"preset": "fft2d-cnn", **SMALL}, maps),
    "cnn-standardize": ({"preset": "dct2d-cnn", **SMALL}, maps),
    "threshold": ({"preset": "residual-mean"}, means),
    "cnn-none": ({"preset": "residual-stage5", **SMALL}, lambda n, s: maps(n, s, shape=(3, 16, 16))),
    "deep": (
        {
            "preset": "pixel-compact",
            "network": {"architecture": "compact", "widths": [4, 8]},
            "micro_batch": 8,
            "training": {"epochs": 8, "batch": 16, "learning_rate": 0.01},
        },
        lambda n, s: maps(n, s, "uint8", (16, 16, 3)),
    ),
    "cnn-pixels": ({"preset": "pixel-cnn", **SMALL}, lambda n, s: maps(n, s, "uint8", (16, 16, 3))),
}


class Trained:
    """One family, fitted once for all tests of its contract."""

    def __init__(self, settings: dict[str, Any], make: Any) -> None:
        self.config: DetectorConfig = detector_config(settings)
        self.module = family_module(self.config.family)
        self.train, self.val, self.test = make(96, 1), make(40, 2), make(37, 3)
        self.state: State = self.fit()

    def fit(self, control: Control | None = None) -> State:
        state: State = self.module.fit(self.config, self.train, self.val, control or Control(seed=5))
        return state

    def score(self, features: NDArray[Any], state: State | None = None) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self.module.score(self.config, state or self.state, features)
        return scores


def equal(one: State, two: State) -> bool:
    same = one.tensors.keys() == two.tensors.keys() and one.plain == two.plain
    pairs = [(one.tensors[name], two.tensors[name]) for name in one.tensors]
    return same and all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def small_config(**more: Any) -> Any:
    """A small CNN; `more` replaces settings."""
    from detectors import cnn

    return cnn.Config(feature="x", widths=(2,), **{"normalization": "none", "micro_batch": 4, "epochs": 1, **more})


def small_state(config: Any = None, shape: tuple[int, ...] = (3, 8, 8), axes: tuple[str, ...] = MAPS) -> State:
    """What such a network is at the beginning of its training."""
    from detectors import cnn, composed

    config = config or small_config()
    learned = {name: np.ones(shape, np.float32) for name in (("mean", "scale") if config.standardizes else ())}
    network = composed.new(cnn.composed(config), shape, axes, learned, Control())
    tensors = {name.removeprefix("network."): value.numpy() for name, value in network.state_dict().items()}
    return State(tensors, {"shape": list(shape), "axes": list(axes), "slope": 1.0, "intercept": 0.0})
