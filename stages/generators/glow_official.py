"""From the variables of Glow's authors (a frozen graph or a checkpoint of TensorFlow) to our network.

The structure stands in no file: it is found from names and shapes. Where a graph has other names, constants are taken
in their order, by shapes alone; then nothing may be left over. In either case an image of noise must come back from its
latents, or the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed, printable
from stages.weights.checkpoints import TENSORFLOW_CHECKPOINT, TENSORFLOW_GRAPH, Contents, Converted
from stages.weights.filling import check_tensors, fill
from stages.weights.weights_file import WeightsError

if TYPE_CHECKING:
    from stages.generators.glow import Generator

Array = NDArray[Any]
Shape = tuple[int, ...]

FORMS = {TENSORFLOW_GRAPH: "frozen graph", TENSORFLOW_CHECKPOINT: "checkpoint"}
FIRST = re.compile(r"(?P<scope>(?:.*/)?)model/0/0/invconv/W")
BITS = 5
"""Of the authors' faces; no file says it."""
OFF = 1e-3
"""Difference of a value of the noise that comes back, at most."""
TOP_SIDE = 4
"""Of the last level in all models of the authors: no tensor says the side of an image."""
NORM = (("bias", "actnorm_center/b"), ("logs", "actnorm_scale/logs"))
ZERO = (("weight", "W"), ("bias", "b"), ("logs", "logs"))
STEP = 12  # tensors of a step


@dataclass
class Plan:
    """Arguments of the network, and its tensors with the names under which the file has them."""

    architecture: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)  # ours -> theirs


def recognize(contents: Contents) -> str | None:
    """Name of the form of a file, or None: not a Glow. A graph of other names is taken for one, and may be refused."""
    form = FORMS.get(contents.container)
    if form is None:
        return None
    tensors = contents.networks[""].tensors
    named = any(map(FIRST.fullmatch, tensors))
    return form if named or contents.container == TENSORFLOW_GRAPH else None


def discriminator(contents: Contents) -> Converted | None:
    """None: the family has none."""
    return None


def generator(contents: Contents, which: str = "average") -> Converted:
    """The flow; there is but one, whatever `which` says. Raises WeightsError."""
    import torch

    from stages.generators import glow

    tensors = contents.networks[""].tensors
    scope = next((match["scope"] for match in map(FIRST.fullmatch, tensors) if match), None)
    plan = by_order(tensors) if scope is None else by_name(tensors, f"{scope}model/")
    try:
        with torch.device("meta"):
            network = glow.build(plan.architecture)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"it has an impossible architecture: {error}") from error
    state = network.state_dict()
    missing = sorted(set(state) - set(plan.names))
    if missing:
        raise WeightsError(f"it lacks {listed(missing)}")
    ours = {name: _ours(tensors[theirs], tuple(state[name].shape), theirs) for name, theirs in plan.names.items()}
    checked = check_tensors("its flow", ours, network)
    how = "by name" if scope is not None else "by order, as they have other names"
    condition, off = proved(fill("its flow", network, checked))
    notes = (
        f"constants taken {how}; noise comes back from its latents within {off:.0e}",
        f"largest condition number of a 1x1 convolution {condition:.3g}",
        f"no file says its levels per color: 2^{BITS}, as the authors' faces; other bits: sample with drawing.bits",
    )
    return Converted("glow", plan.architecture, checked, {"psi": 1.0, "cutoff": None}, "", notes)


def proved(network: Generator) -> tuple[float, float]:
    """Worst condition number, and how far noise is off that was encoded and decoded again; raises WeightsError."""
    import torch

    from stages.generators import glow

    glow.accept("its flow", network)
    side = 1 << len(network.levels)  # no weight depends on the side of the image
    noise = np.random.RandomState(0).uniform(-0.5, 0.5, (2, network.colors, side, side))
    x = torch.from_numpy(noise.astype(np.float32))
    label = torch.eye(network.c_dim)[[0, -1]] if network.c_dim else None
    with torch.no_grad():
        off = (network.decode(network.encode(x, label)[0], label) - x).abs().max().item()
    if not off <= OFF:
        raise WeightsError(
            f"its flow is not invertible: noise comes back from its latents {off:.2g} off, more than {OFF:g}; "
            "its constants are those of another network, or in another order"
        )
    return network.worst_condition(), off


