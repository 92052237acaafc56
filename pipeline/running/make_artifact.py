"""What a worker does for a fit or reduce: make one artifact and publish it. It may run twice, as a shard may."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pipeline.errors import Interrupted, StageError, StoreError, TouchstoneError
from pipeline.running.earlier import earlier
from pipeline.running.proof import NOTHING, Claim
from pipeline.running.tasks import Facts, Outcome, open_store, repaired
from pipeline.stage import Artifact, FitContext, Kind, Stage
from pipeline.storage.artifacts import contents, values_digest

if TYPE_CHECKING:
    from pipeline.dataset import Dataset


@dataclass(frozen=True)
class ArtifactTask:
    """One fit or reduce. views: input -> name -> (stage, chain, schema, ids, steps) per branch, and the row table."""

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


def _values(consumed: Mapping[str, Dataset]) -> dict[str, str]:
    """Digest of the values of the rows of each view."""
    return {name: values_digest(data.ids, data.digests()) for name, data in consumed.items()}


def make_artifact(
    task: ArtifactTask,
    report: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Fit or reduce, under a lease so that two runs do not train twice, and publish the artifact."""
    from pipeline.dataset import Dataset

    started = time.perf_counter()
    facts = task.facts
    stamps = task.claim.prove(task.node, task.stage, task.config)
    store = open_store(facts.store)
    assert facts.run is not None
    with store.lease(task.key, stopping=stop):
        if store.artifact(task.stage.name, task.key) is not None:
            return Outcome(1)  # another run has made it meanwhile
        out = store.temporary(store.artifact_dir(task.stage.name, task.key), facts.run)
        context = FitContext(
            facts.seed, task.stage.name, facts.device, facts.threads, task.claim.places(), task.artifacts,
            task.stage.random, out=out, scratch=store.scratch(task.key), report=report, stopping=stop,
            earlier=lambda: earlier(store, task.stage.name, task.recipe, task.artifacts),
        )  # fmt: skip
        views: dict[str, Any] = {}
        consumed: dict[str, Dataset] = {}
        for name, parts in task.views.items():
            named = {label: Dataset(store, found, table) for label, (found, table) in parts.items()}
            unnamed = task.stage.inputs[name].kind == "rows"
            views[name] = named[""] if unnamed else named
            consumed |= {f"{name}.{label}" if label else name: data for label, data in named.items()}
        values = _values(consumed)
        store.restart_scratch(task.key, [values, contents(task.artifacts)])
        try:
            task.stage.fit(task.config, views, context)
        except (TouchstoneError, MemoryError) as error:
            shutil.rmtree(out, ignore_errors=True)
            if type(error) is StageError and not str(error).startswith(task.node):
                raise StageError(f"{task.node}: {error}") from error
            raise
        except Exception as error:
            shutil.rmtree(out, ignore_errors=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise StoreError(f"{task.node}: the disk of the store is full; free some space and run again") from None
            raise StageError(f"{task.node}: {error}") from error
        if stop() and task.stage.kind is Kind.FIT and not any(out.iterdir()):
            shutil.rmtree(out, ignore_errors=True)
            raise Interrupted(f"{task.node} stopped; what it has learned so far is kept")
        task.claim.prove_again(task.node, task.stage, task.config, stamps)
        if values != _values(consumed):
            shutil.rmtree(out, ignore_errors=True)
            raise repaired(task.node)
        info = {"node": task.node, "recipe": task.recipe, "facts": context.facts, "device": facts.device}
        info["made_from"] = dict(task.made_from)
        if task.failed:
            info["failed_rows"] = task.failed
        if task.artifacts:
            info["made_with"] = contents(task.artifacts)
        rows = {name: data.ids for name, data in consumed.items()}
        store.publish_artifact(task.stage.name, task.key, out, info, rows, values)
        store.drop_scratch(task.key)  # nobody goes on from it any more
    return Outcome(1, seconds=time.perf_counter() - started)
