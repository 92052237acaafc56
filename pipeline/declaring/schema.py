"""What a pipeline file may say: JSON Schema for editors, and the reference of stages as Markdown."""

from __future__ import annotations

import json
from typing import Any

from pipeline.declaring.config import ENGINE_KEYS, Settings
from pipeline.declaring.stage_names import load_stage, registered


def json_schema() -> dict[str, Any]:
    """JSON Schema of a pipeline file: one alternative per stage."""
    definitions: dict[str, Any] = {}
    alternatives = []
    for name in registered():
        stage = load_stage(name)
        schema = stage.Config.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        definitions |= {f"{name}.{model}": _inside(one) for model, one in schema.pop("$defs", {}).items()}
        properties = {
            "stage": {"const": name, "description": ENGINE_KEYS["stage"]},
            **{key: {"description": one.description or one.kind} for key, one in stage.inputs.items()},
            **{key: _open(value) for key, value in schema.get("properties", {}).items()},
            **{key: {"description": text} for key, text in ENGINE_KEYS.items() if key != "stage"},
        }
        required = ["stage", *(key for key, one in stage.inputs.items() if one.required), *schema.get("required", [])]
        alternatives.append(
            {"title": name, "type": "object", "properties": properties, "required": required,
             "additionalProperties": False}
        )  # fmt: skip
    described: dict[str, dict[str, Any]] = {key: {"description": text} for key, text in ENGINE_KEYS.items()}
    described["stage"] |= {"type": "string", "pattern": r"^[\w.]+:\w+$"}
    own = {"title": "a stage of one's own", "type": "object", "properties": described, "required": ["stage"]}
    top = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Touchstone pipeline",
        "type": "object",
        "properties": {
            **top["properties"],
            "nodes": {
                "type": "object",
                "additionalProperties": {"oneOf": [*alternatives, own]},
                "description": "name -> one use of a stage: its inputs, its settings, and the keys of every node",
            },
        },
        "required": ["nodes"],
        "additionalProperties": False,
        "$defs": definitions | top.get("$defs", {}),
    }


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    """A setting, and whatever stands in it, may also be a `{axis}` of the matrix."""
    if schema.get("type") == "string" and "enum" not in schema:
        return schema
    placeholder = {"type": "string", "pattern": r"\{[\w.]+\}"}
    return {"anyOf": [_inside(schema), placeholder], "description": schema.get("description", "")}


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose parts may be axes; it itself may not."""
    found = dict(schema)
    if "properties" in found:
        found["properties"] = {key: _open(value) for key, value in found["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _open(found[key])
    for key, wrap in (("prefixItems", _open), ("anyOf", _inside), ("oneOf", _inside)):
        if key in found:
            found[key] = [wrap(one) for one in found[key]]
    return found


def stages_markdown() -> str:
    """Reference of all stages: inputs, and settings with type, default and description."""
    about = "Made by `touchstone config stages`. Settings marked * choose rows, or name files that count by content."
    lines = ["# Stages", "", about, ""]
    listed: dict[tuple[str, str], str] = {}
    for name in registered():
        stage = load_stage(name)
        lines += [f"## {name}", "", (type(stage).__doc__ or "").strip().splitlines()[0], ""]
        lines += [f"Kind: {stage.kind}.", ""]
        if stage.inputs:
            lines += ["| input | takes | required |", "|---|---|---|"]
            lines += [
                f"| `{key}` | {one.description or one.kind} | {'yes' if one.required else 'no'} |"
                for key, one in stage.inputs.items()
            ]
            lines.append("")
        lines += _settings_table(stage.Config, name, listed)
        lines.append("")
    return "\n".join(lines).rstrip()


def _settings_table(model: Any, stage: str, listed: dict[tuple[str, str], str]) -> list[str]:
    """Settings of a model as a table, then those of the models inside.

    listed: name and schema of a model -> the stage under which it stands; two stages may have unlike ones of one name
    """
    schema = model.model_json_schema()
    lines: list[str] = []
    before: dict[str, list[str]] = {}
    for title, one in [("", schema), *schema.get("$defs", {}).items()]:
        properties = one.get("properties", {})
        if not properties:
            continue
        known = listed.setdefault((title, json.dumps(one, sort_keys=True)), stage)
        if title and known != stage:
            before.setdefault(known, []).append(f"`{title}`")
            continue
        lines += [f"`{title}`:", ""] if title else []
        lines += ["| setting | type | default | what |", "|---|---|---|---|"]
        for key, facts in properties.items():
            mark = "*" if not title and facts.get("recipe", True) is not True else ""
            default = f"`{json.dumps(facts['default'])}`" if "default" in facts else "required"
            cells = [f"`{key}`{mark}", _type(facts), default, facts.get("description", "")]
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    lines += [line for other, titles in before.items() for line in (f"{', '.join(titles)}: see {other}.", "")]
    return lines[:-1] if lines else []


def _type(facts: dict[str, Any]) -> str:
    """A JSON Schema type in words."""
    if "$ref" in facts:
        return f"`{facts['$ref'].rpartition('/')[2]}`"
    if "const" in facts:
        return f"`{facts['const']}`"
    if "enum" in facts:
        return " or ".join(f"`{value}`" for value in facts["enum"])
    for key in ("anyOf", "oneOf"):
        if key in facts:
            return " or ".join(_type(one) for one in facts[key])
    kind = facts.get("type", "any")
    if kind == "array":
        return f"list of {_type(facts.get('items', {}))}"
    return {"integer": "whole number", "string": "text", "object": "mapping", "boolean": "true or false",
            "null": "nothing"}.get(kind, kind)  # fmt: skip
