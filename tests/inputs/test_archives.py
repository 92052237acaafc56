"""Zip files from other systems and with bad intent: what their members are called, and which are read."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.inputs import archives
from pipeline.inputs.archives import Archive
from pipeline.inputs.scan import Listing, Scan
from pipeline.planning.rows import Names, tabulate
from pipeline.stage import RowError
from stages.ingest import Ingest, IngestConfig

PERSONS = [f"person{number:02d}" for number in range(12)]


def pack(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def look(path: Path) -> Listing:
    return Scan(path.parent, None).archive(path.name, (".png",))


def changed(path: Path, change: dict[str, Any], only: str = "") -> None:
    """Overwrite fields of the entries in the directory of an archive: field -> value."""
    content = bytearray(path.read_bytes())
    places = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "packed": (20, "<I"), "size": (24, "<I"),
              "attributes": (38, "<I"), "offset": (42, "<I")}  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        at, entries = archive.start_dir, archive.infolist()
    for entry in entries:
        assert content[at : at + 4] == b"PK\x01\x02"
        name, extra, comment = struct.unpack_from("<HHH", content, at + 28)
        if not only or entry.filename == only:
            for field, value in change.items():
                struct.pack_into(places[field][1], content, at + places[field][0], value)
        at += 46 + name + extra + comment
    path.write_bytes(content)


# Names


def test_members_with_backslashes_lie_in_folders(tmp_path: Path) -> None:
    """36 images of 12 persons all became one group, in train."""
    members = {f"photos\\{person}\\{k}.png": f"{person} {k}".encode() for person in PERSONS for k in range(3)}
    pack(tmp_path / "all.zip", members)
    config = IngestConfig(zip="all.zip", group_by="folder", domain_by="folder")
    found = Ingest().discover(config, Scan(tmp_path, None))
    assert found.group == [f"photos/{person}" for person in PERSONS for _ in range(3)]
    assert found.domain == ["photos"] * 36
    assert found.payload["location"][0] == f"zip:{tmp_path}/all.zip!photos/person00/0.png"
    read = [Ingest().read(config, place) for place in found.payload["location"]]
    assert read == list(members.values())
    source = tabulate(found, "photos", 0, {"train": 0.4, "val": 0.3, "test": 0.3}, Names())
    assert len(np.unique(source.rows.group)) == 12
    assert len(np.unique(source.rows.split)) == 3
    note = "all.zip: 36 names with backslashes, which are read as folders, e.g. 'photos\\\\person00\\\\0.png'"
    assert found.notes == (note,)


def test_files_with_backslashes_in_their_names_lie_in_folders_too(tmp_path: Path) -> None:
    """So do tools for Linux unpack such an archive."""
    (tmp_path / "photos").mkdir()
    for person in PERSONS:
        (tmp_path / "photos" / f"photos\\{person}\\1.png").write_text(person)
    config = IngestConfig(folder="photos", group_by="folder", domain_by="folder")
    found = Ingest().discover(config, Scan(tmp_path, None))
    assert found.group == [f"photos/{person}" for person in PERSONS]
    assert found.domain == ["photos"] * 12
    assert [Ingest().read(config, place) for place in found.payload["location"]] == [p.encode() for p in PERSONS]
    assert found.notes == ("photos: 12 names read in another spelling, e.g. 'photos\\\\person00\\\\1.png'",)


def test_what_systems_add_is_left_out_and_counted(tmp_path: Path) -> None:
    hidden = ["__MACOSX/ann/._1.png", "ann/._1.png", "ann/.DS_Store", ".thumbnails/1.png", "ann/@eaDir/1.png/T.png"]
    pack(tmp_path / "all.zip", {"ann/1.png": b"one", "readme.txt": b"", **dict.fromkeys(hidden, b"no")})
    listing = look(tmp_path / "all.zip")
    assert listing.paths == ["ann/1.png"]
    assert listing.ignored == 1
    assert listing.notes == ("5 hidden members left out, e.g. '__MACOSX/ann/._1.png'",)


def test_paths_are_names_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    names = ["../../up.png", "/top.png", "./ann//1.png", "C:\\ann\\2.png", "ann/../bob/3.png"]
    pack(folder / "all.zip", {name: name.encode() for name in names})
    listing = look(folder / "all.zip")
    expected = {
        "../../up.png": names[0], "C:/ann/2.png": names[3], "ann/1.png": names[2], "bob/3.png": names[4],
        "top.png": names[1],
    }  # fmt: skip
    assert listing.paths == list(expected)
    assert listing.digests.tobytes() == b"".join(hashlib.sha256(name.encode()).digest() for name in expected.values())
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "er", "all.zip"]


def test_two_spellings_of_one_path_are_a_name_twice(tmp_path: Path) -> None:
    pack(tmp_path / "all.zip", {"ann/1.png": b"one", "ann\\1.png": b"two", "b.png": b"three"})
    assert look(tmp_path / "all.zip").problems == {0: "the archive holds 2 members of this name, expected one"}


def test_names_of_old_and_new_archives_are_read_and_an_archive_inside_is_passed_over(tmp_path: Path) -> None:
    pack(tmp_path / "all.zip", {"m\u00fcller/1.png": b"new", "inner.zip": b"PK"})
    content = (tmp_path / "all.zip").read_bytes()
    old = content.replace("m\u00fcller/".encode(), b"m\x81ller/\x2f").replace(b"\x00\x08", b"\x00\x00")
    assert look(tmp_path / "all.zip").paths == ["m\u00fcller/1.png"]
    assert look(tmp_path / "all.zip").ignored == 1
    (tmp_path / "all.zip").write_bytes(old)
    assert look(tmp_path / "all.zip").paths == ["m\u00fcller/1.png"], "code page 437"


def test_folders_and_links_are_no_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("x.png/", b"")
        archive.writestr("y.png\\", b"")
        link = zipfile.ZipInfo("z.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, b"/etc/hostname")
    listing = look(tmp_path / "all.zip")
    assert (listing.paths, listing.problems) == (["z.png"], {0: "is a link, expected a file"})


# Bombs


def test_a_member_has_a_budget_for_what_it_says_and_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 2**20)
    path = pack(tmp_path / "all.zip", {"big.png": bytes(2**20 + 1), "fits.png": bytes(2**20)})
    listing = look(path)
    assert list(listing.problems) == [0]
    assert listing.problems[0] == (
        "would unpack to 1 MiB, expected at most 1; if that is right, unpack the archive and name its folder"
    )
    changed(path, {"size": 100}, "big.png")
    assert "Bad CRC-32" in look(path).problems[0]
    changed(path, {"size": 100, "crc": zlib.crc32(bytes(100))}, "big.png")
    assert Archive(path).read("big.png") == bytes(100), "no more is unpacked than the entry says"


def test_a_bomb_is_unpacked_in_small_pieces(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {"bomb.png": bytes(2**26)})
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    listing = look(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert listing.digests.tobytes() == hashlib.sha256(bytes(2**26)).digest()
    config = IngestConfig(zip="all.zip")
    changed(path, {"size": 2**32 - 2})
    with pytest.raises(RowError, match=r"bomb\.png cannot be read from .*: would unpack to 4,096 MiB"):
        Ingest().read(config, f"zip:{path}!bomb.png")


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {f"{k}.png": bytes(2**16) for k in range(4)})
    with zipfile.ZipFile(path) as archive:
        first = archive.getinfo("0.png")
    changed(path, {"offset": first.header_offset}, "1.png")
    changed(path, {"packed": 10**6}, "3.png")
    listing = look(path)
    assert list(listing.problems) == [0, 1, 3]
    assert all("shares its bytes with another member" in reason for reason in listing.problems.values())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_all_ways_of_packing_are_read_and_damage_is_one_sentence(tmp_path: Path, method: int) -> None:
    content = np.random.default_rng(1).integers(0, 40, 5000, np.uint8).tobytes()
    with zipfile.ZipFile(tmp_path / "all.zip", "w", method) as archive:
        archive.writestr("a.png", content)
    whole = (tmp_path / "all.zip").read_bytes()
    assert Archive(tmp_path / "all.zip").read("a.png") == content
    told = []
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        (tmp_path / "all.zip").write_bytes(damaged)
        try:
            read = Archive(tmp_path / "all.zip").read("a.png")
        except (SourceError, RowError) as error:
            told.append(str(error))
        else:
            assert read == content
    assert len(told) > 10
    assert not [text for text in told if "\n" in text or "()" in text]


def test_encrypted_and_unknown_members_are_problems(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {"a.png": b"one", "b.png": b"two"})
    changed(path, {"flags": 1}, "a.png")
    changed(path, {"method": 99}, "b.png")
    assert look(path).problems == {
        0: "is encrypted; unpack the archive and name its folder",
        1: "cannot be unpacked (That compression method is not supported)",
    }


# Whole files


def test_a_cut_archive_is_called_cut_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.zip", {f"{k}.png": bytes(range(200)) for k in range(3)}).read_bytes()
    path = tmp_path / "all.zip"
    for length in range(4, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"all\.zip: is a zip file that is cut off: the directory at its end"):
            look(path)
    path.write_bytes(b"")
    with pytest.raises(SourceError, match=r"all\.zip: is empty \(0 bytes\), expected a zip file"):
        look(path)
    path.write_bytes(b"\x89PNG no archive")
    with pytest.raises(SourceError, match=r"all\.zip: expected a zip file, found something else"):
        look(path)


def test_a_name_that_is_no_utf8_although_it_says_so_is_one_sentence(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {"m\u00fc.png": b"x"})
    path.write_bytes(path.read_bytes().replace("m\u00fc".encode(), b"m\xff\xfe"))
    with pytest.raises(SourceError, match=r"all\.zip: is a damaged zip file .*copy or download it again"):
        look(path)


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    """A program that unpacks itself."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", b"one")
    (tmp_path / "all.zip").write_bytes(b"MZ program" + stream.getvalue())
    assert look(tmp_path / "all.zip").problems == {}


def test_a_damaged_archive_fails_its_rows_when_it_is_read_later(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {"a.png": b"one"})
    config = IngestConfig(zip="all.zip")
    place = f"zip:{path}!a.png"
    assert Ingest().read(config, place) == b"one"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RowError, match=r"a\.png cannot be read from .*cut off"):
        Ingest().read(config, place)
