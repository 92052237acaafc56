"""The JSON Schema of a pipeline file: each key is described, and each stage has its own models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.declaring.document import load
from pipeline.declaring.schema import json_schema, stages_markdown

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pipeline_file.md"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


def stages(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in schema["properties"]["nodes"]["additionalProperties"]["oneOf"]:
        yield one["title"], one["properties"]


def test_no_setting_is_without_a_description(schema: dict[str, Any]) -> None:
    places = {"": schema["properties"], **dict(stages(schema))}
    places |= {name: one.get("properties", {}) for name, one in schema["$defs"].items()}
    assert sum(map(len, places.values())) > 600
    lost = [f"{name}.{key}" for name, keys in places.items() for key, one in keys.items() if not one.get("description")]
    assert lost == [], "say what they are: setting(..., description=...)"


def test_a_model_of_one_stage_is_not_taken_for_that_of_another(schema: dict[str, Any]) -> None:
    """`perturb` and `train` both have a Jpeg, and no setting of them but the qualities is the same."""
    models = schema["$defs"]
    assert set(models["perturb.Jpeg"]["properties"]) == {"op", "probability", "low", "high", "unit", "subsampling",
                                                         "channel_order"}  # fmt: skip
    assert set(models["train.Jpeg"]["properties"]) == {"augmentation", "probability", "low", "high", "codecs"}
    targets = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert targets <= set(models)
    page = stages_markdown()
    assert page.count("\n`Jpeg`:\n") == 2


def test_the_page_names_every_key_of_the_file_and_of_a_node(schema: dict[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert example
    assert set(re.findall(r"^(\w+):", example[1], re.M)) == set(schema["properties"])
    common = set.intersection(*(set(keys) for _, keys in stages(schema)))
    assert common == set(
        re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text.partition("## Nodes")[2].partition("## ")[0], re.M)
    )


TYPES: dict[str, Any] = {
    "string": str, "object": dict, "array": list, "boolean": bool, "null": type(None), "number": (int, float),
    "integer": int,
}  # fmt: skip


def fits(value: Any, one: dict[str, Any], models: dict[str, Any]) -> bool:
    """Whether a value is valid: the part of JSON Schema that tells keys, types, patterns and alternatives apart."""
    if "$ref" in one:
        return fits(value, models[one["$ref"].removeprefix("#/$defs/")], models)
    if any(key in one and sum(fits(value, part, models) for part in one[key]) < 1 for key in ("anyOf", "oneOf")):
        return False
    if "oneOf" in one and sum(fits(value, part, models) for part in one["oneOf"]) > 1:
        return False
    if value != one.get("const", value) or value not in one.get("enum", [value]):
        return False
    if "type" in one and (
        not isinstance(value, TYPES[one["type"]]) or (isinstance(value, bool) and one["type"] != "boolean")
    ):
        return False
    if isinstance(value, str):
        return re.search(one.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return all(fits(part, one.get("items", {}), models) for part in value)
    if not isinstance(value, dict):
        return True
    known, more = one.get("properties", {}), one.get("additionalProperties", True)
    return set(one.get("required", ())) <= set(value) and all(
        more if key not in known and isinstance(more, bool) else fits(part, known.get(key, more), models)
        for key, part in value.items()
    )


CONFIGS = sorted(
    path
    for path in [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "experiments").glob("*.yaml"), ROOT / "pipeline.yaml"]
    if "\nnodes:" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path, schema: dict[str, Any]) -> None:
    """Axes of a matrix inside settings, and stages of one's own, are what they have that a model has not."""
    content = load(path).data
    for name, node in content["nodes"].items():
        alone = {**content, "nodes": {name: node}}
        assert fits(alone, schema, schema["$defs"]), name
    assert not fits(
        {**content, "nodes": {"images": {"stage": "equalize", "of": "x", "sise": 4}}}, schema, schema["$defs"]
    )
    assert not fits({**content, "nodes": {"images": {"stage": "equalise", "of": "x"}}}, schema, schema["$defs"])
