"""Crops of faces against the released program, MTCNN against its published form, and both as stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import Golden, GoldenDocument
from PIL import Image
from pydantic import ValidationError
from reader_rows import picture

from pipeline.declaring.config import load_pipeline
from pipeline.errors import ConfigError
from pipeline.open import open_node
from pipeline.running.run import run
from pipeline.stage import ID, Batch, Context
from stages.face_crop import FaceCrop, FaceCropConfig
from stages.faces.boxes import square_box, squared, suppressed
from stages.faces.cascade import cells, detect, normalized, scales
from stages.faces.mtcnn import NETWORKS, read_network
from stages.faces.oriented_square import FORMS, crop, five_points, square_of
from stages.landmarks import Landmarks, LandmarksConfig
from stages.weights.weights_file import WeightsError

LETTERS = {"P": "pnet", "R": "rnet", "O": "onet"}


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


# Crops


@pytest.mark.golden("faces", "expected.json")
def test_crops_are_those_of_the_released_program(golden: GoldenDocument) -> None:
    frame = pixels_of(golden.path.parent / "frame.png")
    for one in golden["crops"]:
        points = np.array(one["landmarks_xy"])
        square = square_of(points, FORMS["chai2020"])
        assert np.abs(square - one["quad_xy"]).max() < 1e-9
        assert np.hypot(*(square[3] - square[0])) == pytest.approx(one["side_px"])
        expected = pixels_of(golden.path.parent / one["file"]).astype(int)
        found = crop(frame, square, FORMS["chai2020"], len(expected)).astype(int)
        difference = np.abs(found - expected)
        assert (difference <= 1).mean() >= 0.99, one["file"]
        assert difference.max() <= 8


@pytest.mark.golden("faces", "expected.json")
def test_upright_squares_are_those_of_the_released_program(golden: GoldenDocument) -> None:
    for one in golden["square_boxes"]:
        assert list(square_box(tuple(one["rect"]), *one["size_wh"], one["scale"])) == one["x_y_side"]


@pytest.mark.golden("layouts", "ffhq_expected.json")
def test_squares_of_ffhq_have_no_half_pixel(golden: GoldenDocument) -> None:
    rows = GoldenDocument(golden.path.parent / "ffhq-dataset-v2.json").content
    for number, one in golden.content.items():
        points = np.array(rows[number]["in_the_wild"]["face_landmarks"])
        square = square_of(points, FORMS["ffhq"])
        assert np.abs(square - one["quad_from_wild_landmarks"]).max() < 1e-6


def test_five_of_68_points() -> None:
    points = np.stack([np.arange(68.0), 100 + np.arange(68.0)], axis=1)
    assert five_points(points, FORMS["ffhq"])[:, 0].tolist() == [38.5, 44.5, 30, 48, 54]
    assert five_points(points, FORMS["chai2020"])[:, 0].tolist() == [39, 45, 30, 48, 54]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((5, 2), 9.0), "all points of a face in one place"),
        (np.array([[9, 9], [11, 9], [10, 10], [9, 11], [11, 11]]) + 5000.0, "outside of the picture"),
        (np.array([[-9e5, 9], [9e5, 9], [10, 10], [9, 9e5], [11, 9e5]]), "far larger than the picture"),
        (np.array([[9, 9], [9.001, 9], [9, 9], [9, 9.001], [9.001, 9.001]]), "pixels on the way"),
        (np.zeros((4, 2)), r"expected \(5, 2\) or \(68, 2\)"),
    ],
)
def test_faces_that_cannot_be_cut_out_are_told(points: np.ndarray, message: str) -> None:
    form = FORMS["celebahq"]
    with pytest.raises(ValueError, match=message):
        crop(np.zeros((600, 600, 3), np.uint8), square_of(points, form), form, 64)


# MTCNN


def by_rule(letter: str, shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights from sums of the letters of names, as the README of the golden set says."""
    found = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(sum((letter + name).encode()))
        values = random.standard_normal(shape)
        if name.startswith("prelu"):
            values = 0.25 + 0.05 * values
        elif name.endswith("bias"):
            values = values * 0.1
        else:
            values = values * 1.3 / np.sqrt(values[0].size)
        found[name] = torch.from_numpy(values)
    return found


@pytest.fixture
def networks(golden: Golden) -> dict[str, torch.nn.Module]:
    shapes = GoldenDocument(golden.path.parent / "names.json").content
    made = {}
    for letter, name in LETTERS.items():
        made[letter] = NETWORKS[name]().double()
        made[letter].load_state_dict(by_rule(letter, shapes[letter]))
    return made


