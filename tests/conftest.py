"""Options and golden files: `--golden PATH` points the golden tests at another set of reference vectors."""

from __future__ import annotations

import gc
import os
import re
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process of tests has one core; more threads would wait for others

import numpy as np
import pytest
from golden_files import MISSING, Golden, GoldenDocument, document

import pipeline  # noqa: F401  (keeps the source of what is imported from here on, toy stages included)

MEMORY, ENOUGH = Path("/dev/shm"), 6 * 2**30
"""A file system in memory, and its free bytes that allow all files of the tests: a gibibyte in each of three runs."""


GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=GOLDEN,
        help="folder of golden vectors, with subfolders spectrum/, generators/, ...",
    )


def pytest_configure(config: pytest.Config) -> None:
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH:  # a disk makes tests wait
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    gc.disable()  # until all tests are collected
    config.addinivalue_line(
        "markers",
        "golden(folder, pattern, keys, detector, whole): run once per file of the set that has such a key, or names "
        "such a detector; with whole=True only with a set that is given: the small one has no such file, or it takes "
        "long",
    )
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """GPU tests are collected only where there is a GPU, tests of whole golden sets only where one is given: they are
    deselected, not skipped, elsewhere.
    """
    if config.getoption("--golden") == GOLDEN:
        markers = ((item, item.get_closest_marker("golden")) for item in items)
        large = [item for item, marker in markers if marker and marker.kwargs.get("whole")]
        config.hook.pytest_deselected(items=large)
        items[:] = [item for item in items if item not in large]
    lost = [item for item in items if (marker := item.get_closest_marker("golden")) and lacks(config, marker.args[0])]
    config.hook.pytest_deselected(items=lost)
    items[:] = [item for item in items if item not in lost]
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        import torch

        if not torch.cuda.is_available():
            config.hook.pytest_deselected(items=gpu)
            items[:] = [item for item in items if item not in gpu]


def pytest_collection_finish() -> None:
    """What is there before the first test stays until the end: no search for garbage looks through it."""
    gc.freeze()
    gc.enable()


def lacks(config: pytest.Config, folder: str) -> bool:
    """Whether the golden set has no such folder at all, which is told at the end."""
    if (config.getoption("--golden") / folder).is_dir():
        return False
    MISSING.append(f"{folder}/ (whole folder)")
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    folder, pattern = marker.args
    found = sorted((metafunc.config.getoption("--golden") / folder).glob(pattern))
    if "keys" in marker.kwargs:
        found = [path for path in found if has_key(path, marker.kwargs["keys"])]
    if "detector" in marker.kwargs:
        pattern = marker.kwargs["detector"]
        found = [path for path in found if re.fullmatch(pattern, str(document(path).get("detector")))]
    metafunc.parametrize("golden_path", found or [None], ids=[path.stem for path in found] or ["none-found"])


def has_key(path: Path, pattern: str) -> bool:
    if path.suffix == ".json":
        return any(re.fullmatch(pattern, key) for key in document(path))
    with np.load(path, allow_pickle=False) as file:
        return any(re.fullmatch(pattern, key) for key in file.files)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that is there."""
    return str(request.param)


@pytest.fixture
def golden(golden_path: Path | None, request: pytest.FixtureRequest) -> Golden | GoldenDocument:
    if golden_path is None:
        marker = request.node.get_closest_marker("golden")
        wanted = f"{marker.args[0]}/{marker.args[1]}" + "".join(
            f" with {what} {pattern}" for what, pattern in marker.kwargs.items()
        )
        pytest.fail(f"no file matches {wanted} in {request.config.getoption('--golden')}")
    return (GoldenDocument if golden_path.suffix == ".json" else Golden)(golden_path)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Of a set that somebody gave; the small one of the project lacks keys on purpose."""
    if MISSING and config.getoption("--golden") != GOLDEN:
        terminalreporter.write_line(f"golden keys not in this set ({len(set(MISSING))}):")
        for line in sorted(set(MISSING)):
            terminalreporter.write_line(f"  {line}")
