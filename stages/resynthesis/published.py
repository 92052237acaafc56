"""Weights of a re-synthesizer as the released code of He et al. 2021 saves them: torch files, read as plain data.

The state dict stands alone or under a name such as `state_dict`, with or without the prefix of DataParallel, in either
form of torch file. The reader of checkpoints runs no code of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.sentences import listed
from stages.weights.checkpoints import read_contents
from stages.weights.weights_file import WeightsError

FIRST = "sfe1.weight"
"""A tensor that only these networks have, told apart from a detector in the same file."""


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Tensors of the one re-synthesizer in the file by their published names; raises WeightsError."""
    contents = read_contents(path)
    found = {name: dict(data.tensors) for name, data in contents.networks.items() if FIRST in data.tensors}
    if len(found) != 1:
        names = listed(found or contents.networks)
        what = f"{len(found)} re-synthesizers" if found else f"no re-synthesizer (a state dict with {FIRST!r})"
        raise WeightsError(f"{path} holds {what}; its state dicts are {names}")
    return found.popitem()[1]
