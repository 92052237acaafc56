"""Ask a trained or published detector about images: `touchstone.load(MODEL).predict(IMAGES)`, without a store.

An image goes through the steps of the model's card (`pipeline.chain`) and gets the score that `evaluate` gives to the
same image, to the bit. What else is said is how far to trust it. The band: the least and greatest probability of the
image under changes that people do not see (`stages.images.disturbances.BAND`). Outside: what of the image the training
rows did not have (`stages.predicting.facts`). A verdict is `unsure` where the band crosses the threshold, or where the
image is far outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.chain import FIELD, Chain, Found, chain_function, check_files
from pipeline.errors import ConfigError, StageError
from pipeline.stage import RowError
from stages.evaluation.detector_file import SCORE, Detector, load_detector
from stages.predicting.facts import Outside, TrainingFacts, read_facts
from stages.predicting.files import File, files_of
from stages.predicting.ways import Class, chain_number

if TYPE_CHECKING:
    from stages.predicting.heat_pictures import Drawer

Pixels = NDArray[np.uint8]
Image = str | Path | bytes | Pixels | File
"""A file by its name, place or bytes, or pixels (H, W, 3) uint8 RGB."""

Change = Callable[[Pixels], Pixels]
"""Of a picture, which keeps its size."""

MOST_PIXELS = 100_000_000
"""Of files whose header claims more nothing is decoded, where the model's own steps do not decode."""

MODELS = "the folder of a trained model (with card.json), or MANIFEST.yaml#ENTRY of a published detector"

PUBLISHED = "stages.predicting.models"
"""Of published detectors alone."""

BLOCK_IMAGES, BLOCK_BYTES = 256, 2**27
"""Images that are asked about at once, and bytes of their files, pictures and features; two blocks are under way."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image; of one that cannot be read: the `error`, and nothing else.

    score        as `evaluate` has it, float32; probability: of being fake
    threshold    a score at or above it means fake
    verdict      "real", "fake" or "unsure"; "": there is none
    band         least and greatest probability under changes that nobody sees; None: not asked for, or there is none
    outside      what the training rows did not have
    heatmap      the picture that was drawn of it; None: none was asked for
    """

    file: str
    score: float | None
    threshold: float
    verdict: Literal["real", "fake", "unsure", ""]
    band: tuple[float, float] | None = None
    outside: tuple[Outside, ...] = ()
    error: str = ""
    heatmap: Path | None = None

    @property
    def probability(self) -> float | None:
        """The score: detectors give calibrated probabilities, unless the card says otherwise."""
        return self.score

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "file": self.file,
            "score": self.score,
            "probability": self.probability,
            "threshold": self.threshold,
            "verdict": self.verdict or None,
            "band": None if self.band is None else list(self.band),
            "outside": [one.as_data() for one in self.outside],
            **({"error": self.error} if self.error else {}),
            **({"heatmap": str(self.heatmap)} if self.heatmap else {}),
        }


@dataclass
class Asked:
    """One image on its way. content: of a file; pixels: as decoded, or as the model's last picture step gives them.

    scores: of the image, then of its copies in the order of the changes; error: why there are none, or "".
    """

    name: str
    content: bytes | None = None
    pixels: Pixels | None = None
    row_id: NDArray[np.void] | None = None
    enlarged_from: tuple[int, int] | None = None
    error: str = ""
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """What is asked for. threshold: in place of the model's; heat_maps: what draws them, see `Model.drawer`."""

    band: bool = True
    outside: bool = True
    threshold: float | None = None
    heat_maps: Drawer | None = None


