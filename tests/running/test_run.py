"""Runs that meet failures, interruptions, other runs and damage: nothing is lost, nothing is skipped silently."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_project import STANDARD, Project, toy_id, tree

from pipeline import ids
from pipeline.errors import FailedRowsError, Interrupted, StageError
from pipeline.running.executors import Executors
from pipeline.running.works import works_of

LINE = """
nodes:
  a: {stage: "toy:Numbers", count: 24}
  b: {stage: "toy:Scale", of: a, shard_rows: 8}
  c: {stage: "toy:Scale", of: b, shard_rows: 6}
  mean: {stage: "toy:Mean", on: c}
  centered: {stage: "toy:Center", of: c, mean: mean}
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "project", monkeypatch, LINE)


def cold(project: Project, folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """The same pipeline in an empty folder, run once."""
    other = Project(folder / "cold", patch, project.file.read_text())
    other.run()
    return other


# Failed rows


def test_a_failed_row_is_counted_named_and_fails_the_run_but_no_other_row(line: Project) -> None:
    line.break_numbers(7)
    sentence = (
        r"b: 1 row failed \(0 allowed\): a [0-9a-f]{12}: the number 7 is broken\. "
        "Mend the inputs and run again, or set max_failed_rows"
    )
    with pytest.raises(FailedRowsError, match=sentence) as caught:
        line.run()
    assert caught.value.exit_code == 1
    assert toy_id(7).hex()[:12] in str(caught.value)
    plan = line.plan()
    assert {name: int(plan.branches[name][0].have.sum()) for name in ("a", "b", "c")} == {"a": 24, "b": 23, "c": 23}
    assert plan.artifacts["mean"].found is None
    assert not list((line.folder / "store" / "mean").glob("*/artifact.json")), "made from fewer rows than wanted"
    assert list(line.store.failures("scale", plan.branches["b"][0].chain)) == [toy_id(7)]


def test_allowed_failures_leave_everything_below_without_the_row(line: Project) -> None:
    line.replace("shard_rows: 8}", "shard_rows: 8, max_failed_rows: 2}")
    line.break_numbers(3, 9)
    report = line.run()
    assert sorted(line.rsplit(": ")[-1] for line in report.failed["b"]) == [
        "the number 3 is broken",
        "the number 9 is broken",
    ]
    assert set(report.failed) == {"b"}
    assert report.computed == {"a": 24, "b": 22, "c": 22, "mean": 1, "centered": 22}
    plan = line.plan(recorded=True)
    assert plan.complete
    assert len(plan.branches["centered"][0].rows) == 22
    line.computed()
    again = line.run()
    assert line.computed() == {"scale": 2}, "they are tried again, and nothing else is done"
    assert again.failed == report.failed


def test_one_failure_more_than_allowed_fails_the_run(line: Project) -> None:
    line.replace("shard_rows: 8}", "shard_rows: 8, max_failed_rows: 2}")
    line.break_numbers(3, 5, 9)
    with pytest.raises(FailedRowsError, match=r"b: 3 rows failed \(2 allowed\)"):
        line.run()


def test_the_rows_of_all_nodes_that_fail_are_named_and_counted(
    line: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """b fails at five of its 24 numbers, c at the double of one more; rows without an input are no failures of c."""
    line.break_numbers(3, 5, 7, 9, 11, 26)
    with pytest.raises(FailedRowsError) as caught:
        line.run(bars=True)
    b, c, end = str(caught.value).split(". ")
    assert b.startswith("b: 5 rows failed (0 allowed): a ")
    assert b.endswith("; and 2 more")
    assert b.count(" is broken") == 3
    assert c == f"c: 1 row failed (0 allowed): a {toy_id(13).hex()[:12]}: the number 26 is broken"
    assert end == "Mend the inputs and run again, or set max_failed_rows"
    lines = capsys.readouterr().err.splitlines()
    assert [text for text in lines if text.startswith(("a:", "b:", "c:"))][-3:] == [
        "a: 24 of 24 rows", "b: 24 of 24 rows, 5 failed", "c: 24 of 24 rows, 6 failed",
    ]  # fmt: skip


def test_the_error_of_failed_rows_stays_short_however_many_nodes_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = [float(n) for n in range(1, 12)]
    project = Project(tmp_path, monkeypatch, f"""
        nodes:
          a: {{stage: "toy:Numbers", count: 4}}
          b: {{stage: "toy:Scale", matrix: {{factor: {factors}}}, of: a, factor: "{{factor}}"}}
        """)  # fmt: skip
    project.break_numbers(2)
    with pytest.raises(FailedRowsError, match=r"and rows of 3 other nodes\. Mend the inputs") as caught:
        project.run()
    assert str(caught.value).count("1 row failed") == 8


def test_a_mended_row_is_repaired_and_what_was_fitted_without_it_is_made_again(line: Project) -> None:
    line.replace("nodes:", "max_failed_rows: 1\nnodes:")
    line.break_numbers(21)
    line.run()
    without = line.facts("mean")
    line.computed()
    line.break_numbers()
    report = line.run()
    assert report.failed == {}
    assert line.computed() == {"scale": 2, "mean": 1, "center": 24}
    assert line.facts("mean") != without
    assert not list((line.folder / "store").glob("*/*/failures/*.json"))
    assert line.plan().complete


def test_take_and_pair_go_on_without_rows_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, monkeypatch, """
        max_failed_rows: 1
        nodes:
          a: {stage: "toy:Numbers", count: 10}
          b: {stage: "toy:Scale", of: a}
          c: {stage: "toy:Scale", of: {of: b, take: 10}, factor: 3.0}
          sum: {stage: "toy:SumStage", of: {of: b, pair: c}}
        """)  # fmt: skip
    project.break_numbers(9)
    assert project.run().computed == {"a": 10, "b": 9, "c": 9, "sum": 9}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 23)), st.sets(st.integers(0, 46).filter(lambda n: n % 2 == 0)), st.booleans())
