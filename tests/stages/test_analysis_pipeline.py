"""Stages that look into a detector, in a pipeline file as a user writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from predicted_project import artifact, predicted_project
from scipy.stats import kendalltau, spearmanr
from small_games import generator_file_of
from toy_project import Project

import touchstone
from pipeline.errors import ConfigError
from pipeline.open import named_file, open_node
from pipeline.stage import Artifact
from stages.generators import encoder, weights
from stages.generators.evasion import FRESH, Watched
from stages.generators.frozen import FrozenGenerator
from stages.generators.latent_shifts import read_shift
from stages.reporting import extremes, generators, inversions, latent_shifts, strata
from stages.reporting.section import Given
from stages.resynthesis import perceptual

pytestmark = pytest.mark.jobs
MORE = """
  reals: {stage: equalize, of: photos, size: 16}
  parts: {stage: segment, of: images, segmenter: grid}
  best: {stage: top_patches, model: patches, on: images, parts: parts}
  table: {stage: evaluate, model: patches, test: images}
  by_score: {stage: strata, of: table, on: images, columns: 2, rows: 2}
  judged: {stage: strata, of: table, on: images, columns: 2, rows: 2, checkpoint: evading}
  look: {stage: extremes, model: patches, on: images, images: images, count: 2}
  shift:
    {stage: latent_shift, checkpoint: progan.safetensors, classifier: patches, steps: 6, batch: 2, images: 4,
     learning_rate: 0.5}
  moved: {stage: sample, checkpoint: progan.safetensors, count: 3, shift: shift, shift_scale: -1.5}
  inverted:
    {stage: invert, of: {of: reals, where: split = test}, checkpoint: progan.safetensors, steps: 3, starts: 4,
     micro_batch: 3}
  rebuilt:
    {stage: invert, of: {of: reals, where: split = test}, checkpoint: progan.safetensors, steps: 3, starts: 4,
     micro_batch: 3, method: latent+residuals, residual_steps: 20}
  reads: {stage: train_encoder, checkpoint: progan.safetensors, width: 4, steps: 3, batch: 4, images: 4}
  begun:
    {stage: invert, of: {of: reals, where: split = test}, checkpoint: progan.safetensors, encoder: reads, steps: 1,
     learning_rate: 1.0e-9, micro_batch: 3}
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
        made.run("best", "by_score", "judged", "look", "moved", "inverted", "rebuilt", "begun", "evading")
        yield made


def test_an_inversion_begins_with_what_an_encoder_tells_of_the_photograph(project: Project) -> None:
    rows, photos = open_node(project.file, "begun"), open_node(project.file, "reals").split("test")
    told = card(project, "reads")
    assert (told["side"], told["z_dim"], told["width"]) == (16, 4, 4)
    assert 0 < told["figures"]["latent"] < 3
    images = torch.from_numpy(photos.array("image")).movedim(3, 1).float() / 127.5 - 1
    wanted = encoder.read(artifact(project, "reads"), "cpu")(images).detach().numpy()
    found = rows.array("latent")
    assert len(found) == len(wanted)
    for row in found:  # children have ids of their own, and stand in another order
        assert np.abs(wanted - row).max(axis=1).min() < 1e-5


def card(project: Project, node: str, name: str = "card.json") -> Any:
    return json.loads((artifact(project, node) / name).read_text())


def made_of(project: Project, node: str) -> Artifact:
    found = project.plan(recorded=True).artifacts[node].found
    assert found is not None
    return found


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
    odds = [figures["by_scale"][scale]["log_odds"] for scale in ("-1", "0", "1")]
    assert figures["rises_in_log_odds"]["0 to 1"][0] == pytest.approx(odds[2] - odds[1])
    for mean, low, high in (*figures["rises"].values(), *figures["rises_in_log_odds"].values()):
        assert low <= mean <= high
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


def test_residuals_bring_images_nearer_that_no_latent_gives(project: Project) -> None:
    rows, more = (open_node(project.file, name) for name in ("inverted", "rebuilt"))
    assert set(rows.array("in_range").tolist()) == {1}
    assert set(more.array("in_range").tolist()) == {0}
    assert set(more.array("steps").tolist()) == {23}
    generator = FrozenGenerator(project.folder / "progan.safetensors", "cpu")
    made = generator.pixels(generator(torch.from_numpy(more.array("latent"))))
    assert (more.array("image") != made).any(axis=(1, 2, 3)).all()
    assert more.array("loss").mean() < rows.array("loss").mean()


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
    watched = Watched(artifact(project, "patches"), 4, "cpu")
    watched.threshold = sorted(one.score for one in model.predict(list(pictures), band=False))[1]
    game = SimpleNamespace(sample=lambda seeds: made.pixels(made(made.latents(seeds))))
    assert watched.called_fake(game) == 0.75
    assert {"classifier", "probability_of_fake"} <= set(card(project, "evading", "log.json")[-1])


