"""Images in files of many, as `predict` and `bias` are given them: the same bytes, and no place stops another one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import lmdb
import pyarrow
import pyarrow.parquet
import pytest
from reader_rows import discover, picture

from pipeline.errors import ConfigError, SourceError
from pipeline.stage import RowError
from stages.images.readers.lmdb import Database
from stages.predicting.files import File, files

PICTURES = {name: picture(name) for name in ("0", "1", "2")}


def pack_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in PICTURES.items():
            entry = tarfile.TarInfo(f"in/{name}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def pack_parquet(path: Path, *more: None) -> None:
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": content, "path": None} for content in (*PICTURES.values(), *more)]
    pyarrow.parquet.write_table(pyarrow.table({"image": pyarrow.array(rows, kind)}), path, row_group_size=2)


def pack_lmdb(path: Path) -> None:
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for name, content in PICTURES.items():
            transaction.put(name.encode(), content)


def pack_manifest(path: Path) -> None:
    (path.parent / "pictures").mkdir(exist_ok=True)
    lines = ["path,group"]
    for name, content in PICTURES.items():
        (path.parent / "pictures" / f"{name}.png").write_bytes(content)
        lines.append(f"pictures/{name}.png,person {name}")
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("name", "pack", "rows"),
    [
        ("a.tar", pack_tar, ["in/0.png", "in/1.png", "in/2.png"]),
        ("a.parquet", pack_parquet, ["0.0", "0.1", "1.0"]),
        ("a_lmdb", pack_lmdb, ["0", "1", "2"]),
        ("a.csv", pack_manifest, ["pictures/0.png", "pictures/1.png", "pictures/2.png"]),
    ],
)
def test_each_place_gives_its_images(name: str, pack: object, rows: list[str], tmp_path: Path) -> None:
    assert callable(pack)
    pack(tmp_path / name)
    notes: list[str] = []
    found = files([tmp_path / name], notes)
    assert [one.name for one in found] == [f"{tmp_path / name}!{row}" for row in rows]
    assert [one.member for one in found] == rows
    assert [one.read() for one in found] == list(PICTURES.values())
    assert [one.group for one in found] == ([f"person {row}" for row in PICTURES] if name == "a.csv" else [""] * 3)
    assert notes == []


def test_a_folder_of_such_files_is_a_place(tmp_path: Path) -> None:
    pack_tar(tmp_path / "a.tar")
    pack_tar(tmp_path / "b.TAR")
    (tmp_path / ".c.tar").write_bytes(b"hidden")
    found = files([tmp_path], [])
    assert [one.member for one in found] == [f"{name}!in/{row}.png" for name in ("a.tar", "b.TAR") for row in PICTURES]
    assert [one.read() for one in found] == [*PICTURES.values()] * 2


def _reason(one: File) -> str:
    with pytest.raises(RowError) as caught:
        one.read()
    return str(caught.value)


def test_a_damaged_place_or_row_is_named_and_stops_no_other(tmp_path: Path) -> None:
    pack_tar(tmp_path / "cut.tar")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:900])
    (tmp_path / "packed.tgz").write_bytes(b"\x1f\x8b" + bytes(600))
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "list.csv").write_text("a;b\n1;2\n")
    pack_lmdb(tmp_path / "cut_lmdb")
    (tmp_path / "cut_lmdb/data.mdb").write_bytes((tmp_path / "cut_lmdb/data.mdb").read_bytes()[:8192])
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "a.tar")
    pack_parquet(tmp_path / "null.parquet", None)
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(entry)
    sentences = {
        "cut.tar": "unexpected end of data", "packed.tgz": "is a compressed tar file",
        "text.parquet": "is no whole Parquet file",
        "list.csv": "expected commas",
        "cut_lmdb": "is cut off", "piped": "found no regular file",
        "link.tar": "is a link, expected a file", "null.parquet": "the image is empty; nothing outside",
    }  # fmt: skip
    found = files([tmp_path / name for name in sentences], [])
    good = [one for one in found if one.place.name == "null.parquet" and one.member != "1.1"]
    bad = [one for one in found if one not in good]
    for one, (name, sentence) in zip(bad, sentences.items(), strict=True):
        assert one.place == tmp_path / name
        assert sentence in _reason(one)
        assert "\n" not in _reason(one)
    assert [one.read() for one in good] == list(PICTURES.values())


def test_a_folder_of_pictures_is_no_archive_and_an_empty_one_is_told(tmp_path: Path) -> None:
    pack_tar(tmp_path / "a.tar")
    (tmp_path / "p.png").write_bytes(PICTURES["0"])
    assert [one.name for one in files([tmp_path], [])] == [f"{tmp_path}/p.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="found no image"):
        files([tmp_path / "empty"], [])


@pytest.mark.parametrize("ending", ["tgz", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_a_compressed_tar_file_of_a_folder_is_told_to_be_unpacked(ending: str, tmp_path: Path) -> None:
    head = {"bz2": b"BZh9", "xz": b"\xfd7zXZ\0", "zst": b"\x28\xb5\x2f\xfd"}.get(ending.rpartition(".")[2], b"\x1f\x8b")
    (tmp_path / f"a.{ending}").write_bytes(head + bytes(600))
    (only,) = files([tmp_path], [])
    assert "unpack it to a .tar file" in _reason(only)


def test_an_error_of_the_library_names_the_entry_and_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_lmdb(tmp_path / "a_lmdb")
    database = Database(str(tmp_path / "a_lmdb"))

    class Broken:
        def begin(self) -> None:
            raise lmdb.CorruptedError("page 7")

    monkeypatch.setattr(database, "environment", Broken())
    with pytest.raises(RowError, match=r"the entry 1 of .*a_lmdb cannot be read \(page 7\)"):
        database.value("1")
    with pytest.raises(SourceError, match=r"a_lmdb: its keys cannot be read \(page 7\); download it again"):
        database.keys(None)


def test_an_entry_that_cannot_be_read_while_listing_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_lmdb(tmp_path / "a_lmdb")
    plain = Database.value

    def value(self: Database, key: str) -> bytes:
        if key == "1":
            raise RowError("page 7 is damaged")
        return plain(self, key)

    monkeypatch.setattr(Database, "value", value)
    good, bad, other = files([tmp_path / "a_lmdb"], [])
    assert (good.read(), other.read()) == (PICTURES["0"], PICTURES["2"])
    assert _reason(bad) == "page 7 is damaged"
    assert discover(tmp_path, lmdb="a_lmdb").problems == {1: "page 7 is damaged"}
