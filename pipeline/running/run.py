"""The verb `run`: plan, execute, and plan again until all that is wanted is there or has a reason why not.

A second round is needed only after failed rows (artifacts are then made from the rows that there are, under the key of
those rows) or after damage (the shard is quarantined and its rows are missing).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, ids
from pipeline.contents import SMALL_FILES
from pipeline.declaring.config import Pipeline
from pipeline.errors import FailedRowsError, Interrupted, StageError, StoreError, TouchstoneError
from pipeline.planning import wanted
from pipeline.planning.closure import use_facts_of
from pipeline.planning.descent import remember, suspects
from pipeline.planning.pins import PINS, read_pins
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan, Work
from pipeline.planning.rates import read_rates, record_rates
from pipeline.planning.selection import Branch, origin
from pipeline.planning.sources import remember_sources
from pipeline.planning.verdict import too_many, unreadable, verdict
from pipeline.running import devices
from pipeline.running.progress import Bars
from pipeline.running.stopping import Stop, default_workers
from pipeline.running.works import works_of
from pipeline.sentences import counted, describe
from pipeline.storage.kept_rows import forget
from pipeline.yaml_text import dump

if TYPE_CHECKING:
    from pipeline.running.executors import Executors
    from pipeline.running.schedule import Results
    from pipeline.storage.store import Store

KEPT_CONFIGS = 50
"""Resolved configs of past runs that the store keeps."""

ROUNDS = 20
"""Rounds of planning after failures or damage; each must make progress."""


@dataclass
class RunReport:
    """What a run did, node by node."""

    computed: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        return {
            "computed": self.computed,
            "present": self.present,
            "failed": self.failed,
            "notes": self.notes,
            "quarantined": self.quarantined,
            "pages": self.pages,
        }


def open_scan(pipeline: Pipeline, writable: bool, paranoid: bool = False, bars: Bars | None = None) -> Any:
    """The one look at the inputs that a process takes."""
    from pipeline.inputs.scan import Scan

    progress = bars.scanning if bars else None
    cache = pipeline.store / ".cache" / "stats"
    return Scan(pipeline.base, cache, paranoid, progress, read_only=not writable, store=pipeline.store)


def run(
    pipeline: Pipeline,
    targets: list[str],
    workers: int | None = None,
    scheduler: str | None = None,
    paranoid: bool = False,
    bars: Bars | None = None,
    mix_devices: bool = False,
) -> RunReport:
    """Compute what is missing of the targets (default: everything). Raises TouchstoneError; what is done stays.

    mix_devices: rows of several kinds of GPU may stand in one chain.
    """
    from pipeline.storage.store import Store

    bars = bars or Bars(quiet=True)
    wanted = pipeline.select(targets) if targets else None
    if not scheduler:  # there the workers say whether they have a GPU
        check_device(pipeline, wanted)
    _check_store(pipeline)
    store = Store(pipeline.store, writable=True, thorough=True)
    stop = Stop()
    try:
        with stop.listening(bars.say):
            return _Run(pipeline, store, wanted, workers, scheduler, paranoid, bars, stop, mix_devices).go()
    finally:
        bars.close()
        SMALL_FILES.clear()


def save_config(store: Store, record: Any, plan: Plan, uses: set[Path]) -> None:
    """The resolved config and what it refers to, beside the run's entry; the newest KEPT_CONFIGS stay."""
    folder = store.root / "runs"
    data = {"config": plan.pipeline.resolved(), "uses": sorted(store.relative(path) for path in uses)}
    atomic.write_bytes(folder / f"{record.id}.yaml", dump(data).encode(), durable=False)
    for old in sorted(folder.glob("*.yaml"), key=_modified)[:-KEPT_CONFIGS]:
        old.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    """When a file was written; 0 if another run has removed it since it was listed."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def networks_of(pipeline: Pipeline, wanted: set[str] | None) -> list[str]:
    """Names of the nodes that run a network on the GPU."""
    nodes = [node for node in pipeline.nodes.values() if wanted is None or node.name in wanted]
    device = pipeline.settings.device
    return [node.name for node in nodes if devices.wants_device(node.stage, node.config, device)]


def check_device(pipeline: Pipeline, wanted: set[str] | None) -> None:
    """Refuse `device: cuda` before anything runs, where a network is wanted and there is no such device."""
    networks = networks_of(pipeline, wanted)
    if not networks:
        return
    import torch

    if not torch.cuda.is_available():
        raise pipeline.document.error(
            ("device",),
            f"is cuda, but PyTorch finds no CUDA device on this machine, and '{networks[0]}' runs a network; use "
            "--device cpu",
        )


def _check_store(pipeline: Pipeline) -> None:
    """Refuse a store that cannot be made, or written to, before any time is spent."""
    place = pipeline.store
    try:
        place.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(place, os.W_OK | os.X_OK) else "you have no permission to write"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        sentence = f"is {describe(pipeline.settings.store)}, where nothing can be written ({reason}); name a folder of "
        raise pipeline.document.error(("store",), f"{sentence}yours, relative to {pipeline.path.name}")


class _Run:
    def __init__(
        self,
        pipeline: Pipeline,
        store: Store,
        wanted: set[str] | None,
        workers: int | None,
        scheduler: str | None,
        paranoid: bool,
        bars: Bars,
        stop: Stop,
        mix_devices: bool,
    ) -> None:
        self.pipeline = pipeline
        self.store = store
        self.record: Any = None
        self.wanted = wanted
        self.workers = workers
        self.scheduler = scheduler
        self.bars = bars
        self.stop = stop
        self.scan = open_scan(pipeline, True, paranoid, bars)
        self.report = RunReport()
        self.failed: dict[bytes, NDArray[np.void]] = {}
        self.reasons: dict[tuple[bytes, bytes], str] = {}
        self.executors: Executors | None = None
        own = workers != 1 and not scheduler and networks_of(pipeline, wanted)
        self.gpus = devices.visible_gpus() if own else []  # of this machine, that get a process each
        self.mix_devices, self.mixed = mix_devices, dict[str, str]()  # node -> what to say of it
        self.compared = 0  # shards of which that was said

    def go(self) -> RunReport:
        try:
            for _ in range(ROUNDS):
                plan = make_plan(self.pipeline, self.store, self.scan, self.wanted, self.failed, self._pins())
                if self.record is None:  # nothing is entered in the store before the plan has proved possible
                    self.record = self.store.start_run(used_directories(plan))
                    self._clean()
                    use_facts_of(self.store.root, learn=True)
                repaired = self._quarantine(plan)
                if repaired:
                    plan = make_plan(self.pipeline, self.store, self.scan, self.wanted, self.failed, self._pins())
                self._tell_compared()
                self._collect(plan)
                for branch in plan.unrecorded:
                    self.store.write_recipe(branch.stage.name, branch.chain, recipe_record(plan, branch))
                works = works_of(plan, max(self.workers or default_workers(), len(self.gpus)))
                uses = used_directories(plan)
                save_config(self.store, self.record, plan, uses)
                if not works:
                    break
                self.store.use(self.record, uses)
                again = suspects(plan, works)
                again |= self._round(plan, works)
                if not again:
                    break
            else:
                raise StoreError("the store keeps changing under this run; is a disk failing? try `touchstone verify`")
            remember(plan, bool(self.report.computed))
        finally:
            if self.executors is not None:
                self.executors.close()
            if self.record is not None:
                self.store.finish_run(self.record)
        if self.report.computed:
            remember_sources(plan)
        self._forget_begun(plan)
        self._judge(plan)
        made = [(one.found, one.node.stage.page) for one in plan.artifacts.values()]
        self.report.pages = [str(found.path / page) for found, page in made if found is not None and page]
        wanted.record(self.store, plan, partial=self.wanted is not None)
        return self.report

    def _pins(self) -> Mapping[str, Any]:
        return read_pins(self.pipeline.base)

    def _quarantine(self, plan: Plan) -> bool:
        """Move damaged shards of the planned chains out of the way; true if there were any."""
        damaged = {str(path): reason for branch in plan.all_branches() for path, reason in branch.damaged}
        damaged |= {str(path): reason for path, reason in plan.damaged}
        for path, reason in damaged.items():
            self._put_aside(path, reason)
        return bool(damaged)

    def _put_aside(self, path: str, reason: str) -> None:
        if os.path.lexists(path):
            self.store.quarantine(Path(path), reason)
        self.report.quarantined.append(reason)
        kind = "shard, its rows are computed" if path.endswith(".zarr") else "artifact, it is made"
        what, _, then = kind.partition(", ")
        self.bars.say(f"damaged {what} put aside, {then} again: {reason}")

    def _tell_compared(self) -> None:
        """Say that digests were read, which takes time after a store was copied."""
        count = self.store.compared - self.compared
        if count:
            self.compared += count
            self.bars.say(f"{counted(count, 'shard')} with files that no run has seen: all their digests were compared")

    def _collect(self, plan: Plan) -> None:
        """Counts for the report, from the newest plan."""
        self.report.notes = [*plan.notes, *self.mixed.values()]
        for name in plan.nodes:
            if name in plan.branches:
                found = plan.branches[name]
                have = sum(int(branch.have.sum()) for branch in found)
            else:
                have = int(plan.artifacts[name].found is not None)
            self.report.present.setdefault(name, have)

    def _round(self, plan: Plan, works: list[Work]) -> bool:
        """Execute one plan; true if another round has something to do."""
        from pipeline.running.schedule import Loop, on_device
        from pipeline.running.task_maker import TaskMaker
        from pipeline.running.tasks import Facts

        facts = Facts(
            self.pipeline.store, self.record, self.pipeline.settings.seed, self.pipeline.settings.device,
            self.pipeline.settings.threads,
        )  # fmt: skip
        for branch in {id(work.branch): work.branch for work in works if work.branch is not None}.values():
            self.store.write_recipe(branch.stage.name, branch.chain, recipe_record(plan, branch))
        self._open_bars(plan, works)
        on_gpu = [work for work in works if on_device(work, facts.device)]
        executors = self._start(bool(on_gpu))
        if on_gpu:
            executors.require_device()
            self._tell_gpus(on_gpu, executors.gpus())
        maker = TaskMaker(plan, facts, self.failures(plan))
        for address in executors.renew(maker.claims(works)):
            self.bars.say(f"worker {address} had loaded other code or libraries and was restarted")
        results = Loop(works, maker, executors, self.bars, self.stop, self._touch).run()
        self._book(plan, results)
        for node, count in results.begun.items():
            self.bars.say(f"{node}: {counted(count, 'row')} of a run that did not end were taken up")
        for work, shard in results.published:
            assert work.branch is not None
            place = self.store.chain_dir(work.branch.stage.name, work.branch.chain)
            self.store.published.add(place / f"{shard}.zarr")
        if not (results.errors or results.interrupted or results.damaged):
            _account(works, results)
        if results.errors:
            raise _one(results.errors)
        if results.interrupted:
            done = sum(self.report.computed.values())
            raise Interrupted(f"stopped: {done:,} rows and artifacts of this run are kept; the same command goes on")
        for error in {error.shard: error for error in results.damaged}.values():  # met by several tasks
            self._put_aside(error.shard, str(error))
        return bool(results.damaged) or (
            bool(results.failed or results.skipped) and not too_many(self.pipeline, self.failures(plan))
        )

    def _tell_gpus(self, works: list[Work], gpus: list[devices.Gpu]) -> None:
        """Refuse rows of another kind of GPU in a chain, or remember to say that there are some."""
        for branch in {work.branch.chain: work.branch for work in works if work.branch is not None}.values():
            before = devices.kinds_of_chain(self.store, branch.stage.name, branch.chain)
            sentence = devices.mixed(branch.node, before, gpus, self.mix_devices)
            if sentence:
                self.mixed[branch.node] = sentence
                self.report.notes.append(sentence)

    def _forget_begun(self, plan: Plan) -> None:
        """Remove what is kept of unfinished tasks of these chains: all that is wanted of them is published."""
        used = self.store.in_use()
        for branch in plan.all_branches() if (self.store.root / "scratch").exists() else ():
            if self.store.relative(self.store.chain_dir(branch.stage.name, branch.chain)) not in used:
                forget(self.store.root, branch.chain)

    def _start(self, for_gpu: bool) -> Executors:
        """The executors of the run, made anew when its GPUs are wanted for the first time."""
        gpus = self.gpus if for_gpu else []
        if self.executors is not None and (self.executors.lanes or not gpus):
            return self.executors
        if self.executors is not None:
            self.executors.close()
        if self.scheduler or (self.workers is not None and self.workers > 1):
            from pipeline.running.cluster import DaskExecutors

            self.executors = DaskExecutors(self.workers, self.scheduler, gpus)
        elif gpus:
            from pipeline.running.lanes import LaneExecutors

            self.executors = LaneExecutors(default_workers(), gpus)
        else:
            from pipeline.running.executors import Executors

            self.executors = Executors(self.workers or default_workers())
        return self.executors

    def _touch(self) -> None:
        """Show runs of other hosts that this one is alive."""
        self.store.touch(self.record)

    def _clean(self) -> None:
        """Remove what killed runs and commands have left: temporaries, and words to stop for their workers."""
        self.store.clean_temporaries()
        manifests = self.pipeline.base / PINS.parent
        files = [reference.path for node in self.pipeline.nodes.values() for reference in node.files.values()]
        atomic.remove_left_over({manifests, manifests / "pins", *(path.parent for path in files)})
        for path in (self.store.root / "runs").glob("*.stop"):
            if not self.store.alive(path.stem):
                path.unlink(missing_ok=True)

    def _open_bars(self, plan: Plan, works: list[Work]) -> None:
        totals: dict[str, tuple[int, int]] = {}
        costs: dict[str, float] = {}
        rates = read_rates(self.store.root)
        for work in works:
            stage = self.pipeline.nodes[work.node].stage.name
            rate = rates.rows.get(stage) if work.branch is not None else None
            seconds = 1 / rate if rate else rates.seconds_of_fit(work.node, stage)
            if seconds is not None:
                costs[work.node] = seconds
            if work.branch is not None:
                present = sum(int(branch.have.sum()) for branch in plan.branches[work.node])
                totals[work.node] = (totals.get(work.node, (present, present))[0] + work.rows, present)
            else:
                totals[work.node] = (1, 0)
        self.bars.open(totals, set(plan.artifacts), costs)

    def _book(self, plan: Plan, results: Results) -> None:
        for node, count in results.computed.items():
            self.report.computed[node] = self.report.computed.get(node, 0) + count
        tasks: dict[str, list[tuple[int, float]]] = {}
        fits: dict[str, tuple[str, float]] = {}
        for node, done in results.tasks.items():
            stage = self.pipeline.nodes[node].stage.name
            if node in plan.branches:
                tasks.setdefault(stage, []).extend(done)
            elif done[-1][1]:
                fits[node] = (stage, done[-1][1])
        record_rates(self.store.root, tasks, fits)
        for chain, found in results.failed.items():
            self.reasons |= {(chain, row_id): reason for row_id, reason in found}
        for chain, found in results.failed.items():  # skipped rows are planned again: their inputs failed or vanished
            before = ids.to_bytes(self.failed[chain]) if chain in self.failed else []
            self.failed[chain] = ids.sort(ids.from_bytes({*(row_id for row_id, _ in found), *before}))

    def failures(self, plan: Plan) -> dict[str, list[str]]:
        """Node -> one sentence per failed row (inputs that could not be read count for their source)."""
        found = unreadable(plan)
        for branch in plan.all_branches():
            lines = found.setdefault(branch.node, [])
            gone = self.failed.get(branch.chain)
            if gone is None:
                continue
            for position in np.flatnonzero(ids.isin(branch.rows.id, gone) & ~branch.have):
                reason = self.reasons.get((branch.chain, bytes(branch.rows.id[position])))
                if reason is not None:
                    place = origin(branch, int(position))
                    lines.append(reason if reason.startswith(place) else f"{place}: {reason}")
        return {node: sorted(lines) for node, lines in found.items() if lines}

    def _judge(self, plan: Plan) -> None:
        """Every wanted row is computed or has failed for a reason that is shown; too many fail the run."""
        self.report.failed = self.failures(plan)
        sentence = verdict(self.pipeline, self.report.failed)
        if sentence:
            raise FailedRowsError(sentence)


def _account(works: list[Work], results: Results) -> None:
    """Every row of every task was computed, has failed, or waits for an input that did. Raises StageError."""
    rows = {work.node for work in works if work.branch is not None}
    computed = sum(count for node, count in results.computed.items() if node in rows)
    failed = sum(len(found) for found in results.failed.values())
    skipped = sum(len(found) for found in results.skipped.values())
    if results.wanted != computed + failed + skipped:
        raise StageError(
            f"{results.wanted:,} rows were wanted, but {computed:,} were computed, {failed:,} failed and {skipped:,} "
            "lack their inputs: the sums do not match; run again, and report this if it stays"
        )


def used_directories(plan: Plan) -> set[Path]:
    """Directories of the chains and artifacts of a plan."""
    store = plan.store
    keep = {store.chain_dir(branch.stage.name, branch.chain) for branch in plan.all_branches()}
    return keep | {store.artifact_dir(one.node.stage.name, one.key) for one in plan.artifacts.values()}


def recipe_record(plan: Plan, branch: Branch) -> dict[str, Any]:
    """Content of `recipe.json`: the components, for `explain`, and what the chain follows from."""
    from pipeline.planning.closure import functions

    components = dict(branch.recipe.components)
    own = branch.recipe.digest.hex()
    return {
        "recipe": own,
        "accepted": plan.aliases.get(own, own),
        "node": branch.node,
        "inputs": [side.branch.chain.hex() for side in branch.sides],
        "components": components,
        "functions": {
            module: {name: mark for name, (mark, _) in functions(module).items()} for module in components["code"]
        },
    }


def _one(errors: list[TouchstoneError]) -> TouchstoneError:
    """The first error, with a word on how many others there are."""
    first = errors[0]
    if len(errors) > 1:
        first.args = (f"{first} (and {len(errors) - 1} more task{'s' if len(errors) > 2 else ''} failed)",)
    return first
