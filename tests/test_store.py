"""The store: all or nothing, whoever dies, comes second or runs out of disk."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import ids as row_ids
from pipeline import shards
from pipeline.errors import ConflictError, DamagedShardError, StoreError
from pipeline.runs import RunRecord, host_name, this_run
from pipeline.shards import shard_name
from pipeline.stage import Field
from pipeline.store import Store

SCHEMA = {"image": Field("uint8", (2, 3)), "score": Field("float32")}
CHAIN = bytes(range(16))
ROOT = Path(__file__).parents[1]


def make_rows(start: int, stop: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    numbers = np.arange(start, stop)
    ids = row_ids.from_bytes((int(n) * 7919 % 2**32).to_bytes(8, "little") + bytes(7) + b"x" for n in numbers)
    image = (numbers[:, None, None] + np.arange(6).reshape(2, 3)).astype(np.uint8)
    return ids, {"image": image, "score": numbers.astype(np.float32)}


def put(store: Store, start: int, stop: int, kill: Any = shards.nothing) -> str:
    ids, arrays = make_rows(start, stop)
    return store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, {"stage": "spectrum"}, this_run(), kill)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", writable=True)


# Chains and their index


def test_the_index_finds_each_row_in_its_shard(store: Store) -> None:
    names = [put(store, start, start + 10) for start in (0, 10, 20)]
    index = store.index("spectrum", CHAIN)
    assert index.names == tuple(sorted(names))
    assert [bytes(one) for one in index.ids] == sorted(bytes(one) for one in make_rows(0, 30)[0])
    for number in range(30):
        ids, arrays = make_rows(number, number + 1)
        place = index.lookup(ids)[0]
        shard = store.shard(index.path(index.shard[place]))
        assert shard.gather("score", index.row[[place]]) == arrays["score"]
    asked = make_rows(25, 35)[0]
    assert index.contains(asked).tolist() == [True] * 5 + [False] * 5


def test_an_absent_chain_has_no_rows_and_asking_writes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert len(store.index("spectrum", CHAIN)) == 0
    assert store.artifact("train", CHAIN) is None
    assert store.failures("spectrum", CHAIN) == {}
    assert store.aliases() == {}
    assert store.in_use() == set()
    assert store.clean_temporaries() == []
    assert not (tmp_path / "store").exists()


def test_the_cache_agrees_with_the_shards_after_every_change(store: Store) -> None:
    def check() -> None:
        warm, again = store.index("spectrum", CHAIN), store.index("spectrum", CHAIN)
        shutil.rmtree(store.root / ".cache")
        cold = Store(store.root).index("spectrum", CHAIN)
        assert not (store.root / ".cache").exists()
        for one in (warm, again):
            assert one.names == cold.names
            for column in ("ids", "shard", "row"):
                np.testing.assert_array_equal(getattr(one, column), getattr(cold, column))
            assert [path for path, _ in one.damaged] == [path for path, _ in cold.damaged]
        store.index("spectrum", CHAIN)

    put(store, 0, 10)
    check()
    second = put(store, 10, 20)
    check()
    put(store, 5, 15)  # the same rows once more, in a shard of another cut
    check()
    directory = store.chain_dir("spectrum", CHAIN)
    (directory / f"{second}.zarr" / "score" / "c" / "0").unlink()
    check()
    shutil.rmtree(directory / f"{second}.zarr")
    check()
    cache = next((store.root / ".cache" / "index").iterdir())
    cache.write_bytes(cache.read_bytes()[:-1] + b"?")
    check()


def test_a_row_in_two_shards_is_found_in_that_of_the_smaller_name(store: Store) -> None:
    names = sorted([put(store, 0, 6), put(store, 4, 9)])
    for _ in range(2):
        index = store.index("spectrum", CHAIN)
        assert len(index) == 9
        places = index.lookup(make_rows(4, 6)[0])
        assert {index.names[number] for number in index.shard[places]} == {names[0]}


def test_a_row_in_two_shards_with_different_values_is_a_loud_error(store: Store) -> None:
    put(store, 0, 6)
    ids, arrays = make_rows(4, 9)
    arrays["score"][0] += 1
    store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, {}, this_run())
    with pytest.raises(ConflictError, match=f"row {bytes(ids[0]).hex()} has different values in"):
        store.index("spectrum", CHAIN)


def test_damaged_shards_are_listed_and_their_rows_absent(store: Store) -> None:
    kept, damaged = put(store, 0, 5), put(store, 5, 9)
    for warm in (False, True):
        directory = store.chain_dir("spectrum", CHAIN) / f"{damaged}.zarr"
        file = directory / "image" / "c" / "0" / "0" / "0"
        original = file.read_bytes()
        file.write_bytes(original[:-3])
        index = store.index("spectrum", CHAIN)
        assert index.names == (kept,)
        assert [path for path, _ in index.damaged] == [directory]
        assert f"has {len(original) - 3} bytes, expected {len(original)}" in index.damaged[0][1]
        assert index.contains(make_rows(0, 9)[0]).tolist() == [True] * 5 + [False] * 4, warm
        file.write_bytes(original)
        assert len(store.index("spectrum", CHAIN)) == 9


def test_a_quarantined_shard_is_computed_again_and_read_fresh(store: Store) -> None:
    name = put(store, 0, 5)
    path = store.chain_dir("spectrum", CHAIN) / f"{name}.zarr"
    file = path / "score" / "c" / "0"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(DamagedShardError, match="inner chunk 0 is damaged"):
        store.shard(path).gather("score", np.arange(5))
    moved = store.quarantine(path, "flipped")
    assert moved is not None
    assert json.loads(moved.with_name(f"{moved.name}.json").read_text())["reason"] == "flipped"
    assert store.quarantine(path, "again") is None
    assert len(store.index("spectrum", CHAIN)) == 0
    put(store, 0, 5)
    assert store.shard(path).gather("score", np.array([0])).shape == (1,)


def test_a_shard_that_another_process_replaced_is_read_fresh(store: Store) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    ids, arrays = make_rows(0, 5)
    assert len(store.index("spectrum", CHAIN)) == 5
    np.testing.assert_array_equal(np.sort(store.shard(path).gather("score", np.arange(5))), arrays["score"])
    other = Store(store.root, writable=True)
    other.quarantine(path, "on the user's word")
    score = {"score": arrays["score"] + 1}
    other.stage_shard("spectrum", CHAIN, ids, score, {"score": SCHEMA["score"]}, {}, this_run())
    index = store.index("spectrum", CHAIN)
    assert (len(index), index.damaged) == (5, [])
    np.testing.assert_array_equal(np.sort(store.shard(path).gather("score", np.arange(5))), score["score"])


def test_a_recipe_is_written_once_and_belongs_to_one_chain(store: Store) -> None:
    store.write_recipe("spectrum", CHAIN, {"stage": "spectrum"})
    before = snapshot(store.root)
    store.write_recipe("spectrum", CHAIN, {"stage": "other"})
    assert snapshot(store.root) == before
    assert store.recipe("spectrum", CHAIN) == {"stage": "spectrum", "chain": CHAIN.hex()}
    other = CHAIN[:8] + bytes(8)
    with pytest.raises(StoreError, match=f"belongs to chain {CHAIN.hex()}, expected {other.hex()}"):
        store.write_recipe("spectrum", other, {})
    with pytest.raises(StoreError, match="two chains share 16 digits"):
        store.index("spectrum", other)


@pytest.mark.parametrize("name", ["runs", "quarantine", "trash", "", ".cache", "a/b"])
def test_a_stage_cannot_take_a_name_of_the_store(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match=f"a stage cannot be named '{name}'"):
        store.chain_dir(name, CHAIN)


# Publishing


def test_the_second_writer_of_the_same_rows_drops_its_copy(store: Store) -> None:
    name = put(store, 0, 5)
    before = snapshot(store.root)
    assert put(store, 0, 5) == name
    assert snapshot(store.root) == before


def test_the_second_writer_of_other_values_is_told_stage_and_rows(store: Store) -> None:
    put(store, 0, 5)
    before = snapshot(store.root)
    ids, arrays = make_rows(0, 5)
    arrays["image"][2, 0, 0] += 1
    with pytest.raises(ConflictError, match=f"spectrum: 1 of 5 rows of shard .* {bytes(ids[2]).hex()[:12]}"):
        store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, {"stage": "spectrum"}, this_run())
    assert snapshot(store.root) == before


def test_a_damaged_shard_in_the_way_is_quarantined_and_replaced(store: Store) -> None:
    name = put(store, 0, 5)
    file = store.chain_dir("spectrum", CHAIN) / f"{name}.zarr" / "score" / "c" / "0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    put(store, 0, 5)
    store.shard(file.parents[2]).verify()
    assert len(list((store.root / "quarantine").glob("*.json"))) == 1


def _put_at_the_same_time(root: Path, barrier: Any) -> None:
    store = Store(root, writable=True)
    for start in range(0, 60, 10):
        barrier.wait()
        put(store, start, start + 10)


def test_two_processes_that_write_the_same_shards_leave_one_of_each(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_put_at_the_same_time, args=(store.root, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    directory = store.chain_dir("spectrum", CHAIN)
    expected = {f"{shard_name(make_rows(start, start + 10)[0])}.zarr" for start in range(0, 60, 10)}
    assert {path.name for path in directory.iterdir()} == expected
    for path in directory.iterdir():
        store.shard(path).verify()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = [{tests!r}, {root!r}]
    from pipeline.store import Store
    from test_store import put
    points = []
    def kill(point):
        points.append(point)
        if point == {point!r}:
            os.kill(os.getpid(), signal.SIGKILL)
    store = Store(Path({store!r}), writable=True)
    store.start_run()
    put(store, 0, 5, kill)
    print(*points, sep="\\n")
"""

