"""Exports as the libraries of other programs read them: `make croissant` gives those an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported_project import exported_project
from toy_project import environment

from pipeline.open import open_node
from stages import FORMATS
from stages.exporting.croissant import Publication
from stages.exporting.export import export

pytestmark = pytest.mark.others

PUBLISHED = Publication("Somebody", "https://example.org", "2026-01-31")

READ = """
import json, sys
import mlcroissant

data = mlcroissant.Dataset(sys.argv[1])
found = [
    {name.removeprefix("rows/"): value.decode() if isinstance(value, bytes) else getattr(value, "size", value)
     for name, value in one.items() if name in ("rows/id", "rows/label", "rows/split", "rows/image", "rows/licence")}
    for one in data.records("rows")
] if data.metadata.record_sets else []
print(json.dumps({"errors": sorted(data.metadata.ctx.issues.errors), "records": found}))
"""

TABLE = """
import sys
sys.path.append(sys.argv[1])
from pipeline.open import open_node

table = open_node("pipeline.yaml", "images").to_pandas()
print(table[table.label == 1].groupby("split").reduction.count().to_json())
"""


def others(folder: Path, program: str, *arguments: str) -> Any:
    """What a program prints in the others' environment. folder: of caches, where names alone tell archives apart."""
    command = [os.environ["OTHERS"], "-c", program, *arguments]
    caches = {**os.environ, "CROISSANT_CACHE": str(folder / "cache")}
    return json.loads(subprocess.run(command, env=caches, capture_output=True, text=True, check=True).stdout)


def test_mlcroissant_reads_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = exported_project(tmp_path / "project", monkeypatch)
    rows = open_node(project.file, "images")
    records = {}
    for to in FORMATS:
        export(rows, "images", to, tmp_path / to, publication=PUBLISHED)
        found = others(tmp_path, READ, str(tmp_path / to / "croissant.json"))
        assert found["errors"] == []
        records[to] = found["records"]
    assert {to: len(found) for to, found in records.items()} == {
        "npz": 0, "parquet": 12, "imagefolder": 12, "webdataset": 12
    }  # fmt: skip
    assert all(one["image"] == [16, 16] for found in records.values() for one in found)
    assert sorted(one["label"] for one in records["parquet"]) == [0] * 6 + [1] * 6
    assert sorted(one["label"] for one in records["imagefolder"]) == ["fake"] * 6 + ["real"] * 6
    assert {one["id"] for one in records["webdataset"]} == {one.tobytes().hex() for one in rows.ids}


def test_pandas_makes_a_table_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = exported_project(tmp_path / "project", monkeypatch)
    site = others(
        tmp_path, "import json, pandas, pathlib; print(json.dumps(str(pathlib.Path(pandas.__file__).parents[1])))"
    )
    command = [sys.executable, "-c", TABLE, site]
    done = subprocess.run(
        command, cwd=project.folder, env=environment(project), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"test": 1, "train": 4, "val": 1}
