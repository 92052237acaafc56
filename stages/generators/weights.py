"""Our own file of the weights of a generator or discriminator: one safetensors file that says which network it holds.

Official checkpoints are pickles; here weights are plain data (safetensors), and the header's `__metadata__` has one
entry, "touchstone", a JSON text with the family, the arguments of its network, its dimensions, its usual truncation and
the names of its domains. `read_header` needs no torch, so that planning knows the size of images without loading
anything; `load` compares every tensor's name and shape with the network that the header describes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pipeline.atomic import write_bytes
from stages import GENERATORS
from stages.sentences import printable, shown
from stages.weights import safetensors_file
from stages.weights.filling import check_tensors, fill
from stages.weights.kinds import NetworkKind, refuse_other
from stages.weights.weights_file import METADATA_KEY, WeightsError

if TYPE_CHECKING:
    from torch import nn

KIND = NetworkKind(description="a generator; use it as `checkpoint` of sample, translate or simulate")
FORMAT = 1
FAMILIES = {name: f"stages.generators.{name}" for name in GENERATORS}
DISCRIMINATORS = {name: f"{one}_discriminator" for name, one in FAMILIES.items() if find_spec(f"{one}_discriminator")}
NETWORKS = {"generator": FAMILIES, "discriminator": DISCRIMINATORS}
DIMENSIONS = ("resolution", "z_dim", "w_dim", "c_dim")


@dataclass(frozen=True)
class Header:
    """What a weights file says about itself.

    dimensions   resolution (pixels), z_dim, w_dim, c_dim (0: unconditional); 0 also where the network has none
    truncation   {"psi": float, "cutoff": int or None}: values that the authors of the weights suggest
    shapes       tensor name -> shape
    network      "generator" or "discriminator"
    domains      names of the c_dim classes, or () if the file does not name them
    """

    family: str
    architecture: Mapping[str, Any]
    dimensions: Mapping[str, int]
    truncation: Mapping[str, Any] = field(default_factory=lambda: {"psi": 1.0, "cutoff": None})
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    network: str = "generator"
    domains: tuple[str, ...] = ()

    @property
    def resolution(self) -> int:
        return self.dimensions["resolution"]

    @property
    def module(self) -> str:
        """Module of the network: a family's has `build(architecture)`, `draw(...)` and `render(...)`."""
        return NETWORKS[self.network][self.family]


def read_header(path: Path) -> Header:
    """Header of a weights file, without torch and without reading weights; raises WeightsError."""
    return _described(path, *safetensors_file.read_header(path))


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(number) is int and number >= 0 for number in value)


def _described(path: Path, about: Any, shapes: Mapping[str, tuple[int, ...]]) -> Header:
    """Header of a description; raises WeightsError for one that no training writes."""
    if about is None:
        raise WeightsError(f"{path} holds tensors but no description of a network (metadata entry {METADATA_KEY!r})")
    refuse_other(path, about, "generator")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(f"{path} is of format {printable(repr(found))}; this version reads format {FORMAT}")
    family, network = about.get("family"), about.get("network", "generator")
    if not isinstance(family, str) or family not in FAMILIES or str(network) not in NETWORKS:
        known = f"known are {' and '.join(NETWORKS)} of {', '.join(FAMILIES)}"
        raise WeightsError(f"{path} holds a network {shown(network)} of family {shown(family)}; {known}")
    if family not in NETWORKS[str(network)]:
        raise WeightsError(f"{path} holds a {network} of family {family}, which has none")
    architecture, dimensions, truncation = (about.get(key) for key in ("architecture", "dimensions", "truncation"))
    if not isinstance(architecture, dict):
        raise WeightsError(f"{path}: its description has no architecture")
    if not isinstance(dimensions, dict) or not _naturals([dimensions.get(key) for key in DIMENSIONS]):
        raise WeightsError(f"{path}: its description lacks one of the dimensions {', '.join(DIMENSIONS)}")
    if any(architecture.get(key, 0) != dimensions[key] for key in DIMENSIONS):
        found = f"{printable(str(dimensions))} are not those of its architecture {printable(str(architecture))}"
        raise WeightsError(f"{path}: its dimensions {found}")
    if not isinstance(truncation, dict) or set(truncation) != {"psi", "cutoff"} or not _truncates(**truncation):
        found = printable(repr(truncation))
        raise WeightsError(f"{path}: its truncation is {found}, expected psi, a number, and cutoff, a count")
    domains = about.get("domains", [])
    if not isinstance(domains, list) or not _named(domains, dimensions["c_dim"]):
        found = f"{printable(repr(domains))}, expected {dimensions['c_dim']} different names"
        raise WeightsError(f"{path}: its domains are {found}")
    return Header(family, architecture, dimensions, truncation, shapes, network, tuple(domains))


def _truncates(psi: Any, cutoff: Any) -> bool:
    return type(psi) in (int, float) and math.isfinite(psi) and (cutoff is None or (type(cutoff) is int and cutoff > 0))


def _named(domains: Sequence[Any], classes: int) -> bool:
    """No names, or one of its own for each class."""
    names = {name for name in domains if isinstance(name, str) and name}
    return not domains or len(domains) == len(names) == classes


def build(where: str, header: Header) -> tuple[ModuleType, nn.Module]:
    """Module of the network of a header, and this network without values (device "meta")."""
    import torch

    module = import_module(header.module)
    try:
        with torch.device("meta"):
            if header.network == "generator":
                network = module.build(header.architecture)
            else:
                network = module.Discriminator(**header.architecture)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        architecture = printable(str(dict(header.architecture)), 400)
        reason = printable(str(error), 200)
        raise WeightsError(f"{where}: its architecture {architecture} cannot be built: {reason}") from error
    for key, stated in header.dimensions.items():
        if getattr(network, key, stated) != stated:
            raise WeightsError(f"{where}: its architecture must name {key}, which is {getattr(network, key)}")
    return module, network


def load(path: Path, network: str | None = None) -> tuple[ModuleType, nn.Module]:
    """Module and network (float32, CPU, evaluation mode) of a weights file; raises WeightsError.

    network  "generator" or "discriminator": refuse a file that holds the other
    """
    from safetensors.numpy import load_file

    header = read_header(path)
    if network not in (None, header.network):
        raise WeightsError(f"{path} holds a {header.network}; a {network} is wanted")
    module, empty = build(str(path), header)
    return module, fill(str(path), empty, load_file(path))


def save(
    path: Path,
    family: str,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    truncation: Mapping[str, Any] | None = None,
    network: str = "generator",
    domains: Sequence[str] = (),
) -> Header:
    """Write a weights file (float32), after checking it against its network; the same input gives the same bytes.

    architecture  keyword arguments of the network; they name each dimension that it has
    domains       names of its c_dim classes, or nothing
    The file appears whole or not at all (temporary name, then rename). Raises WeightsError.
    """
    about = {
        "format": FORMAT,
        "network": network,
        "family": family,
        "architecture": dict(architecture),
        "dimensions": {key: architecture.get(key, 0) for key in sorted(DIMENSIONS)},
        "truncation": dict(truncation or {"psi": 1.0, "cutoff": None}),
    }
    if domains:
        about["domains"] = list(domains)
    _, empty = build(str(path), _described(path, about, {}))
    write_bytes(path, safetensors_file.pack(check_tensors(str(path), tensors, empty), about))
    return read_header(path)
