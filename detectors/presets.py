"""Published settings by name. A preset becomes the full config before anything is hashed: only values count."""

from __future__ import annotations

from typing import Any

NEIGHBORS = [1, *(2**power + 1 for power in range(1, 11))]

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}

CNNDETECTION: dict[str, Any] = {
    "learning_rate": 1e-4,
    "rate": {"rule": "plateau", "protocol": "reference"},
    "select": "accuracy",
    "batch": 64,
    "epochs": 1000,
}
"""Adam; the rule of the rate ends a training, long before the epochs do."""

PRESETS: dict[str, dict[str, Any]] = {
    # Durall et al. 2019, CelebA: 80 elements, divided by the first, SVC with a radial kernel
    "profile-svm": {
        "family": "svm",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "kernel": "rbf",
        "C": 6.37,
        "gamma": 0.86,
    },
    # the same features, logistic regression (liblinear, 1000 iterations)
    "profile-logistic": {
        "family": "logistic",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "C": 1.0,
        "max_iterations": 1000,
    },
    # the same, but validation rows choose
    "profile-svm-search": {
        "family": "svm",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "kernel": "rbf",
        "C": [6.37, 0.1, 1.0, 10.0, 100.0],
        "gamma": [0.86, 0.01, 0.1, 1.0, 10.0],
    },
    # no published settings: those of scikit-learn
    "profile-forest": {
        "family": "forest",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "trees": 100,
    },
    # Durall et al. 2019, unsupervised; how their tables name the clusters is the second
    "profile-kmeans": {
        "family": "kmeans",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "named_by": "validation",
    },
    "profile-kmeans-all": {
        "family": "kmeans",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "named_by": "all",
    },
    # one element tells their CelebA set's classes apart
    "profile-threshold": {
        "family": "threshold",
        "feature": "profile",
        "normalization": "divide_by_first",
        "length": 80,
        "element": 10,
        "larger": "learned",
    },
    # Frank et al. 2020: log DCT coefficients, standardized with training statistics
    "dct2d-cnn": {"family": "cnn", "feature": "dct2d", "normalization": "standardize", "head": "flatten"},
    # Zhang et al. 2019 (AutoGAN): log FFT magnitude scaled by its 5th and 95th percentile
    "fft2d-cnn": {"family": "cnn", "feature": "fft2d", "normalization": "percentile", "head": "flatten"},
    # Marra et al. 2019; the fingerprint as in Frank et al. 2020, whose rule is the argmax
    "prnu": {"family": "prnu", "feature": "prnu", "terms": "prnu_terms", "rule": "fake"},
    "prnu-argmax": {"family": "prnu", "feature": "prnu", "terms": "prnu_terms", "rule": "difference"},
    # He et al. 2021, Fig. 4: nothing is learned but a threshold on the mean pixel residual
    "residual-mean": {"family": "threshold", "feature": "residual_pixel_mean", "larger": "fake"},
    # features of He et al. 2021 as they come, in a small network instead of their ResNet-50
    "residual-pixel": {"family": "cnn", "feature": "residual_pixel", "normalization": "none", "head": "pool"},
    "residual-stage5": {
        "family": "cnn",
        "feature": "residual_stage5",
        "normalization": "none",
        "head": "pool",
        "widths": [32, 32],
    },
    # pixels in a small network with mirrored images: the composed detector at its shortest
    "pixel-compact": {
        "family": "deep",
        "feature": "image",
        "network": {"architecture": "compact"},
        "preprocessing": {"scaling": "symmetric"},
        "augmentation": [{"augmentation": "flip"}],
        "head": {"kind": "classes"},
        "training": {"stop": {"rule": "patience"}},
    },
    # Wang et al. 2020, in the order of their program, from scratch; theirs begins with ImageNet's weights, draws one of
    # two codecs, and makes images 256 pixels large before, which is the stage equalize here
    **{
        f"cnndetection-{probability}": {
            "family": "deep",
            "feature": "image",
            "network": {"architecture": "resnet", "depth": 50},
            "preprocessing": {"crop": {"size": 224}, "scaling": "unit", **IMAGENET},
            "augmentation": [
                {"augmentation": "blur", "probability": probability},
                {"augmentation": "jpeg", "probability": probability},
                {"augmentation": "crop", "size": 224},
                {"augmentation": "flip"},
            ],
            "training": CNNDETECTION,
        }
        for probability in (0.1, 0.5)
    },
    # the same for minutes of a processor and images of 64 pixels
    "cnndetection-small": {
        "family": "deep",
        "feature": "image",
        "network": {"architecture": "small_cnn", "places": "mean"},
        "preprocessing": {"crop": {"size": 56}, "scaling": "unit", **IMAGENET},
        "augmentation": [
            {"augmentation": "blur", "probability": 0.5},
            {"augmentation": "jpeg", "probability": 0.5},
            {"augmentation": "crop", "size": 56},
            {"augmentation": "flip"},
        ],
        "training": {**CNNDETECTION, "learning_rate": 1e-3, "epochs": 30},
    },
    # Eq. 4 of He et al. 2021
    "fusion": {"family": "fusion", "mean": "probability"},
    "pixel-cnn": {"family": "cnn", "feature": "image", "normalization": "pixels", "head": "pool"},
    # baselines of Frank et al. 2020
    "eigenfaces": {"family": "eigenfaces", "feature": "image", "scaling": "pixels"},
    "dct2d-eigenfaces": {"family": "eigenfaces", "feature": "dct2d", "scaling": "standardize"},
    "knn": {"family": "neighbors", "feature": "image", "scaling": "none", "k": NEIGHBORS},
    "dct2d-knn": {"family": "neighbors", "feature": "dct2d", "scaling": "standardize", "k": NEIGHBORS},
}

# Keuper's lecture: vertical and horizontal frequencies on their own. Their DC lies in the middle, so no first element
# could divide them.
for _side in ("row-profile", "column-profile"):
    _native = {"feature": _side.replace("-", "_"), "normalization": "min_max"}
    PRESETS[f"{_side}-svm"] = {"family": "svm", **_native, "kernel": "rbf", "C": 6.37, "gamma": "scale"}
    PRESETS[f"{_side}-logistic"] = {"family": "logistic", **_native}
    PRESETS[f"{_side}-forest"] = {"family": "forest", **_native}
    PRESETS[f"{_side}-kmeans"] = {"family": "kmeans", **_native}