def test_every_wanted_row_is_computed_or_failed_with_a_reason(
    line: Project, first: set[int], second: set[int], raises: bool
) -> None:
    """b fails for numbers in `first`, c for doubled numbers in `second` (even numbers of `first` may be in both)."""
    shutil.rmtree(line.folder / "store", ignore_errors=True)
    line.write("max_failed_rows: 99\n" + LINE.partition("  mean:")[0])
    bad = {float(n) for n in first | second}
    line.break_numbers(*bad)
    line.raise_at(*([min(bad)] if raises and bad else []))
    report = line.run()
    b = [n for n in range(24) if n in bad]
    c = [n for n in range(24) if n not in bad and 2 * n in bad]
    assert len(report.failed.get("b", [])) == len(b)
    assert len(report.failed.get("c", [])) == len(c)
    computed = {"a": 24, "b": 24 - len(b), "c": 24 - len(b) - len(c)}
    assert report.computed == {name: count for name, count in computed.items() if count}
    plan = line.plan(recorded=True)
    for name in ("a", "b", "c"):
        (branch,) = plan.branches[name] or [None]
        if branch is not None:
            assert (branch.have ^ branch.failed).all()
    found = {name: set(ids.to_bytes(branch.rows.id[branch.failed])) for name in "bc" for branch in plan.branches[name]}
    assert found.get("b", set()) == {toy_id(n) for n in b}
    assert found.get("c", set()) == {toy_id(n) for n in c}


def test_a_stage_that_raises_on_one_row_fails_that_row_only(line: Project) -> None:
    line.raise_at(5)
    with pytest.raises(FailedRowsError, match=r"b: 1 row failed .*: ValueError: 5 is out of range"):
        line.run()
    assert int(line.plan().branches["b"][0].have.sum()) == 23


def test_a_stage_that_raises_on_all_rows_is_a_stage_error(line: Project) -> None:
    line.raise_at(*range(24))
    with pytest.raises(StageError, match="b: stage 'scale' fails on every row of a block: ValueError: [0-9]+ is out of "
                                         r"range \(toy.py:[0-9]+; .* \(and 2 more tasks failed\)"):  # fmt: skip
        line.run()
    assert int(line.plan().branches["a"][0].have.sum()) == 24


def test_values_that_are_not_what_the_schema_says_are_a_stage_error(
    line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.Numbers, "compute", lambda *_: {"value": np.zeros(3, np.float32)})
    with pytest.raises(StageError, match=r"a: stage 'numbers' gives float32 \(3,\) for 'value', its schema promises "
                                         r"float64 \(24,\)"):  # fmt: skip
        line.run()


