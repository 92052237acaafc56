"""What a worker does for a fit or reduce: make an artifact, or several of the same rows. It may run twice."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pipeline.errors import Interrupted, StageError, StoreError, TouchstoneError
from pipeline.running import devices
from pipeline.running.earlier import earlier
from pipeline.running.faults import fault_of_machine
from pipeline.running.proof import NOTHING, Claim
from pipeline.running.tasks import Facts, Outcome, open_store, repaired
from pipeline.stage import Artifact, FitContext, Kind, Stage
from pipeline.storage.artifacts import contents, values_digest

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.storage.store import Store


@dataclass(frozen=True)
class ArtifactTask:
    """One fit or reduce. views: input -> name -> (stage, chain, schema, ids, steps) per branch, and the row table.

    beside: others of the same stage, to be made in the same pass over the rows of these views.
    """

    facts: Facts
    node: str
    stage: Stage
    config: Any
    key: bytes
    recipe: Mapping[str, Any]
    views: Mapping[str, Mapping[str, tuple[list[Any], Mapping[str, NDArray[Any]]]]]
    claim: Claim = NOTHING
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)
    failed: Mapping[str, list[str]] = field(default_factory=dict)  # rows that it wanted and did not get
    made_from: Mapping[str, Any] = field(default_factory=dict)  # recipe -> step that gave its rows their values
    beside: tuple[ArtifactTask, ...] = ()


def _values(consumed: Mapping[str, Dataset]) -> dict[str, str]:
    """Digest of the values of the rows of each view."""
    return {name: values_digest(data.ids, data.digests()) for name, data in consumed.items()}


def together(tasks: Sequence[ArtifactTask]) -> ArtifactTask:
    """Tasks of one stage over the same rows as one."""
    first, *others = tasks
    return replace(first, beside=tuple(replace(one, views={}) for one in others))


def make_artifact(
    task: ArtifactTask,
    report: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Fit or reduce, under a lease so that two runs do not train twice, and publish the artifact.

    Of a task with others beside it, all artifacts count as computed; if one fails, those that are published stay.
    """
    started = time.perf_counter()
    tasks = (task, *task.beside)
    stamps = {one.key: one.claim.prove(one.node, one.stage, one.config) for one in tasks}
    store = open_store(task.facts.store)
    with ExitStack() as leases:
        for one in sorted(tasks, key=lambda one: one.key):  # in one order, so that two runs never wait for each other
            leases.enter_context(store.lease(one.key, stopping=stop))
        left = [one for one in tasks if store.artifact(one.stage.name, one.key) is None]
        if not left:
            return Outcome(len(tasks))  # another run has made it meanwhile
        views, consumed = _views(store, task)
        values = _values(consumed)
        contexts = [_context(store, one, report, stop) for one in left]
        try:
            for one in left:
                store.restart_scratch(one.key, [values, contents(one.artifacts)])
            _fit(left, views, contexts, stop)
            for one, context in zip(left, contexts, strict=True):
                one.claim.prove_again(one.node, one.stage, one.config, stamps[one.key])
                if values != _values(consumed):
                    raise repaired(one.node)
                _publish(store, one, context, consumed, values)
        finally:
            for context in contexts:  # of what was not published
                shutil.rmtree(context.out, ignore_errors=True)
    return Outcome(len(tasks), seconds=time.perf_counter() - started)


def _views(store: Store, task: ArtifactTask) -> tuple[dict[str, Any], dict[str, Dataset]]:
    """What the stage gets, and all datasets by input and name."""
    from pipeline.dataset import Dataset

    views: dict[str, Any] = {}
    consumed: dict[str, Dataset] = {}
    for name, parts in task.views.items():
        named = {label: Dataset(store, found, table) for label, (found, table) in parts.items()}
        views[name] = named[""] if task.stage.inputs[name].kind == "rows" else named
        consumed |= {f"{name}.{label}" if label else name: data for label, data in named.items()}
    return views, consumed


def _context(
    store: Store, task: ArtifactTask, report: Callable[[int, int], None], stop: Callable[[], bool]
) -> FitContext:
    facts = task.facts
    assert facts.run is not None
    return FitContext(
        facts.seed, task.stage.name, facts.device, facts.threads, task.claim.places(), task.artifacts,
        task.stage.random, out=store.temporary(store.artifact_dir(task.stage.name, task.key), facts.run),
        scratch=store.scratch(task.key), report=report, stopping=stop,
        earlier=lambda: earlier(store, task.stage.name, task.recipe, task.artifacts),
    )  # fmt: skip


def _fit(
    tasks: Sequence[ArtifactTask], views: Mapping[str, Any], contexts: Sequence[FitContext], stop: Callable[[], bool]
) -> None:
    """Let the stage write the files. Raises TouchstoneError with the node's name, or MemoryError."""
    task, context = tasks[0], contexts[0]
    try:
        if len(tasks) > 1:
            task.stage.fit_together([one.config for one in tasks], views, contexts)
        else:
            task.stage.fit(task.config, views, context)
    except (TouchstoneError, MemoryError) as error:
        if type(error) is StageError and not str(error).startswith(task.node):
            raise StageError(f"{task.node}: {error}") from error
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StoreError(f"{task.node}: the disk of the store is full; free some space and run again") from None
        raise fault_of_machine(task.node, error) or StageError(f"{task.node}: {error}") from error
    if stop() and task.stage.kind is Kind.FIT and not any(context.out.iterdir()):
        raise Interrupted(f"{task.node} stopped; what it has learned so far is kept")


def _publish(
    store: Store, task: ArtifactTask, context: FitContext, consumed: Mapping[str, Dataset], values: dict[str, str]
) -> None:
    info: dict[str, Any] = {
        "node": task.node,
        "recipe": task.recipe,
        "facts": context.facts,
        "device": task.facts.device,
    }
    gpus = devices.gpus_of(task.stage, task.config, task.facts.device)
    info |= {"made_from": dict(task.made_from), **({"gpus": gpus} if gpus else {})}
    if task.failed:
        info["failed_rows"] = task.failed
    if task.artifacts:
        info["made_with"] = contents(task.artifacts)
    rows = {name: data.ids for name, data in consumed.items()}
    store.publish_artifact(task.stage.name, task.key, context.out, info, rows, values)
    store.drop_scratch(task.key)  # nobody goes on from it any more
