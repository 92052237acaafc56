"""From a StarGAN v2 checkpoint, as `checkpoints` reads it, to the arguments and tensors of our networks.

The authors' files hold tensors and no settings, so that the networks are found from the shapes: "nets_ema.ckpt" has the
averaged generator, mapping network and style encoder, for faces also the landmark network; "nets.ckpt" has the networks
as trained and the discriminator. The landmark network may also come from its own file, "wing.ckpt".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed
from stages.weights.checkpoints import Contents, Converted
from stages.weights.filling import check_tensors
from stages.weights.kinds import ADD_LANDMARKS
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]

PARTS = ("generator", "mapping_network", "style_encoder")
LANDMARKS = "fan"
COUNTER = "num_batches_tracked"  # of batch normalization while training
FILTER = "hpf.filter"  # a constant, which the released file for faces lacks
LAPLACIAN = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], dtype=np.float64)


def recognize(contents: Contents) -> str | None:
    """What a file has: "networks", "discriminator" (alone) or "landmarks" (wing.ckpt); None: it is not StarGAN v2."""
    if all(part in contents.networks for part in PARTS):
        return "networks"
    if _discriminator_name(contents) is not None:
        return "discriminator"
    return "landmarks" if _landmarks_name(contents) is not None else None


def _discriminator_name(contents: Contents) -> str | None:
    wanted = {"main.0.weight", "main.1.conv1.weight"}
    return next((name for name in ("discriminator", "") if wanted <= _tensors(contents, name).keys()), None)


def _landmarks_name(contents: Contents) -> str | None:
    wanted = "m0.coordconv.conv.weight"
    return next((name for name in (LANDMARKS, "state_dict", "") if wanted in _tensors(contents, name)), None)


def _tensors(contents: Contents, name: str) -> Mapping[str, Array]:
    return contents.networks[name].tensors if name in contents.networks else {}


def generator(contents: Contents, which: str = "average") -> Converted:
    """The generator of a checkpoint, which may have the entries of a wing.ckpt beside its networks.

    A file has either the averaged networks or, beside a discriminator, those that were trained: "average" takes what
    the file has (the result's `source` says which), "raw" refuses averaged ones. Without a landmark network a generator
    for faces is converted as it is: no edges of the source are carried over. Raises WeightsError.
    """
    form = recognize(contents)
    if form == "landmarks":
        raise WeightsError(
            f"it is the landmark network of StarGAN2 alone; put it beside the networks of images: {ADD_LANDMARKS}"
        )
    if form != "networks":
        found = listed(contents.networks) or "no networks"
        raise WeightsError(f"it has no StarGAN2 generator: expected {', '.join(PARTS)}, found {found}")
    source = "nets" if "discriminator" in contents.networks else "nets_ema"
    if which == "raw" and source == "nets_ema":
        raise WeightsError("it has the averaged networks of StarGAN2; those as trained are in the file nets.ckpt")
    parts = {name: dict(_tensors(contents, name)) for name in PARTS}
    architecture = _architecture(parts)
    kernel = parts["generator"].pop(FILTER, None)
    if architecture["w_hpf"]:
        architecture["w_hpf"] = _divisor(kernel)
        name = _landmarks_name(contents)
        if name is not None:
            architecture["fan"] = True
            parts[LANDMARKS] = _landmark_tensors(_tensors(contents, name), only_known=name != LANDMARKS)
    elif kernel is not None:
        raise WeightsError(f"its generator has {FILTER}, but no blocks for the edges that this filter finds")
    tensors = {f"{part}.{name}": array for part, own in parts.items() for name, array in own.items()}
    return Converted("stargan2", architecture, _checked(architecture, tensors), {"psi": 1.0, "cutoff": None}, source)


def discriminator(contents: Contents) -> Converted | None:
    """The discriminator of a checkpoint or of a file of its own; None if there is none. Raises WeightsError."""
    name = _discriminator_name(contents)
    if name is None:
        return None
    tensors = _tensors(contents, name)
    blocks = _count(tensors, r"main\.(\d+)\.conv1\.weight")
    last = f"main.{blocks + 4}.weight"
    architecture = {**_trunk(tensors, "main", blocks), "c_dim": _side(tensors, last, 0)}
    checked = _checked(architecture, tensors, discriminator=True)
    return Converted("stargan2", architecture, checked, {"psi": 1.0, "cutoff": None}, name or "discriminator")


def _architecture(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Any]:
    """Arguments of `stargan2.Generator`; w_hpf is 1 if there is the further block that edges come with."""
    translator, mapping, encoder = (parts[name] for name in PARTS)
    halvings = _count(encoder, r"shared\.(\d+)\.conv1\.weight")
    blocks = _count(translator, r"encode\.(\d+)\.conv1\.weight")
    if blocks not in (halvings, halvings + 1):  # the translator halves once or twice less and has two more blocks
        shape = f"a style encoder of {halvings} blocks"
        raise WeightsError(f"its generator has {blocks} encoding blocks; beside {shape}, {halvings} or one more fit")
    return {
        **_trunk(encoder, "shared", halvings),
        "z_dim": _side(mapping, "shared.0.weight", 1),
        "w_dim": _side(mapping, "unshared.0.6.weight", 0),
        "c_dim": _count(mapping, r"unshared\.(\d+)\.0\.weight"),
        "mapping_width": _side(mapping, "shared.0.weight", 0),
        "w_hpf": float(blocks > halvings),
        "fan": False,
    }


def _trunk(tensors: Mapping[str, Array], name: str, blocks: int) -> dict[str, Any]:
    """What the layers that style encoder and discriminator share say about all networks."""
    if blocks not in range(3, 11):
        raise WeightsError(f"it has {blocks} halving blocks; a StarGAN2 for 32 to 4096 pixels has 3 to 10")
    first, last = f"{name}.0.weight", f"{name}.{blocks + 2}.weight"
    return {
        "resolution": 4 << blocks,
        "width": _side(tensors, first, 0),
        "max_width": _side(tensors, last, 0),
        "colors": _side(tensors, first, 1),
    }


def _count(tensors: Mapping[str, Array], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def _side(tensors: Mapping[str, Array], name: str, axis: int) -> int:
    if name not in tensors:
        raise WeightsError(f"it lacks the tensor {name!r} of a StarGAN2 network")
    shape = np.shape(tensors[name])
    if len(shape) < 2:
        raise WeightsError(f"its tensor {name!r} has shape {shape}, expected at least two axes")
    return int(shape[axis])


def _divisor(kernel: Array | None) -> float:
    """w_hpf of a stored filter, which is the Laplacian over it; 1 if none is stored."""
    if kernel is None:
        return 1.0
    center = float(kernel[1, 1]) if np.shape(kernel) == (3, 3) else 0.0
    if not (np.isfinite(center) and center > 0 and np.allclose(kernel, LAPLACIAN * center / 8, rtol=1e-6, atol=0)):
        raise WeightsError(f"its {FILTER} is not the Laplacian of 3x3 pixels over a number")
    return 8 / center


def _landmark_tensors(tensors: Mapping[str, Array], *, only_known: bool) -> dict[str, Array]:
    """Without counters; `only_known`: without tensors that the network does not have, which wing.ckpt may hold."""
    import torch

    from stages.generators.stargan2_masks import LandmarkNetwork

    kept = {name: array for name, array in tensors.items() if not name.endswith(COUNTER)}
    if not only_known:
        return kept
    with torch.device("meta"):
        known = LandmarkNetwork().state_dict()
    return {name: array for name, array in kept.items() if name in known}


def _checked(
    architecture: Mapping[str, Any], tensors: Mapping[str, Array], discriminator: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Tensors as float32 whose names and shapes are those of the network, built without values."""
    import torch

    from stages.generators.stargan2 import Generator
    from stages.generators.stargan2_discriminator import Discriminator

    try:
        with torch.device("meta"):
            network = Discriminator(**architecture) if discriminator else Generator(**architecture)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"its architecture {dict(architecture)} cannot be built: {error}") from error
    return check_tensors("its StarGAN2", tensors, network)
