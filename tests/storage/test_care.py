"""Care of the store: damage is found, compaction changes no row, garbage is only what nobody refers to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import ids as row_ids
from pipeline.commands.examine import verify
from pipeline.errors import ConflictError, DamagedShardError, StoreError
from pipeline.runs import RunRecord, this_run
from pipeline.stage import Field
from pipeline.storage import upkeep as care
from pipeline.storage.shards import nothing
from pipeline.storage.store import Store

SCHEMA = {"image": Field("uint8", (4,)), "score": Field("float32")}
CHAIN = bytes(range(16))


def make_rows(numbers: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    numbers = np.asarray(numbers)
    ids = row_ids.from_bytes((int(n) * 7919 % 251).to_bytes(8, "little") + bytes(8) for n in numbers)
    return ids, {"image": (numbers[:, None] * np.arange(4)).astype(np.uint8), "score": numbers.astype(np.float32)}


def put(store: Store, numbers: Any) -> str:
    ids, arrays = make_rows(numbers)
    store.write_recipe("spectrum", CHAIN, {})
    return store.stage_shard("spectrum", CHAIN, ids, arrays, SCHEMA, this_run())


def values(store: Store) -> dict[bytes, tuple[bytes, float]]:
    index = store.index("spectrum", CHAIN)
    found = {}
    for row_id, number, row in zip(row_ids.to_bytes(index.ids), index.shard, index.row, strict=True):
        shard = store.shard(index.path(number))
        found[row_id] = (shard.gather("image", np.array([row])).tobytes(), float(shard.gather("score", [row])[0]))
    return found


def files(store: Store) -> dict[str, bytes]:
    folder = store.chain_dir("spectrum", CHAIN)
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", writable=True)


def compact(store: Store, numbers: Any, rows: int = 8, kill: Any = nothing) -> tuple[int, int]:
    return care.compact(store, "spectrum", CHAIN, make_rows(numbers)[0], rows, this_run(), kill)


@pytest.mark.parametrize("cuts", [[range(20)], [range(3), range(3, 17), range(17, 20)], [range(19, -1, -1)]])
def test_compacted_files_depend_on_the_set_of_rows_only(store: Store, cuts: list[range]) -> None:
    reference = Store(store.root.with_name("reference"), writable=True)
    put(reference, range(25))
    compact(reference, range(20))
    for cut in cuts:
        put(store, cut)
    compact(store, list(range(20))[::-1])
    assert files(store) == files(reference)
    assert len(store.index("spectrum", CHAIN).names) == 3
    assert compact(store, range(20)) == (0, 0)


def test_compaction_keeps_values_and_drops_unwanted_rows(store: Store) -> None:
    put(store, range(13))
    put(store, range(10, 30))
    before = values(store)
    wanted = set(row_ids.to_bytes(make_rows(range(5, 25))[0]))
    assert compact(store, range(5, 25)) == (3, 2)
    assert values(store) == {row_id: value for row_id, value in before.items() if row_id in wanted}
    assert verify(store) == []


class _Killed(Exception):
    pass


@pytest.mark.parametrize("last", range(1, 8))
def test_compaction_can_die_at_any_point_and_loses_no_row(store: Store, last: int) -> None:
    put(store, range(13))
    put(store, range(13, 20))
    before = values(store)
    points = [0]

    def kill(point: str) -> None:
        if point in ("before rename", "after a new shard", "after an old shard"):
            points[0] += 1
            if points[0] == last:
                raise _Killed("killed here")

    with pytest.raises(_Killed, match="killed here"):
        compact(store, range(20), kill=kill)
    assert values(store) == before
    compact(store, range(20))
    assert values(store) == before
    assert len(store.index("spectrum", CHAIN).names) == 3


def test_compaction_refuses_when_a_wanted_row_is_missing(store: Store) -> None:
    put(store, range(5))
    before = files(store)
    with pytest.raises(StoreError, match="lacks 2 of 7 wanted rows; run the pipeline, then compact"):
        compact(store, range(7))
    assert files(store) == before


def test_compaction_does_not_copy_a_damaged_row(store: Store) -> None:
    path = store.chain_dir("spectrum", CHAIN) / f"{put(store, range(5))}.zarr"
    put(store, range(5, 9))
    file = path / "score" / "c" / "0"
    file.write_bytes(b"\x01" + file.read_bytes()[1:])
    with pytest.raises(DamagedShardError, match="inner chunk 0 is damaged") as caught:
        compact(store, range(9))
    assert caught.value.shard == str(path)
    assert len(store.index("spectrum", CHAIN).names) == 2


def test_old_shards_stay_while_another_live_run_reads_the_chain(store: Store) -> None:
    put(store, range(10))
    put(store, range(10, 20))
    reader = RunRecord("another-host", 7, 7)
    store.use(reader, [store.chain_dir("spectrum", CHAIN)])
    assert compact(store, range(20)) == (3, 0)
    assert len(store.index("spectrum", CHAIN).names) == 5
    store.finish_run(reader)
    assert compact(store, range(20)) == (0, 2)


def test_shards_that_are_to_be_kept_stay_beside_the_compacted_ones(store: Store) -> None:
    kept = put(store, range(10))
    put(store, range(10, 20))
    ids, wanted = make_rows(range(20))[0], make_rows(range(5, 20))[0]
    for expected in ((2, 1), (0, 0)):
        found = care.compact(store, "spectrum", CHAIN, wanted, 8, this_run(), keep={kept})
        assert found == expected
        assert store.index("spectrum", CHAIN).contains(ids).all()
        assert kept in store.index("spectrum", CHAIN).names


def make_artifact(store: Store, key: bytes = CHAIN) -> Path:
    out = store.temporary(store.artifact_dir("train", key), this_run())
    (out / "model").write_text("weights")
    return store.publish_artifact("train", key, out, {}).path


def test_verify_finds_each_damage_and_names_its_place(store: Store) -> None:
    flipped = store.chain_dir("spectrum", CHAIN) / f"{put(store, range(5))}.zarr"
    cut = store.chain_dir("spectrum", CHAIN) / f"{put(store, range(5, 9))}.zarr"
    put(store, range(9, 12))
    artifact = make_artifact(store)
    make_artifact(store, bytes(16))
    assert verify(store) == []
    file = flipped / "image" / "c" / "0" / "0"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    (cut / "digest" / "c" / "0" / "0").write_bytes(b"")
    (artifact / "model").write_text("WEIGHTS")
    assert {problem.path for problem in verify(store)} == {flipped, cut, artifact}
    assert [problem.path for problem in verify(store, deep=False)] == [cut]
    (artifact / "model").unlink()
    reasons = {problem.path: problem.reason for problem in verify(store, deep=False)}
    assert reasons[artifact] == f"{artifact / 'model'} is damaged: found no file, expected 7 bytes"
    assert reasons[cut].startswith(f"{cut / 'digest/c/0/0'} has 0 bytes, expected")
    assert verify(store, directories=[store.artifact_dir("train", bytes(16))]) == []


def test_gc_removes_only_what_nobody_refers_to_and_only_when_told(store: Store) -> None:
    put(store, range(5))
    chain = store.chain_dir("spectrum", CHAIN)
    used, unused = make_artifact(store), make_artifact(store, bytes(16))
    reader = RunRecord("another-host", 7, 7)
    store.use(reader, [used])
    (store.scratch(bytes(16)) / "checkpoint").write_text("step")
    (store.scratch(b"y" * 16) / "checkpoint").write_text("step")
    pending = store.artifact_dir("train", b"y" * 16)
    seen = {item.path: item for item in care.gc(store, {chain, pending}, grace_s=0)}
    assert seen[chain].kept == "the plan or a manifest refers to it"
    assert seen[used].kept == "a live run uses it"
    assert seen[unused].kept == ""
    assert seen[unused].size == sum(one.stat().st_size for one in unused.iterdir())
    assert seen[store.scratch(b"y" * 16)].kept == "what is wanted may go on from it"
    assert seen[store.scratch(bytes(16))].kept == ""
    assert unused.exists()
    young = care.gc(store, {chain}, apply=True)
    assert all(item.kept for item in young)
    assert next(item for item in young if item.path == unused).kept == "changed less than 60 minutes ago"
    care.gc(store, {chain, pending}, apply=True, grace_s=0)
    assert {path.exists() for path in (chain, used)} == {True}
    assert not unused.exists()
    assert sorted(path.name for path in (store.root / "scratch").iterdir()) == [(b"y" * 8).hex()]
    assert list((store.root / "trash").iterdir()) == []
    assert len(store.index("spectrum", CHAIN)) == 5


def test_gc_leaves_alone_what_the_store_has_not_written(store: Store) -> None:
    """A store whose root is a folder of the user's: theses, photographs, and folders called like ours."""
    put(store, range(4))
    chain = store.chain_dir("spectrum", CHAIN)
    theirs = [
        "photos/ann/1.png", "thesis/chapters/one.tex", "train/00000000deadbeef/model.pt", "scratch/notes/a.txt",
        "scratch/0123456789abcdef.txt", "trash/old/photo.png", "trash/0123456789abcdef/photo.png", "runs/first/log.txt",
        "spectrum/mine/x.txt", "wanted/list/a.txt", "quarantine/q/a.txt",
    ]  # fmt: skip
    for name in theirs:
        place = store.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    (store.root / "scratch" / "fedcba9876543210").mkdir()
    found = care.gc(store, [], apply=True, grace_s=0.0)
    assert {item.path for item in found} == {chain, store.root / "scratch" / "fedcba9876543210"}
    assert not chain.exists()
    assert {str(one.relative_to(store.root)) for one in store.root.rglob("*") if one.is_file()} == set(theirs)
    assert verify(store) == []


