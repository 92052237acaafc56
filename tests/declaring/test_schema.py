"""The JSON Schema of a pipeline file: each key is described, and each stage has its own models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.declaring.schema import json_schema, stages_markdown

PAGE = Path(__file__).parents[2] / "docs" / "pipeline_file.md"


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
