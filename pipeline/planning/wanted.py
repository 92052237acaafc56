"""What each pipeline over a store wanted when it last ran, so that `gc` and `compact` of one keep what others need.

`wanted/<name>.npz` is named after the pipeline's path as the store sees it: a project that moves with its store keeps
its name. It holds the path, and for each node the chains with the ids of their rows, and the keys of its artifacts; its
time is that of the last complete run. A file that cannot be read stops who asks: nothing is removed on a guess.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.errors import ConfigError, StoreError
from pipeline.inputs.statcache import UNREADABLE as UNREADABLE_FILE
from pipeline.planning.planned import Plan
from pipeline.sentences import counted, nearest
from pipeline.stage import ID
from pipeline.storage.store import Store

VERSION = 1
HEADER = "header"
UNREADABLE = (*UNREADABLE_FILE, RuntimeError, ArithmeticError, MemoryError, struct.error)
KEPT_DAYS = 30
"""Days after its last complete run for which a pipeline's wants are kept."""


@dataclass(frozen=True)
class Wanted:
    """What one pipeline wants of a store.

    pipeline   its path
    age_s      seconds since its last complete run
    chains     directory of a chain -> ids of its rows, (n,) V16, one array per node and branch
    artifacts  directories of artifacts
    """

    file: Path
    pipeline: Path
    age_s: float
    chains: Mapping[Path, list[NDArray[np.void]]]
    artifacts: frozenset[Path]

    @property
    def directories(self) -> set[Path]:
        return set(self.chains) | self.artifacts

    @property
    def current(self) -> bool:
        return self.age_s <= KEPT_DAYS * 86400

    def __str__(self) -> str:
        gone = "" if self.pipeline.exists() else ", a file that is gone"
        return f"{self.pipeline}{gone} (last run {_ago(self.age_s)})"


