"""What a file of a published detector is, as far as it tells: every entry whose tensors fit, and those that name it.

Tensors do not tell strides, preprocessing or threshold, so a file is named by its digest alone, or by an entry of the
user's whose `file` it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.contents import file_sha256
from stages.sentences import printable
from stages.weights.detector_entries import Entry, read_entries
from stages.weights.detectors import fitting_detectors, state_dicts
from stages.weights.keras_files import HDF5_START
from stages.weights.weights_file import WeightsError

SHIPPED = Path(__file__).parents[2] / "manifests" / "detectors.yaml"


def facts(path: Path, manifest: Path = SHIPPED) -> dict[str, Any] | None:
    """The part of a description that is about detectors; None where no published network has these tensors.

    Raises ConfigError where the manifest cannot be read.
    """
    try:
        states = state_dicts(path)
    except WeightsError:
        return None
    fitting = sorted({network for state in states for network in fitting_detectors(state.shapes)})
    if not fitting:
        return None
    digest = file_sha256(path)
    entries = {name: one for name, one in read_entries(manifest).items() if one.network in fitting}
    named = [name for name, one in entries.items() if _names(one, manifest, path, digest)]
    networks = {
        printable(state.path): {
            "class": "",
            "tensors": len(state.tensors),
            "values": sum(int(array.size) for array in state.tensors.values()),
        }
        for state in states
    }
    return {
        "container": _container(path),
        "version": None,
        "family": "published detector",
        "form": "state dict",
        "networks": networks,
        "other_entries": [],
        "unread_entries": [],
        "generator": None,
        "discriminator": None,
        "detector": {"networks": fitting, "entries": list(entries), "named": named, "manifest": str(manifest)},
    }


def _names(entry: Entry, manifest: Path, path: Path, digest: str) -> bool:
    """Whether an entry means this very file: by its digest, or by its place and no other digest."""
    if entry.sha256 is not None:
        return entry.sha256 == digest
    if entry.sha256_prefix is not None:
        return digest.startswith(entry.sha256_prefix)
    place = None if entry.file is None else manifest.parent / entry.file
    return place is not None and place.is_file() and place.samefile(path)


def _container(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(len(HDF5_START))
    if start == HDF5_START:
        return "HDF5 of Keras"
    if not start.startswith(b"PK"):
        return "torch legacy"
    return "npz of Keras" if path.suffix == ".npz" else "torch zip"


def lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact for people."""
    entries, named, manifest = found["entries"], found["named"], found["manifest"]
    rows = [
        ("fits", f"the networks {', '.join(found['networks'])}"),
        ("entries", f"{', '.join(entries) or 'none'} of {manifest}"),
    ]
    if named:
        return [*rows, ("it is", f"{', '.join(named)}, by the digest or place that the manifest says")]
    told = "its tensors do not tell strides, preprocessing and threshold; " if len(entries) > 1 else ""
    way_out = "make an entry of yours with its `file` and `sha256`, and name that"
    return [*rows, ("it is", f"named by none of them: {told}{way_out}")]
