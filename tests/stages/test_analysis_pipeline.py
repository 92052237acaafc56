"""Stages that look into a detector, in a pipeline file as a user writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from predicted_project import artifact, predicted_project
from small_games import generator_file_of
from toy_project import Project

import touchstone
from pipeline.errors import ConfigError
from pipeline.open import open_node
from stages.generators.evasion import FRESH
from stages.generators.frozen import FrozenGenerator
from stages.generators.latent_shifts import read_shift
from stages.reporting import generators, inversions, latent_shifts
from stages.reporting.section import Given

MORE = """
  reals: {stage: equalize, of: photos, size: 16}
  parts: {stage: segment, of: images, segmenter: grid}
  best: {stage: top_patches, model: patches, on: images, parts: parts}
  shift:
    {stage: latent_shift, checkpoint: progan.safetensors, classifier: patches, steps: 6, batch: 2, images: 4,
     learning_rate: 0.5}
  moved: {stage: sample, checkpoint: progan.safetensors, count: 3, shift: shift, shift_scale: -1.5}
  inverted:
    {stage: invert, of: {of: reals, where: split = test}, checkpoint: progan.safetensors, steps: 3, starts: 4,
     micro_batch: 3}
  evading:
    stage: finetune_generator
    on: reals
    checkpoint: progan.safetensors
    classifier: patches
    method: evade
    stop_kimg: 0.016
    stop_below: 1.0
    stop_images: 4
    warm_up_kimg: 0.0
    recipe: {family: progan, batch: 4, kimg: 0.064, discriminator: {fmap_base: 64, fmap_max: 8}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("analysis")
        made = predicted_project(folder, patch, MORE)
        generator_file_of("progan", folder, 16)
        made.run("best", "moved", "inverted", "evading")
        yield made


def card(project: Project, node: str, name: str = "card.json") -> Any:
    return json.loads((artifact(project, node) / name).read_text())


def test_patches_of_test_rows_are_counted(project: Project) -> None:
    results = card(project, "best", "results.json")
    labels = open_node(project.file, "images").split("test").column("label").tolist()
    counts = {name: sum(one["top"] for one in found["share"].values()) for name, found in results["found"].items()}
    assert counts == {"real": labels.count(0), "fake": labels.count(1)}
    assert results["segmentation"] == "three by three parts of the picture, a stand-in"


def test_samples_are_moved_against_the_shift_and_the_card_tells_what_that_does(project: Project) -> None:
    generator = FrozenGenerator(project.folder / "progan.safetensors", "cpu")
    rows = open_node(project.file, "moved")
    shift = read_shift(artifact(project, "shift"), 1.0, "cpu").vector
    assert float(shift.norm()) > 1
    made = generator.generator(generator.latents(np.arange(3)) + 1.5 * shift)
    wanted = {one.tobytes() for one in generator.pixels(made)}
    assert {one.tobytes() for one in rows.array("image")} == wanted
    figures = card(project, "shift")["figures"]
    assert set(figures["by_scale"]) == {"-2", "-1", "0", "1", "2"}
    assert figures["by_scale"]["0"]["distance"] == 0
    means = [figures["by_scale"][scale]["probability_of_fake"] for scale in ("-1", "0", "1")]
    assert figures["rises"]["-1 to 0"][0] == pytest.approx(means[1] - means[0])
    assert figures["rises"]["0 to 1"][0] == pytest.approx(means[2] - means[1])
    assert figures["relative_size"] == pytest.approx(float(shift.norm()) / 2)  # z has four numbers
    assert {"classifier", "distance", "probability_of_fake", "called_fake"} <= set(
        card(project, "shift", "log.json")[0]
    )


def test_inversions_are_fakes_of_the_group_of_their_photographs(project: Project) -> None:
    rows, photos = open_node(project.file, "inverted"), open_node(project.file, "reals").split("test")
    assert set(rows.column("label").tolist()) == {1}
    assert set(rows.column("split").tolist()) == {"test"}
    assert sorted(rows.column("group").tolist()) == sorted(photos.column("group").tolist())
    generator = FrozenGenerator(project.folder / "progan.safetensors", "cpu")
    made = generator.pixels(generator(torch.from_numpy(rows.array("latent"))))
    np.testing.assert_array_equal(rows.array("image"), made)
    by_group = dict(zip(map(bytes, photos.column("group")), photos.array("image"), strict=True))
    for group, image, psnr in zip(rows.column("group"), rows.array("image"), rows.array("psnr"), strict=True):
        error = ((image.astype(float) - by_group[bytes(group)]) ** 2).mean()
        assert psnr == pytest.approx(10 * np.log10(255**2 / error), rel=1e-5)
    assert (rows.array("distance") > 0).all()
    latents = rows.array("latent")
    images = generator(torch.from_numpy(latents)).numpy().transpose(0, 2, 3, 1)
    wanted = np.stack([by_group[bytes(group)] for group in rows.column("group")]) / 127.5 - 1
    pixels = np.abs(images - wanted).mean(axis=(1, 2, 3))
    loss = pixels + rows.array("distance") + 0.001 * (latents**2).mean(axis=1)
    assert rows.array("loss") == pytest.approx(loss, rel=1e-4)


def test_a_generator_is_finetuned_against_a_classifier(project: Project) -> None:
    found = card(project, "evading")
    evasion = found["evasion"]
    assert found["method"] == "evade"
    assert found["recipe"]["learning_rate"] == 0.0001
    assert evasion["kimg"] == (0.064 if evasion["called_fake"] == 1.0 else 0.016)
    assert {"called_fake_before", "swd_before"} <= set(evasion)
    assert found["spectral"] == {"weight": 1.0}
    made = FrozenGenerator(artifact(project, "evading") / "generator.safetensors", "cpu")
    pictures = made.pixels(made(made.latents(np.arange(FRESH, FRESH + 4))))
    model = touchstone.load(artifact(project, "patches"))
    said = [one.score >= one.threshold for one in model.predict(list(pictures), band=False)]
    assert evasion["called_fake"] == np.mean(said)
    assert {"classifier", "probability_of_fake"} <= set(card(project, "evading", "log.json")[-1])


def test_nodes_that_lack_what_is_needed_are_refused_at_planning(project: Project) -> None:
    for override, sentence in (
        ("nodes.best.parts=images", "top_patches needs `parts`, uint8 .* in 'parts', found image"),
        ("nodes.parts.segmenter=regions", "segmenter regions needs five `points` beside each image, found none"),
        ("nodes.shift.classifier=svm", "latent_shift: the detector of .*svm.* is no network; name one on pictures"),
        ("nodes.shift.space=w", "has no styles; drop space: w"),
        ("nodes.inverted.of=images", "rows of 'of' are fake; photographs are wanted: add where: label = real"),
        ("nodes.evading.method=none", "stop_below has no effect with method none; drop it"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            project.plan(override)


def test_the_report_shows_shifts_inversions_and_what_was_evaded(project: Project) -> None:
    made = {name: project.plan(recorded=True).artifacts[name].found for name in ("shift", "evading")}
    given = Given(
        None, [], [], {"latent_shifts": (made["shift"],), "generators": (made["evading"],)},  # type: ignore[dict-item]
        {"inversions": open_node(project.file, "inverted")},
    )  # fmt: skip
    (shift,) = latent_shifts.content(given)["latent_shifts"]
    assert "in z, 6 steps; distance: relative, " in shift["about"]
    assert [line.partition(" it ")[0] for line in shift["rises"]] == ["From -1 to 0", "From 0 to 1"]
    assert shift["strip"] is not None
    (inverted,) = inversions.content(given)["inversions"]
    rows = open_node(project.file, "inverted")
    assert f"{len(rows)} rows; PSNR {np.median(rows.array('psnr')):.1f} dB" in inverted["about"]
    (evading,) = generators.content(given)["generators"]
    share = card(project, "evading")["evasion"]["called_fake"]
    assert f"the classifier calls {share:.0%} of its images fake" in evading["evasion"]
    assert generators.content(Given(None, [], [])) == latent_shifts.content(Given(None, [], [])) == {}
