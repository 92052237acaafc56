"""An official checkpoint of any family as a network of ours.

`checkpoints` reads the file, each family's `*_official` says whether it is one of its own and converts it; the families
are found by name, so that a new one changes nothing here. Images come from the average of the generator over its
training (Karras et al. 2018, arXiv:1710.10196, appendix A), and a file that has only the generator as it was trained
last is used on the user's word alone.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np

from stages import GENERATORS
from stages.sentences import listed, shown
from stages.weights.checkpoints import Contents, Converted, read_contents, refusal
from stages.weights.weights_file import WeightsError

AVERAGES = frozenset(("Gs", "G_ema", "generator_smooth", "g_running", "g_ema", "avgG", ""))
TRAINED = frozenset(("G", "generator", "g", "netG", "nets"))
JUDGES = frozenset(("D", "discriminator", "d", "netD"))
SHOWN = 3  # tensors named in an error


def open_checkpoint(path: Path, which: str = "average") -> Converted:
    """The generator of an official checkpoint; raises WeightsError, one sentence that begins with the path.

    which  "average": averaged over the training, the one to sample from; "raw": as trained last
    """
    path = Path(path)
    contents = read_contents(path)
    return generator(path, contents, which)


def discriminator(path: Path) -> Converted | None:
    """The discriminator of an official checkpoint, None if it has none; raises WeightsError."""
    path = Path(path)
    contents = read_contents(path)
    return judge(path, contents)


def converters() -> dict[str, ModuleType]:
    """By family, the modules that convert published files: a family of which there are none has no such module."""
    names = {family: f"stages.generators.{family}_official" for family in GENERATORS}
    return {family: import_module(name) for family, name in names.items() if find_spec(name) is not None}


def recognize(path: Path, contents: Contents) -> tuple[ModuleType, str, str]:
    """Module that converts a checkpoint, name of its family, name of its form; raises WeightsError."""
    for network in contents.networks.values():
        for name, array in network.tensors.items():
            if 0 in array.shape or (not array.shape and name.endswith(("weight", "bias"))):
                raise WeightsError(
                    f"{path} is refused: its tensor {shown(name)} has shape {array.shape}, as no layer has"
                )
    known = converters()
    for family, module in known.items():
        form = module.recognize(contents)
        if form is not None:
            return module, family, form
    names = sorted({network.class_name for network in contents.networks.values()} - {""})
    tensors = list(islice((name for network in contents.networks.values() for name in network.tensors), SHOWN))
    found = f"classes {listed(names)}" if names else f"tensors like {listed(tensors)}"
    alone = contents.networks.keys() == {""}
    what = "it is a state dict" if alone else f"its networks are {listed(contents.networks)}"
    raise WeightsError(
        f"{path} holds networks of no known family ({', '.join(known)}): {what} with {found}; take a checkpoint "
        "of one of these (docs/checkpoints.md), or make images with its own program and read them with the stage ingest"
    )


def generator(path: Path, contents: Contents, which: str = "average") -> Converted:
    """As `open_checkpoint`, for what was read of the file."""
    if which not in ("average", "raw"):
        raise ValueError(f"which is {which!r}; expected 'average' or 'raw'")
    module, _, form = recognize(path, contents)
    names = set(contents.networks)
    if judges_only(contents, form):
        raise WeightsError(f"{path} holds a discriminator only; images need the file with the generator beside it")
    trained_only = bool(names & TRAINED) and not names & AVERAGES
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # values that become too large are found as not finite
            converted: Converted = module.generator(contents, which)
    except WeightsError as error:
        if which == "average" and trained_only:
            raise _snapshot(path, contents) from error
        raise refusal(path, error) from error
    if which == "average" and converted.source in TRAINED:
        raise _snapshot(path, contents)
    return converted


def judges_only(contents: Contents, form: str) -> bool:
    """Whether a file of this form has discriminators and nothing else."""
    return form == "discriminator" or contents.networks.keys() <= JUDGES


def _snapshot(path: Path, contents: Contents) -> WeightsError:
    return WeightsError(
        f"{path} is a snapshot of a training without the averaged generator (its networks are "
        f"{listed(contents.networks)}); take the file that has it, or convert the generator as it is: touchstone "
        "checkpoint FILE --network raw --to safetensors"
    )


def judge(path: Path, contents: Contents) -> Converted | None:
    """As `discriminator`, for what was read of the file."""
    module, _, _ = recognize(path, contents)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            converted: Converted | None = module.discriminator(contents)
    except WeightsError as error:
        raise refusal(path, error) from error
    return converted
