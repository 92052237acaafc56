"""Claim: an SVM, a forest and a linear detector are each evaluated on 100,000 cached rows within 10 s on two cores.

And together: detectors over the same rows are one pass, in at most the time of their bare forwards and 10 %. The rows
are profiles of 88 values in shards. By itself, a detector is measured from the look at its rows to its files, metrics
and their intervals included; together, the pass that scores all rows, against the families' `score` on the same
values in memory, block by block. The whole of the three evaluations in one pass is told beside it.

    python -m benchmarks.evaluate_speed [--rows N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import alternate, emit
from pipeline.dataset import Dataset, Part
from pipeline.runs import this_run
from pipeline.stage import FAKE, ID, REAL, Artifact, Field, FitContext
from pipeline.storage.store import Store
from stages.evaluate import Evaluate, EvaluateConfig
from stages.evaluation.detector_file import load_detector
from stages.evaluation.scoring import BLOCK_ROWS, Scorer, score_all
from stages.train import Train, TrainConfig

LENGTH, TRAINING, SHARD, ROUNDS, GOAL_S, CLAIM = 88, 2_000, 25_000, 5, 10.0, 1.10
DETECTORS = ("profile-svm", "profile-forest", "profile-logistic")
SCHEMA = {"profile": Field("float32", (LENGTH,), "20 ln |F|, durall19", ("frequency",))}


def stored(store: Store, name: str, count: int, seed: int, split: NDArray[np.str_]) -> Dataset:
    """Profiles that two classes have nearly alike, in shards."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.uint8)
    values = 200 - 1.2 * np.arange(LENGTH) + random.normal(0, 6, (count, LENGTH))
    values[:, 60:] += 1.2 * labels[:, None]
    ids = np.sort(np.frombuffer(random.bytes(16 * count), "S16")).view(ID)
    chain = name.encode().ljust(16, b"-")
    for start in range(0, count, SHARD):
        rows = slice(start, start + SHARD)
        store.stage_shard("spectrum", chain, ids[rows], {"profile": values[rows].astype("f4")}, SCHEMA, this_run())
    sources = np.array(["photos", "generator"])[labels]
    assert {REAL, FAKE} == {0, 1}
    table = {"label": labels, "split": split, "source": sources, "group": ids}
    return Dataset(store, [Part("spectrum", chain, SCHEMA, ids)], table)


def detectors(store: Store, folder: Path) -> list[Artifact]:
    """Trained on a few rows."""
    split = np.array(["train", "train", "train", "val"])[np.arange(TRAINING) // 2 % 4]
    rows = stored(store, "train", TRAINING, 1, split)
    found = []
    for name in DETECTORS:
        ctx = context(folder / name)
        Train().fit(TrainConfig.model_validate({"detector": name}), {"on": rows}, ctx)
        found.append(Artifact(name, name.encode().hex(), ctx.out))
    return found


def context(folder: Path, **more: Any) -> FitContext:
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return FitContext(0, "", threads=2, out=folder / "out", scratch=folder / "scratch", **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store", writable=True)
        models = detectors(store, folder)
        test = stored(store, "test", count, 2, np.full(count, "test"))
        values = test.array("profile")
        contexts = [context(folder / f"of {one.node}", artifacts={"model": (one,)}) for one in models]
        loaded = [load_detector(one.path) for one in models]
        alone: dict[str, float] = {}
        for one, ctx in zip(models, contexts, strict=True):
            start = time.perf_counter()
            Evaluate().fit(EvaluateConfig(), {"test": test}, ctx)
            alone[one.node] = time.perf_counter() - start
            print(f"{one.node} by itself: {alone[one.node]:.2f} s")

        start = time.perf_counter()
        Evaluate().fit_together([EvaluateConfig()] * len(models), {"test": test}, contexts)
        whole = time.perf_counter() - start

        def together() -> None:
            score_all([Scorer(one, ctx) for one, ctx in zip(loaded, contexts, strict=True)], {"raw": test})

        def forwards() -> None:
            for one in loaded:
                one.scores((values[start : start + BLOCK_ROWS] for start in range(0, count, BLOCK_ROWS)), "cpu")

        ours, bare = alternate(together, forwards, ROUNDS)
    print(f"the pass {ours:.2f} s, bare forwards {bare:.2f} s, with metrics and files {whole:.2f} s")
    facts = {name.replace("-", "_") + "_s": round(seconds, 2) for name, seconds in alone.items()}
    against = f"the bare forwards of the same detectors, {bare:.2f} s (claim: {CLAIM:g}, each within {GOAL_S:g} s)"
    name = f"three detectors score {count:,} rows in one pass, seconds"
    emit(name, ours, ours / bare, against, count, whole_s=round(whole, 2), **facts)


if __name__ == "__main__":
    main()
