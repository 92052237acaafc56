"""Tensors of other forms of StyleGAN2 by the names and in the layout of our networks, and what their shapes say.

TensorFlow keeps kernels as (height, width, inputs, outputs). The authors' TensorFlow codes (Karras et al. 2020,
arXiv:1912.04958 and 2006.06676) and genforce's copy store kernels that enlarge mirrored, and the biases of styles
without the 1 that is added to them; rosinality's copy stores both as we do. Files of the two copies have no settings:
their networks follow from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generators.stylegan2 import channels
from stages.sentences import printable, shown
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]
Names = Mapping[str, str | Callable[[re.Match[str]], str]]  # pattern of a tensor's name -> our name; "": not needed

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def layer(index: int) -> str:
    """Our name of synthesis layer 0, 1, 2, ...: one at 4 pixels, then two at each side."""
    return f"synthesis.b{4 << (index + 1) // 2}.conv{1 - index % 2}"


PARTS = {
    "Conv0_up": "conv0",
    "Conv0": "conv0",
    "Conv1": "conv1",
    "Conv1_down": "conv1",
    "ToRGB": "torgb",
    "FromRGB": "fromrgb",
    "Skip": "skip",
}
VALUES = {
    "weight": "weight",
    "bias": "bias",
    "mod_weight": "affine.weight",
    "mod_bias": "affine.bias",
    "noise_strength": "noise_strength",
    "noise": "noise_const",
    "style.weight": "affine.weight",
    "style.bias": "affine.bias",
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}
_VALUE = r"(weight|bias|mod_weight|mod_bias|noise_strength)"
TENSORFLOW_GENERATOR: Names = {
    r"lod": "",
    r"dlatent_avg": "mapping.w_avg",
    r"mapping/Dense(\d+)/(weight|bias)": r"mapping.fc\1.\2",
    r"mapping/LabelConcat/weight": "mapping.concat.weight",
    r"mapping/LabelEmbed/(weight|bias)": r"mapping.embed.\1",
    r"synthesis/noise(\d\d?)": lambda found: f"{layer(int(found[1]))}.noise_const",
    r"synthesis/4x4/Const/const": "synthesis.b4.const",
    rf"synthesis/4x4/Conv/{_VALUE}": lambda found: f"synthesis.b4.conv1.{VALUES[found[1]]}",
    rf"synthesis/(\d+)x\1/(Conv0_up|Conv1|ToRGB|Skip)/{_VALUE}": lambda found: (
        f"synthesis.b{found[1]}.{PARTS[found[2]]}.{VALUES[found[3]]}"
    ),
}
TENSORFLOW_DISCRIMINATOR: Names = {
    r"LabelEmbed/(weight|bias)": r"mapping.embed.\1",
    r"Mapping(\d+)/(weight|bias)": r"mapping.fc\1.\2",
    r"(\d+)x\1/(FromRGB|Conv0|Conv1_down|Skip)/(weight|bias)": lambda found: (
        f"b{found[1]}.{PARTS[found[2]]}.{found[3]}"
    ),
    r"4x4/Conv/(weight|bias)": r"b4.conv.\1",
    r"4x4/Dense0/(weight|bias)": r"b4.fc.\1",
    r"Output/(weight|bias)": r"b4.out.\1",
}
GENFORCE_GENERATOR: Names = {
    r"truncation\.w_avg": "mapping.w_avg",
    r"mapping\.dense(\d+)\.(weight|bias)": r"mapping.fc\1.\2",
    r"mapping\.label_weight": "mapping.concat.weight",
    r"synthesis\.early_layer\.const": "synthesis.b4.const",
    r"synthesis\.layer(\d\d?)\.(weight|bias|noise|noise_strength|style\.weight|style\.bias)": lambda found: (
        f"{layer(int(found[1]))}.{VALUES[found[2]]}"
    ),
    r"synthesis\.output(\d)\.(weight|bias|style\.weight|style\.bias)": lambda found: (
        f"synthesis.b{4 << int(found[1])}.torgb.{VALUES[found[2]]}"
    ),
}
_MODULATED = r"(conv\.weight|conv\.modulation\.weight|conv\.modulation\.bias|noise\.weight|activate\.bias)"
_COLORS = r"(conv\.weight|conv\.modulation\.weight|conv\.modulation\.bias|bias)"
ROSINALITY_GENERATOR: Names = {
    r"style\.(\d\d?)\.(weight|bias)": lambda found: f"mapping.fc{int(found[1]) - 1}.{found[2]}",
    r"input\.input": "synthesis.b4.const",
    rf"conv1\.{_MODULATED}": lambda found: f"{layer(0)}.{VALUES[found[1]]}",
    rf"convs\.(\d\d?)\.{_MODULATED}": lambda found: f"{layer(int(found[1]) + 1)}.{VALUES[found[2]]}",
    rf"to_rgb1\.{_COLORS}": lambda found: f"synthesis.b4.torgb.{VALUES[found[1]]}",
    rf"to_rgbs\.(\d)\.{_COLORS}": lambda found: f"synthesis.b{8 << int(found[1])}.torgb.{VALUES[found[2]]}",
    r"noises\.noise_(\d\d?)": lambda found: f"{layer(int(found[1]))}.noise_const",
}


def genforce_discriminator(tensors: Mapping[str, Array]) -> Names:
    """Its layers are counted from the image: two at each side, and one for the score."""
    last = _largest(tensors, r"layer(\d\d?)\.weight")
    side = 4 << max(last - 2, 0) // 2

    def place(found: re.Match[str]) -> str:
        index = int(found[1])
        part = f"b{side >> index // 2}.conv{index % 2}"
        if index >= last - 2:
            part = ("b4.conv", "b4.fc", "b4.out")[min(index, last) - last + 2]
        return f"{part}.{found[2]}"

    return {
        r"layer(\d\d?)\.(weight|bias)": place,
        r"input(\d)\.(weight|bias)": lambda found: f"b{side >> int(found[1])}.fromrgb.{found[2]}",
        r"skip_layer(\d)\.weight": lambda found: f"b{side >> int(found[1])}.skip.weight",
    }


def rosinality_discriminator(tensors: Mapping[str, Array]) -> Names:
    """Its blocks are counted from the image, the colors of which are block 0."""
    side = 4 << _largest(tensors, r"convs\.(\d\d?)\.skip\.1\.weight")

    def place(part: str) -> Callable[[re.Match[str]], str]:
        return lambda found: f"b{2 * side >> int(found[1])}.{part}"

    return {
        r"convs\.0\.0\.weight": f"b{side}.fromrgb.weight",
        r"convs\.0\.1\.bias": f"b{side}.fromrgb.bias",
        r"convs\.(\d\d?)\.conv1\.0\.weight": place("conv0.weight"),
        r"convs\.(\d\d?)\.conv1\.1\.bias": place("conv0.bias"),
        r"convs\.(\d\d?)\.conv2\.1\.weight": place("conv1.weight"),
        r"convs\.(\d\d?)\.conv2\.2\.bias": place("conv1.bias"),
        r"convs\.(\d\d?)\.skip\.1\.weight": place("skip.weight"),
        r"final_conv\.0\.weight": "b4.conv.weight",
        r"final_conv\.1\.bias": "b4.conv.bias",
        r"final_linear\.0\.(weight|bias)": r"b4.fc.\1",
        r"final_linear\.1\.(weight|bias)": r"b4.out.\1",
    }


def _largest(tensors: Mapping[str, Array], pattern: str) -> int:
    """The largest number that a name of this pattern has; 0: none."""
    return max((int(found[1]) for name in tensors if (found := re.fullmatch(pattern, name))), default=0)


def drop_constants(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors without the resampling filters, which must have their usual values (times 4 where they enlarge)."""
    kept = {}
    for name, array in tensors.items():
        if not name.endswith(("resample_filter", ".kernel")):
            kept[name] = array
            continue
        usual = array.size == FILTER.size and array.shape[-2:] == FILTER.shape
        if not usual or not any(np.allclose(array, gain * FILTER, atol=1e-6) for gain in (1, 4)):
            raise WeightsError(f"its filter {printable(name)} is not the one of StyleGAN2, outer([1, 3, 3, 1]) / 64")
    return kept


