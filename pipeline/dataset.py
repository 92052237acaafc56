"""Rows of a view as a stage sees them: columns of the row table, and arrays gathered from the shards that hold them.

The order of a dataset is that of its parts and of their ids; it says nothing about shards. A gather goes through the
memory-mapped readers, so that rows in full-random order cost about as much as from memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids as row_ids
from pipeline.errors import DamagedShardError, StoreError
from pipeline.libraries import needed
from pipeline.stage import ID, SPLITS, Field, Part, Schema
from pipeline.storage.gather import MOST_ROWS, FieldPlan, plan_field
from pipeline.storage.shard_reader import LARGE_ROW
from pipeline.storage.shards import DIGEST_FIELD, Shard, joined_digests

if TYPE_CHECKING:
    import dask.array

    from pipeline.storage.store import Store

BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class _Places:
    """Where rows lie: shard number (into `paths`) and row inside the shard, one entry per row of a dataset."""

    paths: tuple[tuple[Path, int], ...]  # directory of each shard, and the branch that it is of
    shard: NDArray[np.int32]
    row: NDArray[np.int64]


class Dataset:
    """An ordered selection of rows.

    table: columns of the row table, one entry per row: "label" (uint8, 1 = fake), "split", "domain", "source" (str) and
    "group" (V16), as far as the caller has them; and texts that are made when asked for (`planning.origins`).
    """

    def __init__(self, store: Store | None, parts: Sequence[Part], table: Mapping[str, Any]) -> None:
        self._store = store
        self._branches = tuple(parts)
        sizes = [len(part.ids) for part in parts]
        self.ids: NDArray[np.void] = np.concatenate([part.ids for part in parts]) if parts else np.empty(0, ID)
        self._branch = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)
        self._table: dict[str, Any] = dict(table)
        self._places: _Places | None = None
        self._plans: dict[str, FieldPlan | None] = {}
        self._stored: dict[str, Dataset] = {}
        for name, column in self._table.items():
            if len(column) != len(self.ids):
                raise ValueError(f"column '{name}' has {len(column)} entries for {len(self.ids)} rows")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} rows, fields {', '.join(self.fields) or 'none'})"

    def __getstate__(self) -> dict[str, Any]:
        table = {name: column for name, column in self._table.items() if isinstance(column, np.ndarray)}
        looked_up: dict[str, Any] = {"_places": None, "_plans": {}, "_stored": {}}  # another process does it itself
        return {**self.__dict__, **looked_up, "_table": table}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Fields that all parts have with the same dtype, shape and units."""
        return _shared([part.schema for part in self._branches])

    @property
    def parts(self) -> list[Part]:
        """The branches with the ids that this selection has of them; branches without rows are left out."""
        found = []
        for number, part in enumerate(self._branches):
            ids = self.ids[self._branch == number]
            if len(ids):
                found.append(replace(part, ids=ids))
        return found

    @property
    def part_numbers(self) -> NDArray[np.int64]:
        """(n,) int64: for each row its place in `parts`."""
        return np.unique(self._branch, return_inverse=True)[1].astype(np.int64)

    # Rows

    def column(self, name: str) -> NDArray[Any]:
        """One column of the row table, (n,), fresh: "label" uint8; "split", "domain", "source" str; "group" V16.

        Rows that `open` gives also have "file" ("": they came from none), "licence", "author", "url" and "provenance"
        as their sources state them, str; a copy of them in another process does not.
        """
        if name not in self._table:
            known = ", ".join(sorted(self._table)) or "none"
            raise StoreError(f"these rows have no column '{name}'; they have {known}")
        return np.array(self._table[name])

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(sorted(self._table))

    def split(self, name: str) -> Dataset:
        """The rows of "train", "val" or "test"."""
        if name not in SPLITS:
            raise ValueError(f"'{name}' is not a split; expected {', '.join(SPLITS)}")
        return self.where(self.column("split") == name)

    def where(self, mask: NDArray[np.bool_]) -> Dataset:
        """The rows where the mask, (n,) bool, is true."""
        if np.asarray(mask).dtype != bool or len(mask) != len(self):
            raise ValueError(f"a mask of {len(self)} bool is wanted, found {np.asarray(mask).dtype} ({len(mask)},)")
        return self.take(np.flatnonzero(mask))

    def having(self, *fields: str) -> Dataset | None:
        """The rows of those parts that have all these fields; None where no rows do.

        A view of several stages' rows has only the fields that all of them share: perturbed images beside equalized
        ones would hide by what factor the latter were reduced.
        """
        numbers = [number for number, part in enumerate(self.parts) if set(fields) <= set(part.schema)]
        if not numbers:
            return None
        chosen = self.where(np.isin(self.part_numbers, numbers))
        chosen.fields = _shared([part.schema for part in chosen.parts])  # also where parts without rows lack them
        return chosen if set(fields) <= set(chosen.fields) else None

    def having_been(self, field: str) -> list[tuple[NDArray[np.int64], Dataset]]:
        """What the rows were when they had a field: positions here, and rows there, one for each.

        That is these rows themselves, where they have it, or the nearest of those that they were made of
        (`Part.above`); rows that never had it are left out. Of rows whose fields lie apart it is the nearest that all
        fields were made of.
        """
        found = []
        for number, part in enumerate(self._branches):
            mine = np.flatnonzero(self._branch == number)
            if not len(mine):
                continue
            if field in part.schema and not part.of:
                found.append((mine, self.take(mine)))
                continue
            one = next((one for one in part.above if field in one.schema), None)
            if one is not None:
                order = row_ids.order(part.ids)
                place = order[row_ids.lookup(part.ids[order], self.ids[mine])]
                found.append((mine, Dataset(self._store, [replace(one, ids=one.ids[place])], {})))
        return found

    def take(self, index: NDArray[np.integer[Any]]) -> Dataset:
        """The rows at these positions, in this order."""
        index = _positions(index)
        result = Dataset.__new__(Dataset)
        result._store, result._branches = self._store, self._branches
        result.ids, result._branch = self.ids[index], self._branch[index]
        result._table = {name: column[index] for name, column in self._table.items()}
        places = self._places
        result._plans, result._stored = {}, {}
        result._places = places and _Places(places.paths, places.shard[index], places.row[index])
        return result

    # Values

    def array(self, field: str, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[Any]:
        """Values of one field at the given positions (default: all), in that order: (rows, *shape), a fresh array.

        Raises StoreError if a row is in no shard and DamagedShardError if its bytes are not those that were written.
        """
        kind = self._field(field)
        return self._where_stored(field)._read(field, kind, rows)

    def array_into(self, field: str, rows: NDArray[np.integer[Any]], out: NDArray[Any]) -> None:
        """`array` into memory that is at hand, C-contiguous; large rows come from their files, not through maps.

        For threads that read ahead: others run while the system copies.
        """
        wanted = _positions(rows)
        plan = self._where_stored(field)._plans.get(field)
        if plan is None or not len(wanted) or wanted.min() < 0 or wanted.max() >= len(self):
            out[...] = self.array(field, wanted)  # which looks the rows up
            return
        try:
            plan.rows_into(wanted, out)
        except DamagedShardError:
            out[...] = self.array(field, wanted)

    def digests(self, rows: NDArray[np.integer[Any]] | None = None) -> NDArray[np.void]:
        """Digest of the values of each row at the given positions (default: all): (rows,) V16."""
        if not any(part.of for part in self._branches):
            return self._read("digest", DIGEST_FIELD, rows).reshape(-1).view(ID)
        wanted = np.arange(len(self)) if rows is None else _positions(rows)
        found = np.empty(len(wanted), ID)
        for number, part in enumerate(self._branches):
            mine = np.flatnonzero(self._branch[wanted] == number)
            if not len(mine):
                continue
            places = {one.chain: one for _, one in sorted(part.of.items(), key=lambda pair: pair[0])} or {
                part.chain: part
            }
            apart = [replace(one, ids=self.ids[wanted[mine]]) for one in places.values()]
            found[mine] = joined_digests([Dataset(self._store, [one], {}).digests() for one in apart])
        return found

    def _where_stored(self, field: str) -> Dataset:
        """The same rows where their shards have a field: these, unless some have their fields in several places."""
        if not any(part.of for part in self._branches):
            return self
        if field not in self._stored:
            found = self.take(np.arange(len(self)))
            found._branches = tuple(part.of.get(field, part) for part in self._branches)
            found._table, found._places = {}, None
            self._stored[field] = found
        return self._stored[field]

    def _read(self, field: str, kind: Field, rows: NDArray[np.integer[Any]] | None) -> NDArray[Any]:
        wanted = np.arange(len(self)) if rows is None else _positions(rows)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"positions {wanted.min()} to {wanted.max()} asked for, this dataset has {len(self)} rows")
        try:
            return self._gather(field, kind, wanted, rows is not None)
        except DamagedShardError as error:
            self._places, self._plans = None, {}
            if Path(error.shard).exists():
                raise
            return self._gather(field, kind, wanted, False)  # another process compacted the chain since the look-up

    def blocks(self, field: str, size: int) -> Iterator[NDArray[Any]]:
        """The values of one field in the order of the rows, `size` rows at a time."""
        for start in range(0, len(self), size):
            yield self.array(field, np.arange(start, min(start + size, len(self))))

    def to_pandas(self, *fields: str) -> Any:
        """The columns and some fields (default: single numbers) as a pandas.DataFrame, indexed by hexadecimal id.

        A field with axes becomes a column of arrays. Raises ConfigError where pandas is not installed.
        """
        pandas = needed("pandas", "pandas", "tables of pandas")
        data: dict[str, Any] = {name: self.column(name) for name in self._table}
        if "group" in data:
            data["group"] = _hexadecimal(data["group"])
        for name in fields or [name for name, kind in self.fields.items() if not kind.shape]:
            values = self.array(name)
            data[name if name not in data else f"{name} of the row"] = list(values) if values.ndim > 1 else values
        return pandas.DataFrame(data, index=pandas.Index(_hexadecimal(self.ids), name="id"))

    def to_dask(self, field: str) -> dask.array.Array:
        """One lazy dask array of a field, in the order of the rows, in blocks of about 32 MiB."""
        import dask.array

        kind = self._field(field)
        step = max(BLOCK_BYTES // max(kind.row_bytes, 1), 1)
        bounds = [*range(0, max(len(self), 1), step), len(self)]
        name = f"{field}-{_token(self.ids, [part.chain for part in self._branches], self.part_numbers)}"
        rest = (0,) * len(kind.shape)
        graph = {
            (name, number, *rest): (_read_block, self, field, start, stop)
            for number, (start, stop) in enumerate(pairwise(bounds))
        }
        chunks = (tuple(np.diff(bounds).tolist()), *((length,) for length in kind.shape))
        return dask.array.Array(graph, name, chunks, dtype=np.dtype(kind.dtype))

    def _field(self, name: str) -> Field:
        fields = self.fields
        if name not in fields:
            raise StoreError(f"these rows have no common field '{name}'; they have {', '.join(fields) or 'none'}")
        return fields[name]

    def _gather(self, field: str, kind: Field, wanted: NDArray[np.int64], some: bool) -> NDArray[Any]:
        dtype = np.dtype(kind.dtype).newbyteorder("<")
        if not len(wanted):
            return np.empty((0, *kind.shape), dtype)
        if self._places is None:
            self._places = self._locate()
        places = self._places
        if some and (len(wanted) <= MOST_ROWS or kind.row_bytes < LARGE_ROW):
            if field not in self._plans:
                self._plans[field] = plan_field(self._shard, field, places.shard, places.row)
            plan = self._plans[field]
            if plan is not None:
                return plan.rows(wanted)
        out = np.empty((len(wanted), *kind.shape), dtype)
        shard, row = places.shard[wanted], places.row[wanted]
        order = np.argsort(shard, kind="stable")
        ranked = shard[order]
        begins = np.flatnonzero(np.diff(ranked, prepend=-1))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(ranked)], strict=True):
            chosen = order[begin:end]
            reader = self._shard(ranked[begin]).reader(field)
            reader.rows_into(row[chosen], out, chosen)
        return out

    def _shard(self, number: int) -> Shard:
        """The open shard number `number` of the places, which must be one of its branch."""
        assert self._store is not None
        assert self._places is not None
        path, branch = self._places.paths[number]
        part = self._branches[branch]
        return self._store.shard(path, part.chain, part.schema)

    def _locate(self) -> _Places:
        """Look all rows up in the indexes of their chains."""
        shard = np.empty(len(self), dtype=np.int32)
        row = np.empty(len(self), dtype=np.int64)
        paths: list[tuple[Path, int]] = []
        for number, part in enumerate(self._branches):
            mine = np.flatnonzero(self._branch == number)
            if not len(mine):
                continue
            if self._store is None:
                raise StoreError("these rows have no store behind them")
            index = self._store.index(part.stage, part.chain, part.schema)
            found = index.lookup(self.ids[mine])
            if (found < 0).any():
                first = row_ids.hex(self.ids[mine[np.flatnonzero(found < 0)[0]]])
                reasons = "".join(f"; {reason}" for _, reason in index.damaged[:1])
                raise StoreError(
                    f"{(found < 0).sum()} of {len(mine)} rows of {index.directory} are in no readable shard (first "
                    f"{first}){reasons}; run the pipeline again to compute them"
                )
            shard[mine] = index.shard[found] + len(paths)
            row[mine] = index.row[found]
            paths += [(index.path(place), number) for place in range(len(index.names))]
        return _Places(tuple(paths), shard, row)


