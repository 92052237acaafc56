"""Options and golden files: `--golden PATH` points the golden tests at another set of reference vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

MISSING: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="folder of golden vectors, with subfolders spectrum/, generators/, ...",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(folder, pattern): run once per file of the golden set")
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """GPU tests are collected only where there is a GPU: they are deselected, not skipped, elsewhere."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            config.hook.pytest_deselected(items=gpu)
            items[:] = [item for item in items if item not in gpu]


class Golden:
    """One .npz file of reference vectors; keys that it lacks are reported at the end of the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self.arrays: dict[str, np.ndarray[Any, Any]] = {key: file[key] for key in file.files}

    def __contains__(self, key: str) -> bool:
        if key in self.arrays:
            return True
        MISSING.append(f"{self.path.name}: {key}")
        return False

    def __getitem__(self, key: str) -> np.ndarray[Any, Any]:
        return self.arrays[key]

    def keys(self) -> list[str]:
        return list(self.arrays)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    folder, pattern = marker.args
    found = sorted((metafunc.config.getoption("--golden") / folder).glob(pattern))
    metafunc.parametrize("golden_path", found or [None], ids=[path.stem for path in found] or ["none-found"])


@pytest.fixture
def golden(golden_path: Path | None, request: pytest.FixtureRequest) -> Golden:
    if golden_path is None:
        marker = request.node.get_closest_marker("golden")
        pytest.fail(f"no file matches {marker.args[0]}/{marker.args[1]} in {request.config.getoption('--golden')}")
    return Golden(golden_path)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MISSING:
        terminalreporter.write_line(f"golden keys not in this set ({len(set(MISSING))}):")
        for line in sorted(set(MISSING)):
            terminalreporter.write_line(f"  {line}")
