"""Train the small 64-pixel StyleGAN2 of the embedded default on photographs, on one CPU thread, within a time limit.

    python -m experiments.train_small_stylegan2 --data FOLDER --minutes 75

Trains on every photograph of FOLDER (with its manifest.csv) but those of the val and test groups of
manifests/photos.csv; without --data on the train split of the project's own photographs.
Non-saturating logistic loss, lazy R1 (Karras et al. 2020, arXiv:1912.04958, appendix B), and, because there are only
a few hundred photographs, differentiable augmentation of real and fake images (Zhao et al. 2020, arXiv:2006.10738).
Each checkpoint writes the averaged generator, a JSON card and a picture of samples, so that a usable file exists early;
the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import Tensor

from stages.generators import stylegan2, weights
from stages.generators.layers import parameters
from stages.generators.stylegan2_discriminator import Discriminator

RESOLUTION = 64
WIDTHS = {"resolution": RESOLUTION, "channel_base": 1024, "channel_max": 128}
GENERATOR: dict[str, Any] = {"z_dim": 64, "c_dim": 0, "w_dim": 64, "mapping_layers": 2, **WIDTHS}
DISCRIMINATOR: dict[str, Any] = {"c_dim": 0, **WIDTHS}
PICTURE = (4, 7)  # rows and columns of the samples beside the weights


@dataclass(frozen=True)
class Recipe:
    """What the weights depend on besides data and architecture; written into their card."""

    loss: str = "non-saturating logistic, lazy R1"
    batch: int = 16
    learning_rate: float = 0.0025
    adam_betas: tuple[float, float] = (0.0, 0.99)
    r1_gamma: tuple[tuple[int, float], ...] = ((0, 0.5), (5000, 0.1))  # from this step on: firm first, then sharp
    r1_interval: int = 16
    average_half_life_images: int = 3000  # of the averaged generator; less at the start: 5 % of the images seen
    brightness: float = 0.25  # these five: reach of the differentiable augmentation
    saturation: float = 0.5
    contrast: float = 0.25
    translation: float = 0.125
    cutout: float = 0.3
    flips: bool = True
    reduction: str = "Pillow Lanczos"
    seed: int = 0


RECIPE = Recipe()


@dataclass(frozen=True)
class Photo:
    """A training photograph: file, digest, group (no group is divided between splits) and licence."""

    path: Path
    sha256: str
    group: str
    licence: str


def group_of(file: str, original_path: str) -> str:
    """Group as in manifests/photos.csv: source prefix, then the product (grocery) or the original's name."""
    prefix, stem = file.split("_")[0], Path(original_path).stem
    return f"{prefix}/{stem.rpartition('_')[0] if prefix == 'grocery' else stem}"


