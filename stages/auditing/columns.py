"""From facts and statistics of rows to columns of numbers that a permutation test takes.

A fact is a share for each of its commoner values. A statistic is used seven times: its rank, and the shares of rows in
its upper and lower tails, since a bias in 5 % of the rows moves an AUC by at most 0.025. What only some rows have, such
as tables of JPEG files, is compared within strata, so that a difference of codecs does not echo in ten other checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.auditing.decision import Column

COMMONEST = 12
OTHERS = "others"
USUAL = ("", "none", 0)
"""Values of facts that say that there is nothing: their columns say that there is something."""

TAILS = (0.10, 0.05, 0.025)
PROVING_TAIL = 0.05

Strata = NDArray[np.int64]
"""(n,): stratum of each row, -1 where it has none."""


def strata(keys: Sequence[Any]) -> Strata:
    """One stratum for each key; None: in none."""
    known: dict[Any, int] = {}
    return np.array([-1 if key is None else known.setdefault(key, len(known)) for key in keys], np.int64)


class Classes:
    """Labels of the rows, (n,) uint8, by which strata are useful."""

    def __init__(self, labels: NDArray[np.uint8]) -> None:
        self.labels = labels

    def both(self, own: Strata) -> Strata:
        """The strata that have rows of both classes."""
        if not (own >= 0).any():
            return own
        counts = np.zeros((own.max() + 1, 2), np.int64)
        np.add.at(counts, (own[own >= 0], self.labels[own >= 0]), 1)
        return np.where((own >= 0) & (counts.min(1)[np.maximum(own, 0)] > 0), own, -1)

    def column(
        self, check: str, label: str, kind: str, values: NDArray[Any], own: Strata, letter: str, **more: Any
    ) -> Column:
        """Values centered within strata that have both classes."""
        used = own >= 0
        place = own[used]
        size = place.max(initial=-1) + 1
        count = np.bincount(place, minlength=size)
        mean = np.bincount(place, values[used], size) / np.maximum(count, 1)
        fakes = np.bincount(place, self.labels[used], size)
        centered = np.zeros(len(values), np.float32)
        centered[used] = values[used] - mean[place]
        weight = float((fakes * (count - fakes) / np.maximum(count, 1)).sum())
        return Column(
            check, label, kind, centered, weight, letter, raw=np.asarray(values, np.float32), used=used, **more
        )

    def facts(
        self, check: str, values: Sequence[Any], own: Strata, letter: str, label: str = "{}", **more: Any
    ) -> Iterator[Column]:
        """A share for each of the commonest values among rows in strata, and for all others together."""
        own = self.both(own)
        counts = Counter(value for value, one in zip(values, own.tolist(), strict=True) if one >= 0)
        common = [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:COMMONEST]]
        for value in common:
            if value is False and len(counts) > 1:
                continue  # the other side says the same
            if value in USUAL and value is not False:
                yield self.fact(
                    check, f"not {label.format(value)}", [one != value for one in values], own, letter, **more
                )
            else:
                yield self.fact(check, label.format(value), [one == value for one in values], own, letter, **more)
        if len(counts) > COMMONEST:
            known = set(common)
            yield self.fact(check, label.format(OTHERS), [one not in known for one in values], own, letter, **more)

    def fact(self, check: str, label: str, values: Sequence[bool], own: Strata, letter: str, **more: Any) -> Column:
        """A share."""
        return self.column(check, label, "share", np.array(values, np.float64), self.both(own), letter, **more)

    def statistic(
        self, check: str, label: str, values: NDArray[np.floating], own: Strata, letter: str
    ) -> Iterator[Column]:
        """Rank and tails within strata."""
        own = self.both(own)
        ranks = np.zeros(len(values))
        for stratum in range(own.max(initial=-1) + 1):
            chosen = own == stratum
            ranks[chosen] = average_ranks(values[chosen])
        same = {"statistic": label}
        yield self.column(check, label, "rank", ranks, own, letter, **same)
        for share in TAILS:
            for end, name in ((1, "high"), (-1, "low")):
                beyond = ranks > 1 - share if end > 0 else ranks < share
                if (beyond & (own >= 0)).any():
                    yield self.column(
                        check, f"{label} {name} ({share:.1%})", "share", beyond.astype(np.float64), own, letter,
                        proves=share == PROVING_TAIL, end=end, **same,
                    )  # fmt: skip


def average_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0 to 1 of (n,) values: the share of values that are smaller, equal ones counting half."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts / 2) / max(len(values), 1))[place]


def multiple(values: Sequence[Sequence[str]]) -> Mapping[str, NDArray[np.bool_]]:
    """Which rows have each of the commonest of several texts."""
    counts = Counter(text for texts in values for text in set(texts))
    common = [text for text, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMONEST]]
    return {text: np.array([text in texts for texts in values]) for text in common}
