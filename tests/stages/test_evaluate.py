"""Stage `evaluate`: which rows are scored, which reals stand against which fakes, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_rows import MemoryRows, context, digest, rows_of, step, union
from toy_project import Project

from pipeline.commands.upkeep import pin_nodes
from pipeline.errors import ConfigError, StageError
from pipeline.stage import Artifact
from stages.evaluate import Evaluate, EvaluateConfig, other_features, without_nan
from stages.evaluation import intervals
from stages.evaluation.detector_file import load_detector
from stages.train import Train, TrainConfig


def features(count: int, raised: float, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    profile = 200 - 2.5 * np.arange(43) + random.normal(0, 6, (count, 43))
    profile[:, 30:] += raised
    return {"profile": profile.astype(np.float32)}


PHOTOS = rows_of("photos", 0, features(60, 0, 1), (step("ingest"), step("equalize", size=64)))
PROGAN = rows_of("progan", 1, features(40, 8, 2), (step("sample"), step("equalize", size=64)))
STYLEGAN = rows_of("stylegan", 1, features(48, 4, 3), (step("sample"), step("equalize", size=64)))
PERTURBED = rows_of("progan", 1, features(40, 2, 4), (step("sample"), step("equalize", size=64), step("perturb")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    ctx = context(tmp_path_factory.mktemp("model"), "train")
    settings = TrainConfig.model_validate_json(json.dumps({"detector": "profile-logistic"}))
    Train().fit(settings, {"on": union(PHOTOS, PROGAN)}, ctx)
    return Artifact("detectors[progan]", digest("model").hex(), ctx.out)


def evaluate(folder: Path, model: Artifact, test: Any, split: str = "test", **settings: Any) -> Path:
    ctx = context(folder, "evaluate", artifacts={"model": (model,)})
    Evaluate().fit(EvaluateConfig(split=split, **settings), {"test": test}, ctx)  # type: ignore[arg-type]
    return ctx.out


def results_of(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


def row_of(results: dict[str, Any], variant: str, source: str) -> dict[str, Any]:
    (row,) = [one for one in results["rows"] if (one["variant"], one["source"]) == (variant, source)]
    return dict(row)


def test_each_source_stands_against_all_reals_and_one_row_pools_them(model: Artifact, tmp_path: Path) -> None:
    view = union(PHOTOS, PROGAN, STYLEGAN)
    results = results_of(evaluate(tmp_path, model, {"": view}))
    assert [(row["source"], row["n_real"], row["n_fake"]) for row in results["rows"]] == [
        ("progan", 15, 10),
        ("stylegan", 15, 12),
        ("all", 15, 22),
    ]
    detector, test = load_detector(model.path), view.split("test")
    keep = (test.column("label") == 0) | (test.column("source") == "stylegan")
    scores = detector(test.where(keep))
    chosen = test.where(keep)
    ids = [bytes(one) for one in chosen.column("group")]
    ranks = np.array([sorted(ids).index(one) for one in ids])
    expected = intervals.summary(scores, chosen.column("label"), ranks, detector.card["threshold"])
    row = row_of(results, "raw", "stylegan")
    assert {name: row[name] for name in expected} == expected
    assert row["threshold"] == detector.card["threshold"]


def test_a_variant_without_reals_borrows_those_of_raw_and_says_so(model: Artifact, tmp_path: Path) -> None:
    views = {"P": PERTURBED, "other": union(PHOTOS.take(np.arange(8)), PROGAN), "raw": union(PHOTOS, PROGAN)}
    results = results_of(evaluate(tmp_path, model, views))
    assert row_of(results, "P", "progan")["n_real"] == 15
    assert {name: facts["reals_from"] for name, facts in results["variants"].items()} == {
        "P": "raw",
        "other": "other",
        "raw": "raw",
    }
    assert row_of(results, "P", "progan")["reals_from"] == "raw"
    assert row_of(results, "P", "progan")["auc"] < row_of(results, "raw", "progan")["auc"]


def test_only_rows_of_the_asked_split_are_scored(model: Artifact, tmp_path: Path) -> None:
    view = union(PHOTOS, PROGAN)
    for split in ("test", "val"):
        with np.load(evaluate(tmp_path / split, model, {"": view}, split) / "scores.npz", allow_pickle=False) as file:
            assert sorted(file["id"].tolist()) == sorted(view.split(split).ids.tolist())


def test_every_score_is_kept_with_its_row(model: Artifact, tmp_path: Path) -> None:
    views = {"raw": union(PHOTOS, PROGAN), "P": PERTURBED}
    out = evaluate(tmp_path, model, views)
    results = results_of(out)
    with np.load(out / "scores.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays["id"].dtype == np.dtype("V16")
    perturbed = arrays["variant"] == arrays["variants"].tolist().index("P")
    assert perturbed.sum() == 10
    assert arrays["score"][perturbed].tobytes() == load_detector(model.path)(PERTURBED.split("test")).tobytes()
    assert set(arrays["sources"][arrays["source"][perturbed]]) == {"progan"}
    chain = arrays["chains"][arrays["chain"][perturbed][0]]
    assert chain == bytes(PERTURBED.parts[0].chain).hex()
    assert [one["stage"] for one in results["steps"][chain]] == ["sample", "equalize", "perturb"]


@pytest.fixture(scope="module")
def models(model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Detectors of two families that read one field."""
    ctx = context(tmp_path_factory.mktemp("other"), "train")
    Train().fit(TrainConfig.model_validate({"detector": "profile-kmeans"}), {"on": union(PHOTOS, PROGAN)}, ctx)
    return [model, Artifact("other", digest("other").hex(), ctx.out)]


