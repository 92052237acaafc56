"""What a piece of work would ask of a GPU, counted on tensors without values: launches, and waits of the host for it.

Views and questions launch nothing. A group of tensors that one call changes (`_foreach_`) counts once. The host waits
for a GPU that is asked for a number or for rows that meet a condition, or that copies from or to ordinary memory. Where
work asks, numbers are 0.75 and conditions hold for all rows. What torch refuses on a GPU where results have to repeat
(the list stands in the documentation of `torch.use_deterministic_algorithms`) is refused here too.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detectors import transfers

EMPTY = {"empty", "new_empty", "empty_like", "empty_strided"}
FREE = EMPTY | {"detach", "alias", "lift_fresh", "is_pinned", "device", "pin_memory"}
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
ROOT = Path(__file__).parents[1]
REFUSED = {
    *(f"_adaptive_avg_pool{n}d_backward" for n in (2, 3)),
    *(f"adaptive_max_pool{n}d_backward" for n in (2, 3)),
    *(f"grid_sampler_{n}d_backward" for n in (2, 3)),
    *(f"reflection_pad{n}d_backward" for n in (1, 2, 3)),
    *(f"upsample_{way}_backward" for way in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"_upsample_{way}2d_aa_backward" for way in ("bilinear", "bicubic", "lanczos")),
    *("avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
    *("max_unpool2d", "max_unpool3d", "nll_loss2d_forward", "nll_loss2d_backward", "_ctc_loss_backward"),
    *("histc", "put", "put_", "kthvalue"),
}
"""Operations that do not give the same bytes twice on a GPU, whatever they are given."""
GPU = "meta"
"""The device that stands for a GPU."""
ANSWER = 0.75


def refused(name: str, function: Any, given: Any) -> bool:
    """Whether torch refuses it on a GPU where results have to repeat."""
    if name in ("median", "nanmedian"):
        return bool(function._overloadname)  # with the places
    if name in ("cumsum", "cumsum_"):
        return bool(given[0].dtype.is_floating_point or given[0].dtype.is_complex)
    return name in REFUSED or (name == "bincount" and len(given) > 1 and given[1] is not None)


@cache
def of_others(function: Any) -> bool:
    """Whether an operation is made of others, which inference mode alone shows."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE))


class Launches(TorchDispatchMode):
    """Counts operations by name, and waits by file and line of the project, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.pinned: set[int] = set()  # storages of page-locked memory

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and torch need not load its compiler to skip that."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), more: Any = None) -> Any:
        name, more = function._schema.name.removeprefix("aten::").removeprefix("prim::"), dict(more or {})
        if of_others(function):
            with self:
                return function._op_dk(COMPOSITE, *given, **more)
        if refused(name, function, given) and any(isinstance(one, Tensor) and one.is_meta for one in given):
            raise RuntimeError(f"{name} does not give the same bytes twice on a GPU")
        if not function.is_view and name not in FREE and "::" not in name and name != "_local_scalar_dense":
            self.found[name] += 1
        if name == "_local_scalar_dense" and given[0].is_meta:
            self._wait()
            kind = given[0].dtype
            return ANSWER if kind.is_floating_point else True if kind == torch.bool else 1
        if name in ("_to_copy", "copy_") and (moved := self._moved(name, given, more)) is not None:
            return moved
        if name in ("pin_memory", "_pin_memory"):
            return self._pinned(given[0].clone())
        if name.startswith(("index_put", "_index_put")) and any(
            one is not None and one.dtype == torch.bool and one.is_meta for one in given[1]
        ):
            self._wait()
        if name == "index" and any(one is not None and one.dtype == torch.bool and one.is_meta for one in given[1]):
            self._wait()
            return given[0].clone()
        if more.pop("pin_memory", None):
            return self._pinned(torch.zeros(*given, **more))
        if more.get("device") is not None and torch.device(more["device"]).type == GPU and "generator" in more:
            more["generator"] = None
        return function(*given, **more)

    def _moved(self, name: str, given: Any, more: dict[str, Any]) -> Tensor | None:
        """What is copied from one memory to the other; None where none is left."""
        source = given[1] if name == "copy_" else given[0]
        target = given[0].device if name == "copy_" else torch.device(more.get("device") or source.device)
        if target.type == source.device.type:
            return None
        ahead = more.get("non_blocking") or (name == "copy_" and len(given) > 2 and given[2])
        here = given[0] if name == "copy_" and target.type == "cpu" else source
        locked = here.is_meta or here.untyped_storage().data_ptr() in self.pinned
        if not (ahead and locked) and source.numel() * (
            source.ndim or target.type == "cpu"
        ):  # one number of the host needs no copy
            self._wait()
        if name == "copy_":
            return given[0]  # type: ignore[no-any-return]
        return torch.full_like(source, 1, dtype=more.get("dtype") or source.dtype, device=target)

    def _pinned(self, tensor: Tensor) -> Tensor:
        self.pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    def _wait(self) -> None:
        ours = [one for one in traceback.extract_stack() if one.filename.startswith(str(ROOT))]
        ours = [one for one in ours if "/tests/" not in one.filename and ".venv" not in one.filename]
        place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].name}" if ours else "a test"
        self.waits[place] += 1

    def forget(self) -> None:
        """What was counted so far."""
        self.found.clear()
        self.waits.clear()

    @property
    def count(self) -> int:
        return sum(self.found.values())


class Event:
    """An event of a device that has always reached it."""

    def record(self, stream: Any = None) -> None:
        """Reached at once."""

    def synchronize(self) -> None:
        """Reached already."""


@contextmanager
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    """Counts while the device GPU is at hand in place of one."""
    autocast = torch.autocast

    def precision(kind: str, *given: Any, **more: Any) -> Any:
        return nullcontext() if kind == GPU else autocast(kind, *given, **more)

    monkeypatch.setattr(transfers, "PAGE_LOCKED", {"cuda", GPU})
    monkeypatch.setattr(torch, "autocast", precision)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    with Launches() as launches:
        make = torch.tensor

        def tensor(data: Any, **more: Any) -> Tensor:
            if isinstance(data, list | tuple) and str(more.get("device")) == GPU:
                launches._wait()  # for the copy of a list, which a tensor without values does without
            return make(data, **more)

        monkeypatch.setattr(torch, "tensor", tensor)
        yield launches


def begun(optimizer: torch.optim.Optimizer) -> None:
    """As after a first step, and by groups of tensors, as torch decides where parameters lie on a GPU."""
    for group in optimizer.param_groups:
        group["foreach"] = True
        for one in group["params"]:
            moments = {name: torch.empty_like(one) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[one] = {"step": torch.ones(()), **moments}
