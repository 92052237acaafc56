"""Files of manifest entries: fetched only where the user says so, kept only if their digest is right."""

from __future__ import annotations

import hashlib
import io
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from torchvision.models import VGG19_Weights
from toy_project import Project

from pipeline.declaring.config import load_pipeline
from pipeline.declaring.document import load
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONTENT = b"125"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.org/numbers-0a1b2c3d.txt"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were asked for; each gives CONTENT."""
    found: list[str] = []

    def answer(url: str, timeout: float) -> Any:
        assert timeout > 0
        found.append(url)
        return io.BytesIO(CONTENT)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return found


def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Project:
    """A node that reads the entry `numbers`, whose file is not there."""
    text = (
        "nodes:\n  a: {stage: 'toy:Numbers', count: 4}\n  b: {stage: 'toy:Offset', of: a, table: list.yaml#numbers}\n"
    )
    made = Project(tmp_path, monkeypatch, text)
    body = "".join(f"  {line}\n" for line in ("file: files/numbers.txt", *lines))
    (tmp_path / "list.yaml").write_text(f"numbers:\n{body}")
    return made


def test_nothing_is_fetched_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    made = project(tmp_path, monkeypatch, f"url: {URL}", f"sha256: {DIGEST}")
    with pytest.raises(ConfigError, match=rf"does not exist; put the file there, or get it from {URL} with --download"):
        made.load()
    assert asked == []
    pipeline = load_pipeline(made.file, download=True)
    assert asked == [URL]
    assert pipeline.nodes["b"].files["table"].path.read_bytes() == CONTENT
    load_pipeline(made.file, download=True)  # it is there now
    assert asked == [URL]
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["numbers.txt"]


def test_a_file_with_another_digest_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    made = project(tmp_path, monkeypatch, f"url: {URL}", f"sha256: {'f' * 64}")
    with pytest.raises(ConfigError, match=rf"SHA-256 is {DIGEST[:12]}\.\.\., expected ffffffffffff\.\.\.; it was not"):
        load_pipeline(made.file, download=True)
    assert asked == [URL]
    assert list((tmp_path / "files").iterdir()) == []


def test_of_a_published_prefix_the_whole_digest_is_to_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    made = project(tmp_path, monkeypatch, f"url: {URL}", f"sha256_prefix: {DIGEST[:8]!r}")
    with pytest.raises(ConfigError, match=f"lacks 'sha256'; if files/numbers.txt .* add the line 'sha256: {DIGEST}'"):
        load_pipeline(made.file, download=True)
    (tmp_path / "files" / "numbers.txt").write_bytes(b"another file")
    with pytest.raises(ConfigError, match=f"but it begins with {DIGEST[:8]} where it was published; get the file"):
        made.load()
    assert asked == [URL]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ((f"url: {URL}",), "has a url but no 'sha256', nor a 'sha256_prefix' of 8 digits"),
        ((f"url: {URL}", "sha256_prefix: 'abc'"), "nor a 'sha256_prefix' of 8 digits or more"),
        (("url: file:///etc/hosts", f"sha256: {DIGEST}"), "is file:///etc/hosts; only https:// is fetched"),
        (("url: http://example.org/x", f"sha256: {DIGEST}"), "only https:// is fetched"),
        ((f"sha256: {DIGEST}",), "does not exist; put the file there$"),
    ],
)
def test_an_entry_that_cannot_be_checked_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], lines: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_pipeline(project(tmp_path, monkeypatch, *lines).file, download=True)
    assert asked == []


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> Any:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    made = project(tmp_path, monkeypatch, f"url: {URL}", f"sha256: {DIGEST}")
    with pytest.raises(ConfigError, match=rf"list.yaml:3 numbers.url is {URL}, which cannot be fetched: .*no route"):
        load_pipeline(made.file, download=True)
    assert list((tmp_path / "files").iterdir()) == []


def test_the_entry_of_vgg19_is_that_of_torchvision() -> None:
    entry = load(ROOT / "manifests" / "networks.yaml").data["vgg19"]
    published = VGG19_Weights.IMAGENET1K_V1.url
    assert entry["url"] == published
    named = re.search(r"-([0-9a-f]{8})\.pth$", published)
    assert named is not None
    assert str(entry["sha256_prefix"]) == named[1]
    assert entry["released_as"] == published.rpartition("/")[2]
