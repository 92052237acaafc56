"""From a ProGAN checkpoint, as `checkpoints` reads it, to the arguments and tensors of our network.

Three forms are known: the authors' pickle of TensorFlow networks (`G_paper`, `D_paper`), and two torch versions of the
network, genforce's (the authors' weights under other names) and pytorch_GAN_zoo's (other gains, and biases that are
scaled, so that its numbers change). What a TensorFlow file does not say has the default of the function that it names;
the torch files say little, and their networks are found from the shapes of the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed, printable, shown
from stages.weights.checkpoints import Contents, Converted, NetworkData
from stages.weights.filling import check_tensors
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]
Change = Callable[[Array, Array], tuple[Array, Array]]

# Names of the networks of each form. A state dict that stands alone has the name "".
SOURCES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tensorflow": {"average": ("Gs",), "raw": ("G",), "discriminator": ("D",)},
    "genforce": {"average": ("generator_smooth", ""), "raw": ("generator",), "discriminator": ("discriminator",)},
    "pytorch_GAN_zoo": {"average": ("avgG", ""), "raw": ("netG",), "discriminator": ("netD",)},
}
FUNCTIONS = ("G_paper", "D_paper")
# Settings of the authors' functions. Each ignores those of the other, which files may have.
DEFAULTS: Mapping[str, Any] = {
    "num_channels": 1,
    "resolution": 32,
    "label_size": 0,
    "fmap_base": 8192,
    "fmap_decay": 1.0,
    "fmap_max": 512,
    "fused_scale": True,
    "latent_size": None,
    "normalize_latents": True,
    "mbstd_group_size": 4,
}
ARGUMENTS = {
    "num_channels": "colors",
    "resolution": "resolution",
    "label_size": "c_dim",
    "fmap_base": "fmap_base",
    "fmap_decay": "fmap_decay",
    "fmap_max": "fmap_max",
    "fused_scale": "fused",
}
FIXED: Mapping[str, Any] = {
    "use_wscale": True,
    "use_pixelnorm": True,
    "pixelnorm_epsilon": 1e-8,
    "use_leakyrelu": True,
    "use_batchnorm": False,
    "use_layernorm": False,
    "tanh_at_end": None,
}
WITHOUT_EFFECT = {"dtype", "structure", "is_template_graph", "use_gdrop"}
# Entries of pytorch_GAN_zoo's `config` that change the network; an absent one has its usual value.
ZOO_FIXED: Mapping[str, Any] = {
    "equalizedlR": True,
    "perChannelNormalization": True,
    "leakyReluLeak": 0.2,
    "lossCriterion": "WGANGP",
}
GENFORCE_GROUP = 16


@dataclass(frozen=True)
class Layer:
    """Our name, theirs, the number of axes of the weight, and how weight and bias become ours."""

    ours: str
    theirs: str
    axes: int
    change: Change


@dataclass(frozen=True)
class Plan:
    """What a network of a file is and how its tensors become ours; `separator` stands before "weight" and "bias"."""

    architecture: dict[str, Any]
    layers: list[Layer]
    tensors: Mapping[str, Array]
    separator: str = "."


def recognize(contents: Contents) -> str | None:
    """Name of the form of a file, or None: not a ProGAN."""
    networks = contents.networks.values()
    if any(network.class_name in FUNCTIONS for network in networks):
        return "tensorflow"
    for network in networks:
        names = set(without_module(network.tensors))
        if {"formatLayer.weight", "toRGBLayers.0.weight"} <= names:
            return "pytorch_GAN_zoo"
        if {"layer0.weight", "output0.weight"} <= names and np.shape(network.tensors["layer0.weight"])[2:] == (4, 4):
            return "genforce"
    return None


def generator(contents: Contents, which: str = "average") -> Converted:
    """The generator with weights averaged over the training ("average") or with those that were trained ("raw").

    Raises WeightsError if the file has none, or one that our network cannot repeat.
    """
    found = convert(contents, which)
    if found is None:
        names = listed(contents.networks)
        raise WeightsError(f"it has no ProGAN generator with {which} weights; its networks are {names}")
    return found


def discriminator(contents: Contents) -> Converted | None:
    """The discriminator; None if the file has none. Raises WeightsError if our network cannot repeat it."""
    return convert(contents, "discriminator")


def convert(contents: Contents, role: str) -> Converted | None:
    """The network with a role of SOURCES, or None."""
    form = recognize(contents)
    source = next((name for name in SOURCES.get(form or "", {}).get(role, ()) if name in contents.networks), None)
    if form is None or source is None:
        return None
    network, where = contents.networks[source], f"its network {source!r}"
    if form == "tensorflow":
        return carried_out(source, where, of_tensorflow(network, where, role == "discriminator"), 0.0)
    refuse_labels(contents, form)
    if form == "genforce":
        return carried_out(source, where, of_genforce(network, where, role == "discriminator"), 0.0)
    return carried_out(source, where, of_zoo(network, where, role == "discriminator"), zoo_lod(contents))


def carried_out(source: str, where: str, plan: Plan, lod: float) -> Converted:
    """Build the network without values, rename and change the tensors, and compare. `lod`: where no tensor says it."""
    import torch

    from stages.generators import progan
    from stages.generators.growing import level_of
    from stages.generators.progan_discriminator import Discriminator

    lod = float(taken(where, plan.tensors, "lod", 0)) if "lod" in plan.tensors else lod
    network: progan.Generator | Discriminator
    try:
        with torch.device("meta"):
            judge = "z_dim" not in plan.architecture
            network = Discriminator(**plan.architecture) if judge else progan.Generator(**plan.architecture)
        level_of(network.lod, lod, network.resolution)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{where} has an impossible architecture: {error}") from error
    ours: dict[str, Array] = {"lod": np.array(lod, dtype=np.float32)}
    used = {"lod"}
    for layer in plan.layers:
        names = [f"{layer.theirs}{plan.separator}{part}" for part in ("weight", "bias")]
        used.update(names)
        weight, bias = taken(where, plan.tensors, names[0], layer.axes), taken(where, plan.tensors, names[1], 1)
        try:
            ours[f"{layer.ours}.weight"], ours[f"{layer.ours}.bias"] = layer.change(weight, bias)
        except (ValueError, ZeroDivisionError) as error:
            shapes = f"{weight.shape} and {bias.shape}"
            raise WeightsError(f"{where} has {names[0]} and its bias of shapes {shapes}, which do not fit") from error
    if leftover := sorted(set(plan.tensors) - used):
        raise WeightsError(f"{where} has {len(leftover)} unknown tensors, for example {printable(leftover[0])}")
    tensors = check_tensors(where, ours, network)
    return Converted("progan", plan.architecture, tensors, {"psi": 1.0, "cutoff": None}, source)


def taken(where: str, tensors: Mapping[str, Array], name: str, axes: int) -> Array:
    """One tensor as float32, with this number of axes."""
    if name not in tensors:
        raise WeightsError(f"{where} lacks the tensor {name}")
    array = np.asarray(tensors[name], dtype=np.float32)
    if array.ndim != axes:
        raise WeightsError(f"{where} has the tensor {name} of shape {array.shape}; expected {axes} axes")
    return array


def count(tensors: Mapping[str, Array], name: str) -> int:
    """How many of the tensors name.format(0), name.format(1), ... there are without a gap."""
    return next(index for index in range(len(tensors) + 1) if name.format(index) not in tensors)


def from_shapes(features: list[int]) -> dict[str, Any]:
    """Arguments of an unconditional network with so many feature maps at 4, 8, ... pixels."""
    return {"c_dim": 0, "resolution": 2 << len(features), "features": features}


def without_module(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """pytorch_GAN_zoo's layers hold the layer of torch as `module`, which some of its versions leave out of names."""
    return {name.replace(".module.", "."): array for name, array in tensors.items()}


