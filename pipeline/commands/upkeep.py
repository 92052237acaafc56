"""Care of the store as the command line offers it: compact, gc, freeze, pin, accept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, ids
from pipeline.declaring.config import Pipeline
from pipeline.declaring.document import load
from pipeline.errors import ConfigError, StoreError, TouchstoneError
from pipeline.planning import wanted as wants
from pipeline.planning.explain import Explainer
from pipeline.planning.pins import read_pins, write_pin
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan
from pipeline.planning.recipes import Recipe
from pipeline.planning.selection import Branch
from pipeline.planning.wanted import Wanted
from pipeline.running.run import open_scan, used_directories
from pipeline.sentences import counted, nearest
from pipeline.stage import REAL
from pipeline.storage import upkeep as care
from pipeline.storage.shards import rows_per_shard
from pipeline.storage.store import Store
from pipeline.yaml_text import ROWS, dump

FROZEN = "touchstone/frozen/1"


def recorded_plan(pipeline: Pipeline, store: Store, nodes: Iterable[str] = ()) -> Plan:
    """The plan as the last run saw it: rows that failed then are not waited for."""
    wanted = pipeline.select(list(nodes)) if nodes else None
    scan = open_scan(pipeline, False)
    return make_plan(pipeline, store, scan, wanted, pins=read_pins(pipeline.base), recorded=True)


def _named(plan: Plan, names: Iterable[str]) -> list[str]:
    """Planned instances that were named (all, if none was)."""
    wanted = list(names)
    return [name for name in plan.nodes if not wanted or {name, plan.pipeline.nodes[name].entry} & set(wanted)]


def compact_nodes(pipeline: Pipeline, nodes: list[str], forget: Sequence[Path] = ()) -> list[str]:
    """Full shards, sorted by id, of the chains of the nodes (default: all).

    A chain keeps the rows that any node of the pipeline wants, also those that were made before a row failed, what
    other pipelines over the store wanted at their last run, and the shards that frozen manifests name.
    forget: other pipelines that no longer count.
    """
    if nodes:
        pipeline.select(nodes)  # refuses unknown names
    store = Store(pipeline.store, writable=True)
    others = [one for one in wants.others(store, pipeline.path, forget) if one.current]
    plan = recorded_plan(pipeline, store)
    anew = make_plan(pipeline, store, open_scan(pipeline, False), pins=read_pins(pipeline.base))
    frozen = [entry for path in _manifests(pipeline) for entry in _frozen_shards(path, store)]
    chosen: dict[bytes, Branch] = {}
    for name in _named(plan, nodes):
        for branch in plan.branches.get(name, []):
            chosen.setdefault(branch.chain, branch)
    run = store.start_run()
    lines = []
    try:
        for chain, first in chosen.items():
            users = [branch for branch in (*plan.all_branches(), *anew.all_branches()) if branch.chain == chain]
            own = ids.unique(np.concatenate([branch.rows.id[branch.have] for branch in users]))
            wanted, words = _with_others(store, first, own, others)
            if len(wanted):
                rows = plan.pipeline.nodes[first.node].shard_rows or rows_per_shard(first.schema)
                directory = store.chain_dir(first.stage.name, chain)
                keep = {shard for place, shards in frozen if place == directory for shard in shards}
                written, dropped = care.compact(store, first.stage.name, chain, wanted, rows, run, keep=keep)
                rows_of = f"{first.node}: {counted(len(wanted), 'row')}"
                lines.append(f"{rows_of}; {counted(written, 'shard')} written, {dropped} dropped{words}")
        for file in wants.forgotten(store, forget):
            file.unlink(missing_ok=True)
    finally:
        store.finish_run(run)
    return lines


def _with_others(
    store: Store, branch: Branch, own: NDArray[np.void], others: Sequence[Wanted]
) -> tuple[NDArray[np.void], str]:
    """The rows of a chain with those that only other pipelines want, and words on who does."""
    index = store.index(branch.stage.name, branch.chain)
    parts, words = [own], ""
    for other in others:
        for found in other.chains.get(index.directory, []):
            more = found[index.contains(found)]
            more = more[~ids.isin(more, ids.unique(np.concatenate(parts)))]
            if len(more):
                parts.append(more)
                words += f"; {counted(len(more), 'row')} kept for {other}"
    return ids.unique(np.concatenate(parts)), words


def collect_garbage(
    pipeline: Pipeline, apply: bool, keep_last: int, grace_s: float, forget: Sequence[Path] = ()
) -> dict[str, Any]:
    """What nothing refers to. Roots: the plan, pins, frozen manifests, the last K runs, and what other pipelines wanted
    at their last run, unless that is long ago or they are to be forgotten. No other pipeline is planned."""
    store = Store(pipeline.store, writable=apply)
    others = wants.others(store, pipeline.path, forget)
    dropped = wants.forgotten(store, forget)
    keep = used_directories(recorded_plan(pipeline, store))
    anew = make_plan(pipeline, store, open_scan(pipeline, False), pins=read_pins(pipeline.base))
    keep |= used_directories(anew)  # what would be made if no row failed any more
    for path in _manifests(pipeline):
        keep |= {directory for directory, _ in _frozen_shards(path, store)}
    for path in _configs(store)[:keep_last]:
        recorded = load(path, ROWS).data
        keep |= {store.root / name for name in recorded.get("uses", [])}
    current = [other for other in others if other.current]
    theirs = {path: f"{other.pipeline} wants it" for other in current for path in other.directories}
    found = care.gc(store, keep, apply, grace_s, theirs)
    lines = [*_garbage_lines(store, found, apply), *_other_lines(found, others)]
    if apply:
        for file in (*dropped, *(other.file for other in others if not other.current)):
            file.unlink(missing_ok=True)
    freed = sum(item.size for item in found if not item.kept)
    verb = "freed" if apply else "to free with --apply"
    lines.append(f"{freed / 2**20:.1f} MiB {verb}")
    removed = [store.relative(item.path) for item in found if not item.kept]
    kept = {store.relative(item.path): item.kept for item in found if item.kept}
    return {"bytes": freed, "applied": apply, "garbage": removed, "kept": kept, "lines": lines}


def _garbage_lines(store: Store, found: Sequence[care.Garbage], apply: bool) -> list[str]:
    verb = "removed" if apply else "garbage"
    lines = [
        _gc_line(
            verb, [item], store.relative(item.path) + (" (of an earlier format, not read any more)" if item.old else "")
        )
        for item in found
        if not item.kept
    ]
    kept = [item for item in found if item.kept]
    return [*lines, _gc_line("kept", kept, f"{len(kept)} chains, artifacts and scratch")]


def _other_lines(found: Sequence[care.Garbage], others: Sequence[Wanted]) -> list[str]:
    """What stays for the sake of other pipelines alone."""
    lines = []
    for other in others:
        for_it = [item for item in found if item.kept == f"{other.pipeline} wants it"]
        if for_it:
            lines.append(_gc_line("", for_it, f"{len(for_it)} of these for {other}; --forget gives them up"))
        elif not other.current:
            lines.append(f"no longer kept: what {other} wants, after {wants.KEPT_DAYS} days")
    return lines


def _gc_line(verb: str, items: Sequence[care.Garbage], what: str) -> str:
    return f"{verb:<7}  {sum(item.size for item in items) / 2**20:8.1f} MiB  {what}"


def _configs(store: Store) -> list[Path]:
    return sorted((store.root / "runs").glob("*.yaml"), key=lambda path: -path.stat().st_mtime)


def _manifests(pipeline: Pipeline) -> list[Path]:
    return sorted((pipeline.base / "manifests").glob("**/*.yaml"))


def _frozen_shards(path: Path, store: Store) -> list[tuple[Path, list[str]]]:
    """Chain directories and shard names that a frozen manifest names; one that cannot be read stops the command."""
    data = load(path, ROWS).data
    if not isinstance(data, dict) or data.get("format") != FROZEN:
        return []
    try:
        return [
            (
                store.chain_dir(branch["stage"], bytes.fromhex(branch["chain"])),
                [one["shard"] for one in branch["shards"]],
            )
            for node in data["nodes"].values()
            for branch in node
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path.name} is a frozen manifest that cannot be read ({error}); mend it before gc or compact"
        ) from None


def freeze_nodes(pipeline: Pipeline, nodes: list[str], out: Path | None) -> str:
    """Write a manifest of complete nodes; returns a sentence."""
    store = Store(pipeline.store)
    plan = recorded_plan(pipeline, store, nodes)
    frozen: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for name in _named(plan, nodes):
        if name not in plan.branches:
            raise ConfigError(f"'{name}' is an artifact; freeze nodes of rows, and `touchstone pin {name}`")
        frozen[name] = []
        for branch in plan.branches[name]:
            lacking = int((~branch.have & ~branch.failed).sum())
            if lacking:
                raise TouchstoneError(f"{name} lacks {lacking:,} of {len(branch.rows):,} rows; run it, then freeze")
            frozen[name].append(_frozen_branch(plan, branch))
            environment |= branch.recipe.components["env"]
    path = out or pipeline.base / "manifests" / f"frozen-{'-'.join(nodes)}.yaml"
    data = {"format": FROZEN, "environment": environment, "nodes": frozen}
    atomic.write_bytes(path, dump(data).encode())
    rows = sum(branch["rows"] for branches in frozen.values() for branch in branches)
    inside = path.absolute().is_relative_to((pipeline.base / "manifests").absolute())
    warning = "" if inside else "; it lies outside manifests/, so that `gc` does not know it"
    return f"{path}: {counted(len(frozen), 'node')}, {counted(rows, 'row')}{warning}"


def _frozen_branch(plan: Plan, branch: Branch) -> dict[str, Any]:
    """Chain, counts, shards, and one digest over (id, digest) of all stored rows in the order of the ids."""
    index = plan.store.index(branch.stage.name, branch.chain)
    stored = branch.rows.take(np.flatnonzero(branch.have))
    order = ids.order(stored.id)
    places = index.lookup(stored.id[order])
    digests = np.empty(len(order), dtype="V16")
    names = []
    for number in np.unique(index.shard[places]):
        shard = plan.store.shard(index.path(int(number)), branch.chain, branch.schema)
        mask = index.shard[places] == number
        digests[mask] = shard.digests[index.row[places[mask]]]
        names.append({"shard": index.names[int(number)], "rows": int(mask.sum())})
    total = hashlib.sha256()
    total.update(stored.id[order].tobytes())
    total.update(digests.tobytes())
    return {
        "stage": branch.stage.name,
        "chain": branch.chain.hex(),
        "rows": len(order),
        "failed": int(branch.failed.sum()) + len(branch.problems),
        "real": int((stored.label == REAL).sum()),
        "fake": int((stored.label != REAL).sum()),
        "digest": total.hexdigest(),
        **({"verified": said} if (said := dict(_verified(branch))) else {}),
        "shards": names,
    }


def _verified(branch: Branch) -> Iterator[tuple[str, str]]:
    """Each source of a branch whose rows were compared with published digests, and how many agreed."""
    if branch.verified:
        yield branch.node, branch.verified
    for side in branch.sides:
        yield from _verified(side.branch)


def pin_nodes(pipeline: Pipeline, nodes: list[str]) -> list[str]:
    """Copy finished artifacts beside the manifests and enter them in the pins."""
    plan = recorded_plan(pipeline, Store(pipeline.store), nodes)
    lines = []
    for name in _named(plan, nodes):
        artifact = plan.artifacts.get(name)
        if artifact is None:
            raise ConfigError(
                f"'{name}' gives rows; only fits and reduces can be pinned{nearest(name, plan.artifacts)}"
            )
        if artifact.found is None:
            raise TouchstoneError(f"{name} is not made yet; `touchstone run {name}` makes it")
        digests = {file: facts["sha256"] for file, facts in artifact.found.info["files"].items()}
        card = (artifact.found.path / "artifact.json").read_bytes()
        digests["artifact.json"] = hashlib.sha256(card).hexdigest()
        path = write_pin(pipeline.base, name, artifact.found, digests)
        lines.append(f"{name} pinned as {artifact.found.key[:16]} in {path.relative_to(pipeline.base)}")
    return lines


def accept_nodes(pipeline: Pipeline, nodes: list[str]) -> list[str]:
    """Alias the new recipes of stale nodes to those that made what the store has."""
    store = Store(pipeline.store, writable=True)
    lines = []
    for name in _named(recorded_plan(pipeline, store, nodes), nodes):
        plan = recorded_plan(pipeline, store, [name])  # earlier aliases may have changed the chains of this one
        explainer = Explainer(plan)
        accepted = 0
        if not any(state.missing for state in explainer.of(name)):
            lines.append(f"{name}: fresh, nothing to accept")
            continue
        for branch in plan.branches.get(name, []):
            previous = explainer.previous(branch)
            if previous is None:
                continue
            if previous["inputs"] != [side.branch.chain.hex() for side in branch.sides]:
                parents = ", ".join(sorted({side.branch.node for side in branch.sides}))
                raise StoreError(f"{name}: its inputs changed too; accept {parents} first, or run")
            if previous["components"]["schema"] != branch.recipe.components["schema"]:
                raise ConfigError(f"{name} has other fields than what the store has, which cannot be accepted; run it")
            accepted += _alias(store, branch.recipe, bytes.fromhex(previous["recipe"]))
        if name in plan.artifacts and plan.artifacts[name].found is None:
            info = explainer.previous_artifact(plan.artifacts[name])
            if info is not None:
                old, new = Recipe.of(info["stage"], info["recipe"]), plan.artifacts[name].recipe
                if old.components["artifact"] != new.components["artifact"]:
                    models = ", ".join(
                        sorted({one for some in plan.artifacts[name].node.artifacts.values() for one in some})
                    )
                    raise StoreError(f"{name}: what it was made with changed too; accept {models} first, or run")
                accepted += _alias(store, plan.artifacts[name].recipe, old.digest)
        if not accepted:
            raise ConfigError(f"{name} has nothing to accept: the store has no earlier result of its rows; run it")
        lines.append(f"{name}: {accepted} recipe{'s' if accepted > 1 else ''} accepted as equal to what the store has")
    return lines


def _alias(store: Store, new: Recipe, old: bytes) -> int:
    if store.aliases().get(new.digest.hex(), new.digest.hex()) == old.hex():
        return 0
    care.accept(store, new.digest, old)
    return 1
