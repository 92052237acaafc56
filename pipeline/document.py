"""YAML as plain data that remembers its lines, so that every error can name the place.

The scalar rules are those of YAML 1.2: `on`, `yes` and `no` are text (`on` is the name of an input here), and `1e-3` is
a number. Anchors and merges work; duplicate keys and Python tags do not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

Place = tuple[str | int, ...]
MERGE = "tag:yaml.org,2002:merge"
PLAIN_TAGS = ("map", "seq", "str", "int", "float", "bool", "null")

try:
    from yaml import CSafeLoader as BaseLoader
except ImportError:  # libyaml is not everywhere
    from yaml import SafeLoader as BaseLoader  # type: ignore[assignment]


class _Loader(BaseLoader):  # type: ignore[misc, valid-type]
    """Safe loader with the booleans and numbers of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":int", ":float", ":timestamp"))]
    for first, resolvers in BaseLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)


@dataclass
class Document:
    """Plain data of a YAML file, and the line of each place in it."""

    path: Path
    data: Any
    lines: dict[Place, int | str] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """`pipeline.yaml:41` for the nearest known place at or above `place`."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                line = self.lines[place[:end]]
                return line if isinstance(line, str) else f"{self.path.name}:{line}"
        return self.path.name

    def error(self, place: Place, sentence: str) -> ConfigError:
        dotted = ".".join(str(part) for part in place)
        return ConfigError(f"{self.where(place)} {dotted} {sentence}" if dotted else f"{self.where(place)} {sentence}")

    def override(self, assignment: str) -> None:
        """Apply one `--set a.b=c`; the value is read as YAML."""
        name, separator, text = assignment.partition("=")
        keys = name.split(".")
        if not separator or not all(keys):
            raise ConfigError(f"--set {assignment} is not an assignment; write --set nodes.images.size=64")
        try:
            value = _plain(yaml.compose(text, Loader=_Loader), (), {}, self)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment} has a value that is not YAML; quote it") from None
        target = self.data
        for depth, key in enumerate(keys[:-1]):
            if not isinstance(target, dict) or key not in target:
                known = list(target) if isinstance(target, dict) else []
                place = ".".join(keys[: depth + 1])
                if depth == 0 and isinstance(self.data, dict) and key in (self.data.get("nodes") or {}):
                    raise ConfigError(f"--set {name}: there is no {place}; did you mean nodes.{name}?")
                raise ConfigError(f"--set {name}: there is no {place}{nearest(key, known)}")
            target = target[key]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {name}: {'.'.join(keys[:-1])} is not a mapping but {describe(target)}")
        target[keys[-1]] = value
        self.lines[tuple(keys)] = f"--set {name}:"


def load(path: Path) -> Document:
    """Read a YAML file. Raises ConfigError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give the path of a pipeline file, or run in its folder") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; give the pipeline file itself, e.g. {path / 'pipeline.yaml'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}") from None
    document = Document(path, None)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        tab = "; indent with spaces, not with tabs" if mark and _indented_by_tab(text, mark.line) else ""
        raise ConfigError(f"{path.name}{line} is not valid YAML: {problem}{tab}") from None
    try:
        document.data = _plain(root, (), document.lines, document)
    except RecursionError:
        raise ConfigError(f"{path.name} has an anchor that contains itself, or is nested too deeply") from None
    return document


def _indented_by_tab(text: str, line: int) -> bool:
    """Whether a tab stands before the first word of a line."""
    lines = text.split("\n")
    return line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]


def _plain(node: yaml.Node | None, place: Place, lines: dict[Place, int | str], document: Document) -> Any:
    """Data of a composed node; notes the line of each key and item."""
    if node is None:
        return None
    lines.setdefault(place, node.start_mark.line + 1)
    if node.tag.rpartition(":")[2] not in PLAIN_TAGS:
        raise ConfigError(f"{document.path.name}:{node.start_mark.line + 1} the tag {node.tag} is not allowed")
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{document.path.name}:{key_node.start_mark.line + 1} a key must be a word")
            if key_node.tag == MERGE:
                merged = _merged(value_node, place, lines, document) | merged
                continue
            if key in result:
                raise ConfigError(f"{document.path.name}:{key_node.start_mark.line + 1} the key '{key}' stands twice")
            lines[(*place, key)] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, (*place, key), lines, document)
        return result | {key: value for key, value in merged.items() if key not in result}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, number), lines, document) for number, item in enumerate(node.value)]
    return _scalar(node, document)


def _merged(node: yaml.Node, place: Place, lines: dict[Place, int | str], document: Document) -> dict[str, Any]:
    """The mapping (or the mappings, of which earlier ones win) behind `<<`."""
    found: dict[str, Any] = {}
    for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(part, yaml.MappingNode):
            raise ConfigError(f"{document.path.name}:{node.start_mark.line + 1} '<<' merges mappings only")
        found = _plain(part, place, lines, document) | found
    return found


def _scalar(node: yaml.Node, document: Document) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    try:
        if kind == "int":
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if kind == "float":
            return float(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise ConfigError(f"{document.path.name}:{node.start_mark.line + 1} '{text}' is no {kind}") from None
    return text if kind == "str" else None


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the allowed words, or nothing."""
    names = sorted({str(name) for name in known})
    return closest(word, names) or (f"; allowed: {', '.join(names)}" if names else "")


def closest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a word is much like another, or nothing."""
    names = sorted(known)
    alike = [name for name in names if name.lower() == word.lower()]
    close = alike or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(count: int, word: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def describe(value: Any) -> str:
    """A value as found, short enough for a sentence."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
