"""YAML text as nodes with lines, within a budget: no text, however made, takes more than seconds or crashes.

The scalar rules are those of YAML 1.2: `on`, `yes` and `no` are text (`on` is the name of an input here), and `1e-3` is
a number. Nodes are put together here from the parser's events and not by the library, whose C code goes as deep as
the text does, and which counts nothing. An alias costs as much as what it stands for.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

try:
    from yaml import CSafeDumper as BaseDumper
    from yaml import CSafeLoader as BaseLoader
except ImportError:  # libyaml is not everywhere
    from yaml import SafeDumper as BaseDumper  # type: ignore[assignment]
    from yaml import SafeLoader as BaseLoader  # type: ignore[assignment]

TEXT = "tag:yaml.org,2002:str"
DEPTH = 64
"""Levels of lists and mappings inside one another."""

COPIES = 100_000
"""Values that aliases stand for, in all."""


@dataclass(frozen=True)
class Budget:
    """What a file may hold: bytes, and values (keys count as well). `way_out` ends the sentence."""

    mebibytes: int
    values: int
    way_out: str = "split it, or move what repeats into a matrix"


SETTINGS = Budget(4, 200_000)
ROWS = Budget(128, 5_000_000, "give the rows in a CSV table")


class Loader(BaseLoader):  # type: ignore[misc, valid-type]
    """Safe loader with the booleans and numbers of YAML 1.2."""


class Dumper(BaseDumper):  # type: ignore[misc, valid-type]
    """Safe dumper that quotes what YAML 1.1 or YAML 1.2 would take for something else than text."""


RESOLVERS = (
    ("tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF")),
    (
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        list("-+0123456789."),
    ),
)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":int", ":float", ":timestamp"))]
    for first, resolvers in BaseLoader.yaml_implicit_resolvers.items()
}
for _rule in RESOLVERS:
    Loader.add_implicit_resolver(*_rule)
    Dumper.add_implicit_resolver(*_rule)


def dump(data: Any) -> str:
    """Plain data as YAML that reads back as the same data; keys stay in order."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def read_text(path: Path, budget: Budget) -> str:
    """Text of a YAML file. Raises ConfigError where there is none, it is not UTF-8 or larger than the budget."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is a device, pipe or socket; expected a file")
        with path.open("rb") as file:
            content = file.read((budget.mebibytes << 20) + 1)
        if len(content) > budget.mebibytes << 20:
            raise ConfigError(f"{path} is larger than {budget.mebibytes} MiB, the most that is read; {budget.way_out}")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give the path of a pipeline file, or run in its folder") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; give the pipeline file itself, e.g. {path / 'pipeline.yaml'}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from None


def compose(text: str, shown: str, budget: Budget) -> yaml.Node | None:
    """The root node of a YAML text; None if it is empty. `shown`: its name in messages.

    Raises ConfigError, with the line, for what is no YAML or more than the budget.
    """
    try:
        return _Composer(text, shown, budget).root()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        began = getattr(error, "context_mark", None)
        opened = {"while parsing a flow mapping": "{", "while parsing a flow sequence": "["}
        sign = opened.get(str(getattr(error, "context", "")))
        if mark and began and sign:
            place = f"'{sign}' in column {began.column + 1} is not closed where line {mark.line + 1} goes on"
            raise ConfigError(f"{shown}:{began.line + 1} is not valid YAML: {place} ({problem})") from None
        tab = "; indent with spaces, not with tabs" if mark and _indented_by_tab(text, mark.line) else ""
        raise ConfigError(f"{shown}{line} is not valid YAML: {problem}{tab}") from None


def _indented_by_tab(text: str, line: int) -> bool:
    """Whether a tab stands before the first word of a line."""
    lines = text.split("\n")
    return line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]


def _plain_tag(text: str) -> str:
    """What a scalar without quotes and without a tag is."""
    for tag, pattern in Loader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return str(tag)
    return TEXT


@dataclass
class _Open:
    """A list or mapping whose end has not come yet. weight: values in it so far, those of aliases included."""

    node: yaml.CollectionNode
    anchor: str | None
    children: list[yaml.Node] = field(default_factory=list)
    weight: int = 1


class _Composer:
    def __init__(self, text: str, shown: str, budget: Budget) -> None:
        self.loader: Any = Loader(text)
        self.shown = shown
        self.budget = budget
        self.values = 0
        self.copies = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[yaml.Node, int] | None] = {}  # None: it has not ended yet
        self.found: list[yaml.Node] = []

    def root(self) -> yaml.Node | None:
        """Reads all events; each one does a fixed amount of work."""
        documents = 0
        while not isinstance(event := self.loader.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "is not valid YAML: a second document begins here; a file holds one")
        return self.found[0] if self.found else None

    def _refuse(self, event: Any, sentence: str) -> None:
        raise ConfigError(f"{self.shown}:{event.start_mark.line + 1} {sentence}")

    def _count(self, event: yaml.Event) -> None:
        self.values += 1
        if self.values > self.budget.values:
            self._refuse(event, f"is past {self.budget.values:,} values, the most that is read; {self.budget.way_out}")

    def _announce(self, event: yaml.NodeEvent) -> None:
        if event.anchor in self.anchors:
            self._refuse(event, f"is not valid YAML: the anchor &{event.anchor} stands twice")

    def _scalar(self, event: Any) -> None:
        self._count(event)
        tag = event.tag
        if tag is None or tag == "!":
            tag = _plain_tag(event.value) if event.implicit[0] else TEXT
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style)
        if event.anchor is not None:
            self._announce(event)
            self.anchors[event.anchor] = node, 1
        self._add(node, 1)

    def _start(self, event: Any) -> None:
        self._count(event)
        if len(self.open) == DEPTH:
            self._refuse(event, f"is nested deeper than {DEPTH} levels; is a bracket not closed?")
        kind = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
        tag = event.tag
        if tag is None or tag == "!":
            tag = f"tag:yaml.org,2002:{'map' if kind is yaml.MappingNode else 'seq'}"
        if event.anchor is not None:
            self._announce(event)
            self.anchors[event.anchor] = None
        node = kind(tag, [], event.start_mark, event.end_mark, flow_style=event.flow_style)
        self.open.append(_Open(node, event.anchor))

    def _end(self, event: Any) -> None:
        done = self.open.pop()
        done.node.end_mark = event.end_mark
        if isinstance(done.node, yaml.MappingNode):
            done.node.value = list(zip(done.children[::2], done.children[1::2], strict=True))
        else:
            done.node.value = done.children
        if done.anchor is not None:
            self.anchors[done.anchor] = done.node, done.weight
        self._add(done.node, done.weight)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self._refuse(event, f"is not valid YAML: *{event.anchor} names no anchor; write &{event.anchor} before it")
        known = self.anchors[event.anchor]
        if known is None:
            self._refuse(event, f"has an anchor that contains itself: *{event.anchor}")
            return
        self.copies += known[1]
        if self.copies > COPIES:
            self._refuse(
                event,
                f"repeats {self.copies:,} values by aliases up to *{event.anchor}, the most is {COPIES:,}; "
                "is this file meant to be one?",
            )
        self._add(*known)

    def _add(self, node: yaml.Node, weight: int) -> None:
        if not self.open:
            self.found.append(node)
            return
        above = self.open[-1]
        above.children.append(node)
        above.weight += weight