def test_detectors_over_the_same_rows_read_each_once_and_write_what_each_would_alone(
    models: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second detector has scored some of the rows before."""
    views = {"raw": union(PHOTOS, PROGAN), "P": PERTURBED, "both": union(PHOTOS, STYLEGAN)}
    apart = [evaluate(tmp_path / f"apart {number}", model, views) for number, model in enumerate(models)]
    ready = [context(tmp_path / f"together {number}", "evaluate", artifacts={"model": (model,)})
             for number, model in enumerate(models)]  # fmt: skip
    before = evaluate(tmp_path / "before", models[1], union(PHOTOS, PROGAN.take(np.arange(20))))
    ready[1].earlier = lambda: iter([Artifact("before", "", before)])
    read: list[bytes] = []
    plain = MemoryRows.array

    def counting(self: MemoryRows, field: str, rows: Any = None) -> Any:
        read.extend(self.parts[number].chain + bytes(one) for one, number in
                    zip(self.ids if rows is None else self.ids[rows], self.part_numbers if rows is None else
                        self.part_numbers[rows], strict=True))  # fmt: skip
        return plain(self, field, rows)

    monkeypatch.setattr(MemoryRows, "array", counting)
    Evaluate().fit_together([EvaluateConfig()] * 2, {"test": views}, ready)
    wanted = {view.parts[number].chain + bytes(one) for view in (one.split("test") for one in views.values())
              for one, number in zip(view.ids, view.part_numbers, strict=True)}  # fmt: skip
    assert len(read) == len(set(read)) == 15 + 10 + 10 + 12
    assert set(read) == wanted
    for ctx, folder in zip(ready, apart, strict=True):
        for name in ("results.json", "scores.npz"):
            assert (ctx.out / name).read_bytes() == (folder / name).read_bytes()


def test_detectors_that_read_other_fields_share_no_rows(models: list[Artifact], tmp_path: Path) -> None:
    ctx = context(tmp_path / "train", "train")
    values = {"profile": PHOTOS.array("profile"), "curve": PHOTOS.array("profile")}
    rows = union(rows_of("photos", 0, values), rows_of("fakes", 1, {name: one + 9 for name, one in values.items()}))
    config = {"detector": {"family": "logistic", "feature": "curve"}}
    Train().fit(TrainConfig.model_validate(config), {"on": rows}, ctx)
    other = Artifact("other", digest("other").hex(), ctx.out)
    ready = [context(tmp_path / one.node, "evaluate", artifacts={"model": (one,)}) for one in (models[0], other)]
    with pytest.raises(StageError, match=r"detectors that read \('curve',\) and \('profile',\) cannot share rows"):
        Evaluate().fit_together([EvaluateConfig()] * 2, {"test": rows}, ready)


def test_the_same_inputs_give_the_same_bytes(model: Artifact, tmp_path: Path) -> None:
    views = {"raw": union(PHOTOS, PROGAN), "P": PERTURBED}
    one, two = (evaluate(tmp_path / name, model, views) for name in ("one", "two"))
    for name in ("results.json", "scores.npz"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ({"P": PROGAN}, r"^no variant of 'test' \(P\) holds real rows of split 'test'; add reals to one of them$"),
        ({"P": PHOTOS}, "^variant 'P' of 'test' holds no fake rows of split 'test'; add fakes or remove it$"),
        (PROGAN, "^'test' holds no real rows of split 'test'; add reals to it$"),
        (PHOTOS, "^'test' holds no fake rows of split 'test'; add fakes to it$"),
    ],
)
def test_a_missing_class_is_named(model: Artifact, tmp_path: Path, view: Any, sentence: str) -> None:
    with pytest.raises(StageError, match=sentence):
        evaluate(tmp_path, model, view)


def test_only_a_detector_is_a_model() -> None:
    assert Evaluate.inputs["model"].takes == "detector" == Train.makes


def test_a_summary_stands_in_the_facts(model: Artifact, tmp_path: Path) -> None:
    ctx = context(tmp_path, "evaluate", artifacts={"model": (model,)})
    Evaluate().fit(EvaluateConfig(), {"test": union(PHOTOS, PROGAN)}, ctx)
    assert ctx.facts["detector"] == "logistic regression on profile"
    assert [row["source"] for row in ctx.facts["rows"]] == ["progan", "all"]


PLANNED = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 48, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 48, first: 100, label: 1, splits: [train, val, test]}
  large: {stage: "toy_photos:LargePhotos", count: 48, first: 200, splits: [train, val, test]}
  large_fakes: {stage: "toy_photos:LargePhotos", count: 48, first: 300, label: 1, splits: [train, val, test]}
  small: {stage: spectrum, of: [reals, fakes], features: [profile, dct2d]}
  maps: {stage: spectrum, of: [large, large_fakes], features: [dct2d]}
  others: {stage: spectrum, of: [large, large_fakes], features: [profile]}
  both: {stage: spectrum, of: [reals, large_fakes], features: [profile, dct2d]}
  detector: {stage: train, on: small, detector: profile-svm}
  table: {stage: evaluate, model: detector, test: small}
"""


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch, PLANNED)