def _hexadecimal(values: NDArray[np.void]) -> NDArray[np.str_]:
    """(n,) texts of 32 digits."""
    return np.array([one.hex() for one in row_ids.to_bytes(values)], dtype="<U32")


def _positions(rows: Any) -> NDArray[np.int64]:
    """Positions as they are given. Raises TypeError where they are a mask, or no whole numbers."""
    found = np.asarray(rows)
    if found.size and found.dtype.kind not in "iu":
        way_out = "; give a mask to `where`" if found.dtype.kind == "b" else ""
        raise TypeError(f"positions of rows are whole numbers, found {found.dtype}{way_out}")
    return found.astype(np.int64, copy=False)


def _read_block(dataset: Dataset, field: str, start: int, stop: int) -> NDArray[Any]:
    return dataset.array(field, np.arange(start, stop))


def _token(ids: NDArray[np.void], chains: Sequence[bytes], parts: NDArray[np.integer[Any]]) -> str:
    """Name of a dask array: by the rows it has and how each was made, never by dask's own tokens."""
    import hashlib

    rows = np.ascontiguousarray(ids).tobytes() + np.asarray(parts, "<i8").tobytes()
    return hashlib.sha256(b"".join(chains) + rows).hexdigest()[:16]


def _shared(schemas: Sequence[Schema]) -> dict[str, Field]:
    """Fields, by name, that all schemas have alike."""
    first, *others = schemas or [{}]
    return {name: one for name, one in sorted(first.items()) if all(other.get(name) == one for other in others)}
