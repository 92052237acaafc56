"""Detectors of the four seeds and one of ours on generators of garments: hours of work, cells, and what came of it.

    python -m experiments.detectors plan      hours of one core; measures a step of each network, computes nothing else
    python -m experiments.detectors val       trains all and scores validation rows, by which is chosen; then `result`
    python -m experiments.detectors run       what is missing of experiments/detectors.yaml, cell by cell, then `result`
    python -m experiments.detectors result    experiments/results/detectors.json, .md and .png from what is there

A run may be stopped at any time; the same command goes on, as all is kept in scratch/detectors/store. The hours are
those of the longest trainings that the settings allow: most stop earlier.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.declaring.config import Pipeline, load_pipeline
from pipeline.planning.pins import read_pins
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import ArtifactPlan, Plan
from pipeline.planning.rates import read_rates
from pipeline.running.progress import Bars
from pipeline.running.run import open_scan, run
from pipeline.storage.store import Store

FILE = Path("experiments/detectors.yaml")
RESULTS = Path("experiments/results")
MOST_MS = 4.0
"""Of one core, per image and training step of a network."""
MOST_HOURS = 12.0
MEASURED, REPEATED = (32, 160), 3
"""Rows of the two trainings of one epoch whose difference tells what a row costs, and how often each is made."""
ROW_MS = {"sample": 15.0, "translate": 30.0, "spectrum": 4.0, "prnu": 20.0, "residual": 40.0}
"""Of one core, until a first run has measured it: stage -> milliseconds per row; 1 for the others."""
FIT_S = 30.0
"""What is no network, likewise."""
CLAIMS_S = 300.0
"""A node of claims, likewise: a tenth of a second for each cell."""
SCORED = 0.3
"""Share of a training step that scoring an image costs."""


class Cost(NamedTuple):
    """Nodes that cost the same: their entry and detector, how many, milliseconds per image and step, hours of all."""

    name: str
    nodes: int
    step_ms: float
    hours: float


class Drawn:
    """`detectors.contract.Examples` of noise, as many reals as fakes: what a step costs does not depend on it."""

    def __init__(self, count: int, shape: tuple[int, ...], seed: int = 0) -> None:
        from pipeline.stage import MAP, MAPS, PICTURE

        picture = len(shape) == 3 and shape[2] == 3
        random = np.random.default_rng(seed)
        self.rows: NDArray[Any] = (
            random.integers(0, 256, (count, *shape), dtype=np.uint8)
            if picture
            else random.standard_normal((count, *shape)).astype(np.float32)
        )
        self.labels = (np.arange(count) % 2).astype(np.uint8)
        self.shape = shape
        self.axes = {1: ("frequency",), 2: MAP, 3: PICTURE if picture else MAPS}[len(shape)]

    def __len__(self) -> int:
        return len(self.labels)

    def array(self) -> NDArray[Any]:
        return self.rows

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        for start in range(0, len(self), size):
            yield self.rows[start : start + size]

    def field(self, name: str) -> Drawn:
        return self

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> Drawn:
        self.size = size
        return self

    def __iter__(self) -> Iterator[tuple[Any, Any, NDArray[np.void]]]:
        import torch

        ids = np.arange(len(self)).astype(">u8").view("V8").astype("V16")
        for start in range(0, len(self), self.size):
            part = slice(start, start + self.size)
            yield torch.from_numpy(self.rows[part]), torch.from_numpy(self.labels[part]), ids[part]

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        pass


def one_epoch(config: Any) -> Any:
    """The same detector, trained for one epoch."""
    if hasattr(config, "training"):
        return config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    return config.model_copy(update={"epochs": 1})


def epochs(config: Any) -> int:
    """Most passes over the training rows."""
    return int(config.training.epochs if hasattr(config, "training") else config.epochs)


def step_ms(config: Any, shape: tuple[int, ...]) -> float:
    """Milliseconds of one core that a training step of a network costs per image of a feature's shape."""
    from detectors.choosing import family_module
    from detectors.contract import Control
    from stages.training.networks import prepare

    prepare("cpu", 1)
    family, short = family_module(config.family), one_epoch(config)
    least = []
    for count in MEASURED:
        seconds = []
        for _ in range(REPEATED):  # the first one imports and compiles; the fastest is the least disturbed
            started = time.process_time()
            family.fit(short, Drawn(count, shape), Drawn(8, shape, 1), Control())
            seconds.append(time.process_time() - started)
        least.append(min(seconds))
    return max(1000 * (least[1] - least[0]) / (MEASURED[1] - MEASURED[0]), 0.0)