def test_gc_and_verify_pass_over_what_vanishes_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, range(5))
    gone = store.chain_dir("spectrum", bytes(16))
    plain = care.entries
    monkeypatch.setattr("pipeline.storage.upkeep.entries", lambda store: [*plain(store), gone])
    assert [item.path for item in care.gc(store, set(), grace_s=0)] == plain(store)
    monkeypatch.setattr("pipeline.commands.examine.check_sizes", lambda path, _: _vanish(path))
    assert verify(store, deep=False, directories=plain(store)) == []


def _vanish(path: Path) -> None:
    shutil.rmtree(path)
    raise DamagedShardError("gone", str(path))


def test_gc_on_an_empty_store_finds_nothing(store: Store) -> None:
    assert care.gc(store, set(), apply=True) == []
    assert verify(store) == []


def test_an_accepted_recipe_is_remembered_and_chains_of_aliases_are_resolved(store: Store) -> None:
    first, second, third = (bytes([k]) * 16 for k in (1, 2, 3))
    care.accept(store, second, first)
    care.accept(store, third, second)
    assert store.aliases() == {second.hex(): first.hex(), third.hex(): first.hex()}
    care.accept(store, third, first)
    with pytest.raises(ConflictError, match="nothing to accept"):
        care.accept(store, first, third)
    with pytest.raises(ConflictError, match="is already accepted as 010101010101, not as 090909090909"):
        care.accept(store, third, bytes([9]) * 16)
    care.accept(store, first, bytes([8]) * 16)
    assert set(store.aliases().values()) == {"08" * 16}
    (store.root / "aliases.json").write_text("{")
    with pytest.raises(StoreError, match=r"aliases\.json cannot be read"):
        store.aliases()


def test_compaction_of_shards_that_vanish_meanwhile_is_harmless(store: Store) -> None:
    put(store, range(10))
    put(store, range(10, 20))

    def vanish(point: str) -> None:
        if point == "after an old shard":
            for path in store.chain_dir("spectrum", CHAIN).glob("*.zarr"):
                if len(store.shard(path).ids) == 10:
                    shutil.rmtree(path)

    assert compact(store, range(20), kill=vanish) == (3, 2)
    assert len(values(store)) == 20
