"""Stage `report`: the equality audit, the table, and one offline file whose bytes do not move."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from memory_rows import MemoryRows, context, digest, rows_of, step, union
from page_words import Words
from PIL import Image

from pipeline.stage import Artifact, Field
from stages.evaluate import Evaluate, EvaluateConfig
from stages.evaluation.reductions import Reductions
from stages.fit_equalization import FitEqualization, FitEqualizationConfig
from stages.images.containers import packed
from stages.mean_spectra import MeanSpectra, MeanSpectraConfig
from stages.report import Report, ReportConfig
from stages.reporting import equalizations, figures, generators, panels
from stages.reporting.compared import gaps, resampled
from stages.reporting.series import series
from stages.train import Train, TrainConfig

REAL_STEPS = (step("ingest", manifest="photos.csv"), step("equalize", size=16, resample="lanczos"))
FAKE_STEPS = (step("sample", generator="progan"), step("equalize", size=16, resample="lanczos"))


def values(count: int, seed: int, raised: float, reduction: float) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    profile = 200 - 2.5 * np.arange(43) + random.normal(0, 6, (count, 43))
    profile[:, 30:] += raised
    return {
        "profile": profile.astype(np.float32),
        "fft2d": random.normal(raised / 10, 1, (count, 3, 16, 16)).astype(np.float16),
        "image": random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        "reduction": np.full(count, reduction, dtype=np.float32),
    }


PHOTOS = rows_of("photos", 0, values(40, 1, 0, 2.0), REAL_STEPS)
PROGAN = rows_of("progan <raw>", 1, values(40, 2, 8, 1.0), FAKE_STEPS)
PERTURBED = rows_of("progan <raw>", 1, values(40, 3, 4, 1.0), (*FAKE_STEPS, step("perturb", protocol="he2021")))
FILES = rows_of(
    "photos",
    0,
    {
        "codec": np.stack([packed("PNG")] * 30 + [packed("JPEG")] * 10),
        "native_size": np.tile(np.array([128, 96], dtype=np.int32), (40, 1)),
        "quantization": np.concatenate([np.zeros((30, 2, 64)), np.ones((10, 2, 64))]).astype(np.uint16),
        "file_bytes": np.arange(40, dtype=np.int64) * 1024,
    },
)


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, ...]:
    found = []
    for detector in ("profile-svm", "profile-logistic"):
        folder = tmp_path_factory.mktemp(detector)
        trained = context(folder / "train", "train")
        settings = TrainConfig.model_validate_json(json.dumps({"detector": detector}))
        Train().fit(settings, {"on": union(PHOTOS, PROGAN)}, trained)
        model = Artifact(f"detectors[{detector}]", digest(detector).hex(), trained.out)
        scored = context(folder / "evaluate", "evaluate", artifacts={"model": (model,)})
        Evaluate().fit(EvaluateConfig(), {"test": {"raw": union(PHOTOS, PROGAN), "P": PERTURBED}}, scored)
        found.append(Artifact(f"table[{detector}]", digest(detector + "table").hex(), scored.out))
    return tuple(found)


def report(folder: Path, evaluations: tuple[Artifact, ...], drawn: bool = False, **settings: Any) -> Any:
    """Page, table and facts of a report with all inputs."""
    rows = union(PHOTOS, PROGAN)
    views: dict[str, MemoryRows] = {"images": rows, "spectra": rows, "container": FILES}
    page, facts = page_of(folder, evaluations, views, drawn, **settings)
    return page, json.loads((folder / "out" / "table.json").read_text()), facts


def page_of(
    folder: Path,
    evaluations: tuple[Artifact, ...],
    views: dict[str, MemoryRows],
    drawn: bool = False,
    mean_spectra: tuple[Artifact, ...] = (),
    **settings: Any,
) -> tuple[str, dict[str, Any]]:
    """Page and facts of a report with some inputs. drawn: or else a word stands for each figure."""
    artifacts = {"of": evaluations} | ({"mean_spectra": mean_spectra} if mean_spectra else {})
    ctx = context(folder, "report", artifacts=artifacts)
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            for module in (figures, panels, equalizations, generators):
                patch.setattr(module, "draw", lambda *_, **more: figures.Picture("data:image/png;base64,", 100, 100))
        Report().fit(ReportConfig(**settings), {name: view.seen_by(Report) for name, view in views.items()}, ctx)
    return (ctx.out / "report.html").read_text(encoding="utf-8"), ctx.facts


def without(rows: MemoryRows, name: str) -> MemoryRows:
    """The same rows whose schema lacks a field."""
    (part,) = rows.parts
    schema = {field: kind for field, kind in part.schema.items() if field != name}
    table = {column: rows.column(column) for column in rows.columns}
    return MemoryRows([replace(part, schema=schema)], table, {field: rows.array(field) for field in schema})


DECLARED = {
    "perturb": "Only fakes are perturbed.",
    "codec": "Some photographs were born as JPEG.",
    "reduction": "Reals are reduced 32 to 16 px, fakes are native 16 px.",
}


@pytest.fixture(scope="module")
def drawn(evaluations: tuple[Artifact, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Page, table and facts with all figures."""
    return whole(evaluations, tmp_path_factory.mktemp("drawn"))


