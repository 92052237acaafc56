"""Views evaluated on the row table: numpy masks and joins, no data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.declaring.views import LABELS, Term, View
from pipeline.digests import digest, hash_rank
from pipeline.errors import ConfigError, SourceError
from pipeline.planning.recipes import Recipe, rows_digest
from pipeline.planning.rows import Names, Rows
from pipeline.sentences import nearest
from pipeline.spelling import matches
from pipeline.stage import FAKE, ID, REAL, SPLITS, Field, Kind, Schema, Stage, ViewSchema
from pipeline.steps import measured_step


@dataclass(eq=False)
class Branch:
    """One chain of one node: its rows, where they come from, and which of them are in the store."""

    node: str
    stage: Stage
    config: Any
    chain: bytes
    recipe: Recipe
    schema: Schema
    rows: Rows
    sides: tuple[Side, ...] = ()
    index: NDArray[np.int64] | None = None  # draw number of an expand
    payload: Mapping[str, Any] = field(default_factory=dict)
    positions: NDArray[np.int64] | None = None  # row -> entry of the payload
    steps: tuple[Mapping[str, Any], ...] = ()
    joins: Mapping[str, int] = field(default_factory=dict)  # of rows that no shard holds: field -> the side that does
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    licence: str = ""  # of a source
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of a source: name -> a text per entry
    verified: str = ""  # of a source
    have: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    failed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    damaged: list[tuple[Any, str]] = field(default_factory=list)

    @property
    def usable(self) -> NDArray[np.int64]:
        """Positions of the rows that have not failed in this run."""
        return np.flatnonzero(~self.failed)

    @property
    def lost(self) -> NDArray[np.void]:
        """Ids of the rows that have failed in this run, here or above; not those that a pair would have had."""
        above = [side.branch.lost for side in self.sides] if self.stage.kind is Kind.MAP or len(self.sides) == 1 else []
        if self.index is not None and above:
            draws = ids.distinct(self.index)
            above = [ids.expanded([above[0].repeat(len(draws))], np.tile(draws, len(above[0])))]
        return np.concatenate([self.rows.id[np.flatnonzero(self.failed)], *above])


@dataclass(eq=False)
class Side:
    """Some rows of a branch, in order."""

    branch: Branch
    positions: NDArray[np.int64]

    @property
    def ids(self) -> NDArray[np.void]:
        return self.branch.rows.id[self.positions]


def origin(branch: Branch, position: int) -> str:
    """Where a row was born, for messages: a path, or the source node and the id."""
    while branch.sides:
        side = branch.sides[0]
        branch, position = side.branch, int(side.positions[position])
    if branch.positions is not None:
        entry = int(branch.positions[position])
        for name in ("location", "seed"):
            if name in branch.payload:
                value = branch.payload[name][np.array([entry])][0]
                return str(value) if name == "location" else f"{branch.node} {name} {value}"
    return f"{branch.node} {ids.hex(branch.rows.id[position])[:12]}"


def check_twins(one: Branch, other: Branch) -> str:
    """Equal files in two sources: a note ("" if there are none); SourceError if they have two labels."""
    places = ids.lookup(one.rows.id, other.rows.id)
    common = np.flatnonzero(places >= 0)
    if not len(common):
        return ""
    different = common[one.rows.label[places[common]] != other.rows.label[common]]
    if len(different):
        row, names = int(different[0]), ("real", "fake")
        first = names[one.rows.label[places[row]]], origin(one, int(places[row]))
        second = names[other.rows.label[row]], origin(other, row)
        raise SourceError(
            f"the same content is {first[0]} in {one.node} ({first[1]}) and {second[0]} in {other.node} "
            f"({second[1]}); remove one of them, or correct the label of a source"
        )
    return f"{one.node} and {other.node} share {len(common):,} rows; a view of both counts them once, as {one.node}'s"


@dataclass(eq=False)
class Selection:
    """Rows of one branch (one side), or pairs of rows of two branches (two sides of equal length).

    What many nodes ask of the same rows is kept with them.
    """

    sides: tuple[Side, ...]
    narrowed: dict[tuple[str, ...], Selection] = field(default_factory=dict)
    digests: dict[tuple[str, ...], bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sides[0].positions)

    def take(self, which: NDArray[Any]) -> Selection:
        return Selection(tuple(Side(side.branch, side.positions[which]) for side in self.sides))

    def table(self) -> Rows:
        return self.sides[0].branch.rows.take(self.sides[0].positions)

    def within(self, splits: tuple[str, ...]) -> Selection:
        """Its rows that are in one of these splits."""
        if splits not in self.narrowed:
            codes = [SPLITS.index(name) for name in splits]
            self.narrowed[splits] = self.take(_among(self.table().split, codes))
        return self.narrowed[splits]

    def digest(self, columns: tuple[str, ...], names: Names) -> bytes:
        """Digest of its ids and of these columns of the row table, whatever the order of its rows."""
        if columns not in self.digests:
            table = self.table()
            found = {name: getattr(table, name) for name in columns}
            found |= {name: names.digests()[found[name]] for name in ("domain", "source") if name in found}
            self.digests[columns] = rows_digest(table.id, found)
        return self.digests[columns]

    @property
    def key(self) -> tuple[int, ...]:
        return tuple(id(side.branch) for side in self.sides)


def measured(branch: Branch) -> Mapping[str, Any]:
    """The step that gave the rows of a branch their values: the last one that makes no variant of them."""
    return measured_step(branch.steps)


def fewer(branch: Branch) -> bool:
    """Whether rows of the branch, or of one above it, have failed or could not be read."""
    return bool(branch.failed.any() or branch.problems) or any(fewer(side.branch) for side in branch.sides)


def variants(branch: Branch) -> tuple[bytes, ...]:
    """What was done on purpose to the pictures of a branch, in order, whatever their size: none of it to plain ones."""
    made = (step for step in branch.steps if step.get("variant"))
    return tuple(digest("variant", step["stage"], step["config"], step["files"]) for step in made)


def measured_steps(views: Mapping[str, Mapping[str, list[Selection]]]) -> list[Mapping[str, Any]]:
    """Those of all rows of some views, in the order of their recipes."""
    branches = [one.sides[0].branch for named in views.values() for many in named.values() for one in many]
    branches += [side.branch for one in branches if one.joins for side in one.sides]
    found = {step["recipe"]: step for step in map(measured, branches)}
    return [found[recipe] for recipe in sorted(found)]


def fitting(
    found: list[Selection], fields: tuple[str, ...], recipes: Iterable[str], lost: NDArray[np.void]
) -> list[Selection]:
    """Of rows that a view holds in several ways: those with these fields, then those made by one of these recipes.

    All of them where that would lose a row: then the fields differ, and whoever reads them says so. lost: ids of rows
    that failed on the way to these fields, and need not be there.
    """
    having = [one for one in found if all(name in one.sides[0].branch.schema for name in fields)]
    found = having if covers(having, found, lost, variants) else found
    alike = [one for one in found if measured(one.sides[0].branch)["recipe"] in recipes]
    return alike if covers(alike, found, lost) else found


def covers(
    some: list[Selection],
    found: list[Selection],
    lost: NDArray[np.void],
    kind: Callable[[Branch], object] = lambda branch: None,
) -> bool:
    """Whether each row (a source, a kind, an id) of all selections is in one of `some`, or its id a lost one."""
    if not some or len(some) == len(found):
        return len(some) == len(found)
    sides: dict[object, tuple[list[Rows], list[Rows]]] = {}
    for one in found:
        sides.setdefault(kind(one.sides[0].branch), ([], []))[one not in some].append(one.table())
    for kept, dropped in sides.values():
        for source in {int(number) for table in dropped for number in ids.distinct(table.source)}:
            there, wanted = ([table.id[table.source == source] for table in tables] for tables in (kept, dropped))
            if not ids.isin(np.concatenate(wanted), np.concatenate([*there, lost])).all():
                return False
    return True


def split_counts(selections: list[Selection]) -> dict[tuple[str, int], int]:
    """(split, label) -> number of rows."""
    counts = np.zeros(2 * len(SPLITS), np.int64)
    for one in selections:
        table = one.table()
        counts += np.bincount(2 * table.split.astype(np.intp) + (table.label == FAKE), minlength=len(counts))
    return {
        (split, label): int(counts[2 * code + (label == FAKE)])
        for code, split in enumerate(SPLITS)
        for label in (REAL, FAKE)
    }


def common_schema(selections: list[Selection]) -> ViewSchema:
    """Fields that all branches of a view have alike, and how the others differ."""
    branches = [one.sides[0].branch for one in selections]
    first = branches[0].schema if branches else {}
    names = dict.fromkeys(name for branch in branches for name in branch.schema)
    alike = [name for name in names if all(branch.schema.get(name) == first.get(name) for branch in branches)]
    differing = {name: _difference(name, branches) for name in names if name not in alike}
    return ViewSchema({name: first[name] for name in alike}, differing)


def _difference(name: str, branches: list[Branch]) -> str:
    """One clause: what a field is, and in which nodes; or in which of the nodes above, if one node made all."""
    groups: dict[Field | None, list[list[str]]] = {}
    for branch in branches:
        groups.setdefault(branch.schema.get(name), []).append(_lineage(branch))
    known = [field for field in groups if field]
    aspect = next((one for one in ("shape", "dtype", "units") if len({getattr(f, one) for f in known}) > 1), "shape")
    places: list[list[str]] = []
    for depth in range(max(len(line) for lines in groups.values() for line in lines)):
        places = [sorted({line[min(depth, len(line) - 1)] for line in lines}) for lines in groups.values()]
        if len({node for nodes in places for node in nodes}) == sum(len(nodes) for nodes in places):
            break
    found = sorted(
        (
            field is None,
            ", ".join(nodes[:3]) + (" ..." if len(nodes) > 3 else ""),
            str(getattr(field, aspect, "missing")),
        )
        for field, nodes in zip(groups, places, strict=True)
    )
    return f"'{name}' is " + " and ".join(f"{value} in {nodes}" for _, nodes, value in found)


def _lineage(branch: Branch) -> list[str]:
    """The node of a branch and those above it, to the source."""
    nodes = [branch.node]
    while branch.sides:
        branch = branch.sides[0].branch
        nodes.append(branch.node)
    return nodes


class Evaluator:
    """Turns views into selections; `problem` makes the error of a node from a sentence.

    Each view is evaluated once: the nodes of a matrix often read the same. The branches of a node are there, and as
    they stay, before a view of it is evaluated.
    """

    def __init__(
        self, branches: Mapping[str, list[Branch]], names: Names, seed: int, nodes: frozenset[str] = frozenset()
    ) -> None:
        self.nodes = nodes  # nodes of the pipeline: a source may be one that is not planned now
        self.branches = branches
        self.names = names
        self.seed = seed
        self.meant: dict[tuple[int, str, tuple[str, ...]], list[int]] = {}  # words so far, field, values -> numbers
        self.evaluated: dict[View, list[Selection]] = {}
        self.fitted: dict[tuple[View, tuple[str, ...], frozenset[str]], list[Selection]] = {}

    def evaluate(self, view: View, problem: Callable[[str], ConfigError]) -> list[Selection]:
        """Selections of a view, each branch (or pair of branches) once, in the order of the view."""
        if view not in self.evaluated:
            self.evaluated[view] = self._evaluate(view, problem)
        return list(self.evaluated[view])

    def fitting(
        self, view: View, problem: Callable[[str], ConfigError], fields: tuple[str, ...], recipes: Iterable[str]
    ) -> list[Selection]:
        """Of a view's selections those that are to be read, where it holds rows in several ways; see `fitting`."""
        key = (view, fields, frozenset(recipes))
        if key not in self.fitted:
            self.fitted[key] = fitting(self.evaluate(view, problem), fields, key[2], self.lost(view, fields))
        return list(self.fitted[key])

    def lost(self, view: View, fields: Iterable[str]) -> NDArray[np.void]:
        """Ids of the rows that failed in the nodes of a view that have these fields, or above them."""
        wanted, branches = set(fields), (branch for name in view.references() for branch in self.branches[name])
        return np.concatenate([np.zeros(0, ID), *(one.lost for one in branches if wanted <= set(one.schema))])

    def _evaluate(self, view: View, problem: Callable[[str], ConfigError]) -> list[Selection]:
        found: list[Selection] = []
        for name in view.nodes:
            found += [Selection((Side(branch, branch.usable),)) for branch in self.branches[name]]
        for part in view.parts:
            found += self.evaluate(part, problem)
        found = _merged(found)
        if view.where:
            self._check_words(view.where, problem)
            found = [one.take(self._mask(one, view.where)) for one in found]
        if view.pair:
            found = self._paired(found, self.evaluate(view.pair, problem), view.on, problem)
        if view.balance:
            found = self._balanced(found, problem)
        if view.take is not None:
            found = self._first(found, view.take, problem)
        return [one for one in found if len(one)]

    def _check_words(self, terms: tuple[Term, ...], problem: Callable[[str], ConfigError]) -> None:
        """A source or domain that nobody has is a typo, not an empty selection (nor, negated, a full one)."""
        words = set(self.names.words) | {word.partition("[")[0] for word in self.names.words}
        for term in terms:
            known = words | self.nodes if term.field == "source" else words
            for word in term.values if term.field in ("source", "domain") else ():
                if word not in known and not (term.field == "source" and any(_names(word, one) for one in known)):
                    raise problem(f"compares {term.field} with '{word}', which no row has{nearest(word, known - {''})}")

    def _mask(self, selection: Selection, terms: tuple[Term, ...]) -> NDArray[np.bool_]:
        rows = selection.table()
        mask = np.ones(len(rows), dtype=bool)
        for term in terms:
            mask &= self._term(rows, term) != term.negated
        return mask

    def _term(self, rows: Rows, term: Term) -> NDArray[np.bool_]:
        if term.field == "label":
            return _among(rows.label, [LABELS[word] for word in term.values])
        if term.field == "split":
            return _among(rows.split, [SPLITS.index(word) for word in term.values])
        if term.field == "group":
            named = [digest("group", word) for word in term.values]  # a group that is one with another bears its digest
            return ids.isin(rows.group, ids.from_bytes([*named, *map(self.names.root, named)]))
        column = rows.domain if term.field == "domain" else rows.source
        key = len(self.names.words), term.field, term.values
        if key not in self.meant:
            self.meant[key] = [
                number
                for number, word in enumerate(self.names.words)
                if word in term.values or (term.field == "source" and any(_names(value, word) for value in term.values))
            ]
        return _among(column, self.meant[key])

    def _balanced(self, found: list[Selection], problem: Callable[[str], ConfigError]) -> list[Selection]:
        """As many reals as fakes in each split that has both: of the more numerous class those that rank first."""
        if not found:
            return found
        tables = [one.table() for one in found]
        label, split = (np.concatenate([getattr(table, name) for table in tables]) for name in ("label", "split"))
        ranks = np.concatenate([hash_rank(table.id, "balance", self.seed) for table in tables])
        kept = np.ones(len(label), dtype=bool)
        for code in ids.distinct(split).tolist():
            members = [np.flatnonzero((split == code) & (label == one)) for one in (REAL, FAKE)]
            count = min(map(len, members))
            if not count:
                name = ("real", "fake")[int(len(members[FAKE]) == 0)]
                raise problem(f"balances labels, but its split '{SPLITS[code]}' holds no {name} rows; add some")
            for rows in members:
                kept[rows[np.argsort(ranks[rows], kind="stable")[count:]]] = False
        return _cut(found, kept)

    def _first(self, found: list[Selection], count: int, problem: Callable[[str], ConfigError]) -> list[Selection]:
        total = sum(len(one) for one in found)
        lost = any(fewer(side.branch) for one in found for side in one.sides)
        if total < count and not lost:  # rows that failed leave fewer; the report names them
            raise problem(f"takes {count} rows of a view that has {total}")
        ranks = np.concatenate([hash_rank(one.sides[0].ids, "take", self.seed) for one in found])
        chosen = np.zeros(total, dtype=bool)
        chosen[np.argsort(ranks, kind="stable")[:count]] = True
        return _cut(found, chosen)

    def _paired(
        self, left: list[Selection], right: list[Selection], on: str, problem: Callable[[str], ConfigError]
    ) -> list[Selection]:
        found = []
        for one in left:
            for other in right:
                if len(one.sides) != 1 or len(other.sides) != 1:
                    raise problem("pairs a view that is a pair already; pair two plain views")
                a, b = _join(one.sides[0], other.sides[0], on)
                pair = Selection((Side(one.sides[0].branch, a), Side(other.sides[0].branch, b)))
                if len(pair):
                    found.append(pair)
        if not found and left and right:
            raise problem(f"pairs two views that share no {on}")
        for pair in found:
            splits = [side.branch.rows.split[side.positions] for side in pair.sides]
            if (splits[0] != splits[1]).any():
                raise problem("pairs rows of different splits; add 'where: split = ...' or pair on group")
        return found


