"""Python's parser in several threads."""

from __future__ import annotations

import ast
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.parsing import parse

SOURCE = "\n".join(f"x{number} = [{number}, 'a', (1.5, None)]" for number in range(2000))


@pytest.fixture
def often() -> Iterator[None]:
    """The garbage collector runs while a source is parsed."""
    before = gc.get_threshold()
    gc.set_threshold(100)
    yield
    gc.set_threshold(*before)


def test_two_threads_may_parse_at_once(often: None) -> None:
    """A callback of the garbage collector lets another thread parse, at another depth, while the first one does."""
    within, parsed = threading.Event(), threading.Event()
    first: list[int] = []

    def callback(phase: str, facts: object) -> None:
        if threading.get_ident() in first and not within.is_set():
            within.set()
            parsed.wait(0.2)  # where one thread parses at a time, the other one has to wait for this one

    def deeper(depth: int) -> ast.Module:
        return deeper(depth - 1) if depth else parse(SOURCE)

    def other() -> ast.Module:
        assert within.wait(20)
        found = deeper(30)
        parsed.set()
        return found

    def one() -> ast.Module:
        first.append(threading.get_ident())
        return parse(SOURCE)

    gc.callbacks.append(callback)
    try:
        with ThreadPoolExecutor(2) as pool:
            found = [future.result(20) for future in (pool.submit(one), pool.submit(other))]
    finally:
        gc.callbacks.remove(callback)
    assert [len(tree.body) for tree in found] == [2000, 2000]


def test_what_is_no_python_is_named() -> None:
    with pytest.raises(SyntaxError) as caught:
        parse(b"x = (", "here.py")
    assert (caught.value.filename, caught.value.lineno) == ("here.py", 1)