def renamed(
    tensors: Mapping[str, Array], names: Names, *, turned: bool = False, mirrored: bool = False
) -> dict[str, Array]:
    """Tensors by our names; refuses unknown ones with WeightsError. Axes of length 1 stay as they are.

    turned    matrices are (inputs, outputs), kernels (height, width, inputs, outputs)
    mirrored  kernels that enlarge are mirrored, and the biases of styles lack their 1
    """
    result: dict[str, Array] = {}
    for name, array in drop_constants(tensors).items():
        match = next((found for pattern in names if (found := re.fullmatch(pattern, name))), None)
        if match is None:
            raise WeightsError(f"its tensor {shown(name)} is not one of StyleGAN2")
        place = names[match.re.pattern]
        ours = match.expand(place) if isinstance(place, str) else place(match)
        if not ours:
            continue
        if ours in result:
            raise WeightsError(f"its tensor {shown(name)} is {ours} in our network, which it has twice")
        array = np.asarray(array)
        matrix, kernel = (array.ndim == axes and ours.endswith("weight") for axes in (2, 4))
        if matrix and (turned or ours == "mapping.concat.weight"):
            array = array.T
        elif kernel and turned:
            array = array.transpose(3, 2, 0, 1)
        if mirrored and kernel and ours.endswith("conv0.weight"):
            array = array[:, :, ::-1, ::-1]
        elif mirrored and ours.endswith("affine.bias"):
            array = array + np.float32(1)
        result[ours] = array
    return result