def _among(column: NDArray[Any], numbers: list[int]) -> NDArray[np.bool_]:
    """`np.isin`, which sorts, quicker for a few numbers."""
    if len(numbers) > 8:
        return np.isin(column, numbers)
    mask = np.zeros(len(column), dtype=bool)
    for number in numbers:
        mask |= column == number
    return mask


def _names(value: str, word: str) -> bool:
    """Whether the value of a condition means a source: its name, its entry, or a pattern with stars."""
    return value in (word, word.partition("[")[0]) or matches(value, word)


def _cut(found: list[Selection], chosen: NDArray[np.bool_]) -> list[Selection]:
    """The chosen rows of all selections, which stand one after another."""
    edges = np.cumsum([0, *(len(one) for one in found)])
    return [one.take(np.flatnonzero(chosen[edges[i] : edges[i + 1]])) for i, one in enumerate(found)]


def _merged(found: list[Selection]) -> list[Selection]:
    """Each branch (or pair of branches) once: the union of its rows, in the order of the branch."""
    by_branch: dict[tuple[int, ...], Selection] = {}
    for one in found:
        other = by_branch.get(one.key)
        if other is None:
            by_branch[one.key] = one
        else:
            columns = [np.concatenate([a.positions, b.positions]) for a, b in zip(other.sides, one.sides, strict=True)]
            both = _distinct(np.stack(columns))
            sides = zip(one.sides, both, strict=True)
            by_branch[one.key] = Selection(tuple(Side(side.branch, positions) for side, positions in sides))
    return _without_twins(list(by_branch.values()))


