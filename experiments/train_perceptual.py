"""Train the small perceptual network on garments without labels; about ten minutes on one core.

    python -m experiments.garments --data FOLDER
    python -m experiments.train_perceptual

It learns from all photographs of the split train, of all senders equally often, and is measured on senders of the split
val; others are not read.

Instance discrimination: of two crops of each photograph of a batch, every stage must tell which belong together (the
loss NT-Xent of Chen et al. 2020, "A simple framework for contrastive learning", arXiv:2002.05709). Crops are never
resized or blurred, so that fine texture stays a cue; changed are side (mirroring), gain of each channel and color.
Every stage has a linear head of its own on its mean over space, so that each of the five learns something by itself.

Then each stage is scaled, which leaves ReLU networks otherwise as they are (as in Gatys et al. 2016), so that its mean
residual between photographs and their bicubic re-synthesis is that of the pixels: losses and residuals of all levels
have one unit. The card says how well a crop finds another crop of its photograph among photographs of held-out
senders, one of each, against random weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from detectors.seeding import seeded
from pipeline.atomic import write_bytes
from stages.images.manifests import read_manifest
from stages.resynthesis import perceptual
from stages.resynthesis.perceptual_networks import PerceptualNetwork, small
from stages.training.networks import prepare

WIDTHS = (16, 32, 64, 128, 128)
NAME = "perceptual-small"
MOST_BYTES = 4_000_000
LICENCE = "Apache-2.0; trained on CC0-1.0 photographs"
DATA = (
    "CC0 1.0 photographs of garments at 64 pixels (manifests/clothing.csv), of training senders alone; `figures` are "
    "of senders of the val split"
)
GRAY = (0.299, 0.587, 0.114)


class Photographs:
    """Photographs of the splits train and val of a manifest, (n, 3, side, side) uint8, and the numbers of each group's.

    crop  side of the crops that the network learns from, in pixels

    Raises SystemExit where a split has none, a group has photographs in both, or a file is not what its line says.
    """

    def __init__(self, manifest: Path, crop: int) -> None:
        found = read_manifest(manifest)
        self.crop = crop
        digests: list[str] = []
        images: list[NDArray[np.uint8]] = []
        groups: dict[str, dict[str, list[int]]] = {"train": {}, "val": {}}
        columns = (found.column(name) for name in ("file", "sha256", "split", "group"))
        for file, sha256, split, group in zip(*columns, strict=True):
            if split not in groups:
                continue
            content = (found.root / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise SystemExit(f"{manifest}: {file} is not what its line says; write the manifest again")
            groups[split].setdefault(group, []).append(len(images))
            with Image.open(found.root / file) as image:
                images.append(np.asarray(image.convert("RGB")))
            if split == "train":
                digests.append(sha256)
        for split, named in groups.items():
            if not named:
                raise SystemExit(f"{manifest} has no photograph of the split {split}; name one with splits")
        if both := sorted(groups["train"].keys() & groups["val"].keys()):
            raise SystemExit(f"{manifest}: {both[0]} is in train and in val; a group has one split")
        self.images = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
        if not 1 <= crop <= self.images.shape[-1]:
            raise SystemExit(
                f"--crop is {crop}, but the photographs have {self.images.shape[-1]} pixels; make it smaller"
            )
        self.train, self.held_out = (list(groups[split].values()) for split in ("train", "val"))
        self.fingerprint = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:32]


def batches(groups: Sequence[Sequence[int]], size: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Photographs of so many groups, one of each, for ever; all of a group come before any comes again."""
    left: list[list[int]] = [[] for _ in groups]
    while True:
        chosen = []
        for place in random.permutation(len(groups))[:size].tolist():
            left[place] = left[place] or random.permutation(groups[place]).tolist()
            chosen.append(left[place].pop())
        yield chosen


def crops(photographs: Photographs, chosen: Sequence[int], random: np.random.Generator) -> Tensor:
    """One changed crop of each photograph, (n, 3, crop, crop) float32 in 0..1."""
    crop_side = photographs.crop
    places = photographs.images.shape[-1] - crop_side + 1
    found = torch.empty((len(chosen), 3, crop_side, crop_side))
    for place, number in enumerate(chosen):
        top, left = random.integers(places, size=2)
        crop = photographs.images[number, :, top : top + crop_side, left : left + crop_side].float() / 255
        if random.random() < 0.5:
            crop = crop.flip(-1)
        if random.random() < 0.2:
            crop = gray(crop)
        gains = random.uniform(0.7, 1.3) * random.uniform(0.85, 1.15, size=3)
        found[place] = (crop * torch.tensor(gains, dtype=torch.float32)[:, None, None]).clamp(0, 1)
    return found


