"""The steps of a detector's card, done to files and arrays in memory: the bytes of a run, without a store."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_photos
from chained_project import COUNT, chained_project, photo
from toy_project import Project

from pipeline import ids, lineage
from pipeline.chain import Image, chain_function
from pipeline.dataset import Dataset
from pipeline.errors import ConfigError, StageError
from pipeline.open import open_node
from stages.evaluation.detector_file import load_detector

FAKES = range(100, 100 + COUNT)


@dataclass(frozen=True, eq=False)
class Made:
    """The project after a run."""

    project: Project
    moved: Path

    @cache  # noqa: B019
    def rows(self, node: str) -> Dataset:
        return open_node(self.project.file, node)

    def stored(self, node: str, field: str) -> dict[bytes, bytes]:
        """Id -> bytes of a value, of all rows."""
        rows = self.rows(node)
        return dict(zip(ids.to_bytes(rows.ids), (value.tobytes() for value in rows.array(field)), strict=True))

    def model(self, node: str) -> Path:
        """The model's folder in a place of its own, where no store is."""
        place = self.moved / node
        if not place.exists():
            artifact = self.project.plan(recorded=True).artifacts[node].found
            assert artifact is not None
            shutil.copytree(artifact.path, place)
        return place


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        project = chained_project(tmp_path_factory.mktemp("chained"), patch)
        project.run()
        yield Made(project, tmp_path_factory.mktemp("moved"))


@pytest.fixture
def model(made: Made, tmp_path: Path) -> Path:
    """A copy of the folder of `mean`, whose re-synthesizer was trained in the project, to spoil."""
    return Path(shutil.copytree(made.model("mean"), tmp_path / "model"))


def images() -> dict[bytes, Image]:
    """Id -> the file of each photograph, and the pixels of each fake."""
    files: dict[bytes, Image] = {hashlib.sha256(photo(number)).digest()[:16]: photo(number) for number in range(COUNT)}
    return files | {toy_photos.identity(number): toy_photos.photo(toy_photos.identity(number)) for number in FAKES}


def changed(folder: Path, change: Any) -> Path:
    """The folder with its card changed in place."""
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))
    return folder


FEATURES = [
    ("svm", "spectra[images]", ("profile", "dct2d")),
    ("cnn", "residuals", ("residual_pixel", "residual_stage1", "residual_stage1_mean")),
    ("mean", "own_residuals", ("residual_pixel", "residual_pixel_mean")),
]


@pytest.mark.parametrize(("detector", "node", "fields"), FEATURES)
def test_features_are_the_stored_ones_to_the_bit(made: Made, detector: str, node: str, fields: tuple[str, ...]) -> None:
    chain = chain_function(made.model(detector))
    assert chain.warnings == ()
    given = images()
    order = np.random.default_rng(0).permutation(len(given))
    keys = [list(given)[number] for number in order]
    found = chain([given[key] for key in keys])
    assert found.failures == {}
    assert found.done.tolist() == list(range(len(given)))
    for field in fields:
        stored = made.stored(node, field)
        assert {key: value.tobytes() for key, value in zip(keys, found.arrays[field], strict=True)} == stored


@pytest.mark.parametrize(("detector", "node", "fields"), FEATURES)
@pytest.mark.parametrize("size", [1, 3])
def test_a_feature_does_not_depend_on_the_batch(
    made: Made, detector: str, node: str, fields: tuple[str, ...], size: int
) -> None:
    chain, given = chain_function(made.model(detector)), images()
    keys = [*list(given)[:4], *list(given)[-5:]]
    stored = made.stored(node, fields[0])
    for start in range(0, len(keys), size):
        some = keys[start : start + size]
        values = chain([given[key] for key in some]).arrays[fields[0]]
        assert [value.tobytes() for value in values] == [stored[key] for key in some]


@pytest.mark.parametrize("name", ["svm", "cnn", "mean"])
def test_scores_are_those_of_the_evaluation_to_the_bit(made: Made, name: str) -> None:
    chain, detector = chain_function(made.model(name)), load_detector(made.model(name))
    table = made.project.plan(recorded=True).artifacts[f"{name}_table"].found
    assert table is not None
    with np.load(table.path / "scores.npz", allow_pickle=False) as file:
        stored = dict(zip(ids.to_bytes(file["id"]), file["score"].tolist(), strict=True))
    given = {key: image for key, image in images().items() if key in stored}
    assert len(given) == len(stored) > 10
    found = detector.of_images(chain, list(given.values()))
    assert dict(zip(given, found.arrays["score"].tolist(), strict=True)) == stored
    alone = [detector.of_images(chain, [image]).arrays["score"].tolist() for image in list(given.values())[:3]]
    assert alone == [[stored[key]] for key in list(given)[:3]]


