"""A published detector: its authors' network, preprocessing and decision, with the weights of their file.

Nothing is learned but a calibration, on validation rows. Without such rows its probability is what the published output
says, and uncalibrated. Which network fits a file is not told by the file alone, so all settings are written out; those
of an entry of a manifest become this config (`stages.training.pretrained`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from detectors.calibration import calibrated, logistic, platt
from detectors.contract import Control, DetectorConfig, Examples, Shapes, State, built
from detectors.decisions import Decision, fake_logit, takes_ties
from detectors.published import PUBLISHED
from detectors.published_preprocessing import Preprocessing, standardized, tiles

NUMBERS = ("slope", "intercept")
"""Of a state's plain data."""

BLOCK_ROWS = 512
MOMENTS = ("dct_mean", "dct_var")
"""Tensors of a state whose preprocessing is standardized, beside those of the network."""

LARGEST, DEEPEST = 65_536, 100
"""Widths and depths that a card may ask for."""


class MomentFile(BaseModel):
    """A file in the folder of the weights, with one tensor (channels, rows, columns)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="its name")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="its digest; planning asks for it")


Moments = dict[Literal["mean", "variance"], MomentFile]
"""Files of mean and variance of each coefficient of a spectrum, over somebody's training rows."""


class Config(DetectorConfig):
    """What its authors published beside the weights."""

    on_device: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    family: Literal["published"] = Field("published", description="the family; used by `pretrained` alone")
    name: str = Field(description="of the entry of a manifest, for tables")
    feature: str = Field(description="field of pictures (H x W x 3, 8 bits), or of what else the network reads")
    network: str = Field(description="name in `detectors.published`")
    architecture: str = Field(description="class of the network, and its module")
    arguments: dict[str, Any] = Field(description="of the network")
    preprocessing: Preprocessing | None = Field(description="of a picture; null: rows are read as they are")
    moments: Moments | None = Field(
        None, description="with the cosine spectrum: files of mean and variance that standardize it"
    )
    decision: Decision = Field(description="how the output is read")
    micro_batch: int = Field(8, ge=1, description="rows per forward pass, padded to this size")
    learned_from: tuple[str, ...] = Field((), description="sources of the fakes that its authors trained it with")
    paper: str = Field("", description="that describes it")
    repository: str = Field("", description="of its authors' code")
    licence: str = Field("", description="of the weights")
    traps: tuple[str, ...] = Field((), description="what changes its scores, or what its authors do not say")

    @model_validator(mode="after")
    def _is_known(self) -> Config:
        """Nothing is built that is not registered."""
        known = PUBLISHED.get(self.network)
        if known is None:
            raise ValueError(f"'{self.network}' is no published network; known are {', '.join(PUBLISHED)}")
        if self.architecture != known.network:
            raise ValueError(f"'architecture' of {self.network} is {self.architecture}, expected {known.network}")
        for name, value in self.arguments.items():
            allowed = known.options.get(name)
            if allowed is not None and value not in allowed:
                raise ValueError(f"'{name}' of {self.network} is {value!r}; expected one of {', '.join(allowed)}")
        fixed, given = (
            {name: value for name, value in one.items() if name not in known.options}
            for one in (known.arguments, self.arguments)
        )
        if json.dumps(fixed, sort_keys=True) != json.dumps(given, sort_keys=True):
            raise ValueError(f"'arguments' of {self.network} are {given}, expected {fixed}")
        if (self.preprocessing is None) != (known.preprocessing is None):
            raise ValueError(f"'preprocessing' of {self.network} is for pictures; expected it there and nowhere else")
        if (self.preprocessing is not None and self.preprocessing.spectrum == "cosine") != (self.moments is not None):
            raise ValueError("'moments' go with the cosine spectrum and with nothing else; give both or neither")
        if self.moments is not None and len(self.moments) < 2:
            raise ValueError("'moments' are files of both 'mean' and 'variance'; name the other one too")
        return self

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that resize, and the network's."""
        opencv = self.preprocessing is not None and self.preprocessing.library == "opencv"
        return ("torch", "pillow", *["opencv-python-headless"] * opencv)

    @property
    def modules(self) -> tuple[str, ...]:
        """This one and the network's."""
        return (__name__, PUBLISHED[self.network].module)

    @property
    def resamples(self) -> bool:
        """Whether pictures of any size can be scored."""
        return self.preprocessing is not None

    def check(self, shape: tuple[int, ...], axes: tuple[str, ...]) -> None:
        """Pictures where the preprocessing is one of pictures."""
        if self.preprocessing is not None and (len(shape) != 3 or shape[2] != 3 or (axes and axes[2] != "channel")):
            raise ValueError(
                f"the preprocessing of {self.network} is one of pictures (height, width, 3), but '{self.feature}' is "
                f"{shape}; name the field of the images in 'feature'"
            )


def describe(config: Config) -> str:
    """Name of the detector in a table."""
    return f"{config.name} (published)"


def sizes_of(config: Config, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the network that the shapes of a file's tensors tell. Raises ValueError where they tell none."""
    found = PUBLISHED[config.network].sizes
    if found is None:
        return {}
    try:
        return _checked(found(shapes))
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"its tensors do not tell the sizes of {config.network}") from None


def _checked(sizes: Any) -> dict[str, int]:
    """Sizes of a file or card, none so large that building the network is work."""
    if not isinstance(sizes, dict) or not all(
        type(size) is int and 0 < size <= (DEEPEST if name == "depth" else LARGEST) for name, size in sizes.items()
    ):
        raise ValueError(f"its 'sizes' are {str(sizes)[:80]}, expected numbers of at most {LARGEST}")
    return dict(sizes)