@pytest.mark.parametrize(
    ("detector", "test", "sentence"),
    [
        (
            "profile-svm",
            "maps",
            r"the rows of 'test' have no field 'profile', which the detector of node 'detector' reads; they have "
            r"dct2d: name the node that computes it$",
        ),
        (
            "profile-svm",
            "{raw: small, P: maps}",
            r"the rows of variant 'P' of 'test' have no field 'profile', .* they have dct2d: name the node",
        ),
        (
            "dct2d-cnn",
            "maps",
            r"'dct2d' of the rows of 'test' is \(3, 64, 64\), but the detector of node 'detector' learns from "
            r"\(3, 32, 32\); equalize the images of both to one size$",
        ),
        ("{preset: profile-svm, length: null}", "others", r"'profile' of the rows of 'test' is \(\d+,\), but the det"),
        ("dct2d-cnn", "both", r"'dct2d' is \(3, 64, 64\) in large_fakes and \(3, 32, 32\) in reals; equalize all to"),
        (
            "profile-svm",
            "{of: small, where: label = real}",
            "'test' holds no fake rows of split 'test'; add fakes to it$",
        ),
        (
            "profile-svm",
            "{P: {of: small, where: source = fakes}, Q: {of: small, where: label = fake}}",
            r"no variant of 'test' \(P, Q\) holds real rows of split 'test'; add reals to one of them$",
        ),
    ],
)
def test_rows_that_a_detector_cannot_be_tested_on_are_refused_at_planning(
    planned: Project, detector: str, test: str, sentence: str
) -> None:
    planned.replace("detector: profile-svm", f"detector: {detector}")
    assert planned.plan()
    planned.replace("test: small", f"test: {test}")
    with pytest.raises(ConfigError, match=rf"pipeline\.yaml:12 nodes\.table {sentence}"):
        planned.plan()


