"""Detector families by name. A family's module is imported when a pipeline uses it, and never before.

This file and the presets stand outside every code closure: a new family or preset changes no trained model.
"""

from detectors.presets import PRESETS

FAMILIES = {
    "svm": "detectors.svm",
    "logistic": "detectors.logistic",
    "cnn": "detectors.cnn",
    "deep": "detectors.deep",
    "prnu": "detectors.prnu",
    "threshold": "detectors.threshold",
    "forest": "detectors.forest",
    "kmeans": "detectors.kmeans",
    "eigenfaces": "detectors.eigenfaces",
    "neighbors": "detectors.neighbors",
    "fusion": "detectors.fusion",
    "published": "detectors.published_family",
    "joint_classifier": "detectors.joint_classifier",
}

__all__ = ["FAMILIES", "PRESETS"]
