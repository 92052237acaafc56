"""A published detector as a model that can be asked about images: an entry of a manifest, without a run."""

from __future__ import annotations

from pipeline.errors import ConfigError
from pipeline.open import named_file
from stages.evaluation.detector_file import Detector, card_of
from stages.training.pretrained import as_published, detector_of


def published_model(named: str) -> Detector:
    """The detector of MANIFEST.yaml#ENTRY. Raises ConfigError where there is none, StageError for another file."""
    reference = named_file(named)
    try:
        config = detector_of(named, reference.entry)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    state, facts = as_published(config, reference.path, "cpu", 1)
    return Detector(card_of(config, state, facts), config, state)
