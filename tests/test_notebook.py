"""The notebook in docs does what it shows: its cells run in a process of their own, and print what it has kept."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.jobs
ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MOST_BYTES = 50_000
"""Of a picture."""


def shown(path: Path) -> Iterator[tuple[Any, ...]]:
    """Source, texts and sizes of pictures of each cell of code."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            texts = [one.get("text") or one["data"]["text/plain"] for one in cell["outputs"]]
            pictures = [one["data"]["image/png"] for one in cell["outputs"] if "image/png" in one.get("data", {})]
            yield cell["source"], texts, [len(base64.b64decode(one)) for one in pictures]


def test_the_notebook_prints_what_it_has_kept(tmp_path: Path) -> None:
    copy = shutil.copy(NOTEBOOK, tmp_path / "notebook.ipynb")
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tests" / "notebook.py"), str(copy)]
    done = subprocess.run(
        command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    kept, found = list(shown(NOTEBOOK)), list(shown(copy))
    assert [one[:2] for one in found] == [one[:2] for one in kept], "run: make notebook"
    sizes = [size for *_, pictures in kept for size in pictures]
    assert len(sizes) == 1
    assert max(sizes) < MOST_BYTES
    assert len([one for one in kept if one[1]]) == len(kept)
