"""What a joint training leaves beside its re-synthesizer: the classifier, what is promised of it, and its fakes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stage import Rows
from stages.resynthesis.weights import FORMAT

CLASSIFIER = "classifier.safetensors"


def promised(joint: Any) -> dict[str, Any]:
    """What a training with these settings (`JointSettings`, or None) promises of its classifier."""
    return {} if joint is None else {"joint": {"classifier": joint.classifier, "feature": joint.feature}}


def save_classifier(path: Path, joint: Any, tensors: Mapping[str, Any]) -> None:
    """Weights of the classifier, with a header that says which network it is."""
    from pipeline.atomic import write_bytes
    from stages.weights import safetensors_file

    about = {
        "format": FORMAT,
        "network": joint.classifier,
        "feature": joint.feature,
        "classes": ["real", "fake"],
    }
    write_bytes(path, safetensors_file.pack(tensors, about))


def ids_digest(rows: Rows) -> str:
    """SHA-256 (32 hex digits) of the different ids of rows, whatever was made of these images."""
    different = sorted(set(rows.ids.tolist()))
    return hashlib.sha256(np.array(different, dtype="V16").tobytes()).hexdigest()[:32]
