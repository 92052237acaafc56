"""A project whose stages have code of their own, to edit between runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from toy_project import Project

from pipeline.module_paths import _found_top

STAGE = '''
"""A stage of the user's own."""

from pipeline.stage import Field, Input, Kind, Stage, StageConfig, setting
{kernel}
from toy import log


class Config(StageConfig):
    power: float = setting(1.0, description="exponent")


class Bend(Stage):
    name, kind, Config = "{name}", Kind.MAP, Config
    inputs = {{"of": Input("rows")}}

    def schema(self, config, inputs):
        return {{"value": Field("<f8", (), "1")}}

    def compute(self, config, batch, ctx):
        log(self.name, batch)
        return {{"value": kernel.bend(batch.inputs[0]["value"], config.power)}}
'''


KERNEL = "def bend(x, power):\n    return x + power\n"


BESIDE = "from touchstone_case_other import bend as plain\n\n\ndef bend(x, power):\n    return 2 * plain(x, power)\n"


class Code(Project):
    """Two stages, each in a package of its own with a module that it imports; a third in a module beside the pipeline
    file, whose helper beside it takes a function from another package; a fourth with a file of numbers."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch, """
            nodes:
              a: {stage: "toy:Numbers", count: 9}
              one: {stage: "touchstone_case_one.stage:Bend", of: a}
              two: {stage: "touchstone_case_two.stage:Bend", of: one}
              three: {stage: "touchstone_case_two.stage:Bend", of: a}
              four: {stage: "touchstone_case_top:Bend", of: a}
              moved: {stage: "toy:Offset", of: a, table: table.txt}
            """)  # fmt: skip
        self.patch = patch
        patch.syspath_prepend(str(folder))
        files = {
            "top.py": STAGE.format(kernel="import touchstone_case_beside as kernel", name="four"),
            "beside.py": BESIDE,
            "other/__init__.py": "from .sums import bend\n\nSCALE = 1\n",
            "other/sums.py": KERNEL,
        }
        for name in ("one", "two"):
            stage = STAGE.format(kernel=f"from touchstone_case_{name} import kernel", name=name)
            files |= {f"{name}/__init__.py": "", f"{name}/kernel.py": KERNEL, f"{name}/stage.py": stage}
        for file, text in files.items():
            self.path(file).parent.mkdir(exist_ok=True)
            self.path(file).write_text(text)
        self.path("table.txt").write_text("5")
        self.forget()

    def path(self, file: str) -> Path:
        return self.folder / (file if file == "table.txt" else f"touchstone_case_{file}")

    def forget(self) -> None:
        """Imported modules are dropped, as if a new process began."""
        for name in [name for name in sys.modules if name.startswith("touchstone_case_")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        _found_top.cache_clear()

    def edit(self, file: str, old: str, new: str, restarted: bool = True) -> None:
        """restarted: as if a new process began."""
        text = self.path(file).read_text()
        assert text.count(old) == 1
        self.path(file).write_text(text.replace(old, new))
        if restarted:
            self.forget()
