"""Readers of containers: TFRecord, tar, LMDB, Parquet. The same pictures have the same ids wherever they lie."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from golden_files import GoldenDocument
from reader_rows import STAGE, discover, example, mask, picture, plant, record, table
from toy_project import Project

from pipeline.errors import ConfigError, SourceError, TouchstoneError
from pipeline.inputs.scan import Scan
from pipeline.open import open_node
from pipeline.stage import RowError
from stages.frames import Frames, FramesConfig
from stages.images.decoding import decode
from stages.images.readers.crc32c import crc32c as checksum
from stages.images.readers.crc32c import masked, slow_crc32c
from stages.ingest import IngestConfig


def contents(base: Path, **settings: Any) -> list[bytes]:
    """Bytes of all rows, each of which has the digest that is its id."""
    config = IngestConfig.model_validate(settings)
    found = STAGE.discover(config, Scan(base, None))
    read = [STAGE.read(config, place) for place in found.payload["location"]]
    assert [hashlib.sha256(one).digest()[:16] for one in read] == [row.tobytes() for row in found.id]
    return read


def pixels(content: bytes) -> np.ndarray:
    return decode(content, 10**6)


PICTURES = {f"{kind}/p{number}.{codec.lower()}": picture(f"{kind}{number}", (12, 10), codec)
            for number, (kind, codec) in enumerate([("0_real", "PNG"), ("1_fake", "PNG"), ("0_real", "WEBP"),
                                                    ("1_fake", "JPEG"), ("0_real", "PPM")])}  # fmt: skip


def pack(base: Path) -> dict[str, str]:
    """The five pictures in each kind of container: setting -> its value."""
    with zipfile.ZipFile(base / "all.zip", "w") as archive, tarfile.open(base / "all.tar", "w") as shard:
        for path, content in PICTURES.items():
            (base / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
            (base / "folder" / path).write_bytes(content)
            archive.writestr(path, content)
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
    write_parquet(
        base / "all.parquet", [("fake" if "1_fake" in path else "real", one) for path, one in PICTURES.items()]
    )
    write_lmdb(
        base / "all_train_lmdb", {hashlib.sha1(path.encode()).hexdigest(): one for path, one in PICTURES.items()}
    )
    return {"folder": "folder", "zip": "all.zip", "tar": "all.tar", "parquet": "all.parquet", "lmdb": "all_train_lmdb"}


def write_parquet(path: Path, rows: list[tuple[str, Any]], named: bool = True, size: int = 2) -> None:
    """As the hub has it: class 0 is fake."""
    names = ["fake", "real"]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = [one if one is None or isinstance(one, dict) else {"bytes": one, "path": "x"} for _, one in rows]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    content = pyarrow.table(
        {"image": pyarrow.array(images, kind), "label": pyarrow.array([names.index(word) for word, _ in rows])}
    )
    if named:
        content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(content, path, row_group_size=size)


def write_lmdb(path: Path, values: dict[str, bytes]) -> None:
    environment = lmdb.open(str(path), map_size=2**22)
    with environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    environment.close()


def test_the_same_pictures_have_the_same_ids_wherever_they_lie(tmp_path: Path) -> None:
    places = pack(tmp_path)
    expected = {hashlib.sha256(one).hexdigest()[:32]: int("1_fake" in path) for path, one in PICTURES.items()}
    for kind, place in places.items():
        layout = {} if kind in ("parquet", "lmdb") else {"layout": "auto"}
        rows = table(tmp_path, **{kind: place}, **layout)
        assert {row["id"] for row in rows} == set(expected), kind
        if kind != "lmdb":
            assert {row["id"]: row["label"] for row in rows} == expected, kind
        assert set(contents(tmp_path, **{kind: place})) == set(PICTURES.values()), kind


def test_a_pipeline_runs_on_each_kind_of_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the rows, so that places are picked, and a second run, which compares them with the first's."""
    places = pack(tmp_path)
    squares = [bytes((7 * place + number) % 256 for place in range(768)) for number in range(5)]
    (tmp_path / "all.tfrecords").write_bytes(b"".join(record(example((3, 16, 16), one)) for one in squares))
    places["tfrecord"] = "all.tfrecords"
    pixels = {}
    for kind, place in places.items():
        project = Project(
            tmp_path,
            monkeypatch,
            f"""
            nodes:
              rows: {{stage: ingest, {kind}: {place}, domain_by: none}}
              images: {{stage: equalize, of: {{of: rows, take: 3}}, size: 8}}
        """,
        )
        project.run()
        rows = open_node(project.file, "images")
        pixels[kind] = dict(zip(map(bytes, rows.ids), rows.array("image"), strict=True))
        assert len(pixels[kind]) == 3
        assert sum(project.run().computed.values()) == 0
    for kind in places.keys() - {"folder", "tfrecord"}:
        assert pixels[kind].keys() == pixels["folder"].keys()
        for name, pixel in pixels["folder"].items():
            assert np.array_equal(pixels[kind][name], pixel), kind


