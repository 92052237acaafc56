"""One direction in the latent space of a generator, and images that are moved along it: G(z - s w).

In the space `z` the drawn latent is moved, before a network normalizes it; in `w` what the mapping network gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import StageError
from pipeline.stage import Context, Promise
from stages.evaluation.json_file import read_json
from stages.generators.weights import Header

if TYPE_CHECKING:
    from torch import Tensor

Space = Literal["z", "w"]
SPACES: Mapping[Space, str] = {"z": "z_dim", "w": "w_dim"}
"""Space -> the dimension of a generator that is its size."""

FILE, CARD, TENSOR = "shift.safetensors", "card.json", "shift"


@dataclass(frozen=True)
class Shift:
    """A vector (size,) of a space, times a scale; with gradients where the vector has them."""

    vector: Tensor
    space: Space

    @contextmanager
    def applied(self, generator: Any, rows: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """What to draw images from in place of `rows`; in `w` the mapping network is changed as long as this lasts."""
        if self.space == "z":
            yield {**rows, "z": rows["z"] - self.vector}
            return
        handle = generator.mapping.register_forward_hook(lambda module, given, styles: styles - self.vector)
        try:
            yield rows
        finally:
            handle.remove()


def moved(shift: Shift | None, generator: Any, rows: Mapping[str, Tensor]) -> Any:
    """`Shift.applied`, or the rows as they are where there is no shift."""
    return nullcontext(rows) if shift is None else shift.applied(generator, rows)


def check_fits(stage: str, promise: Promise, header: Header) -> None:
    """Raise ValueError unless the shift that a node promises is one of a generator's space."""
    space, size = promise.facts["space"], promise.facts["size"]
    found = header.dimensions[SPACES[space]]
    if found != size:
        raise ValueError(
            f"{stage}: the shift of {promise} moves {size} numbers of {space}, but the generator has {found}; fit it "
            "on this generator"
        )


def shift_of(ctx: Context, scale: float) -> Shift | None:
    """The shift of the input `shift`, times `scale`, on the device; None without one."""
    if "shift" not in ctx.artifacts:
        return None
    (artifact,) = ctx.artifacts["shift"]
    return read_shift(artifact.path, scale, ctx.device)


def read_shift(folder: Path, scale: float, device: str) -> Shift:
    """The shift in the artifact of `latent_shift`. Raises StageError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        vector = load_file(folder / FILE)[TENSOR]
    except (OSError, SafetensorError, KeyError) as error:
        raise StageError(f"{folder / FILE} is no shift ({error}); run its node again") from None
    return Shift(vector.to(device) * scale, read_json(folder / CARD)["space"])
