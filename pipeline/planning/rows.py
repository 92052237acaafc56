"""The row table: what the engine knows of a row besides its values. Rebuilt at every plan, never stored in shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.digests import digest, hash_rank
from pipeline.errors import SourceError
from pipeline.spelling import remarks, spellings
from pipeline.stage import ID, SPLITS, SourceRows


@dataclass
class Names:
    """Words of the row table (domains, sources) by number, and groups that are one."""

    words: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    merged: dict[bytes, bytes] = field(default_factory=dict)
    """Digest of a group -> that of another one which it is one with, as both have the same content, in any source."""

    def merge(self, one: bytes, other: bytes) -> None:
        """Two groups are one from now on."""
        first, second = sorted((self.root(one), self.root(other)))
        if first != second:
            self.merged[second] = first

    def root(self, group: bytes) -> bytes:
        """Digest that all groups bear which are one with this one."""
        while group in self.merged:
            group = self.merged[group]
        return group

    def roots(self, groups: NDArray[np.void]) -> NDArray[np.void]:
        """(n,) V16 likewise."""
        if not self.merged:
            return groups
        found = groups.copy()
        for place in np.flatnonzero(ids.isin(groups, ids.from_bytes(self.merged))).tolist():
            found[place] = np.void(self.root(bytes(groups[place])))
        return found

    def number(self, word: str) -> int:
        if word not in self.numbers:
            self.numbers[word] = len(self.words)
            self.words.append(word)
        return self.numbers[word]

    def digests(self) -> NDArray[np.void]:
        """(n,) V16: what a word is in a digest of rows, since its number is an accident."""
        return np.array([_digest_of(word) for word in self.words] or [b""], dtype="S16").astype("V16")


@cache
def _digest_of(word: str) -> bytes:
    return digest("word", word)


@dataclass(frozen=True)
class Rows:
    """Parallel columns of length n. `domain` and `source` are numbers in a `Names`; `split` an index into SPLITS."""

    id: NDArray[np.void]
    label: NDArray[np.uint8]
    split: NDArray[np.uint8]
    group: NDArray[np.void]
    domain: NDArray[np.int32]
    source: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.id)

    def take(self, positions: NDArray[np.int64], id: NDArray[np.void] | None = None) -> Rows:
        """The rows at these positions; columns are shared where these are all rows in their order."""
        if id is None and len(positions) == len(self) and (positions == np.arange(len(self))).all():
            return self
        return Rows(
            self.id[positions] if id is None else id,
            self.label[positions],
            self.split[positions],
            self.group[positions],
            self.domain[positions],
            self.source[positions],
        )


@dataclass(frozen=True)
class Source:
    """Rows of a source node: the table, where each row's payload stands, and what is wrong with the rest."""

    rows: Rows
    payload: Mapping[str, Any]
    positions: NDArray[np.int64]  # row -> entry of the payload columns
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def tabulate(found: SourceRows, node: str, seed: int, shares: Mapping[str, float], names: Names) -> Source:
    """Row table of a source: entries of equal content become one row; groups get their split.

    Groups, domains and splits are compared in their normal form (`pipeline.spelling`); a note says what that merged.
    Raises SourceError where one group or one content would stand in two splits.
    """
    count = len(found.id)
    notes = list(found.notes)
    good = np.ones(count, dtype=bool)
    good[list(found.problems)] = False
    entries = np.flatnonzero(good)
    given = _split_codes(found, node, notes)
    groups = _group_digests(found, node, notes)
    ranked = entries[ids.order(found.id[entries])]
    first = np.ones(len(ranked), dtype=bool)
    sorted_ids = found.id[ranked]
    first[1:] = ~ids.same(sorted_ids[1:], sorted_ids[:-1])
    if not first.all():
        _refuse_two_labels(found, node, ranked, first)
        groups = groups.copy()
        notes.append(_merge_duplicates(found, node, ranked, first, groups, given, names))
    kept = ranked if first.all() else ranked[first]
    own = sorted_ids if first.all() else sorted_ids[first]
    group = own if found.group is None and first.all() else groups[kept]
    split = _splits(found, node, kept, group, given[kept], seed, found.splits or shares)
    domains = _domains(found, node, notes, kept, names)
    rows = Rows(
        own,
        np.broadcast_to(np.asarray(found.label, dtype=np.uint8), (count,))[kept],
        split,
        group,
        domains,
        np.full(len(kept), names.number(node), dtype=np.int32),
    )
    problems = tuple(f"{place(found, number)}: {reason}" for number, reason in sorted(found.problems.items()))
    return Source(rows, found.payload, kept, tuple(notes), problems)


