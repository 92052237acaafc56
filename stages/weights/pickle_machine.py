"""Read a pickle as data: a small stack machine that imports nothing, runs nothing and counts what it makes.

Python's own unpickler can be told which classes to load, but not to leave attributes of those classes alone, to refuse
opcodes or to stop before memory runs out. This one keeps symbols as names: what a call (REDUCE, NEWOBJ) of a symbol
means is said by a table of functions of ours, and a symbol that is not in the table ends the reading.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.sentences import shown
from stages.weights.weights_file import WeightsError

PROTOCOLS = range(2, 6)
OPCODE_LIMIT = 10_000_000
SMALLEST_BUDGET = 64 << 20  # bytes
SMALL = 48  # bytes charged for each opcode: the number or reference that it leaves behind
CONTAINER = 240  # bytes charged in addition for a list, dict or set, and for a dict entry or a memo entry half of it
PLAIN_LIMIT = 100_000  # values of settings and other plain data; real files have hundreds
SCALARS = (str, int, float, type(None))


@dataclass(frozen=True)
class Symbol:
    """A name that the pickle wants imported; it never is."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Stub:
    """Base of our own stand-ins for objects whose state comes later (BUILD)."""

    def set_state(self, state: Any) -> None:
        raise WeightsError(f"a {type(self).__name__} takes no state")


class Budget:
    """What one file may cost in all, nested files included: bytes made, opcodes run, values of plain data copied."""

    def __init__(self, file_bytes: int) -> None:
        self.limit = self.bytes_left = max(4 * file_bytes, SMALLEST_BUDGET)
        self.opcodes_left = OPCODE_LIMIT
        self.plain_left = PLAIN_LIMIT

    def spend(self, count: int) -> None:
        """Called before memory is taken."""
        if count > self.bytes_left:
            raise WeightsError(f"it would need more than {self.limit} bytes of memory, too much for a file of its size")
        self.bytes_left -= count

    def give_back(self, count: int) -> None:
        """Bytes that were spent in advance and not taken."""
        self.bytes_left += count


Call = Callable[..., Any]


