"""Words that look alike are one word: what a group, a domain and a split are, and what is said of it."""

from __future__ import annotations

import hashlib
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_project import Project

from pipeline.errors import ConfigError
from pipeline.inputs.scan import Scan
from pipeline.planning.plan import make_plan
from pipeline.planning.rows import Names, Source, tabulate
from pipeline.running.run import open_scan
from pipeline.spelling import normalized, remarks, spellings
from pipeline.stage import SPLITS
from stages.ingest import Ingest, IngestConfig

SHARES = {"train": 0.4, "val": 0.3, "test": 0.3}
ZERO_WIDTH, BOM, SOFT_HYPHEN, RIGHT_TO_LEFT, NO_BREAK = "\u200b", "\ufeff", "\u00ad", "\u200f", "\u00a0"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ann", "ann"),
        ("Ann Lee", "Ann Lee"),
        ("  ann\t", "ann"),
        (f"ann{NO_BREAK} \n lee", "ann lee"),
        ("jose\u0301", "jos\u00e9"),
        ("jos\u00e9", "jos\u00e9"),
        (f"{BOM}an{ZERO_WIDTH}n{SOFT_HYPHEN}{RIGHT_TO_LEFT}", "ann"),
        (f"jose{ZERO_WIDTH}\u0301", "jos\u00e9"),
        ("ann\x00\x7f\x1b", "ann"),
        ("shop a / ann ", "shop a/ann"),
        (f" {ZERO_WIDTH} ", ""),
        ("\udcff ", "\udcff"),
    ],
)
def test_a_word_has_one_spelling(written: str, meant: str) -> None:
    assert normalized(written) == meant
    assert normalized(meant) == meant
    assert spellings(["x", written])[written] == meant


def test_quick_look_at_many_words_finds_each_unusual_one() -> None:
    plain = [f"person {number}" for number in range(50)]
    assert spellings(plain) == {word: word for word in plain}
    for odd in (" a", "a ", "a  b", "a/ b", "a /b", "a\tb", "a\u00a0b", "a\0", "\0a", "e\u0301", f"a{ZERO_WIDTH}"):
        for words in ([odd, *plain], [*plain, odd], [*plain[:9], odd, *plain[9:]]):
            assert spellings(words)[odd] == normalized(odd) != odd, repr(odd)


def test_merged_words_and_words_that_differ_by_case_are_told_with_one_example() -> None:
    words = ["ann", "ann ", "ann", "bob", "Bob", "bob\u200b", "eve"]
    assert remarks(words, spellings(words), "group") == [
        "2 groups are written in several ways that look alike and count as one each, e.g. 'ann' (2 rows) = "
        "'ann ' (1 row)",
        "1 group differs from another by case only and counts apart, e.g. 'Bob' and 'bob'; write them alike if they "
        "are one",
    ]
    assert remarks(["ann", "bob"], spellings(["ann", "bob"]), "group") == []


PERSONS = [f"person {letter}" for letter in "abcdefghijklmno"]
WAYS = ("{}", " {}", "{} ", "{}\u200b")


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def tabulated(base: Path, **settings: Any) -> Source:
    found = Ingest().discover(IngestConfig.model_validate(settings), Scan(base, None))
    return tabulate(found, "photos", 0, SHARES, Names())


def splits_of(source: Source) -> dict[str, set[str]]:
    """Person, told from the location -> splits."""
    found: dict[str, set[str]] = {}
    for position, code in zip(source.positions.tolist(), source.rows.split.tolist(), strict=True):
        person = next(name for name in PERSONS if name in source.payload["location"][position])
        found.setdefault(person, set()).add(SPLITS[code])
    return found


def assert_persons_are_whole(source: Source, ways: int) -> None:
    splits = splits_of(source)
    assert sorted(splits) == PERSONS
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == set(SPLITS)
    assert len(np.unique(source.rows.group)) == 15
    if ways > 1:
        (note,) = [note for note in source.notes if "look alike" in note]
        assert note.startswith("photos: 15 groups are written in several ways that look alike and count as one each")


def test_one_space_in_a_table_puts_no_person_into_two_splits(tmp_path: Path) -> None:
    """11 of 15 persons stood in several splits."""
    rows = [(f"{person} {k}.png", way.format(person)) for person in PERSONS for k, way in enumerate(WAYS)]
    for name, _ in rows:
        write(tmp_path / name, name)
    write(tmp_path / "list.csv", "file,group\n" + "".join(f"{name},{group}\n" for name, group in rows))
    assert_persons_are_whole(tabulated(tmp_path, manifest="list.csv"), 4)
    inline = "".join(f"  - {{file: {name}, group: '{group}'}}\n" for name, group in rows)
    write(tmp_path / "list.yaml", "rows:\n" + inline)
    assert_persons_are_whole(tabulated(tmp_path, manifest="list.yaml"), 4)


