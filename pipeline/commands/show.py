"""A stored row as a PNG: a picture as it is, maps as heat maps, all else as curves; the axes of its field decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.dataset import Dataset, Part
from pipeline.errors import ConfigError
from pipeline.planning.planned import Plan
from pipeline.planning.selection import Branch, origin
from pipeline.stage import COLUMN, PICTURE, ROW, SPECTRA, Field

MOST_MAPS = 8
"""Channels that are drawn of a row with many of them: the first."""


def list_rows(plan: Plan, node: str, count: int = 10) -> list[str]:
    """The first rows of each branch of a node: id and origin."""
    lines = []
    for branch in _branches(plan, node):
        for position in range(min(count, len(branch.rows))):
            state = "" if branch.have[position] else "  (not computed)"
            lines.append(f"{ids.hex(branch.rows.id[position])[:12]}  {origin(branch, position)}{state}")
        if len(branch.rows) > count:
            lines.append(f"... {len(branch.rows) - count:,} more")
    return lines


def show_row(plan: Plan, node: str, prefix: str, field: str | None, out: Path) -> str:
    """Draw the row whose id begins with `prefix` as the PNG `out`; returns a sentence.

    Raises ConfigError if there is no such row, or if `out` is named like something else.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is '{out}'; expected a name that ends in .png")
    for branch in _branches(plan, node):
        for position, row_id in enumerate(ids.to_bytes(branch.rows.id)):
            if not row_id.hex().startswith(prefix.lower()):
                continue
            if not branch.have[position]:
                raise ConfigError(f"row {row_id.hex()[:12]} of {node} is not computed; `touchstone run {node}` does it")
            name = _choose(branch, field)
            part = Part(branch.stage.name, branch.chain, branch.schema, branch.rows.id[position : position + 1])
            value = Dataset(plan.store, [part], {}).array(name)[0]
            draw(value, branch.schema[name], f"{node} {row_id.hex()[:12]} {name}", out)
            return f"{out}: {name} of {row_id.hex()[:12]} ({origin(branch, position)})"
    raise ConfigError(f"{node} has no row whose id begins with '{prefix}'; `touchstone show {node}` lists ids")


def _branches(plan: Plan, node: str) -> list[Branch]:
    found = [
        branch
        for name in plan.nodes
        if node in (name, plan.pipeline.nodes[name].entry)
        for branch in plan.branches.get(name, [])
    ]
    if not found:
        made = [one.found for name, one in plan.artifacts.items() if node in (name, one.node.entry) and one.found]
        places = "; ".join(f"{', '.join(one.info['files'])} in {one.path}" for one in made)
        way_out = f"its files are {places}" if made else f"`touchstone run {node}` makes it"
        raise ConfigError(f"'{node}' has no rows to draw: it makes an artifact; {way_out}")
    return found


def _choose(branch: Branch, field: str | None) -> str:
    drawable = [name for name, one in branch.schema.items() if one.shape and np.dtype(one.dtype).kind in "fiu"]
    if field is None and drawable:
        return drawable[0]
    if field in drawable:
        return str(field)
    raise ConfigError(
        f"{branch.node} has no field '{field}' that can be drawn; it has {', '.join(drawable) or 'numbers only'}"
        if field
        else f"{branch.node} has no field that can be drawn; its fields are {', '.join(branch.schema)}"
    )


def draw(value: NDArray[Any], field: Field, title: str, out: Path) -> None:
    """A picture of uint8 RGB as it is, maps as heat maps, all else as curves: what it is the field's axes say."""
    if value.dtype == np.uint8 and field.axes == PICTURE and value.shape[-1] == 3:
        from PIL import Image

        Image.fromarray(value).save(out)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    value = np.moveaxis(value, -1, 0) if field.axes == PICTURE else value
    maps = value.reshape(-1, *value.shape[-2:]) if {ROW, COLUMN} <= set(field.axes) or field.axes == SPECTRA else None
    if maps is not None and len(maps) > MOST_MAPS:
        title, maps = f"{title} (channels 0 to {MOST_MAPS - 1} of {len(maps)})", maps[:MOST_MAPS]
    figure = Figure(figsize=(5, 3.4) if maps is None else (4 * len(maps), 4), layout="constrained")
    FigureCanvasAgg(figure)
    if maps is None:
        axes = figure.add_subplot()
        for line in value.reshape(-1, value.shape[-1]).astype(np.float64):
            axes.plot(line, lw=1.2)
        axes.set_ylabel(field.units)
        axes.grid(alpha=0.3)
    else:
        for number, plane in enumerate(maps):
            axes = figure.add_subplot(1, len(maps), number + 1)
            figure.colorbar(axes.imshow(plane.astype(np.float64), cmap="magma"), ax=axes, shrink=0.8, label=field.units)
            axes.set_axis_off()
    figure.suptitle(title, fontsize=9)
    figure.savefig(out, dpi=110, metadata={"Software": None})