POINTS = [
    *(f"{where} {name}" for name in ("id", "digest", "image", "score") for where in ("inside", "half of", "after")),
    "before the root attributes", "before fsync", "after fsync", "before rename", "after rename",
]  # fmt: skip


def run_killed(store: Store, point: str) -> subprocess.CompletedProcess[str]:
    text = KILLED.format(tests=str(ROOT / "tests"), root=str(ROOT), point=point, store=str(store.root))
    return subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=False)


def test_the_named_points_are_all_points(store: Store) -> None:
    points: list[str] = []
    put(store, 0, 5, points.append)
    assert points == POINTS


@pytest.mark.parametrize("point", ["inside image", "half of image", "before fsync", "before rename", "after rename"])
def test_a_kill_leaves_no_readable_half_and_the_rerun_gives_the_same_bytes(store: Store, point: str) -> None:
    untouched = Store(store.root.with_name("untouched"), writable=True)
    put(untouched, 0, 5)
    result = run_killed(store, point)
    assert result.returncode == -signal.SIGKILL, result.stderr
    rows = 5 if point == "after rename" else 0
    assert len(store.index("spectrum", CHAIN)) == rows
    assert store.index("spectrum", CHAIN).damaged == []
    removed = store.clean_temporaries()
    assert len(removed) == (0 if rows else 1)
    put(store, 0, 5)
    shutil.rmtree(store.root / ".cache", ignore_errors=True)
    shutil.rmtree(store.root / "runs")
    assert snapshot(store.root) == snapshot(untouched.root)


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("point", ["inside image", "before fsync", "before rename"])
def test_a_full_disk_leaves_the_store_as_it_was(store: Store, point: str) -> None:
    put(store, 0, 5)
    before = snapshot(store.root)
    with pytest.raises(StoreError, match=r"the disk is full: .* could not be written .*free some space and run again"):
        put(store, 5, 9, lambda reached: no_space() if reached == point else None)
    assert snapshot(store.root) == before


