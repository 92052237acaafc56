"""A re-synthesizer from a file: our own weights, or the published layout as a torch file.

Our file is a safetensors file whose header's `__metadata__` has one entry, "touchstone", a JSON text with the network,
its size and the task that it was trained for. Of a published file (`stages.resynthesis.published`) the size is seen in
the shapes. `read_header` imports no torch, so that planning stays light; headers of published files are kept while the
file is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pipeline.contents import kept_while_same
from pipeline.stage import Context, Promise
from stages.sentences import printable, shown
from stages.weights import safetensors_file
from stages.weights.filling import check_tensors, fill
from stages.weights.kinds import NetworkKind, refuse_other
from stages.weights.weights_file import METADATA_KEY, WeightsError, is_safetensors

if TYPE_CHECKING:
    from stages.resynthesis.rdn import RDN

FILE = "resynthesizer.safetensors"  # in the artifact of a training
KIND = NetworkKind(description="a re-synthesizer; use it as `model` of residual or `checkpoint` of simulate")
FORMAT = 1
NETWORK = "rdn"
MODULE, PUBLISHED = "stages.resynthesis.rdn", "stages.resynthesis.published"
TASKS = ("SR", "SR+C", "SR+D", "SR+C+D")
MOST = 4096  # of each count of an architecture


@dataclass(frozen=True)
class Architecture:
    """Arguments of `stages.resynthesis.rdn.RDN`."""

    features: int
    growth: int
    blocks: int
    layers: int


SIZES = {
    "full": Architecture(64, 64, 16, 8),
    "small": Architecture(32, 32, 4, 3),
    "tiny": Architecture(16, 16, 2, 2),
}
"""full: as published (He et al. 2021, section 4.5)."""


@dataclass(frozen=True)
class Header:
    """What a file says about its re-synthesizer.

    task   "SR", "SR+C", "SR+D", "SR+C+D", or None: published files do not say
    """

    architecture: Architecture
    task: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """ "full", "small", "tiny", or "other"."""
        return next((name for name, known in SIZES.items() if known == self.architecture), "other")


def place(ctx: Context, name: str = "checkpoint") -> Path:
    """Where the re-synthesizer of the file setting `name` lies: a file, or in the artifact of a node."""
    if name in ctx.artifacts:
        return ctx.artifacts[name][0].path / FILE
    return Path(ctx.files[name])


def promised(architecture: Architecture, task: str) -> dict[str, Any]:
    """What a training promises about its re-synthesizer, for `read_header`."""
    return {"network": NETWORK, "architecture": asdict(architecture), "task": task}


def read_header(path: Path | Promise) -> Header:
    """What a file holds, or will hold; values of our own files are not read. Raises WeightsError."""
    if isinstance(path, Promise):
        if path.facts.get("network") != NETWORK:
            raise WeightsError(f"{path} does not train a re-synthesizer; name one that does, or a file of weights")
        return Header(Architecture(**path.facts["architecture"]), path.facts["task"])
    path = Path(path)
    if is_safetensors(path):
        return _own_header(path)
    return _published_header(path)


def modules(path: Path | Promise) -> tuple[str, ...]:
    """Modules that the values of this file's network depend on, for the code closure.

    None for a node: whoever reads an artifact has the code of its stage in the recipe, and this holds the network.
    """
    if isinstance(path, Promise):
        return ()
    return (MODULE,) if is_safetensors(Path(path)) else (MODULE, PUBLISHED)


def load(path: Path, device: str) -> RDN:
    """The network on its device (float32, evaluation mode, frozen); kept while the file is the same, so do not train
    it: copy it first. Raises WeightsError.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; give the weights of a re-synthesizer")
    return _loaded(path, device)


@kept_while_same(64)
def _published_header(path: Path) -> Header:
    return described(path, import_module(PUBLISHED).read_tensors(path), None)


