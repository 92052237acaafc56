"""The perceptual network of a file: VGG-19 as torchvision publishes it, or a small one of this project.

`read_header` needs no torch, so that planning knows channels and sizes, and that names and shapes of all tensors are
those of the network; `load` reads the weights as data: safetensors, or torchvision's .pth through the project's own
reader of checkpoints, which enters the recipe only then. Of a whole VGG-19 the layers behind relu5_1 and the classifier
are left out by name; any other name is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.contents import kept_while_same
from stages.sentences import printable, shown
from stages.weights import safetensors_file
from stages.weights.filling import fill
from stages.weights.kinds import NetworkKind, refuse_other
from stages.weights.weights_file import WeightsError

if TYPE_CHECKING:
    from stages.resynthesis.perceptual_networks import PerceptualNetwork

KIND = NetworkKind(description="a perceptual network; use it as `perceptual` of residual")
FORMAT = 1
STAGES = 5
STRIDES = (1, 2, 4, 8, 16)
"""Side of the image over side of stage 1 to 5, rounded down."""

NETWORKS = "stages.resynthesis.perceptual_networks"
TORCH_FILES = "stages.weights.checkpoints"
VGG19_CHANNELS = (64, 128, 256, 512, 512)
VGG19_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
VGG19_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512)
BEHIND = frozenset(
    f"{layer}.{kind}"
    for layer in ("features.30", "features.32", "features.34", "classifier.0", "classifier.3", "classifier.6")
    for kind in ("weight", "bias")
)
"""Tensors of a whole VGG-19 that no stage needs."""

MOST_WIDTH = 4096


@dataclass(frozen=True)
class PerceptualHeader:
    """Which network a file holds. family: "vgg19" or "small"; channels: of stages 1 to 5."""

    family: str
    channels: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        return STRIDES


def read_header(path: Path) -> PerceptualHeader:
    """What a file holds, without torch and with the shapes of its tensors compared, not their values.

    Raises WeightsError, one sentence that begins with the path.
    """
    path = Path(path)
    if _is_torch_file(path):
        return _torch_header(path)
    about, shapes = safetensors_file.read_header(path)
    if about is None:
        return _vgg19_header(path, shapes)
    if not isinstance(about, dict):
        raise WeightsError(f"{path}: its description is {shown(about)}, expected an object")
    refuse_other(path, about, "perceptual")
    if about.get("network") != "perceptual" or about.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds a {shown(about.get('network', 'generator'))} of format {shown(about.get('format'))}; "
            f"expected a 'perceptual' network of format {FORMAT}"
        )
    widths = about.get("widths")
    if (
        not isinstance(widths, list)
        or len(widths) != STAGES
        or not all(type(width) is int and 1 <= width <= MOST_WIDTH for width in widths)
    ):
        raise WeightsError(
            f"{path}: its widths are {printable(repr(widths))}, expected {STAGES} numbers from 1 to {MOST_WIDTH}"
        )
    _compare(path, shapes, _shapes(range(0, 3 * STAGES, 3), widths), f"the widths {widths}")
    return PerceptualHeader("small", tuple(widths))


@kept_while_same(64)
def _torch_header(path: Path) -> PerceptualHeader:
    return _vgg19_header(path, {name: tuple(array.shape) for name, array in _tensors(path).items()})


def _vgg19_header(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> PerceptualHeader:
    needed = {name: shape for name, shape in shapes.items() if name not in BEHIND}
    _compare(path, needed, _shapes(VGG19_CONVOLUTIONS, VGG19_WIDTHS), "VGG-19")
    return PerceptualHeader("vgg19", VGG19_CHANNELS)


def _shapes(numbers: Sequence[int], widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Tensors of 3 x 3 convolutions that follow each other, the first one of RGB, by their places in `features`."""
    found: dict[str, tuple[int, ...]] = {}
    for number, before, width in zip(numbers, (3, *widths), widths, strict=False):
        found[f"features.{number}.weight"], found[f"features.{number}.bias"] = (width, before, 3, 3), (width,)
    return found


def _compare(
    path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], network: str
) -> None:
    """Raise WeightsError where names or shapes of tensors are not those of the network."""
    missing, unknown = [name for name in expected if name not in found], sorted(found.keys() - expected.keys())
    other = [name for name, shape in expected.items() if found.get(name) != shape]
    if missing:
        wrong = f"it lacks {missing[0]} of {network}"
    elif unknown:
        wrong = f"it has the unknown {printable(unknown[0])}"
    elif other:
        wrong = f"its {other[0]} is {found[other[0]]}, that of {network} {expected[other[0]]}"
    else:
        return
    raise WeightsError(
        f"{path} is no perceptual network: {wrong}; expected torchvision's VGG-19, or a small network of this project"
    )


def modules(path: Path) -> tuple[str, ...]:
    """Modules that the values of this file's network depend on, beside this one: the reader of .pth if it is one."""
    return (NETWORKS, TORCH_FILES) if _is_torch_file(Path(path)) else (NETWORKS,)


def load(path: Path, device: str) -> PerceptualNetwork:
    """The network on its device, frozen, float32, channels last; kept while the file is the same.

    Raises WeightsError where names, shapes or values are not those of the network.
    """
    path = Path(path)
    return _loaded(path, read_header(path), device)


def save(path: Path, widths: Sequence[int], tensors: Mapping[str, NDArray[np.float32]]) -> PerceptualHeader:
    """Write a small network as safetensors; the same input gives the same bytes. Raises WeightsError."""
    from pipeline.atomic import write_bytes

    networks = import_module(NETWORKS)
    network = fill(str(path), networks.build(networks.small(widths)), tensors)
    checked = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    about = {"format": FORMAT, "network": "perceptual", "widths": list(widths)}
    write_bytes(path, safetensors_file.pack(checked, about))
    return read_header(path)


def _is_torch_file(path: Path) -> bool:
    """Whether a file is a pickle or archive of torch; raises WeightsError where it is neither that nor safetensors."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if start[8:9] == b"{":
        return False
    wrong = import_module(TORCH_FILES).other_kind(start)
    if wrong:
        raise WeightsError(f"{path} {wrong}")
    return True


@kept_while_same(2)
def _loaded(path: Path, header: PerceptualHeader, device: str) -> PerceptualNetwork:
    import torch

    networks = import_module(NETWORKS)
    slices = networks.VGG19 if header.family == "vgg19" else networks.small(header.channels)
    tensors = {name: array for name, array in _tensors(path).items() if name not in BEHIND}
    network = fill(str(path), networks.build(slices), tensors)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _tensors(path: Path) -> Mapping[str, NDArray[Any]]:
    """All tensors of a file by name."""
    if not _is_torch_file(path):
        from safetensors.numpy import load_file

        return load_file(path)
    found = import_module(TORCH_FILES).read_contents(path).networks
    if set(found) != {""}:
        raise WeightsError(
            f"{path} holds {', '.join(map(repr, sorted(found))) or 'no tensors'}; expected the tensors of VGG-19 alone"
        )
    tensors: Mapping[str, NDArray[Any]] = found[""].tensors
    return tensors
