"""Progress on stderr: what is worked at as bars, what is finished as lines, and one bar of the whole.

Without a terminal there are lines only. A node gets its bar with its first rows and gives it up with its last: then a
line says how many rows it had and how long they took. The bar of the whole counts seconds of work as far as speeds are
known, so that its estimate is no worse because rows of one node cost a hundred times those of another.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.printable import printable
from pipeline.sentences import counted, duration

LINE_EVERY_S = 5.0
MOST_BARS = 8
"""Bars of nodes at a time; further active nodes only count in the whole."""

WHOLE = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


@dataclass
class _Count:
    """total, done, failed: rows. cost: seconds of work per row. began: when the first of them were done or begun."""

    total: int
    present: int = 0
    done: int = 0
    failed: int = 0
    cost: float = 1.0
    began: float | None = None
    shown: float = 0.0
    share: float = 0.0  # of a fit that goes on


class Bars:
    """Thread-safe bars. `totals` are the rows that the plan wants of each node, `present` those that exist already."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.lock = threading.RLock()  # a signal may come while the thread that handles it holds it
        self.bars: dict[str, Any] = {}
        self.counts: dict[str, _Count] = {}
        self.fits: set[str] = set()
        self.whole: Any = None

    def open(
        self, totals: Mapping[str, tuple[int, int]], fits: set[str], costs: Mapping[str, float] | None = None
    ) -> None:
        """totals: node -> (wanted, present). costs: node -> seconds of work per row or fit, where that is known."""
        with self.lock:
            self.fits = fits
            known = costs or {}
            usual = sorted(known[node] for node in known if node not in fits) or [1.0]
            for node, (wanted, present) in totals.items():
                cost = known.get(node, usual[len(usual) // 2])
                self.counts[node] = _Count(wanted, present, cost=cost, shown=time.monotonic())
            if self.terminal and not self.quiet and len(totals) > 1:
                from tqdm import tqdm

                self._close_whole()
                self.whole = tqdm(total=self._work(), desc="all", bar_format=WHOLE, leave=False, dynamic_ncols=True,
                                  mininterval=0.2, file=sys.stderr)  # fmt: skip

    def advance(self, node: str, rows: int, failed: int = 0, seconds: float = 0.0) -> None:
        """failed: how many of the rows could not be computed, or lack an input that failed; seconds: what they took."""
        with self.lock:
            count = self.counts.setdefault(node, _Count(rows))
            if count.began is None:
                count.began = time.monotonic() - seconds
            count.done += rows
            count.failed += failed
            count.share = 0.0
            if self.quiet:
                return
            finished = count.present + count.done >= count.total
            if self.terminal:
                self._advance_whole()
                bar = self.bars.get(node) if finished else self._bar(node, count)
                if finished:
                    self._finish(node, count)
                elif bar is not None:
                    bar.set_postfix_str(_failures(count), refresh=False)
                    bar.update(0 if node in self.fits else rows)
            elif finished or time.monotonic() - count.shown > LINE_EVERY_S:
                count.shown = time.monotonic()
                unit = "done" if node in self.fits else f"{count.done:,} of {counted(count.total, 'row')}"
                self._line(", ".join(filter(None, (f"{node}: {unit}", _failures(count)))))

    def step(self, node: str, done: int, total: int) -> None:
        """Steps inside a fit."""
        with self.lock:
            count = self.counts.get(node)
            if self.quiet or count is None:
                return
            count.began = count.began or time.monotonic()
            count.share = done / total if total else 0.0
            if self.terminal:
                bar = self._bar(node, count)
                if bar is not None:
                    bar.total = total
                    bar.update(done - bar.n)
                self._advance_whole()
            elif time.monotonic() - count.shown > LINE_EVERY_S:
                count.shown = time.monotonic()
                self._line(f"{node}: step {done:,} of {total:,}")

    def scanning(self, text: str, files: int) -> None:
        """Progress of walking and hashing, before the plan is known."""
        with self.lock:
            if self.quiet:
                return
            if self.terminal:
                if "scan" not in self.bars:
                    from tqdm import tqdm

                    self.bars["scan"] = tqdm(desc="scan", unit=" files", leave=False, file=sys.stderr)
                self.bars["scan"].set_postfix_str(printable(text))
                self.bars["scan"].update(files - self.bars["scan"].n)
            else:
                count = self.counts.setdefault("scan", _Count(0, shown=time.monotonic()))
                if time.monotonic() - count.shown > LINE_EVERY_S:
                    count.shown = time.monotonic()
                    self._line(f"{text}: {files:,} files")

    def say(self, sentence: str) -> None:
        """One line that does not tear the bars."""
        with self.lock:
            if self.bars or self.whole is not None:
                from tqdm import tqdm

                tqdm.write(printable(sentence), file=sys.stderr)
            else:
                self._line(sentence)

    def close(self) -> None:
        """Take the bars away; what they counted stands in lines."""
        with self.lock:
            for bar in self.bars.values():
                bar.close()
            self.bars.clear()
            self._close_whole()

    def _bar(self, node: str, count: _Count) -> Any:
        """The bar of a node that is worked at; None where it is new, or there are enough of them."""
        self._drop_scan()
        if node not in self.bars and len(self.bars) < MOST_BARS:
            from tqdm import tqdm

            fit = node in self.fits
            self.bars[node] = tqdm(
                total=None if fit else count.total, initial=0 if fit else count.present + count.done, desc=node,
                unit=" steps" if fit else " rows", leave=False, dynamic_ncols=True, mininterval=0.2, file=sys.stderr,
            )  # fmt: skip
            return None  # it stands where the rows are that were just counted
        return self.bars.get(node)

    def _finish(self, node: str, count: _Count) -> None:
        """Replace the bar of a node by its line."""
        self._drop_scan()
        bar = self.bars.pop(node, None)
        if bar is not None:
            bar.close()
        took = duration(time.monotonic() - (count.began or 0.0))
        what = "made" if node in self.fits else counted(count.done, "row")
        self.say(", ".join(filter(None, (f"{node}: {what} in {took}", _failures(count)))))

    def _work(self) -> float:
        """Seconds of work of all nodes together."""
        return sum((count.total - count.present) * count.cost for count in self.counts.values())

    def _advance_whole(self) -> None:
        if self.whole is not None:
            done = sum((count.done + count.share) * count.cost for count in self.counts.values())
            self.whole.update(min(done, self.whole.total) - self.whole.n)

    def _close_whole(self) -> None:
        if self.whole is not None:
            self.whole.close()
            self.whole = None

    def _drop_scan(self) -> None:
        bar = self.bars.pop("scan", None)
        if bar is not None:
            bar.close()

    def _line(self, sentence: str) -> None:
        print(printable(sentence), file=sys.stderr, flush=True)


def _failures(count: _Count) -> str:
    return f"{count.failed:,} failed" if count.failed else ""
