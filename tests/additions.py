"""What is added to a copy of the tree: one of each kind, and the line that names it."""

from __future__ import annotations

from dataclasses import dataclass

from code_tree import Tree

SECTION = '''"""The report's section on how many evaluations there are."""

from pipeline.stage import Input
from stages.reporting.section import Section

SECTION = Section(
    title="Counts",
    order=15,
    template="<p>{{ count }} evaluations</p>",
    content=lambda given: {"count": len(given.evaluations)},
    inputs={"notes": Input("artifacts", required=False)},
)
'''


VERB = '''"""The verb `greet`."""

from pipeline.commands.options import say, verb


@verb("touchstone greet", "touchstone greet")
def greet() -> None:
    """Greet."""
    say("hello")
'''


NETWORK = '''"""One dense unit."""


def build(settings, channels, sides, outputs):
    """The network."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], outputs))
'''


ENTRY = '''class Dense(Network):
    """One dense unit."""

    module: ClassVar[str] = "detectors.networks.dense"
    called: ClassVar[str] = "dense unit"

    architecture: Literal["dense"] = Field(default="dense", description="one dense unit")


'''


READER = '''"""A text of names."""

from pipeline.stage import ID
from stages.images.readers.contract import Found, Reader


def _rows(config, scan):
    import numpy as np

    names = config.names.split()
    ids = np.array([name.encode().ljust(16) for name in names], ID)
    return Found("names", ids, [f"names:{name}" for name in names])


READER = Reader("names of pictures", _rows, lambda config, location: location.encode())
'''


FORMAT = '''"""Ids, one a line."""

from stages.exporting.contract import Format


def _write(given, folder):
    folder.joinpath("ids.txt").write_text("".join(one.tobytes().hex() + "\\n" for one in given.rows.ids))
    yield len(given.rows)


FORMAT = Format("a text of ids", _write, lambda given, folder: ([], []), "Line by line.")
'''


@dataclass(frozen=True)
class Addition:
    """A new file, as text or as the twin of another one with other words, and an entry before a line of a registry.

    behind   more of the entry, behind that line
    program  prints `says` if the addition is of use
    """

    file: str
    text: str
    registry: str
    before: str
    entry: str
    program: str
    says: str
    words: tuple[str, str] = ("", "")
    behind: str = ""

    def make(self, tree: Tree) -> None:
        """Into a copy of the code."""
        if self.words[0]:
            tree.twin(self.text, self.file, *self.words)
        else:
            (tree.code / self.file).write_text(self.text)
        tree.edit(self.registry, self.before, self.entry + self.before + self.behind)


DETECTOR = "from detectors.choosing import detector_config, family_module as f; "


ADDITIONS = {
    "stage": Addition(
        "stages/mirror.py", "stages/flip.py", "stages/__init__.py", '    "ingest":',
        '    "mirror": "stages.mirror:Mirror",\n',
        "from pipeline.declaring.stage_names import load_stage; print(type(load_stage('mirror')).__name__)", "Mirror",
        ("Flip", "Mirror"),
    ),
    "detector without a network": Addition(
        "detectors/limit.py", "detectors/threshold.py", "detectors/__init__.py", '    "svm":',
        '    "limit": "detectors.limit",\n',
        DETECTOR + "print(detector_config({'family': 'limit'}).family)", "limit", ('"threshold"', '"limit"'),
    ),
    "architecture": Addition(
        "detectors/networks/dense.py", NETWORK, "detectors/networks/__init__.py",
        "NETWORKS: Mapping[str, type[Network]] = {\n", ENTRY,
        DETECTOR + "print(detector_config({'family': 'deep', 'feature': 'x', 'network': {'architecture': 'dense'}})"
        ".network.title)", "dense unit", behind='    "dense": Dense,\n',
    ),
    "section of the report": Addition(
        "stages/reporting/counts.py", SECTION, "stages/__init__.py", '    "compared",', '    "counts",\n',
        "from stages.report import Report, sections; print(*list(sections())[:3], 'notes' in Report.inputs)",
        "results audit baselines True",
    ),
    "reader": Addition(
        "stages/images/readers/names.py", READER, "stages/__init__.py", '    "torchvision":',
        '    "names": "stages.images.readers.names",\n',
        "from stages.ingest import Ingest; one = Ingest(); config = one.Config(names='a b'); "
        "print(one.read(config, one.discover(config, None).payload['location'][1]).decode())", "names:b",
    ),
    "format of exports": Addition(
        "stages/exporting/ids.py", FORMAT, "stages/__init__.py", '    "parquet": "stages.exporting',
        '    "ids": "stages.exporting.ids",\n',
        "from stages.exporting.export import form_of; print(form_of('ids').about)", "a text of ids",
    ),
    "verb": Addition(
        "stages/commands/greet.py", VERB, "stages/__init__.py", '    "checkpoint":',
        '    "greet": "stages.commands.greet",\n',
        "import sys; sys.argv = ['touchstone', 'greet']; from pipeline.cli import main; main()", "hello",
    ),
}  # fmt: skip
