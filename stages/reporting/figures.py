"""Pictures of the report, as data URIs: the same data give the same bytes (no dates, fixed salt, fixed order of sums).

Curves are SVG, pictures and maps are PNG. Means run in float64 over rows sorted by id.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.printable import printable_lines
from pipeline.stage import Rows

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """A picture inside the page: its data URI, and how wide and high it is shown, in CSS pixels."""

    uri: str
    width: int
    height: int
    pixels: bool = False  # whether its pixels are to be seen, not smoothed


REAL_COLOR = "#111827"
FAKE_COLORS = (
    "#d9480f",
    "#1864ab",
    "#2b8a3e",
    "#862e9c",
    "#c2255c",
    "#0b7285",
    "#e67700",
    "#5f3dc4",
    "#66a80f",
    "#a61e4d",
)
STYLES = ("-", "--", ":", "-.")

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "touchstone",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "axes.titlesize": 9,
    "axes.titlecolor": "#111827",
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "text.parse_math": False,  # names are of users
    "lines.linewidth": 1.4,
}


Layout = Literal["constrained"] | None
"""How axes find their places; None: where `paint` put them, which is much quicker for many of them."""

INCH = 100
"""CSS pixels of an inch of a figure."""


def draw(
    width: float, height: float, kind: str, paint: Callable[[Figure], None], layout: Layout = "constrained"
) -> Picture:
    """One figure, `kind` "svg" or "png"; sizes in inches. It grows where a text or a legend would leave it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
        paint(figure)
        buffer = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        if layout is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # another pass would move things again
        box = figure.get_tightbbox().padded(0.06)
        figure.savefig(buffer, format=kind, dpi=144, metadata=metadata, bbox_inches=box)
    uri = data_uri(buffer.getvalue(), "svg+xml" if kind == "svg" else "png")
    return Picture(uri, round(INCH * box.width), round(INCH * box.height))


def figure(picture: Picture, alt: str, caption: str = "") -> Markup:
    """HTML of a picture with what it shows in words, and a caption below."""
    from markupsafe import Markup

    kind, alt, caption = "pixels" if picture.pixels else "drawn", printable_lines(alt), printable_lines(caption)
    text = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    image = Markup('<img alt="{}" src="{}" class="{}" width="{}" height="{}">')
    scroll = Markup('<div class="wide" role="region" tabindex="0" aria-label="{}">{}</div>')
    shown = image.format(alt, picture.uri, kind, picture.width, picture.height)
    return Markup('<figure class="picture">{}{}</figure>').format(
        shown if picture.pixels else scroll.format(alt, shown), text
    )


def data_uri(content: bytes, kind: str) -> str:
    """A picture inside the page; `kind` is the subtype of its media type: png or svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_picture(content: bytes) -> Picture:
    """A PNG file at its own size."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return Picture(data_uri(content, "png"), *image.size, pixels=True)


def wrapped(name: str, letters: int) -> str:
    """A name in lines of at most so many letters."""
    return textwrap.fill(name, letters)


