"""What a generator's card tells of its images beside photographs of senders that no training has seen.

Photographs are those of the val and test splits of the node `images` of a pipeline of generators. A generator from
noise makes one image for each of them, seeds 0, 1, ...; a StarGAN2 carries photographs of training senders into its
other domains, one for each held-out photograph of its domains. Gates are published, and whoever misses one is
published too, marked: a detector of such a generator may have learned one number.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.open import open_node
from stages.evaluation.metrics import roc_auc
from stages.generators import generator_file, held_out_metrics
from stages.generators.generator_metrics import diversity, sliced_wasserstein
from stages.generators.held_out_metrics import Gain
from stages.measure import border_step, clipped, spectral_slope
from stages.resynthesis import perceptual
from stages.training.course import GRID, grid
from stages.translate import as_float

Images = NDArray[np.uint8]

NUMBERS = {"clipped": clipped, "border_step": border_step, "spectral_slope": spectral_slope}
GATED = ("clipped", "border_step")
GATE = (0.2, 0.8)
"""AUC of a single number between which it tells little. The slope has no gate: +R and +A are about it."""
PICTURES = 32  # images at a time
COMPARED = 64  # images that tell what rounding changes


@dataclass(frozen=True)
class Photographs:
    """Images (N, H, W, 3) uint8, and of each its group and domain."""

    images: Images
    groups: NDArray[Any]
    domains: NDArray[Any]

    def of(self, domains: tuple[str, ...]) -> Photographs:
        """Those of some domains; of all if none is named."""
        kept = np.isin(self.domains, domains) if domains else np.ones(len(self.images), dtype=bool)
        return replace(self, images=self.images[kept], groups=self.groups[kept], domains=self.domains[kept])


def photographs(file: Path, splits: tuple[str, ...], overrides: list[str]) -> Photographs:
    """Of the node `images`, maybe none. Raises TouchstoneError where they are not computed."""
    rows = open_node(file, "images", overrides)
    rows = rows.where(np.isin(rows.column("split").astype(str), splits))
    groups = rows.column("group").astype(f"V{rows.column('group').dtype.itemsize}")
    return Photographs(rows.array("image"), groups, rows.column("domain").astype(str))


@dataclass(frozen=True)
class Seen:
    """Samples of a generator beside the photographs that they are compared with."""

    reals: Photographs
    fakes: Images


def seen(generator: Path, held_out: Photographs, sources: Photographs) -> Seen:
    """As many samples as there are held-out photographs of the generator's domains."""
    reals = held_out.of(domains(generator))
    return Seen(reals, samples(generator, len(reals.images), sources.of(domains(generator))))


def domains(generator: Path) -> tuple[str, ...]:
    """Of a generator that carries photographs from one to another; none of one that makes them from noise."""
    return tuple(generator_file.read_header(generator).domains)


@torch.no_grad()
def samples(generator: Path, count: int, sources: Photographs) -> Images:
    """Images of seeds 0 to count - 1, or translations of as many sources, evenly spaced, into the other domains."""
    family, network, header = generator_file.load(generator, "cpu")
    noise = family.NOISES[0] if family.NOISES else "none"
    chosen = np.arange(count) * len(sources.images) // count
    made = []
    for start in range(0, count, PICTURES):
        seeds = np.arange(start, min(start + PICTURES, count))
        drawn = [family.draw(header.architecture, int(seed), noise) for seed in seeds]
        rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])) for name in drawn[0]}
        if header.domains:
            places = chosen[seeds]
            own = np.array([header.domains.index(name) for name in sources.domains[places]])
            other = (own + 1 + seeds % (len(header.domains) - 1)) % len(header.domains)
            rows |= {"source": as_float(torch.from_numpy(sources.images[places])), "domain": torch.from_numpy(other)}
        made.append(family.to_uint8(family.render(network, rows, psi=1.0, cutoff=None, noise=noise)).numpy())
    return np.concatenate(made)