def test_a_detector_that_resamples_is_tested_at_another_size_and_the_result_names_both(planned: Project) -> None:
    planned.replace("test: small", "test: {raw: small, large: others}")
    planned.run("table")
    (place,) = (planned.folder / "store" / "evaluate").rglob("results.json")
    results = results_of(place.parent)
    plan = planned.plan()
    small, large = (list(plan.branches[name][0].schema["profile"].shape) for name in ("small", "others"))
    assert small != large
    assert results["model"]["feature_shape"] == small
    assert {name: facts["feature_shape"] for name, facts in results["variants"].items()} == {
        "raw": small,
        "large": large,
    }


def test_a_pinned_detector_is_judged_by_what_it_learned_from(planned: Project) -> None:
    planned.replace("detector: profile-svm", "detector: {preset: profile-svm, length: null}")
    planned.run("detector")
    pin_nodes(planned.load(), ["detector"])
    planned.replace("on: small", "on: others")
    assert planned.plan().artifacts["table"]
    planned.replace("test: small", "test: others")
    with pytest.raises(ConfigError, match=r"table 'profile' of the rows of 'test' is .*; equalize the images"):
        planned.plan()


def grouped(rows: MemoryRows, size: int) -> MemoryRows:
    """The same rows, `size` of them to a group."""
    words = np.frombuffer(b"".join(digest(f"group {n // size}") for n in range(len(rows))), dtype="V16")
    values = {name: rows.array(name) for name in rows.fields}
    return MemoryRows(rows.parts, {name: rows.column(name) for name in rows.columns} | {"group": words}, values)


def test_rows_of_a_group_do_not_count_as_several(model: Artifact, tmp_path: Path) -> None:
    assert "group" in Evaluate.uses_columns
    one = row_of(results_of(evaluate(tmp_path / "one", model, union(PHOTOS, STYLEGAN))), "raw", "stylegan")
    reals, fakes = (grouped(rows.split("test"), 4) for rows in (PHOTOS, STYLEGAN))
    four = row_of(results_of(evaluate(tmp_path / "four", model, union(reals, fakes))), "raw", "stylegan")
    assert four["auc"] == one["auc"]
    assert (one["effective_groups"], four["effective_groups"]) == (12, 3)
    assert four["few_groups"] is True
    assert np.ptp(four["auc_interval"]) > np.ptp(one["auc_interval"])


