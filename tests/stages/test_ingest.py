"""Where rows come from, what their ids are, and what a bad manifest or file is told."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from pydantic import ValidationError

from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.scan import Scan
from pipeline.planning.rows import Names, tabulate
from pipeline.stage import ID, Batch, Context, RowError, SourceRows
from stages.images.containers import FACTS, exif_orientation, texts
from stages.images.decoding import decode
from stages.images.readers.contract import Locations
from stages.ingest import Ingest, IngestConfig

STAGE = Ingest()
PIXELS = np.random.default_rng(2).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def encoded(codec: str = "PNG", pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, codec, **options)
    return stream.getvalue()


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]


FILES = {
    f"{person}/{person}-{number}.png": f"{person}{number}".encode() for person in ("ann", "bob") for number in (1, 2)
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(content)
    return tmp_path


def discover(base: Path, scan: Scan | None = None, **settings: Any) -> SourceRows:
    return STAGE.discover(IngestConfig.model_validate(settings), scan or Scan(base, None))


def ids(found: SourceRows) -> list[bytes]:
    return [bytes(row) for row in found.id]


def test_folder_gives_ids_by_content_and_locations_that_read_back(base: Path) -> None:
    found = discover(base, folder="photos", label="fake")
    assert ids(found) == [digest(content) for content in FILES.values()]
    assert found.label == 1
    assert list(found.payload["location"]) == [str(base / "photos" / name) for name in FILES]
    config = IngestConfig(folder="photos")
    assert [STAGE.read(config, place) for place in found.payload["location"]] == list(FILES.values())


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("none", None),
        ("folder", ["ann", "ann", "bob", "bob"]),
        ("([a-z])[a-z]+-", ["a", "a", "b", "b"]),
        ("[a-z]+", ["ann", "ann", "bob", "bob"]),
    ],
)
def test_groups_by_folder_or_start_of_the_stem(base: Path, group_by: str, groups: list[str] | None) -> None:
    assert discover(base, folder="photos", group_by=group_by).group == groups


def test_a_name_that_the_group_expression_misses_is_an_error(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"matches 2 of 4 file names from their start .not 'bob/bob-1.png'.*may leak"):
        discover(base, folder="photos", group_by="ann")


def test_domain_is_the_first_folder(base: Path) -> None:
    assert discover(base, folder="photos", domain_by="folder").domain == ["ann", "ann", "bob", "bob"]


def test_folder_without_images_is_an_error_and_other_files_are_counted(base: Path) -> None:
    (base / "photos" / "readme.txt").write_text("about")
    assert "photos: 1 files passed over" in discover(base, folder="photos").notes[0]
    (base / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: found no image; expected files ending in \.png"):
        discover(base, folder="empty")


def test_nothing_of_the_config_enters_the_recipe() -> None:
    for name, item in IngestConfig.model_fields.items():
        assert item.json_schema_extra == {"recipe": False}, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of folder, manifest, zip, torchvision.*; found none"),
        ({"folder": "a", "zip": "b"}, "found folder and zip"),
        ({"folder": "a", "splits": {"train": 0.5, "test": 0.6}}, "add up to 1"),
        ({"folder": "a", "splits": {"trian": 1.0}}, "expected fractions of train, val and test"),
        ({"folder": "a", "group_by": "("}, "expected none, folder or a regular expression"),
        ({"torchvision": {"dataset": "CIFAR10", "arguments": {"download": True}}}, "download must be false"),
        ({"torchvision": {"dataset": "CIFAR10"}, "group_by": "folder"}, "need file names"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IngestConfig.model_validate(settings)


def manifest(base: Path, text: str, name: str = "list.csv") -> str:
    (base / name).write_text(text)
    return name


def line(name: str, **more: str) -> str:
    content = FILES[name]
    values = {"sha256": hashlib.sha256(content).hexdigest(), "size": str(len(content)), **more}
    return f"photos/{name},{values['sha256']},{values['size']}"


def test_declared_digests_are_ids_and_no_file_is_read(base: Path) -> None:
    lines = [
        line(name) + f",{split},{group},toys,CC0-1.0"
        for name, split, group in zip(FILES, ("train", "", "test", "val"), ("a", "", "b", "b"), strict=True)
    ]
    text = "file,sha256,size,split,group,domain,licence\n" + "\n".join(lines) + "\n"
    scan = Scan(base, None)
    found = discover(base, scan, manifest=manifest(base, text))
    assert scan.hashed == 0
    assert ids(found) == [digest(content) for content in FILES.values()]
    assert found.split == ["train", "", "test", "val"]
    assert found.group == ["a", "id:" + digest(b"ann2").hex(), "b", "b"]
    assert found.domain == ["toys"] * 4
    assert found.notes == ("list.csv: licences CC0-1.0 4",)
    assert found.licence == "CC0-1.0 4"
    assert not found.problems


def test_a_group_or_a_content_in_two_splits_is_named_with_its_lines(base: Path) -> None:
    rows = "ann/ann-1.png,train,g", "bob/bob-1.png,,", "ann/ann-2.png,test,g"
    found = discover(base, manifest=manifest(base, "file,split,group\n" + "".join(f"photos/{row}\n" for row in rows)))
    places = (
        rf"{base}/photos/ann/ann-1\.png \({base}/list\.csv:2\) in train and "
        rf"{base}/photos/ann/ann-2\.png \({base}/list\.csv:4\) in test; "
    )
    with pytest.raises(SourceError, match=rf"^photos: one group stands in two splits, {places}give all rows"):
        tabulate(found, "photos", 0, {"train": 1.0}, Names())
    (base / "photos/ann/ann-2.png").write_bytes(FILES["ann/ann-1.png"])
    found = discover(base, manifest="list.csv")
    with pytest.raises(SourceError, match=rf"^photos: the same content stands in two splits, {places}remove one"):
        tabulate(found, "photos", 0, {"train": 1.0}, Names())


def test_rows_without_a_digest_are_read(base: Path) -> None:
    declared = hashlib.sha256(b"ann1").hexdigest() + ",photos/ann/ann-1.png\n"
    text = "sha256,file\n,photos/bob/bob-1.png\n" + declared + ",photos/ann/ann-2.png\n"
    scan = Scan(base, None)
    found = discover(base, scan, manifest=manifest(base, text))
    assert scan.hashed == 2
    assert ids(found) == [digest(b"bob1"), digest(b"ann1"), digest(b"ann2")]
    assert [Path(place).name for place in found.payload["location"]] == ["bob-1.png", "ann-1.png", "ann-2.png"]


def test_missing_files_and_wrong_sizes_are_problems_with_their_line(base: Path) -> None:
    lines = [line("ann/ann-1.png"), line("bob/bob-1.png", size="9"), "photos/gone.png,,"]
    found = discover(base, manifest=manifest(base, "file,sha256,size\n" + "\n".join(lines) + "\n"))
    assert found.problems == {
        1: f"has 4 bytes, expected 9 ({base}/list.csv:3)",
        2: f"the file does not exist ({base}/list.csv:4)",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label\na.png;real\n", "list.csv:1 'file;label' has semicolons between its columns, expected commas"),
        ("file,splt\na.png,train\n", "list.csv:1 'splt' is not a column of a manifest; did you mean 'split'?"),
        ("sha256\n" + "0" * 64 + "\n", "list.csv:1 has no column 'file'; found sha256"),
        ("file,file\na,b\n", "list.csv:1 column 'file' occurs twice"),
        ("file,sha256\na.png,\nb.png,12\n", "list.csv:3 sha256 is '12', expected 64 hexadecimal digits"),
        ("file,split\na.png,tets\n", "list.csv:2 split is 'tets', expected train, val or test; did you mean 'test'?"),
        ("file,size\na.png,many\n", "list.csv:2 size is 'many', expected a number of bytes"),
        ("file\na.png\nb.png\n./a.png\n", "list.csv:4 './a.png' is already in line 2"),
        ("file\n../a.png\n", "list.csv:2 '../a.png' is a path outside the root"),
        ("file\nx/../../a.png\n", "is a path outside the root"),
        ("file\n/etc/hostname\n", "list.csv:2 '/etc/hostname' is a path outside the root"),
        ("file,split\na.png\n", "list.csv:2 has 1 values, expected 2"),
        ("file,split\n,train\n", "list.csv:2 has no file"),
        ('file\n"a.png\n', "is no CSV"),
    ],
)
def test_a_bad_table_is_named_by_file_and_line(base: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        discover(base, manifest=manifest(base, text))


def test_a_table_that_is_not_utf8_is_refused(base: Path) -> None:
    (base / "list.csv").write_bytes(b"file\n\xff.png\n")
    with pytest.raises(ConfigError, match="expected UTF-8 text, found byte 0xff"):
        discover(base, manifest="list.csv")


def test_a_table_without_rows_and_a_missing_manifest_are_errors(base: Path) -> None:
    with pytest.raises(ConfigError, match="has no rows, expected at least one"):
        discover(base, manifest=manifest(base, "file\n"))
    with pytest.raises(ConfigError, match=r"none\.csv: the manifest does not exist; .* relative to the pipeline file$"):
        discover(base, manifest="none.csv")


def test_yaml_rows_are_texts_whatever_they_look_like(base: Path) -> None:
    """`no`, `1e3` and digits stay what is written; a digest of digits only is still a digest."""
    (base / "photos" / "no").write_bytes(b"norway")
    digits = "1" * 64
    rows = f"  - {{file: no, group: 1e3}}\n  - {{file: ann/ann-1.png, sha256: {digits}, split: val}}\n"
    text = "name: toys\nlicence: MIT\nroot: photos\nrows:\n" + rows
    found = discover(base, manifest=manifest(base, text, "toys.yaml"))
    assert ids(found) == [digest(b"norway"), bytes.fromhex(digits)[:16]]
    assert found.split == ["", "val"]
    assert found.group == ["1e3", "id:" + digits[:32]]
    assert found.notes == ("toys: licences MIT 2",)


def test_yaml_header_may_name_a_table(base: Path) -> None:
    manifest(base, "file,split\nann/ann-1.png,train\n", "rows.csv")
    found = discover(base, manifest=manifest(base, "name: toys\nroot: photos\nrows: rows.csv\n", "toys.yaml"))
    assert ids(found) == [digest(b"ann1")]
    assert found.split == ["train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: toys\nlicense: MIT\nrows: []\n", "toys.yaml:2 'license' is no manifest key; did you mean 'licence'?"),
        (
            "rows:\n  - {file: a.png}\n  - {fil: b.png}\n",
            "toys.yaml:3 'fil' is no column of a manifest; did you mean 'file'?",
        ),
        ("rows:\n  - {file: a.png, file: b.png}\n", "toys.yaml:2 'file' occurs twice"),
        ("rows:\n  - a.png\n", "toys.yaml:2 expected a row such as {file: a.png, split: train}"),
        ("rows:\n  - {file: [a.png]}\n", "toys.yaml:2 'file' must be a single value"),
        ("rows: none.csv\n", "does not exist, expected a CSV table"),
        ("name: toys\n", "has no 'rows'"),
        ("- a\n", "toys.yaml:1 expected a mapping with the key 'rows'"),
        ("rows: [\n", "toys.yaml:2 is not valid YAML"),
        ("rows:\n  - {file: ../a.png}\n", "toys.yaml:2 '../a.png' is a path outside the root"),
    ],
)
def test_a_bad_yaml_manifest_is_named_by_file_and_line(base: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        discover(base, manifest=manifest(base, text, "toys.yaml"))


@pytest.mark.parametrize(
    "setting", [{"group_by": "folder"}, {"domain_by": "folder"}, {"splits": {"train": 0.5, "test": 0.5}}]
)
def test_a_setting_that_the_manifest_overrides_is_an_error(base: Path, setting: dict[str, Any]) -> None:
    name = manifest(base, "file,split,group,domain\nphotos/ann/ann-1.png,train,g,d\n")
    with pytest.raises(ConfigError, match=r"has no effect: .*list\.csv gives every row a"):
        discover(base, manifest=name, **setting)


def test_zip_members_are_rows(base: Path) -> None:
    place = base / "odd!name.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    found = discover(base, zip=place.name, group_by="folder")
    assert ids(found) == [digest(content) for content in FILES.values()]
    assert found.payload["location"][0] == f"zip:{place}!ann/ann-1.png"
    config = IngestConfig(zip=place.name)
    assert [STAGE.read(config, where) for where in found.payload["location"]] == list(FILES.values())
    with pytest.raises(RowError, match=r"gone\.png cannot be read from"):
        STAGE.read(config, f"zip:{place}!gone.png")


TORCHVISION = {"dataset": "FakeData", "arguments": {"size": 3, "image_size": [3, 5, 7], "num_classes": 2}}


def test_torchvision_items_are_ppm_files_with_their_digest_as_id(base: Path) -> None:
    from torchvision.datasets import FakeData

    found = discover(base, torchvision=TORCHVISION)
    config = IngestConfig.model_validate({"torchvision": TORCHVISION})
    contents = [STAGE.read(config, place) for place in found.payload["location"]]
    assert ids(found) == [digest(content) for content in contents]
    assert contents[0].startswith(b"P6\n7 5\n255\n")
    expected = np.asarray(FakeData(size=3, image_size=(3, 5, 7), num_classes=2)[1][0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(contents[1]))), expected)


def test_torchvision_folder_is_read_once_while_untouched(base: Path) -> None:
    for name, content in {"cat/a.png": encoded(), "dog/b.png": encoded(pixels=PIXELS[::-1].copy())}.items():
        (base / "classes" / name).parent.mkdir(parents=True)
        (base / "classes" / name).write_bytes(content)
    source = {"dataset": "ImageFolder", "arguments": {"root": "classes"}}

    def look() -> SourceRows:
        return discover(base, Scan(base, base / "stats", clock=lambda: time.time_ns() + 10**13), torchvision=source)

    first = look()
    assert first.payload["location"][1] == f"torchvision:{base}/classes#1"
    assert ids(first)[0] == digest(b"P6\n20 12\n255\n" + PIXELS.tobytes())
    (base / "classes" / "dog" / "b.png").write_bytes(b"touched: read again")
    with pytest.raises(Exception, match="cannot identify image file"):
        look()


@pytest.mark.parametrize("kind", ["deep", "transparent", "turned"])
def test_what_the_loader_of_torchvision_drops_is_refused(base: Path, kind: str) -> None:
    """It converts to RGB: 16 bits would be white, what is transparent opaque, and a turned picture not upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, options, found = {
        "deep": (Image.fromarray(np.arange(240, dtype=np.uint16).reshape(12, 20) * 200), {}, "mode L;16"),
        "transparent": (Image.new("RGBA", (20, 12), (1, 2, 3, 100)), {}, "mode RGBA"),
        "turned": (Image.new("RGB", (20, 12)), {"exif": exif}, "EXIF orientation 6"),
    }[kind]
    (base / "classes" / "cat").mkdir(parents=True)
    picture.save(base / "classes" / "cat" / "a.png", **options)
    with pytest.raises(
        ConfigError, match=rf"a.png has {found}, which .*ImageFolder drops; read its root with `folder`"
    ):
        discover(base, torchvision={"dataset": "ImageFolder", "arguments": {"root": "classes"}})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"dataset": "CIFR10"}, "'CIFR10' is no data set of torchvision.datasets"),
        ({"dataset": "FakeData", "arguments": {"sise": 3}}, "FakeData cannot be opened: .*sise"),
        (
            {"dataset": "CIFAR10", "arguments": {"root": "nowhere"}},
            "expected the folder of torchvision.datasets.CIFAR10",
        ),
        ({"dataset": "CIFAR10", "arguments": {"root": "photos"}}, "CIFAR10 cannot be opened: Dataset not found"),
    ],
)
def test_torchvision_mistakes_are_one_sentence(base: Path, source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        discover(base, torchvision=source)


def test_locations_are_picked_by_integer_arrays_and_travel_in_slices() -> None:
    places = Locations("/data/", ["a", "b", "c\udcff"])
    assert places[1] == "/data/b"
    assert list(places[np.array([2, 0])]) == ["/data/c\udcff", "/data/a"]
    assert list(pickle.loads(pickle.dumps(places[1:]))) == ["/data/b", "/data/c\udcff"]
    assert np.asarray(places).tolist() == list(places)


# Container facts


def facts(*contents: bytes) -> tuple[dict[str, np.ndarray], Context]:
    rows = np.array([digest(content) for content in contents], ID)
    context = Context(0, "ingest")
    config = IngestConfig(folder="photos")
    values = dict(STAGE.compute(config, Batch(rows, reader=lambda row: contents[row]), context))
    for name, item in STAGE.schema(config, {}).items():
        assert values[name].dtype == np.dtype(item.dtype)
        assert values[name].shape == (len(contents), *item.shape)
    assert set(values) == set(FACTS)
    return values, context


def test_jpeg_facts_agree_with_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options: list[dict[str, Any]] = [
        {"quality": 35, "subsampling": "4:2:0", "exif": exif},
        {"quality": 90, "subsampling": "4:4:4", "icc_profile": b"profile", "progressive": True},
        {"quality": 75, "subsampling": "4:2:2"},
    ]
    contents = [encoded("JPEG", **each) for each in options]
    values, _ = facts(*contents)
    assert texts(values["codec"]) == ["jpeg"] * 3
    assert texts(values["subsampling"]) == ["4:2:0", "4:4:4", "4:2:2"]
    assert values["orientation"].tolist() == [6, 0, 0]
    assert values["has_exif"].tolist() == [1, 0, 0]
    assert values["has_icc"].tolist() == [0, 1, 0]
    assert values["native_size"].tolist() == [[20, 12]] * 3
    assert values["file_bytes"].tolist() == [len(content) for content in contents]
    for row, content in enumerate(contents):
        with Image.open(io.BytesIO(content)) as image:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            assert {
                k: list(table) for k, table in enumerate(values["quantization"][row].tolist())
            } == image.quantization


def test_facts_of_other_codecs() -> None:
    gray, palette = PIXELS[:, :, 0].copy(), Image.fromarray(PIXELS).quantize(16)
    stream = io.BytesIO()
    palette.save(stream, "GIF", save_all=True, append_images=[palette.rotate(180), palette])
    values, context = facts(
        encoded(),
        encoded(pixels=gray),
        stream.getvalue(),
        encoded("WEBP"),
        encoded("BMP"),
        encoded("PPM"),
        encoded("PPM", gray),
        encoded("JPEG", gray),
        encoded(icc_profile=b"profile"),
    )
    assert not context.failures
    assert texts(values["codec"]) == ["png", "png", "gif", "webp", "bmp", "ppm", "ppm", "jpeg", "png"]
    assert values["mode"].view("S8")[:, 0].tolist() == [b"RGB", b"L", b"P", b"RGB", b"RGB", b"RGB", b"L", b"L", b"RGB"]
    assert values["frames"].tolist() == [1, 1, 3, 1, 1, 1, 1, 1, 1]
    assert values["native_size"].tolist() == [[20, 12]] * 9
    assert values["has_icc"].tolist() == [0] * 8 + [1]
    assert not values["quantization"][:7].any()
    assert values["quantization"][7, 0].any()
    assert not values["quantization"][7, 1].any()


def test_files_that_are_no_image_fail_their_row_only() -> None:
    values, context = facts(b"", b"not an image", encoded(), encoded()[:50], encoded("JPEG")[:30])
    assert sorted(context.failures) == [0, 1, 3, 4]
    assert context.failures[0] == "the file is empty (0 bytes), expected an image"
    assert "expected a PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP, PPM or PGM file" in context.failures[1]
    assert "truncated" in context.failures[3]
    assert texts(values["codec"])[2] == "png"


@pytest.mark.parametrize("side", [0, 2**31, 2**32 - 1])
def test_sizes_that_no_picture_has_fail(side: int) -> None:
    content = bytearray(encoded())
    content[16:20] = side.to_bytes(4, "big")
    _, context = facts(bytes(content))
    assert "pixels, expected a picture" in context.failures[0]


def test_no_prefix_of_a_file_raises_anything_but_one_sentence() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    messages = []
    for codec in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"):
        content = encoded(codec, **({"exif": exif} if codec in ("PNG", "JPEG", "WEBP") else {}))
        for length in range(0, min(len(content), 700), 7):
            try:
                decode(content[:length], 10**6)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 300
    assert all(message and "\n" not in message for message in messages)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05\x01\x12", b"nonsense"]
)
def test_damaged_exif_is_orientation_zero(exif: bytes) -> None:
    assert exif_orientation(exif) == 0


def test_photographs_of_the_repository_are_as_their_manifest_says() -> None:
    base = Path(__file__).parents[2]
    found = discover(base, manifest="manifests/photos.yaml")
    assert not found.problems
    sample = range(0, len(found.id), 25)
    config = IngestConfig(manifest="manifests/photos.yaml")
    for row in sample:
        assert digest(STAGE.read(config, found.payload["location"][row])) == bytes(found.id[row])
    splits: dict[str, set[str]] = {}
    for group, split in zip(found.group or (), found.split or (), strict=True):
        splits.setdefault(str(group), set()).add(split)
    assert all(len(split) == 1 for split in splits.values())
    assert {(domain, split) for domain, split in zip(found.domain or (), found.split or (), strict=True)} == {
        (domain, split) for domain in ("budgie", "clothing", "grocery") for split in ("train", "val", "test")
    }
