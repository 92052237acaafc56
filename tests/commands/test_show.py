"""Pictures of stored rows: maps of many channels, which would be wider than a picture may be; names of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_project import Project, touchstone

from pipeline.commands.pages import open_in_browser
from pipeline.commands.show import MOST_MAPS, draw, show_sheet
from pipeline.errors import TouchstoneError
from pipeline.stage import MAPS, Field
from stages.reporting import figures


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


@pytest.mark.parametrize("named", ["digits", "place"])
def test_a_row_is_found_by_its_id_and_by_where_it_was_born(numbers: tuple[Project, str], named: str) -> None:
    project, row = numbers
    place = touchstone(project, "show", "b").stdout.splitlines()[0].split("  ")[1]
    said = touchstone(project, "show", "b", row if named == "digits" else place, "--field", "vector")
    assert said.stdout == f"row.png: vector of {row} ({place})\n"


def test_no_such_row_is_one_sentence(numbers: tuple[Project, str]) -> None:
    project, _ = numbers
    said = touchstone(project, "show", "b", "nowhere.png")
    assert said.returncode == 2
    assert said.stderr == (
        "touchstone: b has no row whose id begins with 'nowhere.png', and none of a file or seed of that name; "
        "`touchstone show b` lists rows\n"
    )


def test_a_sheet_takes_as_many_rows_of_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = 'nodes:\n  a: {stage: "toy:Numbers", count: 4}\n  c: {stage: "toy:Numbers", first: 500, count: 1}\n'
    project = Project(tmp_path / "two", monkeypatch, sources + '  b: {stage: "toy:Scale", of: [a, c]}\n')
    project.run()
    drawn: list[str] = []

    def short(place: str) -> str:
        drawn.append(place)
        return ""

    monkeypatch.setattr("pipeline.commands.show._short", short)
    said = show_sheet(project.plan(), "b", 3, "vector", tmp_path / "sheet.png")
    assert said == f"{tmp_path}/sheet.png: 3 rows of b"
    assert [place.split()[0] for place in drawn] == ["a", "a", "c"]


def test_a_sheet_has_a_panel_for_each_of_so_many_rows(numbers: tuple[Project, str]) -> None:
    project, _ = numbers
    said = touchstone(project, "show", "b", "--count", "3", "--field", "vector", "--out", "sheet.png")
    assert said.stdout == "sheet.png: 3 rows of b\n"
    with Image.open(project.folder / "sheet.png") as picture:
        assert picture.width == int(3 * 1.7 * 130)
    listed = touchstone(project, "show", "b", "--count", "2").stdout.splitlines()
    assert (len(listed), listed[2]) == (3, "... 2 more")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("b", "3f", "--count", "2"),
            "--count 2 is for a sheet or a list, and '3f' names one row; leave one of them out",
        ),
        (
            ("b", "--field", "x"),
            "--field chooses what is drawn, and nothing is: name a row, or --out for a sheet of rows",
        ),
        (("b", "--out", "sheet.jpg"), "--out is 'sheet.jpg'; expected a name that ends in .png"),
        (("b", "--field", "x", "--out", "sheet.png"), "b has no field 'x' that can be drawn; it has "),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    numbers: tuple[Project, str], words: tuple[str, ...], sentence: str
) -> None:
    said = touchstone(numbers[0], "show", *words)
    assert said.returncode == 2
    assert said.stderr.startswith(f"touchstone: {sentence}")


@pytest.mark.parametrize("there", [True, False])
def test_a_page_opens_in_a_browser_or_the_sentence_says_where_it_lies(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def browser(place: str) -> bool:
        opened.append(place)
        return there

    monkeypatch.setattr("webbrowser.open", browser)
    page = tmp_path / "a page.html"
    with nullcontext() if there else pytest.raises(TouchstoneError, match=f"^no browser .* here; open {page} in one$"):
        open_in_browser(page)
    assert opened == [f"file://{tmp_path}/a%20page.html"]


def test_names_with_dollars_are_no_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(
        tmp_path,
        monkeypatch,
        "nodes:\n  photos: {stage: ingest, folder: set}\n  images: {stage: equalize, of: photos, size: 8}\n",
    )
    (tmp_path / "set").mkdir()
    for number, name in enumerate(("price_$5_and_$^6.png", "a$x_{1$.png")):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / "set" / name)
    project.run()
    said = touchstone(project, "show", "images", "--count", "2", "--out", "rows.png")
    assert (said.returncode, said.stderr) == (0, "")
    picture = figures.draw(2, 2, "svg", lambda figure: figure.suptitle("raw $x_{1$"))
    assert picture.uri.startswith("data:image/svg")
