"""One stage at work on some rows, block by block, wherever the inputs lie: in shards (`tasks`) or in memory (`chain`).

A row that fails has a reason and does not stop the others; a stage that fails on every row of a block stops the run.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError, StoreError, TouchstoneError
from pipeline.running.faults import fault_of_machine
from pipeline.running.turns import GPU_TURN
from pipeline.stage import Artifact, Batch, Context, RowError, Schema, Stage

BLOCK_BYTES = 8 * 2**20
GPU_BLOCK_BYTES = 256 * 2**20

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """A stage with its settings, and all that it may know of the run. node: its name in messages."""

    node: str
    stage: Stage
    config: Any
    schema: Schema
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    files: Mapping[str, Path] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[Artifact, ...]] = field(default_factory=dict)


def _no_inputs(rows: NDArray[np.int64]) -> tuple[Arrays, ...]:
    return ()


@dataclass(frozen=True)
class Rows:
    """Rows to be computed, in order, and how to come by what they are made from.

    schemas  fields of the rows of each parent
    inputs   positions -> for each parent the arrays of these rows
    reader   position -> bytes of the file behind the row
    """

    ids: NDArray[np.void]  # (n,) V16
    parents: tuple[NDArray[np.void], ...] = ()  # each (n,) V16
    schemas: tuple[Schema, ...] = ()
    inputs: Callable[[NDArray[np.int64]], tuple[Arrays, ...]] = _no_inputs
    index: NDArray[np.int64] | None = None  # (n,) draw number of an expand
    payload: Arrays = field(default_factory=dict)
    reader: Callable[[int], bytes] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The rows at these positions as a stage sees them."""
        reader = self.reader
        return Batch(
            self.ids[rows],
            tuple(parent[rows] for parent in self.parents),
            self.inputs(rows),
            None if self.index is None else self.index[rows],
            {name: np.asarray(column)[rows] for name, column in self.payload.items()},
            None if reader is None else lambda number: reader(int(rows[number])),
        )


@dataclass(frozen=True)
class Values:
    """Arrays of the rows that succeeded, in order, and the reasons of the others by position."""

    done: NDArray[np.int64]  # (k,) positions
    arrays: Arrays  # one per field of the schema, (k, *shape)
    failures: Mapping[int, str]


class Pace(Protocol):
    """Says how many rows are computed at once, and hears of those that are done."""

    def rows(self, most: int, least: int) -> int:
        """Rows of the next block: at most `most`, and a multiple of `least`."""

    def done(self, rows: int, values: Values, last: bool) -> None:
        """Called after each block. rows: of the block; values: all so far."""


def compute(step: Step, rows: Rows, pace: Pace | None = None) -> Values:
    """Values of all rows. Raises StageError where all rows of a block fail, StoreError on a full disk."""
    arrays = {name: np.empty((len(rows), *one.shape), dtype=one.dtype) for name, one in step.schema.items()}
    done = np.empty(len(rows), dtype=np.int64)
    count = 0
    failures: dict[int, str] = {}
    found = Values(done[:0], {name: array[:0] for name, array in arrays.items()}, failures)
    most, least = block_rows(step, rows.schemas), step.stage.least_rows(step.config)
    least = most if _on_gpu(step) else least  # fewer would not fill it
    stop = 0
    while stop < len(rows):
        block = np.arange(stop, min(stop + (pace.rows(most, least) if pace else most), len(rows)))
        stop += len(block)
        try:
            values, failed = _compute_block(step, rows, block)
        except _Raised as error:  # a block of one row
            values, failed = _empty(step.schema, 1), {0: str(error)}
        kept = np.array([number for number in range(len(block)) if number not in failed], dtype=np.int64)
        failures |= {int(block[number]): reason for number, reason in sorted(failed.items())}
        place = slice(count, count + len(kept))
        done[place] = block[kept]
        for name, array in arrays.items():
            array[place] = values[name] if len(kept) == len(block) else values[name][kept]
        count += len(kept)
        found = Values(done[:count], {name: array[:count] for name, array in arrays.items()}, failures)
        if pace:
            pace.done(len(block), found, stop == len(rows))
    return found


