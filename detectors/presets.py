"""Published settings by name. A preset becomes the full config before anything is hashed: only values count."""

from __future__ import annotations

from typing import Any

NEIGHBORS = [1, *(2**power + 1 for power in range(1, 11))]

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}
CLIP: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "deviation": [0.26862954, 0.26130258, 0.27577711],
}

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
    # single numbers that should tell nothing: a detector that does no better has shown nothing
    **{
        name: {"family": "threshold", "feature": name.replace("-", "_"), "larger": "learned"}
        for name in ("clipped", "border-step", "spectral-slope", "bytes-per-pixel")
    },
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

# He et al. 2021, section 4.5: momentum, a tenth of the rate after epoch 10; the batch is not stated. Their program has
# a quarter of a cosine over 100 epochs and batches of 10, and takes gradients 0.02 times before the decay is added, so
# that its rate 0.01 and decay 1e-4 act as these; it keeps the last epoch. It mirrors half of the images before the
# residual is made, which is no augmentation of stored residuals: for `code`, put the stage flip before residual.
HE2021: dict[str, dict[str, Any]] = {
    "paper": {
        "optimizer": {"method": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "learning_rate": 0.01,
        "rate": {"rule": "steps", "after": [10]},
        "epochs": 20,
    },
    "code": {
        "optimizer": {"method": "sgd", "momentum": 0.9, "weight_decay": 5e-3},
        "learning_rate": 2e-4,
        "rate": {"rule": "quarter_cosine", "epochs": 100},
        "epochs": 100,
        "batch": 10,
        "balance": False,
        "select": "last",
    },
}
for _level in ("pixel", *(f"stage{_stage}" for _stage in range(1, 6))):
    _residual = {"family": "deep", "feature": f"residual_{_level}", "head": {"kind": "classes"}}
    _network: dict[str, Any] = {"architecture": "deep_stem_resnet50"}
    for _which, _training in HE2021.items():
        PRESETS[f"residual-{_level}-{_which}"] = {**_residual, "network": _network, "training": _training}
    # for maps of images of 256 pixels and less, a deviation: no strides before the first stage
    PRESETS[f"residual-{_level}-unstrided"] = {
        **_residual,
        "network": {**_network, "early_strides": False},
        "training": HE2021["paper"],
    }

# Chai et al. 2020, Table 1, and their program: images enlarged to 299 or 224 by Lanczos, Adam, mirrored images; chosen
# is an epoch by the share of right cells (whole networks: of images), and five times as many stale epochs are the end
_BLOCKS = {1: 50, 2: 20, 3: 10, 4: 10, 5: 10}
CHAI2020: dict[str, tuple[int, int, dict[str, Any]]] = {
    **{
        f"patch-xception-block{block}": (299, patience, {"architecture": "xception", "last_block": block})
        for block, patience in _BLOCKS.items()
    },
    "patch-resnet18-layer1": (
        224,
        10,
        {"architecture": "resnet", "depth": 18, "stages": 1, "patches": True, "initial": "xavier"},
    ),
    "xception": (299, 10, {"architecture": "xception"}),
    "resnet18": (224, 10, {"architecture": "resnet", "depth": 18, "initial": "xavier"}),
}
for _name, (_size, _patience, _network) in CHAI2020.items():
    _cells = _name.startswith("patch-")
    PRESETS[_name] = {
        "family": "deep",
        "feature": "image",
        "network": _network,
        "preprocessing": {"resize": {"size": _size}, "crop": {"size": _size}, "scaling": "symmetric"},
        "augmentation": [{"augmentation": "flip"}],
        "head": {"kind": "patches" if _cells else "classes"},
        "training": {
            "stop": {"rule": "stale", "patience": _patience},
            "epochs": 1000,
            "select": "cell_accuracy" if _cells else "accuracy",
        },
    }

# CNN (p) of Chai et al. 2020, section 3.3: the released weights (`start_from` of the stage train) go on at a small
# rate, with the stop rule of their other networks
for _probability in (0.1, 0.5):
    _released = PRESETS[f"cnndetection-{_probability}"]
    _slowly = {"learning_rate": 1e-6, "stop": {"rule": "stale", "patience": 10}, "select": "accuracy", "epochs": 1000}
    PRESETS[f"cnndetection-{_probability}-finetuned"] = {**_released, "training": _slowly}

# Tan et al. 2024, Cavia et al. 2024 and Liang et al. 2025, as their programs train: images of 256 pixels, of which
# crops of 224 are drawn and mirrored. They score whole images of 256; here a training and a scoring see as many pixels.
# Tiny-LaDeDa learned logits that LaDeDa gives to patches; here it learns labels, with the same optimizer.
SMALL_TRACES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "npr": (
        {"architecture": "npr"},
        IMAGENET,
        {
            "learning_rate": 2e-4,
            "rate": {"rule": "steps", "after": [11, 21, 31, 41], "by": 0.8},
            "epochs": 50,
            "select": "last",
        },
    ),
    "ladeda": (
        {"architecture": "ladeda"},
        IMAGENET,
        {
            "learning_rate": 1e-4,
            "rate": {"rule": "plateau", "protocol": "reference", "patience": 15, "by": 0.9, "rates": 44},
            "select": "accuracy",
            "batch": 64,
            "epochs": 1000,
        },
    ),
    "tiny-ladeda": (
        {"architecture": "tiny_ladeda"},
        IMAGENET,
        {"learning_rate": 2e-4, "select": "accuracy", "epochs": 100},
    ),
    "ferretnet-s": (
        {"architecture": "ferretnet"},
        CLIP,
        {
            "optimizer": {"method": "adam", "betas": [0.937, 0.999], "weight_decay": 5e-4},
            "learning_rate": 2e-4,
            "select": "accuracy",
            "epochs": 100,
        },
    ),
}
for _name, (_network, _colors, _training) in SMALL_TRACES.items():
    PRESETS[_name] = {
        "family": "deep",
        "feature": "image",
        "network": _network,
        "preprocessing": {"crop": {"size": 224}, "scaling": "unit", **_colors},
        "augmentation": [{"augmentation": "crop", "size": 224}, {"augmentation": "flip"}],
        "training": _training,
    }