def _ours(array: Array, shape: Shape, name: str) -> Array:
    """A tensor in our order of axes and without axes of length 1 that only align it."""
    if array.ndim == 4 and len(shape) == 4:
        array = array.transpose(3, 2, 0, 1)
    elif len(shape) == 1:
        array = array.reshape(-1) if array.size == shape[0] else array
    if array.shape != shape:
        raise WeightsError(f"its {printable(name)} has shape {array.shape}; its network needs {shape}")
    return np.asarray(array, dtype=np.float32)


# What there is


def layout(levels: int, depth: int, learn_top: bool, conditional: bool) -> Iterator[tuple[str, str]]:
    """Our name and that of the authors of every tensor, in the order in which their program makes them."""
    for level in range(levels):
        for step in range(depth):
            yield from _of_step(f"levels.{level}.{step}", f"{level}/{step}")
        if level < levels - 1:
            yield from ((f"splits.{level}.{part}", f"pool{level}/conv/{theirs}") for part, theirs in ZERO)
    if learn_top:
        yield from ((f"top.{part}", f"prior/p/{theirs}") for part, theirs in ZERO)
    if conditional:
        yield from ((f"embedding.{part}", f"prior/y_emb/{theirs}") for part, theirs in ZERO)


def _of_step(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.norm.{part}", f"{theirs}/{name}") for part, name in NORM)
    yield f"{ours}.matrix", f"{theirs}/invconv/W"
    for number in (1, 2):
        yield f"{ours}.coupling.conv{number}.weight", f"{theirs}/f1/l_{number}/W"
        yield from ((f"{ours}.coupling.norm{number}.{part}", f"{theirs}/f1/l_{number}/{name}") for part, name in NORM)
    yield from ((f"{ours}.coupling.last.{part}", f"{theirs}/f1/l_last/{name}") for part, name in ZERO)


def _architecture(
    levels: int, depth: int, matrix: Shape, first: Shape, last: Shape, classes: int, learn_top: bool
) -> dict[str, Any]:
    """Arguments of the network. first, last: shapes of the outer convolutions of a coupling on `matrix` channels."""
    channels, width = matrix[0], first[3]
    if channels % 4 or last[3] not in (channels // 2, channels):
        raise WeightsError(f"its first coupling changes {last[3]} of {channels} channels; expected half or all of them")
    return {
        "resolution": TOP_SIDE << levels, "levels": levels, "depth": depth, "width": width, "c_dim": classes,
        "coupling": "affine" if last[3] == channels else "additive", "bits": BITS, "learn_top": learn_top,
        "colors": channels // 4,
    }  # fmt: skip


# By name


def by_name(tensors: Mapping[str, Array], scope: str) -> Plan:
    """Of variables with the authors' names. Others under the same scope are an error, but for copies of those."""
    shapes = {name.removeprefix(scope): array.shape for name, array in tensors.items() if name.startswith(scope)}
    levels, depth = _count(shapes, "{}/0/invconv/W"), _count(shapes, "0/{}/invconv/W")
    matrix, first = _shape(shapes, "0/0/invconv/W", 2), _shape(shapes, "0/0/f1/l_1/W", 4)
    last = _shape(shapes, "0/0/f1/l_last/W", 4)
    classes = _shape(shapes, "prior/y_emb/W", 2)[0] if "prior/y_emb/W" in shapes else 0
    plan = Plan(_architecture(levels, depth, matrix, first, last, classes, "prior/p/W" in shapes))
    for ours, theirs in layout(levels, depth, plan.architecture["learn_top"], bool(classes)):
        if theirs not in shapes:
            raise WeightsError(f"it lacks the variable {scope}{theirs}")
        plan.names[ours] = scope + theirs
    used = {theirs.removeprefix(scope) for theirs in plan.names.values()}
    left = [scope + name for name, shape in shapes.items() if len(shape) >= 2 and not _is_or_copies(name, used)]
    if left:
        raise WeightsError(f"it has {len(left)} unknown tensors, for example {printable(sorted(left)[0])}")
    return plan


def _is_or_copies(name: str, used: set[str]) -> bool:
    """Whether it is one of `used`, or what an optimizer or an average keeps beside it."""
    parts = name.split("/")
    return any("/".join(parts[:end]) in used for end in range(1, len(parts) + 1))


def _count(shapes: Mapping[str, Shape], name: str) -> int:
    """How many of name.format(0), name.format(1), ... there are without a gap."""
    return next(number for number in range(len(shapes) + 1) if name.format(number) not in shapes)


def _shape(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    if name not in shapes:
        raise WeightsError(f"it lacks the variable {name}")
    if len(shapes[name]) != axes or 0 in shapes[name]:
        raise WeightsError(f"its {name} has shape {shapes[name]}; expected {axes} axes")
    return shapes[name]


# By order


def by_order(tensors: Mapping[str, Array]) -> Plan:
    """Of constants with other names: those with two axes or more must be the tensors of one Glow, in order."""
    found = [(name, array.shape) for name, array in tensors.items() if array.ndim >= 2]
    shapes = [shape for _, shape in found]
    if len(found) < STEP or len(shapes[2]) != 2 or {len(shapes[3]), len(shapes[9])} != {4}:
        raise WeightsError(f"its {len(found)} constants are not those of a Glow, neither by name nor in their order")
    channels, width, changed = shapes[2][0], shapes[3][3], shapes[9][3]
    at = depth = levels = 0
    while True:
        steps = 0
        while _matches(shapes, at, _step_shapes(channels, width, changed == shapes[2][0])):
            at, steps = at + STEP, steps + 1
        depth, levels = depth or steps, levels + 1
        half = channels // 2
        if not steps or steps != depth or not _matches(shapes, at, _zero_shapes(half, channels)):
            break
        at, channels = at + len(ZERO), 2 * channels
    learn_top = _matches(shapes, at, _zero_shapes(2 * channels, 2 * channels))
    at += len(ZERO) * learn_top
    classes = shapes[at][0] if _matches(shapes, at + 1, [(1, 2 * channels)] * 2) and len(shapes[at]) == 2 else 0
    at += len(ZERO) * bool(classes)
    if not depth or steps != depth or at != len(shapes):
        left = listed([name for name, _ in found[at:]])
        raise WeightsError(
            f"its constants are not those of a Glow, neither by name nor in their order; left over are {left}"
        )
    plan = Plan(_architecture(levels, depth, shapes[2], shapes[3], shapes[9], classes, learn_top))
    names = layout(levels, depth, learn_top, bool(classes))
    plan.names = {ours: name for (ours, _), (name, _) in zip(names, found, strict=True)}
    return plan


def _matches(shapes: list[Shape], at: int, wanted: list[Shape]) -> bool:
    return shapes[at : at + len(wanted)] == wanted


def _zero_shapes(inputs: int, outputs: int) -> list[Shape]:
    return [(3, 3, inputs + 1, outputs), (1, 1, 1, outputs), (1, outputs)]


def _step_shapes(channels: int, width: int, affine: bool) -> list[Shape]:
    half = channels // 2
    return [
        (1, 1, 1, channels), (1, 1, 1, channels), (channels, channels),
        (3, 3, half + 1, width), (1, 1, 1, width), (1, 1, 1, width),
        (1, 1, width, width), (1, 1, 1, width), (1, 1, 1, width),
        *_zero_shapes(width, channels if affine else half),
    ]  # fmt: skip
