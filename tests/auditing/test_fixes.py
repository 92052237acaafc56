"""What an audit advises takes the difference away: planted, treated as the fix says, audited again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing_pictures import CONTAINERS, Make, decoded, encoded, jpeg, of_file, scene, texted
from PIL import Image
from predicted_project import artifact
from toy_project import Project

from pipeline.stage import ID, Batch, Context
from stages.auditing.audit import Finding, audit
from stages.auditing.examined import Row, of_content
from stages.auditing.fixes import FIXES
from stages.auditing.pixels import picture
from stages.auditing.vocabulary import DIFFERS, KIND
from stages.equalize import Equalize, EqualizeConfig

COUNT, SIDE = 24, 24
Findings = dict[str, Finding]

STRESS = pytest.mark.stress
"""An audit with pixels takes a second; cases like another one wait for `make stress`."""


def equalized(contents: list[bytes], **settings: Any) -> list[np.ndarray]:
    """Images of the stage `equalize`."""
    ids = np.array([number.to_bytes(16, "big") for number in range(len(contents))], ID)
    batch = Batch(ids, (ids,), ({},), reader=lambda row: contents[row])
    ctx = Context(0, "equalize")
    images = Equalize().compute(EqualizeConfig(size=SIDE, **settings), batch, ctx)["image"]
    assert not ctx.failures
    return list(images)


def pairs(real: Make, fake: Make, count: int = COUNT) -> list[list[bytes]]:
    return [[make(scene(2 * number + label, 32)) for number in range(count)] for label, make in enumerate((real, fake))]


def audited(classes: list[list[Row]]) -> Findings:
    return {one.name: one for one in audit(*classes).findings}


def seen(images: list[np.ndarray]) -> list[Row]:
    return [Row(str(number), picture=picture(one)) for number, one in enumerate(images)]


def loud(found: Findings) -> set[str]:
    """Checks that say what no generator does."""
    return {name for name, one in found.items() if one.verdict == DIFFERS and one.letter == "C"}


@pytest.mark.parametrize(("name", "real", "fake"), CONTAINERS)
def test_files_of_equalized_pictures_differ_in_nothing_of_their_containers(name: str, real: Make, fake: Make) -> None:
    """`equalize` of both classes by one node, as most fixes say; published under names of one form."""
    assert "equalize" in FIXES[name]
    files = [[encoded(one) for one in equalized(contents)] for contents in pairs(real, fake)]
    found = audited([[of_file(f"{number:05d}.png", one) for number, one in enumerate(rows)] for rows in files])
    assert not loud(found)
    for check in ("codec", "encoder", "mode", "alpha", "icc", "exif", "orientation", "metadata_text", "size", "aspect"):
        assert found[check].effect == 0, check


def deep(picture: np.ndarray) -> bytes:
    return encoded(Image.fromarray(picture[..., 0].astype(np.uint16) * 257))


def barred(picture: np.ndarray) -> bytes:
    framed = picture.copy()
    framed[:3] = framed[-3:] = 0
    return encoded(framed)


@pytest.mark.parametrize(
    ("name", "real", "fake", "settings"),
    [
        ("gray_share", encoded, lambda one: encoded(Image.fromarray(one).convert("L")), {"color": "gray"}),
        pytest.param("borders", encoded, barred, {"crop": {"left": 4, "top": 4, "side": SIDE}}, marks=STRESS),
        pytest.param("bit_depth", encoded, deep, {}, marks=STRESS),
    ],
)
def test_the_setting_that_a_fix_names_silences_its_check(
    name: str, real: Make, fake: Make, settings: dict[str, Any]
) -> None:
    assert all(setting in FIXES[name] for setting in settings)
    contents = pairs(real, fake)
    before = [[Row(str(k), True, "", *of_content(one)) for k, one in enumerate(rows)] for rows in contents]
    assert name in loud(audited(before))
    after = audited([seen(equalized(rows, **settings)) for rows in contents])
    assert name not in loud(after)
    assert after["gray_share"].verdict != DIFFERS or name == "bit_depth"  # one channel of 16 bits is gray


def test_a_window_gives_both_classes_the_history_of_the_reals() -> None:
    contents = pairs(jpeg(90), encoded)
    shared: dict[str, Any] = {"crop": "native"}
    left = audited([seen(equalized(rows, **shared)) for rows in contents])
    assert left["grid8"].verdict == DIFFERS  # a common last step alone leaves the history as it was
    window = {"protocol": "window", "sides": (16, 64), "qualities": (90,)}
    found = audited([seen(equalized(rows, **shared, **window)) for rows in contents])
    assert {name for name, one in found.items() if one.verdict == DIFFERS} == set()


@STRESS
def test_recompression_makes_both_classes_jpeg_of_one_table() -> None:
    """`jpeg96` hides what is finer than its table, and no more is promised."""
    contents = pairs(jpeg(99, subsampling=2), encoded)
    before = audited([seen(equalized(rows, crop="native")) for rows in contents])
    after = audited([seen(equalized(rows, crop="native", protocol="jpeg96")) for rows in contents])
    assert abs(after["grid8"].statistic or 0) <= abs(before["grid8"].statistic or 0)
    assert after["grid8"].verdict != DIFFERS


PIPELINE = """
nodes:
  reals: {stage: ingest, folder: reals, domain_by: folder, splits: {train: 0.6, val: 0.2, test: 0.2}, group_by: "(g..)"}
  fakes: {stage: ingest, folder: fakes, domain_by: folder, label: fake, group_by: "(g..)",
          splits: {train: 0.6, val: 0.2, test: 0.2}}
  known: {stage: examine, of: [reals, fakes]}
  before: {stage: audit, of: known}
  images:
    stage: equalize
    of: [reals, fakes]
    size: 24
    crop: native
    protocol: window
    sides: [16, 64]
    qualities: [85]
  after: {stage: audit, of: images}
  matched:
    stage: audit
    of: [{of: images, where: label = real and domain = cat, take: 6},
         {of: images, where: label = real and domain = dog, take: 6},
         {of: images, where: label = fake and domain = cat, take: 6},
         {of: images, where: label = fake and domain = dog, take: 6}]
