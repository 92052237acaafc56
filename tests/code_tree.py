"""A copy of Touchstone's code that tests change, and what processes of their own say of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CODE = ("pipeline", "stages", "detectors")
FAMILIES = ("progan", "stylegan", "stylegan2", "stargan2")

TRAININGS = """
  trained:
    stage: train_generator
    matrix: {family: [%s]}
    on: {of: reals, where: "%s"}
    recipe: {family: "{family}", conditional: true}
"""
PLANNING = "import json, sys; from code_tree import recipes_of; print(json.dumps(recipes_of(*sys.argv[1:])))"


def recipes_of(file: str, store: str) -> dict[str, list[str]]:
    """Node -> digests of its recipes, as this process plans a pipeline with the code that it finds."""
    from pipeline.declaring.config import load_pipeline
    from pipeline.inputs.scan import Scan
    from pipeline.planning.plan import make_plan
    from pipeline.storage.store import Store

    pipeline = load_pipeline(Path(file))
    plan = make_plan(pipeline, Store(Path(store)), Scan(pipeline.base, None))
    made = {name: [one.recipe for one in found] for name, found in plan.branches.items()}
    made |= {name: [one.recipe] for name, one in plan.artifacts.items()}
    return {name: [one.digest.hex() for one in found] for name, found in made.items()}


def write_project(folder: Path, *families: str, more: str = "") -> tuple[str, str]:
    """The demonstration's pipeline with trainings of generators; its file, and the place of its store."""
    folder.mkdir(exist_ok=True)
    (folder / "manifests").symlink_to(REPOSITORY / "manifests")  # of small networks
    text = (REPOSITORY / "pipeline.yaml").read_text().replace(" manifests/", f" {REPOSITORY}/manifests/")
    of_stargan2 = re.findall(r"domain in \[[^]]*\]", text)[0]  # what the demonstration translates
    (folder / "pipeline.yaml").write_text(text + TRAININGS % (", ".join(families or FAMILIES), of_stargan2) + more)
    return str(folder / "pipeline.yaml"), str(folder / "store")


class Tree:
    """A copy of the code, and the demonstration's pipeline."""

    def __init__(self, folder: Path) -> None:
        self.code, self.project = folder / "code", folder / "project"
        for name in CODE:
            shutil.copytree(REPOSITORY / name, self.code / name)  # with what was compiled of it
        self.project.mkdir()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.code / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def twin(self, file: str, twin: str, old: str, new: str) -> None:
        """Another module, made of one that stands here."""
        (self.code / twin).write_text((self.code / file).read_text().replace(old, new))

    def recipes(self, *families: str, more: str = "") -> dict[str, list[str]]:
        """Node -> digests of its recipes, planned by a process of its own with the code of this copy."""
        from pipeline.planning.closure import use_facts_of

        made = write_project(self.project, *families, more=more)
        use_facts_of(Path(made[1]), learn=True)  # a source that is the same here and there is parsed once
        shutil.copy(__file__, self.code)
        found: dict[str, list[str]] = json.loads(self.says(PLANNING, *made))
        return found

    def says(self, program: str, *arguments: str) -> str:
        """What a process of its own prints that runs a program with the code of this copy."""
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PYTHONPATH": str(self.code), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            cwd=self.project,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
