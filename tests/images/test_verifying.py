"""`verify: pixels`: images are compared with digests that published lists state, and named where they differ."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from reader_rows import STAGE, discover, example, plant, record
from toy_project import Project

from pipeline.commands.upkeep import freeze_nodes
from pipeline.declaring.config import load_pipeline
from pipeline.errors import ConfigError, SourceError
from pipeline.inputs.scan import Scan
from stages.ingest import IngestConfig

FFHQ = {"folder": "a", "layout": "auto", "verify": "pixels"}


def ffhq(folder: Path) -> Path:
    """Four photographs and a thumbnail; the list states another digest of the second and none of the third."""
    names = [f"images1024x1024/00000/0000{number}.png" for number in range(4)]
    names += ["thumbnails128x128/00000/00000.png"]
    plant(folder, *names)
    entries: dict[str, dict[str, Any]] = {}
    for name in names:
        number, kind = str(int(Path(name).stem)), "thumbnail" if name.startswith("thumb") else "image"
        entry = entries.setdefault(number, {"category": "training", "metadata": {"license": "CC0"}})
        with Image.open(folder / name) as image:
            entry[kind] = {"pixel_md5": hashlib.md5(np.asarray(image)).hexdigest()}
    entries["1"]["image"]["pixel_md5"] = "0" * 32
    del entries["2"]["image"]["pixel_md5"]
    (folder / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    return folder


def test_photographs_of_ffhq_that_differ_fail_by_name(tmp_path: Path) -> None:
    ffhq(tmp_path / "a")
    found = discover(tmp_path, **FFHQ)
    said = "pixel_md5 of 3 of 5 images, by ffhq-dataset-v2.json; not of 1 image: 00001.png; none is stated of 1 image"
    assert found.verified == said
    assert f"a: verified: {said}" in found.notes
    (row,) = found.problems
    assert found.payload["location"][row].endswith("a/images1024x1024/00000/00001.png")
    assert "and pixel_md5 of ffhq-dataset-v2.json is 00000000000000000000000000000000; get the" in found.problems[row]
    unasked = discover(tmp_path, folder="a", layout="auto")
    assert (unasked.verified, dict(unasked.problems)) == ("", {})


def test_photographs_of_celebahq_are_compared_by_planes_in_a_folder_and_in_records(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8) for number in range(3)]
    planes = [array.transpose(2, 0, 1).tobytes() for array in arrays]
    (tmp_path / "a").mkdir()
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"a/0000{number}.png")
    (tmp_path / "hq-r02.tfrecords").write_bytes(b"".join(record(example((3, 4, 4), one)) for one in planes))
    digests = [hashlib.md5(one).hexdigest() for one in planes[:2]] + [hashlib.md5(arrays[2].tobytes()).hexdigest()]
    (tmp_path / "image_list.txt").write_text("idx orig_file proc_md5 final_md5\n" + "".join(
        f"{number} 00000{number}.jpg x {digest.upper()}\n" for number, digest in enumerate(digests)))  # fmt: skip
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"00000{number}.jpg 0\n" for number in range(3)))
    settings = {"layout": "celeba", "lists": ".", "verify": "pixels"}
    for source in ({"folder": "a"}, {"tfrecord": "hq-r02.tfrecords", "order": "source"}):
        found = discover(tmp_path, **source, **settings)
        assert list(found.problems) == [2], source
        assert found.verified.startswith("final_md5 of 2 of 3 images, by image_list.txt; not of 1 image: ")
    (tmp_path / "image_list.txt").write_text("idx orig_file\n0 000000.jpg\n")
    with pytest.raises(
        SourceError, match=r"image_list.txt:1 has the columns .*expected idx, orig_file, final_md5 amon"
    ):
        discover(tmp_path, folder="a", **settings)


def test_the_order_of_records_of_ffhq_is_proved_by_their_pixels(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8) for number in range(9)]
    entries = {str(number): {"category": "training", "metadata": {"license": "CC0"},
                             "image": {"pixel_md5": hashlib.md5(array.tobytes()).hexdigest()}}
               for number, array in enumerate(arrays)}  # fmt: skip
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    order = np.arange(9)
    np.random.RandomState(123).shuffle(order)  # as the published exporter does
    for name, numbers in (("source", range(9)), ("shuffled", order)):
        planes = [arrays[number].transpose(2, 0, 1).tobytes() for number in numbers]
        (tmp_path / f"{name}-r02.tfrecords").write_bytes(b"".join(record(example((3, 4, 4), one)) for one in planes))
        for asked in ("source", "shuffled"):
            settings = {"layout": "ffhq", "lists": ".", "verify": "pixels", "order": asked}
            found = discover(tmp_path, tfrecord=f"{name}-r02.tfrecords", **settings)
            agree = sum(a == b for a, b in zip(numbers, range(9) if asked == "source" else order, strict=True))
            assert len(found.problems) == 9 - agree
            assert (agree == 9) == (asked == name)


def test_a_damaged_image_is_told_as_such_and_what_was_compared_is_remembered(tmp_path: Path) -> None:
    broken = ffhq(tmp_path / "a") / "images1024x1024/00000/00003.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    found, read = [], []
    for _ in range(2):
        scan = Scan(tmp_path, tmp_path / "cache.npz", clock=lambda: time.time_ns() + 10**11)
        found.append(STAGE.discover(IngestConfig.model_validate(FFHQ), scan))
        read.append(scan.hashed)
    assert found[0].problems == found[1].problems
    assert sorted(found[0].problems) == [1, 3]
    assert "MD5" not in found[0].problems[3]
    assert (read[0] > 0, read[1]) == (True, 0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"layout": "genimage"}, "verify has no effect on folder; remove it"),
        ({"layout": "auto"}, r"verify: pixels has no effect, since only FFHQ \(pixel_md5 .* remove it"),
        ({"layout": "ffhq"}, "has no ffhq-dataset-v2.json beside its images; put it there, or name its folder"),
    ],
)
def test_where_nothing_can_be_compared_a_sentence_says_so(
    settings: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    plant(tmp_path / "a", "thumbnails128x128/00000/00000.png" if settings["layout"] == "ffhq" else "x/0_real/1.png")
    with pytest.raises((ConfigError, ValueError), match=sentence):
        discover(tmp_path, folder="a", verify="pixels", **settings)


def test_a_frozen_manifest_says_what_was_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffhq(tmp_path / "a")
    source = "photos: {stage: ingest, folder: a, layout: ffhq, verify: pixels, max_failed_rows: 1}"
    project = Project(tmp_path, monkeypatch, f"max_failed_rows: 1\nnodes:\n  {source}\n")
    project.run("photos")
    freeze_nodes(load_pipeline(project.file), ["photos"], tmp_path / "frozen.yaml")
    ((photos,),) = yaml.safe_load((tmp_path / "frozen.yaml").read_text())["nodes"].values()
    assert (photos["rows"], photos["failed"]) == (4, 1)
    assert photos["verified"]["photos"].startswith("pixel_md5 of 3 of 5 images, by ffhq-dataset-v2.json")
