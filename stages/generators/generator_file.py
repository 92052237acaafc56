"""A generator from a file: our own weights, or an official checkpoint of any container as it was published.

Which family a file holds is found in the file, and only the modules of this family are imported: they alone enter the
recipes of what is made with it. An official checkpoint is read whole to know its header, so headers are kept while
the file is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contents import kept_while_same
from pipeline.errors import StageError
from pipeline.stage import Context, Promise
from stages.generators import weights
from stages.generators.weights import Header
from stages.weights.filling import fill
from stages.weights.weights_file import WeightsError, is_safetensors

if TYPE_CHECKING:
    from torch import Tensor

GENERATOR = "generator.safetensors"  # in the artifact of a training

OFFICIAL = "stages.generators.official"


def promised(family: str, architecture: Mapping[str, Any], domains: Sequence[str] | None) -> dict[str, Any]:
    """What a training promises about its generator, for `read_header`."""
    return {"family": family, "architecture": dict(architecture), "domains": list(domains or ())}


def place(ctx: Context) -> Path:
    """Where the generator of the setting `checkpoint` lies: a file, or in the artifact of a node."""
    if "checkpoint" in ctx.artifacts:
        return ctx.artifacts["checkpoint"][0].path / GENERATOR
    return Path(ctx.files["checkpoint"])


def read_header(path: Path | Promise) -> Header:
    """What a file holds, or will hold; our own files are not read beyond their header. Raises WeightsError."""
    if isinstance(path, Promise):
        return _promised_header(path)
    path = Path(path)
    if is_safetensors(path):
        return weights.read_header(path)
    return _official_header(path)


def _promised_header(promise: Promise) -> Header:
    if "family" not in promise.facts:
        raise WeightsError(f"{promise} does not train a generator; name one that does, or a file of weights")
    architecture = promise.facts["architecture"]
    dimensions = {key: architecture.get(key, 0) for key in weights.DIMENSIONS}
    if dimensions["c_dim"] is None:
        raise WeightsError(f"{promise} does not say which classes it has; name them in its recipe as `domains`")
    return Header(promise.facts["family"], architecture, dimensions, domains=tuple(promise.facts["domains"]))


def lacks_masks(header: Header) -> bool:
    """Whether it is a StarGAN2 that keeps edges of its source (faces), without the network that says which ones."""
    return header.architecture.get("w_hpf", 0) > 0 and not header.architecture.get("fan", False)


def modules(path: Path | Promise) -> tuple[str, ...]:
    """Modules that an image of this file depends on: the family, and the reader of official files if it is one.

    None for a node: whoever reads an artifact has the code of its stage in the recipe, and this holds the family.
    """
    if isinstance(path, Promise):
        return ()
    module = read_header(path).module
    return (module,) if is_safetensors(Path(path)) else (module, OFFICIAL, f"{module}_official")


def refuse_infinite(stage: str, path: Path, sums: Sequence[Tensor]) -> None:
    """Raise StageError where a sum of images that a generator made is no number; all are looked at together."""
    import torch

    if not bool(torch.isfinite(torch.stack([*sums])).all()):
        raise StageError(f"{stage}: {path} makes values that are not finite; its weights are unusable")


@kept_while_same(2)
def load(path: Path, device: str) -> tuple[Any, Any, Header]:
    """Family module, generator on its device (float32, evaluation mode) and header; kept while the file is the same.

    Threads share the generator: who changes it, if only by a hook, takes it `apart`. Raises WeightsError.
    """
    if not is_safetensors(path):
        converted = _open(path)
        header = _header(converted)
        family, empty = weights.build(str(path), header)
        generator = fill(str(path), empty, converted.tensors)
    else:
        header = weights.read_header(path)
        family, generator = weights.load(path, "generator")
    accept = getattr(family, "accept", None)  # of values that names and shapes do not tell
    if accept is not None:
        accept(str(path), generator)
    return family, generator.to(device), header


def apart(network: Any) -> Any:
    """A network of the same weights, which lie in memory once, with hooks of its own; gradients pass it by."""
    from torch import nn

    shared: dict[int, Any] = {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in network.parameters()}
    return copy.deepcopy(network, shared | {id(one): one for one in network.buffers()})


@kept_while_same(64)
def _official_header(path: Path) -> Header:
    return _header(_open(path))


def _open(path: Path) -> Any:
    """An official checkpoint as our architecture and tensors."""
    return import_module(OFFICIAL).open_checkpoint(path)


def _header(converted: Any) -> Header:
    dimensions = {key: converted.architecture.get(key, 0) for key in weights.DIMENSIONS}
    shapes = {name: tuple(array.shape) for name, array in converted.tensors.items()}
    return Header(converted.family, converted.architecture, dimensions, converted.truncation, shapes)