def planned(pipeline: Pipeline) -> Plan:
    """The whole plan; writes nothing."""
    return make_plan(pipeline, Store(pipeline.store), open_scan(pipeline, False), pins=read_pins(pipeline.base))


def costs(plan: Plan) -> list[Cost]:
    """Of what is not there yet: rows by stage, trainings by entry and detector, scoring."""
    rates = read_rates(plan.store.root)
    found: list[Cost] = []
    rows: Counter[str] = Counter()
    for branch in plan.all_branches():
        rows[branch.stage.name] += int((~branch.have).sum())
    for stage, count in sorted(rows.items()):
        each = 1 / rates.rows[stage] if stage in rates.rows else ROW_MS.get(stage, 1.0) / 1000
        found.append(Cost(f"{stage}: {count:,} rows", 1, 0.0, count * each / 3600))
    kinds: dict[str, list[ArtifactPlan]] = {}
    for one in plan.artifacts.values():
        if one.found is None and one.node.stage.name == "train":
            kinds.setdefault(f"{one.node.entry}: {_detector(one)}", []).append(one)
    steps: dict[str, float] = {}
    for name, nodes in kinds.items():
        config, facts = nodes[0].node.config.detector, nodes[0].promise
        if not facts["runs_network"] or config.fuses:
            hours = sum(rates.fits[one.node.name][1] if one.node.name in rates.fits else FIT_S for one in nodes) / 3600
            found.append(Cost(name, len(nodes), 0.0, hours))
            continue
        step = steps[name] = step_ms(config, tuple(facts["feature_shape"]))
        each = step * epochs(config) * sum(map(read_rows, nodes))
        found.append(Cost(name, len(nodes), step, each / 3.6e6))
    scored = [one for one in plan.artifacts.values() if one.found is None and one.node.stage.name == "evaluate"]
    ms = SCORED * (fmean(steps.values()) if steps else 1.0)
    found.append(Cost("evaluate", len(scored), 0.0, ms * sum(map(read_rows, scored)) / 3.6e6))
    claims = [one.node.name for one in plan.artifacts.values() if one.found is None and one.node.stage.name == "claims"]
    seconds = sum(rates.fits[name][1] if name in rates.fits else CLAIMS_S for name in claims)
    found.append(Cost("claims", len(claims), 0.0, seconds / 3600))
    return found


def read_rows(one: ArtifactPlan) -> int:
    """Different rows of each of its views; a row that several nodes hold with different fields is read once."""
    total = 0
    for named in one.views.values():
        for selections in named.values():
            ids = [found.sides[0].branch.rows.id[found.sides[0].positions] for found in selections]
            total += len(np.unique(np.concatenate(ids))) if ids else 0
    return total


def _detector(one: ArtifactPlan) -> str:
    """What tells its detector from others of its entry: the words of its matrix but training source and seed."""
    words = {key: value for key, value in one.node.matrix.items() if key not in ("train", "seed")}
    return " ".join(str(value) for value in words.values()) or str(one.node.config.detector.family)


def told(found: Sequence[Cost]) -> Iterator[str]:
    """Lines of `plan`."""
    for one in found:
        step = f", {one.step_ms:.2f} ms per image and step" if one.step_ms else ""
        over = f" (more than {MOST_MS:g})" if one.step_ms > MOST_MS else ""
        nodes = f", {one.nodes} times" if one.nodes > 1 else ""
        yield f"{one.hours:6.2f} h  {one.name}{nodes}{step}{over}"
    total = sum(one.hours for one in found)
    above = f", above the {MOST_HOURS:g} that are meant" if total > MOST_HOURS else ""
    yield f"{total:6.2f} h  of one core at most{above}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("plan", "val", "run", "result"))
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of touchstone")
    parser.add_argument("--workers", type=int, help="processes; threads of this one if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.file, arguments.overrides)
    if arguments.verb == "plan":
        for line in told(costs(planned(pipeline))):
            print(line)
        return
    if arguments.verb in ("val", "run"):
        wanted = ["val_tables"] if arguments.verb == "val" else []
        run(pipeline, wanted, arguments.workers, bars=Bars())
    from experiments.detectors_result import write

    for path in write(pipeline, arguments.out):
        print(path)


if __name__ == "__main__":
    main()