# TFRecord


@pytest.mark.golden("tfrecord", "expected.json")
def test_levels_of_golden_records_are_read(golden: GoldenDocument, tmp_path: Path) -> None:
    folder, arrays = golden.path.parent, golden.beside("expected.npz")
    name = golden["file"].partition("-r")[0]
    for path in folder.glob(f"{name}-r*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for key, expected in arrays.items():
        if not key.endswith("_chw"):
            continue
        read = contents(tmp_path, tfrecord=".", level=int(key[1:3]))
        assert np.array_equal([pixels(one) for one in read], expected.transpose(0, 2, 3, 1))
    largest = table(tmp_path, tfrecord=".", order="shuffled", domain_by="labels")
    assert [row["location"].rpartition("#")[2] for row in largest] == [
        str(at) for at, _ in golden["records_offset_length"]
    ]
    assert [row["domain"] for row in largest] == [f"class {one}" for one in arrays["labels"].argmax(axis=1)]
    found = discover(tmp_path, tfrecord=".", order="shuffled")
    source = [golden["source_index_of_record"].index(number) for number in range(golden["count"])]
    assert [arrays["order"].tolist().index(number) for number in range(golden["count"])] == source
    first = STAGE.read(IngestConfig(tfrecord="."), found.payload["location"][0])
    assert np.array_equal(pixels(first), arrays["source_hwc"][golden["source_index_of_record"][0]])


@pytest.mark.golden("tfrecord", "expected_other.npz")
def test_other_writers_of_golden_records_are_read(golden: Any, tmp_path: Path) -> None:
    folder = golden.path.parent
    for pattern, key in (("glowstyle-*", "glow_hwc"), ("gray-*", "gray_chw"), ("variant_*", "gray_chw")):
        for path in folder.glob(pattern):
            expected = golden[key] if key == "glow_hwc" else np.repeat(golden[key][0][:, :, None], 3, axis=2)
            assert np.array_equal(pixels(contents(folder, tfrecord=path.name)[0]), expected), path.name


@pytest.mark.golden("tfrecord", "expected.json")
def test_damaged_golden_records_are_named_in_one_sentence(golden: GoldenDocument) -> None:
    folder = golden.path.parent
    damaged = [path for pattern in ("bad_*", "compressed*") for path in sorted(folder.glob(pattern))]
    assert damaged
    for path in damaged:
        try:
            found = discover(folder, tfrecord=path.name)
        except SourceError as error:
            text = str(error)
            whole = golden["partial"].get(path.stem)
            assert whole is None or f"record {whole} " in text, text
        else:
            assert list(found.problems) == [golden["partial"].get(path.stem, 0)], path.name
            (text,) = found.problems.values()
        assert path.name in text
        assert "\n" not in text


@pytest.mark.golden("tfrecord", "crc32c.json")
def test_checksums_are_those_of_the_format(golden: GoldenDocument) -> None:
    for one in golden.content:
        data = bytes.fromhex(one["hex"])
        assert checksum(data) == slow_crc32c(data) == one["crc32c"]
        assert masked(one["crc32c"]) == one["masked"]


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((3, 5, 3), 45, None),
        ((3, 3, 3), 27, "does not tell where the channels are"),
        ((4, 4, 4), 64, "does not tell where the channels are"),
        ((3, 4, 4), 47, "its data have 47 bytes"),
        ((3, 0, 4), 0, "expected three sides of 1 to 16,384"),
    ],
)
def test_a_shape_tells_where_the_channels_are(tmp_path: Path, shape: tuple[int, ...], size: int, message: str) -> None:
    data = bytes(range(size))
    (tmp_path / "a.tfrecords").write_bytes(record(example(shape, data)))
    found = discover(tmp_path, tfrecord="a.tfrecords")
    if message is None:
        assert np.array_equal(pixels(contents(tmp_path, tfrecord="a.tfrecords")[0]).tobytes(), data)
    else:
        assert message in found.problems[0]