def test_one_space_in_a_folder_puts_no_person_into_two_splits(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for person in PERSONS:
            for way in WAYS:
                name = f"shop /{way.format(person)}/front.png" if way == "{} " else f"shop/{way.format(person)}/a.png"
                write(tmp_path / "photos" / name, name)
                archive.writestr(name, name)
    assert_persons_are_whole(tabulated(tmp_path, folder="photos", group_by="folder"), 4)
    assert_persons_are_whole(tabulated(tmp_path, zip="all.zip", group_by="folder"), 4)


def test_an_expression_reads_decomposed_names_as_composed_ones(tmp_path: Path) -> None:
    """Of a decomposed name, \\w takes the bare letter and stops before the accent."""
    composed, decomposed = "jos\u00e9", unicodedata.normalize("NFD", "jos\u00e9")
    for name in (f"{composed}-1.png", f"{decomposed}-2.png", "jose-3.png"):
        write(tmp_path / "photos" / name, name)
    source = tabulated(tmp_path, folder="photos", group_by=r"\w+")
    assert len(np.unique(source.rows.group)) == 2
    assert "photos: 1 name read in another spelling, e.g. 'jose\\u0301-2.png'" in source.notes


def test_splits_and_domains_are_read_in_their_normal_form(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"{name}.png", name)
    text = f"file,split,domain\na.png,train,bags\nb.png, train,bags \nc.png,test{NO_BREAK},{BOM}bags\nd.png, ,shoes\n"
    write(tmp_path / "list.csv", text)
    found = Ingest().discover(IngestConfig(manifest="list.csv"), Scan(tmp_path, None))
    names = Names()
    source = tabulate(found, "photos", 0, {"val": 1.0}, names)
    place = {source.payload["location"][position][-5]: row for row, position in enumerate(source.positions.tolist())}
    assert {name: SPLITS[source.rows.split[row]] for name, row in place.items()} == {
        "a": "train", "b": "train", "c": "test", "d": "val"
    }  # fmt: skip
    assert {name: names.words[source.rows.domain[row]] for name, row in place.items()} == {
        "a": "bags", "b": "bags", "c": "bags", "d": "shoes"
    }  # fmt: skip
    assert sum("look alike" in note for note in source.notes) == 2
    write(tmp_path / "list.csv", "file,split\na.png,Train\n")
    with pytest.raises(ConfigError, match=r"split is 'Train', expected train, val or test; did you mean 'train'"):
        Ingest().discover(IngestConfig(manifest="list.csv"), Scan(tmp_path, None))


def test_a_group_of_white_space_is_none_given(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", name)
    write(tmp_path / "list.csv", f"file,group\na.png, {ZERO_WIDTH}\nb.png, \n")
    source = tabulated(tmp_path, manifest="list.csv")
    assert {bytes(group) for group in source.rows.group} == {hashlib.sha256(n).digest()[:16] for n in (b"a", b"b")}


def test_conditions_and_sources_of_one_pipeline_mean_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`where` finds rows whatever the spelling of either side, and one person of two sources is one group."""
    project = Project(
        tmp_path,
        monkeypatch,
        """
        nodes:
          one: {stage: ingest, manifest: one.csv}
          two: {stage: ingest, manifest: two.csv, label: fake}
          some: {stage: "stand_in:Length", of: {of: [one, two], where: "domain = cafe\u0301"}}
        """,
    )
    write(
        tmp_path / "stand_in.py",
        "from pipeline.stage import Field, Input, Kind, Stage, StageConfig\n"
        "class Length(Stage):\n"
        "    name, kind, Config, inputs = 'length', Kind.MAP, StageConfig, {'of': Input()}\n"
        "    def schema(self, config, inputs):\n"
        "        return {'length': Field('int64')}\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name, name)
    write(tmp_path / "one.csv", "file,group,domain\na.png,ann,caf\u00e9\nb.png,bob,bar\n")
    write(tmp_path / "two.csv", "file,group,domain\nc.png,ann ,caf\u00e9 \n")
    plan = make_plan(project.load(), project.store, open_scan(project.load(), False))
    assert sum(len(branch.rows) for branch in plan.branches["some"]) == 2
    one, two = plan.branches["one"][0].rows, plan.branches["two"][0].rows
    assert two.group[0] in one.group
