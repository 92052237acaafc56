"""`make stress`: 500 damages to metadata, 200 exchanged shards. Writes benchmarks/results/damaged_metadata.json."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage import exchange
from toy_project import Project

from pipeline import ids
from pipeline.commands.examine import verify
from pipeline.dataset import Dataset, Part
from pipeline.errors import DamagedShardError, StoreError

pytestmark = pytest.mark.stress

DAMAGES, EXCHANGES, RUNS = 500, 200, 5  # a run after every fifth damage
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "damaged_metadata.json"
PIPELINE = """
nodes:
  a: {stage: "toy:Numbers", count: 40, shard_rows: 4}
  scaled: {stage: "toy:Scale", matrix: {factor: [2.0, 3.0]}, of: a, factor: "{factor}", shard_rows: 4}
  noisy: {stage: "toy:Jitter", of: "scaled[2.0]", shard_rows: 20}
  mean: {stage: "toy:Mean", on: "scaled[2.0]"}
  centered: {stage: "toy:Center", of: noisy, mean: mean, shard_rows: 20}
"""
Rows = dict[tuple[str, bytes, str], bytes]
SUMMARY: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def results() -> Iterator[None]:
    """The summary of all that ran, also where a test failed."""
    begun = time.monotonic()
    yield
    data = {"command": "make stress", "seconds": round(time.monotonic() - begun, 1), "cpus": os.cpu_count(), **SUMMARY}
    RESULTS.write_text(json.dumps(data, indent=2) + "\n")
    print(json.dumps(data, indent=2))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run()
    project.computed()
    return project


def served(project: Project) -> tuple[Rows, dict[str, Any]]:
    """What a reader gets: the values of all rows that are not refused, and the cards of the artifacts."""
    plan = project.plan()
    found: Rows = {}
    for branch in plan.all_branches():
        index = plan.indices[branch.chain]
        for number in range(len(index.names)):
            rows = index.ids[index.shard == number]
            rows = rows[ids.isin(rows, branch.rows.id[branch.have])]
            data = Dataset(plan.store, [Part(branch.stage.name, branch.chain, branch.schema, rows)], {})
            for name in data.fields:
                try:
                    values = data.array(name)
                except (DamagedShardError, StoreError):
                    continue
                found |= {(branch.node, bytes(row), name): one.tobytes() for row, one in zip(rows, values, strict=True)}
    return found, {name: one.found.info for name, one in plan.artifacts.items() if one.found is not None}


def edited(text: bytes, choose: random.Random) -> bytes:
    """Other text of the same size: a digit, letter or word is another one."""
    pairs = [(b"little", b"biglit"), (b"float64", b"uint64 "), (b"float32", b"uint32 "), (b'"/"', b'"."'),
             (b"uint8", b"int8 "), (b"default", b"v2     "), (b'"end"', b'"low"'), (b"bytes", b"bytez")]  # fmt: skip
    usable = [(old, new) for old, new in pairs if old in text]
    if usable and choose.random() < 0.5:
        return text.replace(*choose.choice(usable), 1)
    places = [number for number, byte in enumerate(text) if chr(byte).isalnum()]
    place = choose.choice(places)
    other = choose.choice([one for one in b"0123456789abcdef" if one != text[place]])
    return text[:place] + bytes([other]) + text[place + 1 :]


def hurt(path: Path, others: list[Path], choose: random.Random) -> str:
    """Damage one file; returns how."""
    text = path.read_bytes()
    kind = choose.choice(["flip", "flip", "edit", "edit", "edit", "cut", "other", "gone", "deep", "large", "pipe"])
    if kind == "flip":
        place = choose.randrange(len(text))
        path.write_bytes(text[:place] + bytes([text[place] ^ 1 << choose.randrange(8)]) + text[place + 1 :])
    elif kind == "edit":
        path.write_bytes(edited(text, choose))
    elif kind == "cut":
        path.write_bytes(text[: choose.randrange(len(text))])
    elif kind == "other":
        path.write_bytes(choose.choice([one for one in map(Path.read_bytes, others) if one != text]))
    elif kind == "deep":
        path.write_bytes(b'{"attributes":' * 20_000)
    elif kind == "large":
        path.write_bytes(text + b" " * 80_000_000)
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
    return kind


def test_no_damage_to_metadata_is_unseen_or_served(project: Project) -> None:
    expected, cards = served(project)
    choose, kinds, names, runs = random.Random(41), Counter[str](), Counter[str](), 0
    store = project.folder / "store"
    for number in range(DAMAGES):
        name = choose.choice(["zarr.json", "zarr.json", "zarr.json", "recipe.json", "artifact.json"])
        files = sorted(one for one in store.glob(f"[a-z]*/*/**/{name}") if "quarantine" not in one.parts)
        path = choose.choice(files)
        text = path.read_bytes()
        kinds[hurt(path, files if len(files) > 1 else sorted(store.glob("*/*/recipe.json")), choose)] += 1
        names[name] += 1
        top = store.joinpath(*path.relative_to(store).parts[:2])
        assert verify(project.store, directories=[top]), f"damage {number} to {path} was not seen"
        rows, found = served(project)
        assert rows.items() <= expected.items(), f"damage {number} to {path} was served"
        assert found.items() <= cards.items()
        if number % RUNS == 0:
            project.run()
            runs += 1
            assert project.rows() == expected
            assert verify(project.store) == []
        else:
            path.unlink(missing_ok=True)
            path.write_bytes(text)
        SUMMARY["metadata"] = {
            "damages": number + 1, "unseen": 0, "served": 0, "runs": runs, "kinds": kinds, "files": names,
            "rows_computed_again": SUMMARY.get("metadata", {}).get("rows_computed_again", 0)
            + sum(project.computed().values()),
        }  # fmt: skip


def test_no_exchanged_shard_is_unseen_or_served(project: Project) -> None:
    expected, _ = served(project)
    choose, done, batches = random.Random(42), 0, 0
    one, other = sorted((project.folder / "store" / "scale").iterdir())
    while done < EXCHANGES:
        chosen = choose.sample(sorted(path.name for path in one.glob("*.zarr")), choose.randint(1, 10))
        chosen = chosen[: EXCHANGES - done]
        for name in chosen:
            exchange(one / name, other / name)
        damaged = {problem.path for problem in verify(project.store)}
        assert damaged == {folder / name for name in chosen for folder in (one, other)}
        rows, _ = served(project)
        assert rows.items() <= expected.items()
        project.run()
        assert project.computed() == {"scale": 2 * 4 * len(chosen)}
        assert project.rows() == expected
        done, batches = done + len(chosen), batches + 1
        SUMMARY["exchanges"] = {"pairs": done, "shards": 2 * done, "runs": batches, "unseen": 0, "served": 0}