class PickleMachine:
    """One pickle in a buffer.

    calls       (module, name) -> function of the unpickled arguments, for symbols that are called
    persistent  function of a persistent id, or None: there are none in this kind of file
    names       further symbols that may be named as arguments but not called
    """

    def __init__(
        self,
        data: memoryview,
        budget: Budget,
        calls: Mapping[tuple[str, str], Call],
        persistent: Callable[[Any], Any] | None = None,
        names: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.data, self.budget, self.calls, self.persistent, self.names = data, budget, calls, persistent, names
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self, position: int = 0) -> Any:
        """The object of the pickle that begins at `position`; afterwards `self.position` is behind it."""
        self.position, self.stack, self.marks, self.memo = position, [], [], {}
        budget = self.budget
        while True:
            opcode = self.take(1)[0]
            if opcode == 0x2E:  # STOP
                if self.marks or len(self.stack) != 1:
                    raise WeightsError("its pickle ends in the middle of an object")
                return self.stack.pop()
            budget.opcodes_left -= 1
            if budget.opcodes_left < 0:
                raise WeightsError(f"it has more than {OPCODE_LIMIT} pickle opcodes")
            budget.spend(SMALL)
            action = ACTIONS.get(opcode)
            if action is None:
                raise WeightsError(f"its pickle uses opcode 0x{opcode:02x} at byte {self.position - 1}, not read here")
            action(self)

    # Reading

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self.data) - self.position:
            left = len(self.data) - self.position
            raise WeightsError(
                f"its pickle wants {count} bytes at byte {self.position} and {left} are left; it is damaged or cut off,"
                " download it again"
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self) -> str:
        window = bytes(self.data[self.position : self.position + 1024])
        length = window.find(b"\n")
        if length < 0:
            raise WeightsError(f"its pickle has a line of more than 1024 bytes at byte {self.position}")
        self.position += length + 1
        try:
            return window[:length].decode("ascii")
        except UnicodeDecodeError as error:
            raise WeightsError(f"its pickle has a line that is not ASCII before byte {self.position}") from error

    def text(self, count: int) -> None:
        content = self.take(count)
        self.budget.spend(4 * count)
        try:
            text = str(content, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise WeightsError(f"its pickle has text that is not UTF-8 before byte {self.position}") from error
        self.budget.give_back(4 * count - min(4 * count, sys.getsizeof(text)))
        self.stack.append(text)

    def old_text(self, count: int) -> None:
        """A string of Python 2, which may be text or bytes."""
        content = self.take(count)
        self.budget.spend(count)
        self.stack.append(str(content, "latin-1"))

    def bytes_(self, count: int) -> None:
        self.stack.append(self.take(count))  # a view: nested tensors are not copied

    def long(self, count: int) -> None:
        if count > 64:
            raise WeightsError(f"its pickle has an integer of {count} bytes; weights have none of more than 64")
        self.stack.append(int.from_bytes(self.take(count), "little", signed=True))

    def decimal(self) -> None:
        text = self.line().rstrip("L")
        if text in ("00", "01"):
            self.stack.append(text == "01")
            return
        digits = text.removeprefix("-")
        if not digits.isdigit() or len(digits) > 40:
            raise WeightsError(f"its pickle has {text[:40]!r} where an integer belongs")
        self.stack.append(int(text))

    def index(self) -> int:
        text = self.line()
        if not text.isdigit() or len(text) > 10:
            raise WeightsError(f"its pickle has {text[:40]!r} where the number of an object belongs")
        return int(text)

    # Stack

    def pop(self) -> Any:
        if not self.stack:
            raise WeightsError("its pickle takes more objects than it made")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise WeightsError(f"its pickle fills a {kind.__name__} that is not there before byte {self.position}")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise WeightsError("its pickle goes back to a mark that it did not set")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def drop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def drop_to_mark(self) -> None:
        self.pop_mark()

    def duplicate(self) -> None:
        item = self.pop()
        self.stack += [item, item]

    def mark(self) -> None:
        self.budget.spend(CONTAINER)
        self.marks.append(self.stack)
        self.stack = []

    def container(self, made: Any) -> None:
        self.budget.spend(CONTAINER)
        self.stack.append(made)

    def tuple_(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.container(tuple(reversed(items)))

    def append(self) -> None:
        item = self.pop()
        self.top(list).append(item)

    def append_all(self) -> None:
        items = self.pop_mark()
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        self.budget.spend(CONTAINER // 2 * len(items))
        if len(items) % 2:
            raise WeightsError("its pickle fills a dictionary with a key that has no value")
        put_items(self.top(dict), list(zip(items[::2], items[1::2], strict=True)))

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def add_items(self) -> None:
        items = self.pop_mark()
        self.budget.spend(CONTAINER // 2 * len(items))
        self.top(set).update(scalars(items))

    # Memo, symbols and calls

    def put(self, index: int) -> None:
        self.budget.spend(CONTAINER // 2)
        if not self.stack:
            raise WeightsError("its pickle remembers an object before there is one")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise WeightsError(f"its pickle recalls object {index}, which it did not store")
        self.stack.append(self.memo[index])

    def symbol(self, module: Any, name: Any) -> None:
        """Exact pairs only: a dotted name is a name like any other and is looked up nowhere."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise WeightsError("its pickle names a symbol with something that is not text")
        if (module, name) not in self.calls and (module, name) not in self.names:
            raise WeightsError(
                f"it asks for {shown(f'{module}.{name}')}, which weights of this kind do not need; nothing was run; if "
                "you trust the file, load it with the program that wrote it and save its state dicts alone"
            )
        self.stack.append(Symbol(module, name))

    def global_(self) -> None:
        module = self.line()
        self.symbol(module, self.line())

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.symbol(module, name)

    def call(self) -> None:
        arguments, symbol = self.pop(), self.pop()
        if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
            raise WeightsError("its pickle calls something that is not a known symbol")
        function = self.calls.get((symbol.module, symbol.name))
        if function is None:
            raise WeightsError(f"it calls {str(symbol)!r}, which is only a name here; nothing was run")
        self.budget.spend(CONTAINER)
        try:
            self.stack.append(function(*arguments))
        except TypeError as error:  # number of arguments
            raise WeightsError(f"it calls {str(symbol)!r} with arguments that do not fit: {error}") from error

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if isinstance(target, Stub):
            target.set_state(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):  # attributes of a dictionary: not kept
            raise WeightsError(f"its pickle gives a state to a {type(target).__name__}")

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise WeightsError(
                "it refers to data outside the pickle (a persistent id), which this kind of file does not do"
            )
        self.stack.append(self.persistent(self.pop()))

    def protocol(self) -> None:
        version = self.take(1)[0]
        if version not in PROTOCOLS:
            raise WeightsError(
                f"its pickle has protocol {version}; {PROTOCOLS.start} to {PROTOCOLS.stop - 1} are read, save it again "
                "with one of these"
            )

    def frame(self) -> None:
        count = self.number("<Q")
        left = len(self.data) - self.position
        if count > left:
            raise WeightsError(
                f"its pickle has a frame of {count} bytes and ends after {left} of them; it is damaged or cut off, "
                "download it again"
            )


def scalars(items: Any) -> list[Any]:
    """`items`, if all can be keys: text, None or numbers of 64 bits.

    Hashing nested tuples of a hostile file could take forever, and so could large integers with equal hashes.
    """
    items = list(items)
    for item in items:
        if not isinstance(item, SCALARS):
            raise WeightsError(f"a dictionary or set has a key of type {type(item).__name__}; expected text or numbers")
        if isinstance(item, int) and item.bit_length() > 64:
            raise WeightsError("a dictionary or set has an integer of more than 64 bits as a key")
    return items


def put_items(target: dict[Any, Any], pairs: list[tuple[Any, Any]]) -> None:
    """Fill a dictionary; a key that is there already is an error (two tensors of one name)."""
    scalars(key for key, _ in pairs)
    for key, value in pairs:
        if key in target:
            raise WeightsError(f"the name {shown(str(key))} occurs twice in one dictionary")
        target[key] = value


M = PickleMachine
ACTIONS: dict[int, Callable[[PickleMachine], None]] = {
    ord(code): action
    for code, action in {
        "\x80": M.protocol,
        "\x95": M.frame,
        "(": M.mark,
        "0": M.drop,
        "1": M.drop_to_mark,
        "2": M.duplicate,
        "N": lambda m: m.stack.append(None),
        "\x88": lambda m: m.stack.append(True),
        "\x89": lambda m: m.stack.append(False),
        "I": M.decimal,
        "L": M.decimal,
        "J": lambda m: m.stack.append(m.number("<i")),
        "K": lambda m: m.stack.append(m.number("<B")),
        "M": lambda m: m.stack.append(m.number("<H")),
        "\x8a": lambda m: m.long(m.number("<B")),
        "\x8b": lambda m: m.long(m.number("<i")),
        "G": lambda m: m.stack.append(m.number(">d")),
        "X": lambda m: m.text(m.number("<I")),
        "\x8c": lambda m: m.text(m.number("<B")),
        "\x8d": lambda m: m.text(m.number("<Q")),
        "T": lambda m: m.old_text(m.number("<i")),
        "U": lambda m: m.old_text(m.number("<B")),
        "B": lambda m: m.bytes_(m.number("<I")),
        "C": lambda m: m.bytes_(m.number("<B")),
        "\x8e": lambda m: m.bytes_(m.number("<Q")),
        "\x96": lambda m: m.bytes_(m.number("<Q")),
        "]": lambda m: m.container([]),
        "}": lambda m: m.container({}),
        "\x8f": lambda m: m.container(set()),
        ")": lambda m: m.stack.append(()),
        "l": lambda m: m.container(m.pop_mark()),
        "t": lambda m: m.container(tuple(m.pop_mark())),
        "\x85": lambda m: m.tuple_(1),
        "\x86": lambda m: m.tuple_(2),
        "\x87": lambda m: m.tuple_(3),
        "a": M.append,
        "e": M.append_all,
        "s": M.set_item,
        "u": lambda m: m.set_items(m.pop_mark()),
        "\x90": M.add_items,
        "p": lambda m: m.put(m.index()),
        "q": lambda m: m.put(m.number("<B")),
        "r": lambda m: m.put(m.number("<I")),
        "\x94": lambda m: m.put(len(m.memo)),
        "g": lambda m: m.get(m.index()),
        "h": lambda m: m.get(m.number("<B")),
        "j": lambda m: m.get(m.number("<I")),
        "c": M.global_,
        "\x93": M.stack_global,
        "R": M.call,
        "\x81": M.call,
        "b": M.build,
        "Q": M.persistent_id,
    }.items()
}