def test_a_claimed_length_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecords").write_bytes(record(b"x", 2**50))
    with pytest.raises(SourceError, match=r"record 0 has 1,125,899,906,842,624 bytes, of which the file holds"):
        discover(tmp_path, tfrecord="a.tfrecords")


def test_a_hundred_thousand_records_are_listed_in_seconds(tmp_path: Path) -> None:
    one = example((3, 4, 4), bytes(48))
    head = record(one)[:12]
    bodies = (one[:-48] + number.to_bytes(4, "little") * 12 for number in range(20_000))
    (tmp_path / "a.tfrecords").write_bytes(b"".join(head + body + mask(body) for body in bodies))
    start = time.process_time()
    found = discover(tmp_path, tfrecord="a.tfrecords")
    assert time.process_time() - start < 3.0 / 5 * 3  # room for a busy machine
    assert len(set(found.id.tolist())) == 20_000


def test_levels_and_names_that_are_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "a-r02.tfrecords").write_bytes(record(example((3, 4, 4), bytes(48))))
    with pytest.raises(ConfigError, match=r"has no level 5; expected one of 2"):
        discover(tmp_path, tfrecord=".", level=5)
    (tmp_path / "b-r02.tfrecords").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"found those of a, b; name one file"):
        discover(tmp_path, tfrecord=".")


# WebDataset


@pytest.mark.golden("webdataset", "awkward.json")
def test_samples_are_those_of_the_library(golden: GoldenDocument) -> None:
    (groups,) = (value for key, value in golden.content.items() if key.endswith("_groups"))
    expected = [key.removeprefix("./") for key, fields in groups if set(fields) & {"png", "jpg"}]
    found = table(golden.path.parent, tar="awkward.tar", label="real")
    assert [row["location"].partition("!")[2].rpartition(".")[0] for row in found] == expected
    notes = discover(golden.path.parent, tar="awkward.tar").notes
    assert any(f"{len(groups) - len(expected)} sample" in note and "without an image" in note for note in notes)


def test_images_that_no_sample_has_for_its_own_are_told(tmp_path: Path) -> None:
    """WebDataset takes 'img' for the key and '1.png' for the field; who has packed a folder does not know."""
    names = ("x.bmp", "img.1.png", "img.2.png", "v1.0_7.jpg.png", "y.jpg", "y.png")
    write_tar(tmp_path / "t.tar", {name: picture(name) for name in names})
    found = discover(tmp_path, tar="t.tar", label="real")
    assert sorted(Path(place).name for place in found.payload["location"]) == ["t.tar!x.bmp", "t.tar!y.png"]
    assert "t.tar: 2 samples without an image left out" in found.notes
    (note,) = (one for one in found.notes if "such as" in one)
    assert note.startswith("t.tar: 4 images left out, such as 'img.1.png': a key is a name up to its first dot")


def test_a_name_that_stands_twice_in_a_tar_file_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "t.tar", {"a/x.png": picture("1"), "./a/x.png": picture("2")})
    with pytest.raises(SourceError, match=r"holds two members 'a/x\.png', of which one would count; pack them anew"):
        discover(tmp_path, tar="t.tar", label="real")


@pytest.mark.golden("webdataset", "expected.json", whole=True)
def test_golden_shards_are_read(golden: GoldenDocument) -> None:
    (shard,) = golden.path.parent.glob("shard*.tar")
    rows = table(golden.path.parent, tar=shard.name, labels={0: "real", 1: "fake"})
    found = [(row["location"].partition("!")[2].rpartition(".")[0], row["label"], row["id"]) for row in rows]
    assert found == [(one["key"], one["cls"], one["sha256_png"][:32]) for one in golden["samples"]]
    with pytest.raises(ConfigError, match=r"'0', '1' .*say neither real nor fake"):
        discover(golden.path.parent, tar=shard.name)


