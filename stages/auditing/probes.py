"""The learned leak test: cheap features of pixels, and a ridge discriminant that is judged on groups it has not seen.

Nothing of the container goes in. A two-sample test by a classifier (Lopez-Paz and Oquab 2017): if the held-out score
tells the classes, something does, whether or not a check has a name for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.auditing.traces import coefficients

Floats = NDArray[np.float32]

FOLDS = 5
SHRINKAGE = 0.1
LIMIT = 4.0
"""Standardized features are clipped here."""

EDGES = (-6.0, -1.0, 1.0, 6.0)
"""Bounds of quantized differences, gray levels."""


def features(luma: Floats, cb: Floats, cr: Floats, bands: NDArray[np.float64]) -> Floats:
    """Spectrum (17), DCT on the grid (63) and against the grid moved by 4 px (63), co-occurrences (50), chroma (8)."""
    on, off = (_energies(coefficients(luma, place, place)) for place in (0, 4))
    found = np.concatenate([bands - bands[4], on, on - off, *_pairs(luma), _chroma(cb), _chroma(cr)])
    return np.nan_to_num(found, posinf=0, neginf=0).astype(np.float32)


def _energies(blocks: Floats) -> NDArray[np.float64]:
    """(63,) log mean squares of the coefficients but the first."""
    if not len(blocks):
        return np.zeros(63)
    return np.log((blocks[:, 1:].astype(np.float64) ** 2).mean(0) + 0.05)


def _pairs(luma: Floats) -> list[NDArray[np.float64]]:
    """Square roots of the shares of pairs of quantized first and second differences, (25,) each."""
    first = np.diff(luma)
    found = []
    for values in (first, np.diff(first)):
        level = np.digitize(values, EDGES)
        pairs = np.bincount((level[:, :-1] * 5 + level[:, 1:]).ravel(), minlength=25)
        found.append(np.sqrt(pairs / max(pairs.sum(), 1)))
    return found


def _chroma(plane: Floats) -> NDArray[np.float64]:
    """First and second differences of a plane of chroma, and odd against even steps: 4:2:0 survives a reduction."""
    first = np.abs(np.diff(plane))
    second = np.abs(np.diff(plane, 2))
    down = np.abs(np.diff(plane, axis=0))
    odd = [np.log((one[1::2].mean() + 0.02) / (one[::2].mean() + 0.02)) for one in (first.T, down)]
    return np.array([np.log(first.mean() + 0.02), np.log(second.mean() + 0.02), float(np.mean(odd)), odd[1]])


def held_out(
    rows: NDArray[np.floating], labels: NDArray[np.uint8], groups: NDArray[np.int64], seed: int = 0
) -> NDArray[np.float64]:
    """(n,) scores of each row by a discriminant that never saw its group, standardized per fold; higher: more fake.

    rows: (n, F); groups: (n,), whole groups are left out. Zeros where there are fewer groups than folds in a class.
    """
    scores = np.zeros(len(rows))
    folds = _folds(labels, groups, seed)
    for fold in range(FOLDS):
        test = folds == fold
        train = ~test
        if not test.any() or len(set(labels[train].tolist())) < 2:
            continue
        made = _discriminant(rows[train], labels[train], rows[test])
        scores[test] = (made - made.mean()) / (made.std() + 1e-9)
    return scores


def _folds(labels: NDArray[np.uint8], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Fold of each row: large groups first, to the fold that lacks most rows of their class."""
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fakes = np.bincount(place, labels, len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load = np.zeros((FOLDS, 2))
    of_group = np.zeros(len(names), np.int64)
    for group in order:
        own = np.array([sizes[group] - fakes[group], fakes[group]])
        fold = int(np.argmin(load @ (own + 1e-6) + 1e-9 * load.sum(1)))
        of_group[group] = fold
        load[fold] += own
    return of_group[place]


def _discriminant(
    train: NDArray[np.floating], labels: NDArray[np.uint8], test: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Scores of `test` by a linear discriminant whose covariance is shrunk towards the unit matrix."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    known = np.clip((train - mean) / deviation, -LIMIT, LIMIT)
    asked = np.clip((test - mean) / deviation, -LIMIT, LIMIT)
    means = [known[labels == label].mean(0) for label in (0, 1)]
    inner = known - np.where(labels[:, None] == 1, means[1], means[0])
    covariance = inner.T @ inner / len(inner)
    share = min(1.0, SHRINKAGE + train.shape[1] / (2 * len(train)))
    shrunk = (1 - share) * covariance + share * np.eye(train.shape[1]) * max(
        float(np.trace(covariance)) / train.shape[1], 1e-6
    )
    return asked @ np.linalg.solve(shrunk, means[1] - means[0])