def test_a_card_counts_the_rows_of_each_way_and_has_one_for_an_image(made: Made) -> None:
    def ways(name: str) -> dict[str, tuple[bool, set[str], set[str]]]:
        found = json.loads((made.model(name) / "card.json").read_text())["lineage"]
        return {
            " > ".join(step["stage"] for step in one["steps"]): (
                one["plain"],
                {origin["stage"] for origin in one["origins"]},
                {kind for count in one["rows"].values() for kind, number in count.items() if number},
            )
            for one in found["chains"]
        }

    card = json.loads((made.model("svm") / "card.json").read_text())
    assert card["licences"] == ["ingest: not stated", "photos: toys 1"]
    both = {"real", "fake"}
    assert ways("svm") == {"equalize > spectrum": (True, {"ingest", "photos"}, both)}
    assert ways("several") == {
        "equalize > spectrum": (True, {"ingest", "photos"}, both),
        "equalize > perturb > spectrum": (False, {"ingest", "photos"}, both),
        "equalize > equalize_spectrum > spectrum": (False, {"photos"}, {"fake"}),
    }
    assert ways("unlike") == {
        "equalize > spectrum": (True, {"ingest"}, {"real"}),
        "equalize > equalize_spectrum > spectrum": (False, {"photos"}, {"fake"}),
    }
    rows = made.rows("spectra[images]")
    labels, splits = rows.column("label"), rows.column("split")
    (chain,) = json.loads((made.model("svm") / "card.json").read_text())["lineage"]["chains"]
    assert chain["rows"] == {
        split: {kind: int(((labels == label) & (splits == split)).sum()) for label, kind in enumerate(("real", "fake"))}
        for split in ("train", "val")
    }


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("altered", r"no one way from an image to its feature: all its training rows have passed perturb$"),
        (
            "two_ways",
            r"its training rows came by 2 ways: equalize > spectrum \(\d+ (real|fake)\); equalize > spectrum "
            r"\(\d+ (real|fake)\); equalize is not the same \(color\)$",
        ),
    ],
)
def test_a_card_without_one_way_says_why(made: Made, name: str, sentence: str) -> None:
    with pytest.raises(StageError, match=sentence):
        chain_function(made.model(name))


def test_a_chain_of_a_variant_gives_the_variant_s_features(made: Made) -> None:
    given = images()
    chains = json.loads((made.model("several") / "card.json").read_text())["lineage"]["chains"]
    numbers = {chain["steps"][1]["stage"]: number for number, chain in enumerate(chains)}
    fakes = [key for key in given if key in made.stored("spectra[equalized]", "profile")]
    equalized = chain_function(made.model("several"), chain=numbers["equalize_spectrum"])
    values = equalized([given[key] for key in fakes]).arrays["profile"]
    stored = made.stored("spectra[equalized]", "profile")
    assert {key: value.tobytes() for key, value in zip(fakes, values, strict=True)} == stored
    perturbed = chain_function(made.model("several"), chain=numbers["perturb"])
    row_ids = np.frombuffer(b"".join(given), dtype="V16")
    values = perturbed(list(given.values()), row_ids).arrays["profile"]
    own = [toy_photos.expanded(key, index=0) for key in given]
    stored = made.stored("spectra[perturbed]", "profile")
    assert {key: value.tobytes() for key, value in zip(own, values, strict=True)} == stored


def test_images_that_cannot_be_used_are_told_and_stop_no_other(made: Made, tmp_path: Path) -> None:
    chain = chain_function(made.model("svm"))
    place = tmp_path / "photo.jpg"
    place.write_bytes(photo(0))
    wrong: list[Image] = [
        b"no picture", tmp_path / "gone.png", np.zeros((16, 16, 3), np.float32), np.zeros((9, 9, 3), np.uint8)  # type: ignore[list-item]
    ]  # fmt: skip
    found = chain([*wrong, place, photo(1)])
    assert found.done.tolist() == [4, 5]
    stored = made.stored("spectra[images]", "profile")
    for value, number in zip(found.arrays["profile"], (0, 1), strict=True):
        assert value.tobytes() == stored[hashlib.sha256(photo(number)).digest()[:16]]
    assert sorted(found.failures) == [0, 1, 2, 3]
    assert found.failures[1] == f"{tmp_path / 'gone.png'} cannot be read: No such file or directory"
    assert found.failures[2] == "is float32 (16, 16, 3), expected (H, W, 3) uint8"
    assert "a square of 9 pixels, expected at least 16" in found.failures[3]
    assert chain([]).done.tolist() == []
    assert list(chain([b"nothing"]).failures) == [0]


