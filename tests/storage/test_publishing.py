"""Publishing: whole or not at all, under second writers, kills and full disks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from store_rows import CHAIN, ROOT, SCHEMA, make_rows, no_space, put, snapshot
from store_writers import killed_put, two_puts
from warm_process import warm

from pipeline.errors import ConflictError, StoreError
from pipeline.runs import this_run
from pipeline.storage.shards import shard_name
from pipeline.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", writable=True)


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
        store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run())
    assert snapshot(store.root) == before


def test_a_damaged_shard_in_the_way_is_quarantined_and_replaced(store: Store) -> None:
    name = put(store, 0, 5)
    file = store.chain_dir("spectrum", CHAIN) / f"{name}.zarr" / "score" / "c" / "0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    put(store, 0, 5)
    store.shard(file.parents[2]).verify()
    assert len(list((store.root / "quarantine").glob("*.json"))) == 1


def test_two_processes_that_write_the_same_shards_leave_one_of_each(store: Store) -> None:
    assert warm().run(two_puts, {"store": str(store.root)}) == 0
    directory = store.chain_dir("spectrum", CHAIN)
    expected = {f"{shard_name(make_rows(start, start + 10)[0])}.zarr" for start in range(0, 60, 10)}
    assert {path.name for path in directory.iterdir()} == expected
    for path in directory.iterdir():
        store.shard(path).verify()


POINTS = [
    *(f"{where} {name}" for name in ("id", "digest", "image", "score") for where in ("inside", "half of", "after")),
    "before the root attributes", "before fsync", "after fsync", "before rename", "after rename",
]  # fmt: skip


def test_the_named_points_are_all_points(store: Store) -> None:
    points: list[str] = []
    put(store, 0, 5, points.append)
    assert points == POINTS


@pytest.mark.parametrize("point", ["inside image", "half of image", "before fsync", "before rename", "after rename"])
def test_a_kill_leaves_no_readable_half_and_the_rerun_gives_the_same_bytes(store: Store, point: str) -> None:
    untouched = Store(store.root.with_name("untouched"), writable=True)
    put(untouched, 0, 5)
    assert warm().run(killed_put, {"store": str(store.root), "point": point}) == -signal.SIGKILL
    rows = 5 if point == "after rename" else 0
    assert len(store.index("spectrum", CHAIN)) == rows
    assert store.index("spectrum", CHAIN).damaged == []
    removed = store.clean_temporaries()
    assert len(removed) == (0 if rows else 1)
    put(store, 0, 5)
    shutil.rmtree(store.root / ".cache", ignore_errors=True)
    shutil.rmtree(store.root / "runs")
    assert snapshot(store.root) == snapshot(untouched.root)


@pytest.mark.parametrize("point", ["inside image", "before fsync", "before rename"])
def test_a_full_disk_leaves_the_store_as_it_was(store: Store, point: str) -> None:
    put(store, 0, 5)
    before = snapshot(store.root)
    with pytest.raises(StoreError, match=r"the disk is full: .* could not be written .*free some space and run again"):
        put(store, 5, 9, lambda reached: no_space() if reached == point else None)
    assert snapshot(store.root) == before


def test_a_shard_of_one_field_costs_eight_flushes_one_per_file_and_one_of_the_directory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, arrays = make_rows(0, 5)
    flushed: list[str] = []
    plain = os.fsync

    def counted(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    store.stage_shard("spectrum", CHAIN, ids, {"image": arrays["image"]}, {"image": SCHEMA["image"]}, this_run())
    *files, last = flushed
    inside = sorted(re.sub(r"^.*\.tmp/", "", path) for path in files)
    assert inside == ["digest/c/0/0", "digest/zarr.json", "id/c/0/0", "id/zarr.json", "image/c/0/0/0",
                      "image/zarr.json", "zarr.json"]  # fmt: skip
    assert last == str(store.chain_dir("spectrum", CHAIN))


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
    from pipeline.storage.store import Store
    from store_rows import *
    store = Store(Path({store!r}) / "store", writable=True)
    put(store, 0, 5)
    ids, _ = make_rows(5, 9)
    big = np.random.default_rng(0).integers(0, 255, (4, 2**20), dtype=np.uint8)
    before = snapshot(store.root)
    try:
        store.stage_shard("spectrum", CHAIN, ids, {{"big": big}}, {{"big": Field("uint8", (2**20,))}}, this_run())
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
