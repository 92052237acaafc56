"""Places that an audit reads: whatever packs the images, tables that describe them, hostile files."""

from __future__ import annotations

import csv
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from auditing_pictures import encoded, folder, scene
from command_line import Command, command

from stages.auditing.examined import Row
from stages.auditing.reading import examined, source
from stages.auditing.sources import audited

Contents = Mapping[str, bytes]


def zipped(place: Path, contents: Contents) -> Path:
    with zipfile.ZipFile(place.with_suffix(".zip"), "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return place.with_suffix(".zip")


def tarred(place: Path, contents: Contents) -> Path:
    with tarfile.open(place.with_suffix(".tar"), "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return place.with_suffix(".tar")


def tarred_in_two(place: Path, contents: Contents) -> Path:
    place.mkdir()
    names = list(contents)
    for number, part in enumerate((names[:5], names[5:])):
        tarred(place / str(number), {name: contents[name] for name in part})
    return place


def in_parquet(place: Path, contents: Contents) -> Path:
    values = [{"bytes": content, "path": name} for name, content in contents.items()]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(values, kind)})
    pyarrow.parquet.write_table(table, place.with_suffix(".parquet"), row_group_size=3)
    return place.with_suffix(".parquet")


def in_lmdb(place: Path, contents: Contents) -> Path:
    with lmdb.open(str(place), map_size=2**24) as database, database.begin(write=True) as transaction:
        for name, content in contents.items():
            transaction.put(name.encode(), content)
    return place


PACKERS: tuple[Callable[[Path, Contents], Path], ...] = (zipped, tarred, tarred_in_two, in_parquet, in_lmdb)