def zoo_config(contents: Contents) -> Mapping[str, Any]:
    """Settings of a pytorch_GAN_zoo file, after a look at those that our network does not have."""
    config = contents.extra.get("config")
    config = config if isinstance(config, Mapping) else {}
    for key, expected in ZOO_FIXED.items():
        if config.get(key, expected) != expected:
            raise WeightsError(f"its setting {key} is {shown(config[key])}; only {expected!r} is supported")
    return config


def zoo_lod(contents: Contents) -> float:
    """Its `alpha` fades the last two resolutions, as the fraction of a level of detail does."""
    alpha = zoo_config(contents).get("alpha", 0)
    if not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
        raise WeightsError(f"its setting alpha is {shown(alpha)}; expected a number from 0 to 1")
    return float(alpha)


def refuse_labels(contents: Contents, form: str) -> None:
    """Both torch versions treat labels otherwise than the authors; only the discriminator shows that there are any."""
    network = contents.networks.get(SOURCES[form]["discriminator"][0])
    if network is None:
        return
    tensors = without_module(network.tensors)
    name = "decisionLayer" if form == "pytorch_GAN_zoo" else f"layer{2 * count(tensors, 'input{}.weight')}"
    outputs = len(tensors.get(f"{name}.bias", [0]))
    if outputs > 1:
        raise WeightsError(
            f"it is a conditional ProGAN of {form} ({outputs - 1} label outputs), which is not supported"
        )