def gray(images: Tensor) -> Tensor:
    """Luma in all three channels, (..., 3, H, W)."""
    weights = torch.tensor(GRAY)[:, None, None]
    return (images * weights).sum(-3, keepdim=True).expand(images.shape)


def contrast(codes: Tensor, temperature: float) -> Tensor:
    """NT-Xent of codes (2n, d) of unit length; row i belongs to row i + n (or i - n)."""
    count = len(codes)
    likeness = codes @ codes.T / temperature
    likeness = likeness.masked_fill(torch.eye(count, dtype=torch.bool), -math.inf)
    return functional.cross_entropy(likeness, (torch.arange(count) + count // 2) % count)


def train(photographs: Photographs, arguments: argparse.Namespace) -> tuple[PerceptualNetwork, list[float]]:
    """The trained network, and the mean loss of each tenth of the training."""
    network = PerceptualNetwork(small(WIDTHS)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    initialize(network, arguments.seed)
    random = np.random.default_rng(arguments.seed)
    heads = nn.ModuleList(nn.Linear(width, 64, bias=False) for width in WIDTHS)
    stages = range(1, len(WIDTHS) + 1)
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.steps)
    log: list[float] = []
    for step, chosen in zip(range(arguments.steps), batches(photographs.train, arguments.batch, random), strict=False):
        pairs = torch.cat([crops(photographs, chosen, random) for _ in range(2)])
        found = network.stages(pairs.contiguous(memory_format=torch.channels_last), stages)
        codes = [functional.normalize(heads[k - 1](found[k].mean(dim=(2, 3)))) for k in stages]
        loss = torch.stack([contrast(code, arguments.temperature) for code in codes]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        log.append(loss.item())
        if (step + 1) % max(arguments.steps // 10, 1) == 0:
            print(f"step {step + 1}: loss {np.mean(log[-arguments.steps // 10 :]):.3f}", flush=True)
    tenths = np.array_split(np.array(log), 10)
    return network.eval().requires_grad_(False), [round(float(part.mean()), 4) for part in tenths]


def initialize(network: nn.Module, seed: int) -> None:
    """He et al. 2015 for the weights, zero for the biases."""
    with seeded(seed):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


@torch.inference_mode()
def scale_stages(network: PerceptualNetwork, images: Tensor) -> list[float]:
    """Scale each stage in place (see above); returns the factors. images: (n, 3, H, W) in 0..1."""
    low = functional.avg_pool2d(images, 4)
    rebuilt = functional.interpolate(low, scale_factor=4, mode="bicubic")
    wanted = float((rebuilt - images).abs().mean())
    stages = range(1, len(WIDTHS) + 1)
    pair = [network.stages(each.contiguous(memory_format=torch.channels_last), stages) for each in (rebuilt, images)]
    factors = [wanted / float((pair[0][stage] - pair[1][stage]).abs().mean()) for stage in stages]
    before = 1.0
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    for layer, factor in zip(convolutions, factors, strict=True):
        layer.weight.mul_(factor / before)
        layer.bias.mul_(factor)  # type: ignore[union-attr]
        before = factor
    return factors


@torch.inference_mode()
def retrieval(network: PerceptualNetwork, photographs: Photographs, without_color: bool) -> dict[str, float]:
    """Share of held-out groups whose lower right quarter is the nearest to the upper left one of the same photograph.

    By the cosine of stage means, each channel standardized over the photographs; "all": of all stages together.
    """
    images = photographs.images[[group[0] for group in photographs.held_out]].float() / 255
    images = gray(images) if without_color else images
    half = images.shape[-1] // 2  # the two share no pixel
    quarters = [images[..., :half, :half], images[..., -half:, -half:]]
    stages = range(1, len(WIDTHS) + 1)
    codes: dict[str, list[Tensor]] = {}
    for quarter in quarters:
        found = network.stages(quarter.contiguous(memory_format=torch.channels_last), stages)
        means = [found[stage].mean(dim=(2, 3)) for stage in stages]
        scaled = [(code - code.mean(0)) / (code.std(0) + 1e-12) for code in means]
        for stage, code in zip(stages, scaled, strict=True):
            codes.setdefault(f"stage{stage}", []).append(functional.normalize(code))
        codes.setdefault("all", []).append(functional.normalize(torch.cat(scaled, dim=1)))
    truth = torch.arange(len(images))
    return {
        name: round(float(((first @ second.T).argmax(1) == truth).float().mean()), 4)
        for name, (first, second) in codes.items()
    }


def figures(network: PerceptualNetwork, photographs: Photographs) -> dict[str, Any]:
    """Retrieval of the network and, as a mean over five draws, of random weights."""
    drawn = []
    for seed in range(5):
        other = PerceptualNetwork(small(WIDTHS))
        initialize(other, 1000 + seed)
        drawn.append({mode: retrieval(other, photographs, mode == "gray") for mode in ("color", "gray")})
    return {
        mode: {
            "trained": retrieval(network, photographs, mode == "gray"),
            "random weights": {
                name: round(float(np.mean([one[mode][name] for one in drawn])), 4) for name in drawn[0][mode]
            },
        }
        for mode in ("color", "gray")
    } | {"chance": round(1 / len(photographs.held_out), 4), "groups": len(photographs.held_out)}


def card_of(photographs: Photographs, arguments: argparse.Namespace, **found: Any) -> dict[str, Any]:
    """What stands beside the weights."""
    return {
        "architecture": {"widths": list(WIDTHS), "strides": list(perceptual.STRIDES)},
        "recipe": {
            "task": "instance discrimination of crops, NT-Xent at every stage (arXiv:2002.05709)",
            "crop": photographs.crop,
            "batch": arguments.batch,
            "steps": arguments.steps,
            "temperature": arguments.temperature,
            "optimizer": f"AdamW, learning rate {arguments.learning_rate}, weight decay 1e-4, cosine schedule",
            "seed": arguments.seed,
        },
        "data": DATA,
        "photographs": {
            "train": sum(map(len, photographs.train)),
            "held out": sum(map(len, photographs.held_out)),
        },
        "data_fingerprint": photographs.fingerprint,
        "device": "cpu",
        "threads": 1,
        "libraries": {name: version(name).partition("+")[0] for name in ("numpy", "pillow", "torch")},
        "licence": LICENCE,
        "origin": "experiments/train_perceptual.py",
        **found,
    }


def enter(manifest: Path, entry: dict[str, Any]) -> None:
    """Add or replace the entry of the network; the others stay."""
    entries = yaml.safe_load(manifest.read_text()) if manifest.exists() else {}
    entries[NAME] = entry
    write_bytes(manifest, yaml.safe_dump(entries, sort_keys=False, width=120).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("scratch/garments/photos.csv"))
    parser.add_argument("--out", type=Path, default=Path("experiments/states/weights"))
    parser.add_argument("--manifest", type=Path, default=Path("experiments/states/networks.yaml"))
    parser.add_argument("--crop", type=int, default=40, help="side of a crop in pixels")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    prepare("cpu", 1)
    photographs = Photographs(arguments.photos, arguments.crop)
    network, log = train(photographs, arguments)
    factors = scale_stages(network, photographs.images[[group[0] for group in photographs.train]].float() / 255)
    tensors: dict[str, NDArray[np.float32]] = {name: value.numpy() for name, value in network.state_dict().items()}
    path = arguments.out / f"{NAME}.safetensors"
    perceptual.save(path, WIDTHS, tensors)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size:,} bytes; at most {MOST_BYTES:,} are shipped, make WIDTHS narrower")
    network = perceptual.load(path, "cpu")
    found = figures(network, photographs)
    parameters = sum(tensor.numel() for tensor in network.parameters())
    card = card_of(
        photographs, arguments, parameters=parameters, loss=log, scaled_by=[round(f, 4) for f in factors], figures=found
    )
    write_bytes(path.with_suffix(".json"), (json.dumps(card, indent=2, sort_keys=True) + "\n").encode())
    folder = arguments.out.name
    enter(
        arguments.manifest,
        {
            "network": "perceptual",
            "file": f"{folder}/{path.name}",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": size,
            "licence": LICENCE,
            "origin": "experiments/train_perceptual.py",
            "card": f"{folder}/{path.stem}.json",
        },
    )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
