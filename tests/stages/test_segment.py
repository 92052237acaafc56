"""Classes of pixels: by place, around landmarks, from files, and by a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_rows import digest
from PIL import Image
from rule_weights import parameters

from detectors.seeding import seeded
from pipeline.stage import PICTURE, Batch, Context, Field
from stages.segment import Segment, SegmentConfig
from stages.segmentation import bisenet, places
from stages.segmentation.classes import FACES, read

IMAGE = {"of": {"image": Field("uint8", (12, 16, 3), "RGB", PICTURE)}}


def config(**given: Any) -> SegmentConfig:
    return SegmentConfig.model_validate_json(json.dumps(given))


def computed(one: SegmentConfig, images: np.ndarray[Any, Any], *more: Any, **files: Path) -> tuple[Any, dict[int, str]]:
    ids = np.frombuffer(b"".join(digest(f"picture {number}") for number in range(len(images))), "V16")
    ctx = Context(0, "segment", files=files)
    return Segment().compute(one, Batch(ids, inputs=({"image": images}, *more)), ctx)["parts"], ctx.failures


def test_a_grid_has_nine_parts_of_a_picture() -> None:
    one = config(segmenter="grid")
    found, _ = computed(one, np.zeros((2, 12, 16, 3), np.uint8))
    by_hand = [[3 * (3 * y // 12) + 3 * x // 16 for x in range(16)] for y in range(12)]
    np.testing.assert_array_equal(found, [by_hand, by_hand])
    about, names = read(Segment().schema(one, IMAGE)["parts"].units)
    assert "stand-in" in about
    assert names[:4] == ("top left", "top center", "top right", "middle left")


def test_regions_turn_with_the_face_and_a_row_without_one_fails() -> None:
    points = np.array([[26, 30], [38, 30], [32, 37], [28, 43], [36, 43]], np.float32)
    upright = places.regions(points, 64, 64)
    at = {name: upright[y, x] for name, (x, y) in {"eye": (26, 30), "brows": (38, 25), "nose": (32, 36),
          "mouth": (32, 43), "skin": (20, 38), "background": (2, 2)}.items()}  # fmt: skip
    assert {name: places.REGIONS[number] for name, number in at.items()} == {name: name for name in at}
    turned = places.regions(np.stack([64 - points[:, 1], points[:, 0]], axis=1), 64, 64)  # by a quarter
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    one = config(segmenter="regions", size=32)
    given = {"points": np.stack([points, np.full((5, 2), np.nan, np.float32)])}
    found, failures = computed(one, np.zeros((2, 64, 64, 3), np.uint8), given)
    np.testing.assert_array_equal(found[0], upright[1::2, 1::2])
    assert failures == {1: "has no face, so that nothing of it can be told apart"}
    with pytest.raises(ValueError, match=r"needs five `points` beside each image, found none; write of"):
        Segment().schema(one, IMAGE)


def test_maps_of_files_are_joined_on_content_or_id(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"a picture")
    Image.fromarray(np.full((4, 4), 17, np.uint8)).save(tmp_path / "one.png")
    Image.fromarray(np.full((4, 4), 30, np.uint8)).save(tmp_path / "two.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "three.png")
    ids = [digest(f"picture {number}").hex() for number in range(3)]
    path = tmp_path / "maps.csv"
    path.write_text(f"photo.png,one.png\n{ids[0]},one.png\n{ids[1]},two.png\n{ids[2]},three.png\n")
    one = config(segmenter="maps", maps="maps.csv")
    found, failures = computed(one, np.zeros((4, 12, 16, 3), np.uint8), maps=path)
    assert (found[0] == 17).all()
    assert found.shape == (4, 12, 16)
    assert failures == {
        1: "its map two.png has the value 30, expected classes 0 to 18",
        2: "its map three.png has the channels RGB, expected one channel of classes",
        3: "maps.csv names no map of it; add one, or take these rows out",
    }
    named = Segment().named_files(one, {"maps": path})
    assert named is not None
    assert set(named.names) == {"photo.png", "one.png", "two.png", "three.png"}
    path.write_text("photo.png\n")
    with pytest.raises(ValueError, match=r"maps.csv:1 has 1 entries, expected two: PICTURE,MAP"):
        Segment().check(one, {"maps": path})


def test_bisenet_has_the_size_of_the_published_one_and_reads_its_file(tmp_path: Path) -> None:
    with seeded(0):
        network = bisenet.BiSeNet()
    state = network.state_dict()
    assert (parameters(network), len(state)) == (13_300_416, 191)
    torch.save(state, tmp_path / "a.pth")
    read = bisenet.read_network(tmp_path / "a.pth")
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    found = bisenet.parsed(read, images, "cpu", side=64).array()
    assert found.shape == (2, 64, 64)
    assert len(np.unique(found)) > 1
    assert found.max() < len(FACES)
    np.testing.assert_array_equal(bisenet.parsed(read, images[1:], "cpu", side=64).array(), found[1:])
    torch.save({"cp.resnet.conv1.weight": state["cp.resnet.conv1.weight"]}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="does not fit BiSeNet with 19 classes: it lacks"):
        bisenet.read_network(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"segmenter": "maps"}, "segmenter maps needs its file; name it as maps"),
        ({"segmenter": "grid", "weights": "a"}, "weights has no effect with segmenter grid; drop it"),
        ({"segmenter": "maps", "maps": "a", "classes": ["a", "a"]}, "expected at most 255 different"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config(**given)
