"""The store: all or nothing, whoever dies, comes second or runs out of disk."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_rows import CHAIN, ROOT, SCHEMA, make_rows, no_space, put, refuse, snapshot

from pipeline import ids as row_ids
from pipeline.errors import ConflictError, DamagedShardError, StoreError
from pipeline.runs import RunRecord, host_name, this_run
from pipeline.storage import chain_index, shards
from pipeline.storage import store as store_module
from pipeline.storage.store import Store


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
    lasting = Store(store.root, writable=True)

    def check() -> None:
        store = Store(lasting.root, writable=True)
        warm, again = store.index("spectrum", CHAIN), store.index("spectrum", CHAIN)
        kept = lasting.index("spectrum", CHAIN)
        store.save_indices()
        shutil.rmtree(store.root / ".cache")
        cold = Store(store.root).index("spectrum", CHAIN)
        Store(store.root).save_indices()
        assert not (store.root / ".cache").exists()
        for one in (warm, again, kept):
            assert one.names == cold.names
            for column in ("ids", "shard", "row"):
                np.testing.assert_array_equal(getattr(one, column), getattr(cold, column))
            assert [path for path, _ in one.damaged] == [path for path, _ in cold.damaged]
        fresh = Store(store.root, writable=True)
        fresh.index("spectrum", CHAIN)
        fresh.save_indices()

    put(store, 0, 10)
    check()
    second = put(store, 10, 20)
    check()
    put(store, 5, 15)  # the same rows once more, in a shard of another cut
    check()
    directory = store.chain_dir("spectrum", CHAIN)
    (directory / f"{second}.zarr" / "score" / "c" / "0").unlink()
    lasting = Store(store.root, writable=True)  # a process does not look at the sizes of the same shard twice
    check()
    shutil.rmtree(directory / f"{second}.zarr")
    check()
    cache = next((store.root / ".cache" / "index").iterdir())
    cache.write_bytes(cache.read_bytes()[:-1] + b"?")
    check()
    for start in (40, 12, 30):
        put(store, start, start + 9)
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
    store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run())
    with pytest.raises(ConflictError, match=f"row {bytes(ids[0]).hex()} has different values in"):
        store.index("spectrum", CHAIN)


def flip(file: Path, place: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_damage_met_while_equal_rows_are_compared_costs_that_shard_only(store: Store, which: int, warm: bool) -> None:
    cuts = {put(store, 0, 6): range(6), put(store, 4, 9): range(4, 9)}
    if warm:
        assert len(store.index("spectrum", CHAIN)) == 9
        cuts[put(store, 3, 5)] = range(3, 5)
    names = sorted(cuts)
    path = store.chain_dir("spectrum", CHAIN) / f"{names[which]}.zarr"
    flip(path / "digest" / "c" / "0" / "0")
    others = {number for name in names if name != names[which] for number in cuts[name]}
    reader = store if warm else Store(store.root)
    for _ in range(2):
        index = reader.index("spectrum", CHAIN)
        assert [place for place, _ in index.damaged] == [path]
        assert "inner chunk 0 is damaged" in index.damaged[0][1]
        assert set(row_ids.to_bytes(index.ids)) == {bytes(make_rows(n, n + 1)[0][0]) for n in others}
    store.quarantine(path, index.damaged[0][1])
    index = reader.index("spectrum", CHAIN)
    assert (len(index), index.damaged) == (len(others), [])


def test_damage_met_in_rows_that_another_shard_hid_costs_that_shard_only(store: Store) -> None:
    first, second = sorted([put(store, 0, 6), put(store, 4, 9)])
    assert len(store.index("spectrum", CHAIN)) == 9
    directory = store.chain_dir("spectrum", CHAIN)
    flip(directory / f"{second}.zarr" / "id" / "c" / "0" / "0")
    shutil.rmtree(directory / f"{first}.zarr")
    index = store.index("spectrum", CHAIN)
    assert (len(index), [path for path, _ in index.damaged]) == (0, [directory / f"{second}.zarr"])


def test_a_second_look_opens_new_shards_only_and_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    plain = shards.Shard.open.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path.name[:16])
        return plain(cls, path, *arguments, **options)

    monkeypatch.setattr(shards.Shard, "open", classmethod(watched))
    names = [put(store, 0, 5), put(store, 5, 9)]
    run = store.start_run()
    first = store.index("spectrum", CHAIN)
    assert sorted(opened) == sorted(names)
    assert store.index("spectrum", CHAIN) is first
    names.append(put(store, 20, 22))
    with monkeypatch.context() as patch:
        looked: list[str] = []
        stamps = chain_index._stamps
        patch.setattr(chain_index, "_stamps", lambda path, files: looked.append(path.name[:16]) or stamps(path, files))
        assert len(store.index("spectrum", CHAIN)) == 11
    assert set(looked) == set(names[2:]), "looked at the others again"
    names.append(put(store, 22, 24))
    assert opened[2:] == names[2:3]
    assert not (store.root / ".cache").exists()
    store.finish_run(run)
    assert opened[2:] == names[2:]
    opened.clear()
    assert len(Store(store.root).index("spectrum", CHAIN)) == 13
    assert opened == []


def test_a_full_disk_does_not_keep_a_run_from_finishing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.start_run()
    put(store, 0, 5)
    store.index("spectrum", CHAIN)
    monkeypatch.setattr("pipeline.atomic.write_bytes", no_space)
    store.finish_run(run)
    assert not (store.root / ".cache").exists()


def test_a_shard_that_vanishes_after_it_was_listed_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, 0, 5)
    monkeypatch.setattr("pipeline.storage.chain_index._list_shards", lambda _: {"0123456789abcdef": 7})
    index = store.index("spectrum", CHAIN)
    assert (len(index), index.damaged) == (0, [])


# Open files


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("name", ["zarr.json", "score/c/0", "id/c", ".zarr", "spectrum/"])
def test_what_the_system_does_not_let_us_read_is_not_taken_for_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, 0, 5)}.zarr"
    before = snapshot(store.root)
    with monkeypatch.context() as patch:
        refuse(patch, code, name)
        way_out = "allow more open files" if code in (errno.EMFILE, errno.ENFILE) else "mend it and run again"
        match = rf"{name}.* could not be read \(.*\), which is not taken for damage; {re.escape(way_out)}"
        with pytest.raises(StoreError, match=match):
            store.index("spectrum", CHAIN)
        if name != "id/c":
            with pytest.raises(StoreError, match=match):
                store.shard(path).gather("score", np.arange(5))
    assert snapshot(store.root) == before
    assert len(store.index("spectrum", CHAIN)) == 5
    assert store.shard(path).gather("score", np.arange(5)).shape == (5,)


FEW_FILES = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    sys.path[:0] = [{tests!r}, {root!r}]
    import google_crc32c
    from pipeline.errors import StoreError
    from store_rows import *
    store = Store(Path({store!r}), writable=True)
    index = store.index("spectrum", CHAIN)
    store.shard(index.path(0)).gather("score", np.arange(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(open("/dev/null"))
    except OSError:
        pass
    try:
        store.shard(index.path(1)).gather("score", np.arange(1))
    except StoreError as error:
        print("told:", error)
    held.clear()
    print(len(Store(store.root).index("spectrum", CHAIN)), (store.root / "quarantine").exists())
"""