def width_rule(features: list[int], base: int, most: int) -> dict[str, Any]:
    """Numbers of feature maps at 4, 8, ... pixels as channel_base and channel_max, or as a list if not of that rule."""
    rule = [channels(4 << index, base, most) for index in range(len(features))]
    return {"channel_base": base, "channel_max": most} if features == rule else {"features": features}


def generator_of(tensors: Mapping[str, Array]) -> dict[str, Any]:
    """Keyword arguments of `stylegan2.Generator` from tensors with our names."""
    sides = _sides(tensors, r"synthesis\.b(\d{1,4})\.conv1\.bias")
    layers = sum(re.fullmatch(r"mapping\.fc\d+\.weight", name) is not None for name in tensors)
    concat = tensors.get("mapping.concat.weight")
    return {
        "z_dim": _columns(tensors, "mapping.fc0.weight") // (1 if concat is None else 2),
        "c_dim": 0 if concat is None else _columns(tensors, "mapping.concat.weight"),
        "w_dim": _length(tensors, f"mapping.fc{layers - 1}.bias"),
        "resolution": sides[-1],
        "colors": _length(tensors, f"synthesis.b{sides[-1]}.torgb.bias"),
        "network": "skip" if "synthesis.b4.torgb.bias" in tensors else "orig",
        "mapping_layers": layers,
        "mapping_features": _length(tensors, "mapping.fc0.bias"),
        **({} if concat is None else {"mapping_labels": "concat"}),
        **_widths([_length(tensors, f"synthesis.b{side}.conv1.bias") for side in sides]),
    }


def discriminator_of(tensors: Mapping[str, Array]) -> dict[str, Any]:
    """Keyword arguments of `stylegan2_discriminator.Discriminator` from tensors with our names."""
    sides = _sides(tensors, r"b(\d{1,4})\.conv0\.bias")
    features = [_length(tensors, "b4.conv.bias"), *(_length(tensors, f"b{side}.conv0.bias") for side in sides[1:])]
    outputs, network = _length(tensors, "b4.out.bias"), "orig"
    if "b4.fromrgb.bias" in tensors:
        network = "skip"
    elif f"b{sides[-1]}.skip.weight" in tensors:
        network = "resnet"
    return {
        "c_dim": outputs if outputs > 1 else 0,
        "resolution": sides[-1],
        "colors": _columns(tensors, f"b{sides[-1]}.fromrgb.weight"),
        "network": network,
        "group_features": max(0, _columns(tensors, "b4.conv.weight") - features[0]),
        "end_features": _length(tensors, "b4.fc.bias"),
        **({"labels": "select"} if outputs > 1 else {}),
        **_widths(features),
    }


def _sides(tensors: Mapping[str, Array], pattern: str) -> list[int]:
    """4, 8, ... up to the largest side in a name of this pattern."""
    sides = [4 << index for index in range(_largest(tensors, pattern).bit_length() - 2)]
    if len(sides) < 2:
        raise WeightsError("it lacks the convolutions of a StyleGAN2 of at least 8 pixels")
    return sides


def _length(tensors: Mapping[str, Array], name: str) -> int:
    if name not in tensors:
        raise WeightsError(f"it lacks the tensor that our network calls {name}")
    return int(tensors[name].size)


def _columns(tensors: Mapping[str, Array], name: str) -> int:
    """Inputs of a matrix or kernel in our layout."""
    if name not in tensors or tensors[name].ndim not in (2, 4):
        raise WeightsError(f"it lacks the tensor that our network calls {name}, or it is no matrix or kernel")
    return int(tensors[name].shape[1])


def _widths(features: list[int]) -> dict[str, Any]:
    return width_rule(features, features[-1] * (4 << len(features) - 1), max(features))