# Afchar et al. 2018 as a baseline of Chai et al. 2020: squared error; the stop rule is that of the others
PRESETS["mesoinception4"] = {
    **PRESETS["resnet18"],
    "network": {"architecture": "mesoinception4"},
    "preprocessing": {"resize": {"size": 256}, "crop": {"size": 256}, "scaling": "unit"},
    "head": {"kind": "squared_error"},
}

_IMAGES: dict[str, Any] = {
    "family": "deep",
    "feature": "image",
    "preprocessing": {"scaling": "symmetric"},
    "augmentation": [{"augmentation": "flip"}],
    "head": {"kind": "classes"},
}
_FRANK: dict[str, Any] = {
    "family": "deep",
    "feature": "dct2d",
    "preprocessing": {"scaling": "standardize"},
    "training": {"stop": {"rule": "patience", "epochs": 5}},
}
_AUTOGAN: dict[str, Any] = {
    "optimizer": {"method": "sgd", "momentum": 0.9, "dampening": 0.9, "weight_decay": 1e-4},
    "learning_rate": 0.01,
    "epochs": 10,
    "batch": 64,
}
_CROPPED = {"size": 224}
_CURVES: dict[str, Any] = {**_FRANK, "network": {"architecture": "mlp"}}
_SMALL: dict[str, Any] = {"epochs": 12, "stop": {"rule": "patience", "epochs": 4}}
_RESNET = {"architecture": "resnet", "depth": 18, "kernel": 3, "width": 8}