def rounding(trained: Path, stored: Path, sources: Photographs) -> dict[str, float]:
    """What rounding its weights changes in the first images of a generator, in 8-bit steps: the most, and the mean."""
    places = sources.of(domains(trained))
    one, other = (samples(file, COMPARED, places).astype(np.int16) for file in (trained, stored))
    steps = np.abs(one - other)
    return {"images": float(COMPARED), "most": float(steps.max()), "mean": round(float(steps.mean()), 5)}


def picture(fakes: Images) -> bytes:
    """The first images in a grid as PNG, as trainings make them."""
    rows, columns = GRID
    content = io.BytesIO()
    Image.fromarray(grid(fakes[: rows * columns], columns)).save(content, "PNG", optimize=True)
    return content.getvalue()


def figures(found: Seen, network: Any) -> dict[str, float]:
    """Of samples against held-out photographs, by the features of a perceptual network."""
    reals, fakes = found.reals.images, found.fakes
    features = [held_out_metrics.described(network, images) for images in (reals, fakes)]
    real, fake = (held_out_metrics.standardized(one, features[0]) for one in features)
    precision, recall = held_out_metrics.precision_and_recall(real, fake)
    distances = sliced_wasserstein(reals, fakes)
    profiles = [held_out_metrics.profiles(images).mean(axis=0) for images in (reals, fakes)]
    return {
        "photographs": float(len(reals)),
        "senders": float(len(np.unique(found.reals.groups))),
        "precision": precision,
        "recall": recall,
        "kernel_distance": held_out_metrics.kernel_distance(real, fake),
        "swd": sum(distances.values()) / len(distances),
        "profile_distance": float(np.abs(profiles[1] - profiles[0]).sum()),
        "diversity": diversity(fakes),
        "diversity_real": diversity(reals),
        **single_numbers(found),
    }


def single_numbers(found: Seen) -> dict[str, float]:
    """AUC of each number alone, held-out photographs against samples."""
    both = np.concatenate([found.reals.images, found.fakes])
    labels = np.repeat([0, 1], [len(found.reals.images), len(found.fakes)]).astype(np.uint8)
    return {f"auc_{name}": roc_auc(measure(both), labels) for name, measure in NUMBERS.items()}


def misses(found: Mapping[str, float]) -> list[str]:
    """A sentence for each gate that is missed; none: all are kept."""
    low, high = GATE
    return [
        f"{name.replace('_', ' ')} alone tells it from held-out photographs with an AUC of {found[f'auc_{name}']:.2f}, "
        f"outside {low} to {high}"
        for name in GATED
        if not low <= found[f"auc_{name}"] <= high
    ]


def gain(variant: Seen, none: Seen) -> Gain:
    """How much nearer to the photographs' mean profile a finetuned generator came than one that only went on."""
    profiles = [held_out_metrics.profiles(images) for images in (variant.reals.images, none.fakes, variant.fakes)]
    return held_out_metrics.profile_gain(profiles[0], variant.reals.groups, profiles[1], profiles[2])


def told(variant: str, found: Gain) -> dict[str, Any]:
    """The gain as a card tells it; `named`: whether the generator may be called by its variant."""
    much = "more than two deviations" if found.clear else "no more than two deviations"
    verdict = f"+{variant} moves the mean profile {much} beyond training of the same length without the term."
    return {
        "profile_distance_none": round(found.distances[0], 4),
        "profile_distance": round(found.distances[1], 4),
        "gain": round(found.value, 4),
        "deviation": round(found.deviation, 4),
        "named": found.clear,
        "verdict": verdict,
    }


def perceptual_network(manifest: Path) -> tuple[Any, str]:
    """The network of the entry perceptual-small, and the sha256 of its file."""
    import yaml

    entry = yaml.safe_load(manifest.read_text())["perceptual-small"]
    return perceptual.load(manifest.parent / entry["file"], "cpu"), entry["sha256"]
