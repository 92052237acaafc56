"""Measure two choices of finetune_generator on the shipped generators: damped gradients, and R1 on profiles.

    python -m experiments.spectral_gradients

writes experiments/results/spectral_gradients.json, in a few minutes on one core. Real images are the garments of
manifests/garments.csv, train split, 64 pixels.

damping        the small StyleGAN2 with 24 latents and noise maps held fixed and no adversary: the mean difference of
               mean profiles is minimized by Adam in 60 steps, once through exact gradients and once through damped ones
adversary      the dense layer of +A alone, 600 steps of 8 profiles of photographs and 8 of translations to another
               domain by the small StarGAN2, which does not learn: its mean logistic loss in the last 100 steps, where
               2 ln 2 = 1.386 is chance
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detectors.seeding import seeded
from pipeline.atomic import write_bytes
from stages.generators import weights
from stages.generators.losses import Logistic
from stages.generators.spectral import Profile, SpectralDiscriminator, profile_distance, regularization, target_profile
from stages.translate import as_float

SIDE = 64
IMAGES, STEPS = 24, 60
ADVERSARY_STEPS, BATCH, LAST = 600, 8, 100
MANIFESTS = Path(__file__).parents[1] / "manifests"
TRANSLATOR = "stargan2-small-raw"


def photographs(domains: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) in -1..1 and the number of their domain (N,) int64, for those of `domains`.

    Without domains: all images, and no numbers (0,).
    """
    with (MANIFESTS / "garments.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    rows = [row for row in rows if not domains or row["domain"] in domains]
    pixels = []
    for row in rows:
        with Image.open(MANIFESTS / row["file"]) as image:
            pixels.append(np.asarray(image.convert("RGB")))
    numbers = [domains.index(row["domain"]) for row in rows] if domains else []
    return as_float(torch.from_numpy(np.stack(pixels))), torch.tensor(numbers, dtype=torch.int64)


def shipped(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Module of the family, network in training mode and architecture of a generator in manifests/weights."""
    file = MANIFESTS / "weights" / f"{name}.safetensors"
    family, generator = weights.load(file)
    return family, generator, dict(weights.read_header(file).architecture)


def drawn(family: Any, architecture: dict[str, Any], count: int, noise: str) -> dict[str, Tensor]:
    """Latents and noise of seeds 0 to count - 1."""
    rows = [family.draw(architecture, seed, noise) for seed in range(count)]
    return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}


def damping_row(target: Tensor, damping: float, rate: float) -> dict[str, float]:
    """Distance of mean profiles before and after the steps."""
    family, generator, architecture = shipped("stylegan2-small-raw")
    generator.requires_grad_(True)
    rows = drawn(family, architecture, IMAGES, "per-seed")
    maps = [rows[f"noise{index}"] for index in range(len(generator.noise_shapes()))]
    optimizer = torch.optim.Adam(generator.parameters(), lr=rate, betas=(0.0, 0.99), eps=1e-8)
    profile = Profile(SIDE, damping)
    distances = []
    for _ in range(STEPS):
        mean = profile(generator(rows["z"], None, noise=maps)).mean(dim=0, keepdim=True)
        distances.append(profile_distance(mean[0], target))
        optimizer.zero_grad(set_to_none=True)
        regularization(mean, target, "l1").backward()
        optimizer.step()
    with torch.no_grad():
        distances.append(profile_distance(profile(generator(rows["z"], None, noise=maps)).mean(dim=0), target))
    return {
        "damping": damping,
        "learning_rate": rate,
        "before": round(distances[0], 3),
        "after": round(distances[-1], 3),
    }


def translations(reals: Tensor, domains: Tensor) -> Tensor:
    """Each photograph in the domain that follows its own, with a style of its own."""
    family, generator, architecture = shipped(TRANSLATOR)
    next_ones = (domains + 1) % architecture["c_dim"]
    rows = drawn(family, architecture, len(reals), "none") | {"source": reals, "domain": next_ones}
    with torch.no_grad():
        made: Tensor = family.render(generator, rows, psi=1.0, cutoff=None, noise="none")
    return made.clamp(-1, 1)


def adversary_row(reals: Tensor, fakes: Tensor, gamma: float, rate: float) -> dict[str, float]:
    """Mean logistic loss in the last steps."""
    random = torch.Generator().manual_seed(0)
    with seeded(0):
        network, loss = SpectralDiscriminator(SIDE), Logistic(gamma)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99), eps=1e-8)
    with torch.no_grad():
        seen = [network.profile(images)[:, :, None, None] for images in (reals, fakes)]
    found = []
    for step in range(ADVERSARY_STEPS):
        chosen = [profiles[torch.randint(len(profiles), (BATCH,), generator=random)] for profiles in seen]
        total, log = loss.discriminator(
            lambda given: network.scores(given.flatten(1)), chosen[0], chosen[1], step, random
        )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        found.append(log["discriminator"])
    return {"r1_gamma": gamma, "learning_rate": rate, "loss": round(float(np.mean(found[-LAST:])), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/spectral_gradients.json"))
    arguments = parser.parse_args()
    every, _ = photographs()
    target = target_profile(every)
    reals, domains = photographs(weights.read_header(MANIFESTS / "weights" / f"{TRANSLATOR}.safetensors").domains)
    fakes = translations(reals, domains)
    result = {
        "damping": [damping_row(target, damping, rate) for damping in (0.0, 1.0) for rate in (0.001, 0.003)],
        "adversary": [adversary_row(reals, fakes, gamma, rate) for gamma in (1.0, 0.01) for rate in (0.0005, 0.1)],
    }
    write_bytes(arguments.out, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