PRESETS |= {
    # He et al. 2021 compare an image classifier (Yu et al. 2019): ResNet-50 in their own schedule, and its own network
    "image-resnet50": {
        **_IMAGES,
        "network": {"architecture": "resnet", "depth": 50},
        "training": HE2021["paper"],
    },
    "image-yu": {
        **_IMAGES,
        "network": {"architecture": "yu_classifier"},
        "training": {"optimizer": {"method": "adam", "betas": [0.0, 0.99]}, "stop": {"rule": "patience", "epochs": 10}},
    },
    # Gragnaniello et al. 2021: a ResNet-50 without early strides; trained as Wang et al. 2020, without blur and JPEG
    "nodown-resnet50": {
        "family": "deep",
        "feature": "image",
        "network": {"architecture": "resnet", "depth": 50, "early_strides": [1, 1]},
        "preprocessing": {"scaling": "unit", **IMAGENET},
        "augmentation": [{"augmentation": "flip"}],
        "training": CNNDETECTION,
    },
    # Liu et al. 2020: values 0..255 of 512 pixels; their random reduction before is left out
    "gramnet": {
        "family": "deep",
        "feature": "image",
        "network": {"architecture": "gramnet"},
        "preprocessing": {"resize": {"size": 512, "sides": "both", "filter": "bilinear"}},
        "head": {"kind": "classes"},
        "training": {
            "optimizer": {"method": "adam", "weight_decay": 1e-4},
            "learning_rate": 1e-5,
            "epochs": 10,
            "batch": 16,
        },
    },
    # Zhang et al. 2019: spectra of crops of 224 of 256 pixels; or of whole images, as the stage spectrum stores them
    "fft2d-autogan": {
        "family": "deep",
        "feature": "image",
        "network": {"architecture": "resnet", "depth": 34},
        "preprocessing": {"crop": _CROPPED, "spectrum": "log_fourier", "scaling": "percentile"},
        "augmentation": [{"augmentation": "crop", **_CROPPED}],
        "head": {"kind": "classes"},
        "training": _AUTOGAN,
    },
    "fft2d-resnet34": {
        "family": "deep",
        "feature": "fft2d",
        "network": {"architecture": "resnet", "depth": 34},
        "preprocessing": {"scaling": "percentile"},
        "head": {"kind": "classes"},
        "training": _AUTOGAN,
    },
    # Frank et al. 2020: no penalty, ridge, lasso and both; their CNN and their two deeper networks
    "dct2d-linear": {**_FRANK, "network": {"architecture": "linear"}},
    "dct2d-ridge": {**_FRANK, "network": {"architecture": "linear", "l2": 0.01}},
    "dct2d-lasso": {**_FRANK, "network": {"architecture": "linear", "l1": 0.01}},
    "dct2d-elastic": {**_FRANK, "network": {"architecture": "linear", "l1": 0.01, "l2": 0.01}},
    "dct2d-frank-cnn": {**_FRANK, "network": {"architecture": "frank_cnn"}},
    "dct2d-frank-resnet": {**_FRANK, "network": {"architecture": "frank_resnet"}},
    "dct2d-frank-mlp": {**_FRANK, "network": {"architecture": "mlp", "l2": 0.01}},
    "dct2d-resnet50": {**_FRANK, "network": {"architecture": "resnet", "depth": 50}},
    # Keuper's lecture asks for a small network; the training is that of Frank et al. 2020
    "profile-mlp": {**_CURVES, "feature": "profile"},
    "row-profile-mlp": {**_CURVES, "feature": "row_profile"},
    "column-profile-mlp": {**_CURVES, "feature": "column_profile"},
    # the same families for minutes of a processor and images of 64 pixels
    "patch-resnet-small": {
        **_IMAGES,
        "network": {**_RESNET, "width": 16, "stages": 1, "patches": True},
        "head": {"kind": "patches"},
        "training": {**_SMALL, "select": "cell_accuracy"},
    },
    "pixel-resnet-small": {**_IMAGES, "network": _RESNET, "training": _SMALL},
    "residual-resnet-small": {
        "family": "deep",
        "feature": "residual_pixel",
        "network": _RESNET,
        "head": {"kind": "classes"},
        "training": _SMALL,
    },
    # crops, as it runs at full resolution
    "meso-small": {
        **PRESETS["mesoinception4"],
        "preprocessing": {"crop": {"size": 40}, "scaling": "unit"},
        "augmentation": [{"augmentation": "crop", "size": 40}, {"augmentation": "flip"}],
        "training": {**_SMALL, "select": "accuracy"},
    },
    "gram-small": {**_IMAGES, "network": {"architecture": "gramnet", "width": 8}, "training": _SMALL},
}
