"""Who imports whom: one direction, no circle; read from the syntax, also under TYPE_CHECKING and inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from sources import statements

from pipeline.planning.wording import nodes

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "stages", "detectors")

ROOMS = {
    "storage": {"storage"},
    "inputs": {"inputs"},
    "declaring": {"declaring"},
    "planning": {"planning", "storage", "inputs", "declaring"},
    "running": {"running", "planning", "storage", "inputs", "declaring", "face"},
    "commands": {"commands", "running", "planning", "storage", "inputs", "declaring", "face"},
}
"""Room of the engine -> rooms that it may import beside the ground floor.

The ground floor is every file beside the rooms but those of the public face, and the entries, which may import all.
"""

FACES = {"dataset": {"storage"}, "loader": {"storage"}, "open": ROOMS["running"], "chain": ROOMS["running"]}
"""File of the public face -> rooms that it may import beside the face and the ground floor."""

ENTRIES = ("pipeline.cli", "pipeline.__main__")
REGISTRY, READERS = "stages", ("pipeline.cli", "pipeline.declaring.stage_names")
"""What the engine may import of the other packages, and where."""

OF_STAGES = {"ground", "face", "inputs"}
"""What stages may import of the engine: a source stage looks at files. Their verbs take options from the engine's."""


def files(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> its file, of the three packages."""
    found = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


def texts(tree: ast.Module) -> dict[str, str]:
    """Name -> text of the constants of a module."""
    found: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found[name.id] = value.value
    return found


def imported(name: str, text: str, known: Mapping[str, object]) -> Iterator[str]:
    """Modules of the three packages that a module of this text imports: by statements, and by literal names."""
    tree = ast.parse(text)
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from (one for one in (whole if whole in known else node.module or "",) if one in known)
    constants = texts(tree)
    for node in nodes(tree) if "import_module" in text else ():
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            argument = node.args[0]
            found = argument.value if isinstance(argument, ast.Constant) else constants.get(getattr(argument, "id", ""))
            yield from (one for one in (found,) if isinstance(one, str) and one in known)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> modules that it imports."""
    known = files(root)
    return {name: set(imported(name, path.read_text("utf-8"), known)) - {name} for name, path in known.items()}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return graph()


def place(module: str) -> str:
    """Room of a module of the engine; "face", "ground" or "entry" for those beside the rooms."""
    parts = module.split(".")
    if module in ENTRIES:
        return "entry"
    if len(parts) > 1 and parts[1] in ROOMS:
        return parts[1]
    return "face" if len(parts) > 1 and parts[1] in FACES else "ground"


def misplaced(module: str, other: str) -> bool:
    """Whether the direction of imports forbids that a module imports another one."""
    package, used = module.partition(".")[0], other.partition(".")[0]
    if package != "pipeline" and used != "pipeline":
        return (package, used) == ("detectors", "stages")
    if package == "pipeline" != used:
        return other != REGISTRY or module not in READERS
    here, there = place(module), place(other)
    if package == "detectors":
        return there != "ground"
    if package == "stages":
        return there not in OF_STAGES | ({"commands"} if module.startswith("stages.commands.") else set())
    if here == "entry" or there == "ground":
        return False
    return there not in (FACES[module.split(".")[1]] | {"face"} if here == "face" else ROOMS.get(here, set()))


def test_imports_go_one_way(imports: dict[str, set[str]]) -> None:
    wrong = [f"{name} -> {other}" for name, others in imports.items() for other in others if misplaced(name, other)]
    assert sorted(wrong) == []


def test_there_is_no_circle(imports: dict[str, set[str]]) -> None:
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("file", "line", "module"),
    [
        ("pipeline/stage.py", "if TYPE_CHECKING:\n    from pipeline.loader import Loader\n", "pipeline.loader"),
        ("pipeline/planning/pins.py", "def f():\n    import pipeline.running.run\n", "pipeline.running.run"),
        ("pipeline/dataset.py", 'import_module("stages.sample")\n', "stages.sample"),
        ("detectors/svm.py", 'HERE = "stages.train"\nimportlib.import_module(HERE)\n', "stages.train"),
    ],
)
def test_an_import_is_found_wherever_it_stands(file: str, line: str, module: str) -> None:
    name = file.removesuffix(".py").replace("/", ".")
    assert module in set(imported(name, line, files()))
    assert misplaced(name, module)