def classes(count: int = 10) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Reals with a profile, and fakes of which one is broken."""
    reals = {f"{number:05d}.png": encoded(scene(number), icc_profile=b"profile") for number in range(count)}
    fakes = {f"{number:05d}.png": encoded(scene(50 + number)) for number in range(count)}
    return reals, {**fakes, f"{count // 3:05d}.png": b"<html>"}


def rows(place: Path) -> list[Row]:
    return examined(source(place))


def known(row: Row) -> tuple[Any, ...]:
    """What an audit compares."""
    seen = row.picture and (row.picture.digest, row.picture.statistics.tolist(), row.picture.features.tolist())
    return row.file, bool(row.problem), row.coding, seen


@pytest.mark.parametrize("pack", PACKERS)
def test_rows_are_the_same_whatever_packs_the_images(pack: Callable[[Path, Contents], Path], tmp_path: Path) -> None:
    _, fakes = classes()
    packed = pack(tmp_path / "packed", fakes)
    found = rows(packed)
    assert [known(row) for row in found] == [known(row) for row in rows(folder(tmp_path / "f", list(fakes.values())))]
    assert [row.named for row in found] == [pack not in (in_parquet, in_lmdb)] * 10
    assert "HTML" in found[3].problem
    names = {
        zipped: "00003.png", tarred: "00003.png", tarred_in_two: "0.tar!00003.png", in_parquet: "1.0",
        in_lmdb: "00003.png",
    }  # fmt: skip
    assert found[3].name == names[pack]


def test_keys_of_a_database_are_no_names_of_files(tmp_path: Path) -> None:
    reals, fakes = classes(3)
    found, notes = audited(in_lmdb(tmp_path / "r", reals), in_parquet(tmp_path / "f", fakes), None, 1)
    assert {one.name: one.verdict for one in found.findings}["file_name"] == "does not apply"
    assert {one.name: (one.verdict, one.n_fake) for one in found.findings}["unreadable"] == ("cannot tell", 3)
    assert any("f.parquet: 0.1: is an HTML" in note for note in notes), notes


def test_a_folder_with_images_is_one_of_images_whatever_lies_beside_them(tmp_path: Path) -> None:
    reals, fakes = classes()
    real, fake = (folder(tmp_path / name, list(one.values())) for name, one in (("real", reals), ("fake", fakes)))
    tarred(fake / "more", fakes)
    assert len(rows(fake)) == 10
    assert [row.name for row in rows(real)] == list(reals)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_table_inside_or_beside_an_archive_gives_groups(
    pack: Callable[[Path, Contents], Path], tmp_path: Path
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "group", "split"])
    writer.writeheader()
    for number in range(10):
        writer.writerow({"file": f"{number:05d}.png", "group": "one", "split": ("train", "test")[number % 2]})
    reals, fakes = classes()
    real = pack(tmp_path / "real", {**reals, "manifest.csv": text.getvalue().encode()})
    fake = pack(tmp_path / "fake", fakes)
    (tmp_path / "fake.csv").write_text(text.getvalue())
    for place in (real, fake):
        assert [(row.group, row.split) for row in rows(place)] == [("one", "train"), ("one", "test")] * 5


def test_labels_that_part_the_rows_of_a_class_are_said(tmp_path: Path) -> None:
    labeled = {f"{n}.{end}": one for n in range(6) for end, one in (("png", encoded(scene(n))), ("cls", b"real"))}
    labeled["5.cls"] = b"fake"
    assert any("its labels call 5 real and 1 fake" in note for note in source(tarred(tmp_path / "a", labeled)).notes)
    other = {f"{n}.{end}": one for n in range(6) for end, one in (("png", encoded(scene(n))), ("cls", b"7"))}
    assert not any(
        "its labels" in note for note in source(tarred(tmp_path / "b", other)).notes
    )  # and no reason to stop


@pytest.fixture
def touchstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in a folder."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


GOOD = encoded(scene(1))
PHOTO = encoded(scene(1), "JPEG")

HOSTILE: dict[str, bytes] = {
    "empty.png": b"",
    "one.gif": b"G",
    "text.jpg": b"no picture, " * 9,
    "page.png": b"<!DOCTYPE html><p>moved</p>",
    "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    "cut.png": GOOD[:-40],
    "cut.jpg": PHOTO[: len(PHOTO) // 2],
    "head.jpg": PHOTO[:20],
    "flipped.png": GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:],
    "wide.png": png(2**31 - 1, 1),
    "bomb.png": png(2**20, 2**20, (b"IDAT", zlib.compress(bytes(10**6)))),
    "none.png": png(0, 0, (b"IDAT", b"")),
    "chunk.png": GOOD[:8] + b"\xff\xff\xff\xff" + GOOD[12:],
    "frame.webp": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(30),
    "large.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    "many.tif": b"II*\0\x08\0\0\0\xff\xff" + bytes(12),
    "loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "lines.ppm": b"P6 " + b"9" * 5000,
    "code.svg.png": b"<svg onload='x'/>",
    "program.avif": b"\0\0\0\x20ftypavif" + bytes(50),
}


def test_hostile_files_are_rows_with_a_reason_and_stop_nothing(touchstone: Command, tmp_path: Path) -> None:
    folder(tmp_path / "real", [encoded(scene(number)) for number in range(6)])
    fake = folder(tmp_path / "fake", [encoded(scene(50 + number)) for number in range(6)])
    for name, content in HOSTILE.items():
        (fake / name).write_bytes(content)
    (fake / "wrong.jpg").write_bytes(encoded(scene(99)))  # readable whatever it is called
    (fake / "gone.png").symlink_to("nowhere.png")
    (fake / "round.png").symlink_to("round.png")
    (fake / "far.png").symlink_to(tmp_path / "real" / "00001.png")
    (fake / "folder.png").mkdir()
    (fake / "manifest.csv").symlink_to("nowhere.csv")
    os.mkfifo(fake / "pipe.png")
    packed = zipped(tmp_path / "packed", HOSTILE)
    bad = {*HOSTILE, "folder.png", "gone.png", "round.png", "pipe.png"}
    for place in ("fake", packed.name):
        said = touchstone("audit", "real", place, "--json", "--workers", "1")
        assert said.code == 0, said.err
        assert "Traceback" not in said.err
        checks = {one["name"]: one for one in said.facts()["checks"]}
        expected = bad if place == "fake" else set(HOSTILE)
        assert set(checks["unreadable"]["rows"]) == {f"fake/{name}" for name in expected}
        assert checks["unreadable"]["n_fake"] == len(expected) + (8 if place == "fake" else 0)
        lines = [line for line in said.err.splitlines() if line.startswith(f"{place}: ")]
        assert any("further image" in line for line in lines) == (len(expected) > 20)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("cut.zip", None, "is cut off"),
        ("none.zip", b"", "expected a zip file"),
        ("text.tar", b"no archive", "is no tar file"),
        ("packed.tar.gz", b"\x1f\x8b\x08" + bytes(600), "is a compressed tar file"),
        ("text.parquet", b"PAR1 no table", "is no whole Parquet file"),
        ("data.mdb", bytes(9000), "does not begin like an LMDB data file"),
        ("short.mdb", b"x", "expected an LMDB data file"),
        ("rows.csv", b"\xff\xfe\0", "UTF-8"),
        ("rows.yaml", b"rows: [", "rows.yaml"),
        ("bytes.bin", b"\0" * 100, "expected a zip file"),
        ("pipe.zip", "pipe", "expected a zip file"),
        ("pipe.csv", "pipe", "does not exist"),
        ("pipe.tar", "pipe", "expected a tar file"),
        ("gone", "link", "does not exist"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_sentence(
    name: str, content: bytes | str | None, sentence: str, touchstone: Command, tmp_path: Path
) -> None:
    folder(tmp_path / "real", [encoded(scene(number)) for number in range(2)])
    if content == "pipe":
        os.mkfifo(tmp_path / name)
    elif content == "link":
        (tmp_path / name).symlink_to("nowhere")
    else:
        whole = zipped(tmp_path / "whole", {"a.png": GOOD}).read_bytes()
        assert not isinstance(content, str)
        (tmp_path / name).write_bytes(whole[:-30] if content is None else content)
    for words in (("real", name), ("real", "real", "--control", name)):
        said = touchstone("audit", *words, "--workers", "1")
        assert (said.code in (1, 2), said.err.count("\n"), said.out) == (True, 1, ""), said.err
        assert sentence in said.err
        assert name in said.err


def test_classes_of_which_nothing_can_be_read_have_a_verdict(tmp_path: Path) -> None:
    places = [folder(tmp_path / name, [b""] * 8) for name in ("real", "fake")]
    found, notes = audited(places[0], places[1], None, 1)
    said = {one.name: one.verdict for one in found.findings}
    assert said["unreadable"] == "cannot tell"
    assert {said[name] for name in ("codec", "grid8", "learned", "exact_duplicates")} == {"does not apply"}
    assert sum("the file is empty" in note for note in notes) == 16
    assert np.isfinite([one.effect for one in found.findings if one.effect is not None]).all()


def test_groups_are_taken_as_they_are_written(tmp_path: Path) -> None:
    """Also such as begin like those that a reader makes for rows of which nothing is said."""
    folder(tmp_path / "a", [encoded(scene(number)) for number in range(4)])
    lines = [f"a/{number:05d}.png,{group}" for number, group in enumerate(("id:0012", "id:0012", "x", ""))]
    (tmp_path / "rows.csv").write_text("\n".join(["file,group", *lines]) + "\n")
    assert [row.group for row in source(tmp_path / "rows.csv").rows] == ["id:0012", "id:0012", "x", ""]


def test_a_line_without_folders_describes_one_image(tmp_path: Path) -> None:
    """The one at the top, or the only one of its name; of several nobody knows which is meant."""
    for number, name in enumerate(("0.png", "A/0.png", "B/0.png", "A/1.png", "B/1.png", "A/2.png")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(encoded(scene(number)))
    (tmp_path / "set" / "manifest.csv").write_text("file,group\n0.png,top\n1.png,several\n2.png,alone\n")
    found = source(tmp_path / "set")
    assert {row.name: row.group for row in found.rows if row.group} == {"0.png": "top", "A/2.png": "alone"}
    assert any("says nothing of 4 images" in note for note in found.notes)