def place(found: SourceRows, number: int) -> str:
    """Where an entry comes from, for messages."""
    locations = found.payload.get("location")
    return str(locations[number]) if locations is not None else f"entry {number}"


def _in_split(found: SourceRows, number: int, code: int) -> str:
    return f"{_entry(found, number)} in {SPLITS[code]}"


def _entry(found: SourceRows, number: int) -> str:
    """An entry, with the line of the manifest that names it."""
    line = f" ({found.line(number)})" if found.line else ""
    return f"{place(found, number)}{line}"


def _words(words: Sequence[str], kind: str, node: str, notes: list[str]) -> Mapping[str, str]:
    """Normal form of each distinct word; notes are added where that merged some."""
    normal = spellings(words)
    notes += [f"{node}: {text}" for text in remarks(words, normal, kind)]
    return normal


def _split_codes(found: SourceRows, node: str, notes: list[str]) -> NDArray[np.int8]:
    count = len(found.id)
    if found.split is None:
        return np.full(count, -1, dtype=np.int8)
    codes = {"": -1} | {name: code for code, name in enumerate(SPLITS)}
    known = {word: codes[normal] for word, normal in _words(found.split, "split", node, notes).items()}
    return np.fromiter((known[word] for word in found.split), dtype=np.int8, count=count)


def _group_digests(found: SourceRows, node: str, notes: list[str]) -> NDArray[np.void]:
    if found.group is None:
        return found.id
    if isinstance(found.group, np.ndarray) and found.group.dtype == ID:
        return found.group
    words = [str(word) for word in found.group]
    known = {word: digest("group", normal) for word, normal in _words(words, "group", node, notes).items()}
    return ids.from_bytes([known[word] for word in words])


def _domains(
    found: SourceRows, node: str, notes: list[str], kept: NDArray[np.int64], names: Names
) -> NDArray[np.int32]:
    if found.domain is None:
        return np.full(len(kept), names.number(""), dtype=np.int32)
    normal = _words(found.domain, "domain", node, notes)
    known = {word: names.number(form) for word, form in normal.items()}
    codes = np.fromiter((known[word] for word in found.domain), dtype=np.int32, count=len(found.domain))
    return codes[kept]


def _refuse_two_labels(found: SourceRows, node: str, ranked: NDArray[np.int64], first: NDArray[np.bool_]) -> None:
    """Raise SourceError where entries of equal content are real and fake."""
    if not isinstance(found.label, np.ndarray):
        return
    leader = ranked[np.flatnonzero(first)[np.cumsum(first) - 1]]
    different = np.flatnonzero(found.label[leader] != found.label[ranked])
    if len(different):
        one, other = int(leader[different[0]]), int(ranked[different[0]])
        real, fake = (one, other) if found.label[other] else (other, one)
        more = f", and so is the content of {len(different) - 1:,} more" if len(different) > 1 else ""
        raise SourceError(
            f"{node}: the same content is real ({_entry(found, real)}) and fake ({_entry(found, fake)}){more}; remove "
            "one of them, or correct a label"
        )