@pytest.mark.golden("mtcnn", "nets.npz")
def test_networks_give_the_published_values(golden: Golden, networks: dict[str, torch.nn.Module]) -> None:
    for letter, network in networks.items():
        with torch.no_grad():
            found = network(normalized(torch.from_numpy(golden[f"{letter}_input"]).double()))
        for number, values in enumerate(found):
            assert np.abs(values.numpy() - golden[f"{letter}_out{number}"]).max() < 1e-9
    assert sum(value.numel() for network in networks.values() for value in network.parameters()) == 495_850


@pytest.mark.golden("mtcnn", "nets.npz")
def test_cells_squares_and_the_pyramid(golden: Golden) -> None:
    found = []
    for image, (boxes, scores) in enumerate(zip(golden["P_out0"], golden["P_out1"], strict=True)):
        rows = cells(boxes, scores[1], float(golden["boxes_scale"]), float(golden["boxes_threshold"]))
        assert len(rows) == (golden["boxes_image"] == image).sum()
        found.append(rows)
    assert np.allclose(np.concatenate(found), golden["boxes"], rtol=0, atol=1e-9)
    assert np.allclose(squared(golden["boxes"][:, :4]), golden["boxes_square"][:, :4], rtol=0, atol=1e-9)
    height, width = golden["pyramid_hw"].tolist()
    given = golden["pyramid_scales"]
    assert np.allclose(scales(height, width)[: len(given)], given, rtol=1e-12)
    sizes = [(int(height * scale + 1), int(width * scale + 1)) for scale in scales(height, width)]
    assert sizes[: len(given)] == [tuple(row) for row in golden["pyramid_sizes"].tolist()]


def slowly_suppressed(boxes: np.ndarray, scores: np.ndarray, most: float, smaller: bool) -> list[int]:
    end, kept = float(smaller), []
    for one in sorted(range(len(boxes)), key=lambda number: -scores[number]):
        overlaps = []
        for other in kept:
            a, b = boxes[one], boxes[other]
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + end)
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + end)
            areas = [(box[2] - box[0] + end) * (box[3] - box[1] + end) for box in (a, b)]
            common = width * height
            overlaps.append(common / (min(areas) if smaller else sum(areas) - common))
        if all(overlap <= most for overlap in overlaps):
            kept.append(one)
    return kept


@pytest.mark.parametrize("smaller", [False, True])
def test_of_overlapping_boxes_the_better_one_stays(smaller: bool) -> None:
    random = np.random.default_rng(3)
    corner, sides = random.integers(0, 40, (60, 2)), random.integers(5, 30, (60, 2))
    boxes, scores = np.concatenate([corner, corner + sides], axis=1).astype(float), random.permutation(60) / 60
    for most in (0.2, 0.5, 0.7):
        assert suppressed(boxes, scores, most, smaller).tolist() == slowly_suppressed(boxes, scores, most, smaller)


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, str]:
    """Old torch files of networks that find something in noise."""
    for name, network in NETWORKS.items():
        torch.manual_seed(1)
        made = network()
        with torch.no_grad():
            for head in ("conv4_1", "dense5_1", "dense6_1"):
                if hasattr(made, head):
                    getattr(made, head).bias.copy_(torch.tensor([0.0, 1.5]))
        torch.save(made.state_dict(), tmp_path / f"{name}.pt", _use_new_zipfile_serialization=False)
    return {name: f"{name}.pt" for name in NETWORKS}


def landmarks_of(images: np.ndarray, folder: Path, weights: dict[str, str], **settings: Any) -> dict[str, np.ndarray]:
    config = LandmarksConfig(**weights, **settings)
    ids = np.zeros(len(images), ID)
    context = Context(0, "landmarks", files={name: folder / file for name, file in weights.items()})
    return dict(Landmarks().compute(config, Batch(ids, (ids,), ({"image": images},)), context))


def test_a_row_does_not_depend_on_its_neighbors(tmp_path: Path, weights: dict[str, str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 22, 24, 3), dtype=np.uint8)
    together = landmarks_of(images, tmp_path, weights)
    alone = [landmarks_of(images[row : row + 1], tmp_path, weights) for row in range(2)]
    for name, values in together.items():
        assert np.array_equal(values, np.concatenate([one[name] for one in alone]), equal_nan=True)
    networks = {name: read_network(name, tmp_path / file) for name, file in weights.items()}
    faces = detect(images[0], networks)
    assert len(faces.scores)
    assert (faces.scores > 0.7).all()
    largest = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1).argmax()
    assert np.allclose(together["points"][0], faces.points[largest], atol=1e-3)
    first = landmarks_of(images[:1], tmp_path, weights, choose="first")
    assert first["score"][0] == pytest.approx(faces.scores.max())


def test_files_of_other_networks_are_refused(tmp_path: Path, weights: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match=r"pnet.pt.*MTCNN's rnet"):
        read_network("rnet", tmp_path / weights["pnet"])
    (tmp_path / "damaged.pt").write_bytes((tmp_path / "pnet.pt").read_bytes()[:200])
    with pytest.raises(WeightsError, match=r"damaged.pt"):
        read_network("pnet", tmp_path / "damaged.pt")


