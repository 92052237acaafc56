"""Every path through a device: does it run, twice with the same bytes, how far from the CPU, where does it wait?"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.results import Acceptance

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "manifests" / "weights"
Arrays = Mapping[str, NDArray[Any]]
Work = Callable[[str], Arrays]
FAMILIES = ("progan", "stylegan", "stylegan2", "stargan2")
CHAOTIC = ("game ", "joint ", "reconstruction")
"""Beginnings of the names of trainings whose steps enlarge the least difference: no distance from the CPU is told."""


def path_list(quick: bool = False) -> dict[str, Work]:
    """Name -> work on a device, which returns arrays on the host; a fixed seed each time. quick: in smallest sizes."""
    steps = 2 if quick else 3

    def played(family: str, **more: Any) -> Work:
        return _played(family, None if quick else 32, steps, **more)

    found: dict[str, Work] = {
        "loader preloaded": _loaded(preload=True),
        "loader streamed": _loaded(preload=False),
        "loader pinned": _loaded(preload=False, pinned=True),
        "cnn percentile": _detector((3, 32, 32), "float16", normalization="percentile", band="low"),
        "cnn standardize": _detector((3, 32, 32), "float16", normalization="standardize"),
        "cnn pixels": _detector((32, 32, 3), "uint8", normalization="pixels", head="pool"),
        "translate": _translated,
        "residual": _residuals,
        "mixture": _mixed,
        "slope of a detector": _led,
        "reconstruction": _resynthesized(joint=False),
        "joint pixel resnet50": _resynthesized(joint=True),
        "joint stage5 compact": _resynthesized(joint=True, stage=5),
    }
    found |= {f"sample {family}": _sampled(family, 12 if quick else 40) for family in FAMILIES[:3]}
    for family in FAMILIES:
        found |= {f"game {family}": played(family), f"game {family} bf16": played(family, mixed=True)}
    found |= {
        "game stylegan2 +R bf16": played("stylegan2", mixed=True, term="R"),
        "game stylegan2 +A bf16": played("stylegan2", mixed=True, term="A"),
        "game stargan2 +R": played("stargan2", term="R"),
        "game progan +A": played("progan", term="A"),
    }
    return found


def paths(run: Acceptance) -> dict[str, Any]:
    """ok, repeats, from_cpu, waits (line of the project -> number), seconds of each path; or its error and where."""
    found: dict[str, Any] = {}
    for name, work in path_list(run.quick).items():
        if run.only in name:
            found[name] = _tried(run, name, work)
            run.keep("paths", found)
            print(name, {key: value for key, value in found[name].items() if key != "waits"}, flush=True)
            if "CUDA error" in found[name].get("error", ""):
                break  # the context is lost: nothing after it means anything
    return found


def _tried(run: Acceptance, name: str, work: Work) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        first, second = work(run.device), work(run.device)
        entry: dict[str, Any] = {"ok": True, "repeats": equal(first, second)}
        if run.on_gpu and not name.startswith(CHAOTIC):
            entry["from_cpu"] = distance(first, work("cpu"))
        if run.on_gpu:
            entry["waits"] = waits(work, run.device)
    except Exception as error:  # the other paths still tell something
        places = [f"{Path(one.filename).name}:{one.lineno}" for one in traceback.extract_tb(error.__traceback__)]
        entry = {"ok": False, "error": f"{type(error).__name__}: {error}"[:600], "where": places[-5:]}
    return entry | {"seconds": round(time.perf_counter() - start, 2)}


def equal(a: Arrays, b: Arrays) -> bool:
    """Whether all arrays are the same to the bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def distance(a: Arrays, b: Arrays) -> float:
    """The largest |difference| of any array over its largest |value| in `b`."""
    worst = 0.0
    for name, value in a.items():
        x, y = np.asarray(value, np.float64), np.asarray(b[name], np.float64)
        if x.size:
            worst = max(worst, float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-9)))
    return worst


def waits(work: Work, device: str) -> dict[str, int]:
    """Lines of the project at which the host waits for the device, the twelve most frequent first."""
    places: dict[str, int] = {}

    def show(message: Any, category: Any, filename: str, line: int, *rest: Any) -> None:
        if "synchroniz" not in str(message):
            return
        here = [one for one in traceback.extract_stack() if one.filename.startswith(str(ROOT))]
        ours = [one for one in here if "/site-packages/" not in one.filename and not one.filename.endswith("paths.py")]
        place = f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else f"{filename}:{line}"
        places[place] = places.get(place, 0) + 1

    before = warnings.showwarning
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show  # type: ignore[assignment]
            work(device)
    finally:
        warnings.showwarning = before
        torch.cuda.set_sync_debug_mode("default")
    return dict(sorted(places.items(), key=lambda item: -item[1])[:12])


