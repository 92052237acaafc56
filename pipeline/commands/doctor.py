"""`touchstone doctor`: is this installation able to run this pipeline?"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.declaring.config import Pipeline

LIBRARIES = ("numpy", "pillow", "torch", "torchvision", "zarr", "dask", "distributed", "pydantic", "scikit-learn",
             "safetensors", "matplotlib", "jinja2")  # fmt: skip
LEAST_FREE = 2**30


def examine(file: Path) -> list[dict[str, Any]]:
    """Findings in order: {"what", "found", "ok"}; "note": true where nothing can be wrong."""
    findings = [_finding("python", sys.version.split()[0], (3, 11) <= sys.version_info[:2] < (3, 14))]
    for name in LIBRARIES:
        try:
            findings.append(_finding(name, importlib.metadata.version(name), True))
        except importlib.metadata.PackageNotFoundError:
            findings.append(_finding(name, "not installed; install the project from its lock file", False))
    findings.append(_torch_pair())
    named, store = _config(file)
    findings += named
    place = store if store.exists() else file.parent
    free = shutil.disk_usage(place).free
    findings.append(_finding("free disk", f"{free / 2**30:.1f} GiB at {place}", free > LEAST_FREE))
    findings.append(_finding("store writable", str(place), os.access(place, os.W_OK)))
    return findings


def _finding(what: str, found: str, ok: bool) -> dict[str, Any]:
    return {"what": what, "found": found, "ok": ok}


def _torch_pair() -> dict[str, Any]:
    """torch and torchvision must have been built for each other: importing both tells."""
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        return _finding(
            "torch with torchvision", f"do not import together ({error}); install both from the lock", False
        )
    gpus = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    return _finding("torch with torchvision", f"import together; {gpus or 'no CUDA device, networks run on CPU'}", True)


def _config(file: Path) -> tuple[list[dict[str, Any]], Path]:
    """Findings of the pipeline file and of all files that it misses, and the place of the store."""
    from pipeline.declaring.config import load_pipeline
    from pipeline.declaring.missing import missing_files
    from pipeline.errors import ConfigError
    from pipeline.sentences import counted

    try:
        if missing := missing_files(file):
            return [_finding("missing file", sentence, False) for sentence in missing], file.parent / "store"
        pipeline = load_pipeline(file)
    except ConfigError as error:
        return [_finding("pipeline file", str(error), False)], file.parent / "store"
    found = f"{file} is valid: {counted(len(pipeline.nodes), 'node')}"
    return [_finding("pipeline file", found, True), *_sources(pipeline)], pipeline.store


def _sources(pipeline: Pipeline) -> Iterator[dict[str, Any]]:
    """What each source of files holds, by names alone: counts beside the expected ones, files that cannot be read."""
    from pipeline.errors import TouchstoneError
    from pipeline.inputs.names_alone import NamesAlone
    from pipeline.planning.rows import place
    from pipeline.sentences import counted
    from pipeline.stage import Kind

    scan = NamesAlone(pipeline.base, pipeline.store)
    for node in pipeline.nodes.values():
        if node.stage.kind is not Kind.SOURCE or not node.stage.content:
            continue
        try:
            found = node.stage.discover(node.config, scan)
        except (TouchstoneError, ValueError, OSError) as error:
            yield _finding(node.name, str(error), False)
            continue
        yield _finding(node.name, counted(len(found.id), "image"), True)
        yield from ({**_finding(node.name, note, True), "note": True} for note in found.notes)
        if found.problems:
            first = place(found, row := min(found.problems)), found.problems[row]
            said = f"{counted(len(found.problems), 'image')} cannot be read, e.g. {': '.join(first)}"
            yield _finding(node.name, said, False)
