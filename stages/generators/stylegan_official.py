"""From a StyleGAN checkpoint, as `checkpoints` reads it, to the arguments and tensors of our network.

Three forms are known: the authors' pickle of TensorFlow networks (`G_style`, `D_basic`), and two torch versions of the
network, genforce's (the authors' weights under other names) and style-based-gan-pytorch (called "rosinality" here after
its author), whose gains differ, so that its numbers change. What a TensorFlow file does not say has the default of the
function that it names; the torch files say nothing, and their networks are found from the shapes of the tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed, printable, shown
from stages.weights.checkpoints import Contents, Converted, NetworkData
from stages.weights.filling import check_tensors, fill
from stages.weights.weights_file import WeightsError

Array = NDArray[Any]
Change = Callable[[Array], Array]
Moves = dict[str, tuple[str, Change]]  # our name -> their name, and how their tensor becomes ours

# Names of the networks of each form. A state dict that stands alone has the name "".
SOURCES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tensorflow": {"average": ("Gs",), "raw": ("G",), "discriminator": ("D",)},
    "genforce": {"average": ("generator_smooth", ""), "raw": ("generator",), "discriminator": ("discriminator",)},
    "rosinality": {"average": ("g_running", ""), "raw": ("generator",)},
}
FUNCTIONS = ("G_style", "D_basic")
# Settings of the authors' functions that a network depends on: our argument and the default.
SHARED: Mapping[str, tuple[str, Any]] = {
    "label_size": ("c_dim", 0),
    "fmap_base": ("fmap_base", 8192.0),
    "fmap_decay": ("fmap_decay", 1.0),
    "fmap_max": ("fmap_max", 512),
    "fused_scale": ("fused", "auto"),
}
GENERATOR: Mapping[str, tuple[str, Any]] = {
    **SHARED,
    "num_channels": ("colors", 3),
    "resolution": ("resolution", 1024),
    "latent_size": ("z_dim", 512),
    "dlatent_size": ("w_dim", 512),
    "mapping_layers": ("mapping_layers", 8),
    "mapping_fmaps": ("mapping_features", 512),
    "mapping_lrmul": ("mapping_rate", 0.01),
    "normalize_latents": ("normalize_latents", True),
}
DISCRIMINATOR: Mapping[str, tuple[str, Any]] = {
    **SHARED,
    "num_channels": ("colors", 1),
    "resolution": ("resolution", 32),
    "mbstd_group_size": ("group", 4),
    "mbstd_num_features": ("group_features", 1),
}
TRUNCATION = {"truncation_psi": 0.7, "truncation_cutoff": 8}
FIXED: Mapping[str, Any] = {
    "use_styles": True,
    "const_input_layer": True,
    "use_noise": True,
    "use_wscale": True,
    "use_pixel_norm": False,
    "use_instance_norm": True,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "blur_filter": [1, 2, 1],
}
# Settings of training, of speed, or that the networks' parts repeat.
WITHOUT_EFFECT = {"dlatent_avg_beta", "dlatent_broadcast", "dtype", "randomize_noise", "structure", "style_mixing_prob"}
WITHOUT_EFFECT |= {"force_clean_graph", "is_template_graph", "is_training", "is_validation"}
WITHOUT_EFFECT |= {"truncation_cutoff_val", "truncation_psi_val"}
LARGEST = 1e9  # of settings that may be fractions
BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16


@dataclass(frozen=True)
class Plan:
    """What a network of a file is, and where its tensors go.

    given    our tensors that the file does not have
    dropped  their tensors without a use
    """

    architecture: dict[str, Any]
    moves: Moves
    given: dict[str, Array] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    truncation: dict[str, Any] = field(default_factory=lambda: {"psi": 0.7, "cutoff": 8})


def recognize(contents: Contents) -> str | None:
    """Name of the form of a file, or None: not a StyleGAN."""
    for network in contents.networks.values():
        if network.class_name in FUNCTIONS:
            return "tensorflow"
        if "generator.progression.0.conv1.input" in network.tensors:
            return "rosinality"
        if {"synthesis.layer0.const", "synthesis.layer0.apply_noise.weight"} <= set(network.tensors):
            return "genforce"
        if {"input0.weight", "layer1.blur.kernel"} <= set(network.tensors):
            return "genforce"
    return None


def generator(contents: Contents, which: str = "average") -> Converted:
    """The generator with weights averaged over the training ("average") or with those that were trained ("raw").

    Raises WeightsError if the file has none, or one that our network cannot repeat.
    """
    found = convert(contents, which)
    if found is None:
        names = listed(contents.networks)
        raise WeightsError(f"it has no StyleGAN generator with {which} weights; its networks are {names}")
    return found


def discriminator(contents: Contents) -> Converted | None:
    """The discriminator; None if there is none, or rosinality's, whose layers ours lacks. Raises WeightsError."""
    return convert(contents, "discriminator")