"""


@STRESS
def test_a_pipeline_that_follows_the_fixes_has_no_bias_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of nearly all differences at once, through `examine`, `equalize`, views and `audit`."""
    exif = Image.Exif()
    exif[0x0112] = 1
    makes = {
        "reals": jpeg(85, progressive=True, exif=exif, icc_profile=b"profile", comment=b"a camera"),
        "fakes": lambda one: texted(one, "a diffuser"),
    }
    for label, (name, make) in enumerate(makes.items()):
        for number in range(30):
            domain = ("cat", "dog")[(number % 5 == 0) ^ label]
            (tmp_path / name / domain).mkdir(parents=True, exist_ok=True)
            place = tmp_path / name / domain / f"g{number // 2:02d}{name}{number}.{('jpg', 'png')[label]}"
            place.write_bytes(make(scene(2 * number + label, 32 if label else 40)))
    project = Project(tmp_path, monkeypatch, PIPELINE)
    project.run("before", "after", "matched")
    results = {name: json.loads((artifact(project, name) / "audit.json").read_text())
               for name in ("before", "after", "matched")}  # fmt: skip
    said = {name: {one["name"]: one for one in found["checks"]} for name, found in results.items()}
    planted = {"codec", "icc", "exif", "orientation", "metadata_text", "size", "source_mix"}
    assert planted <= {name for name, one in said["before"].items() if one["verdict"] == DIFFERS}
    assert results["before"]["bias"] == "found"
    container = {name for name, kind in KIND.items() if kind == "C"}
    assert {name for name in container if said["after"][name]["verdict"] == DIFFERS} == {"source_mix"}
    assert said["after"]["grid8"]["verdict"] != DIFFERS
    assert (said["matched"]["source_mix"]["verdict"], said["matched"]["source_mix"]["effect"]) == ("cannot tell", 0)
    assert results["matched"]["bias"] != "found"
    assert said["after"]["group_leak"]["verdict"] == "equal"


def test_rows_that_are_named_are_enough_to_remove() -> None:
    """Copies, look-alikes and broken files: without the rows that are shown the checks are silent."""
    reals = {f"real/{number}": scene(number) for number in range(20)}
    fakes = {f"fake/{number}": scene(100 + number) for number in range(20)}
    fakes |= {"fake/20": scene(0), **{f"fake/{20 + k}": decoded(jpeg(80)(scene(6 + k))) for k in (1, 2, 3)}}
    broken = {f"fake/{24 + number}" for number in range(44)}

    def rows(left_out: set[str]) -> list[list[Row]]:
        kept = [[Row(name.partition("/")[2], True, "", None, picture(one)) for name, one in given.items()
                 if name not in left_out] for given in (reals, fakes)]  # fmt: skip
        return [kept[0], [*kept[1], *(Row(name[5:], True, "is broken") for name in sorted(broken - left_out))]]

    checks = ("exact_duplicates", "near_duplicates", "unreadable")
    found = audited(rows(set()))
    assert [found[name].verdict for name in checks] == [DIFFERS] * 3
    left_out = {row for name in checks for row in found[name].rows}
    assert left_out == {*(f"fake/{number}" for number in range(20, 68))}
    assert not loud(audited(rows(left_out)))