def write_tar(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> None:
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            shard.addfile(entry)


def test_classes_of_samples_are_words(tmp_path: Path) -> None:
    one, two = picture("a"), picture("b")
    write_tar(tmp_path / "a.tar", {"a.png": one, "a.cls": b"fake\n", "b.json": b'{"label": "Real"}', "b.png": two})
    assert [row["label"] for row in table(tmp_path, tar="a.tar")] == [1, 0]


def test_damaged_tar_files_are_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.png": picture("a"), "b.png": picture("b", (40, 40))}, links=("c.png",))
    assert discover(tmp_path, tar="a.tar").problems == {2: "is a link, expected a file"}
    whole = (tmp_path / "a.tar").read_bytes()
    for size, name in ((1024 + 300, "a.png"), (1500, "a.png"), (3000, "b.png")):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(SourceError, match=rf"cut.tar: is (cut off|no tar file).*({name}|unexpected)"):
            discover(tmp_path, tar="cut.tar")
    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(SourceError, match=r"is a compressed tar file.*unpack it"):
        discover(tmp_path, tar="packed.tar")
    write_tar(tmp_path / "twice.tar", {"a.png": b"1", "b.png": b"2", "a.cls": b"3"})
    with pytest.raises(SourceError, match=r"the key 'a' comes twice"):
        discover(tmp_path, tar="twice.tar")


# LMDB


@pytest.mark.golden("lmdb", "expected.json", whole=True)
def test_golden_databases_are_read(golden: GoldenDocument) -> None:
    folder = golden.path.parent
    for path in folder.glob("*_lmdb"):
        if path.name.startswith("truncated"):
            with pytest.raises(SourceError, match="is cut off"):
                discover(folder, lmdb=path.name)
            continue
        rows = table(folder, lmdb=path.name)
        entries = golden["in_cursor_order"]
        assert [row["location"].rpartition("#")[2] for row in rows] == [one["key"] for one in entries]
        assert [row["id"] for row in rows] == [one["sha256"][:32] for one in entries]
        read = contents(folder, lmdb=path.name)
        for content, one in zip(read, entries, strict=True):
            if one["written_as"] in ("png", "webp_lossless"):
                assert hashlib.sha256(pixels(content).tobytes()).hexdigest() == one["pixels_sha256"]


def test_a_folder_of_databases_has_categories_and_splits(tmp_path: Path) -> None:
    for name in ("church_outdoor_train_lmdb", "church_outdoor_val_lmdb", "test_lmdb"):
        write_lmdb(tmp_path / name, {name[:3] + "1": picture(name), name[:3] + "0": picture(name + "0")})
    rows = table(tmp_path, lmdb=".")
    assert [(row["domain"], row["split"]) for row in rows[::2]] == [
        ("church_outdoor", "train"), ("church_outdoor", "val"), (None, "test")
    ]  # fmt: skip
    assert [row["location"].rpartition("#")[2] for row in table(tmp_path, lmdb="test_lmdb", first=1)] == ["tes0"]


def _read_cut(base: str) -> None:
    """In a process of its own: a mistake here would end it with a bus error."""
    try:
        discover(Path(base), lmdb="cut_lmdb")
    except TouchstoneError as error:
        print(error, file=sys.stderr)
        sys.exit(3)


def test_a_database_that_is_cut_off_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "a_lmdb", {f"{number:040x}": picture(str(number), (40, 40)) for number in range(12)})
    whole = (tmp_path / "a_lmdb/data.mdb").read_bytes()
    (tmp_path / "cut_lmdb").mkdir()
    for size in (len(whole) // 2, 8192, 4096, 100):
        (tmp_path / "cut_lmdb/data.mdb").write_bytes(whole[:size])
        child = multiprocessing.get_context("fork").Process(target=_read_cut, args=(str(tmp_path),))
        child.start()
        child.join()
        assert child.exitcode == 3, size


# Parquet


@pytest.mark.golden("parquet", "expected.json", whole=True)
def test_golden_tables_are_read(golden: GoldenDocument, tmp_path: Path) -> None:
    folder = golden.path.parent
    for path in folder.glob("train*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = table(tmp_path, parquet=".")
    expected = golden["rows"]
    assert [row["id"] for row in rows] == [one["sha256"][:32] for one in expected]
    assert [row["label"] for row in rows] == [int(one["label_name"] in ("fake", "ai")) for one in expected]
    assert {row["split"] for row in rows} == {"train"}
    contents(tmp_path, parquet=".")
    for path in folder.glob("bad_*.parquet"):
        found = discover(folder, parquet=path.name)
        assert sorted(found.problems) == [0, 1]


def test_rows_without_bytes_fail_and_nothing_outside_is_opened(tmp_path: Path) -> None:
    outside = {"bytes": None, "path": str(plant(tmp_path, "a.png") / "a.png")}
    write_parquet(tmp_path / "a.parquet", [("real", outside), ("fake", None), ("fake", picture("b"))])
    problems = discover(tmp_path, parquet="a.parquet").problems
    assert list(problems) == [0, 1]
    assert "a.png' in place of bytes; nothing outside" in problems[0]
    assert "the image is empty" in problems[1]
    with pytest.raises(RowError, match="nothing outside"):
        STAGE.read(IngestConfig(parquet="a.parquet"), f"parquet:{tmp_path}/a.parquet#0.0")


def test_numbers_of_classes_without_names_are_asked_for(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "test-00000-of-00001.parquet", [("real", picture("a")), ("fake", picture("b"))], named=False
    )
    with pytest.raises(ConfigError, match=r"labels '0', '1' .*say neither real nor fake"):
        discover(tmp_path, parquet=".")
    rows = table(tmp_path, parquet=".", labels={1: "real", 0: "fake"})
    assert [(row["label"], row["split"]) for row in rows] == [(0, "test"), (1, "test")]


def test_damaged_and_unfit_tables_are_told(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [("real", picture("a"))])
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"cut.parquet: is no whole Parquet file"):
        discover(tmp_path, parquet="cut.parquet")
    kind = pyarrow.list_(pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))
    pyarrow.parquet.write_table(pyarrow.table({"images": pyarrow.array([[]], kind)}), tmp_path / "lists.parquet")
    with pytest.raises(SourceError, match=r"has lists of images in images, expected one image for each row"):
        discover(tmp_path, parquet="lists.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "none.parquet")
    with pytest.raises(SourceError, match=r"has no column struct<bytes, path> of images, but n"):
        discover(tmp_path, parquet="none.parquet")


def test_a_missing_library_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(tmp_path)
    for library, settings, extra in (
        ("lmdb", {"lmdb": "all_train_lmdb"}, "lsun"),
        ("pyarrow", {"parquet": "all.parquet"}, "parquet"),
    ):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigError, match=rf"'{library}', which is not installed; install touchstone\[{extra}\]"):
            discover(tmp_path, **settings)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"'av', which is not installed; install touchstone\[video\]"):
        Frames().check(FramesConfig(width=8, height=8, limit=1), {})