def convert(contents: Contents, role: str) -> Converted | None:
    """The network with a role of SOURCES, or None."""
    form, judge = recognize(contents), role == "discriminator"
    source = next((name for name in SOURCES.get(form or "", {}).get(role, ()) if name in contents.networks), None)
    if form is None or source is None:
        return None
    network, where = contents.networks[source], f"its network {source!r}"
    if form == "tensorflow":
        plan = tensorflow_discriminator(network, where) if judge else tensorflow_generator(network, where)
    elif form == "genforce":
        plan = genforce_discriminator(network, where) if judge else genforce_generator(network, where)
    else:
        plan = rosinality_generator(network, where)
    tensors = carried_out(where, plan, network.tensors)
    if form == "rosinality":
        tensors["mapping.w_avg"] = centered(where, plan.architecture, tensors)
    return Converted("stylegan", plan.architecture, tensors, plan.truncation, source)


def carried_out(where: str, plan: Plan, theirs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    """Our tensors, compared with a network that is built without values."""
    import torch

    from stages.generators.growing import level_of
    from stages.generators.stylegan import Generator
    from stages.generators.stylegan_discriminator import Discriminator

    network: Generator | Discriminator
    try:
        with torch.device("meta"):
            judge = "z_dim" not in plan.architecture
            network = Discriminator(**plan.architecture) if judge else Generator(**plan.architecture)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(f"{where} has an impossible architecture: {error}") from error
    ours = dict(plan.given)
    for our, (their, change) in plan.moves.items():
        array = taken(where, theirs, their)
        try:
            ours[our] = change(array)
        except (ValueError, IndexError, ArithmeticError) as error:
            raise WeightsError(f"{where} has the tensor {their} of shape {array.shape}, which does not fit") from error
    if leftover := sorted(set(theirs) - {their for their, _ in plan.moves.values()} - plan.dropped):
        raise WeightsError(f"{where} has {len(leftover)} unknown tensors, for example {printable(leftover[0])}")
    tensors = check_tensors(where, ours, network)
    try:
        level_of(network.lod, float(tensors["lod"]), network.resolution)
    except ValueError as error:
        raise WeightsError(f"{where} has an impossible state of growing: {error}") from error
    return tensors


def centered(where: str, architecture: Mapping[str, Any], tensors: Mapping[str, Array]) -> NDArray[np.float32]:
    """The center of truncation, which rosinality's files lack: their program takes the mean style of random z."""
    import torch

    from stages.generators.stylegan import build, mean_style

    with torch.device("meta"):
        network = build(architecture)
    fill(where, network, tensors)
    return mean_style(network.mapping).numpy()


def taken(where: str, tensors: Mapping[str, Array], name: str) -> Array:
    """One tensor as float32."""
    if name not in tensors:
        raise WeightsError(f"{where} lacks the tensor {name}")
    return np.asarray(tensors[name], dtype=np.float32)


def shape(where: str, tensors: Mapping[str, Array], name: str, axes: int) -> tuple[int, ...]:
    """Shape of a tensor with this number of axes."""
    found = taken(where, tensors, name).shape
    if len(found) != axes:
        raise WeightsError(f"{where} has the tensor {name} of shape {found}; expected {axes} axes")
    return found


def count(tensors: Mapping[str, Array], name: str) -> int:
    """How many of the tensors name.format(0), name.format(1), ... there are without a gap."""
    return next(index for index in range(len(tensors) + 1) if name.format(index) not in tensors)


def same(array: Array) -> Array:
    """The array as it is."""
    return array


def kernel(array: Array) -> Array:
    """(height, width, inputs, outputs) to (outputs, inputs, height, width)."""
    return array.transpose(3, 2, 0, 1)


def transposed(array: Array) -> Array:
    """(inputs, outputs) to (outputs, inputs)."""
    return array.transpose(1, 0)


def without_axes(number: int) -> Change:
    """Drop so many first axes, which have length 1."""
    return lambda array: array.squeeze(axis=tuple(range(number)))


def times(factor: float) -> Change:
    """Multiply by a factor, in float32."""
    return lambda array: array * np.float32(factor)


def layer(ours: str, theirs: str, change: Change = same, join: str = ".") -> Moves:
    """Weight and bias of one layer."""
    return {f"{ours}.weight": (f"{theirs}{join}weight", change), f"{ours}.bias": (f"{theirs}{join}bias", same)}


def tensorflow_settings(where: str, given: Mapping[str, Any], known: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Our arguments, after a look at all settings: each must be known, and of the kind of its default."""
    for key, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if key in FIXED and value != FIXED[key]:
            raise WeightsError(f"{where} has {key} {shown(value)}; only {FIXED[key]!r} is supported")
        if key not in {*FIXED, *GENERATOR, *DISCRIMINATOR, *TRUNCATION, *WITHOUT_EFFECT}:
            raise WeightsError(f"{where} has the setting {shown(key)}, which is not one of StyleGAN")
    found = {key: given.get(key, default) for key, (_, default) in known.items()}
    for key, value in found.items():
        default = known[key][1]
        number = isinstance(default, float)
        kinds = (int, float) if number else (str, bool) if isinstance(default, str) else (type(default),)
        if type(value) not in kinds or (number and not abs(value) < LARGEST):
            raise WeightsError(f"{where} has {key} {shown(value)}; expected something like {default!r}")
        found[key] = float(value) if number else value
    return {ours: found[key] for key, (ours, _) in known.items()}


def tensorflow_generator(network: NetworkData, where: str) -> Plan:
    """`G_style` with its two parts, whose own settings are those that count."""
    if network.class_name != FUNCTIONS[0]:
        raise WeightsError(f"{where} is made by {shown(network.class_name)}; expected {FUNCTIONS[0]!r}")
    settings = dict(network.settings)
    for component in ("synthesis", "mapping"):
        found = network.attributes.get(f"{component}/class_name", f"G_{component}")
        if found != f"G_{component}":
            raise WeightsError(f"{where} has a {component} network made by {shown(found)}; expected 'G_{component}'")
        settings.update(network.attributes.get(f"{component}/settings", {}))
    architecture = tensorflow_settings(where, settings, GENERATOR)
    moves: Moves = {"lod": ("lod", same), "mapping.w_avg": ("dlatent_avg", same)}
    for index in range(min(architecture["mapping_layers"], 64)):  # more are refused
        moves |= layer(f"mapping.fc{index}", f"mapping/Dense{index}", transposed, "/")
    if architecture["c_dim"]:
        moves["mapping.embed.weight"] = ("mapping/LabelConcat/weight", transposed)
    sides = sides_of(architecture["resolution"])
    for index, side in enumerate(sides):
        ours = f"synthesis.b{side}"
        moves |= layer(f"{ours}.torgb", f"synthesis/ToRGB_lod{len(sides) - 1 - index}", kernel, "/")
        for part, name in enumerate(("Const", "Conv") if side == 4 else ("Conv0_up", "Conv1")):
            theirs = f"synthesis/{side}x{side}/{name}"
            moves[f"{ours}.conv{part}.weight"] = (f"{theirs}/weight", kernel)
            moves[f"{ours}.style{part}.bias"] = (f"{theirs}/bias", same)
            moves[f"{ours}.style{part}.noise_strength"] = (f"{theirs}/Noise/weight", same)
            moves[f"{ours}.style{part}.noise_const"] = (f"synthesis/noise{2 * index + part}", without_axes(2))
            moves |= layer(f"{ours}.style{part}.affine", f"{theirs}/StyleMod", transposed, "/")
    del moves["synthesis.b4.conv0.weight"]
    moves["synthesis.b4.const"] = ("synthesis/4x4/Const/const", without_axes(1))
    return Plan(architecture, moves, {}, {"synthesis/lod"}, truncation(where, network.settings))


def truncation(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Psi and cutoff that the file suggests; the authors' code takes none for no truncation, ours for all styles."""
    psi, cutoff = (settings.get(key, default) for key, default in TRUNCATION.items())
    if psi is None or cutoff is None:
        return {"psi": 1.0, "cutoff": None}
    if not isinstance(psi, int | float) or not math.isfinite(psi) or type(cutoff) is not int:
        raise WeightsError(f"{where} has truncation psi {shown(psi)} with cutoff {shown(cutoff)}; expected two numbers")
    return {"psi": float(psi), "cutoff": cutoff} if cutoff > 0 else {"psi": 1.0, "cutoff": None}


def tensorflow_discriminator(network: NetworkData, where: str) -> Plan:
    """`D_basic`."""
    if network.class_name != FUNCTIONS[1]:
        raise WeightsError(f"{where} is made by {shown(network.class_name)}; expected {FUNCTIONS[1]!r}")
    architecture = tensorflow_settings(where, network.settings, DISCRIMINATOR)
    moves: Moves = {"lod": ("lod", same), **layer("b4.conv", "4x4/Conv", kernel, "/")}
    moves |= layer("b4.dense", "4x4/Dense0", transposed, "/") | layer("b4.out", "4x4/Dense1", transposed, "/")
    for index, side in enumerate(sides_of(architecture["resolution"])[::-1]):
        moves |= layer(f"b{side}.fromrgb", f"FromRGB_lod{index}", kernel, "/")
        if side > 4:
            moves |= layer(f"b{side}.conv0", f"{side}x{side}/Conv0", kernel, "/")
            moves |= layer(f"b{side}.conv1", f"{side}x{side}/Conv1_down", kernel, "/")
    return Plan(architecture, moves)


def sides_of(resolution: int) -> list[int]:
    """4, 8, ...; whether the last one is the resolution, the network finds out when it is built."""
    return [4, *(1 << power for power in range(3, min(max(resolution, 0).bit_length(), 20)))]


def genforce_generator(network: NetworkData, where: str) -> Plan:
    """Layers are numbered from 4x4 pixels upwards, two for each resolution."""
    tensors = network.tensors
    levels, depth = count(tensors, "synthesis.output{}.weight"), count(tensors, "mapping.dense{}.weight")
    first = shape(where, tensors, "mapping.dense0.weight", 2)
    classes = shape(where, tensors, "mapping.label_weight", 2)[0] if "mapping.label_weight" in tensors else 0
    architecture: dict[str, Any] = {
        "z_dim": first[1] // 2 if classes else first[1],
        "c_dim": classes,
        "w_dim": shape(where, tensors, f"mapping.dense{depth - 1}.weight", 2)[0],
        "resolution": 2 << levels,
        "colors": shape(where, tensors, "synthesis.output0.weight", 4)[0],
        "features": [shape(where, tensors, f"synthesis.layer{2 * i + 1}.weight", 4)[0] for i in range(levels)],
        "mapping_layers": depth,
        "mapping_features": first[0],
    }
    moves: Moves = {"lod": ("synthesis.lod", same), "mapping.w_avg": ("truncation.w_avg", same)}
    for index in range(depth):
        moves |= layer(f"mapping.fc{index}", f"mapping.dense{index}")
    if classes:
        moves["mapping.embed.weight"] = ("mapping.label_weight", transposed)
    for index in range(levels):
        ours = f"synthesis.b{4 << index}"
        moves |= layer(f"{ours}.torgb", f"synthesis.output{index}")
        for part in (0, 1):
            theirs = f"synthesis.layer{2 * index + part}"
            moves[f"{ours}.conv{part}.weight"] = (f"{theirs}.weight", same)
            moves[f"{ours}.style{part}.bias"] = (f"{theirs}.bias", same)
            moves[f"{ours}.style{part}.noise_strength"] = (f"{theirs}.apply_noise.weight", same)
            moves[f"{ours}.style{part}.noise_const"] = (f"{theirs}.apply_noise.noise", without_axes(2))
            moves |= layer(f"{ours}.style{part}.affine", f"{theirs}.style")
    del moves["synthesis.b4.conv0.weight"]
    moves["synthesis.b4.const"] = ("synthesis.layer0.const", without_axes(1))
    return Plan(architecture, moves, {}, genforce_filters(where, tensors))


def genforce_discriminator(network: NetworkData, where: str) -> Plan:
    """Layers are numbered from the image downwards, two for each resolution and one for the score."""
    tensors = network.tensors
    colors, levels = shape(where, tensors, "input0.weight", 4)[1], count(tensors, "input{}.weight")
    last = 2 * levels - 2
    features = [shape(where, tensors, f"input{index}.weight", 4)[0] for index in range(levels)][::-1]
    more = shape(where, tensors, f"layer{last}.weight", 4)[1] - features[0]
    outputs = shape(where, tensors, f"layer{last + 2}.weight", 2)[0]
    architecture: dict[str, Any] = {
        "c_dim": outputs if outputs > 1 else 0,
        "resolution": 2 << levels,
        "colors": colors,
        "features": features,
        "hidden": shape(where, tensors, f"layer{last + 1}.weight", 2)[0],
        "group": 4 if more else 0,
        "group_features": more or 1,
    }
    moves: Moves = {"lod": ("lod", same), **layer("b4.conv", f"layer{last}")}
    moves |= layer("b4.dense", f"layer{last + 1}") | layer("b4.out", f"layer{last + 2}")
    for index in range(levels):
        side = (2 << levels) >> index
        moves |= layer(f"b{side}.fromrgb", f"input{index}")
        if side > 4:
            moves |= layer(f"b{side}.conv0", f"layer{2 * index}") | layer(f"b{side}.conv1", f"layer{2 * index + 1}")
    return Plan(architecture, moves, {}, genforce_filters(where, tensors))


def genforce_filters(where: str, tensors: Mapping[str, Array]) -> set[str]:
    """Names of the stored low-pass filters, which must be the one of this family."""
    names = {name for name in tensors if name.endswith(".blur.kernel")}
    for name in names:
        if not usual(array := taken(where, tensors, name)):
            found = f"a filter {printable(name)} of shape {array.shape}"
            raise WeightsError(f"{where} has {found} that is not [1, 2, 1] x [1, 2, 1]")
    return names


def usual(array: Array) -> bool:
    """Whether an array of filters (channels, 1, 3, 3) has this family's filter only."""
    return array.shape[1:] == (1, 3, 3) and np.allclose(array, BLUR, atol=1e-6)


def rosinality_generator(network: NetworkData, where: str) -> Plan:
    """Gain sqrt 2 in all layers, also in those to colors and styles; the learned noise strength is scaled too.

    The file has blocks up to 1024 pixels, whatever it was trained for: see `trained_levels`. The filter after each
    upsampling is part of the file and taken from there.
    """
    tensors, root = network.tensors, math.sqrt(2)
    shape(where, tensors, "generator.progression.0.noise1.weight_orig", 4)
    depth = next(i for i in range(len(tensors) + 1) if f"style.{2 * i + 1}.linear.weight_orig" not in tensors)
    first = shape(where, tensors, "style.1.linear.weight_orig", 2)
    blocks = [f"generator.progression.{index}" for index in range(trained_levels(where, tensors))]
    fused = [f"{block}.conv1.0.weight" in tensors for block in blocks]
    filters = [f"{block}.conv1.{1 if one else 2}.weight" for block, one in zip(blocks, fused, strict=True)]
    stored = not all(usual(taken(where, tensors, name)) for name in filters[1:])
    architecture: dict[str, Any] = {
        "z_dim": first[1],
        "c_dim": 0,
        "w_dim": shape(where, tensors, f"style.{2 * depth - 1}.linear.weight_orig", 2)[0],
        "resolution": 2 << len(blocks),
        "colors": shape(where, tensors, "generator.to_rgb.0.conv.weight_orig", 4)[0],
        "features": [shape(where, tensors, f"{block}.conv2.conv.weight_orig", 4)[0] for block in blocks],
        "fused": fusion(where, fused),
        "mapping_layers": depth,
        "mapping_features": first[0],
        "mapping_rate": 1.0,
        "shared_noise": True,
        "early_bias": True,
        "stored_filter": stored,
        "norm_epsilon": 1e-5,
    }
    given: dict[str, Array] = {
        "lod": np.zeros((), np.float32),
        "mapping.w_avg": np.zeros(architecture["w_dim"], np.float32),
        "synthesis.b4.style0.bias": np.zeros(architecture["features"][0], np.float32),
    }
    moves: Moves = {"synthesis.b4.const": (f"{blocks[0]}.conv1.input", without_axes(1))}
    for index in range(depth):
        for ours, theirs in (("weight", "weight_orig"), ("bias", "bias")):
            moves[f"mapping.fc{index}.{ours}"] = (f"style.{2 * index + 1}.linear.{theirs}", same)
    for index, block in enumerate(blocks):
        ours, color = f"synthesis.b{4 << index}", f"generator.to_rgb.{index}.conv"
        moves[f"{ours}.torgb.weight"] = (f"{color}.weight_orig", times(root))
        moves[f"{ours}.torgb.bias"] = (f"{color}.bias", same)
        for part in (0, 1):
            style = f"{block}.adain{part + 1}.style.linear"
            moves[f"{ours}.style{part}.noise_strength"] = (f"{block}.noise{part + 1}.weight_orig", scaled_strength)
            moves[f"{ours}.style{part}.affine.weight"] = (f"{style}.weight_orig", times(root))
            moves[f"{ours}.style{part}.affine.bias"] = (f"{style}.bias", difference_from_one)
        moves[f"{ours}.conv1.weight"] = (f"{block}.conv2.conv.weight_orig", same)
        moves[f"{ours}.style1.bias"] = (f"{block}.conv2.conv.bias", same)
        if index:
            theirs, weight, change = ("0", "weight", quarter) if fused[index] else ("1.conv", "weight_orig", same)
            moves[f"{ours}.conv0.weight"] = (f"{block}.conv1.{theirs}.{weight}", change)
            moves[f"{ours}.style0.bias"] = (f"{block}.conv1.{theirs}.bias", same)
        if index and stored:
            moves[f"{ours}.filter"] = (filters[index], same)
    pattern = re.compile(r"generator\.(?:progression|to_rgb)\.(\d+)\.")
    dropped = {name for name in tensors if (match := pattern.match(name)) and int(match[1]) >= len(blocks)}
    dropped |= {*filters, *(f"{name}_flip" for name in filters)}  # the flipped ones served the gradient
    return Plan(architecture, moves, given, dropped, {"psi": 0.7, "cutoff": None})


def trained_levels(where: str, tensors: Mapping[str, Array]) -> int:
    """Number of resolutions, from 4x4 pixels on, up to the last one that was trained.

    Biases and noise strengths begin at zero, and a resolution that was never trained has kept them so.
    """
    levels = count(tensors, "generator.progression.{}.noise1.weight_orig")
    for last in range(levels - 1, -1, -1):
        starts = (f"generator.progression.{last}.", f"generator.to_rgb.{last}.")
        names = [name for name in tensors if name.startswith(starts) and ".adain" not in name]
        if any(taken(where, tensors, name).any() for name in names if ".noise" in name or name.endswith(".bias")):
            return last + 1
    return levels


def fusion(where: str, fused: list[bool]) -> bool | str | int:
    """Our argument for resolutions from 4x4 pixels on, of which those marked are upsampled in one strided step."""
    from stages.generators.stylegan import Fused, is_fused

    choices: tuple[Fused, ...] = ("auto", True, False, *(8 << index for index in range(len(fused) - 1)))
    for value in choices:
        if fused[1:] == [is_fused(value, 8 << index) for index in range(len(fused) - 1)]:
            return value
    raise WeightsError(f"{where} upsamples in one step at {[4 << i for i, is_ in enumerate(fused) if is_]} pixels only")


def quarter(array: Array) -> Array:
    """Fused upsampling: (inputs, outputs, height, width), of which a quarter is used."""
    return array.transpose(1, 0, 2, 3) / 4


def scaled_strength(array: Array) -> Array:
    """(1, channels, 1, 1), used with the factor of a layer with so many inputs."""
    return array.squeeze(axis=(0, 2, 3)) * np.float32(math.sqrt(2 / array.shape[1]))


def difference_from_one(array: Array) -> Array:
    """The first half are factors, the second half shifts."""
    factors, shifts = np.split(array, 2)
    return np.concatenate([factors - 1, shifts])