def test_a_failure_that_cannot_be_recorded_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreError, match="the disk is full"):
        store.record_failure("spectrum", CHAIN, CHAIN, "broken")
    assert snapshot(store.root) == {}


FULL = """
    import sys
    from pathlib import Path
    import numpy as np
    sys.path[:0] = [{tests!r}, {root!r}]
    from pipeline.errors import StoreError
    from pipeline.store import Store
    from test_store import *
    store = Store(Path({store!r}) / "store", writable=True)
    put(store, 0, 5)
    ids, _ = make_rows(5, 9)
    big = np.random.default_rng(0).integers(0, 255, (4, 2**20), dtype=np.uint8)
    before = snapshot(store.root)
    try:
        store.stage_shard("spectrum", CHAIN, ids, {{"big": big}}, {{"big": Field("uint8", (2**20,))}}, {{}}, this_run())
    except StoreError as error:
        assert "the disk is full" in str(error), error
        assert snapshot(store.root) == before
        put(store, 20, 25)
        print("intact", len(store.index("spectrum", CHAIN)))
"""


def test_a_really_full_file_system_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """In a user namespace where the system has them, else by the injected error above alone."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        return
    place = tmp_path / "small"
    place.mkdir()
    text = textwrap.dedent(FULL.format(tests=str(ROOT / "tests"), root=str(ROOT), store=str(place)))
    script = tmp_path / "full.py"
    script.write_text(text)
    command = f"mount -t tmpfs -o size=1m none {place} && {sys.executable} {script}"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "intact 10", result.stderr


# Runs


def test_temporaries_of_dead_runs_go_and_those_of_live_ones_stay(store: Store) -> None:
    final = store.chain_dir("spectrum", CHAIN) / "0123456789abcdef.zarr"
    live = store.temporary(final, this_run())
    dead = store.temporary(final, RunRecord(host_name(), os.getpid(), this_run().started - 1))
    foreign = RunRecord("another-host", 1, 1)
    store.use(foreign, [])
    elsewhere = store.temporary(final, foreign)
    assert store.clean_temporaries() == [dead]
    assert live.exists()
    assert elsewhere.exists()
    store.finish_run(foreign)
    assert store.clean_temporaries() == [elsewhere]


def test_a_run_is_alive_as_long_as_its_process(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    from pipeline.runs import process_start

    run = RunRecord(host_name(), process.pid, process_start(process.pid) or 0)
    store.use(run, [store.chain_dir("spectrum", CHAIN)])
    assert store.alive(run)
    assert store.alive(run.id)
    assert store.in_use() == {f"spectrum/{CHAIN[:8].hex()}"}
    assert store.in_use(besides=run) == set()
    process.communicate(b"\n")
    assert not store.alive(run)
    assert store.in_use() == set()
    store.clean_temporaries()
    assert list((store.root / "runs").iterdir()) == []


# Failures


def test_failures_are_kept_until_they_are_cleared(store: Store) -> None:
    ids = row_ids.to_bytes(make_rows(0, 3)[0])
    for number, one in enumerate(ids):
        store.record_failure("spectrum", CHAIN, one, f"reason {number}", place="a.png")
    found = store.failures("spectrum", CHAIN)
    assert {one: record["reason"] for one, record in found.items()} == {ids[k]: f"reason {k}" for k in range(3)}
    assert found[ids[0]]["place"] == "a.png"
    assert len(store.index("spectrum", CHAIN)) == 0
    store.clear_failure("spectrum", CHAIN, ids[0])
    store.clear_failure("spectrum", CHAIN, ids[0])
    store.clear_failures("spectrum", CHAIN, make_rows(1, 2)[0])
    assert list(store.failures("spectrum", CHAIN)) == [ids[2]]
    store.clear_failures("spectrum", CHAIN)
    assert store.failures("spectrum", CHAIN) == {}


def test_planning_imports_neither_zarr_nor_torch(store: Store) -> None:
    put(store, 0, 5)
    text = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        import pipeline.care, pipeline.dataset, pipeline.loader
        from pipeline.store import Store
        store = Store(Path({str(store.root)!r}))
        assert len(store.index("spectrum", bytes(range(16)))) == 5
        assert not {{"zarr", "torch", "dask", "scipy"}} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", text], check=True)
