"""What the measured gradients are of: garments to learn from, and translations to another domain."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import spectral_gradients

ROOT = Path(__file__).parents[2]


def test_photographs_are_those_to_learn_from_numbered_as_the_domains_are_given() -> None:
    with (ROOT / "manifests" / "garments.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    images, numbers = spectral_gradients.photographs(("pants", "dress"))
    chosen = [row for row in rows if row["domain"] in ("pants", "dress")]
    assert numbers.tolist() == [0 if row["domain"] == "pants" else 1 for row in chosen]
    with Image.open(ROOT / "manifests" / chosen[3]["file"]) as image:
        by_hand = np.asarray(image.convert("RGB"), np.float64) / 127.5 - 1
    assert np.abs(images[3].permute(1, 2, 0).numpy() - by_hand).max() < 1e-6
    everything, none = spectral_gradients.photographs()
    assert (everything.shape, len(none)) == ((len(rows), 3, 64, 64), 0)


def test_a_photograph_is_translated_to_the_domain_after_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Family:
        @staticmethod
        def render(generator: Any, rows: Any, **settings: Any) -> torch.Tensor:
            seen.update(rows)
            return 2 * torch.ones_like(rows["source"])

    monkeypatch.setattr(spectral_gradients, "shipped", lambda name: (Family, None, {"c_dim": 3}))
    monkeypatch.setattr(spectral_gradients, "drawn", lambda *_: {})
    made = spectral_gradients.translations(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert seen["domain"].tolist() == [1, 2, 0, 1]
    assert made.max() == 1
