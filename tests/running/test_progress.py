"""Progress on a terminal, as somebody sees it: bars of what is worked at, lines of what is finished, nothing torn."""

from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from pipeline.running.progress import MOST_BARS, Bars


class Screen(io.StringIO):
    """What a terminal shows of what is written to it: it knows carriage returns, new lines and the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[str]] = [[]]
        self.row, self.column = 0, 0
        self.most = 0
        """Bars that were seen at once."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for part in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]+", text):
            if part == "\x1b[A":
                self.row -= 1
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self.row, self.column = self.row + 1, 0
            else:
                while len(self.lines) <= self.row:
                    self.lines.append([])
                line = self.lines[self.row]
                line.extend(" " * (self.column + len(part) - len(line)))
                line[self.column : self.column + len(part)] = part
                self.column += len(part)
        self.most = max(self.most, sum("%|" in line for line in self.shown()))
        return len(text)

    def shown(self) -> list[str]:
        return [text for line in self.lines if (text := "".join(line).rstrip())]


def watched(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A screen in place of stderr, from here on."""
    found = Screen()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_finished_nodes_are_lines_and_nothing_else_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, bars = watched(monkeypatch), Bars()
    bars.open({"images": (100, 40), "spectra": (100, 0), "model": (1, 0)}, {"model"}, {"images": 0.5})
    bars.advance("images", 30, seconds=2.0)
    assert any(line.startswith("images:  70%") for line in screen.shown())
    bars.advance("spectra", 100, 3, seconds=5.0)
    bars.advance("images", 30, seconds=2.0)
    for step in range(1, 5):
        bars.step("model", step, 4)
    assert any(line.startswith("model: ") for line in screen.shown())
    bars.advance("model", 1)
    bars.close()
    assert screen.shown() == [
        "spectra: 100 rows in 5 s, 3 failed",
        "images: 60 rows in 2 s",
        "model: made in 0 s",
    ]


def test_no_more_bars_than_active_nodes_and_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, bars = watched(monkeypatch), Bars()
    nodes = [f"node-{number}" for number in range(30)]
    bars.open(dict.fromkeys(nodes, (10, 0)), set())
    for node in nodes[:3]:
        bars.advance(node, 1)
    bars.whole.refresh()
    assert screen.most == 3 + 1
    for node in nodes[3:]:
        bars.advance(node, 1)
    assert screen.most <= MOST_BARS + 1
    bars.close()
    assert screen.shown() == []


def test_the_whole_counts_work_and_not_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch)
    bars = Bars()
    bars.open({"quick": (1000, 0), "slow": (10, 0)}, set(), {"quick": 0.001, "slow": 0.9})
    bars.advance("quick", 1000)
    assert bars.whole.n / bars.whole.total == pytest.approx(0.1)
    bars.advance("slow", 5)
    assert bars.whole.n / bars.whole.total == pytest.approx(0.55)
    bars.close()


def test_sentences_and_bars_of_many_threads_do_not_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, bars = watched(monkeypatch), Bars()
    nodes = [f"node-{number}" for number in range(6)]
    bars.open(dict.fromkeys(nodes, (40, 0)), set())

    def work(node: str) -> None:
        for number in range(40):
            if number == 20:
                bars.say(f"{node} is half done")
            bars.advance(node, 1)

    threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bars.close()
    expected = [line for node in nodes for line in (f"{node} is half done", f"{node}: 40 rows in 0 s")]
    assert sorted(screen.shown()) == sorted(expected)


def test_a_signal_that_comes_while_a_bar_is_moved_can_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, bars = watched(monkeypatch), Bars()
    bars.open({"a": (2, 0), "b": (2, 0)}, set())
    monkeypatch.setattr(bars, "_advance_whole", lambda: bars.say("stopping"))  # as a handler in the same thread does
    bars.advance("a", 1)
    bars.close()
    assert screen.shown() == ["stopping"]


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    bars.open({"a": (20, 5), "m": (1, 0)}, {"m"})
    bars.advance("a", 5)
    bars.advance("a", 10, 1)
    bars.advance("m", 1)
    bars.close()
    assert capsys.readouterr().err.splitlines() == ["a: 15 of 20 rows, 1 failed", "m: done"]
