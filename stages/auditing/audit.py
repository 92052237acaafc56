"""The audit of two classes of rows: every check of the vocabulary with its verdict, and the verdict of the whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.auditing import duplicates
from stages.auditing.decision import Column, Outcome, compared, differs, is_equal, rows_needed
from stages.auditing.examined import Row, Rows
from stages.auditing.facts import columns
from stages.auditing.fixes import fix
from stages.auditing.vocabulary import (
    CANNOT_TELL,
    CHECKS,
    DIFFERS,
    EQUAL,
    FOUND,
    FREQUENCIES,
    KIND,
    NONE,
    NOT_APPLICABLE,
)

MOST_ROWS = 50
CLASSES = ("real", "fake")
LEAST_NEAR, MORE_TWINS, LEAST_TWINS = 3, 0.05, 3
"""Look-alikes across classes or splits that are no accident; the share of rows by which twins of one class exceed."""


@dataclass
class Finding:
    """The verdict of one check. column: what differs most, in words; letter: the kind that it speaks for."""

    name: str
    kind: str
    verdict: str = NOT_APPLICABLE
    statistic: float | None = None
    p: float | None = None
    effect: float | None = None
    n_real: int = 0
    n_fake: int = 0
    rows: list[str] = field(default_factory=list)
    fix: str = ""
    column: str = ""
    letter: str = ""

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON."""
        values = asdict(self)
        del values["column"], values["letter"]
        return values


@dataclass(frozen=True)
class Result:
    """Findings in the order of the vocabulary. biased: names of those that make `bias` found."""

    findings: Sequence[Finding]
    verdict: str
    bias: str
    biased: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return {"verdict": self.verdict, "bias": self.bias, "checks": [one.plain() for one in self.findings]}


def audit(
    real: Sequence[Row], fake: Sequence[Row], control: Collection[str] = (), declared: Collection[str] = ()
) -> Result:
    """All checks on the rows of both classes, neither of them empty.

    control: H checks that differ between real images of two origins too; declared: checks whose differences are known.
    """
    rows = [*real, *fake]
    labels = np.repeat(np.array([0, 1], np.uint8), [len(real), len(fake)])
    twins = Twins(rows, labels)
    made = Rows(rows, labels, twins.groups)
    found = columns(made)
    results = compared(found, labels, made.groups)
    by_check: dict[str, list[tuple[Column, Outcome]]] = {}
    for column, test in zip(found, results, strict=True):
        by_check.setdefault(column.check, []).append((column, test))
    findings = [
        twins.finding(check.name)
        if check.name in twins.RULES
        else decided(check.name, by_check.get(check.name, []), made)
        for check in CHECKS
    ]
    withdraw(findings)
    return whole(findings, control, declared)


def withdraw(findings: Sequence[Finding]) -> None:
    """Of checks of the same frequencies none is equal where one differs: its own statistics are too coarse to show it.

    A blur in a fifth of the rows moves the sharpness of photographs by less than the bound, and its traces by more.
    """
    kindred = [one for one in findings if one.name in FREQUENCIES]
    different = next((one for one in kindred if one.verdict == DIFFERS), None)
    for one in kindred:
        if different is not None and one.verdict == EQUAL:
            one.verdict = CANNOT_TELL
            one.fix = f"{different.name} differs, which looks at the same frequencies"


def whole(findings: Sequence[Finding], control: Collection[str] = (), declared: Collection[str] = ()) -> Result:
    """The verdict of all checks together, and whether a bias is found."""
    applicable = [one for one in findings if one.verdict != NOT_APPLICABLE]
    verdicts = {one.verdict for one in applicable}
    if DIFFERS in verdicts:
        verdict = DIFFERS
    elif verdicts == {EQUAL}:
        verdict = EQUAL
    else:
        verdict = CANNOT_TELL
    counting = [one for one in applicable if one.name not in declared]
    biased = [one for one in counting if one.verdict == DIFFERS and (one.letter == "C" or _shown(one, control))]
    open_checks = [one for one in counting if one.verdict == CANNOT_TELL and KIND[one.name] == "C"]
    bias = FOUND if biased else CANNOT_TELL if open_checks else NONE
    return Result(list(findings), verdict, bias, [one.name for one in biased])


