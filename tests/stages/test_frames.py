"""Frames of videos: their number and order, and what becomes of a video that is cut off."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import GoldenDocument

from pipeline.declaring.config import load_pipeline
from pipeline.open import open_node
from pipeline.running.run import run
from pipeline.stage import ID, Batch, Context
from stages.frames import Frames, FramesConfig, decoded
from stages.images.containers import inspect
from stages.images.decoding import decode

STAGE = Frames()


def computed(content: bytes, numbers: list[int], **settings: Any) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    config = FramesConfig(**{"width": 96, "height": 64, "limit": 1, **settings})
    ids = np.zeros(len(numbers), ID)
    context = Context(0, "frames")
    batch = Batch(ids, (ids,), ({},), np.array(numbers), reader=lambda row: content)
    return dict(STAGE.compute(config, batch, context)), context.failures


@pytest.mark.golden("video", "expected.json")
def test_frames_have_their_number_and_time(golden: GoldenDocument) -> None:
    content = (golden.path.parent / golden["file"]).read_bytes()
    count, (width, height) = golden["frames"], golden["size_wh"]
    found = list(decoded(content, range(count)))
    assert [number for number, _, _ in found] == list(range(count))
    assert np.allclose([time for _, _, time in found], golden["pts_s"], rtol=0, atol=1e-6)
    assert {pixels.shape for _, pixels, _ in found} == {(height, width, 3)}
    values, failures = computed(content, [count - 1, 0, 2, count], width=width + 3, height=height + 5)
    assert list(failures) == [3]
    assert f"the video has {count} frames, so that there is no frame {count}" in failures[3]
    for row, number in enumerate([count - 1, 0, 2]):
        assert np.array_equal(values["image"][row, :height, :width], found[number][1])
        assert not values["image"][row, height:].any()
        assert not values["image"][row, :, width:].any()
    assert values["native_size"].tolist()[:3] == [[width, height]] * 3
    facts = inspect(content)
    assert (facts.codec, facts.width, facts.height, facts.frames) == ("mp4", width, height, count)


@pytest.mark.golden("video", "expected.json", whole=True)
def test_pixels_of_golden_frames(golden: GoldenDocument) -> None:
    content = (golden.path.parent / golden["file"]).read_bytes()
    expected = golden.beside("expected.npz")["frames_rgb"].astype(int)
    found = np.stack([pixels for _, pixels, _ in decoded(content, range(golden["frames"]))])
    difference = np.abs(found - expected)
    assert difference.mean() <= 1.0
    assert (difference <= 4).mean() >= 0.999
    for path in golden.path.parent.glob("truncated*"):
        with pytest.raises(ValueError, match=r"no index|cut off"):
            list(decoded(path.read_bytes(), [0]))


@pytest.mark.golden("video", "expected.json")
def test_a_video_that_is_cut_off_fails_and_never_has_fewer_frames(golden: GoldenDocument) -> None:
    content = (golden.path.parent / golden["file"]).read_bytes()
    for size in (len(content) // 2, len(content) - 10):
        _, failures = computed(content[:size], [0, 1])
        assert sorted(failures) == [0, 1], size
        with pytest.raises(ValueError, match=r"cut off"):
            inspect(content[:size])
    with pytest.raises(ValueError, match="take its frames with the stage 'frames'"):
        decode(content, 10**6)
    _, failures = computed(content, [0], width=8)
    assert "raise width and height" in failures[0]


@pytest.mark.golden("video", "expected.json")
def test_a_higher_limit_computes_only_the_new_frames(golden: GoldenDocument, tmp_path: Path) -> None:
    video = tmp_path / "data/manipulated_sequences/Deepfakes/c23/videos/071_054.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes((golden.path.parent / golden["file"]).read_bytes())
    for name, pairs in (("train", '[["071", "054"]]'), ("val", "[]"), ("test", "[]")):
        (tmp_path / f"data/{name}.json").write_text(pairs)
    width, height = golden["size_wh"]
    text = f"""
nodes:
  videos: {{stage: ingest, folder: data, layout: auto}}
  frames: {{stage: frames, of: videos, width: {width}, height: {height}, stride: 2, limit: LIMIT}}
"""
    done = []
    for limit in (2, 5):
        (tmp_path / "pipeline.yaml").write_text(text.replace("LIMIT", str(limit)))
        done.append(run(load_pipeline(tmp_path / "pipeline.yaml"), [], 1).computed)
    assert done == [{"videos": 1, "frames": 2}, {"frames": 3}]
    rows = open_node(tmp_path / "pipeline.yaml", "frames")
    assert sorted(rows.array("time_s").tolist()) == pytest.approx(
        [golden["pts_s"][number] for number in (0, 2, 4, 6, 8)]
    )
    assert set(rows.column("label").tolist()) == {1}
    assert set(rows.column("split").tolist()) == {"train"}
    whole = {time: pixels for _, pixels, time in decoded(video.read_bytes(), range(golden["frames"]))}
    for pixels, time in zip(rows.array("image"), rows.array("time_s").tolist(), strict=True):
        assert hashlib.sha256(pixels.tobytes()).digest() == hashlib.sha256(whole[time].tobytes()).digest()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.jobs
@pytest.mark.golden("video", "expected.json")
def test_squares_of_frames_are_the_same_bytes_whenever_they_are_cut(golden: GoldenDocument, tmp_path: Path) -> None:
    width, height = golden["size_wh"]
    (tmp_path / "film.mp4").write_bytes((golden.path.parent / golden["file"]).read_bytes())
    (tmp_path / "films.csv").write_text("file,label,split\nfilm.mp4,real,train\n")
    (tmp_path / "pipeline.yaml").write_text(f"""
nodes:
  films: {{stage: ingest, manifest: films.csv}}
  frames: {{stage: frames, of: films, width: {width}, height: {height}, limit: 3}}
  points: {{stage: "filmed_pairs:Marks", of: frames}}
  faces: {{stage: face_crop, of: {{of: frames, pair: points}}, form: chai2020, size: 16}}
""")
    cut = []
    for store in ("once", "again"):
        pipeline = load_pipeline(tmp_path / "pipeline.yaml", [f"store={tmp_path / store}"])
        assert run(pipeline, [], 1).computed["faces"] == 3
        cut.append(files_of(tmp_path / store / "face_crop"))
    assert cut[0].keys() == cut[1].keys()
    assert len(cut[0]) > 1
    assert [name for name in cut[0] if cut[0][name] != cut[1][name]] == []


MATRICES = {
    0: (1, 0, 0, 1),
    1: (0, 1, -1, 0),  # shown turned by 90 degrees clockwise
    2: (-1, 0, 0, -1),
    3: (0, -1, 1, 0),
}


@pytest.mark.golden("video", "expected.json")
@pytest.mark.parametrize("quarters", MATRICES)
def test_frames_are_put_upright_as_the_track_says(golden: GoldenDocument, quarters: int) -> None:
    """Of a film that a telephone has turned, OpenCV gives the same pixels as of one that was never turned."""
    content = (golden.path.parent / golden["file"]).read_bytes()
    ((_, plain, _),) = decoded(content, [2])
    at = content.index(b"tkhd") + 4 + 40  # of version 0
    a, b, c, d = (value << 16 for value in MATRICES[quarters])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = content[:at] + matrix + content[at + 36 :]
    assert len(turned) == len(content)
    ((_, upright, _),) = decoded(turned, [2])
    assert np.array_equal(upright, np.rot90(plain, -quarters))
    assert inspect(turned).orientation == (0, 6, 3, 8)[quarters]