class Model:
    """A detector with the steps that lead from an image to its feature.

    warnings: a sentence for each thing that is not as it was in the training, or that the reader should know.
    """

    def __init__(self, detector: Detector, chain: Chain, device: str, facts: TrainingFacts | None) -> None:
        self.detector, self.chain, self.device, self.facts = detector, chain, device, facts
        self.warnings = list(chain.warnings)
        if not detector.card.get("calibrated", True):
            self.warnings.append("its probabilities are those of its authors' network, and not calibrated")
        steps = chain.kept.steps
        self.fields: dict[str, Any] = dict(steps[-1].fields) if steps else {FIELD: None}
        lacking = [name for name in detector.fields if name not in self.fields]
        if lacking:
            raise StageError(f"the model reads '{lacking[0]}', which no step of its card makes of an image")
        self.parts = chain.at_picture()

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width of the pictures that its steps give, if they give any."""
        if self.parts is None or not self.parts[0].kept.steps:
            return None
        height, width = self.parts[0].kept.steps[-1].fields[FIELD][1][:2]
        return int(height), int(width)

    def of_pictures(self) -> Model:
        """The same model for pictures as its own crop and resize leave them. Raises StageError where it has none."""
        if self.parts is None:
            raise StageError("the model's steps make features of files at once, and no picture on the way")
        return Model(self.detector, self.parts[1], self.device, self.facts)

    def threshold(self, false_positive_rate: float | None = None) -> float:
        """The score at or above which an image is called fake.

        false_positive_rate: share of validation reals that may be called fake, in place of the model's own rule. Raises
        ConfigError where it is no share, StageError where the model keeps too few of them.
        """
        if false_positive_rate is None:
            return float(self.detector.card["threshold"])
        return threshold_of_reals(None if self.facts is None else self.facts.validation_reals, false_positive_rate)

    def predict(
        self,
        images: Image | Iterable[Image],
        *,
        band: bool = True,
        outside: bool = True,
        threshold_fpr: float | None = None,
    ) -> list[Prediction]:
        """One prediction for each image, in order; folders and zip files have those of all their images."""
        one = isinstance(images, str | Path | bytes | np.ndarray | File)
        options = Options(band, outside, self.threshold(threshold_fpr))
        return list(self.stream(_files([images] if one else images), options))  # type: ignore[list-item, arg-type]

    def stream(self, images: Iterable[Image], options: Options) -> Iterator[Prediction]:
        """Predictions in order, block by block."""
        from stages.images.disturbances import BAND

        drawer = options.heat_maps
        for one in self.scored(images, BAND if options.band and self.parts is not None else {}):
            drawn = None
            if drawer is not None and not one.error:
                assert self.parts is not None
                assert one.pixels is not None
                arrays = self.parts[1]([one.pixels], one.row_id).arrays
                features = {name: arrays[name][0] for name in self.detector.fields}
                drawn = drawer.draw(one.name, one.pixels, features, self.device)
            yield replace(self._told(one, options), heatmap=drawn)

    def drawer(self, folder: Path) -> Drawer:
        """Draws heat maps into a folder. Raises StageError where the model has none of places."""
        from stages.predicting.heat_pictures import Drawer

        if self.parts is None:
            raise StageError("the model's steps make features of files at once, so that there is no picture to draw on")
        return Drawer(self.detector, folder)

    def scored(self, images: Iterable[Image], changes: Mapping[str, Change] = MappingProxyType({})) -> Iterator[Asked]:
        """Images in order with their scores: of each as it is, and after each change of its picture."""
        for block in self._pictured(self._blocks(images, len(changes))):
            self._score(block, list(changes.values()))
            yield from block

    # How many at once

    def _pictured(self, blocks: Iterator[list[Asked]]) -> Iterator[list[Asked]]:
        """Blocks with their pictures taken, each by another thread while the one before it is scored.

        The thread that asks reads the files. It also takes pictures that networks help to make: the number of threads
        of networks is one of the process.
        """
        if self.parts is None or any(one.stage.on_device(one.config) for one in self.parts[0].steps):
            for block in blocks:
                self._take_pictures(block)
                yield block
            return
        with ThreadPoolExecutor(1) as taker:
            started = ((block, taker.submit(self._take_pictures, block)) for block in blocks)
            ahead = next(started, None)
            while ahead is not None:
                (block, taken), ahead = ahead, next(started, None)
                taken.result()
                yield block

    def _blocks(self, images: Iterable[Image], changes: int) -> Iterator[list[Asked]]:
        copies = 1 + changes
        fixed = sum(_row_bytes(one) for step in self.chain.kept.steps for one in step.fields.values()) * copies
        block: list[Asked] = []
        size = 0
        for number, image in enumerate(images):
            one = _asked(image, number)
            if not self.chain.reads:
                _decode(one)
            block.append(one)
            size += fixed + len(one.content or b"") + copies * (0 if one.pixels is None else one.pixels.nbytes)
            if len(block) == BLOCK_IMAGES or size >= BLOCK_BYTES:
                yield block
                block, size = [], 0
        if block:
            yield block

    # From images to pictures, and to scores

    def _take_pictures(self, block: list[Asked]) -> None:
        """Bring images to the model's last picture, where it has one; those that are too small are enlarged before."""
        if self.parts is None or not self.parts[0].kept.steps:
            return
        self._run_head([one for one in block if not one.error])
        small = [one for one in block if one.error and self._enlarge(one)]
        self._run_head(small)

    def _run_head(self, asked: list[Asked]) -> None:
        assert self.parts is not None
        if not asked:
            return
        found = self.parts[0]([one.content if one.pixels is None else one.pixels for one in asked])  # type: ignore[misc]
        for number, reason in found.failures.items():
            asked[number].error = reason
        for row, number in enumerate(found.done.tolist()):
            asked[number].pixels, asked[number].row_id = found.arrays[FIELD][row], found.ids[row : row + 1]

    def _enlarge(self, one: Asked) -> bool:
        """Decode an image whose shorter side is below the model's, and enlarge it; whether it was one."""
        from stages.images.decoding import decode

        sides = self.sides
        try:
            pixels = decode(one.content, MOST_PIXELS) if one.content is not None else one.pixels
        except ValueError:
            return False
        if pixels is None or pixels.ndim != 3 or sides is None or min(pixels.shape[:2]) >= min(sides):
            return False
        one.enlarged_from = pixels.shape[1], pixels.shape[0]
        one.pixels, one.error = _enlarged(pixels, max(sides)), ""
        return True

    def _score(self, block: list[Asked], changes: list[Change]) -> None:
        """Scores of each image, and of its changed copies."""
        asked = [one for one in block if not one.error]
        if self.parts is None:
            self._keep(asked, 1, self.chain([one.content if one.pixels is None else one.pixels for one in asked]))  # type: ignore[misc]
            return
        shapes: dict[tuple[int, ...], list[Asked]] = {}
        for one in asked:
            assert one.pixels is not None
            shapes.setdefault(one.pixels.shape, []).append(one)
        for group in shapes.values():
            pictures = [copy for one in group for copy in _copies(one.pixels, changes)]
            copies = len(pictures) // len(group)
            ids = [one.row_id for one in group if one.row_id is not None]
            row_ids = np.concatenate(ids).repeat(copies) if ids else None
            self._keep(group, copies, self.parts[1](pictures, row_ids))

    def _keep(self, asked: list[Asked], copies: int, found: Found) -> None:
        """Note scores; the first copy of each image is the image."""
        for number, reason in found.failures.items():
            if number % copies == 0:
                asked[number // copies].error = reason
        try:
            scores = self.detector.scored(found, self.device).arrays[SCORE]
        except ValueError as error:  # rows of a shape that the detector cannot read
            for one in asked:
                one.error = one.error or str(error)
            return
        for number, score in zip(found.done.tolist(), scores.tolist(), strict=True):
            asked[number // copies].scores.append(score)

    # What is told

    def _told(self, one: Asked, options: Options) -> Prediction:
        threshold = self.threshold() if options.threshold is None else options.threshold
        if one.error:
            return Prediction(one.name, None, threshold, "", error=one.error)
        outside = self._outside(one, options)
        score = one.scores[0]
        band = (min(one.scores), max(one.scores)) if options.band and self.parts is not None else None
        crosses = band is not None and band[0] < threshold <= band[1]
        verdict: Any = "fake" if score >= threshold else "real"
        unsure = crosses or any(fact.far for fact in outside)
        return Prediction(one.name, score, threshold, "unsure" if unsure else verdict, band, outside)

    def is_far(self, one: Asked) -> bool:
        """Whether an image that was scored is far outside of the training rows."""
        return any(fact.far for fact in self._outside(one, Options()))

    def _outside(self, one: Asked, options: Options) -> tuple[Outside, ...]:
        found = []
        if one.enlarged_from is not None:
            assert self.sides is not None
            seen = f"at least {min(self.sides)} on the shorter side, as the model's size"
            found.append(Outside("size", "{}x{}".format(*one.enlarged_from), seen, True))
        if options.outside and self.facts is not None:
            found += self.facts.outside(one.content, None if self.parts is None else one.pixels)
        return tuple(found)


def load(
    model: str | Path,
    *,
    device: str | None = None,
    weights: Sequence[str | Path] = (),
    as_class: Class | None = None,
) -> Model:
    """A model that can be asked about images.

    model     folder of a trained model (the artifact of a `train` node), or MANIFEST.yaml#ENTRY of a published one
    device    cpu or cuda; if left out, where it was trained, as far as that is there
    weights   folders with files that are too large to lie in the model's folder
    as_class  "real" or "fake": whose steps images pass, where the classes passed unlike ones

    Raises ConfigError where there is no such model or device, StageError where it cannot be asked about an image.
    """
    folder = Path(model)
    if not folder.is_dir():
        if "#" not in str(model):
            raise ConfigError(f"{model} is no model: expected {MODELS}")
        detector = import_module(PUBLISHED).published_model(str(model))
        card: Any = detector.card
    else:
        detector, card = load_detector(folder), folder
    where = _device(device, detector)
    number = chain_number(detector.card, as_class)
    chain = chain_function(card, number, device, [Path(one) for one in weights])
    facts = read_facts(folder) if folder.is_dir() else None
    check_files(folder)
    return Model(detector, chain, where, facts)


def _device(asked: str | None, detector: Detector) -> str:
    """Where the detector runs. Raises ConfigError for a device that is not there."""
    if asked not in (None, "cpu", "cuda"):
        raise ConfigError(f"the device is {asked}, expected cpu or cuda")
    was = str(detector.card.get("environment", {}).get("device", "cpu"))
    wanted = asked or ("cuda" if was.startswith("cuda") else "cpu")
    if wanted == "cpu" or not detector.on_device:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked:
        raise ConfigError("the device is cuda, but PyTorch finds no CUDA device on this machine; use --device cpu")
    return "cpu"


def threshold_of_reals(scores: NDArray[np.float32] | None, rate: float) -> float:
    """The lowest threshold at or above which at most this share of validation reals lies.

    scores: (n,) of the validation reals; None: the model keeps none. Raises as `Model.threshold`.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"the false positive rate is {rate}, expected a share between 0 and 1, such as 0.01")
    if scores is None:
        raise StageError("the model keeps no scores of validation reals: it is of an earlier version; train again")
    if len(scores) * rate < 1:
        digits = 1 + len(str(len(scores)))  # rounded up, so that it is enough
        least = f"{math.ceil(10**digits / len(scores)) / 10**digits:g}" if len(scores) > 1 else ""
        raise StageError(
            f"a false positive rate of {rate:g} needs {math.ceil(1 / rate):,} validation reals or more, the model "
            f"has {len(scores):,}; {f'ask for {least} or more, or ' if least else ''}train with more of them"
        )
    falling = np.sort(np.asarray(scores, np.float32))[::-1]
    return float(np.nextafter(falling[int(rate * len(falling) + 1e-9)], np.float32(2)))


def _files(images: Iterable[Image]) -> Iterator[Image]:
    """Images, with what lies in named folders and zip files in their place."""
    for image in images:
        if isinstance(image, str | Path):
            yield from files_of(Path(image), [])
        else:
            yield image


def _asked(image: Image, number: int) -> Asked:
    if isinstance(image, File):
        try:
            return Asked(image.name, image.read())
        except RowError as error:
            return Asked(image.name, error=str(error))
    name = f"image {number}"
    if isinstance(image, bytes):
        return Asked(name, image)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        return Asked(name, error=f"is {pixels.dtype} {pixels.shape}, expected (H, W, 3) uint8")
    return Asked(name, pixels=np.ascontiguousarray(pixels))


def _decode(one: Asked) -> None:
    """Pixels of a file, for a model that learned from arrays."""
    from stages.images.decoding import decode

    if one.content is not None and not one.error:
        try:
            one.pixels = decode(one.content, MOST_PIXELS)
        except ValueError as error:
            one.error = str(error)


def _enlarged(pixels: Pixels, side: int) -> Pixels:
    """By Lanczos, so that the shorter side has this length."""
    from PIL import Image as Pillow

    height, width = pixels.shape[:2]
    factor = side / min(height, width)
    sides = max(side, round(width * factor)), max(side, round(height * factor))
    return np.array(Pillow.fromarray(np.ascontiguousarray(pixels)).resize(sides, Pillow.Resampling.LANCZOS))


def _copies(picture: Pixels | None, changes: list[Change]) -> list[Pixels]:
    """The picture, and what each change makes of it."""
    assert picture is not None
    return [picture, *(change(picture) for change in changes)]


def _row_bytes(recorded: list[Any]) -> int:
    dtype, shape = recorded[:2]
    return int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
