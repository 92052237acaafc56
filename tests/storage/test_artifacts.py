"""Artifacts: one directory each, checked when opened, made by one process at a time."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from store_rows import CHAIN, ROOT, make_rows, refuse, snapshot

from pipeline import ids as row_ids
from pipeline.errors import ConflictError, Interrupted, StoreError
from pipeline.runs import this_run
from pipeline.storage.artifacts import consumed_rows
from pipeline.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", writable=True)


def make_artifact(store: Store, text: str = "weights", key: bytes = CHAIN, **info: Any) -> Any:
    out = store.temporary(store.artifact_dir("train", key), this_run())
    (out / "plots").mkdir()
    (out / "model.safetensors").write_text(text)
    (out / "plots" / "a.png").write_text("png")
    return store.publish_artifact("train", key, out, info, {"on/": make_rows(0, 4)[0], "val": make_rows(9, 10)[0]})


def test_an_artifact_records_its_files_and_the_ids_it_was_made_from(store: Store) -> None:
    made = make_artifact(store, node="svm", facts={"C": 1.0})
    found = store.artifact("train", CHAIN)
    assert found == made
    assert found is not None
    assert (found.node, found.key, found.info["facts"]) == ("svm", CHAIN.hex(), {"C": 1.0})
    assert set(found.info["files"]) == {"model.safetensors", "plots/a.png", "consumed.npy"}
    assert found.info["consumed"]["on/"]["count"] == 4
    rows = consumed_rows(found)
    assert {name: row_ids.to_bytes(some) for name, some in rows.items()} == {
        "on/": sorted(row_ids.to_bytes(make_rows(0, 4)[0])),
        "val": row_ids.to_bytes(make_rows(9, 10)[0]),
    }
    assert store.artifact("train", CHAIN.hex()) == found


def test_the_second_result_of_a_key_is_dropped_or_a_loud_error(store: Store) -> None:
    make_artifact(store)
    before = snapshot(store.root)
    make_artifact(store, seconds=12)
    assert snapshot(store.root) == before
    with pytest.raises(ConflictError, match=r"train: two results .* differ in model\.safetensors"):
        make_artifact(store, "other")
    assert snapshot(store.root) == before


def test_a_damaged_artifact_is_absent_and_quarantined_only_by_who_may_write(store: Store) -> None:
    path = make_artifact(store).path
    (path / "model.safetensors").write_text("x")
    assert Store(store.root).artifact("train", CHAIN) is None
    assert path.exists()
    assert store.artifact("train", CHAIN) is None
    assert not path.exists()
    make_artifact(store)
    (path / "model.safetensors").write_text("WEIGHTS")  # the same size: met by who makes it again
    make_artifact(store)
    assert (path / "model.safetensors").read_text() == "weights"


@pytest.mark.parametrize("name", ["artifact.json", "model.safetensors"])
def test_an_artifact_that_cannot_be_read_now_is_not_taken_for_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = make_artifact(store)
    before = snapshot(store.root)
    with monkeypatch.context() as patch:
        refuse(patch, errno.EMFILE, str(made.path / name))
        with pytest.raises(StoreError, match=rf"{name} could not be read \(Too many open files\), which is not taken"):
            store.artifact("train", CHAIN)
        with pytest.raises(StoreError, match="which is not taken for damage"):
            make_artifact(store)
    assert snapshot(store.root) == before
    assert store.artifact("train", CHAIN) == made


def test_scratch_is_kept_between_attempts(store: Store) -> None:
    (store.scratch(CHAIN) / "checkpoint").write_text("step 3")
    assert (store.scratch(CHAIN.hex()) / "checkpoint").read_text() == "step 3"


HOLDER = """
    import sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from pipeline.storage.store import Store
    with Store(Path({store!r})).lease(bytes(range(16))):
        print("held", flush=True)
        input()
"""


def test_a_lease_excludes_another_process_and_ends_with_its_death(store: Store) -> None:
    text = textwrap.dedent(HOLDER.format(root=str(ROOT), store=str(store.root)))
    holder = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    answers = iter([False, False, True])
    with (
        pytest.raises(Interrupted, match="stopped while another run works on"),
        store.lease(CHAIN, poll_s=0.01, stopping=lambda: next(answers)),
    ):
        pass
    with store.lease(bytes(16)):  # another key is free
        pass
    holder.kill()
    holder.communicate()
    with store.lease(CHAIN, poll_s=0.01):
        pass
    with store.lease(CHAIN, poll_s=0.01):
        pass
