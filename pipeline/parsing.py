"""Python's own parser, for one thread at a time.

Before 3.13 its count of nested nodes belongs to the whole process: two threads that parse at once, where one is
interrupted by a callback of the garbage collector (Dask's workers have one), end with "SystemError: AST constructor
recursion depth mismatch".
"""

from __future__ import annotations

import ast
import threading

_ONE_THREAD = threading.Lock()


def parse(source: bytes | str, name: str = "<unknown>") -> ast.Module:
    """The syntax tree of a module. Raises SyntaxError, and ValueError for null bytes; name: for these."""
    with _ONE_THREAD:
        return ast.parse(source, name)