def _shown(one: Finding, control: Collection[str]) -> bool:
    return one.letter == "H" and one.name in control


def decided(name: str, pairs: Sequence[tuple[Column, Outcome]], rows: Rows) -> Finding:
    """The verdict of a check from its columns."""
    finding = Finding(name, KIND[name], letter=KIND[name][0])
    pairs = [(column, test) for column, test in pairs if column.weight > 0]
    if not pairs:
        return finding
    used = np.any([column.used for column, _ in pairs], axis=0)
    finding.n_real, finding.n_fake = (int((used & (rows.labels == label)).sum()) for label in (0, 1))
    least = min(finding.n_real, finding.n_fake)
    different = [pair for pair in pairs if differs(*pair)]
    best_column, best = max(different or pairs, key=_clarity)
    if different:
        finding.verdict = DIFFERS
        if any(column.letter == "C" for column, _ in different):
            finding.letter = "C"
        else:
            finding.letter = best_column.letter
    elif all(is_equal(column, test, least) for column, test in pairs if column.proves):
        finding.verdict = EQUAL
    else:
        finding.verdict = CANNOT_TELL
    finding.statistic, finding.p, finding.effect = (round(value, 6) for value in (best.z, best.p, best.effect))
    finding.column = best_column.label
    if finding.verdict != EQUAL:
        finding.rows = shown_rows(best_column, pairs, rows)
    enough = rows_needed(best_column, best)
    finding.fix = fix(name, finding.verdict, enough)
    return finding


def _clarity(pair: tuple[Column, Outcome]) -> tuple[float, float, float, bool]:
    """What is told of a check: the clearest column; of several sides of one fact the rarest, then what fakes have."""
    column, test = pair
    return -test.p, round(abs(test.z), 3), -round(float(column.raw[column.used].mean()), 3), test.effect > 0


def shown_rows(best: Column, pairs: Sequence[tuple[Column, Outcome]], rows: Rows) -> list[str]:
    """Rows at the end of a column, of the class where they are commoner; of a rank, those of its clearest tail."""
    same = [(column, test) for column, test in pairs if column.statistic == best.statistic and column.end]
    column, test = next((column, test) for column, test in pairs if column is best)
    raw = next((one.raw for one, _ in pairs if one.statistic == best.statistic and one.kind == "rank"), column.raw)
    if best.statistic and same:
        column, test = max(same, key=lambda pair: abs(pair[1].z) * (1.5 if _is_trace(pair[0]) else 1))
    end = column.end or 1
    label = int(test.effect > 0)
    having = column.used & (rows.labels == label)
    if column.kind == "share":
        having &= column.raw > 0
    chosen = np.flatnonzero(having)
    chosen = chosen[np.argsort(-end * raw[chosen], kind="stable")][:MOST_ROWS]
    return named(chosen.tolist(), rows)


def _is_trace(column: Column) -> bool:
    """Whether a column tells of traces that are there, rather than of their absence."""
    return column.check in ("grid8", "double_compression", "borders") and column.end > 0


def named(chosen: Sequence[int], rows: Rows) -> list[str]:
    """`real/NAME` or `fake/NAME`."""
    return [f"{CLASSES[rows.labels[row]]}/{rows.rows[row].name}" for row in chosen]


