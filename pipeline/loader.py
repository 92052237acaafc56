"""Shuffled torch batches from shards, in an order that (seed, epoch) fixes and that a killed run can take up again.

No shuffle buffer and no workers by default: a random batch is one gather through the memory maps. Sets that fit a
budget are loaded once, into GPU memory where the batches go there; of others the next batches are read and sent while a
GPU computes (`pipeline.streaming`). Values keep the dtype in which they are stored; whoever computes with them makes
floats of them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Rows, draw_key

if TYPE_CHECKING:
    import torch

    from pipeline.streaming import Streaming

MEMORY_SHARE = 0.4
"""Part of the free memory that `preload="auto"` may fill."""

BLOCK_BYTES = 64 * 2**20
"""Of host memory, through which a set goes to the memory of a device; less where little is free."""

BLOCK_SHARE = 0.1

LABEL, ROW = "label", "row"


class Loader:
    """Batches of a dataset: dictionaries of tensors, the fields, "label" and "row" (int64 position, on the CPU).

    dataset   a Dataset, or named arrays of equal length (with "label", if labels are wanted)
    seed      with the epoch it fixes the order, whatever the shards, the device or the workers
    device    where the batches go; `pinned`: ahead, through page-locked memory (none: where it is CUDA)
    preload   whole set in memory of the device: "auto" if it fits MEMORY_SHARE of what is free there; True: ValueError
              if it is larger than what is free
    balanced  each epoch has as many rows, equally many of each label: rare ones repeat, frequent ones are sampled
    drop_last leave out a last batch that is not full
    workers   processes (spawned) that gather; 0 gathers in this one

    Each iteration is one epoch, or what is left of it after `load_state` or a `break`.
    """

    def __init__(
        self,
        dataset: Rows | Mapping[str, NDArray[Any]],
        fields: Sequence[str],
        batch_size: int,
        seed: int,
        device: str = "cpu",
        pinned: bool | None = None,
        preload: bool | str = "auto",
        balanced: bool = False,
        drop_last: bool = False,
        workers: int = 0,
    ) -> None:
        self.source = _Source(dataset, tuple(fields))
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.pinned = device.startswith("cuda") if pinned is None else pinned
        self.balanced, self.drop_last, self.workers = balanced, drop_last, workers
        self.epoch = 0
        self.batch = 0
        self.rows = len(self.source)
        if batch_size < 1 or not len(self):
            raise ValueError(f"batches of {batch_size} rows out of {self.rows} rows: not one batch can be made")
        if balanced and len(np.unique(self.source.labels())) < 2:
            raise ValueError("balanced batches want rows of both labels; this set has one label only")
        if preload not in (True, False, "auto"):
            raise ValueError(f"preload is 'auto', True or False; found {preload!r}")
        self.preload = bool(preload) and self._fits(asked=preload is True)
        self._held: dict[str, torch.Tensor] | None = None
        self._there: torch.Tensor | None = None  # all labels, on the device
        self._streaming: Streaming | None = None
        self._workers: Any = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        if self.batch >= len(self):
            self.epoch, self.batch = self.epoch + 1, 0
        order = self.order(self.epoch)
        numbers = range(self.batch, len(self))
        spans = [slice(number * self.batch_size, (number + 1) * self.batch_size) for number in numbers]
        batches = self._preloaded(order, spans) if self.preload else self._streamed(order, spans)
        for number, batch in zip(numbers, batches, strict=True):
            self.batch = number + 1  # before the batch is used: a state taken while it is used has it behind it
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions of all rows of an epoch, (rows,) int64; with `balanced`, some repeat."""
        generator = np.random.Generator(np.random.Philox(key=draw_key(self.seed, "loader", b"", f"epoch {epoch}")))
        if not self.balanced:
            return generator.permutation(self.rows)
        labels = self.source.labels()
        kinds = np.unique(labels)
        shares = [len(part) for part in np.array_split(np.arange(self.rows), len(kinds))]
        picked = []
        for kind, share in zip(kinds, shares, strict=True):
            members = np.flatnonzero(labels == kind)
            rounds = [generator.permutation(members) for _ in range(-(-share // len(members)))]
            picked.append(np.concatenate(rounds)[:share])
        return generator.permutation(np.concatenate(picked))

    def state(self) -> dict[str, int]:
        """What to save beside a model: plain data, valid between two batches."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self.batch, "batch_size": self.batch_size,
                "rows": self.rows, "balanced": int(self.balanced)}  # fmt: skip

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on after the batch at which `state` was taken. Raises ValueError if the loader is not the same."""
        now = self.state()
        for name in ("seed", "batch_size", "rows", "balanced"):
            if state[name] != now[name]:
                raise ValueError(f"the saved loader has {name} {state[name]}, this one {now[name]}: it cannot go on")
        self.epoch, self.batch = state["epoch"], state["batch"]

    def _fits(self, asked: bool) -> bool:
        """Whether the set has room where it is to be held. Raises ValueError if it is asked for and has none."""
        size, free = self.source.size(), free_memory(self.device)
        if asked and size > free:
            raise ValueError(
                f"the set has {size / 2**30:.1f} GiB and {self.device} has {free / 2**30:.1f} GiB free, so it cannot "
                "be preloaded; leave preload out"
            )
        return size <= (1 if asked else MEMORY_SHARE) * free

    def _preloaded(self, order: NDArray[np.int64], spans: list[slice]) -> Iterator[dict[str, torch.Tensor]]:
        import torch

        if self._held is None:
            self._held = self._loaded()
        index = torch.from_numpy(order).to(self.device)  # one copy for the whole epoch
        for span in spans:
            batch = {name: tensor.index_select(0, index[span]) for name, tensor in self._held.items()}
            yield {**batch, ROW: torch.from_numpy(np.array(order[span]))}

    def _loaded(self) -> dict[str, torch.Tensor]:
        """The whole set on the device; what is not the CPU's memory is filled block by block."""
        import torch

        if self.device == "cpu":
            return self.source.tensors(None)
        held: dict[str, torch.Tensor] = {}
        room = min(BLOCK_BYTES, int(BLOCK_SHARE * available_memory()))
        count = max(room * self.rows // max(self.source.size(), 1), 1)
        picks = [np.arange(start, min(start + count, self.rows)) for start in range(0, self.rows, count)]
        ahead = self.pinned and self.device != "cpu"
        blocks = self._ahead(count).batches(picks) if ahead else map(self._sent, map(self.source.tensors, picks))
        for rows, block in zip(picks, blocks, strict=True):
            for name, tensor in block.items():
                if name not in held:
                    held[name] = torch.empty((self.rows, *tensor.shape[1:]), dtype=tensor.dtype, device=self.device)
                held[name][rows[0] : rows[0] + len(tensor)] = tensor
        return held | self._labels_there() if ahead else held

    def _streamed(self, order: NDArray[np.int64], spans: list[slice]) -> Iterator[dict[str, torch.Tensor]]:
        import torch

        picks = [order[span] for span in spans]
        if self.pinned and self.device != "cpu" and not self.workers:
            yield from self._streamed_ahead(order, spans, picks)
            return
        gathered = self._from_workers(picks) if self.workers else map(self.source.tensors, picks)
        for rows, batch in zip(picks, gathered, strict=True):
            yield {**self._sent(batch), ROW: torch.from_numpy(np.array(rows))}

    def _streamed_ahead(
        self, order: NDArray[np.int64], spans: list[slice], picks: list[NDArray[np.int64]]
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The same, read while the batches before are used; labels never leave the device."""
        import torch

        if self._streaming is None:
            self._streaming = self._ahead(self.batch_size)
        labels = self._labels_there()
        index = torch.from_numpy(order).to(self.device) if labels else None  # one copy for the whole epoch
        for span, rows, batch in zip(spans, picks, self._streaming.batches(picks), strict=True):
            chosen = {} if index is None else {LABEL: labels[LABEL].index_select(0, index[span])}
            yield {**batch, **chosen, ROW: torch.from_numpy(np.array(rows))}

    def _ahead(self, size: int) -> Streaming:
        """Reads groups of up to `size` rows ahead."""
        from pipeline import streaming

        return streaming.Streaming(self.source.fill, self.source.layout(), size, streaming.Link(self.device))

    def _labels_there(self) -> dict[str, torch.Tensor]:
        """All labels (rows,) int64 on the device, by name; none where the rows have none."""
        import torch

        labels = self.source.labels()
        if self._there is None and len(labels):
            self._there = torch.from_numpy(labels.astype(np.int64)).to(self.device)
        return {} if self._there is None else {LABEL: self._there}

    def _from_workers(self, picks: list[NDArray[np.int64]]) -> Iterator[dict[str, torch.Tensor]]:
        """The batches through spawned processes that live as long as the loader."""
        from torch.utils.data import DataLoader

        if self._workers is None:
            self._picks: list[NDArray[np.int64]] = []
            self._workers = DataLoader(
                self.source,  # type: ignore[arg-type]
                batch_sampler=self._picks,  # type: ignore[arg-type]
                collate_fn=_as_is,  # type: ignore[arg-type]
                num_workers=self.workers,
                multiprocessing_context="spawn",
                persistent_workers=True,
            )
        self._picks[:] = picks
        return iter(self._workers)

    def _sent(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors on the device."""
        if self.device == "cpu":
            return batch
        held = {name: tensor.pin_memory() for name, tensor in batch.items()} if self.pinned else batch
        return {name: tensor.to(self.device, non_blocking=self.pinned) for name, tensor in held.items()}


def _whole(arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Named arrays of one length. Raises ValueError where they have several."""
    found = {name: np.asarray(values) for name, values in arrays.items()}
    if len({len(values) for values in found.values()}) > 1:
        told = ", ".join(f"{name} {len(values):,}" for name, values in found.items())
        raise ValueError(f"the arrays of a set have one entry for each row, found {told}")
    return found


class _Source:
    """The arrays behind a loader; also the torch dataset of its workers (it is pickled to them)."""

    def __init__(self, dataset: Rows | Mapping[str, NDArray[Any]], fields: tuple[str, ...]) -> None:
        self.dataset = _whole(dataset) if isinstance(dataset, Mapping) else dataset
        self.fields = fields
        self._labels: NDArray[Any] | None = None
        for name in fields:
            known = dataset if isinstance(dataset, Mapping) else dataset.fields
            if name not in known:
                raise ValueError(f"the rows have no common field '{name}'; they have {', '.join(known) or 'none'}")

    def __len__(self) -> int:
        if isinstance(self.dataset, Mapping):
            return len(next(iter(self.dataset.values()), ()))
        return len(self.dataset)

    def labels(self) -> NDArray[Any]:
        """(rows,) uint8; empty if the rows have no labels."""
        if self._labels is None:
            if isinstance(self.dataset, Mapping):
                found = np.asarray(self.dataset.get(LABEL, np.empty(0, np.uint8)))
            else:
                found = self.dataset.column(LABEL) if LABEL in self.dataset.columns else np.empty(0, np.uint8)
            self._labels = found
        return self._labels

    def size(self) -> int:
        """Bytes of all fields."""
        if isinstance(self.dataset, Mapping):
            return sum(self.dataset[name].nbytes for name in self.fields)
        return len(self) * sum(self.dataset.fields[name].row_bytes for name in self.fields)

    def layout(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """dtype and shape of a row of each field."""
        if isinstance(self.dataset, Mapping):
            arrays = {name: np.asarray(self.dataset[name]) for name in self.fields}
            return {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
        kinds = {name: self.dataset.fields[name] for name in self.fields}
        return {name: (np.dtype(kind.dtype), tuple(kind.shape)) for name, kind in kinds.items()}

    def fill(self, rows: NDArray[np.int64], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Read fields of some rows into arrays (n, *shape)."""
        for name, out in arrays.items():
            if isinstance(self.dataset, Mapping):
                np.take(np.asarray(self.dataset[name]), rows, axis=0, out=out, mode="clip")
            elif hasattr(self.dataset, "array_into"):
                self.dataset.array_into(name, rows, out)
            else:
                out[...] = self.dataset.array(name, rows)

    def tensors(self, rows: NDArray[np.int64] | None) -> dict[str, torch.Tensor]:
        """Fields and labels of some rows (None: all)."""
        import torch

        found = {}
        for name in self.fields:
            if isinstance(self.dataset, Mapping):
                values = np.asarray(self.dataset[name])
                values = np.array(values) if rows is None else values[rows]
            else:
                values = self.dataset.array(name, rows)
            found[name] = torch.from_numpy(values)
        labels = self.labels()
        if len(labels):
            chosen = labels if rows is None else labels[rows]
            found[LABEL] = torch.from_numpy(chosen.astype(np.int64))
        return found

    def __getitems__(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        return self.tensors(np.asarray(rows, dtype=np.int64))


def _as_is(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


def free_memory(device: str) -> int:
    """Bytes that can be taken on a device; of a GPU also those that torch holds and does not use."""
    import torch

    if torch.device(device).type != "cuda":
        return available_memory()
    cached: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + cached


def available_memory() -> int:
    """Bytes that can be taken without swapping; half a GiB where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 2**29
