"""The stage `pair_crop`: original and fake are cut by the same landmarks, those of one of them by a coin per frame."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import filmed_pairs
import numpy as np
import pytest
import yaml

from pipeline.dataset import Dataset
from pipeline.declaring.config import load_pipeline
from pipeline.declaring.document import load
from pipeline.errors import ConfigError
from pipeline.inputs.scan import Scan
from pipeline.open import open_node
from pipeline.planning.plan import make_plan
from pipeline.running.run import run
from pipeline.stage import Field, Parents
from pipeline.storage.store import Store
from stages.face_crop import FaceCropConfig
from stages.faces.boxes import square_box
from stages.images.decoding import resized
from stages.pair_crop import PairCrop, paired

ROOT = Path(__file__).parents[2]
TEXT = """
seed: {seed}
splits: {{train: 1.0, val: 0.0, test: 0.0}}
nodes:
  films: {{stage: ingest, manifest: films.csv}}
  frames: {{stage: "filmed_pairs:Film", of: films, limit: 8, max_failed_rows: 4}}
  points: {{stage: "filmed_pairs:Marks", of: frames}}
  faces: {{stage: pair_crop, of: {view}, points: points, form: faceforensics, size: 16}}
"""
FILMS = {"a0": ("real", "a", "youtube"), "a1": ("fake", "a", "paste"), "b0": ("real", "b", "youtube"),
         "b1": ("fake", "b", "paste"), "a2": ("fake", "a", "warp")}  # fmt: skip
VIEW = "{of: frames, where: 'domain in [youtube, paste]'}"


def project(folder: Path, seed: int = 0, view: str = VIEW, short: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    lines = ["file,label,group,domain"]
    for name, (label, group, domain) in FILMS.items():
        content = name[:1].encode() if name == short else name.encode()
        (folder / f"{name}.pgm").write_bytes(b"P5 1 %d 255\n" % len(content) + content)
        lines.append(f"{name}.pgm,{label},{group},{domain}")
    (folder / "films.csv").write_text("\n".join(lines) + "\n")
    (folder / "pipeline.yaml").write_text(TEXT.format(seed=seed, view=view))
    return folder / "pipeline.yaml"


def whose(faces: Dataset, films: Sequence[str]) -> dict[tuple[str, int], str]:
    """(film, number of the frame) -> film whose landmarks cut it, found by trying all of them."""
    found: dict[tuple[str, int], str] = {}
    images = faces.array("image")
    for name in films:
        for number, other in itertools.product(range(8), films):
            if name[0] != other[0]:
                continue
            points = filmed_pairs.marks(filmed_pairs.frame(other.encode(), number))
            box = (*points.min(axis=0).astype(int).tolist(), *points.max(axis=0).astype(int).tolist())
            x, y, side = square_box(box, filmed_pairs.SIDE, filmed_pairs.SIDE, 1.3)
            expected = resized(filmed_pairs.frame(name.encode(), number)[y : y + side, x : x + side], 16)
            if (images == expected).all(axis=(1, 2, 3)).any():
                assert (name, number) not in found
                found[name, number] = other
    return found


def test_both_frames_of_a_pair_are_cut_by_the_landmarks_of_one(tmp_path: Path) -> None:
    films = ("a0", "a1", "b0", "b1")
    chosen = {}
    for seed in (0, 1):
        path = project(tmp_path / str(seed), seed)
        assert run(load_pipeline(path), [], 1).computed["faces"] == 32
        faces = open_node(path, "faces")
        assert sorted(faces.column("label").tolist()) == [0] * 16 + [1] * 16
        found = whose(faces, films)
        assert len(found) == 32
        for group, number in itertools.product("ab", range(8)):
            assert found[f"{group}0", number] == found[f"{group}1", number]
        chosen[seed] = [found[f"{group}0", number][1] for group, number in itertools.product("ab", range(8))]
    assert all(3 <= one.count("1") <= 13 for one in chosen.values())  # a coin: outside with a chance of 1 in 400
    assert chosen[0] != chosen[1]


def test_a_frame_that_fails_takes_the_other_one_with_it_and_changes_no_pair(tmp_path: Path) -> None:
    found = []
    for short in ("", "b1"):
        path = project(tmp_path / f"without {short}", short=short)
        run(load_pipeline(path), [], 1)
        faces = open_node(path, "faces")
        assert len(faces) == (30 if short else 32)
        found.append(whose(faces, ("a0", "a1", "b0")))
    whole, left = found
    assert whole["b0", 7] == "b0"  # by its own landmarks, and yet
    assert ("b0", 7) not in left
    assert {key: one for key, one in whole.items() if key[0] != "b0"} == {
        key: one for key, one in left.items() if key[0] != "b0"
    }


def test_several_fakes_of_a_frame_and_no_pair_are_refused(tmp_path: Path) -> None:
    path = project(tmp_path, view="frames")
    with pytest.raises(ConfigError, match="pair_crop: a pair has several fakes of frame 0; choose one kind of fake"):
        run(load_pipeline(path), [], 1)
    path = project(tmp_path, view="{of: frames, where: label = real}")
    with pytest.raises(ConfigError, match="finds no frame that an original and its fake have both, with landmarks"):
        run(load_pipeline(path), [], 1)


def test_frames_meet_by_group_and_number_alone() -> None:
    """Against a slow loop, over rows in a random order."""
    draw = np.random.default_rng(4)
    rows = [(group, index, label) for group in range(6) for index in range(5) for label in (0, 1)
            if draw.random() < 0.7]  # fmt: skip
    draw.shuffle(rows)
    group, index, label = (np.array(column) for column in zip(*rows, strict=True))
    words = np.array([b"%016d" % one for one in group], "V16")
    texts = np.array([""] * len(rows))
    frames = Parents(words, label.astype(np.uint8), texts, texts, words, index)
    expected = {(rows.index((a, i, 0)), rows.index((a, i, 1))) for a, i, one in rows
                if one == 0 and (a, i, 1) in rows}  # fmt: skip
    assert set(zip(*(one.tolist() for one in paired(frames)), strict=True)) == expected
    assert len(expected) > 5


def test_each_method_of_table_3_of_chai2020_has_its_own_crops_of_the_originals(tmp_path: Path) -> None:
    """The config with films of ours in place of videos: frames of each split, and what trainings and tests read."""
    nodes = load(ROOT / "configs" / "chai2020_table3.yaml").data["nodes"]
    methods = nodes["cut"]["matrix"]["method"]
    lines = ["file,label,group,split,domain"]
    for group, split in zip("abc", ("train", "val", "test"), strict=True):
        for number, domain in enumerate(["youtube", *methods]):
            name = f"{group}{number}.pgm"
            (tmp_path / name).write_bytes(b"P5 1 2 255\n" + name[:2].encode())
            lines.append(f"{name},{'fake' if number else 'real'},{group},{split},{domain}")
    (tmp_path / "films.csv").write_text("\n".join(lines) + "\n")
    kept = {"videos": {"stage": "ingest", "manifest": "films.csv"}, "cut": nodes["cut"], "images": nodes["images"]}
    for name in ("many", "few"):
        kept[name] = {"stage": "filmed_pairs:Film", "of": nodes[name]["of"], "limit": 3}
    kept["points"] = {"stage": "filmed_pairs:Marks", "matrix": nodes["points"]["matrix"], "of": "{of}"}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({"nodes": kept}, sort_keys=False))
    pipeline = load_pipeline(tmp_path / "pipeline.yaml")
    plan = make_plan(pipeline, Store(tmp_path / "store"), Scan(pipeline.base, None))
    for method in methods:
        found = Counter[tuple[int, str, int]]()
        for branch in plan.branches[f"images[{method}]"]:
            words = [plan.names.words[number] for number in branch.rows.domain.tolist()]
            found.update(zip(branch.rows.label.tolist(), words, branch.rows.split.tolist(), strict=True))
        assert found == {(label, word, split): 3 for label, word in ((0, "youtube"), (1, method)) for split in range(3)}
        assert nodes["tables"]["test"][method] == [f"{name}[{method}]" for name in ("images", "enlarged", "measures")]
    for name, of in (("baselines", "measures"), ("detectors", "images"), ("cnndetect", "enlarged")):
        assert nodes[name]["on"] == f"{of}[{{train}}]"


def test_landmarks_are_needed() -> None:
    picture = {"image": Field("uint8", (8, 8, 3))}
    with pytest.raises(ValueError, match="pair_crop needs landmarks in 'points'; put the stage landmarks there"):
        PairCrop().schema(FaceCropConfig(form="chai2020", size=16), {"of": picture, "points": picture})
