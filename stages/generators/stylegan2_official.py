"""From a StyleGAN2 checkpoint, as `checkpoints` reads it, to the arguments and tensors of our networks.

Four forms are known. "tensorflow": pickles of the authors' first code (`G_main`, `D_stylegan2`) and of its successor
stylegan2-ada (`G_main`, `D_main`). "persistence": pickles of stylegan2-ada-pytorch and of the StyleGAN2 of stylegan3,
whose tensors have our names. "genforce" and "rosinality": torch versions by others, with the numbers of the TensorFlow
form under other names. What the first two do not say has the default of the function or class that they name; the last
two say nothing, so that their networks are found from the shapes of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generators import stylegan2, weights
from stages.generators.stylegan2_tensors import (
    GENFORCE_GENERATOR,
    ROSINALITY_GENERATOR,
    TENSORFLOW_DISCRIMINATOR,
    TENSORFLOW_GENERATOR,
    discriminator_of,
    drop_constants,
    generator_of,
    genforce_discriminator,
    layer,
    renamed,
    rosinality_discriminator,
    width_rule,
)
from stages.sentences import listed, shown
from stages.weights.checkpoints import Contents, Converted, NetworkData
from stages.weights.filling import check_tensors, fill
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]

# Names of the networks of each form. A state dict that stands alone has the name "".
SOURCES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tensorflow": {"average": ("Gs",), "raw": ("G",), "discriminator": ("D",)},
    "persistence": {"average": ("G_ema",), "raw": ("G",), "discriminator": ("D",)},
    "genforce": {"average": ("generator_smooth", ""), "raw": ("generator",), "discriminator": ("discriminator",)},
    "rosinality": {"average": ("g_ema", ""), "raw": ("g",), "discriminator": ("d",)},
}
CLASSES = {"tensorflow": {"G_main", "D_stylegan2", "D_main"}, "persistence": {"Generator", "Discriminator"}}
MARKS = {  # tensors that only these have
    "genforce": {"synthesis.early_layer.const", "mapping.dense0.weight"},
    "rosinality": {"input.input", "conv1.conv.modulation.weight"},
}
# Settings of speed, of training, of sampling or of values that the network's parts repeat.
WITHOUT_EFFECT = {
    *("num_fp16_res", "fp16_channels_last", "use_fp16", "fused_modconv_default", "fused_modconv", "dtype", "structure"),
    *("w_avg_beta", "dlatent_avg_beta", "style_mixing_prob", "freeze_layers", "augment_strength", "score_size"),
    *("conv_clamp", "randomize_noise", "return_dlatents", "truncation_psi_val", "truncation_cutoff_val"),
    *("is_training", "is_validation", "is_template_graph", "force_clean_graph", "pagan_num", "pagan_fade"),
}
FIXED: Mapping[str, Any] = {
    "resample_filter": [1, 3, 3, 1],
    "resample_kernel": [1, 3, 3, 1],
    "activation": "lrelu",
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "kernel_size": 3,
    "use_noise": True,
    "normalize_latents": True,
    "mapping_func": "G_mapping",
    "fmap_const": None,
    "use_spectral_norm": False,
    "use_pagan": False,
    "adaptive_dropout": 0,
    "score_max": 1,
}
CHANNELS = {"channel_base": "channel_base", "channel_max": "channel_max"}
LABEL_MAPPING = {
    "num_layers": "mapping_layers",
    "layer_features": "mapping_features",
    "embed_features": "mapping_embedding",
    "lr_multiplier": "mapping_rate",
}
FMAPS = {name: name for name in ("fmap_base", "fmap_decay", "fmap_min", "fmap_max")}
PROGRESSIVE = {"G_synthesis_stylegan_revised", "D_stylegan", "D_basic"}  # of the paper's configurations A to D
NUMBERS = {"conv_clamp", "mapping_rate", "group", "group_features"}  # which shapes do not show
AVERAGED_LATENTS = 10_000  # for the average style, where a file has none


def recognize(contents: Contents) -> str | None:
    """The form of a checkpoint with networks of StyleGAN2, see above; None: it is something else."""
    classes = {network.class_name for network in contents.networks.values()}
    for form, known in CLASSES.items():
        if known & classes and contents.container == f"{form} pickle":
            return form
    for form, mark in MARKS.items():
        if any(mark <= network.tensors.keys() for network in contents.networks.values()):
            return form
    return None


def generator(contents: Contents, which: str = "average") -> Converted:
    """The generator of a checkpoint: "average", the one to sample from, or "raw", as trained. Raises WeightsError.

    The rosinality form may lack the average style and noise maps: the first is then computed, from the styles of
    AVERAGED_LATENTS latents, the others are drawn; both from numpy's RandomState(0).
    """
    if which not in ("average", "raw"):
        raise ValueError(f"the generator of a checkpoint is the average or the raw one, not {which!r}")
    form = _form(contents)
    name = _source(contents, form, which)
    if name is None:
        wanted, found = " or ".join(filter(None, SOURCES[form][which])), listed(contents.networks)
        raise WeightsError(f"it has no {which} generator (network {wanted}); it has {found}")
    network = _network(contents, form, name, "Generator")
    truncation: dict[str, Any] = {"psi": 1.0, "cutoff": None}
    if form == "tensorflow":
        architecture, truncation = tensorflow_generator(network)
        tensors = renamed(network.tensors, TENSORFLOW_GENERATOR, turned=True, mirrored=True)
    elif form == "persistence":
        architecture, tensors = generator_architecture(network), drop_constants(network.tensors)
    elif form == "genforce":
        tensors = renamed(network.tensors, GENFORCE_GENERATOR, mirrored=True)
        architecture = generator_of(tensors)
    else:
        tensors = renamed(network.tensors, ROSINALITY_GENERATOR)
        architecture = generator_of(tensors)
        average = contents.extra.get("latent_avg") if which == "average" else None
        _complete(name, architecture, tensors, average)
    return _checked("generator", name, architecture, tensors, truncation)


def discriminator(contents: Contents) -> Converted | None:
    """The discriminator of a checkpoint, or None if it has none. Raises WeightsError."""
    form = _form(contents)
    name = _source(contents, form, "discriminator")
    if name is None:
        return None
    network = _network(contents, form, name, "Discriminator")
    if form == "tensorflow":
        architecture = tensorflow_discriminator(network)
        tensors = renamed(network.tensors, TENSORFLOW_DISCRIMINATOR, turned=True)
    elif form == "persistence":
        architecture, tensors = discriminator_architecture(network), drop_constants(network.tensors)
    else:
        names = genforce_discriminator if form == "genforce" else rosinality_discriminator
        tensors = renamed(network.tensors, names(network.tensors))
        architecture = discriminator_of(tensors)
    return _checked("discriminator", name, architecture, tensors, {"psi": 1.0, "cutoff": None})


def _form(contents: Contents) -> str:
    form = recognize(contents)
    if form is None:
        raise WeightsError(f"it has no StyleGAN2 generator; it has {listed(contents.networks) or 'no networks'}")
    return form


def _source(contents: Contents, form: str, which: str) -> str | None:
    return next((name for name in SOURCES[form][which] if name in contents.networks), None)


def _network(contents: Contents, form: str, name: str, kind: str) -> NetworkData:
    network = contents.networks[name]
    if form == "persistence" and network.class_name != kind:
        raise WeightsError(f"its {name} is of class {shown(network.class_name)}; expected {kind!r}")
    return network


def _checked(
    kind: str, source: str, architecture: dict[str, Any], tensors: Mapping[str, Array], truncation: dict[str, Any]
) -> Converted:
    """Compare names and shapes with the network; axes of length 1, which the forms add and drop, do not count."""
    where = f"its {kind} {source}".rstrip()
    for key in NUMBERS & architecture.keys():
        if architecture[key] is not None and not _is_number(architecture[key]):
            raise WeightsError(f"{where} has {key} {shown(architecture[key])}; expected a number")
    header = weights.Header("stylegan2", architecture, {}, network=kind)
    _, network = weights.build(where, header)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shaped = {}
    for name, array in tensors.items():
        shape = expected.get(name, array.shape)
        same = [side for side in array.shape if side != 1] == [side for side in shape if side != 1]
        shaped[name] = array.reshape(shape) if same else array
    checked = check_tensors(where, shaped, network)
    return Converted("stylegan2", architecture, checked, truncation, source)


# Settings


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1 << 30


def _settings(where: str, given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Rename known settings; refuse unknown ones and values that our network does not have."""
    result = {}
    for key, value in given.items():
        if key in names:
            if value is not None:
                result[names[key]] = value
        elif key in FIXED:
            if value != FIXED[key]:
                raise WeightsError(f"its {where} has {key} {shown(value)}; only {FIXED[key]!r} is supported")
        elif key not in WITHOUT_EFFECT:
            raise WeightsError(f"its {where} has the setting {shown(key)}, which is not one of StyleGAN2")
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


