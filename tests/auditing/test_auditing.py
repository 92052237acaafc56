"""The audit of two folders: what is said of planted differences, of none, of duplicates, of leaks, of a control."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from auditing_pictures import CONTAINERS, Make, decoded, encoded, folder, jpeg, of_file, scene
from command_line import Command, command
from PIL import Image

from stages.auditing import duplicates
from stages.auditing.audit import Finding, Result, audit, whole, withdraw
from stages.auditing.examined import Row
from stages.auditing.pixels import picture
from stages.auditing.sources import audited
from stages.auditing.vocabulary import CHECKS, KIND, NAMES


def pair(place: Path, real: Make, fake: Make, count: int = 64) -> tuple[Path, Path]:
    """Two folders of different pictures; names do not tell their class."""
    reals = folder(place / "real", [real(scene(2 * number)) for number in range(count)])
    return reals, folder(place / "fake", [fake(scene(2 * number + 1)) for number in range(count)])


def result(real: Path, fake: Path, control: Path | None = None) -> Result:
    return audited(real, fake, control, 1)[0]


def verdicts(found: Result) -> dict[str, str]:
    return {one.name: one.verdict for one in found.findings}


@pytest.mark.parametrize(("name", "real", "fake"), CONTAINERS)
def test_a_difference_of_containers_is_named_and_echoes_in_no_other_check(name: str, real: Make, fake: Make) -> None:
    found = audit(*([of_file(f"{k:05d}.png", make(scene(k))) for k in range(24)] for make in (real, fake)))
    one = {finding.name: finding for finding in found.findings}[name]
    assert (one.verdict, found.verdict) == ("differs", "differs")
    assert one.p is not None
    assert one.p <= 0.001
    assert (one.n_real, one.n_fake) == (24, 24)
    assert 0 < len(one.rows) <= 24
    assert one.fix
    assert (found.bias == "found") == (name != "file_size_per_pixel")
    related: dict[str, set[str]] = {
        "orientation": {"exif"}, "alpha": {"mode"}, "aspect": {"size"}, "subsampling": {"file_size_per_pixel"},
        "encoder": {"file_size_per_pixel"}, "progressive": {"encoder", "file_size_per_pixel"},
        "codec": {"file_name"}, "quantization": {"file_size_per_pixel"}, "exif": {"orientation"},
    }  # fmt: skip
    assert set(different(found)) <= {name, *related.get(name, set())}


def different(found: Result) -> list[str]:
    return [name for name, said in verdicts(found).items() if said == "differs"]


@pytest.mark.parametrize(
    ("name", "real", "fake"),
    [
        ("grid8", lambda p: encoded(decoded(jpeg(75)(p))), encoded),
        ("double_compression", lambda p: jpeg(92)(decoded(jpeg(60)(p))), jpeg(92)),
        ("bit_depth", encoded, lambda picture: encoded(picture & 0xFC)),
    ],
)
def test_a_difference_of_pixels_is_named_with_rows_and_a_remedy(
    name: str, real: Make, fake: Make, tmp_path: Path
) -> None:
    found = result(*pair(tmp_path, real, fake, 20))
    one = {finding.name: finding for finding in found.findings}[name]
    assert one.verdict == "differs"
    assert 0 < len(one.rows) <= 50
    assert all((tmp_path / row).is_file() for row in one.rows)
    assert one.fix
    assert found.bias != "found"  # of the history of pixels nobody knows whose it is


def test_two_halves_of_one_set_do_not_differ_and_facts_are_equal() -> None:
    found = audit(*([of_file(f"{k:05d}.png", encoded(scene(0))) for k in range(60)] for _ in range(2)))
    said = verdicts(found)
    assert "differs" not in said.values()
    for name in ("codec", "encoder", "mode", "alpha", "icc", "exif", "size", "unreadable", "file_name"):
        assert said[name] == "equal", name
    for name in ("quantization", "subsampling", "progressive", "double_compression", "group_leak", "source_mix"):
        assert said[name] == "does not apply", name
    assert said["brightness"] == "does not apply"  # of these rows no pixels are known
    assert (found.verdict, found.bias) == ("equal", "none")


def test_few_rows_prove_nothing(tmp_path: Path) -> None:
    found = result(*pair(tmp_path, encoded, encoded, 12))
    assert set(verdicts(found).values()) <= {"cannot tell", "does not apply", "equal"}
    assert {name for name, said in verdicts(found).items() if said == "equal"} <= {
        "exact_duplicates", "near_duplicates"
    }  # fmt: skip


def test_the_json_has_every_check_of_the_vocabulary_and_nothing_else(tmp_path: Path) -> None:
    plain = json.loads(json.dumps(result(*pair(tmp_path, encoded, encoded, 6)).plain()))
    assert set(plain) == {"verdict", "bias", "checks"}
    assert [one["name"] for one in plain["checks"]] == [check.name for check in CHECKS]
    assert len(set(NAMES)) == 35
    for one in plain["checks"]:
        assert list(one) == [
            "name", "kind", "verdict", "statistic", "p", "effect", "n_real", "n_fake", "rows", "fix"
        ]  # fmt: skip
        assert one["kind"] == KIND[one["name"]]
        assert one["verdict"] in ("equal", "differs", "cannot tell", "does not apply")
        if one["verdict"] == "does not apply":
            assert one["statistic"] is one["p"] is one["effect"] is None
    assert next(one for one in plain["checks"] if one["name"] == "exact_duplicates")["p"] is None


def test_equal_pixels_across_the_classes_are_enough(tmp_path: Path) -> None:
    real, fake = pair(tmp_path, encoded, encoded, 10)
    (fake / "00003.png").write_bytes(encoded(scene(8), compress_level=1))  # the pixels of a real
    one = {finding.name: finding for finding in result(real, fake).findings}["exact_duplicates"]
    assert (one.verdict, one.statistic, one.rows, one.p) == ("differs", 1.0, ["fake/00003.png"], None)


def test_look_alikes_are_found_also_moved_by_a_pixel(tmp_path: Path) -> None:
    pictures = [scene(number, 64) for number in range(12)]
    moved = np.roll(pictures[3], (1, 1), (0, 1))
    coded = decoded(jpeg(60)(pictures[7]))
    thumbnails = np.stack([
        np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BOX)) for one in (*pictures, moved, coded)
    ])  # fmt: skip
    assert sorted(map(tuple, duplicates.near(thumbnails).tolist())) == [(3, 12), (7, 13)]


@pytest.mark.parametrize(("copies", "said"), [(0, "equal"), (2, "cannot tell"), (3, "differs")])
def test_three_look_alikes_across_the_classes_are_needed(copies: int, said: str, tmp_path: Path) -> None:
    real, fake = pair(tmp_path, encoded, encoded, 6)
    for number in range(copies):
        (fake / f"{number:05d}.png").write_bytes(encoded(decoded(jpeg(90)(scene(2 * number)))))
    assert verdicts(result(real, fake))["near_duplicates"] == said


def test_a_class_that_repeats_itself_is_named() -> None:
    """Twins within the fakes alone: a generator that has collapsed."""
    pictures = [[scene(number) for number in range(8)], [scene(100 + number % 5) for number in range(8)]]
    real, fake = ([Row(f"{k}", picture=picture(one)) for k, one in enumerate(rows)] for rows in pictures)
    one = {finding.name: finding for finding in audit(real, fake).findings}["exact_duplicates"]
    assert (one.verdict, one.statistic, one.effect) == ("differs", 6.0, 0.75)


def manifest(place: Path, rows: list[dict[str, str]]) -> None:
    with open(place, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_group_in_two_splits_is_a_leak_and_an_empty_split_is_none(tmp_path: Path) -> None:
    real, fake = pair(tmp_path, encoded, encoded, 8)
    for place in (real, fake):
        splits = ["train", "train", "test", "test", "", "", "train", "test"]
        rows = [
            {"file": f"{number:05d}.png", "group": f"{place.name}{number // 2}", "split": split}
            for number, split in enumerate(splits)
        ]
        manifest(place / "manifest.csv", rows)
    one = {finding.name: finding for finding in result(real, fake).findings}["group_leak"]
    assert (one.verdict, one.statistic) == ("differs", 2.0)
    assert one.rows == ["real/00006.png", "real/00007.png", "fake/00006.png", "fake/00007.png"]


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_the_table_of_a_zip_file_is_read_and_unknown_columns_are_said(where: str, tmp_path: Path) -> None:
    real, fake = pair(tmp_path, encoded, encoded, 6)
    rows = [{"file": f"{number:05d}.png", "group": "one", "domain": "cats", "camera": "x"} for number in range(6)]
    for place in (real, fake):
        archive = tmp_path / f"{place.name}.zip"
        manifest(tmp_path / f"{place.name}.csv", rows)
        with zipfile.ZipFile(archive, "w") as file:
            for picture in sorted(place.iterdir()):
                file.write(picture, picture.name)
            if where == "inside":
                file.write(tmp_path / f"{place.name}.csv", "manifest.csv")
                (tmp_path / f"{place.name}.csv").unlink()
    found, notes = audited(tmp_path / "real.zip", tmp_path / "fake.zip", None, 1)
    assert sum("no manifest has 1 column camera: not used" in note for note in notes) == 2
    assert not any("no groups" in note for note in notes)
    assert verdicts(found)["source_mix"] == "cannot tell"  # six rows
    assert verdicts(result(tmp_path / "real.zip", tmp_path / "fake.zip"))["codec"] == "cannot tell"


def test_broken_files_are_named_and_stop_nothing(tmp_path: Path) -> None:
    real, fake = pair(tmp_path, encoded, encoded, 27)
    for number in range(6, 27):
        (real / f"{number:05d}.png").unlink()
    for number in range(25):
        (fake / f"{number:05d}.png").write_bytes([b"", encoded(scene(1))[:200], b"<html>"][number % 3])
    found, notes = audited(real, fake, None, 1)
    one = {finding.name: finding for finding in found.findings}["unreadable"]
    assert (one.verdict, one.rows[:2]) == ("differs", ["fake/00000.png", "fake/00001.png"])
    assert any("00000.png: the file is empty" in note for note in notes)
    assert any("5 further images cannot be read" in note for note in notes)
    assert verdicts(found)["brightness"] in ("cannot tell", "does not apply")


def finding(name: str, verdict: str, letter: str) -> Finding:
    return Finding(name, KIND[name], verdict, letter=letter)


@pytest.mark.parametrize(
    ("findings", "control", "declared", "bias"),
    [
        ([finding("codec", "differs", "C")], (), (), "found"),
        ([finding("codec", "differs", "C")], (), ("codec",), "none"),
        ([finding("codec", "cannot tell", "C")], (), (), "cannot tell"),
        ([finding("codec", "equal", "C"), finding("grid8", "differs", "H")], (), (), "none"),
        ([finding("grid8", "differs", "H")], ("grid8",), (), "found"),
        ([finding("grid8", "differs", "H")], ("grid8",), ("grid8",), "none"),
        ([finding("brightness", "differs", "L")], ("brightness",), (), "none"),
        ([finding("bit_depth", "differs", "H")], (), (), "none"),
        ([finding("bit_depth", "differs", "C")], (), (), "found"),
    ],
)
def test_a_bias_is_what_no_generator_does_or_reals_of_two_origins_show(
    findings: list[Finding], control: tuple[str, ...], declared: tuple[str, ...], bias: str
) -> None:
    assert whole(findings, control, declared).bias == bias


def test_no_check_of_frequencies_is_equal_where_one_differs() -> None:
    names = ("native_scale", "high_frequency_energy", "noise_level", "brightness")
    for first, said in (("differs", "cannot tell"), ("equal", "equal"), ("cannot tell", "equal")):
        findings = [finding(name, "equal" if name != "native_scale" else first, "H") for name in names]
        withdraw(findings)
        assert [one.verdict for one in findings] == [first, said, said, "equal"]
    assert "native_scale differs" not in findings[1].fix


def test_a_control_is_compared_with_the_reals(tmp_path: Path) -> None:
    real, fake = pair(tmp_path, lambda p: encoded(decoded(jpeg(60)(p))), encoded, 14)
    control = folder(tmp_path / "control", [encoded(scene(500 + number)) for number in range(14)])
    assert (result(real, fake).bias, result(real, fake, control).bias) == ("cannot tell", "found")


@pytest.fixture
def touchstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in a folder."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def test_the_command_says_it_and_fails_on_request(touchstone: Command, tmp_path: Path) -> None:
    _, fake = pair(tmp_path, encoded, encoded, 4)
    (fake / "00001.png").write_bytes(encoded(scene(0)))
    said = touchstone("audit", "real", "fake", "--workers", "1")
    assert (said.code, said.out.splitlines()[0]) == (0, "verdict: differs; bias: found")
    sentence = "exact_duplicates (C) differs: 1 copy, e.g. real/00000.png and fake/00001.png"
    assert sentence in said.out
    assert "no groups are known" in said.err
    facts = touchstone("audit", "real", "fake", "--json", "--fail-on", "bias")
    assert (facts.code, facts.facts()["bias"]) == (1, "found")
    assert touchstone("audit", "real", "fake", "--fail-on", "differs").code == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere", "real"), "nowhere: does not exist, expected a folder of images, a zip or tar file,"),
        (("empty", "real"), "found no image; expected files ending in"),
        (("note.txt", "real"), "expected a zip file"),
        (("real/00000.png", "fake"), "real/00000.png: is one image, expected a folder of images, a zip or tar file,"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(
    words: tuple[str, str], sentence: str, touchstone: Command, tmp_path: Path
) -> None:
    pair(tmp_path, encoded, encoded, 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("no zip")
    said = touchstone("audit", *words)
    assert said.code in (1, 2)
    assert sentence in said.err
