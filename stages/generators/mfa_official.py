"""From a state dict of torch-mfa, the public program of Richardson and Weiss, to our mixture of factor analyzers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed
from stages.weights.checkpoints import Contents, Converted
from stages.weights.weights_file import WeightsError

AXES = {"MU": 2, "A": 3, "log_D": 2, "PI_logits": 1}


def recognize(contents: Contents) -> str | None:
    """Name of the form of a file, or None: not a mixture of factor analyzers."""
    return "torch-mfa" if any(AXES.keys() <= set(one.tensors) for one in contents.networks.values()) else None


def discriminator(contents: Contents) -> Converted | None:
    """None: the family has none."""
    return None


def generator(contents: Contents, which: str = "average") -> Converted:
    """The mixture; there is but one, whatever `which` says. Raises WeightsError."""
    source = next(name for name, one in contents.networks.items() if AXES.keys() <= set(one.tensors))
    tensors = contents.networks[source].tensors
    if others := sorted(set(tensors) - set(AXES)):
        raise WeightsError(f"it is a mixture of factor analyzers with the unknown tensors {listed(others)}")
    found = {name: _taken(tensors[name], name) for name in AXES}
    components, values, factors = found["A"].shape
    shapes = {"MU": (components, values), "log_D": (components, values), "PI_logits": (components,)}
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise WeightsError(f"its {name} has shape {found[name].shape}, and A {found['A'].shape}, which do not fit")
    side = math.isqrt(values // 3)
    if values != 3 * side * side:
        raise WeightsError(f"its vectors have {values} values, which are no square image of three colors")
    equal = bool((found["log_D"] == found["log_D"][:, :1]).all())
    architecture = {
        "components": components, "z_dim": factors, "resolution": side, "c_dim": 0,
        "noise": "scalar" if equal else "diagonal",
    }  # fmt: skip
    noise = found["log_D"][:, 0] if equal else found["log_D"]
    ours = {"means": found["MU"], "loadings": found["A"], "log_noise": noise, "logits": found["PI_logits"]}
    import torch

    from stages.generators import mfa
    from stages.weights.filling import check_tensors

    try:
        with torch.device("meta"):
            network = mfa.build(architecture)
    except ValueError as error:
        raise WeightsError(f"it has an impossible architecture: {error}") from error
    checked = check_tensors("its mixture", ours, network)
    return Converted("mfa", architecture, checked, {"psi": 1.0, "cutoff": None}, source)


def _taken(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.ndim != AXES[name] or array.dtype.kind != "f":
        raise WeightsError(
            f"its {name} has shape {array.shape} of {array.dtype}; expected {AXES[name]} axes of floating-point numbers"
        )
    return np.asarray(array, dtype=np.float32)
