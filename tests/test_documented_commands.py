"""Every command of README and docs is one that the program takes; what a stand-in exists for is typed in order."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import Command as Call
from command_line import built, command
from documented import FENCE, PAGES, ROOT, Command, mentioned, project, typed

from pipeline.cli import app

TYPED = [one for page in PAGES for one in typed(page)]
MENTIONED = sorted({one for page in PAGES for one in mentioned(page)}, key=lambda one: (one.page, one.text))


def parsed(group: Any, words: list[str], parent: click.Context | None = None) -> None:
    """The words are taken by the program's own parser. Raises click.UsageError otherwise."""
    if words[-1].startswith("--install"):  # would do it
        assert any(words[-1] in one.opts for one in group.params)
        return
    context = group.make_context(words[0], words[1:], parent=parent, resilient_parsing=False)
    if isinstance(group, click.Group) or hasattr(group, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, verb, rest = group.resolve_command(context, rest)
        if rest:  # a verb alone, in running text, stands for all that it does
            parsed(verb, [name, *rest], context)


def dask(words: list[str]) -> Any:
    from distributed.cli import dask_scheduler, dask_worker

    return {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[words[1]]


TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("one", [*TYPED, *MENTIONED], ids=lambda one: f"{one.page}: {one.text}")
def test_the_program_takes_the_words_of_every_command(one: Command) -> None:
    words = one.words
    if words[0] == "make":
        assert words[1] in TARGETS
    elif words[0] == "dask":
        dask(words).make_context(words[1], words[2:])
    else:
        assert words[0] == "touchstone"
        parsed(built(app), words)


def test_commands_stand_where_this_module_finds_them() -> None:
    """A block of another kind, or a line without its `$`, would be read by nobody."""
    for page in PAGES:
        for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
            assert fence[1] in ("", "console", "bash", "python", "yaml"), f"{page.name}: a block of {fence[1]}"
            if fence[1] not in ("console", "bash"):
                assert not re.search(r"^(\$ |(touchstone|make|dask) [a-z])", fence[2], re.M), page.name


def test_the_script_for_a_queue_is_one_that_bash_reads() -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8"), re.S)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setattr("webbrowser.open", lambda place: True)
    return command(monkeypatch, capsys)


RUN: Callable[[Command], bool] = lambda one: one.here and one.words[0] == "touchstone"  # noqa: E731


@pytest.mark.stress
def test_commands_work_as_they_are_typed_page_by_page(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path / "copy"))
    said = call("run")  # `make demo`, the first line of the README
    assert said.code == 0, said.err
    for one in TYPED:
        if RUN(one):
            said = call(*one.words[1:])
            allowed = (0, 1) if "exit code 1" in one.text else (0,)
            assert said.code in allowed, f"{one.page}: {one.text}\n{said.out}\n{said.err}"