def test_what_is_not_as_it_was_is_said(made: Made, model: Path) -> None:
    def older(card: dict[str, Any]) -> None:
        (chain,) = card["lineage"]["chains"]
        chain["steps"][0]["environment"]["pillow"] = "1.0"
        chain["steps"][1]["code"]["stages.residual"] = "0" * 32
        card["environment"]["numpy"] = "0.9"

    chain = chain_function(changed(model, older))
    versions = {name: __import__(module).__version__ for name, module in (("numpy", "numpy"), ("pillow", "PIL"))}
    assert chain.warnings == (
        f"the detector: numpy was 0.9 and is {versions['numpy']} here",
        f"equalize: pillow was 1.0 and is {versions['pillow']} here",
        "residual: the code of stages.residual is not what it was when the detector was trained",
    )
    assert len(chain([photo(0)]).done) == 1


def test_a_card_of_an_earlier_version_is_read_and_has_no_chain(model: Path) -> None:
    folder = changed(model, lambda card: card.pop("lineage"))
    assert load_detector(folder).config.feature == "residual_pixel_mean"
    with pytest.raises(StageError, match=r"written by an earlier version; train again$"):
        chain_function(folder)
    (folder / "card.json").write_text("[")
    with pytest.raises(StageError, match=r"card\.json is not readable as JSON .*; expected the folder of a model$"):
        chain_function(folder)


def weights_of(model: Path) -> Path:
    """The copied file of the re-synthesizer."""
    return max((model / "files").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda path: path.unlink(),
            r"^residual model/resynthesizer\.safetensors \(SHA-256 .*\) is neither in the mod",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"is damaged: it has [\d,]+ bytes, expected residual"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
            r"is damaged: it has SHA-256 [0-9a-f]{12}\.\.\.",
        ),
        (lambda path: (path.unlink(), path.mkdir()), r"is damaged: it is no regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), r"is damaged: it is no regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), r"is damaged: it is no regular file"),
    ],
)
def test_a_copied_file_that_is_not_what_it_was_is_one_sentence(model: Path, spoil: Any, sentence: str) -> None:
    spoil(weights_of(model))
    with pytest.raises(StageError, match=sentence) as caught:
        chain_function(model)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_beside_the_card_is_found_by_its_content(made: Made, model: Path, tmp_path: Path) -> None:
    lost = weights_of(model)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "other.bin").write_bytes(bytes(lost.stat().st_size))
    lost.rename(tmp_path / "mine" / "deep" / "any name")
    key = hashlib.sha256(photo(0)).digest()[:16]
    value = chain_function(model, weights=[tmp_path / "mine"])([photo(0)]).arrays["residual_pixel"]
    assert value.tobytes() == made.stored("own_residuals", "residual_pixel")[key]
    with pytest.raises(ConfigError, match=r"nowhere is not a folder; name one that holds the weights$"):
        chain_function(model, weights=[tmp_path / "nowhere"])
    shipped = Path(shutil.copytree(made.model("cnn"), tmp_path / "shipped"))
    shutil.rmtree(shipped / "files")  # weights that come with the project are entries of a manifest
    value = chain_function(shipped)([photo(0)]).arrays["residual_pixel"]
    assert value.tobytes() == made.stored("residuals", "residual_pixel")[key]


def test_only_small_files_are_copied_and_only_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(path: Path, content: bytes, promised: bytes) -> lineage.KeptFile:
        path.write_bytes(content)
        return lineage.KeptFile(sha256=hashlib.sha256(promised).hexdigest(), size=len(promised))

    monkeypatch.setattr(lineage, "LARGEST", 4)
    small, large, wrong = (tmp_path / name for name in ("small", "large", "wrong"))
    lineage.keep(tmp_path, {kept(small, b"abc", b"abc"): small, kept(large, b"abcd", b"abcd"): large})
    assert [path.read_bytes() for path in (tmp_path / "files").iterdir()] == [b"abc"]
    assert next((tmp_path / "files").iterdir()).name == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(StageError, match=r"wrong was changed while the run went on; run again"):
        lineage.keep(tmp_path, {kept(wrong, b"abx", b"aby"): wrong})


SHA = "0" * 64


