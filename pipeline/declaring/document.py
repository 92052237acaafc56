"""YAML as plain data that remembers its lines, so that every error can name the place.

Anchors and merges work; duplicate keys and Python tags do not. Scalars and budgets are those of `yaml_text`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.sentences import describe, nearest
from pipeline.yaml_text import SETTINGS, Budget, compose, read_text

Place = tuple[str | int, ...]
MERGE = "tag:yaml.org,2002:merge"
PLAIN_TAGS = ("map", "seq", "str", "int", "float", "bool", "null")
DIGITS = 40
"""Of a whole number, at most."""


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
        if self.lines.get(tuple(keys)) == f"--set {name}:":
            raise ConfigError(f"--set {name} is given twice; leave one of them out")
        try:
            value = _plain(compose(text, "the value", SETTINGS), (), {}, self)
        except ConfigError as error:
            raise ConfigError(f"--set {name} has a value that is not YAML; quote it ({error})") from None
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


def load(path: Path, budget: Budget = SETTINGS) -> Document:
    """Read a YAML file. Raises ConfigError with file and line."""
    document = Document(path, None)
    root = compose(read_text(path, budget), path.name, budget)
    document.data = _plain(root, (), document.lines, document)
    return document


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
                first = lines.get((*place, key), "?")
                raise ConfigError(
                    f"{document.path.name}:{key_node.start_mark.line + 1} the key '{key}' stands twice, first in line "
                    f"{first}; give one of them another name, or remove it"
                )
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
            if len(text) > DIGITS:
                raise ValueError("too long")
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if kind == "float":
            return float(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise ConfigError(f"{document.path.name}:{node.start_mark.line + 1} {describe(text)} is no {kind}") from None
    return text if kind == "str" else None