def test_a_process_that_runs_out_of_file_handles_says_so_and_quarantines_nothing(store: Store) -> None:
    for start in range(30):
        put(store, start, start + 1)
    text = textwrap.dedent(FEW_FILES.format(tests=str(ROOT / "tests"), root=str(ROOT), store=str(store.root)))
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    told, last = result.stdout.splitlines() or ("", result.stderr)
    assert "(Too many open files), which is not taken for damage; allow more open files (`ulimit -n`)" in told
    assert last == "30 False"


def maps(root: Path) -> int:
    return Path("/proc/self/maps").read_text().count(f"{root}/")


def test_shards_that_were_not_used_for_long_are_closed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.store.OPEN_SHARDS", 3)
    paths = [store.chain_dir("spectrum", CHAIN) / f"{put(store, n, n + 1)}.zarr" for n in range(8)]
    held = store.shard(paths[0]).reader("score")
    for path in paths:
        store.shard(path).gather("score", np.array([0]))
        assert store.shard(paths[1]) is store.shard(paths[1])
    assert maps(store.root) == 1 + 3
    assert held.rows(np.array([0])).tolist() == [0.0]
    kept = store.shard(paths[1])
    for path in paths:
        store.shard(path)
        assert store.shard(paths[1]) is kept, "what was used last goes first"
    del held
    assert maps(store.root) < 4


def test_threads_share_a_store_that_keeps_few_shards_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.store.OPEN_SHARDS", 2)
    paths = [store.chain_dir("spectrum", CHAIN) / f"{put(store, n, n + 1)}.zarr" for n in range(12)]

    def read(seed: int) -> bool:
        chosen = np.random.default_rng(seed).integers(0, 12, 150).tolist()
        found = [float(store.shard(paths[n]).gather("score", np.array([0]))[0]) for n in chosen]
        return found == chosen and len(store.index("spectrum", CHAIN)) == 12

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))
    assert len(store._shards) == 2


# Damage


def test_damaged_shards_are_listed_and_their_rows_absent(store: Store) -> None:
    kept, damaged = put(store, 0, 5), put(store, 5, 9)
    for warm in (False, True):
        store = Store(store.root, writable=True)
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
        store.save_indices()


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
    other.stage_shard("spectrum", CHAIN, ids, score, {"score": SCHEMA["score"]}, this_run())
    index = store.index("spectrum", CHAIN)
    assert (len(index), index.damaged) == (5, [])
    np.testing.assert_array_equal(np.sort(store.shard(path).gather("score", np.arange(5))), score["score"])


