"""Pictures of the report: no text leaves them, colors end at percentiles, captions and words for those who see none."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
from PIL import ImageFont

from stages.reporting import figures

FONT = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 100)
SVG = "{http://www.w3.org/2000/svg}"


def outside(svg: str) -> list[str]:
    """Texts that leave an SVG of matplotlib's, by the widths of the font that it names."""
    root = ElementTree.fromstring(svg)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    texts = [one for one in root.iter(f"{SVG}text") if one.text]
    assert texts
    lost = []
    for one in texts:
        style = dict(part.strip().split(": ", 1) for part in one.attrib["style"].split(";"))
        numbers = [float(word) for word in re.findall(r"-?[\d.]+", one.attrib["transform"])]
        turned = numbers.pop(0) if one.attrib["transform"].startswith("rotate") else 0.0
        assert turned in (0, -90)
        place, sign, most = (numbers[0], 1, width) if turned == 0 else (numbers[1], -1, height)  # turned: upward
        length = FONT.getlength(one.text) * float(style["font-size"].removesuffix("px")) / 100
        begin = place - sign * length * {"start": 0, "middle": 0.5, "end": 1}[style.get("text-anchor", "start")]
        across, farthest = (numbers[1], height) if turned == 0 else (numbers[0], width)
        if (
            not 0 <= across <= farthest
            or min(begin, begin + sign * length) < 0
            or max(begin, begin + sign * length) > most
        ):
            lost.append(one.text)
    return lost


def svg_of(picture: figures.Picture) -> str:
    return base64.b64decode(picture.uri.partition("base64,")[2]).decode()


def test_no_text_of_a_roc_figure_leaves_it_however_long_names_are() -> None:
    line = np.array([0.0, 1.0])
    names = [f"detector {number} on a feature with a {'very ' * 30}long name" for number in range(13)]
    svg = svg_of(figures.roc_figure({variant: [(name, line, line) for name in names] for variant in ("raw", "P")}))
    assert svg.count("long name") == 13
    assert outside(svg) == []


def test_no_text_of_a_profile_figure_leaves_it() -> None:
    means = {f"source {'x' * 60} {number}": (np.arange(8.0), np.ones(8)) for number in range(9)}
    svg = svg_of(figures.profile_figure(means, dict.fromkeys(means, 1), "nepers"))
    assert all(f"x {number}" in svg for number in range(9))
    assert outside(svg) == []


def test_a_figure_grows_where_a_text_would_leave_it() -> None:
    def paint(figure: figures.Figure) -> None:
        figure.text(-0.2, 0.5, "begins left of the figure")
        figure.text(0.9, 0.5, "ends right of it, far from its edge")

    picture = figures.draw(2, 1, "svg", paint)
    assert outside(svg_of(picture)) == []
    assert picture.width > 400  # two inches are 200


def test_an_exact_zero_does_not_take_the_colors_from_the_rest() -> None:
    planes = np.random.default_rng(0).normal(5, 1, (2, 32, 32))
    planes[1, 0, 0], planes[1, 0, 1] = -160, 400  # logarithms of an exact zero, and of the mean value
    scale = figures.color_limits({"a": planes[0], "b": planes[1]})
    assert 2 < scale[0] < 4
    assert 6 < scale[1] < 8
    gaps = figures.color_limits({"a": planes[0] - 5, "b": planes[1] - 5}, symmetric=True)
    assert gaps[0] == -gaps[1]
    assert 2 < gaps[1] < 4


def test_a_picture_has_words_for_those_who_do_not_see_it() -> None:
    picture = figures.Picture("data:image/png;base64,AA", 30, 20, pixels=True)
    shown = figures.figure(picture, 'two "apes" <b>', "Two of 5 & more.")
    assert 'alt="two &#34;apes&#34; &lt;b&gt;" src="data:image/png;base64,AA"' in shown
    assert 'width="30" height="20"' in shown
    assert "<figcaption>Two of 5 &amp; more.</figcaption>" in shown
    assert "figcaption" not in figures.figure(picture, "apes")


def test_projections_are_drawn_from_zero_to_one_with_the_reals_dashed() -> None:
    assert figures.min_max(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert figures.min_max(np.full(3, 7.0)).tolist() == [0, 0, 0]
    means = {"photos": np.arange(8.0), "fakes[a]": np.arange(8.0) ** 2, "fakes[b]": np.zeros(8)}
    svg = svg_of(figures.projection_figure(means, {"photos": 0, "fakes[a]": 1, "fakes[b]": 1}, "Frequencies"))
    assert outside(svg) == []
    dashed = re.findall(r"<path [^>]*stroke-dasharray: [^>]*>", svg)
    assert len(dashed) == 2  # the curve, and its sample in the legend
    assert all(f"stroke: {figures.REAL_COLOR}" in path for path in dashed)
