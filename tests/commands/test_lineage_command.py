"""`touchstone lineage`: a row down to its file, seed and checkpoint, and the same computed once more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import toy_photos
from command_line import Command, command
from predicted_project import FIRST, photo, predicted_project
from toy_project import ROOT, Project

from pipeline.commands import tracing
from pipeline.errors import TouchstoneError
from pipeline.planning.row_names import rows_named

MORE = """
  turned: {stage: perturb, of: images, protocol: wang2020}
  sampled: {stage: sample, checkpoint: "manifests/generators.yaml#progan-raw", count: 2, seeds: 5}
  smaller: {stage: equalize, of: sampled, size: 16}
  many: {stage: sample, checkpoint: "manifests/generators.yaml#progan-raw", count: 300}
  enlarged: {stage: equalize, of: photos, size: 32}
  curves: {stage: spectrum, of: enlarged, features: [profile]}
"""
WANTED = ("residuals", "turned", "smaller")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        made = predicted_project(tmp_path_factory.mktemp("traced"), patch, MORE)
        made.run(*WANTED)
        yield made


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(project.folder)
    return command(monkeypatch, capsys)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_row_of_a_file_leads_to_its_digest_and_the_weights_on_its_way(run: Command) -> None:
    digest = sha256(photo(3))[:32]
    said = run("lineage", "residuals", digest[:10], "--replay", "--json")
    assert said.code == 0, said.err
    found = said.facts()
    assert (found["id"], found["label"], found["source"], found["computed"]) == (digest, "real", "photos", True)
    assert [(step["stage"], step["of"]) for step in found["steps"]] == [
        ("ingest", []),
        ("equalize", [0]),
        ("residual", [1]),
    ]
    born = found["steps"][0]["born_of"]
    assert (Path(born["location"]).name, born["sha256_begins_with"]) == ("3.png", digest)
    assert found["steps"][1]["settings"]["size"] == 16
    weights = found["steps"][2]["files"]["model"]
    assert weights["sha256"] == sha256(Path(weights["file"]).read_bytes())
    assert found["replay"]["identical"]
    assert set(found["replay"]["fields"]) == {"residual_pixel", "residual_pixel_mean", "residual_clipped"}


def test_a_sample_leads_to_seed_and_checkpoint(run: Command) -> None:
    row = run("show", "sampled").out.split()[0]
    said = run("lineage", "smaller", row, "--replay")
    assert said.code == 0, said.err
    assert "   seed: 5\n" in said.out or "   seed: 6\n" in said.out
    (checkpoint,) = (line for line in said.out.splitlines() if line.startswith("   checkpoint: "))
    place, _, digest = checkpoint.removeprefix("   checkpoint: ").partition(", SHA-256 ")
    assert Path(place).parent == ROOT / "manifests" / "weights"
    assert digest == sha256(Path(place).read_bytes())
    assert said.out.endswith("replay: image identical\nreplay: reduction identical\n")


def test_a_whole_number_is_a_seed_before_it_is_the_beginning_of_an_id(project: Project) -> None:
    branches = project.plan().branches["many"]
    for seed in range(300):
        ((branch, position),) = rows_named(branches, str(seed))
        assert branch.positions is not None
        assert branch.payload["seed"][branch.positions[position]] == seed
    row = branches[0].rows.id[7].tobytes().hex()
    assert [position for _, position in rows_named(branches, row[:16])] == [7]


def test_a_row_that_failed_says_why(run: Command, project: Project) -> None:
    with pytest.raises(TouchstoneError, match="failed"):
        project.run("curves")
    row = sha256(photo(5))[:12]
    for words in (("show", "enlarged", row), ("lineage", "enlarged", row, "--replay")):
        assert run(*words).err.startswith(f"touchstone: row {row} of enlarged failed: ")
    assert run("show", "curves", row).err.startswith(f"touchstone: row {row} of curves failed: enlarged: ")
    assert "\nFAILED: " in run("lineage", "enlarged", row).out
    assert "\nnot computed yet; so it would be:\n" in run("lineage", "many", "7").out
    assert run("show", "many", "7").err.endswith("of many is not computed; `touchstone run many` does it\n")


def test_one_name_for_several_rows_is_refused_by_show_too(run: Command) -> None:
    said = run("show", "images", "")
    assert (said.code, said.out) == (2, "")
    assert "rows of images are called ''; give more of the id or of the path, or one node" in said.err


def test_random_draws_are_replayed(run: Command) -> None:
    row = toy_photos.expanded(toy_photos.identity(FIRST), index=0).hex()
    found = run("lineage", "turned", row, "--replay", "--json").facts()
    assert [step["stage"] for step in found["steps"]] == ["photos", "equalize", "perturb"]
    assert (found["steps"][2]["draw"], found["steps"][2]["seed"]) == (0, 0)
    assert found["replay"]["identical"]


def test_bytes_that_are_not_those_of_the_recipe_are_different(
    run: Command, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = toy_photos.identity(FIRST)
    before = toy_photos.photo
    monkeypatch.setattr(toy_photos, "photo", lambda row_id: before(row_id) // 2)
    monkeypatch.setattr("pipeline.running.proof.Claim.prove", lambda *arguments: {})
    monkeypatch.setattr("pipeline.running.proof.Claim.prove_again", lambda *arguments: None)
    said = run("lineage", "images", row.hex(), "--replay", "--json")
    assert (said.code, said.facts()["replay"]) == (
        1, {"identical": False, "fields": {"image": "different", "reduction": "identical"}}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("images", "zz"),
            "images has no row whose id begins with 'zz', and none of a file or seed of that name; `touchstone",
        ),
        (("images", ""), "rows of images are called ''; give more of the id or of the path, or one node"),
        (("svm", "0"), "'svm' makes an artifact, and has no rows"),
        (("nothing", "0"), "nothing"),
    ],
)
def test_what_cannot_be_traced_is_one_sentence(run: Command, arguments: tuple[str, ...], sentence: str) -> None:
    said = run("lineage", *arguments)
    assert sentence in said.err
    assert (said.code, said.out) == (2, "")


def test_a_row_that_is_not_computed_has_no_replay(run: Command) -> None:
    row = sha256(photo(1))[:12]
    assert run("lineage", "spectra", row).code == 0
    said = run("lineage", "spectra", row, "--replay")
    assert (said.code, said.err) == (
        2,
        f"touchstone: row {row} of spectra is not computed; `touchstone run spectra` does it\n",
    )


def test_two_sources_of_one_recipe_are_two_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their chains are one, as a chain says how rows are made and not which."""
    leaves = [SimpleNamespace(chain=b"c", sides=(), node=name) for name in ("real", "fake")]
    sides = tuple(SimpleNamespace(branch=leaf, positions=np.zeros(1, np.int64)) for leaf in leaves)
    numbers = np.zeros(1, np.uint8)
    rows = SimpleNamespace(id=np.zeros(1, "V16"), label=numbers, split=numbers, source=numbers)
    mixed: Any = SimpleNamespace(chain=b"m", sides=sides, node="mix", rows=rows, have=np.ones(1, np.bool_))
    plan: Any = SimpleNamespace(names=SimpleNamespace(words=["mix"]))
    monkeypatch.setattr(tracing, "_step", lambda branch, position, above: {"node": branch.node, "of": above})
    assert tracing.lineage_of_row(plan, (mixed, 0))["steps"] == [
        {"node": "real", "of": []}, {"node": "fake", "of": []}, {"node": "mix", "of": [0, 1]},
    ]  # fmt: skip