def test_a_recipe_is_written_once_and_belongs_to_one_chain(store: Store) -> None:
    store.write_recipe("spectrum", CHAIN, {"stage": "spectrum"})
    before = snapshot(store.root)
    store.write_recipe("spectrum", CHAIN, {"stage": "other"})
    assert snapshot(store.root) == before
    recorded = store.recipe("spectrum", CHAIN)
    assert recorded is not None
    assert (recorded["stage"], recorded["chain"]) == ("spectrum", CHAIN.hex())
    other = CHAIN[:8] + bytes(8)
    with pytest.raises(StoreError, match=f"belongs to chain {CHAIN.hex()}, expected {other.hex()}"):
        store.write_recipe("spectrum", other, {})
    with pytest.raises(StoreError, match="two chains share 16 digits"):
        store.index("spectrum", other)


@pytest.mark.parametrize("name", ["runs", "quarantine", "trash", "", ".cache", "a/b"])
def test_a_stage_cannot_take_a_name_of_the_store(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match=f"a stage cannot be named '{name}'"):
        store.chain_dir(name, CHAIN)


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


def test_a_run_of_another_host_lives_as_long_as_it_is_touched(store: Store) -> None:
    chain = store.chain_dir("spectrum", CHAIN)
    run = RunRecord("another-host", 1, 1)
    store.use(run, [chain])
    (file,) = (store.root / "runs").iterdir()
    content = file.read_bytes()
    old = time.time() - 4 * 86400
    os.utime(file, (old, old))
    assert not store.alive(run)
    store.touch(run)
    assert store.alive(run)
    os.utime(file, (old, old))
    assert Store(store.root, writable=True).clean_temporaries() == []
    assert not file.exists()
    store.touch(run)
    assert store.in_use() == {store.relative(chain)}
    assert file.read_bytes() == content


def test_entries_that_vanish_after_they_were_listed_do_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = make_rows(0, 3)[0]
    store.record_failure("spectrum", CHAIN, ids[0], "reason")
    gone = [f"{bytes(ids[1]).hex()}.json", f"{this_run().id}.json"]
    plain = store_module._json_names
    monkeypatch.setattr(
        "pipeline.storage.store._json_names", lambda folder: [*plain(folder), gone[folder.name == "runs"]]
    )
    assert store.in_use() == set()
    assert list(store.failures("spectrum", CHAIN)) == [bytes(ids[0])]
    store.clear_failures("spectrum", CHAIN, ids)
    assert store.clean_temporaries() == []


def test_a_broken_entry_of_a_run_is_named(store: Store) -> None:
    store.start_run()
    (file,) = (store.root / "runs").iterdir()
    file.write_text("[]")
    with pytest.raises(StoreError, match=rf"{file.name} is not the entry of a run .*; remove it if no run is on"):
        store.in_use()


# Failures


def test_clearing_failures_reads_none_of_them(store: Store) -> None:
    ids = make_rows(0, 3)[0]
    for one in ids:
        store.record_failure("spectrum", CHAIN, one, "reason")
    folder = store.chain_dir("spectrum", CHAIN) / "failures"
    for path in folder.iterdir():
        path.write_text("{")
    store.clear_failures("spectrum", CHAIN, ids[:2])
    assert [path.stem for path in folder.iterdir()] == [bytes(ids[2]).hex()]


def test_failures_are_kept_until_they_are_cleared(store: Store) -> None:
    ids = row_ids.to_bytes(make_rows(0, 3)[0])
    for number, one in enumerate(ids):
        store.record_failure("spectrum", CHAIN, one, f"reason {number}")
    found = store.failures("spectrum", CHAIN)
    assert {one: record["reason"] for one, record in found.items()} == {ids[k]: f"reason {k}" for k in range(3)}
    assert len(store.index("spectrum", CHAIN)) == 0
    store.clear_failures("spectrum", CHAIN, make_rows(0, 1)[0])
    store.clear_failures("spectrum", CHAIN, make_rows(0, 1)[0])
    store.clear_failures("spectrum", CHAIN, make_rows(1, 2)[0])
    assert list(store.failures("spectrum", CHAIN)) == [ids[2]]
    store.clear_failures("spectrum", CHAIN, make_rows(0, 9)[0])
    assert store.failures("spectrum", CHAIN) == {}


def test_planning_and_publishing_import_neither_zarr_nor_torch(store: Store) -> None:
    put(store, 0, 5)
    text = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        import numpy, pipeline.runs, pipeline.storage.upkeep, pipeline.dataset, pipeline.loader
        from pipeline.storage.store import Store
        store = Store(Path({str(store.root)!r}), writable=True)
        assert len(store.index("spectrum", bytes(range(16)))) == 5
        (shard,) = map(store.shard, store.chain_dir("spectrum", bytes(range(16))).glob("*.zarr"))
        arrays = {{name: shard.gather(name, numpy.arange(5)) for name in shard.schema}}
        store.stage_shard("spectrum", bytes(16), shard.ids, arrays, shard.schema, pipeline.runs.this_run())
        assert not {{"zarr", "torch", "dask", "scipy", "numpy.ma"}} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", text], check=True)
