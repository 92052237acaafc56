"""Claim: `touchstone predict` adds little to decoding the images and to the model itself, and answers at once.

Whole processes, imports included. One side is `touchstone predict MODEL FOLDER --no-band --no-outside` over JPEG files
of 256 px that the model takes as they are. The other is the script that one would write: Pillow decodes, the bare
kernel makes the profile or nothing stands between, the bare support vectors or network decide, one line is printed per
image. Both compute with one thread; `predict` decodes the next block in another one meanwhile, so that on two cores it
may end first, and `cpu_*` are the same ratios of processor time, of which nothing can hide. `first_*` are the seconds
until the answer for a single image, band off, files cached: at most 3 for the support vector machine, which needs no
torch, and 6 for the network.

    python -m benchmarks.predict_speed [--images N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import emit
from benchmarks.processes import PROJECT, Ran, run_process, touchstone, write_pipeline
from pipeline.open import open_artifact

SIDE, TRAINED, ROUNDS = 256, 24, 5
MODELS = {"svm": 1000, "patches": 200}
"""Model -> images, so that each run takes some seconds."""

PIPELINE = f"""
nodes:
  real: {{stage: ingest, folder: real, splits: {{train: 0.75, val: 0.25}}}}
  fake: {{stage: ingest, folder: fake, label: fake, splits: {{train: 0.75, val: 0.25}}}}
  images: {{stage: equalize, of: [real, fake], size: {SIDE}}}
  spectra: {{stage: spectrum, of: images, features: [profile]}}
  svm: {{stage: train, on: spectra, detector: profile-svm}}
  patches: {{stage: train, on: images, detector: {{preset: patch-resnet-small, training: {{epochs: 1}}}}}}
"""

SCRIPTS = {
    "svm": """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from detectors.choosing import detector_config
from stages.evaluation.detector_file import load_detector
from stages.spectra.profiles import line_spectra
detector = load_detector(Path(sys.argv[1]))
files = sorted(Path(sys.argv[2]).iterdir())
for at in range(0, len(files), 256):
    part = files[at : at + 256]
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in part])
    profiles = line_spectra(images, "durall19", projected=False)["profile"]
    for file, score in zip(part, detector.scores([profiles], "cpu"), strict=True):
        print(file, score)
""",
    "patches": """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from detectors.composed import new
from detectors.contract import Control
from pipeline.stage import PICTURE
from stages.evaluation.detector_file import load_detector
torch.set_num_threads(1)
detector = load_detector(Path(sys.argv[1]))
config = detector.config
network = new(config, (256, 256, 3), PICTURE, {}, Control(device="cpu")).eval().network
files = sorted(Path(sys.argv[2]).iterdir())
step = config.micro_batch
with torch.inference_mode():
    for at in range(0, len(files), step):
        part = files[at : at + step]
        images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in part])
        ready = torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1  # channels last, as the pixels lie
        for file, score in zip(part, network(ready).sigmoid().mean((1, 2, 3)).tolist(), strict=True):
            print(file, score)
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help=f"default: {MODELS}")
    given = parser.parse_args()
    ratios: dict[str, float] = {}
    firsts: dict[str, float] = {}
    rates: dict[str, float] = {}
    of_processor: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_images(folder, given.images or max(MODELS.values()))
        write_pipeline(folder, PIPELINE)
        touchstone("run", "--workers", "1", folder=folder)
        for model, count in MODELS.items():
            count = given.images or count
            place = str(open_artifact(folder / "pipeline.yaml", model))
            asked = folder / model
            asked.mkdir()
            for file in sorted((folder / "asked").iterdir())[:count]:
                (asked / file.name).hardlink_to(file)
            ours, theirs = _alternate(folder, place, asked, SCRIPTS[model])
            ratios[model], rates[model] = round(theirs[0] / ours[0], 3), count / ours[0]
            of_processor[f"cpu_{model}"] = round(theirs[1] / ours[1], 3)
            one = str(min(asked.iterdir()))
            firsts[f"first_{model}_s"] = round(
                statistics.median(
                    touchstone("predict", place, one, "--no-band", folder=folder).seconds for _ in range(ROUNDS)
                ),
                2,
            )
    worst = min(ratios, key=lambda model: ratios[model])
    against = f"a script that decodes with Pillow and calls the bare model, the least favorable of both: {worst}"
    emit(
        f"JPEG files of {SIDE} px answered by {worst}, per second",
        rates[worst],
        ratios[worst],
        against,
        given.images or MODELS[worst],
        **ratios,
        **of_processor,
        **firsts,
    )


def _write_images(folder: Path, count: int) -> None:
    """Blurred shapes with some noise: `count` to ask about, and TRAINED of each class."""
    from PIL import Image

    random = np.random.default_rng(3)
    for kind, number in (("real", TRAINED), ("fake", TRAINED), ("asked", count)):
        (folder / kind).mkdir()
        for index in range(number):
            coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
            noisy = smooth + random.normal(0, 3 + 2 * (kind == "fake"), smooth.shape)
            pixels = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            pixels.save(folder / kind / f"{index:05}.jpg", quality=92)


def _alternate(folder: Path, place: str, asked: Path, script: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median seconds and processor seconds of `predict` and of the script over the same files, in turns, after one
    round to warm up."""
    ours, theirs = [], []
    for turn in range(ROUNDS + 1):
        told = touchstone("predict", place, str(asked), "--no-band", "--no-outside", folder=folder)
        bare = run_process([sys.executable, "-c", script, place, str(asked)], folder, {"PYTHONPATH": str(PROJECT)})
        if turn:
            ours.append(told)
            theirs.append(bare)
    return _medians(ours), _medians(theirs)


def _medians(runs: Sequence[Ran]) -> tuple[float, float]:
    return statistics.median(one.seconds for one in runs), statistics.median(one.cpu_seconds for one in runs)


if __name__ == "__main__":
    main()