def _distinct(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct columns of a matrix, sorted by their first number, then the next."""
    ranked = columns[:, np.lexsort(columns[::-1])]
    first = np.ones(ranked.shape[1], dtype=bool)
    first[1:] = (ranked[:, 1:] != ranked[:, :-1]).any(axis=0)
    return ranked[:, first]


def _without_twins(found: list[Selection]) -> list[Selection]:
    """Rows of one chain that several branches hold (two sources with equal files) count once, as the first's."""
    chains = [tuple(side.branch.chain for side in one.sides) for one in found]
    kept: list[Selection] = []
    for number, one in enumerate(found):
        twins = [other for other, chain in zip(kept, chains[:number], strict=True) if chain == chains[number]]
        if twins and len(one.sides) == 1:
            known = np.concatenate([other.sides[0].ids for other in twins])
            one = one.take(np.flatnonzero(~ids.isin(one.sides[0].ids, known)))
        kept.append(one)
    return kept


def _join(a: Side, b: Side, on: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of all pairs with equal id or group, in the order of `a`, then of `b`."""
    left = a.branch.rows.id[a.positions] if on == "id" else a.branch.rows.group[a.positions]
    right = b.branch.rows.id[b.positions] if on == "id" else b.branch.rows.group[b.positions]
    if len(left) == len(right) and ids.increasing(right) and ids.same(left, right).all():
        return a.positions, b.positions
    order = ids.order(right)
    distinct = ids.unique(right)
    member = ids.lookup(distinct, right[order])
    starts = np.searchsorted(member, np.arange(len(distinct)))
    counts = np.bincount(member, minlength=len(distinct))
    which = ids.lookup(distinct, left)
    repeats = np.where(which >= 0, counts[np.maximum(which, 0)], 0) if len(distinct) else np.zeros(len(left), int)
    rows = np.repeat(np.arange(len(left)), repeats)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    chosen = order[starts[which[rows]] + offsets] if len(rows) else np.zeros(0, dtype=np.int64)
    return a.positions[rows], b.positions[chosen]