def whole(evaluations: tuple[Artifact, ...], folder: Path) -> Any:
    return report(folder, evaluations, drawn=True, notice="Demonstration & no evidence.", declared=DECLARED)


def test_the_page_is_one_offline_file_with_one_named_script(drawn: Any) -> None:
    page, _, _ = drawn
    words = Words(page)
    assert (words.tags.count("script"), words.tags.count("style")) == (1, 1)
    assert not re.search(r"<[^>]* (?:style|on[a-z]+)=", page)  # the policy would refuse both
    data = ("data:image/", "data:text/csv", "data:application/json", "#")
    assert all(address.startswith(data) for address in words.addresses)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+|http-equiv", "", page)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    allowed = {
        name: sources for name, _, sources in (one.strip().partition(" ") for one in html.unescape(policy).split(";"))
    }
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        sha = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed.pop(name) == f"'sha256-{sha}'"
    nothing = "'none'"
    assert allowed == {"default-src": nothing, "img-src": "data:", "base-uri": nothing, "form-action": nothing}
    assert "Demonstration & no evidence." in words.words
    assert "progan <raw>" in words.words  # names are escaped


@pytest.mark.jobs
def test_the_same_inputs_give_the_same_bytes(drawn: Any, evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    again = whole(evaluations, tmp_path)
    assert again[0] == drawn[0]
    assert again[1] == drawn[1]


def test_a_difference_that_nobody_declared_is_flagged(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, _, facts = report(tmp_path, evaluations, declared={"reduction": DECLARED["reduction"]})
    assert facts["undeclared"] == ["codec", "perturb"]
    words = Words(page).words
    assert "2 undeclared differences" in words
    assert DECLARED["reduction"] in words
    assert words.count("not declared") == 2


def test_declared_differences_raise_no_flag(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, _, facts = report(tmp_path, evaluations, declared=DECLARED | {"residual": "A sentence about nothing."})
    assert facts["undeclared"] == []
    words = Words(page).words
    assert "Every difference that the audit found is declared." in words
    assert "not declared" not in words
    assert "A sentence about nothing." in words


def test_a_topic_with_a_typing_mistake_is_refused() -> None:
    with pytest.raises(ValueError, match="no difference has the topic 'reducton'; did you mean 'reduction'"):
        ReportConfig(declared={"reducton": "Reals are reduced."})
    ReportConfig(declared={"my_stage.kernel": "A stage from elsewhere.", "equalize.size": "Sizes differ."})


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("images", ["dct2d", "profile"], "the rows of 'images' have dct2d, profile; expected reduction or image"),
        (
            "spectra",
            ["image"],
            "the rows of 'spectra' have image; expected profile or row_profile or column_profile or dct2d or fft2d",
        ),
    ],
)
def test_rows_without_anything_to_show_are_refused_at_planning(name: str, fields: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Report().schema(ReportConfig(), {name: dict.fromkeys(fields, Field("float32"))})


def test_the_table_holds_each_detector_source_and_variant(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, table, _ = report(tmp_path, evaluations)
    found = {(row["detector"], row["variant"], row["source"]) for row in table["rows"]}
    names = {"SVM (rbf) on profile", "logistic regression on profile"}
    assert found == {(name, variant, s) for name in names for variant in ("raw", "P") for s in ("progan <raw>", "all")}
    words = Words(page).words
    for row in table["rows"]:
        assert row["trained_on"] == ["progan <raw>"]
        assert f"{row['ap']:.3f}" in words
        for name in ("ap", "auc", "balanced_accuracy", "accuracy", "tpr"):
            low, high = row[f"{name}_interval"]
            assert f"{row[name]:.3f} {low:.3f} – {high:.3f}" in words
    assert "P (compared with the reals of raw)" in words
    assert words.count("P (reals of raw)") == 3  # head of the matrix, and each row of the variant
    assert "raw (reals of" not in words


def test_container_facts_and_native_sizes_are_shown(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    words = Words(report(tmp_path, evaluations)[0]).words
    for fact in ("PNG (30), JPEG (10)", "128 × 96 (40)", "1 different", "0.0 to 39.0 KiB, median 19.5", "reduced by 2"):
        assert fact in words


BLIND = {
    "images": "Factors of reduction were not audited: give `images` all 'equalize' nodes that the evaluated rows pass.",
    "container": "Codecs and native sizes of files were not audited: give `container: photos`.",
}


@pytest.mark.parametrize("absent", [["images"], ["container"], ["images", "container"]])
def test_an_audit_that_could_not_look_is_not_green(
    absent: list[str], evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    views = {"images": union(PHOTOS, PROGAN), "container": FILES}
    given = {name: rows for name, rows in views.items() if name not in absent}
    page, facts = page_of(tmp_path, evaluations, given, declared=DECLARED)
    assert 'class="amber"' in page
    assert 'class="calm"' not in page
    words = Words(page).words
    assert "Every difference that it found is declared, but:" in words
    assert facts["not_audited"] == [BLIND[name] for name in absent]
    for name, sentence in BLIND.items():
        assert (sentence in words) == (name in absent)
    assert "Mean spectra" not in words


def test_a_difference_is_flagged_beside_what_was_not_audited(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, _ = page_of(tmp_path, evaluations, {"container": FILES}, declared={"perturb": "Said."})
    assert 'class="alarm"' in page
    assert 'class="amber"' in page


def test_a_complete_audit_is_green(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, _, facts = report(tmp_path, evaluations, declared=DECLARED)
    assert 'class="calm"' in page
    assert 'class="amber"' not in page
    assert facts["not_audited"] == []


def test_the_reduction_is_found_beside_perturbed_images_that_have_no_such_field(
    evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    rows = union(PHOTOS, PROGAN, without(PERTURBED, "reduction"))
    assert "reduction" not in rows.fields
    page, facts = page_of(tmp_path, evaluations, {"images": rows, "container": FILES})
    assert facts["undeclared"] == ["codec", "perturb", "reduction"]
    assert facts["not_audited"] == []
    assert "reduced by 2 native size all variants" in Words(page).words


def test_codecs_are_measured_on_the_parts_that_have_them(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    other = rows_of("more photos", 0, {"image": np.zeros((4, 8, 8, 3), np.uint8)})
    page, facts = page_of(tmp_path, evaluations, {"images": PHOTOS, "container": union(FILES, other)})
    assert "codec" in facts["undeclared"]
    assert "PNG (30), JPEG (10)" in Words(page).words


def test_a_class_whose_reduction_nobody_recorded_is_named(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    _, facts = page_of(tmp_path, evaluations, {"images": union(PHOTOS, without(PROGAN, "reduction"))})
    assert facts["not_audited"][0].startswith("Factors of reduction were not audited for progan <raw> (fake): give")


def test_nodes_of_all_files_are_asked_for() -> None:
    steps = {"a": [step("ingest"), step("equalize")], "b": [step("ingest"), step("sample")], "c": [step("ingest")]}
    sources = {"a": "photos", "b": "translated", "c": "fakes[progan]"}
    parts = [
        {"chain": chain, "real": int(chain == "a"), "fake": int(chain != "a"), "sources": [source]}
        for chain, source in sources.items()
    ]
    evaluation = {"steps": steps, "variants": {"raw": {"reals_from": "raw", "parts": parts}}}
    advice = 'files were not audited: give `container: [photos, "fakes[progan]"]`.'
    assert gaps([evaluation], Reductions(None))[1].endswith(
        advice
    )  # a translated image is made by a generator, not read from a file


def test_test_rows_are_counted_once_and_by_name(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    words = Words(report(tmp_path, evaluations)[0]).words
    assert "10 real test rows of variant raw" in words
    assert "10 fake test rows of variant raw" in words


def test_samples_of_two_generators_from_the_same_seeds_are_counted_apart(
    evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    table = {column: PROGAN.column(column) for column in PROGAN.columns}
    part = replace(PROGAN.parts[0], chain=digest("another generator"))
    another = MemoryRows([part], table | {"source": np.full(40, "stylegan")}, PROGAN.values)
    model = Artifact("svm", digest("svm").hex(), evaluations[0].path.parents[1] / "train" / "out")
    scored = context(tmp_path / "evaluate", "evaluate", artifacts={"model": (model,)})
    Evaluate().fit(EvaluateConfig(), {"test": {"raw": union(PHOTOS, PROGAN, another)}}, scored)
    words = Words(report(tmp_path / "report", (Artifact("table", "0" * 32, scored.out),))[0]).words
    assert "20 fake test rows" in words


def test_a_detector_that_resampled_its_test_rows_is_named(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    results = json.loads((evaluations[0].path / "results.json").read_text())
    assert resampled([results]) == []
    results["variants"]["P"]["feature_shape"] = [20]
    sentence = "detectors[profile-svm] learned from 43 values and was tested on 20 in variant P, which it resampled."
    assert resampled([results]) == [sentence]
    other = tmp_path / "evaluation"
    shutil.copytree(evaluations[0].path, other)
    (other / "results.json").write_text(json.dumps(results))
    assert sentence in Words(report(tmp_path / "report", (Artifact("table", "0" * 32, other),))[0]).words


def test_what_a_training_says_against_its_result_stands_below_the_matrix(
    evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    results = json.loads((evaluations[0].path / "results.json").read_text())
    assert results["model"]["doubts"] == []
    results["model"]["doubts"] = ["it was still improving"]
    other = tmp_path / "evaluation"
    shutil.copytree(evaluations[0].path, other)
    (other / "results.json").write_text(json.dumps(results))
    words = Words(report(tmp_path / "report", (Artifact("table", "0" * 32, other),))[0]).words
    assert "SVM (rbf) on profile trained on progan <raw>: it was still improving" in words


def test_perturbed_samples_stand_apart(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    rows = union(PHOTOS, PROGAN, without(PERTURBED.split("test"), "reduction"))
    page, _ = page_of(tmp_path, evaluations, {"images": rows})
    words = Words(page).words
    for caption in (
        "photos 40 rows after equalize, 16 × 16 px",
        "progan <raw> 40 rows after equalize, 16 × 16 px",
        "progan <raw> 10 rows after equalize → perturb, 16 × 16 px",
    ):
        assert caption in words
    assert re.findall(r'alt="samples of ([^"]+)"', page) == [
        "photos",
        "progan &lt;raw&gt; (equalize)",
        "progan &lt;raw&gt; (equalize → perturb)",
    ]


def test_series_with_steps_of_the_same_name_are_told_apart_by_settings() -> None:
    values = {"image": np.zeros((2, 8, 8, 3), np.uint8)}
    rows = union(*(rows_of("x", 1, values, (*FAKE_STEPS[:1], step("perturb", protocol=name))) for name in ("b", "a")))
    assert [one.name for one in series(rows)] == ["x (perturb(protocol a))", "x (perturb(protocol b))"]
    (alone,) = series(rows_of("x", 1, values, FAKE_STEPS[:1]))
    assert (alone.name, alone.steps) == ("x", "as generated or read")


def trained(folder: Path) -> Artifact:
    """The artifact of a finetuning, as its stage writes it."""
    folder.mkdir()
    card = {
        "family": "progan", "method": "regularization", "kimg": 3.0, "photographs": 471, "parameters": 720447,
        "device": "cpu", "figures": {"diversity": 0.93, "profile_distance": 0.875}, "profile_distance_before": 1.75,
    }  # fmt: skip
    log = [{"kimg": 0.5 * n, "discriminator": 1 / n, "generator": 0.1 * n, "lod": 0.0} for n in (1, 2, 3)]
    log[1]["gradient_ratio"] = 0.1
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "log.json").write_text(json.dumps(log))
    for name, level in (("samples-000001000.png", 10), ("samples-000003000.png", 200)):
        Image.fromarray(np.full((8, 8, 3), level, dtype=np.uint8)).save(folder / name)
    return Artifact("fine <R>", "0" * 32, folder, {"files": {path.name: {} for path in folder.iterdir()}})


def test_generators_are_shown_with_figures_losses_and_the_last_samples(
    evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    artifact = trained(tmp_path / "fine")
    shutil.copyfile(artifact.path / "samples-000001000.png", artifact.path / "samples-000009000.png")  # none of its own
    ctx = context(tmp_path, "report", artifacts={"of": evaluations, "generators": (artifact,)})
    Report().fit(ReportConfig(), {}, ctx)
    page = (ctx.out / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="generators"') : page.index('<section id="lineage"')]
    assert "fine &lt;R&gt;" in section
    for text in ("3 thousand images of 471 photographs", "720,447 parameters", "profile distance 0.875", "before 1.75"):
        assert text in section
    pictures = [base64.b64decode(text) for text in re.findall(r"data:image/png;base64,([^\"]+)", section)]
    with Image.open(io.BytesIO(pictures[0])) as image:
        assert np.asarray(image).mean() == 200
    curves = base64.b64decode(re.findall(r"data:image/svg\+xml;base64,([^\"]+)", section)[0]).decode()
    assert "gradient ratio" in curves
    assert "lod" not in curves


def test_equalizations_are_shown_with_gaps_psnr_and_warnings(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    fit = context(tmp_path / "fit", "fit_equalization")
    rows = union(PHOTOS, PROGAN)
    FitEqualization().fit(FitEqualizationConfig(pool_below=4, largest_gain=3.0), {"on": rows}, fit)
    artifact = Artifact("gains <E>", "0" * 32, fit.out)
    ctx = context(tmp_path, "report", artifacts={"of": evaluations, "equalizations": (artifact,)})
    Report().fit(ReportConfig(), {}, ctx)
    page = (ctx.out / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="equalizations"') : page.index('<section id="lineage"')]
    words = Words(f"<main>{section}</main>").words
    gaps, ratio = fit.facts["gap_nepers"], fit.facts["psnr_db"]
    for text in (
        "gains <E>",
        "20 of photos as reals, 20 of progan <raw> as fakes, 16 × 16 px",
        "a gain per ring, from the mean of the fakes, R, G and B apart, one gain for rings 1 to 3, gains up to 3",
        f"{fit.facts['gains']['least']:.2f} to {fit.facts['gains']['largest']:.2f}",
        " ".join(f"{gaps[name]:.3f}" for name in ("before", "before_rounding", "after_rounding")),
        f"{gaps['largest_after_rounding']:.3f} 0 {ratio['mean']:.1f} {ratio['least']:.1f}",
        "The mean spectrum of 20 real images is noisy at the innermost rings, 100 or more are better.",
    ):
        assert text in words
    curves = base64.b64decode(re.findall(r"data:image/svg\+xml;base64,([^\"]+)", section)[0]).decode()
    assert "fakes, equalized" in curves


def test_mean_spectra_are_shown_with_their_sources_and_warnings(
    evaluations: tuple[Artifact, ...], tmp_path: Path
) -> None:
    means = context(tmp_path / "means", "mean_spectra")
    rows = union(PHOTOS, PROGAN, PERTURBED)
    MeanSpectra().fit(MeanSpectraConfig(pictures=("dct2d",)), {"of": rows.take(np.arange(1, len(rows)))}, means)
    artifact = Artifact("dots <W>", "0" * 32, means.out)
    page, _ = page_of(tmp_path, evaluations, {}, mean_spectra=(artifact,))
    section = page[page.index('<section id="mean-spectra"') : page.index('<section id="lineage"')]
    words = Words(f"<main>{section}</main>").words
    for text in (
        "dots <W>",
        "39 of photos, 40 of progan <raw> (equalize), 40 of progan <raw> (equalize → perturb), 16 × 16 px",
        "Sources have 39 to 40 rows",
        "mean of signed coefficients",
        "logarithm of the mean magnitude",
        "mean of the logarithms",
    ):
        assert text in words
    assert section.count('src="data:image/png;base64,') == 3


def test_only_evaluations_are_reported() -> None:
    assert Report.inputs["of"].takes == "evaluation" == Evaluate.makes


def test_samples_are_the_smallest_ids_in_order(evaluations: tuple[Artifact, ...], tmp_path: Path) -> None:
    page, _, _ = report(tmp_path, evaluations, samples=3)
    strips = re.findall(r'alt="samples of photos" src="data:image/png;base64,([^"]+)"', page)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(strips[0]))))
    order = sorted(range(len(PHOTOS)), key=lambda row: PHOTOS.ids[row].tobytes())[:3]
    assert sheet.shape == (16, 3 * 18 - 2, 3)
    for number, row in enumerate(order):
        np.testing.assert_array_equal(sheet[:, 18 * number : 18 * number + 16], PHOTOS.array("image")[row])


def test_the_template_is_part_of_the_recipe() -> None:
    assert len(Report().environment(ReportConfig())["template"]) == 32


def test_moments_equal_those_of_numpy_and_do_not_depend_on_large_means() -> None:
    data = np.random.default_rng(0).normal(1e4, 1, (200, 5))
    mean, deviation = figures.moments(rows_of("x", 0, {"profile": data}), "profile")
    np.testing.assert_allclose(mean, data.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(deviation, data.std(axis=0), rtol=1e-9)


def test_color_bars_of_many_maps_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[Figure] = []

    def kept(width: float, height: float, kind: str, paint: Any) -> str:
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        figure.canvas.draw()
        painted.append(figure)
        return ""

    monkeypatch.setattr(figures, "draw", kept)
    names = [f"source {number}" for number in range(13)]
    figures.map_figure({name: np.eye(8) for name in names}, dict.fromkeys(names, 1), shifted=False)
    bars = [axis.get_position() for axis in painted[0].axes if axis.get_ylabel()]
    assert len(bars) == 6  # two for each of three lines
    assert not any(one.overlaps(other) for one, other in itertools.combinations(bars, 2))
