"""Stages `examine` and `audit`: rows of files, of arrays and of kept facts; what applies to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing_pictures import encoded, scene
from memory_rows import MemoryRows, context, rows_of, union

from pipeline.errors import StageError
from pipeline.stage import CONTENT, ID, Batch, Context, Field
from stages.audit import Audit, AuditConfig
from stages.auditing.audit import audit
from stages.auditing.examined import Row, of_content
from stages.auditing.stored import KEPT
from stages.auditing.stored import rows_of as stored_rows
from stages.examine import Examine, ExamineConfig
from stages.images.containers import FACTS, inspect

COUNT = 16
PNG = [encoded(scene(number, 16), icc_profile=b"profile") for number in range(COUNT)]
JPEG = [encoded(scene(50 + number, 16), "JPEG", quality=85) for number in range(COUNT)]


def kept(contents: list[bytes]) -> dict[str, Any]:
    """Rows of `examine`."""
    ids = np.array([hashlib.sha256(content).digest()[:16] for content in contents], ID)
    batch = Batch(ids, (ids,), ({},), reader=lambda row: contents[row])
    ctx = Context(0, "examine")
    values = dict(Examine().compute(ExamineConfig(), batch, ctx))
    assert not ctx.failures
    return values


def facts(contents: list[bytes]) -> dict[str, Any]:
    """Rows of `ingest`."""
    found = [inspect(content).facts() for content in contents]
    return {name: np.array([one[name] for one in found], kind.dtype) for name, kind in FACTS.items()}


def fit(folder: Path, of: MemoryRows, **more: MemoryRows) -> dict[str, Any]:
    ctx = context(folder, "audit")
    Audit().fit(AuditConfig(), {"of": of, **more}, ctx)
    found: dict[str, Any] = json.loads((ctx.out / "audit.json").read_text())
    assert found["verdict"] == ctx.facts["verdict"]
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in found["checks"]}


def test_what_is_kept_of_a_row_is_what_its_file_says() -> None:
    contents = [PNG[0], JPEG[0], encoded(scene(3, 16), "JPEG", comment=b"x" * 500)]
    rows, labels = stored_rows(rows_of("photos", 0, kept(contents)))
    assert labels.tolist() == [0, 0, 0]
    for row, content in zip(rows, contents, strict=True):
        coding, picture = of_content(content)
        assert row.coding == coding
        assert row.picture is not None
        assert np.array_equal(row.picture.statistics, picture.statistics)
        assert np.array_equal(row.picture.thumbnail, picture.thumbnail)
        assert (row.picture.digest, row.picture.phase) == (picture.digest, picture.phase)


def test_rows_of_examine_are_audited_as_their_files_are(tmp_path: Path) -> None:
    found = fit(tmp_path, union(rows_of("photos", 0, kept(PNG)), rows_of("fakes", 1, kept(JPEG))))
    read = [[Row(str(k), group=name, **dict(zip(("coding", "picture"), of_content(content), strict=True)))
             for k, content in enumerate(contents)] for name, contents in (("", PNG), ("", JPEG))]  # fmt: skip
    direct = audit(*read)
    said = verdicts(found)
    assert said["file_name"] == "does not apply"  # rows have no names
    assert {name: one for name, one in said.items() if name not in ("source_mix", "file_name", "unreadable")} == {
        one.name: one.verdict for one in direct.findings if one.name not in ("source_mix", "file_name", "unreadable")
    }
    assert (said["codec"], said["icc"], found["bias"]) == ("differs", "differs", "found")


def test_rows_of_ingest_are_compared_by_what_files_say(tmp_path: Path) -> None:
    found = fit(tmp_path, union(rows_of("photos", 0, facts(PNG)), rows_of("fakes", 1, facts(JPEG))))
    said = verdicts(found)
    assert (said["codec"], said["icc"]) == ("differs", "differs")
    for name in ("encoder", "grid8", "brightness", "learned", "metadata_text", "file_size_per_pixel"):
        assert said[name] == "does not apply", name


def test_arrays_have_no_container(tmp_path: Path) -> None:
    images = [np.stack([scene(start + number, 16) for number in range(COUNT)]) for start in (0, 100)]
    reals, fakes = rows_of("photos", 0, {"image": images[0]}), rows_of("fakes", 1, {"image": images[1] & 0xFC})
    found = fit(tmp_path, union(reals, fakes))
    said = verdicts(found)
    for name in ("codec", "quantization", "icc", "exif", "size", "alpha", "metadata_text", "file_name", "unreadable"):
        assert said[name] == "does not apply", name
    assert said["bit_depth"] == "differs"
    assert found["bias"] == "cannot tell"  # of sixteen rows one domain each says little
    ids = {f"fake/{bytes(one).hex()}" for one in fakes.ids}
    assert set(next(one for one in found["checks"] if one["name"] == "bit_depth")["rows"]) <= ids


def test_a_control_of_other_reals_turns_a_history_into_a_bias(tmp_path: Path) -> None:
    images = [np.stack([scene(start + number, 16) for number in range(COUNT)]) for start in (0, 100, 200)]
    reals, fakes = rows_of("photos", 0, {"image": images[0]}), rows_of("fakes", 1, {"image": images[1] & 0xFC})
    other = rows_of("other", 0, {"image": images[2] & 0xFC})
    assert fit(tmp_path / "one", union(reals, fakes), control=other)["bias"] == "found"


def test_a_class_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="'of' holds no fake rows; add some to it"):
        Audit().check_rows(AuditConfig(), {"of": {("train", 0): 4}})
    with pytest.raises(ValueError, match="'control' holds no real rows"):
        Audit().check_rows(AuditConfig(), {"of": {("train", 0): 4, ("test", 1): 2}, "control": {("test", 1): 2}})


def test_rows_of_which_nothing_is_known_are_refused(tmp_path: Path) -> None:
    rows = union(rows_of("a", 0, {"profile": np.zeros((4, 9))}), rows_of("b", 1, {"profile": np.zeros((4, 9))}))
    with pytest.raises(StageError, match="of real or of fake rows nothing is known"):
        fit(tmp_path, rows)
    with pytest.raises(ValueError, match="examine needs image files or an `image` field, found profile"):
        Examine().schema(ExamineConfig(), {"of": {"profile": Field("float32", (9,))}})
    assert Examine().schema(ExamineConfig(), {"of": {CONTENT: Field("V0")}}) == dict(KEPT)


def test_a_file_that_cannot_be_decoded_fails_its_row() -> None:
    contents = [b"", PNG[0]]
    ids = np.array([hashlib.sha256(content).digest()[:16] for content in contents], ID)
    ctx = Context(0, "examine")
    Examine().compute(ExamineConfig(), Batch(ids, (ids,), ({},), reader=lambda row: contents[row]), ctx)
    assert ctx.failures == {0: "the file is empty (0 bytes), expected an image"}