class Twins:
    """Rows that show one picture, in clusters; and groups in two splits. Here one case is enough: no statistics."""

    RULES = ("exact_duplicates", "near_duplicates", "group_leak")

    def __init__(self, rows: Sequence[Row], labels: NDArray[np.uint8]) -> None:
        self.rows = Rows(rows, labels)
        pictures = {number: row.picture for number, row in enumerate(rows) if row.picture is not None}
        self.pictured = np.array(list(pictures), np.int64)
        self.digests = [None if row.picture is None else row.picture.digest for row in rows]
        self.equal = duplicates.members(self.digests)
        thumbnails = [one.thumbnail for one in pictures.values()]
        found = self.pictured[duplicates.near(np.stack(thumbnails))].tolist() if thumbnails else []
        pairs: list[tuple[int, int]] = [(one, other) for one, other in found]
        self.alike = [pair for pair in pairs if self.digests[pair[0]] != self.digests[pair[1]]]
        of_group: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if row.group:
                of_group.setdefault(row.group, []).append(number)
        self.of_group = of_group
        links = [(one[0], other) for one in (*of_group.values(), *self.equal) for other in one[1:]]
        self.groups = duplicates.clusters(len(rows), [*links, *self.alike])

    def finding(self, name: str) -> Finding:
        return {
            "exact_duplicates": lambda: self._copies(
                name, [(rows[0], row) for rows in self.equal for row in rows[1:]], self._crossing_equal(), 1
            ),
            "near_duplicates": lambda: self._copies(
                name,
                self.alike,
                [pair for pair in self.alike if self._crosses(*pair)],
                LEAST_NEAR,
            ),
            "group_leak": lambda: self._leak(name),
        }[name]()

    def _crosses(self, one: int, other: int) -> bool:
        """Whether two rows are of unlike classes or of unlike splits."""
        rows, labels = self.rows.rows, self.rows.labels
        splits = rows[one].split, rows[other].split
        return bool(labels[one] != labels[other]) or (all(splits) and splits[0] != splits[1])

    def _crossing_equal(self) -> list[tuple[int, int]]:
        """Of each set of equal rows, pairs across: each row with the first one that it crosses."""
        found = []
        for rows in self.equal:
            for row in rows[1:]:
                other = next((one for one in rows if one < row and self._crosses(one, row)), None)
                if other is not None:
                    found.append((other, row))
        return found

    def _copies(self, name: str, pairs: Sequence[Any], across: Sequence[Any], least: int) -> Finding:
        """Copies across classes or splits, or many more rows with a copy in one class."""
        finding = Finding(name, KIND[name], letter="C")
        if not len(self.pictured):
            return finding
        labels = self.rows.labels
        sizes = [int((labels[self.pictured] == label).sum()) for label in (0, 1)]
        finding.n_real, finding.n_fake = sizes
        if min(sizes) == 0:
            return finding
        inside = [
            {row for pair in pairs for row in pair if labels[pair[0]] == labels[pair[1]] == label} for label in (0, 1)
        ]
        shares = [len(rows) / size for rows, size in zip(inside, sizes, strict=True)]
        fuller = int(shares[1] > shares[0])
        uneven = abs(shares[1] - shares[0]) >= MORE_TWINS and len(inside[fuller]) >= LEAST_TWINS
        count, effect = len(across), len({row for pair in across for row in pair}) / sum(sizes)
        chosen = sorted({row for one, row in across} | {one for one, row in across if labels[one] == labels[row]})
        if len(across) < least and uneven:
            count, effect, chosen = len(inside[fuller]), shares[1] - shares[0], sorted(inside[fuller])
        finding.statistic, finding.effect = float(count), round(effect, 6)
        pairs = across or pairs
        example = " and ".join(named(list(pairs[0]), self.rows)) if len(pairs) else ""
        finding.column = f"{_copies(count)}, e.g. {example}" if example else "no copies"
        if len(across) >= least or uneven:
            finding.verdict, finding.rows = DIFFERS, named(chosen[:MOST_ROWS], self.rows)
        else:
            finding.verdict = EQUAL if least == 1 or not across else CANNOT_TELL
            finding.rows = named(chosen[:MOST_ROWS], self.rows)
        finding.fix = fix(name, finding.verdict, 0)
        return finding

    def _leak(self, name: str) -> Finding:
        """Groups whose rows lie in two splits."""
        finding = Finding(name, KIND[name], letter="C")
        rows = self.rows.rows
        if not any(row.split and row.group for row in rows):
            return finding
        leaking = [
            [row for row in numbers if rows[row].split]
            for numbers in self.of_group.values()
            if len({rows[row].split for row in numbers} - {""}) > 1
        ]
        finding.n_real, finding.n_fake = (int((self.rows.labels == label).sum()) for label in (0, 1))
        finding.statistic, finding.effect = float(len(leaking)), round(sum(map(len, leaking)) / len(rows), 6)
        finding.column = f"{len(leaking)} groups"
        finding.verdict = DIFFERS if leaking else EQUAL
        finding.rows = named([row for numbers in leaking for row in numbers][:MOST_ROWS], self.rows)
        finding.fix = fix(name, finding.verdict, 0)
        return finding


def _copies(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"
