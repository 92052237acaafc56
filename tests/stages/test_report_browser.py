"""The report in a real browser (make browser): nothing asked for, no complaint, tables that sort and switch."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Browser
from evaluations import evaluation, row, stored
from memory_rows import context, rows_of, step, union

from pipeline.stage import Artifact
from stages import report as module
from stages.report import Report, ReportConfig

pytestmark = pytest.mark.browser

SOURCES = [f"fakes[generator-{number}]" for number in range(12)]
FLUID_MS = 1500
"""A click on 5,000 rows is answered within this time on a slow machine, layout included."""

TEXTS_OUTSIDE = """
(() => { const box = document.documentElement.getBoundingClientRect();
return [...document.querySelectorAll("text")].filter((one) => { const at = one.getBoundingClientRect();
  return at.left < box.left || at.right > box.right || at.top < box.top || at.bottom > box.bottom; })
  .map((one) => one.textContent); })()
"""
NARROW = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def steps(source: str) -> tuple[dict[str, Any], ...]:
    return (step("ingest" if source == "photos" else "sample"), step("equalize", size=8))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of eight detectors with long names, with figures, samples, domains and trainings."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    places = []
    keys = [(int(source != "photos"), source, f"{source} {n}") for source in ("photos", *SOURCES[:3]) for n in range(8)]
    for number in range(8):
        rows = [row(source, round((number + 1 + place) / 25, 3), variant, tpr=round(number / 10, 3))
                for variant in ("raw", "P") for place, source in enumerate(SOURCES)]  # fmt: skip
        facts = {
            "counts": {split: {"real": 5, "fake": 5} for split in ("train", "val")},
            "validation": {},
            "doubts": [],
        }
        results = evaluation(
            f"a detector of a very long kind on a feature {number}", SOURCES[:1], rows, f"d{number}", **facts
        )
        results["variants"]["P"]["reals_from"] = "raw"
        place = stored(folder / str(number), results, keys, random.uniform(0, 1, len(keys)))
        scores = dict(np.load(place / "scores.npz"))
        scores["variants"] = np.array(["raw", "P"])
        half = np.flatnonzero(scores["label"] == 1)
        for name in ("id", "group", "label", "score", "source", "variant"):
            more = np.ones(len(half), np.int32) if name == "variant" else scores[name][half]
            scores[name] = np.concatenate([scores[name], more])
        np.savez(place / "scores.npz", **scores)
        places.append(Artifact(f"t{number}", f"{number}" * 32, place, {}))
    pictures = {"image": random.integers(0, 255, (8, 8, 8, 3), dtype=np.uint8),
                "fft2d": random.normal(0, 1, (8, 3, 8, 8)), "profile": random.normal(9, 1, (8, 5))}  # fmt: skip
    view = union(
        *(rows_of(source, int(source != "photos"), pictures, steps(source)) for source in ("photos", *SOURCES[:3]))
    )
    view._table["domain"] = np.where(np.arange(len(view)) % 2, "cat", "dog")
    ctx = context(folder, "report", artifacts={"of": tuple(places)})
    views = {name: view.seen_by(Report) for name in ("images", "spectra")}
    Report().fit(ReportConfig(title="Eight detectors", notice="A test."), views, ctx)
    return ctx.out / "report.html"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The section of results alone, of 100 detectors on 50 sources."""
    folder = tmp_path_factory.mktemp("large")
    keys = [(0, "photos", "p"), (1, "s0", "f")]
    places = []
    for number in range(100):
        rows = [row(f"s{source}", ((number * 37 + source * 11) % 100) / 100) for source in range(50)]
        results = evaluation(f"detector {number}", ["s0"], rows, f"d{number}", doubts=[])
        places.append(Artifact(f"t{number}", "0" * 32, stored(folder / str(number), results, keys, [0.1, 0.9])))
    ctx = context(folder, "report", artifacts={"of": tuple(places)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "sections", lambda: {"results": module.import_module("stages.reporting.results").SECTION})
        Report().fit(ReportConfig(), {}, ctx)
    return ctx.out / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize(("width", "dark", "script"), [(1280, False, True), (500, True, True), (1280, False, False)])
def test_the_page_asks_for_nothing_and_nobody_complains(
    browser: Browser, page: Path, width: int, dark: bool, script: bool
) -> None:
    browser.open(page, width, dark=dark, script=script)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.value(NARROW)  # wide tables scroll by themselves
    color = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", color))) < 200) == dark
    broken = "[...document.images].filter((one) => !one.complete || !one.naturalWidth || !one.alt).length"
    assert browser.value(broken) == 0
    assert browser.value("document.querySelector('.switch').hidden") == (not script)
    assert (browser.value("document.querySelectorAll('th button').length") > 0) == script
    unnamed = "[...document.querySelectorAll('table')].filter((one) => !one.caption).length"
    assert browser.value(unnamed) == 0
    assert browser.value("document.querySelectorAll('thead th:not([scope])').length") == 0


def test_verdicts_and_the_first_matrix_are_on_the_first_screen(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    assert browser.value("document.querySelector('.tiles').getBoundingClientRect().bottom") < 400
    assert browser.value("document.querySelector('.matrix tbody tr').getBoundingClientRect().bottom") < 900


def test_every_text_of_every_figure_is_inside_its_box(browser: Browser, page: Path, tmp_path: Path) -> None:
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page.read_text())
    assert len(pictures) >= 4
    for number, picture in enumerate(pictures):
        path = tmp_path / f"{number}.svg"
        path.write_bytes(base64.b64decode(picture))
        browser.open(path, 2000, 2000)
        assert browser.value("document.querySelectorAll('text').length") > 0
        assert browser.value(TEXTS_OUTSIDE) == []


def means(browser: Browser) -> list[float]:
    return json.loads(browser.value(
        "JSON.stringify([...document.querySelector('.matrix').tBodies[0].rows]"
        ".map((one) => Number(one.cells[one.cells.length - 2].textContent)))"
    ))  # fmt: skip


def test_a_click_or_a_key_sorts_and_the_head_says_how(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("window.head = document.querySelector('.matrix thead tr').lastElementChild.previousElementSibling; 1")
    before = means(browser)
    browser.value("head.querySelector('button').click()")
    assert browser.value("head.getAttribute('aria-sort')") == "descending"
    assert means(browser) == sorted(before, reverse=True)
    browser.value("head.querySelector('button').focus()")
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    browser.ask("Input.dispatchKeyEvent", type="keyDown", **key)
    browser.ask("Input.dispatchKeyEvent", type="keyUp", **key)
    assert browser.value("head.getAttribute('aria-sort')") == "ascending"
    assert means(browser) == sorted(before)
    assert browser.value("document.querySelectorAll('.matrix')[1].querySelectorAll('[aria-sort]').length") == 0


def test_the_switch_shows_another_metric_in_every_matrix(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value("document.querySelectorAll('.matrix thead button')[5].click()")  # rows stand otherwise by now
    browser.value("[...document.querySelectorAll('.switch label')].find((one) => /TPR/.test(one.textContent)).click()")
    assert browser.value("document.getElementById('metric-name').textContent") == "TPR"
    for number in (0, 1):
        rows = browser.value(
            f"JSON.stringify([...document.querySelectorAll('.matrix')[{number}].tBodies[0].rows]"
            ".map((one) => [one.dataset.row, one.cells[3].textContent, one.lastElementChild.className]))"
        )
        for place, text, shade in json.loads(rows):
            assert text == f"{int(place) / 10:.3f}"
            assert f"s{int(place) * 2}" in shade.split()
    assert browser.complaints() == []


def test_a_name_leads_to_its_lineage_and_opens_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    target = browser.value("document.querySelector('.matrix tbody a').getAttribute('href').slice(1)")
    browser.value("document.querySelector('.matrix tbody a').click()")
    seen = f"new Promise((done) => setTimeout(() => done(document.getElementById('{target}').checkVisibility()), 50))"
    assert browser.value(seen)


def test_five_thousand_rows_are_fluid(browser: Browser, large: Path) -> None:
    browser.open(large)
    click = (
        "(() => { const begun = performance.now(); {}; document.body.offsetHeight;"
        " return performance.now() - begun; })()"
    )
    opened = browser.value(click.replace("{}", "document.querySelector('details.numbers').open = true"))
    assert browser.value("document.querySelector('details.numbers .more').textContent") == (
        "Show all 5000 rows (200 are shown)"
    )
    sort = "document.querySelectorAll('.long thead button')[{}].click()"
    took = [browser.value(click.replace("{}", sort.replace("{}", str(column)))) for column in (5, 5, 0)]
    switched = browser.value(click.replace("{}", "document.querySelectorAll('.switch input')[4].click()"))
    assert max(opened, *took, switched) < FLUID_MS, (opened, took, switched)
    first = browser.value("document.querySelector('.long').tBodies[0].rows[0].cells[0].textContent")
    assert first == "detector 0"
    browser.value("document.querySelector('details.numbers').open = false")
    browser.value("document.querySelector('details.numbers .more').click()")
    assert browser.value("document.querySelector('.long').tBodies[0].rows.length") == 5000


def test_no_printed_page_is_empty(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.printed(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    streams = {}
    for part in content.split(b"endobj"):
        if found := re.search(rb"(\d+) 0 obj\b.*?\bstream\r?\n(.*)\r?\nendstream", part, re.S):
            streams[found[1]] = found[2]
    contents = re.findall(rb"/Type /Page\b(?!s).*?/Contents (\d+) 0 R", content, re.S)
    assert len(contents) >= 2
    drawn = [zlib.decompress(streams[number]) for number in contents]
    marks = [len(re.findall(rb"\bT[jJ]\b|\bDo\b", one)) for one in drawn]
    assert min(marks) > 5, marks


def test_what_is_embedded_can_be_downloaded(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.value("document.querySelector('a[download$=csv]').click()")
    waited = "new Promise((done) => setTimeout(done, 20))"
    for _ in range(200):
        browser.value(waited)
        if (tmp_path / "results.csv").is_file():
            break
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 8 * 12 * 2
    assert lines[0].startswith("detector,trained_on,node,variant,source")
