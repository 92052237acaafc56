"""Images per second of the stage `sample` against the bare generator loop, on any device.

Run: python -m benchmarks.sample_speed [--device cuda] [--checkpoint FILE] [--micro-batch 8] [--images N]. The goal, at
least 0.95 of the bare loop, is one for a GPU, where a stage that lets the device wait shows; on a CPU the network takes
so long that any stage reaches it, and the result says nothing about the goal. The loop runs the same network on one
prepared micro-batch again and again and keeps nothing; the stage also draws a latent and noise for each image, makes
bytes, checks that they come from finite numbers and brings them to the host. Without a checkpoint a StyleGAN2 with
random weights is measured: 64 pixels on a CPU, 256 on a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import alternate, emit
from pipeline.stage import Batch, Context
from stages.generators import generator_file, weights
from stages.sample import Sample, SampleConfig
from stages.training.networks import prepare

ROUNDS = 5


def random_checkpoint(folder: Path, resolution: int) -> Path:
    """A StyleGAN2 of the published widths, narrow at 64 pixels, with random weights."""
    from detectors.seeding import seeded
    from stages.generators import stylegan2

    narrow = {"channel_base": 4096, "channel_max": 64, "mapping_layers": 2} if resolution <= 64 else {}
    dimension = 64 if narrow else 512
    sizes: dict[str, Any] = {"z_dim": dimension, "c_dim": 0, "w_dim": dimension, "resolution": resolution, **narrow}
    with seeded(0):
        generator = stylegan2.Generator(**sizes)
    path = folder / "random.safetensors"
    tensors = {name: tensor.detach().numpy() for name, tensor in generator.state_dict().items()}
    weights.save(path, "stylegan2", sizes, tensors)
    return path


def measure(path: Path, device: str, micro_batch: int, images: int) -> None:
    """Time both, turn by turn, and print the result."""
    import torch

    prepare(device, 1)
    on_gpu = torch.device(device).type == "cuda"
    family, generator, header = generator_file.load(path, device)
    noise = "per-seed" if family.NOISES else "none"
    classes = header.dimensions["c_dim"]
    config = SampleConfig(
        checkpoint=str(path), count=images, micro_batch=micro_batch, label_index=0 if classes else None
    )
    seeds = np.arange(images, dtype=np.int64)
    batch = Batch(np.zeros(images, "V16"), payload={"seed": seeds})
    context = Context(0, "sample", device, 1, {"checkpoint": path})
    drawn = [family.draw(header.architecture, seed, noise) for seed in range(micro_batch)]
    rows = {name: torch.from_numpy(np.stack([row[name] for row in drawn])).to(device) for name in drawn[0]}
    rows["label"] = torch.nn.functional.one_hot(torch.zeros(micro_batch).long(), max(classes, 1))[:, :classes].to(
        device, torch.float32
    )

    def stage() -> None:
        Sample().compute(config, batch, context)

    def bare() -> None:
        for _ in range(images // micro_batch):
            family.render(generator, rows, psi=1.0, cutoff=None, noise=noise)
        if on_gpu:
            torch.cuda.synchronize()

    ours, loop = alternate(stage, bare, ROUNDS)
    where = torch.cuda.get_device_name() if on_gpu else "the CPU"
    emit(
        f"sample stage, images per second, {header.family} at {header.resolution} px, micro-batch {micro_batch}, on "
        f"{where}",
        images / ours,
        loop / ours,
        "bare generator loop on one prepared micro-batch"
        + ("" if on_gpu else "; the goal is a GPU's, and a CPU's ratio does not show it"),
        images,
        bare_images_per_s=round(images / loop, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--checkpoint", type=Path, help="a generator, ours or official (default: random weights)")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--images", type=int, help="images per round (default: 64 on a CPU, 512 on a GPU)")
    given = parser.parse_args()
    on_cpu = given.device == "cpu"
    images = given.images or (64 if on_cpu else 512)
    images = max(images // given.micro_batch, 1) * given.micro_batch  # the loop knows whole micro-batches only
    with tempfile.TemporaryDirectory() as folder:
        path = given.checkpoint or random_checkpoint(Path(folder), 64 if on_cpu else 256)
        measure(path, given.device, given.micro_batch, images)


if __name__ == "__main__":
    main()
