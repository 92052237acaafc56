"""Classes, splits, domains and groups as folders, lists and tables say them, in one line of a pipeline file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from golden_files import GoldenDocument
from pydantic import ValidationError
from reader_rows import STAGE, discover, example, picture, plant, record, table, tabulated

from pipeline.errors import ConfigError, SourceError
from pipeline.stage import Batch, Context


@pytest.mark.golden("layouts", "layouts.json")
def test_every_published_layout_is_told_by_itself(golden: GoldenDocument, tmp_path: Path) -> None:
    for name, rows in golden.content.items():
        folder = plant(tmp_path / name, *(row["path"] for row in rows))
        for one in golden.path.parent.glob("*.json"):  # pairs of videos lie beside them
            if name == "faceforensics" and one.stem in ("train", "val", "test"):
                (folder / one.name).write_bytes(one.read_bytes())
        found = {row["location"]: row for row in table(tmp_path, folder=name, layout="auto")}
        assert len(found) == len(rows)
        for row in rows:
            one = found[str(folder / row["path"])]
            assert [one[key] for key in ("label", "domain", "split")] == [row["label"], row["domain"], row["split"]]
            assert row["group"] in (None, one["group"])


@pytest.mark.golden("layouts", "celeba_expected.json")
def test_persons_and_splits_of_celeba(golden: GoldenDocument, tmp_path: Path) -> None:
    lists = {"lists": str(golden.path.parent), "layout": "celeba"}
    rows = golden["celeba"]
    plant(tmp_path / "img", *(f"img_align_celeba/{row['file']}" for row in rows))
    attribute = next(iter(rows[0]["attributes"]))
    found = table(tmp_path, folder="img", domain_by=attribute, **lists)
    assert [(row["label"], row["split"], row["group"]) for row in found] == [
        (0, row["split"], f"identity {row['identity']}") for row in rows
    ]
    assert [row["domain"] for row in found] == [
        attribute if row["attributes"][attribute] == 1 else f"not {attribute}" for row in rows
    ]
    records = golden["celebahq_record"]
    arrays = [record(example((3, 4, 4), bytes([number] * 48))) for number in range(len(records))]
    (tmp_path / "hq-r02.tfrecords").write_bytes(b"".join(arrays))
    found = table(tmp_path, tfrecord=".", order="shuffled", **lists)
    assert [(row["split"], row["group"], row["domain"]) for row in found] == [
        (row["split"], row["group"], "celebahq") for row in records
    ]
    with pytest.raises(ConfigError, match="a layout needs file names"):
        discover(tmp_path, tfrecord=".", **lists)


def test_lists_of_celeba_in_the_form_of_kaggle(tmp_path: Path) -> None:
    plant(tmp_path / "a", "img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg")
    for name, column, values in (("list_eval_partition", "partition", "02"), ("identity_CelebA", "identity", "78")):
        lines = [f"00000{number}.jpg,{value}\n" for number, value in enumerate(values, 1)]
        (tmp_path / f"a/{name}.csv").write_text(f"image_id,{column}\n" + "".join(lines))
    attributes = "image_id,Smiling,Male\n000001.jpg,1,-1\n000002.jpg,-1,1\n"
    (tmp_path / "a/list_attr_celeba.csv").write_text(attributes)
    rows = table(tmp_path, folder="a", layout="auto", domain_by="Male")
    assert [(row["split"], row["group"], row["domain"]) for row in rows] == [
        ("train", "identity 7", "not Male"), ("test", "identity 8", "Male")
    ]  # fmt: skip


@pytest.mark.golden("layouts", "ffhq_expected.json")
def test_splits_and_licences_of_ffhq(golden: GoldenDocument, tmp_path: Path) -> None:
    rows = list(golden.content.values())
    plant(tmp_path / "a", *(row["image"] for row in rows))
    settings = {"folder": "a", "layout": "auto", "lists": str(golden.path.parent)}
    for rule, key in (("category", "category_split"), ("chai2020", "chai_split")):
        found = {row["location"]: row for row in table(tmp_path, ffhq_split=rule, **settings)}
        assert [found[str(tmp_path / "a" / row["image"])]["split"] for row in rows] == [row[key] for row in rows]
    licence = discover(tmp_path, **settings).licence
    for name in {row["licence"] for row in rows}:
        assert f"{name} {sum(row['licence'] == name for row in rows)}" in licence


@pytest.mark.golden("layouts", "faceforensics_pairs.json")
def test_pairs_of_videos(golden: GoldenDocument, tmp_path: Path) -> None:
    lists, splits = str(golden.path.parent), golden.content
    both = {name for rows in splits.values() for row in rows["both"] for name in row.values()}
    paths = {name: f"manipulated_sequences/Face2Face/c40/videos/{name}.mp4" if "_" in name else
             f"original_sequences/youtube/c40/videos/{name}.mp4" for name in both}  # fmt: skip
    plant(tmp_path / "a", *paths.values())
    for policy in ("reference", "both"):
        found = table(tmp_path, folder="a", layout="auto", lists=lists, pairs=policy)
        assert {(Path(row["location"]).stem, row["split"], row["label"]) for row in found} == {
            (name, split, int("_" in name))
            for split, rows in splits.items() for row in rows[policy] for name in row.values()
        }  # fmt: skip
    plant(tmp_path / "a", "original_sequences/youtube/c40/videos/999.mp4")
    with pytest.raises(ConfigError, match=r"1 video in no pair of the lists, e.g. .*999.mp4"):
        discover(tmp_path, folder="a", layout="faceforensics", lists=lists)
    plant(tmp_path / "a", "original_sequences/actors/c23/videos/01__kitchen.mp4")
    with pytest.raises(ConfigError, match=r"compressions c23, c40; name one"):
        discover(tmp_path, folder="a", layout="faceforensics", lists=lists)
    found = table(tmp_path, folder="a", layout="faceforensics", lists=lists, compression="c23")
    assert [(row["group"], row["domain"]) for row in found] == [("01", "actors")]


def test_frames_of_deepfakebench_are_joined_by_path_and_counted_once(tmp_path: Path) -> None:
    plant(tmp_path / "a", "ff/000/1.png", "fsgan/000_003/1.png", "fsgan/000_003/2.png", "other.png")
    real = {"FF-real": {"test": {"c23": {"000": {"label": "FF-real", "frames": ["ff/000/1.png"]}}}}}
    fake = {"test": {"000_003": {"label": "x", "frames": ["fsgan\\000_003\\1.png", "fsgan/000_003/2.png", "lost.png"]}}}
    (tmp_path / "a/dataset_json").mkdir()
    for name, content in (("one", {"FF": real}), ("two", {"fsgan": {**real, "fsgan_Fake": fake}})):
        (tmp_path / f"a/dataset_json/{name}.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"'FF-real', 'fsgan_Fake'.*say neither real nor fake"):
        discover(tmp_path, folder="a", layout="auto")
    settings = {"folder": "a", "layout": "auto", "labels": {"FF-real": "real", "fsgan_Fake": "fake"}}
    found = table(tmp_path, **settings)
    assert [(row["label"], row["split"], row["domain"], row["group"]) for row in found] == [
        (0, "test", "FF-real", "000"), (1, "test", "fsgan_Fake", "000_003"), (1, "test", "fsgan_Fake", "000_003")
    ]  # fmt: skip
    assert any("1 frame of the lists" in note and "lost.png" in note for note in discover(tmp_path, **settings).notes)


TREES: dict[str, dict[str, tuple[int, str, str | None]]] = {
    "genimage with the inner folder": {
        "stable_diffusion_v_1_4/imagenet_0419_sdv4/train/ai/000_sdv4_00001.png": (1, "stable_diffusion_v_1_4", "train"),
        "stable_diffusion_v_1_4/imagenet_0419_sdv4/val/nature/n01440764_10.JPEG": (0, "stable_diffusion_v_1_4", "val"),
        "BigGAN/train/nature/n01440764_9.JPEG": (0, "BigGAN", "train"),
    },
    "one generator of genimage": {
        "imagenet_ai_0419_biggan/train/ai/1.png": (1, "imagenet_ai_0419_biggan", "train"),
        "imagenet_ai_0419_biggan/train/nature/n01440764_9.JPEG": (0, "imagenet_ai_0419_biggan", "train"),
    },
    "shared reals": {
        "guided/1_fake/1.png": (1, "guided", None),
        "imagenet/0_real/1.png": (0, "imagenet", None),
        "laion/0_real/1.png": (0, "laion", None),
        "ldm_200_cfg/1_fake/1.png": (1, "ldm_200_cfg", None),
    },
    "a vehicle is no split": {
        "train/0_real/1.png": (0, "train", None),
        "train/1_fake/1.png": (1, "train", None),
        "sofa/1_fake/1.png": (1, "sofa", None),
    },
    "wildrf": {
        "train/0_real/1.png": (0, ".", "train"),
        "test/reddit/1_fake/1.png": (1, "reddit", "test"),
        "test/facebook/0_real/1.png": (0, "facebook", "test"),
    },
    "diffusionforensics": {
        "images/train/lsun_bedroom/real/1.png": (0, "lsun_bedroom", "train"),
        "images/test/lsun_bedroom/adm/1.png": (1, "lsun_bedroom/adm", "test"),
        "images/val/imagenet/sdv1/x/1.png": (1, "imagenet/sdv1", "val"),
    },
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", TREES)
def test_miniatures_import_in_one_line(name: str, packed: bool, tmp_path: Path) -> None:
    tree = TREES[name]
    plant(tmp_path / "set", *tree)
    source = {"folder": "set"}
    if packed:
        source = {"zip": "set.zip"}
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for path in tree:
                archive.write(tmp_path / "set" / path, path)
    rows = table(tmp_path, **source, layout="auto")
    found = {row["location"].partition("set.zip!" if packed else "set/")[2]: row for row in rows}
    assert {path: (row["label"], row["domain"], row["split"]) for path, row in found.items()} == tree


def test_a_benchmark_is_named_by_its_sets_and_its_counts_are_compared(tmp_path: Path) -> None:
    plant(tmp_path / "a", "seeingdark/0_real/1.png", "seeingdark/1_fake/1.png", "crn/1_fake/1.png")
    notes = discover(tmp_path, folder="a", layout="auto").notes
    assert "a: layout: binary leaves" in notes
    assert "a: benchmark: forensynths, by the names of its sets" in notes
    assert any("crn expected 12,800, found 1; seeingdark expected 360, found 2" in one for one in notes)
    assert any("11 sets missing: progan, stylegan," in one for one in notes)
    plant(tmp_path / "b", "progan/1_fake/1.png", "ours/0_real/1.png")
    assert discover(tmp_path, folder="b", layout="auto").notes == ("b: layout: binary leaves",)
    plant(tmp_path / "c", "progan/1_fake/1.png", "progan/0_real/1.png")
    assert (
        "c: benchmark: forensynths or aigcdetect, which have sets of these names"
        in discover(tmp_path, folder="c", layout="auto").notes
    )


def test_derived_images_of_diffusionforensics_are_no_rows(tmp_path: Path) -> None:
    plant(tmp_path / "a", *(f"{kind}/train/imagenet/{name}/1.png" for kind in ("dire", "images", "recons")
                            for name in ("real", "adm")))  # fmt: skip
    rows = table(tmp_path, folder="a", layout="auto")
    assert [row["location"].partition("/a/")[2] for row in rows] == [
        "images/train/imagenet/adm/1.png",
        "images/train/imagenet/real/1.png",
    ]
    assert [row["label"] for row in rows] == [1, 0]


# Planted dirt


def test_classes_are_told_where_folders_lie_below_them(tmp_path: Path) -> None:
    plant(tmp_path / "both", "real/cats/1.png", "real/dogs/2.png", "fake/g1/3.png", "fake/g2/deep/4.png")
    rows = table(tmp_path, folder="both", layout="auto")
    found = {row["location"].rpartition("/")[2]: (row["label"], row["domain"]) for row in rows}
    assert found == {"1.png": (0, "cats"), "2.png": (0, "dogs"), "3.png": (1, "g1"), "4.png": (1, "g2/deep")}
    plant(tmp_path / "one", "photos/real/1.png", "photos/real/2.png", "photos/lakes/a/3.png", "photos/lakes/b/4.png")
    plant(tmp_path / "one", "photos/lakes/c/5.png")
    notes = discover(tmp_path, folder="one", layout="auto").notes
    assert "one: layout: plain, no published one fits" in notes  # one class alone is a name as any other


def test_an_unknown_class_folder_is_found_by_name(tmp_path: Path) -> None:
    plant(tmp_path / "a", "progan/0_real/1.png", "progan/1_fake/1.png", "progan/2_other/1.png")
    with pytest.raises(ConfigError, match=r"1 folder, e.g. 'progan/2_other'.*labels: \{2_other: fake\}"):
        discover(tmp_path, folder="a", layout="auto")
    rows = table(tmp_path, folder="a", layout="auto", labels={"2_other": "fake"})
    assert [row["label"] for row in rows] == [0, 1, 1]


def test_damaged_and_missing_pieces_are_found_by_name(tmp_path: Path) -> None:
    path = "stable_diffusion_v_1_4/train/ai/033_sdv4_00152.png"
    plant(tmp_path / "a", path, "stable_diffusion_v_1_4/train/nature/n01440764_1.JPEG")
    (tmp_path / "a" / path).write_bytes(b"")
    found = discover(tmp_path, folder="a", layout="auto")
    assert any("1 file known to be damaged as published: " + path in note for note in found.notes)
    context = Context(0, "ingest")
    contents = [Path(place).read_bytes() for place in found.payload["location"]]
    STAGE.compute(None, Batch(found.id, reader=lambda row: contents[row]), context)
    assert context.failures == {0: "the file is empty (0 bytes), expected an image"}
    (tmp_path / "whole.zip").write_bytes(b"...the last part of a longer archive")
    (tmp_path / "whole.z01").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"whole.zip: is the last part of a split zip file; join the parts"):
        discover(tmp_path, zip="whole.zip")


def test_numbers_never_decide(tmp_path: Path) -> None:
    plant(tmp_path / "a", "0_fake/1.png", "1_real/1.png")
    with pytest.raises(ConfigError, match="0_fake"):
        discover(tmp_path, folder="a", label_by="folder")


def test_exchanged_classes_of_genimage_are_found_by_name(tmp_path: Path) -> None:
    plant(tmp_path / "a", "BigGAN/train/ai/n01440764_1.JPEG", "BigGAN/train/nature/000_biggan_1.png")
    with pytest.raises(ConfigError, match=r"BigGAN/train/ai holds 1 files .* exchanged"):
        discover(tmp_path, folder="a", layout="genimage")


def test_one_content_of_both_classes_is_found_by_name(tmp_path: Path) -> None:
    plant(tmp_path / "a", "x/0_real/1.png", "x/1_fake/1.png", "x/1_fake/2.png")
    (tmp_path / "a/x/1_fake/2.png").write_bytes(picture("x/0_real/1.png"))
    with pytest.raises(SourceError, match=r"is real \(.*0_real/1.png\) and fake \(.*1_fake/2.png\)"):
        tabulated(tmp_path, folder="a", layout="auto")
    (tmp_path / "a/x/1_fake/2.png").write_bytes(picture("x/1_fake/1.png"))
    one = tabulated(tmp_path, folder="a", layout="auto")
    assert any("1_fake/2.png = " in note and "count" in note for note in one.notes)
    assert one.rows.label.tolist().count(1) == 1


def test_both_classes_taken_for_one_are_told(tmp_path: Path) -> None:
    plant(tmp_path / "a", "0_real/1.png", "1_fake/1.png")
    assert "layout: auto or label_by: folder" in discover(tmp_path, folder="a").notes[0]
    assert discover(tmp_path, folder="a", label="real").notes == ()


# Labels and splits as users have them


def test_label_and_split_by_folder(tmp_path: Path) -> None:
    plant(tmp_path / "a", "Train/Real/x.png", "train/generated/y.png", "validation/human/z.png")
    rows = table(tmp_path, folder="a", label_by="folder", split_by="folder")
    assert [(row["label"], row["split"]) for row in rows] == [(0, "train"), (1, "train"), (0, "val")]
    plant(tmp_path / "a", "other/real/x.png")
    with pytest.raises(ConfigError, match=r"split_by: folder does not know 1 folder, e.g. 'other/real'"):
        discover(tmp_path, folder="a", label_by="folder", split_by="folder")


def write(base: Path, text: str) -> None:
    (base / "list.csv").write_text(text)


def test_a_table_of_path_label_and_split_goes_in_at_once(tmp_path: Path) -> None:
    plant(tmp_path / "pictures", "a.png", "b.png", "c.png")
    write(tmp_path, f"path,label,split\n{tmp_path}/pictures/a.png,real,train\nb.png,fake,test\nc.png,AI,val\n")
    rows = table(tmp_path, manifest="list.csv", root="pictures")
    assert [(row["label"], row["split"]) for row in rows] == [(0, "train"), (1, "test"), (1, "val")]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("path,label\na.png,0\n", {}, r"label.* '0' \(first: .*list.csv:2\).*labels: \{0: fake\}"),
        ("path,label\na.png,\nb.png,real\n", {}, r"label '' .*list.csv:2"),
        ("path,label\na.png,real\n", {"label": "fake"}, "`label` has no effect"),
        ("path\na.png\n", {"label_by": "column"}, "gives its rows no label"),
        ("path,image\na.png,b.png\n", {}, "columns path and image.*rename the right one to 'file'"),
        ("picture,label\na.png,real\n", {}, "'picture' is not a column of a manifest; allowed: .*file"),
        ("file\n/elsewhere/a.png\n", {}, "outside the root"),
        ("file\na.png\n", {"domain_by": "Male"}, "domain_by is 'Male', expected none or one of folder"),
    ],
)
def test_bad_tables_are_told_the_way_out(tmp_path: Path, text: str, settings: dict[str, Any], message: str) -> None:
    plant(tmp_path, "a.png", "b.png")
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        discover(tmp_path, manifest="list.csv", **settings)


def test_numbers_count_where_they_are_explained(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    write(tmp_path, "image,label\na.png,0\nb.png,1\n")
    rows = table(tmp_path, manifest="list.csv", labels={0: "fake", 1: "real"})
    assert [row["label"] for row in rows] == [1, 0]


def test_a_setting_without_effect_is_refused() -> None:
    from stages.ingest import IngestConfig

    for settings, message in (
        ({"zip": "a", "root": "b"}, "root has no effect on zip"),
        ({"folder": "a", "layout": "genimag"}, "did you mean 'genimage'"),
        ({"folder": "a", "label": "fake", "label_by": "folder"}, "label has no effect beside label_by"),
    ):
        with pytest.raises(ValidationError, match=message):
            IngestConfig.model_validate(settings)


# What is known of published data sets


def test_each_entry_says_where_files_lie_and_their_digests_or_that_there_are_none() -> None:
    from stages.images.readers.benchmarks import datasets

    assert len(datasets()["forensynths"]["sets"]) == 13 == len(datasets()["forensynths"]["about"])
    nested = {name for name, about in datasets()["forensynths"]["about"].items() if about["classes"]}
    assert nested == {"progan", "stylegan", "stylegan2", "cyclegan"}
    for name, entry in datasets().items():
        assert {"title", "sets", "mirrors", "digests"} <= set(entry), name
        for text in [entry["title"], *entry["mirrors"], *entry.get("traps", ())]:
            assert isinstance(text, str), name
            assert not text.startswith(("whose", "although", "by ", "doi")), name  # cut at a comma
        for digest in (entry["digests"] or {}).values():
            assert len(bytes.fromhex(digest)) == 32


@pytest.mark.parametrize(
    ("paths", "settings", "notes"),
    [
        (["images1024x1024/00000/00000.png"], {}, ["ffhq expected 70,000, found 1"]),
        (
            ["100KFake/1.png", "celebA-HQ_10K/1.png", "thispersondoesntexists/1.png"],
            {"layout": "plain", "label_by": "folder", "domain_by": "folder",
             "labels": {"100KFake": "fake", "celebA-HQ_10K": "real", "thispersondoesntexists": "fake"}},
            ["benchmark: faceshq, by the names of its sets", "1 set missing: Flickr-Faces-HQ2_",
             "100KFake expected 10,000, found 1", "get it from its authors; digests: not published"],
        ),
        (["train/n02086240/1.JPEG", "val/n02115641/2.JPEG"], {},
         ["benchmark: imagewoof, by the names", "8 sets missing: n02087394,"]),
        (["images/val/imagenet/adm/1.png", "images/val/imagenet/real/2.png"], {},
         ["2 sets missing: lsun_bedroom, celebahq"]),
        (["original_sequences/youtube/c23/videos/000.mp4", "manipulated_sequences/FaceSwap/c23/videos/000_001.mp4"],
         {"allow_unlisted": True}, ["youtube expected 1,000, found 1; FaceSwap expected 1,000, found 1"]),
    ],
)  # fmt: skip
def test_counts_of_other_layouts_are_compared(
    paths: list[str], settings: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    plant(tmp_path / "a", *paths)
    found = "\n".join(discover(tmp_path, **{"folder": "a", "layout": "auto", **settings}).notes)
    for note in notes:
        assert note in found


def test_doctor_compares_counts_by_names_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "a", "seeingdark/0_real/1.png", "crn/1_fake/1.png")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a/crn/1_fake/1.png", "BigGAN/train/ai/1.png")
        archive.write(tmp_path / "a/seeingdark/0_real/1.png", "BigGAN/train/nature/n01440764_1.JPEG")
    (tmp_path / "m.csv").write_text("file,size\na/crn/1_fake/1.png,7\n")
    (tmp_path / "pipeline.yaml").write_text(
        "nodes:\n  a: {stage: ingest, folder: a, layout: auto}\n  b: {stage: ingest, zip: b.zip, layout: auto}\n"
        "  m: {stage: ingest, manifest: m.csv}\n"
    )
    monkeypatch.chdir(tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("doctor reads an image")

    torch = {"what": "torch", "found": "not asked here", "ok": True}
    monkeypatch.setattr("pipeline.commands.doctor._torch_pair", lambda: torch)
    monkeypatch.setattr("pipeline.inputs.scan._hash_file", refuse)
    monkeypatch.setattr("pipeline.inputs.archives.Archive.pieces", refuse)
    said = command(monkeypatch, capsys)("doctor")
    assert said.code == 1
    assert "ok    a: 2 images\n" in said.out
    assert "crn expected 12,800, found 1; seeingdark expected 360, found 1" in said.out
    assert "note  b.zip: genimage: 1 count not as expected (as published, not verified): BigGAN expected" in said.out
    size = (tmp_path / "a/crn/1_fake/1.png").stat().st_size
    assert f"FAIL  m: 1 image cannot be read, e.g. {tmp_path}/a/crn/1_fake/1.png: has {size} bytes, expec" in said.out


ACTORS = {  # 01 and 02 meet 03; 04 and 05 meet; 06 is alone
    "original_sequences/actors/c23/videos/01__kitchen.mp4": "01_02_03",
    "original_sequences/actors/c23/videos/03__kitchen.mp4": "01_02_03",
    "original_sequences/actors/c23/videos/06__kitchen.mp4": "06",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_03__kitchen__AAAAAAAA.mp4": "01_02_03",
    "manipulated_sequences/DeepFakeDetection/c23/videos/03_02__kitchen__BBBBBBBB.mp4": "01_02_03",
    "manipulated_sequences/DeepFakeDetection/c23/videos/05_04__kitchen__CCCCCCCC.mp4": "04_05",
}


def test_actors_who_meet_in_fakes_are_one_group(tmp_path: Path) -> None:
    plant(tmp_path / "a", *ACTORS)
    found = table(tmp_path, folder="a", layout="auto")
    assert {str(Path(row["location"]).relative_to(tmp_path / "a")): row["group"] for row in found} == ACTORS
    plant(tmp_path / "a", "manipulated_sequences/DeepFakeDetection/c23/videos/04_02__hall__DDDDDDDD.mp4")
    plant(tmp_path / "a", "manipulated_sequences/DeepFakeDetection/c23/videos/06_04__hall__EEEEEEEE.mp4")
    assert {row["group"] for row in table(tmp_path, folder="a", layout="auto")} == {"01_02_03_04_05_06"}
    assert any("all 6 actors meet" in note for note in discover(tmp_path, folder="a", layout="auto").notes)


def test_an_actor_stands_in_one_split(tmp_path: Path) -> None:
    plant(tmp_path / "a", *ACTORS)
    actors = {"val": ["06"], "test": ["04", "05", "03"]}
    found = table(tmp_path, folder="a", layout="auto", actors=actors)
    assert {(Path(row["location"]).stem, row["split"], row["group"]) for row in found} == {
        ("01__kitchen", "train", "01"), ("03__kitchen", "test", "03"), ("06__kitchen", "val", "06"),
        ("05_04__kitchen__CCCCCCCC", "test", "04_05"),
    }  # fmt: skip
    notes = discover(tmp_path, folder="a", layout="auto", actors=actors).notes
    assert "a: 2 fakes of actors in two splits left out" in notes
    for wrong, sentence in (({"val": ["07"]}, "no video of the actor '07'"), (
        {"val": ["01"], "test": ["01"]}, "names '01' twice")):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            discover(tmp_path, folder="a", layout="auto", actors=wrong)