def training_photos(folder: Path, prefixes: list[str], photos_csv: Path) -> list[Photo]:
    """Photographs of `folder` with one of the prefixes that share neither digest nor group with val or test."""
    with photos_csv.open(newline="") as file:
        held_out = [row for row in csv.DictReader(file) if row["split"] in ("val", "test")]
    digests, groups = {row["sha256"] for row in held_out}, {row["group"] for row in held_out}
    photos = []
    with (folder / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            group = group_of(row["file"], row["original_path"])
            if row["file"].split("_")[0] in prefixes and row["sha256"] not in digests and group not in groups:
                photos.append(Photo(folder / row["file"], row["sha256"], group, row["licence"]))
    if not photos:
        raise SystemExit(f"{folder} has no training photograph with a prefix of {', '.join(prefixes)}")
    return photos


def shipped_photos(photos_csv: Path) -> list[Photo]:
    """The photographs of the project itself that are in the train split."""
    with photos_csv.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    return [Photo(photos_csv.parent / row["file"], row["sha256"], row["group"], row["licence"]) for row in rows]


def fingerprint(photos: list[Photo]) -> str:
    """SHA-256 over the sorted digests of the photographs, one per line."""
    return hashlib.sha256("\n".join(sorted(photo.sha256 for photo in photos)).encode()).hexdigest()


def load_images(photos: list[Photo]) -> Tensor:
    """(N, 3, 64, 64) float32, -1..1; each file's digest is checked first."""
    images = []
    for photo in photos:
        content = photo.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != photo.sha256:
            raise SystemExit(f"{photo.path} is not the file of its manifest.csv: the sha256 differs")
        with Image.open(photo.path) as image:
            small = image.convert("RGB").resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS)
        images.append(np.asarray(small))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(x: Tensor, random: torch.Generator) -> Tensor:
    """Color, translation and cutout, drawn anew for each image; differentiable in x (N, 3, H, W)."""
    n, _, side, _ = x.shape

    def uniform(reach: float) -> Tensor:
        return (torch.rand((n, 1, 1, 1), generator=random) * 2 - 1) * reach

    x = x + uniform(RECIPE.brightness)
    gray = x.mean(dim=1, keepdim=True)
    x = gray + (x - gray) * (1 + uniform(RECIPE.saturation))
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    x = middle + (x - middle) * (1 + uniform(RECIPE.contrast))
    reach = int(side * RECIPE.translation)
    padded = F.pad(x, (reach, reach, reach, reach))
    corners = torch.randint(0, 2 * reach + 1, (n, 2), generator=random).tolist()
    x = torch.stack([padded[i, :, top : top + side, left : left + side] for i, (top, left) in enumerate(corners)])
    hole = int(side * RECIPE.cutout)
    mask = torch.ones((n, 1, side, side))
    for i, (top, left) in enumerate(torch.randint(-hole // 2, side - hole // 2, (n, 2), generator=random).tolist()):
        mask[i, :, max(top, 0) : max(top + hole, 0), max(left, 0) : max(left + hole, 0)] = 0
    return x * mask


class Training:
    """The three networks, their optimizers and the only source of randomness."""

    def __init__(self, images: Tensor) -> None:
        torch.manual_seed(RECIPE.seed)  # initial weights
        self.images = images
        self.random = torch.Generator().manual_seed(RECIPE.seed)
        self.generator = stylegan2.Generator(**GENERATOR)
        self.discriminator = Discriminator(**DISCRIMINATOR)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        rate, betas, interval = RECIPE.learning_rate, RECIPE.adam_betas, RECIPE.r1_interval
        lazy = interval / (interval + 1)
        self.generator_steps = torch.optim.Adam(self.generator.parameters(), lr=rate, betas=betas, eps=1e-8)
        self.discriminator_steps = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=rate * lazy,
            betas=(betas[0] ** lazy, betas[1] ** lazy),
            eps=1e-8,
        )
        self.step, self.minutes = 0, 0.0
        self.parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_steps": self.generator_steps,
            "discriminator_steps": self.discriminator_steps,
        }

    def state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {**parts, "random": self.random.get_state(), "step": self.step, "minutes": self.minutes}

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.random.set_state(state["random"])
        self.step, self.minutes = state["step"], state["minutes"]

    def reals(self) -> Tensor:
        """A batch of photographs, half of them flipped."""
        chosen = torch.randint(len(self.images), (RECIPE.batch,), generator=self.random)
        x = self.images[chosen]
        flip = torch.rand(len(x), generator=self.random) < 0.5
        return torch.where(flip[:, None, None, None], x.flip(3), x)

    def fakes(self) -> Tensor:
        """A batch of generated images with fresh noise; follows the running average of w on the way."""
        n = RECIPE.batch
        z = torch.randn((n, GENERATOR["z_dim"]), generator=self.random)
        noise = [torch.randn((n, *shape), generator=self.random) for shape in self.generator.noise_shapes()]
        w = self.generator.mapping(z)
        self.generator.mapping.get_buffer("w_avg").lerp_(w.detach().mean(dim=0), 0.005)
        return self.generator.synthesis(self.generator.truncate(w, 1.0, None), noise)

    def discriminator_step(self) -> float:
        with torch.no_grad():
            fakes = self.fakes()
        self.discriminator_steps.zero_grad()
        reals = self.reals()
        penalize = self.step % RECIPE.r1_interval == 0
        reals.requires_grad_(penalize)
        real_scores = self.discriminator(augment(reals, self.random))
        loss = F.softplus(self.discriminator(augment(fakes, self.random))).mean() + F.softplus(-real_scores).mean()
        total = loss
        if penalize:
            (gradient,) = torch.autograd.grad(real_scores.sum(), reals, create_graph=True)
            gamma = [value for first, value in RECIPE.r1_gamma if first <= self.step][-1]
            weight = gamma / 2 * RECIPE.r1_interval
            total = total + weight * gradient.square().sum(dim=(1, 2, 3)).mean()
        total.backward()
        self.discriminator_steps.step()
        return loss.item()

    def generator_step(self) -> float:
        self.generator_steps.zero_grad()
        self.discriminator.requires_grad_(False)
        loss = F.softplus(-self.discriminator(augment(self.fakes(), self.random))).mean()
        loss.backward()
        self.discriminator.requires_grad_(True)
        self.generator_steps.step()
        return loss.item()

    @torch.no_grad()
    def update_average(self) -> None:
        batch: int = RECIPE.batch
        half_life = min(RECIPE.average_half_life_images, max(self.step * batch * 0.05, 1))
        keep = 0.5 ** (batch / half_life)
        for slow, fast in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
        for kept, current in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(current)

    def advance(self) -> tuple[float, float]:
        """One step of each network; returns the losses (discriminator, generator)."""
        losses = self.discriminator_step(), self.generator_step()
        self.step += 1
        self.update_average()
        return losses


def samples(generator: stylegan2.Generator, count: int) -> np.ndarray[Any, Any]:
    """Images (count, 64, 64, 3) uint8 of seeds 0..count-1, as `sample` makes them."""
    drawn = [stylegan2.draw(GENERATOR, seed, "per-seed") for seed in range(count)]
    rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])) for name in drawn[0]}
    return stylegan2.to_uint8(stylegan2.render(generator, rows)).numpy()