def same(weight: Array, bias: Array) -> tuple[Array, Array]:
    """Both as they are."""
    return weight, bias


def transposed(*axes: int) -> Change:
    """The weight with its axes in this order."""
    return lambda weight, bias: (weight.transpose(axes), bias)


def sides(levels: int) -> list[int]:
    """Pixels of each level: 4, 8, 16, ..."""
    return [4 << index for index in range(levels)]


def of_tensorflow(network: NetworkData, where: str, judge: bool) -> Plan:
    """Convolution kernels are (height, width, inputs, outputs), fused upsampling (height, width, outputs, inputs)."""
    if network.class_name != FUNCTIONS[judge]:
        raise WeightsError(f"{where} is made by {shown(network.class_name)}; expected {FUNCTIONS[judge]!r}")
    settings = tensorflow_settings(where, network.settings)
    architecture = {ours: settings[theirs] for theirs, ours in ARGUMENTS.items()}
    fused, levels = settings["fused_scale"], settings["resolution"].bit_length() - 2
    kernel, dense = transposed(3, 2, 0, 1), transposed(1, 0)
    layers = [Layer("b4.conv", "4x4/Conv", 4, kernel)]
    if judge:
        group = settings["mbstd_group_size"]
        architecture |= {"group": group if group > 1 else 0}
        layers += [Layer("b4.dense", "4x4/Dense0", 2, dense), Layer("b4.out", "4x4/Dense1", 2, dense)]
        color, first, second = "FromRGB", "Conv0", "Conv1_down" if fused else "Conv1"
    else:
        z_dim = settings["latent_size"]
        z_dim = min(int(settings["fmap_base"]), settings["fmap_max"]) if z_dim is None else z_dim
        architecture |= {"z_dim": z_dim, "normalize_latents": settings["normalize_latents"]}
        layers += [Layer("b4.dense", "4x4/Dense", 2, dense)]
        color, first, second = "ToRGB", "Conv0_up" if fused else "Conv0", "Conv1"
    for index, side in enumerate(sides(levels)):
        layers.append(Layer(f"b{side}.{color.lower()}", f"{color}_lod{levels - 1 - index}", 4, kernel))
        if side > 4:
            change = transposed(2, 3, 0, 1) if first == "Conv0_up" else kernel
            layers.append(Layer(f"b{side}.conv0", f"{side}x{side}/{first}", 4, change))
            layers.append(Layer(f"b{side}.conv1", f"{side}x{side}/{second}", 4, kernel))
    return Plan(architecture, layers, network.tensors, separator="/")