def test_a_result_names_the_chains_and_steps_that_the_detector_learned_from(model: Artifact, tmp_path: Path) -> None:
    about = results_of(evaluate(tmp_path, model, union(PHOTOS, PROGAN)))["model"]
    assert about["chains"] == sorted(bytes(rows.parts[0].chain).hex() for rows in (PHOTOS, PROGAN))
    learned = {"aa": step("equalize", size=64) | {"recipe": "aa"}}
    told = evaluate(tmp_path / "told", replace(model, info={"made_from": learned}), union(PHOTOS, PROGAN))
    assert results_of(told)["model"]["made_from"] == [learned["aa"]]


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([("equalize", "aa", {"size": 64}, False)], ""),
        ([("equalize", "aa", {"size": 64}, False), ("perturb", "pp", {}, True)], ""),
        ([("equalize", "bb", {"size": 32}, False)], "equalize.config: size 64 -> 32"),
        ([("equalize", "bb", {"size": 64}, False)], "equalize has other code, or rows of another size"),
        ([("equalize", "aa", {"size": 64}, False), ("residual", "rr", {}, False)], "residual instead of equalize"),
    ],
)
def test_rows_made_in_another_way_than_those_learned_from_are_told(
    steps: list[tuple[str, str, dict[str, Any], bool]], sentence: str
) -> None:
    learned = {"aa": step("equalize", size=64) | {"recipe": "aa", "variant": False}}
    made = tuple(step(name, **config) | {"recipe": key, "variant": one} for name, key, config, one in steps)
    assert other_features(rows_of("photos", 0, features(4, 0, 1), made), learned) == sentence
    assert other_features(rows_of("photos", 0, features(4, 0, 1), made), {}) == ""


def test_scores_that_both_classes_have_at_one_end_are_told(model: Artifact, tmp_path: Path) -> None:
    """Rows far from those of the calibration: the detector orders them, float32 has no number between their scores."""
    far, odd = (rows_of("photos", 0, features(60, 900, 5)), rows_of("progan", 1, features(40, 1000, 6)))
    results = results_of(evaluate(tmp_path, model, {"raw": union(PHOTOS, PROGAN), "far": union(far, odd)}))
    (sentence,) = results["model"]["doubts"]
    assert sentence.startswith(
        "in far the scores of 15 reals and 10 fakes are all 1: so far from the rows of the calib"
    )
    assert row_of(results, "far", "progan")["auc"] == 0.5


def test_the_null_result_sets_one_half_of_the_reals_against_the_other_by_group(model: Artifact, tmp_path: Path) -> None:
    photos = grouped(rows_of("photos", 0, features(200, 0, 8), split="test"), 2)
    out = evaluate(tmp_path, model, {"raw": union(photos, PROGAN), "P": PERTURBED})
    (null,) = results_of(out)["null"]  # P has no reals
    with np.load(out / "scores.npz", allow_pickle=False) as file:
        reals = (file["label"] == 0) & (file["variant"] == file["variants"].tolist().index("raw"))
        scores, groups = file["score"][reals], file["group"][reals]
    halves: dict[bytes, list[float]] = {}
    for score, group in zip(scores.tolist(), groups.tolist(), strict=True):
        halves.setdefault(bytes(group), []).append(score)
    assert (null["variant"], null["n_first"] + null["n_second"], len(halves)) == ("raw", 200, 100)
    assert abs(null["n_first"] - 100) < 40
    assert null["n_first"] % 2 == 0  # whole groups
    low, high = null["auc_interval"]
    assert low < 0.5 < high


def test_numbers_that_are_none_are_null_in_json() -> None:
    assert without_nan({"a": [float("nan"), 1.0], "b": (2, {"c": float("nan")})}) == {
        "a": [None, 1.0],
        "b": [2, {"c": None}],
    }


PINNED = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 48, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 48, first: 100, label: 1, splits: [train, val, test]}
  spectra: {stage: spectrum, of: [reals, fakes], features: [profile], convention: durall19}
  detector: {stage: train, on: spectra, detector: {preset: profile-svm, length: null}}
  table: {stage: evaluate, model: detector, test: spectra}