def place(store: Store, pipeline: Path) -> Path:
    """The file of a pipeline; neither need exist."""
    name = hashlib.sha256(_seen(store, pipeline).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return store.root / "wanted" / f"{name}.npz"


def record(store: Store, plan: Plan, partial: bool) -> None:
    """Write what a complete run wanted; if nothing of it has changed, only the time.

    partial: the plan is of some nodes; those that it lacks keep what was recorded for them. If that cannot be read,
    nothing is written: a run of the whole pipeline writes it anew.
    """
    pipeline = plan.pipeline
    path = place(store, pipeline.path)
    nodes, arrays = _of_plan(plan)
    old = None
    with suppress(*UNREADABLE):
        old = _header(path)
    if partial and path.exists():
        try:
            before, rows = _load(path)
        except UNREADABLE:
            return
        kept = {name: facts for name, facts in before["nodes"].items() if name in pipeline.nodes and name not in nodes}
        nodes |= kept
        arrays |= {mark: rows[mark] for facts in kept.values() for _, _, mark in facts["chains"]}
    header = {"version": VERSION, "pipeline": _seen(store, pipeline.path), "nodes": nodes}
    if header == old:
        os.utime(path)
        return
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    plain = {mark: ids.view(np.uint8).reshape(-1, ID.itemsize) for mark, ids in arrays.items()}
    np.savez(buffer, allow_pickle=False, **{HEADER: text, **plain})  # type: ignore[arg-type]
    atomic.write_bytes(path, buffer.getvalue())


def others(store: Store, pipeline: Path, forget: Iterable[Path] = ()) -> list[Wanted]:
    """What all pipelines but this one and those to `forget` (paths of pipelines, or files in `wanted/`) want.

    Raises StoreError for a file that cannot be read, ConfigError for one to forget that is not there.
    """
    dropped = {place(store, pipeline), *forgotten(store, forget)}
    return [_read(store, file) for file in _files(store) if file not in dropped]


def forgotten(store: Store, forget: Iterable[Path]) -> list[Path]:
    """The files of pipelines to forget. Raises ConfigError for one that is not there."""
    found, files = [], _files(store)
    for path in forget:
        chosen = [file for file in files if file in (place(store, path), store.root / "wanted" / path.name)]
        if not chosen:
            known = [str(other.pipeline) for other in _readable(store, files)]
            raise ConfigError(f"--forget {path}: no such pipeline has run over this store{nearest(str(path), known)}")
        found += chosen
    return found


def _readable(store: Store, files: Iterable[Path]) -> Iterator[Wanted]:
    for file in files:
        with suppress(StoreError):
            yield _read(store, file)


def _files(store: Store) -> list[Path]:
    return sorted((store.root / "wanted").glob("*.npz"))


def _seen(store: Store, pipeline: Path) -> str:
    """The path of a pipeline as seen from the store."""
    folder = os.path.realpath(pipeline.parent)
    return os.path.relpath(os.path.join(folder, pipeline.name), os.path.realpath(store.root))


def _path(store: Store, seen: str) -> Path:
    return Path(os.path.normpath(os.path.join(os.path.realpath(store.root), seen)))


def _of_plan(plan: Plan) -> tuple[dict[str, Any], dict[str, NDArray[np.void]]]:
    """Chains and artifacts of each node, and the ids by their mark: nodes over the same rows share them."""
    nodes: dict[str, Any] = {}
    arrays: dict[str, NDArray[np.void]] = {}
    for name in plan.nodes:
        facts: dict[str, list[list[str]]] = {"chains": [], "artifacts": []}
        for branch in plan.branches.get(name, []):
            mark = _mark(branch.rows.id)
            arrays[mark] = branch.rows.id
            facts["chains"].append([branch.stage.name, branch.chain.hex(), mark])
        if name in plan.artifacts:
            artifact = plan.artifacts[name]
            facts["artifacts"].append([artifact.node.stage.name, artifact.key.hex()])
        nodes[name] = facts
    return nodes, arrays


def _mark(ids: NDArray[np.void]) -> str:
    """Tells sets of ids apart: they are digests themselves, so that their sum does, at a tenth of a hash's cost."""
    words = np.ascontiguousarray(ids).view("<u8")
    return f"{len(ids)}-{int(words[::2].sum()):016x}{int(words[1::2].sum()):016x}"


def _header(path: Path) -> dict[str, Any]:
    """What the file names, its rows unread. Raises one of UNREADABLE."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(file[HEADER].tobytes())
    if header["version"] != VERSION:
        raise ValueError(f"its version is {header['version']}, expected {VERSION}")
    return header


def _load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.void]]]:
    """Header and ids by their mark, checksums compared. Raises one of UNREADABLE."""
    header = _header(path)
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        rows = {mark: _contiguous(file[mark]) for mark in file.files if mark != HEADER}
    if any(_mark(ids) != mark for mark, ids in rows.items()):
        raise ValueError("its rows are not those that it names")
    return header, rows


def _contiguous(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(rows).view(ID).reshape(-1)


def _read(store: Store, path: Path) -> Wanted:
    try:
        header, rows = _load(path)
        chains: dict[Path, list[NDArray[np.void]]] = {}
        artifacts = set()
        for facts in header["nodes"].values():
            for stage, chain, mark in facts["chains"]:
                chains.setdefault(store.chain_dir(stage, bytes.fromhex(chain)), []).append(rows[mark])
            artifacts |= {store.artifact_dir(stage, key) for stage, key in facts["artifacts"]}
        pipeline, age_s = _path(store, header["pipeline"]), time.time() - path.stat().st_mtime
        return Wanted(path, pipeline, age_s, chains, frozenset(artifacts))
    except (*UNREADABLE, StoreError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}), so that it is not known what another pipeline wants; nothing was "
            f"removed. Remove it and run that pipeline, which writes it anew, or give it up with --forget {path.name}"
        ) from error


def _ago(seconds: float) -> str:
    days = int(max(seconds, 0) // 86400)
    return f"{counted(days, 'day')} ago" if days else "less than a day ago"