def _images(rows: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(side).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def _loaded(**settings: Any) -> Work:
    def work(device: str) -> Arrays:
        from pipeline.loader import Loader

        data: dict[str, NDArray[Any]] = {
            "x": _images(64, 16).astype(np.float16),
            "label": np.arange(64, dtype=np.uint8) % 2,
        }
        found = list(Loader(data, ["x"], 24, seed=1, device=device, **settings))
        return {name: np.concatenate([batch[name].cpu().numpy() for batch in found]) for name in ("x", "label")}

    return work


class Noise:
    """Two classes of noise of different strength, as a detector family reads examples."""

    def __init__(self, shape: tuple[int, ...], dtype: str, rows: int = 96) -> None:
        from pipeline.stage import MAPS, PICTURE

        random = np.random.default_rng(3)
        self.shape, self.labels = shape, np.arange(rows, dtype=np.uint8) % 2
        self.axes = PICTURE if shape[-1] == 3 else MAPS
        lift = 20 * self.labels.reshape(-1, *[1] * len(shape))
        self.values = (random.random((rows, *shape)) * 200 + lift).astype(dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def array(self) -> NDArray[Any]:
        return self.values

    def blocks(self, size: int) -> Any:
        return (self.values[start : start + size] for start in range(0, len(self), size))

    def batches(self, size: int, seed: int, balanced: bool, device: str) -> Any:
        from pipeline.loader import Loader
        from stages.evaluation.detector_file import LoaderBatches

        data = {"x": self.values, "label": self.labels}
        ids = np.arange(len(self), dtype=">u8").view("V8").astype("V16")
        return LoaderBatches(Loader(data, ["x"], size, seed, device=device, balanced=balanced), "x", ids)


def _detector(shape: tuple[int, ...], dtype: str, **settings: Any) -> Work:
    def work(device: str) -> Arrays:
        from detectors import cnn
        from detectors.contract import Control
        from stages.training.networks import prepare

        prepare(device, 1)
        config: Any = cnn.Config(feature="x", epochs=2, **settings)
        examples: Any = Noise(shape, dtype)
        state = cnn.fit(config, examples, examples, Control(0, device))
        return {**state.tensors, "scores": cnn.score(config, state, examples.values, device)}

    return work


def _sampled(family: str, count: int) -> Work:
    def work(device: str) -> Arrays:
        from pipeline.stage import Batch, Context
        from stages.sample import Sample, SampleConfig

        path = WEIGHTS / f"{family}-small-raw.safetensors"
        config = SampleConfig(checkpoint=str(path), count=count, micro_batch=8)
        batch = Batch(np.zeros(count, "V16"), payload={"seed": np.arange(count)})
        return dict(Sample().compute(config, batch, Context(0, "sample", device, 1, {"checkpoint": path})))

    return work


def _translated(device: str) -> Arrays:
    from pipeline.stage import ID, Batch, Context
    from stages.translate import Translate, TranslateConfig

    path = WEIGHTS / "stargan2-small-raw.safetensors"
    config = TranslateConfig(checkpoint=str(path), guide="latent", truncation_psi=0.7)
    ids = np.frombuffer(bytes(range(256)), dtype=ID)[:16]
    batch = Batch(ids, (ids,), ({"image": _images(16, 64)},), index=np.arange(16))
    return dict(Translate().compute(config, batch, Context(0, "translate", device, 1, {"checkpoint": path})))


def _residuals(device: str) -> Arrays:
    from pipeline.stage import ID, Batch, Context
    from stages.residual import LEVELS, Residual, ResidualConfig

    files = {"model": WEIGHTS / "rdn-small-SR.safetensors", "perceptual": WEIGHTS / "perceptual-small.safetensors"}
    settings = {"levels": list(LEVELS), **{name: str(path) for name, path in files.items()}}
    ids = np.zeros(48, ID)
    batch = Batch(ids, (ids,), ({"image": _images(48, 64)},))
    context = Context(seed=0, stage="residual", device=device, files=files)
    return dict(Residual().compute(ResidualConfig.model_validate(settings), batch, context))


def _mixed(device: str) -> Arrays:
    from detectors.transfers import stacked
    from stages.generators import mfa
    from stages.training.networks import prepare

    prepare(device, 1)
    generator, random = mfa.Generator(components=5, z_dim=2, resolution=16), torch.Generator().manual_seed(0)
    for one in generator.parameters():
        one.data.normal_(generator=random)
    drawn = [mfa.draw({"z_dim": 2, "resolution": 16}, seed) for seed in range(32)]
    return {"images": mfa.render(generator.to(device), stacked(drawn, device)).cpu().numpy()}


def _led(device: str) -> Arrays:
    """Slopes that lead a generator away from what a detector knows, of pictures that have another size than its own."""
    from patch_detectors import patch_config, patch_state

    from detectors.gradients import Judge
    from stages.training.networks import prepare

    prepare(device, 1)
    config = patch_config()
    judge = Judge(config, patch_state(config, 24), device)
    images = torch.from_numpy(_images(4, 32)).to(device).movedim(3, 1).float() / 127.5 - 1
    logits = judge.fake_logits(images.requires_grad_())
    (slope,) = torch.autograd.grad(logits.mean(), images)
    return {"logits": logits.detach().cpu().numpy(), "slope": slope.cpu().numpy()}


def _played(family: str, side: int | None, steps: int, mixed: bool = False, term: str = "") -> Work:
    """Some steps of a game, with lazy penalties and augmentation. side: None for the least of the family."""

    def work(device: str) -> Arrays:
        from small_games import game_of, state_of

        from stages.generators.spectral_training import Adversary, Regularization, mean_profile

        torch.use_deterministic_algorithms(True)
        growing = {"grow_kimg": 0.0, "fade_kimg": 0.0} if family in ("progan", "stylegan") else {}
        game = game_of(family, side=side, device=device, mixed=mixed, augment={}, **growing)
        if term == "R":
            game.spectral = Regularization(mean_profile(game.images), game.images.side, None, 0.1, True, "l1", 1.0)
        if term == "A":
            game.spectral = Adversary(game.loss, game.images.side, 0.001, (0.0, 0.99), 0.5, device, 1.0)
        for step in range(steps):
            game.step(4 * step)
        return {name: np.frombuffer(value, np.uint8) for name, value in state_of(game).items()}

    return work


def _resynthesized(joint: bool, stage: int = 0) -> Work:
    def work(device: str) -> Arrays:
        training = _training(device, joint, stage)
        for step in range(2):
            training.step(4 * step)
        training.validate()
        training.sample(np.arange(28))
        networks = training.networks().items()
        states = {f"{name}.{key}": value for name, one in networks for key, value in one.state_dict().items()}
        return {name: value.cpu().numpy() for name, value in states.items()}

    return work


def _training(device: str, joint: bool, stage: int) -> Any:
    from small_games import photos

    from detectors.networks.resnet import Compact, DeepStemResNet50
    from detectors.seeding import seeded
    from stages.resynthesis import perceptual
    from stages.resynthesis.joint import Joint
    from stages.resynthesis.losses import ReconstructionLoss
    from stages.resynthesis.patches import Patches
    from stages.resynthesis.rdn import RDN
    from stages.resynthesis.reconstruction import Reconstruction, Schedule
    from stages.train_resynthesizer import placed
    from stages.training.networks import prepare

    prepare(device, 1)
    path = WEIGHTS / "perceptual-small.safetensors"
    rows, random = photos(64), torch.Generator(device).manual_seed(0)
    channels = perceptual.read_header(path).channels[stage - 1] if stage else 3
    with seeded(0):
        network: Any = RDN(16, 16, 2, 2)
        classifier: Any = (Compact if stage else DeepStemResNet50)(channels)
    patches = Patches(rows, device, random, None, "all")
    loss = ReconstructionLoss(perceptual.load(path, device))
    given = (placed(network, device), loss, patches, rows, Schedule(1000, 500, 2))
    shared: dict[str, Any] = {"task": "SR+C+D", "batch": 4, "learning_rate": 1e-4, "random": random}
    if not joint:
        return Reconstruction(*given, **shared)
    rates: dict[str, Any] = {"weight": 1.0, "classifier_rate": 0.001, "momentum": 0.9, "weight_decay": 0.0}
    fakes: dict[str, Any] = {
        "fakes": patches,
        "held_out_fakes": rows,
        "classifier": placed(classifier, device),
        "stage": stage,
    }
    return Joint(*given, **shared, **fakes, **rates)
