"""What an edit of Touchstone's own code makes stale: values do, words and registries do not."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from additions import ADDITIONS
from code_tree import CODE, FAMILIES, REPOSITORY, Tree, recipes_of, write_project
from sources import statements

from pipeline.declaring.config import load_pipeline
from pipeline.inputs.scan import Scan
from pipeline.planning import recipes, wording
from pipeline.planning.plan import make_plan
from pipeline.planning.planned import Plan
from pipeline.storage.store import Store

MOST_LINES, MOST_OF_A_FUNCTION = 500, 60
CAUGHT = re.compile(r"^ *except .* as ", re.MULTILINE)
DEFINITION = re.compile(r" *(async )?def ")
MODULES = sorted(path for name in ("stages", "detectors") for path in (REPOSITORY / name).rglob("*.py"))


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What this process plans with the code as it stands here."""
    return recipes_of(*write_project(tmp_path_factory.mktemp("untouched")))


def differing(one: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


# Edits that change no value


SENTENCE = re.compile(r"""(raise \w+\(\s*|description=\(?\s*)([rf]*["'])""")
"""Where the text of an exception that is raised, or of a setting's description, begins."""


@pytest.mark.jobs  # all sources are parsed anew: seconds
def test_no_word_is_part_of_any_recipe_and_registries_grow_without_making_anything_stale(
    tmp_path: Path, untouched: dict[str, list[str]]
) -> None:
    """Every sentence and description is another one, and in the same copy there are all of `ADDITIONS`, a kind of
    weights, a fifth family of generators and a preset.
    """
    tree, reworded = Tree(tmp_path), 0
    for addition in ADDITIONS.values():
        addition.make(tree)
    tree.edit("stages/__init__.py", "WEIGHTS = {\n", 'WEIGHTS = {\n    "mesonet": "stages.resynthesis.mesonet",\n')
    tree.twin("stages/resynthesis/perceptual.py", "stages/resynthesis/mesonet.py", "a perceptual network", "a detector")
    tree.edit("stages/generators/weights.py", "a generator; use it", "a maker of images; use it")
    tree.edit("stages/sentences.py", "expected one of", "it may be one of")
    tree.edit("detectors/choosing.py", "is no detector family", "is not one of the families of detectors")
    tree.edit("stages/__init__.py", '("progan", ', '("progan", "fifthgan", ')
    for part in ("", "_discriminator", "_official", "_recipe"):
        tree.twin(f"stages/generators/progan{part}.py", f"stages/generators/fifthgan{part}.py", "progan", "fifthgan")
    tree.edit("detectors/presets.py", "PRESETS |= {\n", 'PRESETS |= {\n    "plain-svm": {"family": "svm"},\n')
    for path in [*(tree.code / "stages").rglob("*.py"), *(tree.code / "detectors").rglob("*.py")]:
        text, count = SENTENCE.subn(r"\1\2Sorry: ", path.read_text())
        path.write_text(text)
        reworded += count
    assert reworded > 700
    on = """{of: "residuals[images]", where: "source in [photos, 'fakes[progan-raw]']"}"""
    more = f"  limits: {{stage: train, on: {on}, detector: {{family: limit, feature: residual_pixel_mean}}}}\n"
    found = tree.recipes(*FAMILIES, "fifthgan", more=more)
    assert differing(untouched, found) == {"report"}  # it has one section more
    assert found.keys() - untouched.keys() == {"trained[fifthgan]", "limits"}


# Edits that do


@pytest.mark.jobs
def test_an_edit_of_one_family_makes_its_own_nodes_stale_and_no_others(
    tmp_path: Path, untouched: dict[str, list[str]]
) -> None:
    tree = Tree(tmp_path)
    tree.edit("stages/generators/progan_recipe.py", "Wasserstein(self.gradient_penalty, ", "Wasserstein(0.0, ")
    tree.edit("detectors/svm.py", "(kernel * coefficient).sum(axis=1) + ", "(kernel * coefficient).sum(axis=1) - ")
    trains = ("progan-raw", "stylegan2-raw")
    detectors = {f"detectors[{train}-profile-svm]" for train in trains}
    tables = {f"{made}[{train}-profile-svm]" for made in ("tables", "biases") for train in trains}
    assert differing(untouched, tree.recipes()) == {
        "trained[progan]",
        *detectors,
        *tables,
        "fused",
        "fused_table",
        "fused_bias",
        "report",
    }


# What makes the rule safe


NEVER_IMPORTED = {"numpy", "torch", "scipy", "sklearn", "PIL", "zarr", "safetensors", "random", "math"}
NEVER_CALLED = {"open", "read_bytes", "read_text", "eval", "exec"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def apart() -> list[Path]:
    return [path for path in MODULES if wording.is_apart(module_name(path), path)]


def test_modules_outside_recipes_compute_nothing() -> None:
    """They read no file, import nothing that computes, and do no arithmetic; what they choose stands in configs."""
    names = {module_name(path) for path in apart()}
    assert names >= {"stages.sentences", "stages.weights.kinds", "stages.generators.families"}
    for path in apart():
        for node in ast.walk(tree_of(path)):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not {one.name.partition(".")[0] for one in node.names} & NEVER_IMPORTED, where
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in NEVER_IMPORTED, where
            elif isinstance(node, ast.BinOp):
                text = ast.unparse(node)
                assert isinstance(node.op, ast.BitOr) or "'" in text or "len(" in text, f"{where} {text}"
            elif isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                assert called not in NEVER_CALLED, where


def test_the_mark_is_read_from_the_syntax_and_only_in_touchstones_own_packages(tmp_path: Path) -> None:
    for number, (text, marked) in enumerate([
        ("X = 1\nIN_RECIPES = False\n", True), ("IN_RECIPES = True\n", False), ("'''\nIN_RECIPES = False\n'''", False),
        ("# IN_RECIPES = False\n", False), ("if 1:\n    IN_RECIPES = False\n", False), ("IN_RECIPES = 0\n", False),
    ]):  # fmt: skip
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        assert wording.is_apart("stages.x", path) is wording.is_apart("detectors.x", path) is marked
        assert not wording.is_apart("mine.x", path)


def test_the_text_of_an_exception_never_becomes_a_value() -> None:
    """A caught exception is raised again in other words, told to the user as the reason of a failed row, or dropped."""
    outside = apart()
    allowed = {"stages.generators.inspection", "stages.predict", "stages.predicting.files"}  # commands: they print
    for path in MODULES:
        if module_name(path) not in allowed and path not in outside and CAUGHT.search(path.read_text()):
            for handler in statements(tree_of(path)):
                if isinstance(handler, ast.ExceptHandler) and handler.name is not None:
                    _check_handler(handler, {handler.name}, path)


def _check_handler(handler: ast.ExceptHandler, words: set[str], path: Path) -> None:
    told = {id(name) for node in ast.walk(handler) if _tells(node) for name in ast.walk(node)}
    for node in ast.walk(handler):
        if isinstance(node, ast.Assign) and any(_is_name(one, words) for one in ast.walk(node.value)):
            words |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            told |= {id(one) for one in ast.walk(node)}
    for node in ast.walk(handler):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        assert not _is_name(node, words) or id(node) in told, f"{where} uses {words} for something else"


def _tells(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fail")


def _is_name(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


# Device and libraries by detector

TWO_DETECTORS = """
nodes:
  photos: {{stage: ingest, manifest: {manifests}/photos.yaml}}
  reals: {{stage: equalize, of: photos, size: 64}}
  fakes: {{stage: upsample, of: reals, method: nearest}}
  spectra: {{stage: spectrum, of: [reals, fakes], features: [profile, dct2d]}}
  svm: {{stage: train, on: {{of: spectra}}, detector: profile-svm}}
  cnn: {{stage: train, on: {{of: spectra}}, detector: dct2d-cnn}}
  table_svm: {{stage: evaluate, model: svm, test: {{raw: spectra}}}}
  table_cnn: {{stage: evaluate, model: cnn, test: {{raw: spectra}}}}
  report_svm: {{stage: report, of: [table_svm], images: [reals, fakes]}}
  report_both: {{stage: report, of: [table_svm, table_cnn]}}
"""
OF_A_NETWORK = {"cnn", "table_cnn", "report_both"}


def planned(folder: Path, *overrides: str, union: str = "[reals, fakes]") -> Plan:
    file = folder / "pipeline.yaml"
    file.write_text(TWO_DETECTORS.format(manifests=REPOSITORY / "manifests").replace("[reals, fakes]", union))
    pipeline = load_pipeline(file, list(overrides))
    return make_plan(pipeline, Store(folder / "store"), Scan(pipeline.base, None))


def changed(one: Plan, other: Plan) -> set[str]:
    return {name for name, found in one.artifacts.items() if other.artifacts[name].key != found.key}


def test_threads_and_the_version_of_torch_concern_the_detectors_that_are_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(tmp_path)
    assert before.artifacts.keys() == {"svm", "table_svm", "report_svm", *OF_A_NETWORK}
    assert changed(before, planned(tmp_path, "threads=2")) == OF_A_NETWORK
    found = recipes.library_version
    monkeypatch.setattr(recipes, "library_version", lambda name: "9.9" if name == "torch" else found(name))
    assert changed(before, planned(tmp_path)) == OF_A_NETWORK


def test_a_union_in_another_order_is_the_same_table_and_report(tmp_path: Path) -> None:
    assert changed(planned(tmp_path), planned(tmp_path, union="[fakes, reals]")) == set()


# Sizes


def holds_much(text: str) -> bool:
    """Whether a function may be too long: from its first line to that of the next outside it, or to the end,
    there are many lines. Most files need no syntax tree.
    """
    lines = text.splitlines()
    starts = [(number, len(line) - len(line.lstrip())) for number, line in enumerate(lines) if DEFINITION.match(line)]
    for place, (number, indent) in enumerate(starts):
        end = next((other for other, depth in starts[place + 1 :] if depth <= indent), len(lines))
        if end - number > MOST_OF_A_FUNCTION:
            return True
    return False


@pytest.mark.parametrize("folder", [*CODE, "tests", "benchmarks", "experiments"])
def test_a_file_and_a_function_can_be_read_at_once(folder: str) -> None:
    sizes = {}
    for path in (REPOSITORY / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        sizes[path.name] = text.count("\n") - MOST_LINES
        for node in statements(tree_of(path)) if holds_much(text) else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes[f"{path.name}: {node.name}"] = lines - MOST_OF_A_FUNCTION
    assert {name: over for name, over in sizes.items() if over > 0} == {}


def test_no_two_files_of_tests_have_one_name() -> None:
    """They are imported by it, and the second would not be collected where both are."""
    names = sorted(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [one for one, other in pairwise(names) if one == other] == []
