"""From an official StyleGAN2 checkpoint (as `pickles` reads it) to the arguments and tensors of our network.

Values that a file does not name have the defaults of the class that wrote it: stylegan2-ada-pytorch, or the StyleGAN2
of stylegan3, which differ in `conv_clamp`; the layers repeat theirs, so that it is read from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generators.pickles import PickledNetwork
from stages.generators.weights import WeightsError

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
# Settings of speed, of training or of values that the network's parts repeat.
WITHOUT_EFFECT = {"num_fp16_res", "fp16_channels_last", "use_fp16", "w_avg_beta", "conv_clamp", "freeze_layers"}
FIXED = {"resample_filter": [1, 3, 3, 1], "activation": "lrelu", "kernel_size": 3, "use_noise": True}
CHANNELS = {"channel_base": "channel_base", "channel_max": "channel_max"}


def _settings(where: str, given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Rename known settings; refuse unknown ones and values that our network does not have."""
    result = {}
    for key, value in given.items():
        if key in FIXED:
            if value != FIXED[key]:
                raise WeightsError(f"its {where} has {key} {value!r}; only {FIXED[key]!r} is supported")
        elif key in names:
            if value is not None:
                result[names[key]] = value
        elif key not in WITHOUT_EFFECT:
            raise WeightsError(f"its {where} has the setting {key!r}, which is not one of StyleGAN2")
    return result


def _parted(given: Mapping[str, Any], parts: Iterable[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings without the nested dictionaries `parts`, and these."""
    rest, nested = dict(given), []
    for part in parts:
        inner = rest.pop(part, None) or {}
        if not isinstance(inner, dict):
            raise WeightsError(f"its setting {part!r} is not a dictionary")
        nested.append(dict(inner))
    return rest, nested


def generator_architecture(network: PickledNetwork) -> dict[str, Any]:
    """Keyword arguments of `stylegan2.Generator`."""
    top, (mapping, synthesis) = _parted(network.settings, ("mapping_kwargs", "synthesis_kwargs"))
    synthesis, (block,) = _parted(synthesis, ("block_kwargs",))
    widths = {**CHANNELS, "architecture": "network"}
    names = {
        "z_dim": "z_dim",
        "c_dim": "c_dim",
        "w_dim": "w_dim",
        "img_resolution": "resolution",
        "img_channels": "colors",
    }
    mapping_names = {
        "num_layers": "mapping_layers",
        "layer_features": "mapping_features",
        "embed_features": "mapping_embedding",
        "lr_multiplier": "mapping_rate",
    }
    return {
        **_settings("generator", top, {**names, **widths}),
        **_settings("synthesis network", {**synthesis, **block}, widths),
        **_settings("mapping network", mapping, mapping_names),
        "conv_clamp": network.attributes.get("synthesis.b4.conv1.conv_clamp"),
    }


def discriminator_architecture(network: PickledNetwork) -> dict[str, Any]:
    """Keyword arguments of `stylegan2.Discriminator`."""
    top, (block, mapping, end) = _parted(network.settings, ("block_kwargs", "mapping_kwargs", "epilogue_kwargs"))
    group = {"group": end.pop("mbstd_group_size")} if "mbstd_group_size" in end else {}  # None: the whole batch
    names = {
        "c_dim": "c_dim",
        "img_resolution": "resolution",
        "img_channels": "colors",
        "architecture": "network",
        "cmap_dim": "label_width",
        **CHANNELS,
    }
    return {
        **group,
        **_settings("discriminator", {**top, **block}, names),
        **_settings("label mapping", mapping, {"num_layers": "mapping_layers"}),
        **_settings("discriminator's end", end, {"mbstd_num_channels": "group_features"}),
        "conv_clamp": network.attributes.get("b4.conv.conv_clamp"),
    }


def drop_constants(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Tensors without the resampling filters, which must have their usual values."""
    for name, array in tensors.items():
        if name.endswith("resample_filter") and (array.shape != (4, 4) or not np.allclose(array, FILTER, atol=1e-6)):
            raise WeightsError(f"its filter {name} is not the one of StyleGAN2, outer([1, 3, 3, 1]) / 64")
    return {name: array for name, array in tensors.items() if not name.endswith("resample_filter")}
