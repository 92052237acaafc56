"""Stored rows as a PNG: pictures as they are, maps as heat maps, all else as curves; the axes of the field decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ids
from pipeline.dataset import Dataset, Part
from pipeline.errors import ConfigError
from pipeline.planning.explain import not_computed
from pipeline.planning.planned import Plan
from pipeline.planning.row_names import row_named
from pipeline.planning.selection import Branch, origin
from pipeline.sentences import counted
from pipeline.stage import COLUMN, PICTURE, ROW, SPECTRA, Field

MOST_MAPS = 8
"""Channels that are drawn of a row with many of them: the first."""

MOST_ACROSS = 8
"""Rows of the node in one row of a sheet."""


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


def show_row(plan: Plan, node: str, row: str, field: str | None, out: Path) -> str:
    """Draw a row as the PNG `out`; returns a sentence. row: first digits of its id, its file's name, or its seed.

    Raises ConfigError if there is no such row, or if `out` is named like something else.
    """
    _check_out(out)
    branch, position = row_named(_branches(plan, node), node, row)
    name = _choose(branch, field)
    short = ids.hex(branch.rows.id[position])[:12]
    if not branch.have[position]:
        raise ConfigError(not_computed(plan, branch, position))
    draw(_value(plan, branch, position, name), branch.schema[name], f"{node} {short} {name}", out)
    return f"{out}: {name} of {short} ({origin(branch, position)})"


def show_sheet(plan: Plan, node: str, count: int, field: str | None, out: Path) -> str:
    """Draw `count` computed rows of a node, of each source as many, as one PNG; returns a sentence.

    Raises ConfigError if none is computed, or if `out` is named like something else.
    """
    _check_out(out)
    branches = _branches(plan, node)
    rows = [np.flatnonzero(branch.have)[:count].tolist() for branch in branches]
    in_turn = sorted((turn, source) for source, positions in enumerate(rows) for turn in range(len(positions)))
    chosen = [(branches[source], rows[source][turn]) for source, turn in sorted((b, a) for a, b in in_turn[:count])]
    if not chosen:
        raise ConfigError(f"no row of {node} is computed; `touchstone run {node}` does it")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(len(chosen), MOST_ACROSS)
    down = -(-len(chosen) // across)
    figure = Figure(figsize=(1.7 * across, 1.9 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (branch, position) in enumerate(chosen):
        name = _choose(branch, field)
        axes = figure.add_subplot(down, across, number + 1)
        _draw_into(axes, _value(plan, branch, position, name), branch.schema[name])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(_short(origin(branch, position)), fontsize=6, parse_math=False)
    figure.savefig(out, dpi=130, metadata={"Software": None})
    return f"{out}: {counted(len(chosen), 'row')} of {node}"


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is '{out}'; expected a name that ends in .png")


def _short(name: str) -> str:
    """The end of a place, which fits above a small picture."""
    last = name.replace("::", "/").rpartition("/")[2]
    return last if len(last) <= 28 else f"...{last[-25:]}"


def _value(plan: Plan, branch: Branch, position: int, field: str) -> NDArray[Any]:
    part = Part(branch.stage.name, branch.chain, branch.schema, branch.rows.id[position : position + 1])
    value: NDArray[Any] = Dataset(plan.store, [part], {}).array(field)[0]
    return value


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
    if _is_picture(value, field):
        from PIL import Image

        Image.fromarray(value).save(out)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = _maps(value, field)
    if maps is not None and len(maps) > MOST_MAPS:
        title, maps = f"{title} (channels 0 to {MOST_MAPS - 1} of {len(maps)})", maps[:MOST_MAPS]
    figure = Figure(figsize=(5, 3.4) if maps is None else (4 * len(maps), 4), layout="constrained")
    FigureCanvasAgg(figure)
    if maps is None:
        axes = figure.add_subplot()
        _draw_into(axes, value, field)
        axes.set_ylabel(field.units)
        axes.grid(alpha=0.3)
    else:
        for number, plane in enumerate(maps):
            axes = figure.add_subplot(1, len(maps), number + 1)
            figure.colorbar(_heat(axes, plane), ax=axes, shrink=0.8, label=field.units)
    figure.suptitle(title, fontsize=9)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def _is_picture(value: NDArray[Any], field: Field) -> bool:
    return value.dtype == np.uint8 and field.axes == PICTURE and value.shape[-1] == 3


def _maps(value: NDArray[Any], field: Field) -> NDArray[Any] | None:
    """(maps, row, column) of a value that has such axes."""
    value = np.moveaxis(value, -1, 0) if field.axes == PICTURE else value
    return value.reshape(-1, *value.shape[-2:]) if {ROW, COLUMN} <= set(field.axes) or field.axes == SPECTRA else None


def _heat(axes: Any, plane: NDArray[Any]) -> Any:
    axes.set_axis_off()
    return axes.imshow(plane.astype(np.float64), cmap="magma")


def _draw_into(axes: Any, value: NDArray[Any], field: Field) -> None:
    """A value in one panel: of many maps the first."""
    maps = _maps(value, field)
    if _is_picture(value, field):
        axes.imshow(value, interpolation="nearest")
    elif maps is not None:
        _heat(axes, maps[0])
    else:
        for line in value.reshape(-1, value.shape[-1]).astype(np.float64):
            axes.plot(line, lw=1.2)
