"""`touchstone export`: what a format holds, that it comes back as it was, that it appears whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from command_line import Command, command
from exported_project import exported_project
from PIL import Image
from reader_rows import discover
from toy_project import Project, tree

from pipeline import ids
from pipeline.dataset import Dataset
from pipeline.errors import ConfigError, StoreError
from pipeline.open import open_node
from pipeline.runs import host_name
from pipeline.stage import Field
from stages import FORMATS
from stages.exporting import contract, imagefolder, webdataset
from stages.exporting.croissant import Publication
from stages.exporting.export import export

PUBLISHED = Publication("Somebody", "https://example.org", "2026-01-31")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        yield exported_project(tmp_path_factory.mktemp("export"), patch)


@pytest.fixture(scope="module")
def images(project: Project) -> Dataset:
    return open_node(project.file, "images")


@pytest.fixture
def touchstone(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(project.folder)
    return command(monkeypatch, capsys)


def hexed(column: Any) -> list[str]:
    return [one.hex() for one in ids.to_bytes(column)]


def by_id(rows: Dataset) -> dict[str, dict[str, Any]]:
    """What the engine says of each row, by its id: class in words, split, group, and the picture."""
    columns = (rows.column(name).tolist() for name in ("label", "split"))
    groups, pictures = hexed(rows.column("group")), rows.array("image")
    return {
        row_id: {"label": ("real", "fake")[label], "split": split, "group": group, "image": image}
        for row_id, label, split, group, image in zip(hexed(rows.ids), *columns, groups, pictures, strict=True)
    }


def partition(keys: list[Any], groups: list[Any]) -> set[frozenset[Any]]:
    return {frozenset(key for key, one in zip(keys, groups, strict=True) if one == group) for group in groups}


def test_an_npz_holds_all_columns_and_fields_without_a_pickle(project: Project, tmp_path: Path) -> None:
    rows = open_node(project.file, "spectra")
    export(rows, "spectra", "npz", tmp_path / "out")
    with np.load(tmp_path / "out" / "rows.npz", allow_pickle=False) as found:
        assert set(found) == {*contract.COLUMNS, "profile", "dct2d"}
        for name, field in rows.fields.items():
            assert found[name].dtype == field.dtype
            np.testing.assert_array_equal(found[name], rows.array(name))
        assert found["label"].dtype == np.uint8
        for name in ("label", "split", "domain", "source", "file", "licence"):
            assert found[name].tolist() == rows.column(name).tolist()
        assert found["id"].tolist() == hexed(rows.ids)
        assert found["group"].tolist() == hexed(rows.column("group"))
        assert sorted(set(found["file"].tolist())) == ["", *(f"photos/{number}.png" for number in range(6))]
        assert set(found["licence"].tolist()) == {"CC-BY-4.0", "MIT"}
    with zipfile.ZipFile(tmp_path / "out" / "rows.npz") as archive:
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_image_folder_comes_back_with_its_classes_splits_and_groups(images: Dataset, tmp_path: Path) -> None:
    export(images, "images", "imagefolder", tmp_path / "out")
    expected = by_id(images)
    for row_id, one in expected.items():
        place = tmp_path / "out" / one["split"] / one["label"] / f"{row_id}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(place)), one["image"])
    found = discover(tmp_path, manifest="out/manifest.csv")
    names = [Path(location).stem for location in found.payload["location"]]
    assert len(names) == len(expected) == 12
    assert [expected[name]["label"] for name in names] == [("real", "fake")[label] for label in found.label]  # type: ignore[union-attr]
    assert [expected[name]["split"] for name in names] == found.split
    groups = [one["group"] for one in expected.values()]
    assert partition(names, list(found.group or ())) == partition(list(expected), groups)
    assert len(set(groups)) == 5
    assert set(found.told["licence"]) == {"CC-BY-4.0", "MIT"}
    assert "Ann, B." in found.told["author"]
    assert "photos; photos/0.png; album" in found.told["provenance"]


def test_tar_files_come_back_with_their_classes_and_splits(images: Dataset, tmp_path: Path) -> None:
    export(images, "images", "webdataset", tmp_path / "out")
    expected = by_id(images)
    names = [path.name for path in sorted((tmp_path / "out").glob("*.tar"))]
    assert names == [f"{split}-00000-of-00001.tar" for split in ("test", "train", "val")]
    found = discover(tmp_path, tar="out")
    rows = [Path(location).stem for location in found.payload["location"]]
    rows = [row.rpartition("!")[2] for row in rows]
    assert [expected[row]["label"] for row in rows] == [("real", "fake")[label] for label in found.label]  # type: ignore[union-attr]
    assert [expected[row]["split"] for row in rows] == found.split
    with tarfile.open(tmp_path / "out" / names[1]) as archive:
        members = archive.getnames()
        assert members == [f"{row}.{end}" for row in members[::2] for row in [row[:-4]] for end in ("png", "json")]
        assert {(one.mtime, one.uid, one.gid) for one in archive.getmembers()} == {(0, 0, 0)}
        for name in members:
            content = archive.extractfile(name)
            assert content is not None
            one = expected[name.partition(".")[0]]
            if name.endswith(".png"):
                np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content.read()))), one["image"])
            else:
                about = json.load(content)
                assert (about["label"], about["split"], about["group"]) == (one["label"], one["split"], one["group"])


def test_tar_files_hold_so_many_samples(images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "SAMPLES", 7)
    export(images, "images", "webdataset", tmp_path / "out")
    sizes = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as archive:
            sizes[path.stem] = len(archive.getnames()) / 2
    assert sizes == {
        "test-00000-of-00001": 2, "train-00000-of-00002": 7, "train-00001-of-00002": 1, "val-00000-of-00001": 2
    }  # fmt: skip


def test_parquet_files_come_back_and_hold_features_as_lists(project: Project, images: Dataset, tmp_path: Path) -> None:
    export(images, "images", "parquet", tmp_path / "out")
    (snippet,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    known: dict[str, Any] = {}
    exec(snippet.replace("EXPORT", str(tmp_path / "out")), known)  # as the card says
    assert known["rows"].num_rows == len(images)
    expected = by_id(images)
    found = discover(tmp_path, parquet="out", domain_by="domain")
    assert sorted(found.split or ()) == sorted(one["split"] for one in expected.values())
    assert found.domain == ["cats"] * 12
    assert sorted(np.asarray(found.label)) == [0] * 6 + [1] * 6
    table = pyarrow.parquet.read_table(tmp_path / "out" / "train-00000-of-00001.parquet")
    for row in table.to_pylist():
        one = expected[row["id"]]
        assert (("real", "fake")[row["label"]], row["split"], row["group"]) == (one["label"], "train", one["group"])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), one["image"])
        assert row["image"]["path"] == f"{row['id']}.png"
    stated = json.loads(table.schema.metadata[b"huggingface"])
    label = {"names": ["real", "fake"], "_type": "ClassLabel"}  # as the library `datasets` writes it
    assert stated == {"info": {"features": {"label": label, "image": {"_type": "Image"}}}}
    spectra = open_node(project.file, "spectra").split("val")
    export(spectra, "spectra", "parquet", tmp_path / "features")
    table = pyarrow.parquet.read_table(tmp_path / "features" / "val-00000-of-00001.parquet")
    assert str(table.schema.field("dct2d").type).count("fixed_size_list") == 3
    for name, field in spectra.fields.items():
        values = np.array(table[name].to_pylist(), field.dtype)
        np.testing.assert_array_equal(values, spectra.array(name))


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_rows_give_the_same_bytes(to: str, images: Dataset, tmp_path: Path) -> None:
    for name in ("one", "other"):
        export(images, "images", to, tmp_path / name)
    first = tree(tmp_path / "one")
    assert first == tree(tmp_path / "other")
    assert first.keys() >= {"README.md", "croissant.json", "ATTRIBUTION.csv"}
    assert not any(str(tmp_path).encode() in content for content in first.values())


def test_few_rows_are_in_memory_at_once(images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(images, "images", "npz", tmp_path / "whole")
    asked, array = [], Dataset.array

    def spied(self: Dataset, field: str, rows: Any = None) -> Any:
        asked.append(len(rows))
        return array(self, field, rows)

    monkeypatch.setattr(Dataset, "array", spied)
    monkeypatch.setattr(contract, "BLOCK_BYTES", 2 * 16 * 16 * 3 + 8)
    for to in FORMATS:
        export(images, "images", to, tmp_path / to, ["image"])
    assert max(asked) == 2
    with np.load(tmp_path / "whole" / "rows.npz") as one, np.load(tmp_path / "npz" / "rows.npz") as other:
        assert {name: other[name].tobytes() for name in other} == {name: one[name].tobytes() for name in other}


REQUIRED = {"@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished"}
"""Of a data set in Croissant 1.0, besides what it holds."""


@pytest.mark.parametrize("to", FORMATS)
def test_croissant_has_what_its_specification_requires(to: str, images: Dataset, tmp_path: Path) -> None:
    export(images, "images", to, tmp_path / "out", publication=PUBLISHED)
    about = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert about.keys() == REQUIRED | {"distribution", "recordSet"}
    assert about["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert about["license"] == ["CC-BY-4.0", "MIT"]
    assert about["datePublished"] == "2026-01-31"
    names = [one["@id"] for one in about["distribution"]]
    assert len(set(names)) == len(names)
    for one in about["distribution"]:
        if one["@type"] == "cr:FileObject":
            assert one.keys() >= {"@id", "name", "contentUrl", "contentSize", "encodingFormat", "sha256"}
            content = (tmp_path / "out" / one["contentUrl"]).read_bytes()
            assert one["contentSize"] == f"{len(content)} B"
            assert one["sha256"] == hashlib.sha256(content).hexdigest()
        else:
            assert one["@type"] == "cr:FileSet"
            assert one.keys() >= {"@id", "includes", "encodingFormat"}
            assert {inside["@id"] for inside in one.get("containedIn", [])} <= set(names)
    for records in about["recordSet"]:
        for field in records["field"]:
            assert field.keys() >= {"@id", "name", "dataType", "source"}
            (source,) = (field["source"][kind] for kind in ("fileObject", "fileSet") if kind in field["source"])
            assert source["@id"] in names
    assert bool(about["recordSet"]) is (to != "npz")


def test_the_card_and_the_attributions_say_whose_the_rows_are(images: Dataset, tmp_path: Path) -> None:
    told = export(images, "images", "imagefolder", tmp_path / "out", where="split = test", seed=3)
    assert told[0].endswith(
        "/out: 12 rows of the node images, chosen by split = test: 6 real and 6 fake; made by Touchstone."
    )
    assert told[1:] == [
        "licences: CC-BY-4.0 10, MIT 2 (ATTRIBUTION.csv)",
        "left out: reduction, which --to imagefolder does not take; npz and parquet do",
        "before you publish it: croissant.json asks for --creator, --url, --date",
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| fakes | fake | 4 | 1 | 1 |" in text
    assert "| photos | real | 4 | 1 | 1 |" in text
    assert "- MIT: 2 rows" in text
    assert "Seed 3." in text
    for part in images.parts:
        assert f"### {part.chain.hex()}" in text
        for step in part.steps:
            assert f"{step['stage']}, recipe {step['recipe']}" in text
    with open(tmp_path / "out" / "ATTRIBUTION.csv", newline="") as file:
        lines = {line["id"]: line for line in csv.DictReader(file)}
    assert set(lines) == set(hexed(images.ids))
    named = [line for line in lines.values() if line["author"]]
    assert sorted((one["source"], one["licence"], one["author"], one["url"], one["file"]) for one in named) == [
        ("fakes", "MIT", "Ann, B.", "https://x.org/4", ""),
        ("photos", "MIT", "Ann, B.", "https://x.org/4", "photos/4.png"),
    ]


def test_what_a_picture_is_the_axes_say() -> None:
    picture = ("row", "column", "channel")
    assert contract.is_picture(Field("uint8", (4, 5, 3), axes=picture))
    assert contract.is_picture(Field("uint8", (4, 5, 1), axes=picture))
    assert not contract.is_picture(Field("uint8", (4, 5, 3)))
    assert not contract.is_picture(Field("uint8", (4, 5, 4), axes=picture))
    assert not contract.is_picture(Field("uint16", (4, 5, 3), axes=picture))
    gray = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(contract.png(gray)))), gray[..., 0])


def test_what_cannot_be_finished_leaves_nothing(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(4))

    def failing(values: Any) -> bytes:
        if next(calls, None) is None:
            raise errors.pop()
        return b"png"

    errors: list[BaseException] = [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
    monkeypatch.setattr(imagefolder, "png", failing)
    with pytest.raises(StoreError, match=r"/out cannot be written: No space left on device; nothing is left of it$"):
        export(images, "images", "imagefolder", tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        export(images, "images", "imagefolder", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".out.{host_name()}-{2**22 + 1}-1.0123abcd.tmp" / "test").mkdir(parents=True)  # of a killed one
    export(images, "images", "npz", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_missing_library_is_told_before_anything_is_written(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        ConfigError, match=r"^exports to parquet need the library 'pyarrow'.* install touchstone\[parquet\]$"
    ):
        export(images, "images", "parquet", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_selects_rows_and_fields(touchstone: Command, project: Project, tmp_path: Path) -> None:
    said = touchstone(
        "export", "spectra", "--to", "npz", "--out", str(tmp_path / "a"), "--where", "label = fake", "--take", "3",
        "--field", "profile",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "3 rows of the node spectra, chosen by label = fake and take 3: 3 fake" in said.out
    with np.load(tmp_path / "a" / "rows.npz") as found:
        assert found["label"].tolist() == [1, 1, 1]
        assert set(found) == {*contract.COLUMNS, "profile"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("images", "--to", "zarr"), "--to is 'zarr', which is no format; allowed: imagefolder, npz, parquet, webdata"),
        (("images", "--to", "parkuet"), "--to is 'parkuet', which is no format; did you mean 'parquet'?"),
        (("imags",), "there is no node 'imags' in pipeline.yaml; did you mean 'images'?"),
        (("images", "--out", "photos"), "--out is photos, which exists; name a new folder, or remove that one first"),
        (
            ("images", "--out", "rows.npz"),
            "--out is rows.npz, but an export is a folder with its card beside the data; name a folder",
        ),
        (
            ("images", "--out", "list.yaml/x"),
            "--out is list.yaml/x, but nothing can be written in list.yaml (File exists); name another place",
        ),
        (("images", "--where", "lable = fake"), "images: where asks for 'lable'; did you mean 'label'?"),
        (
            ("images", "--where", "split = test and domain = dogs"),
            "images: the selection compares domain with 'dogs', which no row has; allowed: cats, fakes, photos",
        ),
        (("images", "--take", "13"), "images: the selection takes 13 rows of a view that has 12"),
        (("images", "--field", "imag"), "--field is 'imag', which not all rows of images have; did you mean 'image'?"),
        (
            ("spectra", "--to", "imagefolder"),
            "--to imagefolder takes one field of 8-bit pictures, and spectra has dct2d, profile; npz and parquet",
        ),
        (
            ("images", "--to", "webdataset", "--field", "reduction"),
            "--to webdataset takes one field of 8-bit pictures, and images has reduction; npz and parquet take all",
        ),
        (
            ("both", "--to", "imagefolder"),
            "several rows of both have one id, which names their files; name one instance of it, such as both[...]",
        ),
        (("sizes", "--field", "image"), "--field is 'image', which not all rows of sizes have; allowed: reduction"),
        (("images", "--date", "1.2.2026"), "--date is '1.2.2026'; expected the day of publication as YYYY-MM-DD"),
        (("images", "--url", "here"), "--url is 'here'; expected an address that begins with https://"),
        (("images", "--set", "nodes.reals.size=24"), "images lacks 12 rows; `touchstone run images` computes what is"),
        (("images", "-f", "none.yaml"), "none.yaml does not exist"),
    ],
)  # fmt: skip
def test_each_option_answers_a_mistake_in_one_sentence(
    touchstone: Command, project: Project, words: tuple[str, ...], sentence: str
) -> None:
    defaults = {"--to": "npz", "--out": "new"}
    more = [word for name, value in defaults.items() if name not in words for word in (name, value)]
    before = set(project.folder.iterdir())
    said = touchstone("export", *words, *more)
    assert said.code in (1, 2)
    assert said.out == ""
    assert said.err.startswith(f"touchstone: {sentence}")
    assert said.err.count("\n") == 1
    assert set(project.folder.iterdir()) == before
