"""Progress on stderr: one tqdm bar per node in rows, advanced on publishing; plain lines without a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.printable import printable
from pipeline.sentences import counted

LINE_EVERY_S = 5.0


@dataclass
class _Count:
    total: int
    done: int = 0
    failed: int = 0
    shown: float = 0.0


class Bars:
    """Thread-safe bars. `totals` are the rows that the plan wants of each node, `present` those that exist already."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.lock = threading.Lock()
        self.bars: dict[str, Any] = {}
        self.counts: dict[str, _Count] = {}
        self.fits: set[str] = set()

    def open(self, totals: Mapping[str, tuple[int, int]], fits: set[str]) -> None:
        """totals: node -> (wanted, present)."""
        self.fits = fits
        for node, (wanted, present) in totals.items():
            self.counts[node] = _Count(wanted, present, shown=time.monotonic())
            if self.terminal and not self.quiet:
                from tqdm import tqdm

                self.bars[node] = tqdm(
                    total=wanted, initial=present, desc=node, unit=" fits" if node in fits else " rows", leave=True,
                    dynamic_ncols=True, mininterval=0.2, file=sys.stderr,
                )  # fmt: skip

    def advance(self, node: str, rows: int, failed: int = 0) -> None:
        """failed: how many of the rows could not be computed, or lack an input that failed."""
        with self.lock:
            count = self.counts.setdefault(node, _Count(rows))
            count.done += rows
            count.failed += failed
            failures = f"{count.failed:,} failed" if count.failed else ""
            if node in self.bars:
                if node in self.fits or failures:
                    self.bars[node].set_postfix_str(failures)
                self.bars[node].update(rows)
            elif not self.quiet:
                now = time.monotonic()
                if count.done >= count.total or now - count.shown > LINE_EVERY_S:
                    count.shown = now
                    unit = "done" if node in self.fits else f"{count.done:,} of {counted(count.total, 'row')}"
                    self._line(f"{node}: {unit}{f', {failures}' if failures else ''}")

    def step(self, node: str, done: int, total: int) -> None:
        """Steps inside a fit."""
        with self.lock:
            if node in self.bars:
                self.bars[node].set_postfix_str(f"step {done:,} of {total:,}")
            elif not self.quiet and node in self.counts:
                now = time.monotonic()
                if now - self.counts[node].shown > LINE_EVERY_S:
                    self.counts[node].shown = now
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
        sentence = printable(sentence)
        if self.bars:
            from tqdm import tqdm

            tqdm.write(sentence, file=sys.stderr)
        else:
            self._line(sentence)

    def _line(self, sentence: str) -> None:
        print(printable(sentence), file=sys.stderr, flush=True)

    def close(self) -> None:
        with self.lock:
            for bar in self.bars.values():
                bar.close()
            self.bars.clear()