def test_without_the_quick_checksum_a_note_says_what_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = example((3, 4, 4), bytes(48))
    (tmp_path / "a.tfrecords").write_bytes(record(data) + record(data)[:-1] + b"?")
    assert list(discover(tmp_path, tfrecord="a.tfrecords").problems) == [1]
    for module in ("crc32c", "tfrecord"):
        monkeypatch.setattr(f"stages.images.readers.{module}.is_quick", lambda: False)
    found = discover(tmp_path, tfrecord="a.tfrecords")
    assert dict(found.problems) == {}
    assert "a.tfrecords: checksums of the data of all records but the first are not checked" in " ".join(found.notes)
    (tmp_path / "b.tfrecords").write_bytes(record(data)[:-1] + b"?")
    assert list(discover(tmp_path, tfrecord="b.tfrecords").problems) == [0]


def test_readers_write_nothing_beside_the_data(tmp_path: Path) -> None:
    places = pack(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for kind, place in places.items():
        contents(tmp_path, **{kind: place})
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_lists_of_containers_are_remembered(tmp_path: Path) -> None:
    places = pack(tmp_path)
    later = 10**20
    for kind in ("tar", "parquet", "lmdb"):
        config = IngestConfig(**{kind: places[kind]})
        first, again = (Scan(tmp_path, tmp_path / "cache", clock=lambda: later) for _ in range(2))
        one = STAGE.discover(config, first)
        assert first.hashed == 5
        two = STAGE.discover(config, again)
        assert again.hashed == 0
        assert one.id.tolist() == two.id.tolist()
        assert list(one.payload["location"]) == list(two.payload["location"])
