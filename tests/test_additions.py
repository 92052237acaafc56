"""What an addition touches: one new file and one entry in a registry; and it is of use at once.

That none of them changes the recipe of another node is in `test_hygiene`, which makes all of them in one copy.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from additions import ADDITIONS
from code_tree import CODE, Tree


def texts(tree: Tree) -> dict[str, str]:
    """Relative path -> text of each file of a copy."""
    return {
        str(path.relative_to(tree.code)): path.read_text() for room in CODE for path in (tree.code / room).rglob("*.py")
    }


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, dict[str, str]]:
    """A copy of the code and its texts; whoever changes it puts it back."""
    tree = Tree(tmp_path_factory.mktemp("copy"))
    return tree, texts(tree)


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_is_one_file_and_one_entry(name: str, untouched: tuple[Tree, dict[str, str]]) -> None:
    addition, (tree, before) = ADDITIONS[name], untouched
    addition.make(tree)
    after = texts(tree)
    try:
        assert after.keys() - before.keys() == {addition.file}
        assert {file for file in before if before[file] != after[file]} == {addition.registry}
        lines = [text.splitlines() for text in (before[addition.registry], after[addition.registry])]
        changes = [line for line in difflib.ndiff(*lines) if line[0] in "+-"]
        assert [line[2:] for line in changes if line[0] == "+"] == (addition.entry + addition.behind).splitlines()
        assert all(line[0] == "+" for line in changes)
        assert tree.says(addition.program).strip() == addition.says
    finally:
        put_back(tree.code, addition.file, addition.registry, before[addition.registry])


def put_back(code: Path, file: str, registry: str, text: str) -> None:
    """What an addition made is gone again; nothing was compiled of it."""
    (code / file).unlink()
    (code / registry).write_text(text)
