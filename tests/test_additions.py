"""What an addition touches: one new file and one entry in a registry; and it is of use at once.

That none of them changes the recipe of another node is in `test_hygiene`, which makes all of them in one copy.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from additions import ADDITIONS
from code_tree import CODE, REPOSITORY, Tree


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_is_one_file_and_one_entry(name: str, tmp_path: Path) -> None:
    addition, tree = ADDITIONS[name], Tree(tmp_path)
    addition.make(tree)
    before, after = (
        {str(path.relative_to(root)): path.read_text() for room in CODE for path in sorted((root / room).rglob("*.py"))}
        for root in (REPOSITORY, tree.code)
    )
    assert after.keys() - before.keys() == {addition.file}
    assert {file for file in before if before[file] != after[file]} == {addition.registry}
    lines = [text.splitlines() for text in (before[addition.registry], after[addition.registry])]
    changes = [line for line in difflib.ndiff(*lines) if line[0] in "+-"]
    assert [line[2:] for line in changes if line[0] == "+"] == (addition.entry + addition.behind).splitlines()
    assert all(line[0] == "+" for line in changes)
    assert tree.says(addition.program).strip() == addition.says