def test_strata_are_of_scored_fakes_and_quality_is_nearness_to_a_real_image(project: Project) -> None:
    found = card(project, "by_score", "strata.json")
    (source,) = found["sources"]
    with np.load(artifact(project, "table") / "scores.npz") as file:
        fake = file["label"] == 1
        ids, scores = file["id"][fake], file["score"][fake].astype(float)
    order = sorted(range(len(ids)), key=lambda place: (scores[place], bytes(ids[place])))
    middles = [order[len(ids) // 4], order[3 * len(ids) // 4]]
    assert [column[0] for column in source["ids"]] == [bytes(ids[place]).hex() for place in middles]
    assert {one for column in source["ids"] for one in column} <= {bytes(one).hex() for one in ids}
    rows = open_node(project.file, "images").split("test")
    network = perceptual.load(named_file("manifests/networks.yaml#perceptual-small").path, "cpu")
    x = torch.from_numpy(rows.array("image")).movedim(3, 1).float() / 255
    parts = [maps.mean(dim=(2, 3)) for maps in network.stages(x, (1, 2, 3, 4, 5)).values()]
    vectors = torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts], dim=1).double()
    is_real = torch.from_numpy(rows.column("label") == 0)
    near = {bytes(row): -float((vectors[is_real] - vector).norm(dim=1).min())
            for row, vector in zip(rows.ids, vectors, strict=True)}  # fmt: skip
    quality = [near[bytes(one)] for one in ids]
    assert source["spearman"] == pytest.approx(spearmanr(scores, quality).statistic)
    given = Given(None, [], [], {"strata": (made_of(project, "by_score"),), "extremes": (made_of(project, "look"),)})
    assert (
        f"{source['images']} images. Score and quality: Spearman"
        in (strata.content(given)["strata"][0]["sources"][0]["about"])
    )
    assert "are told right" in extremes.content(given)["extremes"][0]["about"]


def test_a_discriminator_is_a_second_stand_in_for_quality(project: Project) -> None:
    (source,) = card(project, "judged", "strata.json")["sources"]
    _, network = weights.load(artifact(project, "evading") / "discriminator.safetensors")
    rows = open_node(project.file, "images").split("test")
    with np.load(artifact(project, "table") / "scores.npz") as file:
        said = dict(zip(map(bytes, file["id"]), file["score"].tolist(), strict=True))
    fake = rows.column("label") == 1
    x = torch.from_numpy(rows.array("image")[fake]).movedim(3, 1) / 127.5 - 1
    with torch.no_grad():
        alone = [network(one[None], None).item() for one in x]
    scores = [said[bytes(one)] for one in rows.ids[fake]]
    assert source["discriminator"]["spearman"] == pytest.approx(spearmanr(scores, alone).statistic)
    assert source["discriminator"]["kendall_tau_b"] == pytest.approx(kendalltau(scores, alone).statistic)
    shown = strata.content(Given(None, [], [], {"strata": (made_of(project, "judged"),)}))["strata"][0]
    assert ". Score and discriminator: Spearman" in shown["sources"][0]["about"]


def test_nodes_that_lack_what_is_needed_are_refused_at_planning(project: Project) -> None:
    for override, sentence in (
        ("nodes.best.parts=images", "top_patches needs `parts`, uint8 .* in 'parts', found image"),
        ("nodes.parts.segmenter=regions", "segmenter regions needs five `points` beside each image, found none"),
        ("nodes.shift.classifier=svm", "latent_shift: the detector of .*svm.* is no network; name one on pictures"),
        ("nodes.shift.space=w", "has no styles; drop space: w"),
        ("nodes.reals.size=32", "invert needs images of 16 x 16 px, those of 'of' have 32 x 32; put"),
        ("nodes.inverted.of=images", "rows of 'of' are fake; photographs are wanted: add where: label = real"),
        ("nodes.rebuilt.method=latent", "residual_steps has no effect with method latent; drop it"),
        ("nodes.look.on=spectra", "have no field 'image', which the detector of .*patches.* reads"),
        ("nodes.by_score.on=spectra", "strata needs a field 'image'"),
        ("nodes.judged.checkpoint=progan.safetensors", "holds a generator; give the file of its discriminator"),
        ("nodes.evading.method=none", "stop_below has no effect with method none; drop it"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            project.plan(override)


def test_the_report_shows_shifts_inversions_and_what_was_evaded(project: Project) -> None:
    artifacts = {"latent_shifts": (made_of(project, "shift"),)}
    given = Given(None, [], [], artifacts, {"inversions": open_node(project.file, "inverted")})
    (shift,) = latent_shifts.content(given)["latent_shifts"]
    assert "in z, 6 steps; distance: relative, " in shift["about"]
    assert [line.partition(" it ")[0] for line in shift["rises"]] == ["From -1 to 0", "From 0 to 1"] * 2
    assert shift["strip"] is not None
    (inverted,) = inversions.content(given)["inversions"]
    rows = open_node(project.file, "inverted")
    assert f"{len(rows)} rows; PSNR {np.median(rows.array('psnr')):.1f} dB" in inverted["about"]
    evasion = card(project, "evading")["evasion"]
    said = f"the classifier calls {evasion['called_fake']:.0%} of its images fake"
    assert generators._evasion(evasion).startswith(said)
    assert generators._evasion(None) == ""
    assert latent_shifts.content(Given(None, [], [])) == {}
