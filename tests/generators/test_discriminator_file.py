"""Discriminators as scores of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_games import game_of, generator_file_of

from detectors.training import tensors_of
from pipeline.stage import Promise
from stages.generators import discriminator_file, weights
from stages.weights.weights_file import WeightsError


def test_a_score_is_that_of_an_image_alone_by_the_network_of_the_file(tmp_path: Path) -> None:
    game = game_of("progan")
    path = tmp_path / "d.safetensors"
    architecture = {"fmap_base": 64, "fmap_max": 8, "group": 4, "c_dim": 0, "resolution": 8}
    weights.save(path, "progan", architecture, tensors_of(game.discriminator), network="discriminator")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    score = discriminator_file.scorer(path, "cpu")
    game.discriminator.lod.fill_(0)
    with torch.no_grad():
        for one in pixels:
            x = torch.from_numpy(one.transpose(2, 0, 1)[None] / 127.5 - 1).float()
            assert float(score(one).array()) == pytest.approx(game.discriminator(x).item(), rel=1e-5)
    discriminator_file.check("strata", path, 8)
    assert discriminator_file.modules(path) == ("stages.generators.progan_discriminator",)
    assert discriminator_file.modules(Promise("n", {})) == ()


def test_what_is_no_discriminator_of_these_images_is_refused(tmp_path: Path) -> None:
    path = generator_file_of("progan", tmp_path)
    with pytest.raises(ValueError, match="holds a generator; give the file of its discriminator, or its node"):
        discriminator_file.check("strata", path, 8)
    with pytest.raises(WeightsError, match="holds a generator; a discriminator is wanted"):
        discriminator_file.scorer(path, "cpu")
    facts = {"architecture": {"resolution": 8, "z_dim": 4, "c_dim": 0}, "domains": []}
    for family, more, sentence in (
        ("mfa", {}, "node 'g' is of family mfa, which has no discriminator; drop checkpoint"),
        ("progan", {"c_dim": 2}, "node 'g' is conditional, and rows have no class"),
        ("progan", {"resolution": 16}, "node 'g' judges images of 16 pixels, those of 'on' have 8"),
    ):
        node = Promise("g", {**facts, "family": family, "architecture": {**facts["architecture"], **more}})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match=sentence):
            discriminator_file.check("strata", node, 8)