def test_a_fit_that_raises_is_one_sentence_and_leaves_nothing(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no rows of class 1")

    monkeypatch.setattr(toy.Mean, "fit", broken)
    with pytest.raises(StageError, match="mean: no rows of class 1"):
        line.run()
    assert not list((line.folder / "store" / "mean").glob("*"))


def test_rows_that_are_not_accounted_for_are_an_error(line: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.running import executors
    from pipeline.running.tasks import Outcome

    monkeypatch.setattr(executors, "publish_rows", lambda task, *_: Outcome(len(task.ids) - 1))
    with pytest.raises(StageError, match="24 rows were wanted, but 23 were computed, 0 failed and 0 lack their inputs"):
        line.run("a")


# Interruptions


@pytest.mark.parametrize("at", [1, 7, 8, 9, 15, 16, 17])
def test_sigint_finishes_what_is_in_flight_and_the_same_command_goes_on(
    at: int, line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while row number `at` is computed, in shards of 8 rows.

    The main thread gets to know a moment later; a worker may have taken the next shard from the queue by then.
    """
    plain = toy.Scale.compute
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a shell
    seen: list[int] = []

    def interrupting(self: Any, config: Any, batch: Any, ctx: Any) -> Any:
        seen.append(1)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, config, batch, ctx)

    monkeypatch.setattr(toy.Scale, "compute", interrupting)
    monkeypatch.setattr(toy.Scale, "block_rows", 1)
    line.run("a")
    line.computed()
    said: list[str] = []
    monkeypatch.setattr("pipeline.running.progress.Bars.say", lambda self, sentence: said.append(sentence))
    with pytest.raises(Interrupted, match=r"stopped: \d+ rows and artifacts of this run are kept; the same command "
                                          "goes on") as caught:  # fmt: skip
        line.run("b")
    assert caught.value.exit_code == 130
    assert said == ["stopping: what is in flight is finished and kept; press Ctrl-C again to drop it"]
    whole = -(-at // 8) * 8
    kept = line.computed()["scale"]
    assert kept in (whole, min(whole + 8, 24))
    assert int(line.plan().branches["b"][0].have.sum()) == kept
    if kept < 24:
        line.run("b")
    assert line.computed().get("scale", 0) == 24 - kept
    assert signal.getsignal(signal.SIGINT) is before


# Workers, order, scheduler


@pytest.mark.jobs
def test_threads_and_order_give_the_same_files_after_compact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = STANDARD.replace("count: 40", "count: 40, shard_rows: 9")
    one = Project(tmp_path / "one", monkeypatch, text)
    one.run()
    names = {path.name for path in one.shards()}
    expected = one.compacted()
    monkeypatch.setattr("pipeline.running.works.LEAST_ROWS", 5)
    for threads in (1, 8):
        monkeypatch.setattr("pipeline.running.run.default_workers", lambda threads=threads: threads)
        other = Project(tmp_path / f"{threads} threads", monkeypatch, text.replace("of: [a, b]", "of: [b, a]"))
        other.run(workers=None)
        assert {path.name for path in other.shards()} != names or threads == 1
        assert other.compacted() == expected, threads


def test_reversed_submission_and_growth_give_the_same_files_after_compact(
    line: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cold(line, tmp_path, monkeypatch).compacted()
    line = Project(line.folder, monkeypatch, LINE.replace("count: 24", "count: 10"))
    line.run()
    line.write(LINE)

    def backwards(plan: Any, workers: int) -> Any:
        found = works_of(plan, workers)
        last = len(found) - 1
        for work in found:
            work.number, work.waits = last - work.number, {last - number for number in work.waits}
        return found[::-1]

    monkeypatch.setattr("pipeline.running.run.works_of", backwards)
    line.run()
    found = line.compacted()
    assert {name: content for name, content in found.items() if name in expected} == expected


def test_a_dask_cluster_that_loses_a_worker_gives_the_same_files(
    line: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cold(line, tmp_path, monkeypatch).compacted()
    line = Project(line.folder, monkeypatch, LINE)
    (line.folder / "die").touch()
    report = line.run(workers=2)
    assert not (line.folder / "die").exists(), "no worker was killed"
    assert report.computed == {"a": 24, "b": 24, "c": 24, "mean": 1, "centered": 24}
    assert not list((line.folder / "store").glob("**/*.tmp"))
    assert line.compacted() == expected


def test_two_simultaneous_runs_end_with_the_same_rows_and_lose_none(
    line: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = cold(line, tmp_path, monkeypatch)
    expected = reference.rows()
    line = Project(line.folder, monkeypatch, LINE)
    together = threading.Barrier(2)
    start, errors = Executors.submit, []

    def submit(self: Any, node: str, *rest: Any) -> Any:
        if node == "a":
            together.wait(timeout=20)  # both have planned when the first task begins
        return start(self, node, *rest)

    monkeypatch.setattr(Executors, "submit", submit)

    def go() -> None:
        try:
            line.run()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert line.rows() == expected
    assert line.plan().complete
    assert not list((line.folder / "store").glob("**/*.tmp"))


# Damage


def data_file(shard: Path, field: str) -> Path:
    return next(path for path in sorted((shard / field).rglob("*")) if path.is_file() and path.name != "zarr.json")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda shard: flip(data_file(shard, "value")), "value"),
        (lambda shard: data_file(shard, "value").write_bytes(b""), "has 0 bytes, expected"),
        (lambda shard: data_file(shard, "vector").unlink(), "is missing, expected"),
        (lambda shard: (shard / "zarr.json").write_text("{"), "zarr.json cannot be read"),
        (lambda shard: (shard / "zarr.json").unlink(), "zarr.json cannot be read"),
    ],
    ids=["flipped", "truncated", "deleted", "attributes torn", "attributes deleted"],
)
def test_a_damaged_shard_is_put_aside_and_only_its_rows_are_computed_again(
    line: Project, damage: Any, reason: str
) -> None:
    line.run()
    expected = line.rows()
    line.computed()
    plan = line.plan()
    b, c = (plan.branches[name][0] for name in "bc")
    shard = sorted(line.store.chain_dir("scale", b.chain).glob("*.zarr"))[1]
    shutil.rmtree(line.store.chain_dir("scale", c.chain))  # so that b is read
    damage(shard)
    report = line.run()
    assert report.computed == {"b": 8, "c": 24}
    assert line.computed()["scale"] <= 32 + 24, "c may be begun before the damage is met"
    assert len(report.quarantined) == 1
    assert reason in report.quarantined[0]
    assert len(list((line.folder / "store" / "quarantine").glob("*.zarr-*/"))) >= 1
    assert line.rows() == expected


def test_a_shard_that_vanishes_during_a_run_is_computed_again_in_the_same_run(
    line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are neither lost nor taken for failed."""
    line.run("b")
    shards = sorted(line.store.chain_dir("scale", line.plan().branches["b"][0].chain).glob("*.zarr"))
    start = Executors.submit

    def submit(self: Any, node: str, *rest: Any) -> Any:
        if node == "c" and len(shards) == 3:
            shutil.rmtree(shards.pop())
        return start(self, node, *rest)

    monkeypatch.setattr(Executors, "submit", submit)
    report = line.run()
    assert report.failed == {}
    assert line.plan().complete


# Accounts


def test_the_report_counts_what_was_there_and_what_was_done(line: Project) -> None:
    first = line.run("b")
    assert (first.computed, first.present) == ({"a": 24, "b": 24}, {"a": 0, "b": 0})
    second = line.run()
    assert second.computed == {"c": 24, "mean": 1, "centered": 24}
    assert second.present == {"a": 24, "b": 24, "c": 0, "mean": 0, "centered": 0}


def test_a_run_that_has_nothing_to_do_changes_no_shard_and_starts_no_worker(
    line: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.run()
    before = tree(line.folder / "store", "[!.r]*/**/*")
    monkeypatch.setattr(Executors, "__init__", lambda *_: pytest.fail("a worker was started"))
    line.run()
    assert tree(line.folder / "store", "[!.r]*/**/*") == before


def test_the_files_of_a_run_say_what_was_resolved_and_go_when_it_ends(line: Project) -> None:
    line.run("a")
    runs = sorted(path.suffix for path in (line.folder / "store" / "runs").iterdir())
    assert runs == [".yaml"]


def test_a_task_waits_for_exactly_the_shards_that_hold_its_inputs(line: Project) -> None:
    line.run("a", overrides=("nodes.a.count=5",))
    works = works_of(line.plan(), 1)
    rows = {
        work.number: set(ids.to_bytes(work.branch.rows.id[work.positions])) for work in works if work.branch is not None
    }
    by_node = {name: [work for work in works if work.node == name] for name in ("a", "b", "c", "mean", "centered")}
    assert [len(found) for found in by_node.values()] == [1, 3, 4, 1, 1]
    for below, above in (("b", "a"), ("c", "b")):
        for work in by_node[below]:
            holders = {other.number for other in by_node[above] if rows[other.number] & rows[work.number]}
            assert work.waits == holders
    (mean,), (centered,) = by_node["mean"], by_node["centered"]
    train = line.plan().artifacts["mean"].views["on"][""][0].sides[0].ids
    assert mean.waits == {work.number for work in by_node["c"] if rows[work.number] & set(ids.to_bytes(train))}
    assert centered.waits == {mean.number} | {work.number for work in by_node["c"]}