def generator_architecture(network: NetworkData) -> dict[str, Any]:
    """Keyword arguments of `stylegan2.Generator` for a persistent module.

    The two public codes differ in the default of `conv_clamp`; the layers repeat theirs, so that it is read from them.
    """
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
    return {
        **_settings("generator", top, {**names, **widths}),
        **_settings("synthesis network", {**synthesis, **block}, widths),
        **_settings("mapping network", mapping, LABEL_MAPPING),
        "conv_clamp": network.attributes.get("synthesis.b4.conv1.conv_clamp"),
    }


def discriminator_architecture(network: NetworkData) -> dict[str, Any]:
    """Keyword arguments of `stylegan2_discriminator.Discriminator` for a persistent module."""
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
        **_settings("label mapping", mapping, LABEL_MAPPING),
        **_settings("discriminator's end", end, {"mbstd_num_channels": "group_features"}),
        "conv_clamp": network.attributes.get("b4.conv.conv_clamp"),
    }


def tensorflow_generator(network: NetworkData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of `stylegan2.Generator`, and the usual truncation, for a pickled `G_main`."""
    given = {"truncation_psi": 0.5, "truncation_cutoff": None, "synthesis_func": None, **network.settings}
    psi, cutoff, function = (given.pop(key) for key in ("truncation_psi", "truncation_cutoff", "synthesis_func"))
    if not isinstance(function, str | None):
        raise WeightsError(f"its synthesis function is {shown(function)}; expected a name")
    functions = {function, network.attributes.get("synthesis/class_name")} - {None} or {"G_synthesis_stylegan2"}
    if functions & PROGRESSIVE:
        raise WeightsError(
            "it is a StyleGAN2 of the paper's configurations A to D (G_synthesis_stylegan_revised), which grow while "
            "they are trained; these are not supported, configurations E and F are"
        )
    if network.class_name != "G_main" or not functions <= {"G_synthesis_stylegan2", "G_synthesis"}:
        made = " and ".join(sorted(map(shown, functions)))
        raise WeightsError(
            f"its generator is made by {shown(network.class_name)} with {made}; expected 'G_main' with "
            "'G_synthesis_stylegan2'"
        )
    first_code = "G_synthesis_stylegan2" in functions
    usual = {
        "latent_size": 512,
        "label_size": 0,
        "dlatent_size": 512,
        "resolution": 1024,
        "num_channels": 3,
        "architecture": "skip",
        "mapping_layers": 8,
        "mapping_fmaps": 512 if first_code else None,
        "mapping_lrmul": 0.01,
    }
    names = {
        "latent_size": "z_dim",
        "label_size": "c_dim",
        "dlatent_size": "w_dim",
        "resolution": "resolution",
        "num_channels": "colors",
        "architecture": "network",
        "mapping_layers": "mapping_layers",
        "mapping_fmaps": "mapping_features",
        "mapping_lrmul": "mapping_rate",
        "label_fmaps": "mapping_embedding",
        "conv_clamp": "conv_clamp",
        **FMAPS,
    }
    found = _settings("generator", {**usual, **_given(given)}, names)
    _put_features(found)
    if found["c_dim"] and first_code:
        found["mapping_labels"] = "concat"
    elif found["c_dim"]:
        found.setdefault("mapping_embedding", found["z_dim"])
    return found, _truncation(psi, cutoff)


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those of value None, which stand for the default of a function."""
    return {key: value for key, value in settings.items() if value is not None or key in FIXED}


def _truncation(psi: Any, cutoff: Any) -> dict[str, Any]:
    """The authors' settings in our form; there, None or a cutoff of 0 also mean that nothing is truncated."""
    psi = 1.0 if psi is None else psi
    if not _is_number(psi) or not (cutoff is None or (isinstance(cutoff, int) and 0 <= cutoff <= 64)):
        raise WeightsError(f"its truncation is {shown(psi)} with cutoff {shown(cutoff)}; expected numbers")
    return {"psi": 1.0, "cutoff": None} if psi == 1 or cutoff == 0 else {"psi": float(psi), "cutoff": cutoff}


def tensorflow_discriminator(network: NetworkData) -> dict[str, Any]:
    """Keyword arguments of `stylegan2_discriminator.Discriminator` for a pickled `D_stylegan2` or `D_main`."""
    if network.class_name in PROGRESSIVE:
        raise WeightsError(f"its discriminator is {network.class_name}, which is not supported; D_stylegan2 is")
    if network.class_name not in ("D_stylegan2", "D_main"):
        raise WeightsError(f"its discriminator is made by the function {shown(network.class_name)}, not by D_stylegan2")
    first_code = network.class_name == "D_stylegan2"
    names = {
        "label_size": "c_dim",
        "resolution": "resolution",
        "num_channels": "colors",
        "architecture": "network",
        "mbstd_group_size": "group",
        "mbstd_num_features": "group_features",
        "mapping_layers": "mapping_layers",
        "mapping_fmaps": "label_width",
        "mapping_lrmul": "mapping_rate",
        "conv_clamp": "conv_clamp",
        **FMAPS,
    }
    usual = {"num_channels": 3, "resolution": 1024, "label_size": 0, "architecture": "resnet"}
    found = {
        "group": 4 if first_code else None,
        **_settings("discriminator", {**usual, **_given(network.settings)}, names),
    }
    mapping = {"mapping_layers": found.pop("mapping_layers", 0), "mapping_rate": found.pop("mapping_rate", 0.1)}
    end_features = _put_features(found)
    width = found.pop("label_width", end_features)
    if found["c_dim"] and first_code:
        found["labels"] = "select"
    elif found["c_dim"]:
        found |= {**mapping, "label_width": width, "mapping_features": width, "mapping_embedding": width}
    if first_code and found["group"] in (0, 1):
        del found["group"]
        found["group_features"] = 0
    return {**found, "end_features": end_features}


def _put_features(found: dict[str, Any]) -> int:
    """Replace the four fmap settings by ours; returns the number of features at side 2, a discriminator's last."""
    usual = {"fmap_base": 16384, "fmap_decay": 1.0, "fmap_min": 1, "fmap_max": 512}
    base, decay, least, most = (found.pop(key, value) for key, value in usual.items())
    if not all(map(_is_number, (base, decay, least, most))) or decay > 8:
        given = ", ".join(map(shown, (base, decay, least, most)))
        raise WeightsError(f"its numbers of feature maps are set by {given}; expected fmap_base, _decay, _min, _max")
    stages = range(12)
    features = [int(min(max(int(base / 2.0 ** (stage * decay)), least), most)) for stage in stages]
    resolution = found["resolution"]
    if type(resolution) is not int or resolution not in (1 << power for power in range(3, len(stages) + 1)):
        raise WeightsError(
            f"its resolution is {shown(resolution)}; expected a power of two from 8 to {1 << len(stages)}"
        )
    found |= width_rule(features[1 : resolution.bit_length() - 1], int(2 * base), int(most))
    return features[0]


def _complete(source: str, architecture: dict[str, Any], tensors: dict[str, Array], average: Any) -> None:
    """Put the average style and noise maps where they are missing, see `generator`."""
    import torch

    where = f"its generator {source}".rstrip()
    _, network = weights.build(where, weights.Header("stylegan2", architecture, {}))
    state = np.random.RandomState(0)
    for index, shape in enumerate(stylegan2.noise_shapes(architecture["resolution"])):
        drawn = state.randn(*shape).astype(np.float32)
        tensors.setdefault(f"{layer(index)}.noise_const", drawn)
    if isinstance(average, np.ndarray):
        tensors["mapping.w_avg"] = average
        return
    prefix, total = "mapping.", np.zeros(architecture["w_dim"])
    parts = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    mapping = fill(where, network.get_submodule("mapping"), {**parts, "w_avg": total})
    state = np.random.RandomState(0)
    for _ in range(AVERAGED_LATENTS // 100):
        z = state.randn(100, architecture["z_dim"]).astype(np.float32)
        total += mapping(torch.from_numpy(z)).sum(dim=0, dtype=torch.float64).numpy()
    tensors["mapping.w_avg"] = total / AVERAGED_LATENTS