def block_rows(step: Step, inputs: Iterable[Schema]) -> int:
    """Rows per call of `Stage.compute`: what the stage allows, but not more than about 8 MiB of input or of output.

    A stage that handles several rows at once gets a multiple of them, whatever their size. On a GPU it gets up to 256
    MiB and a power of two of these multiples, which any larger micro-batch divides.
    """
    row = max(sum(field.row_bytes for field in schema.values()) for schema in (step.schema, *inputs))
    least = step.stage.least_rows(step.config)
    on_gpu = _on_gpu(step)
    count = max(min(step.stage.block_rows, (GPU_BLOCK_BYTES if on_gpu else BLOCK_BYTES) // max(row, 1)) // least, 1)
    return (1 << (count.bit_length() - 1) if on_gpu else count) * least


def _on_gpu(step: Step) -> bool:
    return step.device == "cuda" and step.stage.on_device(step.config)


def _compute_block(step: Step, rows: Rows, block: NDArray[np.int64]) -> tuple[Arrays, dict[int, str]]:
    """Values of one block. Where the stage raises on the whole block, the rows are tried one by one."""
    try:
        return _call(step, rows.batch(block))
    except (TouchstoneError, MemoryError):
        raise
    except RowError as error:
        if len(block) == 1:
            return _empty(step.schema, 1), {0: str(error)}
        first: Exception = error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS):
            raise StoreError(f"{step.node}: {error.strerror}") from None
        first = error
    except Exception as error:
        fault = fault_of_machine(step.node, error)
        if fault is not None:
            raise fault from error
        first = error
    if len(block) == 1:
        raise _Raised(first)
    parts: list[Arrays] = []
    failures: dict[int, str] = {}
    raised = 0
    for number in range(len(block)):
        try:
            part, failed = _compute_block(step, rows, block[number : number + 1])
        except _Raised as error:
            raised += 1
            part, failed = _empty(step.schema, 1), {0: str(error)}
        parts.append(part)
        if failed:
            failures[number] = failed[0]
    if raised == len(block):  # not the rows' fault
        raise _fault(step, first)
    return {name: np.concatenate([part[name] for part in parts]) for name in step.schema}, failures


class _Raised(Exception):
    """A stage raised an error of its own on one row."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


def _fault(step: Step, error: Exception) -> StageError:
    found = StageError(
        f"{step.node}: stage '{step.stage.name}' fails on every row of a block: {type(error).__name__}: {error} "
        f"({_innermost(error)}; `touchstone --debug run` shows all)"
    )
    found.__cause__ = error
    return found


def _innermost(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no place known"


def _call(step: Step, batch: Batch) -> tuple[Arrays, dict[int, str]]:
    """What the stage gives for a batch, and the rows that it says have failed, after a check of both."""
    stage = step.stage
    context = Context(step.seed, stage.name, step.device, step.threads, step.files, step.artifacts, stage.random)
    with GPU_TURN.taken() if _on_gpu(step) else nullcontext():
        values = stage.compute(step.config, batch, context)
    outside = [row for row in context.failures if not 0 <= row < len(batch)]
    if outside:
        raise StageError(
            f"{step.node}: stage '{stage.name}' says that row {outside[0]} of a batch failed, but its rows are "
            f"numbered 0 to {len(batch) - 1}"
        )
    for name, spec in step.schema.items():
        value = values.get(name)
        expected = (len(batch), *spec.shape)
        if value is None or value.shape != expected or value.dtype != np.dtype(spec.dtype):
            found = "nothing" if value is None else f"{value.dtype} {value.shape}"
            raise StageError(
                f"{step.node}: stage '{stage.name}' gives {found} for '{name}', its schema promises "
                f"{np.dtype(spec.dtype)} {expected}"
            )
    return values, context.failures


def _empty(schema: Schema, rows: int) -> dict[str, NDArray[Any]]:
    return {name: np.zeros((rows, *spec.shape), dtype=spec.dtype) for name, spec in schema.items()}
