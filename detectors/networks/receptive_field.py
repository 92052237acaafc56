"""What of its input one cell of a network's map can see: computed from the operations that a forward pass runs.

A pass without values (on torch's meta device) is watched. Each tensor on the way has, for rows and for columns, a
function from a cell's index to the places of the input that it sees, as if the picture had no border. A convolution or
pooling of kernel k sees what its first and its last cell see; where branches meet, the field is what holds both.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CELLS = 33
"""So many cells in a row must see fields of one size at one distance."""

Sight = Callable[[int], tuple[int, int]]
"""Index of a cell along one axis -> first place of the input that it sees, and the one behind the last."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Field:
    """Cell i sees places [stride i + first, stride i + first + size) along one axis, some of them outside."""

    size: int
    stride: int
    first: int


def receptive_field(function: Callable[[Tensor], Tensor], channels: int = 3, side: int = 512) -> tuple[Field, Field]:
    """Fields of the rows and columns of the map (N, C, h, w) that `function` makes of (N, channels, side, side).

    function  a module on torch's meta device, or a method of one, such as `network.maps`
    side      large enough for the network; the fields do not depend on it

    Raises ValueError where a cell sees all of the input, or where cells see fields of several sizes.
    """
    x = torch.empty(1, channels, side, side, device="meta")
    with torch.no_grad(), Watch(x) as watch:
        found = function(x)
    if found.ndim != 4 or id(found) not in watch.sights:
        raise ValueError(f"the result {tuple(found.shape)} is no map whose cells see a part of the input")
    rows, columns = (_field(sight) for sight in watch.sights[id(found)])
    return rows, columns


def fields_of(network: nn.Module, channels: int = 3, side: int = 512) -> tuple[Field, Field]:
    """Of the map before the head (`network.maps`), or of the logits of each cell; the module itself stays as it is."""
    copied = copy.deepcopy(network).to("meta").eval()
    return receptive_field(getattr(copied, "maps", copied), channels, side)


def _field(sight: Sight) -> Field:
    seen = [sight(cell) for cell in range(CELLS)]
    sizes = {end - first for first, end in seen}
    strides = {after[0] - before[0] for before, after in itertools.pairwise(seen)}
    if len(sizes) > 1 or len(strides) > 1:
        raise ValueError(f"cells see fields of {sorted(sizes)} places at distances {sorted(strides)}, not of one size")
    return Field(sizes.pop(), strides.pop(), seen[0][0])


def window(sight: Sight, kernel: int, stride: int = 1, padding: int = 0, gap: int = 1) -> Sight:
    """Of cells that see `kernel` cells, `gap` apart, every `stride` cells, from -padding on."""

    @cache
    def seen(cell: int) -> tuple[int, int]:
        start = cell * stride - padding
        return sight(start)[0], sight(start + (kernel - 1) * gap)[1]

    return seen


def joined(one: Sight, other: Sight) -> Sight:
    """What holds both."""

    @cache
    def seen(cell: int) -> tuple[int, int]:
        pair = one(cell), other(cell)
        return min(first for first, _ in pair), max(end for _, end in pair)

    return seen


class Watch(TorchDispatchMode):
    """Keeps what is seen by each tensor that comes from `x` and still is a map."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        itself: Sight = lambda place: (place, place + 1)  # noqa: E731
        self.sights: dict[int, tuple[Sight, Sight]] = {id(x): (itself, itself)}
        self.kept: list[Any] = [x]  # so that no id is used twice

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.kept.append(result)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if id(leaf) in self.sights]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.ndim >= 4]
        if not inputs or not outputs:
            return result
        both = []
        for axis in (0, 1):
            sight = self.sights[id(inputs[0])][axis]
            for other in inputs[1:]:
                if self.sights[id(other)][axis] is not sight:
                    sight = joined(sight, self.sights[id(other)][axis])
            both.append(_behind(function, args, axis, sight))
        for output in outputs:
            self.sights[id(output)] = (both[0], both[1])
        return result


def _behind(function: Any, args: Sequence[Any], axis: int, sight: Sight) -> Sight:
    """What the result of an operation sees along rows (axis 0) or columns (1), whose input sees `sight`."""
    name = function.overloadpacket
    if name in (aten.mean, aten._adaptive_avg_pool2d):
        raise ValueError("a cell behind the mean over a map sees all of the input; ask for the map before it")
    if name is aten.convolution:
        _, weight, _, stride, padding, gap = args[:6]
        return window(sight, weight.shape[2 + axis], stride[axis], padding[axis], gap[axis])
    if name in (aten.max_pool2d_with_indices, aten.avg_pool2d):
        kernel = _number(args, 1, axis, 1)
        stride, padding = _number(args, 2, axis, kernel), _number(args, 3, axis, 0)
        return window(sight, kernel, stride, padding, _number(args, 4, axis, 1) if name is not aten.avg_pool2d else 1)
    if name is aten.constant_pad_nd:
        return window(sight, 1, 1, _number(args, 1, 2 * (1 - axis), 0))
    if name is aten.slice and args[1] in (2 + axis, axis - 2):
        return window(sight, 1, _number(args, 4, 0, 1), -_number(args, 2, 0, 0))
    if name is aten.upsample_nearest2d:
        times = args[1][axis] // args[0].shape[2 + axis]
        return cache(lambda cell: sight(cell // times))
    return sight


def _number(args: Sequence[Any], place: int, entry: int, default: int) -> int:
    """An entry of an argument of an operation, which may be one number for all axes, or left out."""
    value = args[place] if len(args) > place else None
    if isinstance(value, int):
        return value
    if not value:
        return default
    return int(value[min(entry, len(value) - 1)])
