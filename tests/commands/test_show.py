"""Pictures of stored rows: maps of many channels, which would be wider than a picture may be; names of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_project import Project, touchstone

from pipeline.commands.show import MOST_MAPS, draw
from pipeline.stage import MAPS, Field


@pytest.mark.parametrize("channels", [3, 512])
def test_a_map_of_many_channels_is_drawn_by_its_first(channels: int, tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((channels, 8, 8)).astype(np.float16)
    draw(maps, Field("float16", maps.shape, "1", MAPS), "residual_stage5", tmp_path / "row.png")
    with Image.open(tmp_path / "row.png") as picture:
        assert picture.width == 440 * min(channels, MOST_MAPS)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str]]:
    """A finished project and the first digits of a row of its node `b`."""
    with pytest.MonkeyPatch.context() as patch:
        nodes = 'nodes:\n  a: {stage: "toy:Numbers", count: 4}\n  b: {stage: "toy:Scale", of: a}\n'
        project = Project(tmp_path_factory.mktemp("show"), patch, nodes)
        project.run()
        (project.folder / "pictures").mkdir()
        yield project, touchstone(project, "show", "b").stdout.split()[0]


@pytest.mark.parametrize("out", ["pic", "pic.txt", "pic.svg", "pictures"])
def test_a_picture_is_named_png_or_refused_in_one_sentence(numbers: tuple[Project, str], out: str) -> None:
    project, row = numbers
    before = sorted(project.folder.rglob("*"))
    said = touchstone(project, "show", "b", row, "--field", "vector", "--out", out)
    assert said.stderr == f"touchstone: --out is '{out}'; expected a name that ends in .png\n"
    assert (said.returncode, said.stdout, sorted(project.folder.rglob("*"))) == (2, "", before)


def test_the_picture_lies_where_the_sentence_says(numbers: tuple[Project, str]) -> None:
    project, row = numbers
    said = touchstone(project, "show", "b", row, "--field", "vector", "--out", "Row.PNG")
    assert (said.returncode, said.stdout.partition(":")[0]) == (0, "Row.PNG")
    with Image.open(project.folder / "Row.PNG") as picture:
        assert picture.format == "PNG"