def _merge_duplicates(
    found: SourceRows,
    node: str,
    ranked: NDArray[np.int64],
    first: NDArray[np.bool_],
    groups: NDArray[np.void],
    given: NDArray[np.int8],
    names: Names,
) -> str:
    """Join the groups of entries with equal content (in place), refuse two splits, and say how many there are."""
    leader = np.flatnonzero(first)[np.cumsum(first) - 1]
    own = Names()  # a source has the splits of its own merges, whatever other sources there are
    for later in np.flatnonzero(~first):
        one, other = int(ranked[leader[later]]), int(ranked[later])
        if given[one] >= 0 and given[other] >= 0 and given[one] != given[other]:
            raise SourceError(
                f"{node}: the same content stands in two splits, {_in_split(found, one, given[one])} and "
                f"{_in_split(found, other, given[other])}; remove one of them or give both the same split"
            )
        if given[one] < 0:
            given[one] = given[other]
        for table in (own, names):
            table.merge(bytes(groups[one]), bytes(groups[other]))
    groups[:] = own.roots(groups)
    number = int((~first).sum())
    one, other = int(ranked[leader[np.flatnonzero(~first)[0]]]), int(ranked[np.flatnonzero(~first)[0]])
    return (
        f"{node}: {number} {'entries have' if number > 1 else 'entry has'} the content of another one and "
        f"count{'s' if number == 1 else ''} once (e.g. {place(found, other)} = {place(found, one)})"
    )


def _splits(
    found: SourceRows,
    node: str,
    kept: NDArray[np.int64],
    group: NDArray[np.void],
    given: NDArray[np.int8],
    seed: int,
    shares: Mapping[str, float],
) -> NDArray[np.uint8]:
    """Given splits win; a group with one given row follows it; the rest go by hash of the group."""
    hashed = split_by_hash(group, seed, shares)
    if not (given >= 0).any():
        return hashed
    distinct = ids.unique(group)
    member = ids.lookup(distinct, group)
    chosen = np.full(len(distinct), -1, dtype=np.int8)
    known = np.flatnonzero(given >= 0)
    chosen[member[known]] = given[known]
    clash = known[chosen[member[known]] != given[known]]
    if len(clash):
        one = int(clash[0])
        other = int(next(row for row in known if member[row] == member[one] and given[row] != given[one]))
        first, second = (_in_split(found, int(kept[row]), given[row]) for row in sorted((one, other), key=kept.item))
        raise SourceError(
            f"{node}: one group stands in two splits, {first} and {second}; give all rows of a group the same split"
        )
    return np.where(chosen[member] >= 0, chosen[member].astype(np.uint8), hashed)


def split_by_hash(group: NDArray[np.void], seed: int, shares: Mapping[str, float]) -> NDArray[np.uint8]:
    """Split of each group by a hash that depends on the seed only: stable when other rows come or go."""
    rank = hash_rank(group, "split", seed).astype(np.float64) / 2.0**64
    edges = np.cumsum([shares.get(name, 0.0) for name in SPLITS])
    return np.minimum(np.searchsorted(edges, rank, side="right"), len(SPLITS) - 1).astype(np.uint8)


def check_leaks(sources: Sequence[tuple[str, Rows]], names: Names | None = None) -> None:
    """No group and no content in two splits across source nodes. Raises SourceError naming the nodes.

    names: knows which groups are one, as content in any of the sources says.
    """
    if len(sources) < 2:
        return
    groups = np.concatenate([rows.group for _, rows in sources])
    _check_column(sources, "group", names.roots(groups) if names else groups)
    _check_column(sources, "content", np.concatenate([rows.id for _, rows in sources]))


def _check_column(sources: Sequence[tuple[str, Rows]], what: str, group: NDArray[np.void]) -> None:
    split = np.concatenate([rows.split for _, rows in sources])
    owner = np.repeat(np.arange(len(sources)), [len(rows) for _, rows in sources])
    ranked = ids.order(group)
    sorted_groups, sorted_splits = group[ranked], split[ranked]
    leaks = ids.same(sorted_groups[1:], sorted_groups[:-1]) & (sorted_splits[1:] != sorted_splits[:-1])
    if leaks.any():
        at = int(np.flatnonzero(leaks)[0])
        one, other = int(ranked[at]), int(ranked[at + 1])
        raise SourceError(
            f"{what} {ids.hex(group[one])[:12]} stands in {SPLITS[split[one]]} of {sources[owner[one]][0]} and in "
            f"{SPLITS[split[other]]} of {sources[owner[other]][0]}; a {what} lives in one split: "
            f"give both sources the same groups and splits, or remove the doubles"
        )
