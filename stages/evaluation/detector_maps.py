"""Where a detector looks in rows as stored: probabilities of its cells, or what each place adds to its decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import cells, heat_maps
from pipeline.errors import StageError
from stages.evaluation.detector_file import Detector

PROBABILITY, CONTRIBUTION = "probability of fake of each cell", "what each cell adds to the decision for fake"


@dataclass(frozen=True)
class DetectorMaps:
    """A network with maps of places. meaning: of their values, larger is more fake."""

    config: Any
    state: Any
    meaning: str

    @classmethod
    def of(cls, detector: Detector) -> DetectorMaps:
        """Raises StageError where there are no maps of places."""
        config: Any = detector.config
        state = detector.state
        if config.family == "cnn":
            from detectors import cnn

            config, state = cnn.composed(config), cnn.with_prefix(state)
        if config.family not in ("deep", "published"):
            raise StageError(f"the detector has no maps: '{config.family}' is no network on maps of places")
        if cells.speaks_by_cells(config):
            return cls(config, state, PROBABILITY)
        try:
            heat_maps.check_places(config, state)
        except ValueError as error:
            raise StageError(f"the detector has no maps: {error}") from None
        return cls(config, state, CONTRIBUTION)

    def __call__(self, features: NDArray[Any], device: str) -> NDArray[np.float64]:
        """(n, h, w) of rows (n, ...)."""
        if self.meaning == PROBABILITY:
            return cells.probabilities(self.config, self.state, features, device)
        made = heat_maps.of_published if self.config.family == "published" else heat_maps.of_rows
        return made(self.config, self.state, features, device).astype(np.float64)


def combined(real: NDArray[np.float64], fake: NDArray[np.float64], sigma: float = 2.0) -> NDArray[np.float64]:
    """(h, w) from 0 to 1, large where both classes are told right: (fake - real) / 2 of mean maps, smoothed, stretched.

    Chai et al. 2020, figure 3. A map that spans 0.001 or less is not stretched.
    """
    from scipy.ndimage import gaussian_filter

    whole: NDArray[np.float64] = gaussian_filter((fake - real) / 2 + 0.5, sigma)
    return stretched(whole)


def stretched(one: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the least to the largest value to 0..1; as it is where these are 0.001 or less apart."""
    low, high = float(one.min()), float(one.max())
    return (one - low) / (high - low) if high - low > 1e-3 else one


def overlaid(picture: NDArray[np.uint8], shares: NDArray[np.float64], strength: float = 0.5) -> NDArray[np.uint8]:
    """(H, W, 3): a picture under a map (h, w) of 0..1, from blue to red, enlarged bilinearly."""
    import torch

    from stages.predicting.heat_pictures import FAKE, REAL

    large = heat_maps.enlarged(torch.from_numpy(shares)[None].float(), (picture.shape[0], picture.shape[1]))[0].numpy()
    color = large[..., None] * FAKE + (1 - large[..., None]) * REAL
    return np.rint((1 - strength) * picture + strength * color).clip(0, 255).astype(np.uint8)