def card(training: Training, photos: list[Photo], picture: str) -> dict[str, Any]:
    """What a reader must know about the weights."""
    return {
        "family": "stylegan2",
        "made_by": "experiments/train_small_stylegan2.py",
        "recipe": asdict(RECIPE),
        "architecture": GENERATOR,
        "discriminator": DISCRIMINATOR,
        "parameters": parameters(training.average),
        "steps": training.step,
        "images_seen": training.step * RECIPE.batch,
        "minutes": round(training.minutes, 1),
        "device": "cpu, 1 thread",
        "torch": torch.__version__.partition("+")[0],
        "photographs": len(photos),
        "groups": len({photo.group for photo in photos}),
        "data_fingerprint": fingerprint(photos),
        "data_licences": dict(sorted(Counter(photo.licence for photo in photos).items())),
        "held_out": "no photograph of a val or test group of manifests/photos.csv",
        "samples": picture,
        "note": "A small generator that shows the pipeline at work; it is no evidence about detectors.",
    }


def enter_in_manifest(manifest: Path, name: str, out: Path, licence: str) -> None:
    """Write or replace one entry of manifests/generators.yaml; leading comment lines stay."""
    lines = manifest.read_text().splitlines() if manifest.exists() else []
    comments = [line for line in lines if line.startswith("#")]
    entries = yaml.safe_load("\n".join(lines)) or {}
    content = out.read_bytes()
    relative = out.resolve().relative_to(manifest.resolve().parent)
    entries[name] = {
        "family": "stylegan2",
        "file": relative.as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "resolution": RESOLUTION,
        "licence": licence,
        "origin": "experiments/train_small_stylegan2.py",
        "card": relative.with_suffix(".json").as_posix(),
    }
    text = "\n".join([*comments, yaml.safe_dump(dict(sorted(entries.items())), sort_keys=False, width=120)])
    replace(manifest, text.encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def publish(training: Training, photos: list[Photo], arguments: argparse.Namespace) -> None:
    """Weights, card, picture and manifest entry of the averaged generator."""
    out: Path = arguments.out
    tensors = {name: tensor.numpy() for name, tensor in training.average.state_dict().items()}
    weights.save(out, "stylegan2", GENERATOR, tensors)
    picture = out.with_suffix(".png")
    rows, columns = PICTURE
    grid = samples(training.average, rows * columns).reshape(rows, columns, RESOLUTION, RESOLUTION, 3)
    grid = grid.transpose(0, 2, 1, 3, 4).reshape(rows * RESOLUTION, columns * RESOLUTION, 3)
    Image.fromarray(grid).save(picture, optimize=True)
    text = json.dumps(card(training, photos, picture.name), indent=2) + "\n"
    replace(out.with_suffix(".json"), text.encode())
    licence = "Apache-2.0; trained on CC0-1.0 and MIT photographs"
    enter_in_manifest(arguments.manifest, arguments.name, out, licence)


def run(training: Training, arguments: argparse.Namespace) -> Iterator[tuple[float, float]]:
    """Train until the steps or minutes are used up; yields mean losses at every checkpoint."""
    before, start, losses = training.minutes, time.monotonic(), []
    checkpoint_s = start
    while training.step < arguments.steps and training.minutes < arguments.minutes:
        losses.append(training.advance())
        training.minutes = before + (time.monotonic() - start) / 60
        if time.monotonic() - checkpoint_s > arguments.checkpoint_minutes * 60:
            yield tuple(np.mean(losses, axis=0))
            checkpoint_s, losses = time.monotonic(), []
    if losses:
        yield tuple(np.mean(losses, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder of 128-pixel photographs with manifest.csv; default: the project's own"
    )
    parser.add_argument("--prefixes", nargs="+", default=["clothing", "grocery", "budgie"])
    parser.add_argument(
        "--photos", type=Path, default=Path("manifests/photos.csv"), help="manifest with the held-out groups"
    )
    parser.add_argument("--out", type=Path, default=Path("manifests/weights/stylegan2-small-raw.safetensors"))
    parser.add_argument("--manifest", type=Path, default=Path("manifests/generators.yaml"))
    parser.add_argument("--name", default="stylegan2-raw", help="entry in the manifest")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=75.0, help="over all attempts")
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    parser.add_argument("--scratch", type=Path, default=Path("scratch/train_small_stylegan2"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if arguments.data is None:
        photos = shipped_photos(arguments.photos)
    else:
        photos = training_photos(arguments.data, arguments.prefixes, arguments.photos)
    training = Training(load_images(photos))
    checkpoint = arguments.scratch / "checkpoint.pt"
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["data"] != fingerprint(photos):
            raise SystemExit(f"{checkpoint} was trained on other photographs; choose another --scratch or delete it")
        training.restore(state)
    print(
        f"{len(photos)} photographs, {parameters(training.generator)} parameters, from step {training.step}",
        flush=True,
    )
    for discriminator_loss, generator_loss in run(training, arguments):
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({**training.state(), "data": fingerprint(photos)}, temporary)
        temporary.replace(checkpoint)
        publish(training, photos, arguments)
        losses = f"discriminator {discriminator_loss:.3f}, generator {generator_loss:.3f}"
        print(f"step {training.step}, {training.minutes:.1f} minutes, {losses}", flush=True)


if __name__ == "__main__":
    main()