@kept_while_same(4)
def _loaded(path: Path, device: str) -> RDN:
    if not is_safetensors(path):
        tensors = import_module(PUBLISHED).read_tensors(path)
        header = described(path, tensors, None)
    else:
        from safetensors.numpy import load_file

        header, tensors = _own_header(path), load_file(path)
    return build(path, header.architecture, tensors).to(device)


def _own_header(path: Path) -> Header:
    about, shapes = safetensors_file.read_header(path)
    if about is None:
        raise WeightsError(f"{path} does not say what it holds (metadata entry {METADATA_KEY!r} is missing)")
    refuse_other(path, about, NETWORK)
    if not isinstance(about, dict) or about.get("network") != NETWORK:
        found = about.get("network", about.get("kind")) if isinstance(about, dict) else about
        raise WeightsError(f"{path} holds {shown(found)}; expected the network {NETWORK!r} of train_resynthesizer")
    if about.get("format") != FORMAT:
        raise WeightsError(f"{path} is of format {shown(about.get('format'))}; this version reads format {FORMAT}")
    counts, task = about.get("architecture"), about.get("task")
    names = Architecture.__dataclass_fields__.keys()
    if not isinstance(counts, dict) or counts.keys() != names or not all(_count(count) for count in counts.values()):
        raise WeightsError(
            f"{path}: its architecture is {printable(repr(counts))}; expected counts of {', '.join(names)}"
        )
    if task not in TASKS:
        raise WeightsError(f"{path}: its task is {shown(task)}; expected {', '.join(TASKS)}")
    return Header(Architecture(**counts), task, shapes)


def _count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


def described(path: Path, tensors: Mapping[str, NDArray[Any]], task: str | None) -> Header:
    """Header of tensors in the published layout, by their names and shapes; raises WeightsError."""
    shapes = {name: tuple(array.shape) for name, array in tensors.items()}
    first, dense = shapes.get("sfe1.weight", ()), shapes.get("rdbs.0.layers.0.conv.weight", ())
    places = [name.split(".") for name in shapes if name.startswith("rdbs.") and name.endswith(".conv.weight")]
    places = [parts for parts in places if len(parts) == 6 and parts[1].isdecimal() and parts[3].isdecimal()]
    if len(first) != 4 or len(dense) != 4:
        raise WeightsError(
            f"{path} holds no residual dense network: it lacks weights of 'sfe1' or of 'rdbs.0.layers.0'"
        )
    counts = (
        first[0],
        dense[0],
        1 + max(int(parts[1]) for parts in places),
        1 + max(int(parts[3]) for parts in places),
    )
    if not all(_count(count) for count in counts):
        raise WeightsError(f"{path} has a residual dense network of counts {counts}; expected 1 to {MOST}")
    return Header(Architecture(*counts), task, shapes)


def empty(architecture: Architecture) -> RDN:
    """The network of an architecture, without values (device "meta")."""
    import torch

    from stages.resynthesis.rdn import RDN

    with torch.device("meta"):
        return RDN(**asdict(architecture))


def build(path: Path | str, architecture: Architecture, tensors: Mapping[str, NDArray[Any]]) -> RDN:
    """A network with these values (float32, evaluation mode, frozen); raises WeightsError where they do not fit."""
    return fill(str(path), empty(architecture), tensors)


def save(path: Path, architecture: Architecture, task: str, tensors: Mapping[str, NDArray[Any]]) -> Header:
    """Write our file, whole or not at all, after checking it against its network; equal input gives equal bytes.

    Raises WeightsError.
    """
    from pipeline.atomic import write_bytes

    checked = check_tensors(str(path), tensors, empty(architecture))
    header = Header(architecture, task)
    about = {"format": FORMAT, "network": NETWORK, "architecture": asdict(architecture), "size": header.size,
             "task": task, "scale": 4}  # fmt: skip
    write_bytes(path, safetensors_file.pack(checked, about))
    return read_header(path)