"""


def test_a_pinned_detector_that_meets_other_features_is_said_in_plan_and_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, PINNED)
    project.run("detector")
    pin_nodes(project.load(), ["detector"])
    assert not [note for note in project.plan().notes if "WARNING" in note]
    project.replace("durall19", "durall20")
    (warning,) = [note for note in project.plan().notes if "WARNING" in note]
    said = "spectrum.config: convention durall19 -> durall20"
    assert warning.startswith("WARNING: table gives the pinned detector rows that were made otherwise than those it")
    assert said in warning
    project.run("table")
    (place,) = (project.folder / "store" / "evaluate").rglob("results.json")
    assert results_of(place.parent)["variants"]["raw"]["other_features"] == said


SEVERAL = """
nodes:
  reals: {stage: "toy_photos:Photos", count: 48, splits: [train, val, test]}
  fakes: {stage: "toy_photos:Photos", count: 48, first: 100, label: 1, splits: [train, val, test]}
  images: {stage: "toy_photos:Invert", of: [reals, fakes]}
  early: {stage: spectrum, of: images, features: [profile], convention: durall19}
  late: {stage: spectrum, of: images, features: [profile], convention: jung21}
  maps: {stage: spectrum, of: images, features: [dct2d]}
  svm: {stage: train, on: [images, maps, late], detector: profile-svm}
  table: {stage: evaluate, model: svm, test: [images, early, late, maps]}
"""


def test_of_rows_that_a_view_holds_in_several_ways_those_are_taken_that_the_detector_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, monkeypatch, SEVERAL)
    plan = project.plan()

    def read(node: str, name: str) -> set[str]:
        return {one.sides[0].branch.node for found in plan.artifacts[node].views[name].values() for one in found}

    assert read("svm", "on") == {"late"}
    assert read("table", "test") == {"late"}
    project.replace("test: [images, early, late, maps]", "test: [images, early, maps]")
    plan = project.plan()
    assert read("table", "test") == {"early"}
    project.replace("test: [images, early, maps]", "test: [images, {of: early, where: source = reals}]")
    with pytest.raises(ConfigError, match="'profile' is "):  # the fakes would be lost
        project.plan()


def filmed(rows: MemoryRows, frames: int) -> MemoryRows:
    """The test rows as frames of films, `frames` to each."""
    rows = grouped(rows.split("test"), frames)
    values = {name: rows.array(name) for name in rows.fields}
    return MemoryRows(
        rows.parts, {name: rows.column(name) for name in rows.columns} | {"origin": rows.column("group")}, values
    )


def test_films_are_judged_by_most_of_their_frames(model: Artifact, tmp_path: Path) -> None:
    view = union(filmed(PHOTOS, 3), filmed(STYLEGAN, 4))
    frames, films = (evaluate(tmp_path / vote, model, {"": view}, vote=vote) for vote in ("none", "origin"))
    detector = load_detector(model.path)
    scores, labels = detector(view), view.column("label")
    shares: dict[tuple[int, bytes], list[bool]] = {}
    for score, label, film in zip(scores.tolist(), labels.tolist(), map(bytes, view.column("origin")), strict=True):
        shares.setdefault((label, film), []).append(score >= detector.card["threshold"])
    right = [(2 * sum(one) >= len(one)) == bool(label) for (label, _), one in shares.items()]
    row = row_of(results_of(films), "raw", "stylegan")
    assert (row["n_real"], row["n_fake"]) == (5, 3)
    assert row["accuracy"] == pytest.approx(sum(right) / len(right))
    assert results_of(films)["model"]["threshold"] == row["threshold"] == 0.5
    assert row_of(results_of(frames), "raw", "stylegan")["n_real"] == 15
    with np.load(films / "scores.npz") as kept:
        keys = zip(kept["label"].tolist(), map(bytes, kept["id"]), strict=True)
        found = dict(zip(keys, kept["score"], strict=True))
    assert found == {key: np.float32(sum(one) / len(one)) for key, one in shares.items()}
    with pytest.raises(StageError, match=r"'vote: origin' has no effect"):
        evaluate(tmp_path / "single", model, {"": union(filmed(PHOTOS, 1), filmed(STYLEGAN, 1))}, vote="origin")