def empty(config: Config, sizes: Any) -> Any:
    """The network (an nn.Module) without values, on torch's meta device."""
    import torch

    published = PUBLISHED[config.network]
    options = {name: value for name, value in config.arguments.items() if name in published.options}
    try:
        with torch.device("meta"):
            return published.make(_checked(sizes), options)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the network {config.network} cannot be built: {error}") from None


def shapes(config: Config, feature: tuple[int, ...] | None, plain: Mapping[str, Any]) -> Shapes:
    """Of a state's tensors."""
    del feature
    network = empty(config, plain.get("sizes"))
    moments = dict.fromkeys(MOMENTS if config.moments else (), (3, "rows", "columns"))
    return {name: tuple(one.shape) for name, one in network.state_dict().items()} | moments


def as_published(config: Config, tensors: Mapping[str, NDArray[Any]]) -> State:
    """The authors' weights with no calibration: the probability is the published one."""
    sizes = sizes_of(config, {name: value.shape for name, value in tensors.items()})
    return State(tensors, {"sizes": sizes, "slope": 1.0, "intercept": 0.0})


def published_threshold(config: Config, plain: Mapping[str, Any]) -> float:
    """The score at or above which the published decision, before calibration, is fake."""
    half = np.float32(logistic(np.array([plain["intercept"]]))[0])
    return float(half if takes_ties(config.decision) else np.nextafter(half, np.float32(1)))


def fit(config: Config, train: Examples, val: Examples, control: Control) -> State:
    """The weights of `control.weights`, calibrated on `val`. Training rows are not read."""
    del train
    if control.weights is None:
        raise ValueError("a published detector has the weights of a file; name an entry of a manifest in 'pretrained'")
    state = as_published(config, control.weights)
    parts, done = [], 0
    for block in val.blocks(BLOCK_ROWS):
        parts.append(decision(config, state, block, control.device))
        done += len(block)
        control.report(done, len(val))
    slope, intercept = platt(np.concatenate(parts), val.labels)
    return State(state.tensors, {**state.plain, "slope": slope, "intercept": intercept})


def loaded(config: Config, state: State, device: str) -> Any:
    """The network (an nn.Module) of a state, ready to score."""
    import torch

    network = empty(config, state.plain.get("sizes"))
    of_network = {name: value for name, value in state.tensors.items() if name not in MOMENTS}
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in of_network.items()}
    network.load_state_dict(tensors, assign=True)
    return network.to(device).eval()


def network_of(config: Config, state: State, device: str) -> Any:
    """The same, made once for a state; nobody may change it."""
    return built(state, (config.model_dump_json(), device), lambda: loaded(config, state, device))


def decision(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float64]:
    """Logit (n,) float64 as published, above 0 = fake, of rows as stored."""
    import torch

    from detectors.transfers import Fetched, sent

    network = network_of(config, state, device)
    waiting, found = None, []

    def logits(outputs: Sequence[Fetched], areas: Sequence[int], count: int) -> NDArray[np.float64]:
        parts = [fake_logit(output.array(), config.decision) for output in outputs]
        mean: NDArray[np.float64] = np.average(parts, axis=0, weights=areas)[:count]
        return mean

    with torch.inference_mode():
        for rows, count in _padded(features, config.micro_batch):
            parts, areas = zip(*_parts(config, prepared(config, state, rows)), strict=True)
            outputs = [Fetched(network(sent(part, device))) for part in parts]
            if waiting is not None:  # read after the next rows have been queued: a GPU never waits
                found.append(logits(*waiting))
            waiting = outputs, areas, count
    return np.concatenate([*found, logits(*waiting)]) if waiting is not None else np.empty(0)


def _padded(rows: NDArray[Any], size: int) -> Iterator[tuple[NDArray[Any], int]]:
    """Groups of exactly `size` rows, the last one repeats its last row; and how many of them count."""
    for start in range(0, len(rows), size):
        places = np.minimum(np.arange(start, start + size), len(rows) - 1)
        yield rows[places], min(size, len(rows) - start)


def prepared(config: Config, state: State, rows: NDArray[Any]) -> NDArray[np.float32]:
    """What the network gets of rows as stored."""
    if config.preprocessing is None:
        return rows.astype(np.float32)
    if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[3] != 3:
        raise ValueError(
            f"{config.network} reads pictures (height, width, 3) of 8 bits, but '{config.feature}' is "
            f"{rows.shape[1:]} of {rows.dtype}; name the field of the images in 'feature'"
        )
    made = np.stack([config.preprocessing(row) for row in rows])
    if config.moments is None:
        return made
    mean, variance = (state.tensors[name] for name in MOMENTS)
    if made.shape[1:] != mean.shape:
        raise ValueError(
            f"spectra of {config.network} are {made.shape[1:]}, but their moments {mean.shape}; set the crop of these"
        )
    return standardized(made.astype(np.float64), mean, variance)


def _parts(config: Config, x: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """What the network looks at one after another, each with its weight."""
    if config.preprocessing is not None and config.preprocessing.parts:
        yield from tiles(x)
    else:
        yield x, 1


def score(config: Config, state: State, features: NDArray[Any], device: str = "cpu") -> NDArray[np.float32]:
    """Probability of being fake (n,) float32 for pictures or features (n, ...) as stored."""
    return calibrated(decision(config, state, features, device), state.plain)
