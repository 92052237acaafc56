"""A user at a terminal: what is typed and written counts as steps."""

from __future__ import annotations

import shlex
from pathlib import Path

from command_line import Command, Said


class UserAtWork:
    """Works in `folder`, which is the working directory."""

    def __init__(self, folder: Path, call: Command) -> None:
        self.folder, self.call, self.steps = folder, call, 0

    def types(self, line: str, code: int = 0) -> Said:
        """A command as it stands in the documents; it ends with this exit code."""
        program, *words = shlex.split(line, comments=True)
        assert program == "touchstone"
        self.steps += 1
        said = self.call(*words)
        assert said.code == code, f"{line}\n{said.out}\n{said.err}"
        return said

    def writes(self, name: str, text: str) -> Path:
        """A file, new or changed."""
        self.steps += 1
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place