def spoiled(place: str, value: Any) -> Any:
    """A change of the first chain: `steps.1.config.levels` is set to a value."""

    def change(card: dict[str, Any]) -> None:
        inner: Any = card["lineage"]["chains"][0]
        *above, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        for part in above:
            inner = inner[part]
        inner[last] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("steps.0.stage", "os:system", r"names the stage 'os:system' of 'stages\.equalize', which is none of Touchst"),
        ("steps.0.stage", "teleport", r"names the stage 'teleport' .* no card may load code"),
        ("steps.0.module", "evil", r"names the stage 'equalize' of 'evil'"),
        ("steps.0.stage", "ingest", r"names the stage 'ingest'"),
        ("steps.0.config.evil", 1, r"settings that equalize does not take: evil: "),
        ("steps.0.config.size", -1, r"settings that equalize does not take: size: "),
        ("steps.0.config.size", "x\n\x1b[2J", r"settings that equalize does not take: size: "),
        ("steps.0.of", [0], r"step 0 reads \[0\]; expected earlier steps, or -1 to -1$"),
        ("steps.0.of", [], r"step 0 reads \[\]"),
        ("steps.1.of", [-2], r"step 1 reads \[-2\]"),
        ("steps", "none", r"lineage that no training writes: chains\.0\.steps: "),
        ("images", 2, r"rows are made of 2 images each"),
        ("steps.1.files", {"model": {"sha256": SHA, "size": 3}}, r"the file of residual model \(SHA-256 000000000000"),
        ("steps.1.files", {"perceptual": {"sha256": "../" * 21 + "x", "size": 3}}, r"files\.perceptual\.sha256: "),
        ("steps.0.files", {"../size": {"sha256": SHA, "size": 3}}, r"a file for '\.\./size', which is no setting of"),
        ("steps.1.artifacts", {}, r"settings that residual does not take: model: |lacks the file or artifact 'model'"),
        ("steps.1.artifacts.model.0.files", {"/etc/passwd": {"sha256": SHA, "size": 3}}, r"names of files inside"),
        ("steps.1.artifacts.model.0.files", {"a/../../b": {"sha256": SHA, "size": 3}}, r"names of files inside"),
        ("steps.1.artifacts.model.0.files", {}, r"resynthesizer\.safetensors is not a file"),
        ("steps.1.artifacts.model.0.promise", {}, r"residual: node 'model' does not train a re-synthesizer"),
        ("steps.1.artifacts.model.0.promise", {"network": "rdn"}, r"residual: the card promises nothing that fits"),
        ("steps.0.artifacts", {"of": []}, r"a file for 'of', which is no setting of equalize"),
        (
            "steps.1.fields",
            {"evil": ["uint8", [1]]},
            r"the card says that residual gives 'evil', which it does not; train",
        ),
        ("steps.1.environment.device", "meta", r"the card has residual on 'meta' with '1' threads$"),
        ("steps.1.environment.threads", "9999999", r"with '9999999' threads$"),
    ],
)
def test_a_hostile_card_is_one_sentence_and_opens_nothing(
    model: Path, place: str, value: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(model, spoiled(place, value))
    opened: list[str] = []
    before = Path.open

    def watched(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(os.fspath(self))
        return before(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", watched)
    try:
        told = " and ".join(chain_function(model)([photo(0), photo(1)]).failures.values())
    except StageError as error:
        told = str(error)
    assert re.search(sentence, told)
    assert "\n" not in told
    assert "\x1b" not in told
    roots = (str(model), str(Path(lineage.__file__).parents[1]))
    assert [path for path in opened if not path.startswith(roots)] == []


def test_a_stage_of_one_s_own_is_handed_over(made: Made) -> None:
    with pytest.raises(StageError, match=r"names the stage 'invert' of 'toy_photos', which is none of Touchstone's"):
        chain_function(made.model("own"))
    chain = chain_function(made.model("own"), stages={"invert": toy_photos.Invert()})
    assert chain.warnings == ()
    (value,) = chain([photo(0)]).arrays["profile"]
    key = hashlib.sha256(photo(0)).digest()[:16]
    assert value.tobytes() == made.stored("spectra[inverted]", "profile")[key]


def test_without_a_step_pixels_stay_what_they_are_and_files_are_refused() -> None:
    way = {"origins": [], "images": 1, "steps": [], "plain": True, "rows": {}}
    chain = chain_function({"lineage": {"chains": [way], "plain": 0}})
    pixels = toy_photos.photo(b"any")
    found = chain([pixels, photo(0), pixels])
    assert found.done.tolist() == [0, 2]
    assert found.arrays["image"].tobytes() == pixels.tobytes() * 2
    assert found.failures == {1: "is a file, but the detector was trained on pixels as they are; decode it before"}