# The stages


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected either `file`, or the weights"),
        ({"pnet": "a", "onet": "b"}, "needs three files of weights; add rnet"),
        ({"file": "a", "choose": "first"}, "choose has no effect"),
    ],
)
def test_landmarks_come_from_one_place(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LandmarksConfig(**settings)


def test_crops_of_one_form_refuse_settings_of_another_one() -> None:
    for settings in ({"form": "ffhq", "scale": 1.5}, {"form": "faceforensics", "pad": "none"}):
        with pytest.raises(ValidationError, match="has no effect on the form"):
            FaceCropConfig(size=64, **settings)


POINTS = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], float)


def test_landmarks_of_a_list_and_crops_of_files_are_computed_once(tmp_path: Path) -> None:
    lines = [
        "2",
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x right_y",
    ]
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / "img").mkdir(exist_ok=True)
        (tmp_path / "img" / name).write_bytes(picture(name, (64, 56)))
        lines.append(f"{name}  " + "  ".join(f"{value + number:.0f}" for value in POINTS.ravel()))
    (tmp_path / "list_landmarks_celeba.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "pipeline.yaml").write_text("""
nodes:
  photos: {stage: ingest, folder: img}
  points: {stage: landmarks, of: photos, file: list_landmarks_celeba.txt, folder: img}
  faces: {stage: face_crop, of: {of: photos, pair: points}, form: chai2020, size: 32}
  boxes: {stage: face_crop, of: {of: photos, pair: points}, form: faceforensics, size: 16}
""")
    pipeline = load_pipeline(tmp_path / "pipeline.yaml")
    assert run(pipeline, [], 1).computed == {"photos": 2, "points": 2, "faces": 2, "boxes": 2}
    assert run(load_pipeline(tmp_path / "pipeline.yaml"), [], 1).computed == {}
    points, faces = (open_node(tmp_path / "pipeline.yaml", name) for name in ("points", "faces"))
    assert sorted(points.array("points")[:, 0, 0].tolist()) == [20, 21]
    for row, one in enumerate(faces.ids.tolist()):
        name = next(name for name in ("a.png", "b.png") if one in _ids(tmp_path / "img" / name))
        square = square_of(POINTS + (name == "b.png"), FORMS["chai2020"])
        expected = crop(pixels_of(tmp_path / "img" / name), square, FORMS["chai2020"], 32)
        assert np.array_equal(faces.array("image")[row], expected)
        assert np.allclose(faces.array("square")[row], square, atol=1e-4)
    text = (tmp_path / "pipeline.yaml").read_text().partition("  points:")[0]
    (tmp_path / "reduced.yaml").write_text(
        f"{text}  small: {{stage: equalize, of: photos, size: 32}}\n"
        "  points: {stage: landmarks, of: small, file: list_landmarks_celeba.txt, folder: img}\n"
    )
    with pytest.raises(ConfigError, match="points of named files are places in those files, and the pictures of 'of'"):
        run(load_pipeline(tmp_path / "reduced.yaml"), [], 1)


def _ids(path: Path) -> list[bytes]:
    import hashlib

    return [hashlib.sha256(path.read_bytes()).digest()[:16]]


def test_a_picture_without_a_face_fails_and_a_canvas_is_cut(tmp_path: Path) -> None:
    canvas = np.zeros((2, 80, 90, 3), np.uint8)
    canvas[:, :56, :64] = np.random.default_rng(1).integers(0, 256, (56, 64, 3), dtype=np.uint8)
    sizes = np.array([[64, 56], [64, 56]], np.int32)
    points = np.stack([POINTS, np.full((5, 2), np.nan)]).astype(np.float32)
    ids = np.zeros(2, ID)
    context = Context(0, "face_crop")
    batch = Batch(ids, (ids, ids), ({"image": canvas, "native_size": sizes}, {"points": points}))
    values = FaceCrop().compute(FaceCropConfig(form="chai2020", size=32), batch, context)
    assert context.failures == {1: "has no face, so that nothing can be cut out"}
    form = FORMS["chai2020"]
    assert np.array_equal(values["image"][0], crop(canvas[0, :56, :64], square_of(POINTS, form), form, 32))


def test_bad_lists_of_landmarks_are_told_by_line(tmp_path: Path) -> None:
    for text, message in (
        ("a.png 1 2 3\n", r"list.txt:1 has 3 numbers, expected 10 or 136"),
        ("nothing\n", r"list.txt: has no line of a file's name"),
    ):
        path = tmp_path / "list.txt"
        path.write_text(text * 2)
        with pytest.raises(ValueError, match=message):
            Landmarks().check(LandmarksConfig(file="list.txt"), {"file": path})