def colors(labels: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """Color and line style of each source: reals dark, fakes colored, in the order given."""
    result, counts = {}, [0, 0]
    for source, label in labels.items():
        number, counts[label] = counts[label], counts[label] + 1
        if label == 0:
            result[source] = (REAL_COLOR, STYLES[number % len(STYLES)])
        else:
            result[source] = (FAKE_COLORS[number % len(FAKE_COLORS)], STYLES[number // len(FAKE_COLORS) % len(STYLES)])
    return result


def contact_sheet(images: NDArray[np.uint8], columns: int, shown: int, gap: int = 2) -> Picture:
    """PNG of (n, H, W, 3) or (n, H, W) uint8 images side by side, `columns` to a line, on white.

    shown: width of an image on the page, CSS pixels
    """
    from PIL import Image

    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    count, height, width, _ = images.shape
    lines = -(-count // columns)
    sheet = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=False, compress_level=9)
    scale = shown / width
    size = (round(scale * sheet.shape[1]), round(scale * sheet.shape[0]))
    return Picture(data_uri(buffer.getvalue(), "png"), *size, pixels=True)


def moments(rows: Rows, field: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation of a field over rows, float64, one pass over blocks of 64 rows."""
    shape = rows.fields[field].shape
    total, squares = np.zeros(shape), np.zeros(shape)
    shift: NDArray[np.float64] | None = None
    for block in rows.blocks(field, 64):
        values = block.astype(np.float64)
        shift = values[0] if shift is None else shift
        for row in values - shift:  # one row after another: block sizes do not change the sum
            total += row
            squares += row * row
    mean = total / len(rows)
    deviation = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
    return mean + (shift if shift is not None else 0), deviation


def profile_figure(
    means: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], labels: Mapping[str, int], unit: str
) -> Picture:
    """Mean profiles with one standard deviation, and their distance to the mean real profile."""
    shades = colors(labels)
    reals = [means[source][0] for source in means if labels[source] == 0]
    base = np.mean(reals, axis=0) if reals else None

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for source, (mean, deviation) in means.items():
            color, style = shades[source]
            place = np.arange(len(mean))
            left.fill_between(place, mean - deviation, mean + deviation, color=color, alpha=0.10, linewidth=0)
            left.plot(place, mean, style, color=color, label=source)
            if base is not None:
                right.plot(place, mean - base, style, color=color)
        below = "element of the profile (low to high frequency)"
        _dress(left, "mean and one standard deviation", below, unit or "log magnitude")
        _dress(right, "distance to the mean of the reals", below, "difference")
        figure.legend(loc="outside lower center", ncols=min(4, len(means)))

    return draw(10.4, 3.4 + 0.2 * -(-len(means) // 4), "svg", paint)


def min_max(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve from 0 to 1; a flat one is 0."""
    spread = curve.max() - curve.min()
    return (curve - curve.min()) / spread if spread > 0 else np.zeros_like(curve)


def projection_figure(means: Mapping[str, NDArray[np.float64]], labels: Mapping[str, int], what: str) -> Picture:
    """Mean projections (length,) of log spectra, zero frequency in the middle, each from 0 to 1; reals dashed."""
    shades = colors(labels)

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for source, mean in means.items():
            places = (np.arange(len(mean)) - len(mean) // 2) / len(mean)
            axis.plot(places, min_max(mean), "-" if labels[source] else "--", color=shades[source][0], label=source)
        _dress(axis, what, "cycles per pixel", "mean log magnitude, from 0 to 1")
        figure.legend(loc="outside lower center", ncols=min(4, len(means)))

    return draw(10.4, 3.4 + 0.2 * -(-len(means) // 4), "svg", paint)


def map_figure(
    means: Mapping[str, NDArray[np.float64]], labels: Mapping[str, int], shifted: bool, columns: int = 6
) -> Picture:
    """Mean maps (C, H, W) or (H, W) per source; below each, its distance to the mean of the reals."""
    planes = {source: _plane(mean, shifted) for source, mean in means.items()}
    reals = [plane for source, plane in planes.items() if labels[source] == 0]
    base = np.mean(reals, axis=0) if reals else np.mean(list(planes.values()), axis=0)
    gaps = {source: plane - base for source, plane in planes.items()}
    (low, high), (least, most) = color_limits(planes), color_limits(gaps, symmetric=True)
    lines = -(-len(planes) // columns)
    columns = -(-len(planes) // lines)

    def paint(figure: Figure) -> None:
        axes = figure.subplots(2 * lines, columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for number, source in enumerate(planes):
            line, column = divmod(number, columns)
            top, bottom = axes[2 * line, column], axes[2 * line + 1, column]
            first = top.imshow(planes[source], cmap="magma", vmin=low, vmax=high, interpolation="nearest")
            second = bottom.imshow(gaps[source], cmap="RdBu_r", vmin=least, vmax=most, interpolation="nearest")
            top.set_title(source, fontsize=8)
        for line in range(lines):  # one bar over all lines would cover the other one's
            figure.colorbar(first, ax=axes[2 * line], shrink=0.9, aspect=14, label="log magnitude")
            figure.colorbar(second, ax=axes[2 * line + 1], shrink=0.9, aspect=14, label="minus reals")

    return draw(1.75 * columns + 1.1, 3.3 * lines + 0.2, "png", paint)


def color_limits(planes: Mapping[str, NDArray[np.float64]], symmetric: bool = False) -> tuple[float, float]:
    """Ends of a color scale that planes (H, W) share: percentiles, as the logarithm of an exact zero is far out."""
    values = np.concatenate([plane.ravel() for plane in planes.values()])
    if symmetric:
        reach = max(float(np.percentile(np.abs(values), 99.5)), 1e-6)
        return -reach, reach
    low, high = np.percentile(values, [1, 99.5])
    return float(low), float(high)


def _plane(mean: NDArray[np.float64], shifted: bool) -> NDArray[np.float64]:
    plane = mean.mean(axis=0) if mean.ndim == 3 else mean
    return np.fft.fftshift(plane) if shifted else plane


def roc_figure(panels: Mapping[str, Sequence[tuple[str, NDArray[Any], NDArray[Any]]]]) -> Picture:
    """One panel per variant, one curve per detector: false positive rate against true positive rate."""
    names = {name: wrapped(name, 62) for curves in panels.values() for name, _, _ in curves}
    shades = colors(dict.fromkeys(names, 1))
    below = sum(name.count("\n") + 1.4 for name in names.values()) / min(2, len(names))
    columns = max(3, min(4, len(panels)))
    lines = -(-len(panels) // columns)

    def paint(figure: Figure) -> None:
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.ravel()[len(panels) :]:
            axis.set_axis_off()
        for axis, (variant, curves) in zip(axes.ravel(), panels.items(), strict=False):
            axis.plot([0, 1], [0, 1], color="#d1d5db", linewidth=1)
            for name, false, true in curves:
                color, style = shades[name]
                axis.plot(false, true, style, color=color, label=names[name])
            _dress(axis, variant, "false positive rate", "true positive rate")
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        handles = {
            text: handle
            for axis in axes.ravel()
            for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 if len(names) > 1 else 1)

    return draw(10.4, 3.0 * lines + 0.4 + 0.15 * below, "svg", paint)


def _dress(axis: Axes, title: str, below: str, beside: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel(below)
    axis.set_ylabel(beside)
    axis.grid(True, linewidth=0.6)
    axis.set_axisbelow(True)
