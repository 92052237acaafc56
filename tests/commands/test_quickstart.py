"""The verb `quickstart`: the file that it writes for what people have, and the sentences for what does not fit."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from toy_project import Project, touchstone

from pipeline.declaring.config import load_pipeline
from pipeline.running.run import RunReport
from stages.commands import quickstart

EACH = 44


def write(folder: Path, kind: int, count: int = EACH, side: int = 40) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng((kind, number)).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in folders, a zip file and a table, and one class alone."""
    place = tmp_path_factory.mktemp("pictures")
    write(place / "both" / "real", 0)
    write(place / "both" / "fake", 1)
    files = sorted(place.glob("both/*/*.png"))
    with zipfile.ZipFile(place / "both.zip", "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(place / "both"))
    for name in ("real", "fake"):
        with tarfile.open(place / f"{name}.tar", "w") as shard:
            shard.add(place / "both" / name, name)
        shutil.copytree(place / "both" / name, place / "linked" / name)
    (place / "linked" / "real" / "0.png").unlink()
    (place / "linked" / "real" / "0.png").symlink_to(place / "both" / "real" / "0.png")
    classes = [("real", "fake").index(file.parent.name) for file in files]
    encoded = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    about = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["real", "fake"]}}}}
    content = pyarrow.table({"image": encoded, "label": classes})
    pyarrow.parquet.write_table(
        content.replace_schema_metadata({"huggingface": json.dumps(about)}), place / "both.parquet"
    )
    rows = [f"{file.relative_to(place / 'both')},{file.parent.name}" for file in files]
    (place / "both" / "list.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    write(place / "few", 2, 5)
    write(place / "tiny", 3, EACH, 12)
    (place / "note.txt").write_text("no image")
    write(place / "caf\udce9", 4, 1)
    for name in ("real", "fake"):
        (place / "no pictures" / name).mkdir(parents=True)
        for number in range(EACH):
            (place / "no pictures" / name / f"{number}.png").write_text(f"{name} {number}")
    return place


@pytest.fixture
def call(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    project = Project(tmp_path / "project", monkeypatch, "nodes: {}\n")
    project.file.unlink()
    monkeypatch.setattr(project, "folder", pictures)
    out = tmp_path / "out"
    out.mkdir()

    def go(*words: str) -> CompletedProcess[str]:
        place = () if "--out" in words else ("--out", str(out))
        return touchstone(project, "quickstart", *words, *place)

    return go


@pytest.mark.parametrize(
    ("words", "sources"),
    [
        (
            ("--real", "both/real", "--fake", "both/fake"),
            '  real: {{stage: ingest, folder: "{0}/both/real"}}\n'
            '  fake: {{stage: ingest, folder: "{0}/both/fake", label: fake}}\n',
        ),
        (("--data", "both"), '  found: {{stage: ingest, folder: "{0}/both", layout: auto}}\n'),
        (("--data", "both.zip"), '  found: {{stage: ingest, zip: "{0}/both.zip", layout: auto}}\n'),
        (("--data", "both.parquet"), '  found: {{stage: ingest, parquet: "{0}/both.parquet"}}\n'),
        (
            ("--real", "real.tar", "--fake", "fake.tar"),
            '  real: {{stage: ingest, tar: "{0}/real.tar"}}\n'
            '  fake: {{stage: ingest, tar: "{0}/fake.tar", label: fake}}\n',
        ),
        (
            ("--data", "linked", "--follow-links"),
            '  found: {{stage: ingest, folder: "{0}/linked", layout: auto, follow_links: true}}\n',
        ),
        (("--data", "both/list.csv"), '  found: {{stage: ingest, manifest: "{0}/both/list.csv"}}\n'),
    ],
    ids=["two folders", "one folder", "zip", "parquet", "two tars", "links", "table"],
)  # fmt: skip
def test_what_people_have_becomes_a_file_that_can_be_planned(
    words: tuple[str, ...], sources: str, call: Callable[..., Any], pictures: Path, tmp_path: Path
) -> None:
    said = call(*words, "--no-run")
    path = tmp_path / "out" / "pipeline.yaml"
    assert (said.returncode, said.stdout) == (0, f"{path}: written, for {2 * EACH} images\n")
    text = path.read_text()
    assert f"nodes:\n{sources.format(pictures)}\n" in text
    assert "size: 32, max_failed_rows: 2}" in text  # no side is below 40 pixels; two in a hundred may be broken
    nodes = load_pipeline(path).nodes
    assert {"audit", "detectors[profile-svm]", "tables[pixel-cnn]", "report"} < set(nodes)
    again = call(*words, "--no-run")
    assert (again.returncode, path.read_text()) == (0, text)


def test_the_size_and_the_count_are_what_is_said(call: Callable[..., Any], tmp_path: Path) -> None:
    assert call("--data", "both", "--size", "24", "--count", "80", "--no-run").returncode == 0
    text = (tmp_path / "out" / "pipeline.yaml").read_text()
    assert "images: {stage: equalize, of: {of: found, take: 80}, size: 24, " in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give --real DIR and --fake DIR, or --data DIR with both classes in it"),
        (("--real", "both/real"), "give --real DIR and --fake DIR, or --data DIR with both classes in it"),
        (("--data", "both", "--fake", "both"), "give --real DIR and --fake DIR, or --data DIR with both classes in it"),
        (("--real", "few", "--fake", "few"), "--real and --fake are both few; give the folder of each class"),
        (("--data", "absent"), "absent: does not exist; expected a folder of images, an archive or a manifest"),
        (("--data", "both/real"), "both/real: nothing tells real from fake; expected folders called so, a published"),
        (("--real", "few", "--fake", "both/fake"), "there are 5 real images, expected at least 40 of each class; add"),
        (("--real", "tiny", "--fake", "both/fake"), "many images are smaller than 16 pixels; expected larger ones"),
        (
            ("--data", "note.txt"),
            "note.txt: is no file that images are read from; expected a folder of images, an arch",
        ),
        (("--data", "caf\udce9"), "caf\\xe9: has letters in its path that a pipeline file cannot hold; rename it"),
        (("--data", "no pictures"), "no image has a header that can be read; expected JPEG, PNG, WebP and the like"),
        (("--data", "both", "--size", "64"), "--size is 64, and 88 of 88 images are smaller; give a smaller one"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_no_file(
    words: tuple[str, ...], sentence: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    said = call(*words)
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith(f"touchstone: {sentence}")
    assert not (tmp_path / "out" / "pipeline.yaml").exists()


def test_a_link_to_elsewhere_is_refused_with_the_option_that_allows_it(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    said = call("--data", "linked", "--no-run")
    assert said.returncode == 1
    assert "linked: 'real/0.png' leads to a path outside the root; copy the file" in said.stderr
    assert said.stderr.endswith("with `follow_links: true` (`--follow-links` of quickstart)\n")
    assert not (tmp_path / "out" / "pipeline.yaml").exists()


def test_a_place_where_nothing_can_be_written_is_named(
    pictures: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    place = pictures / "both.zip"
    said = call("--data", "both", "--out", str(place))
    assert said.returncode == 2
    assert said.stderr == (
        f"touchstone: --out is {place}, where nothing can be written (File exists); name a folder of yours\n"
    )


def test_a_file_of_the_user_s_is_left_alone(call: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "out" / "pipeline.yaml"
    path.write_text("nodes: {}\n")
    said = call("--data", "both", "--no-run")
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1] == (
        f"touchstone: {path} exists and says something else; call `touchstone run` for it, or give --out another folder"
    )
    assert path.read_text() == "nodes: {}\n"


def test_the_audit_is_told_before_the_detectors_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        {"name": "codec", "kind": "container", "verdict": "differs"},
        {"name": "size", "kind": "container", "verdict": "equal"},
    ]
    (tmp_path / "audit.json").write_text(json.dumps({"verdict": "differs", "bias": "found", "checks": checks}))
    ran: list[list[str]] = []

    def run(path: Path, nodes: Sequence[str] = (), device: str | None = None) -> RunReport:
        ran.append(list(nodes))
        return RunReport(pages=["page.html"])

    monkeypatch.setattr("pipeline.open.run_file", run)
    monkeypatch.setattr("pipeline.open.open_artifact", lambda path, node: tmp_path)
    opened: list[str] = []

    def browser(place: str) -> bool:
        opened.append(place)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    quickstart._run(tmp_path / "pipeline.yaml", None, show=True)
    assert ran == [["audit"], []]
    assert capsys.readouterr().out.splitlines()[:2] == [
        "audit: differs; bias: found: codec (container)",
        "the report: page.html",
    ]
    assert opened == [(Path.cwd() / "page.html").as_uri()]


@pytest.mark.stress
def test_the_whole_way_from_folders_to_a_report(call: Callable[..., Any], tmp_path: Path) -> None:
    said = call("--real", "both/real", "--fake", "both/fake", "--no-open")
    assert said.returncode == 0
    assert Path(said.stdout.partition("the report: ")[2].splitlines()[0]).stat().st_size > 100_000