def tensorflow_settings(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of DEFAULTS, after a look at all others."""
    for key, value in given.items():
        if key in FIXED and (value or None) != (FIXED[key] or None):
            raise WeightsError(f"{where} has {key} {shown(value)}; only {FIXED[key]!r} is supported")
        if key not in {*FIXED, *DEFAULTS, *WITHOUT_EFFECT}:
            raise WeightsError(f"{where} has the setting {shown(key)}, which is not one of ProGAN")
    settings = {key: given.get(key, default) for key, default in DEFAULTS.items()}
    for key, value in settings.items():
        default = DEFAULTS[key]
        kinds = (int, float) if key in ("fmap_base", "fmap_decay") else (int if default is None else type(default),)
        if value is None and default is None:
            continue
        if not isinstance(value, kinds) or not math.isfinite(value):
            raise WeightsError(f"{where} has {key} {shown(value)}, which is not of type {kinds[0].__name__}")
    return settings


def of_genforce(network: NetworkData, where: str, judge: bool) -> Plan:
    """Layers are numbered: in the generator from 4x4 pixels upwards, in the discriminator from the image downwards."""
    tensors = network.tensors
    levels = count(tensors, "input{}.weight" if judge else "output{}.weight")

    def shape(name: str, axes: int = 4) -> tuple[int, ...]:
        return taken(where, tensors, f"{name}.weight", axes).shape

    if judge:
        last = 2 * levels - 1
        features = [shape(f"input{index}")[0] for index in range(levels)][::-1]
        group = GENFORCE_GROUP if shape(f"layer{last - 1}")[1] > features[0] else 0
        architecture = {"colors": shape("input0")[1], "group": group, "hidden": shape(f"layer{last}", 2)[0]}
        layers = [Layer("b4.conv", f"layer{last - 1}", 4, same), Layer("b4.dense", f"layer{last}", 2, same)]
        layers += [Layer("b4.out", f"layer{last + 1}", 2, same)]
        for index, side in enumerate(sides(levels)[::-1]):
            layers.append(Layer(f"b{side}.fromrgb", f"input{index}", 4, same))
            if side > 4:
                layers += [Layer(f"b{side}.conv{part}", f"layer{2 * index + part}", 4, same) for part in (0, 1)]
    else:
        features = [shape(f"layer{2 * index + 1}")[0] for index in range(levels)]
        # A fused kernel is (inputs, outputs, 3, 3), to be seen where these numbers differ; unfused is the usual case.
        fused = any(
            shape(f"layer{2 * index}")[:2] == (features[index - 1], features[index]) != (features[index],) * 2
            for index in range(1, levels)
        )
        architecture = {"z_dim": shape("layer0")[1], "colors": shape("output0")[0], "fused": fused}
        layers = [Layer("b4.dense", "layer0", 4, from_convolution), Layer("b4.conv", "layer1", 4, same)]
        for index, side in enumerate(sides(levels)):
            layers.append(Layer(f"b{side}.torgb", f"output{index}", 4, same))
            if side > 4:
                change = transposed(1, 0, 2, 3) if fused else same
                layers.append(Layer(f"b{side}.conv0", f"layer{2 * index}", 4, change))
                layers.append(Layer(f"b{side}.conv1", f"layer{2 * index + 1}", 4, same))
    return Plan({**architecture, **from_shapes(features)}, layers, tensors)


def from_convolution(weight: Array, bias: Array) -> tuple[Array, Array]:
    """A fully connected layer stored as a convolution of one padded pixel, (features, inputs, 4, 4)."""
    return weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1).reshape(-1, weight.shape[1]), bias


def of_zoo(network: NetworkData, where: str, judge: bool) -> Plan:
    """All layers have gain sqrt 2, and the scale of the weight multiplies the bias too."""
    tensors = without_module(network.tensors)
    color = "fromRGBLayers" if judge else "toRGBLayers"
    levels = max(1, count(tensors, f"{color}.{{}}.weight"))
    colors = [taken(where, tensors, f"{color}.{index}.weight", 4) for index in range(levels)]
    features = [weight.shape[0 if judge else 1] for weight in colors]
    if judge:
        first = taken(where, tensors, "groupScaleZero.0.weight", 4)
        architecture: dict[str, Any] = {"group": 4 if first.shape[1] > features[0] else 0, "grouping": "consecutive"}
        layers = [Layer("b4.conv", "groupScaleZero.0", 4, scaled()), Layer("b4.dense", "groupScaleZero.1", 2, scaled())]
        layers += [Layer("b4.out", "decisionLayer", 2, scaled(1))]
    else:
        z_dim = taken(where, tensors, "formatLayer.weight", 2).shape[1]
        architecture = {"z_dim": z_dim, "pixel_bias": True}
        layers = [Layer("b4.dense", "formatLayer", 2, scaled(math.sqrt(2) / 4, (-1, 4, 4)))]
        layers += [Layer("b4.conv", "groupScale0.0", 4, scaled())]
    for index, side in enumerate(sides(levels)):
        name, gain = ("fromrgb", math.sqrt(2)) if judge else ("torgb", 1)
        layers.append(Layer(f"b{side}.{name}", f"{color}.{index}", 4, scaled(gain)))
        if side > 4:
            layers += [Layer(f"b{side}.conv{part}", f"scaleLayers.{index - 1}.{part}", 4, scaled()) for part in (0, 1)]
    architecture |= {"colors": colors[0].shape[1 if judge else 0], **from_shapes(features)}
    return Plan(architecture, layers, tensors)


def scaled(gain: float = math.sqrt(2), bias_shape: tuple[int, ...] = (-1,)) -> Change:
    """To a layer with this gain and an unscaled bias."""

    def change(weight: Array, bias: Array) -> tuple[Array, Array]:
        scale = math.sqrt(2 / math.prod(weight.shape[1:]))
        return weight * np.float32(math.sqrt(2) / gain), (bias * np.float32(scale)).reshape(bias_shape)

    return change
