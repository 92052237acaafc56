"""`import touchstone`: light at import, and its functions give what the command gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import command
from reader_rows import plant
from toy_project import ROOT, Project

import touchstone
from pipeline.errors import ConfigError, TouchstoneError
from pipeline.loader import Loader

HEAVY = {"numpy", "torch", "zarr", "dask", "distributed", "scipy", "sklearn", "matplotlib", "PIL", "pydantic", "typer"}


def test_importing_it_imports_nothing_heavy() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import touchstone; "
        f"print(sorted({HEAVY!r} & set(sys.modules)), touchstone.open.__name__, 'Loader' in touchstone.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] open True\n"


def test_a_pipeline_file_gives_rows_and_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch)
    opened = touchstone.open(project.file, ["nodes.a.count=12"])
    assert list(opened) == ["a", "b", "scaled[2.0]", "scaled[3.0]", "noisy", "sum", "mean", "centered"]
    with pytest.raises(TouchstoneError, match=r"^sum lacks 32 rows; `touchstone run sum` computes what is missing$"):
        opened["sum"]
    report = opened.run("sum", "mean", workers=1)
    assert report.computed["sum"] == 32
    rows = opened["scaled"]
    assert len(rows) == 64
    assert len(opened["scaled[2.0]"]) == 32
    assert len(opened.rows("scaled[2.0]", where="label = fake", take=5)) == 5
    values = opened.rows("a").array("value")
    assert sorted(opened.rows("scaled[3.0]", where="source = a").array("value")) == pytest.approx(sorted(3 * values))
    folder, learned = opened.artifact("mean"), opened.rows("sum", where="split = train")
    assert json.loads((folder / "mean.json").read_text())["mean"] == pytest.approx(learned.array("value").mean())
    with pytest.raises(ConfigError, match=r"^'mean' gives an artifact, not rows;"):
        opened["mean"]
    with pytest.raises(ConfigError, match=r"^there is no node 'men' in pipeline.yaml; did you mean 'mean'\?$"):
        opened["men"]
    with pytest.raises(ConfigError, match="gives rows"):
        opened.artifact("sum")
    assert touchstone.Loader is Loader
    batch = next(iter(touchstone.Loader(rows, ["value"], 64, seed=0)))
    np.testing.assert_array_equal(batch["value"].numpy(), rows.array("value", batch["row"].numpy()))
    with pytest.raises(AttributeError, match=r"^module 'touchstone' has no attribute 'Lader'$"):
        _ = touchstone.Lader


def test_an_audit_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("real", "fake"):
        plant(tmp_path / name, *(f"{name} {number}.png" for number in range(6)))
    (tmp_path / "fake" / "broken.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    said = command(monkeypatch, capsys)("audit", "real", "fake", "--json", "--workers", "1")
    found = touchstone.audit("real", tmp_path / "fake")
    assert found == said.facts()
    assert "broken.png" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"^absent: does not exist"):
        touchstone.audit("absent", "fake")
