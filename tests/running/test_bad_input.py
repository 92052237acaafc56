"""Bad files through the whole engine: each is computed or named with a reason; nothing is skipped, and a mended file is
computed by the next run."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.declaring.config import load_pipeline
from pipeline.errors import ConfigError, FailedRowsError, SourceError, StageError, TouchstoneError
from pipeline.inputs.scan import SMALL
from pipeline.open import open_node
from pipeline.running.proof import CheckedFile
from pipeline.running.run import RunReport, run

PIPELINE = """
max_failed_rows: {allowed}
nodes:
  photos: {{stage: ingest, folder: photos}}
  images: {{stage: equalize, of: photos, size: 16}}
"""


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (32, 24)) -> Image.Image:
    values = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 50,000 x 50,000 pixels in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(5), "JPEG", exif=exif)


def animated() -> bytes:
    return encoded(picture(6, "P"), "GIF", save_all=True, append_images=[picture(7, "P")])


GOOD = {
    "palette.png": encoded(picture(1, "P")),
    "cmyk.jpg": encoded(picture(2, "CMYK"), "JPEG"),
    "rotated.jpg": rotated(),
    "sixteen.png": encoded(Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 60)),
    "plain.png": encoded(picture(3)),
}
BAD = {
    "truncated.png": (encoded(picture(4))[:200], "truncated|ends|broken"),
    "animated.gif": (animated(), "animat|frames"),
    "empty.png": (b"", "empty|zero|0 bytes|no bytes"),
    "bomb.png": (bomb(), "50,?000"),
    "page.png": (b"<html>not found</html>", "HTML|not an image|no image|known"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name, data in GOOD.items():
        (tmp_path / "photos" / name).write_bytes(data)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.format(allowed=0))
    return tmp_path


def go(project: Path, allowed: int = 0) -> RunReport:
    (project / "pipeline.yaml").write_text(PIPELINE.format(allowed=allowed))
    return run(load_pipeline(project / "pipeline.yaml"), [], 1)


def test_unusual_but_sound_files_are_computed(project: Path) -> None:
    assert go(project).computed == {"photos": len(GOOD), "images": len(GOOD)}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_fails_the_run_and_is_repaired_once_mended(project: Path, name: str) -> None:
    data, reason = BAD[name]
    path = project / "photos" / name
    path.write_bytes(data)
    with pytest.raises(FailedRowsError, match=rf"(?is){name}.*({reason})"):
        go(project)
    assert len(open_node(project / "pipeline.yaml", "images", missing=True)) == len(GOOD)  # the others are there
    report = go(project, allowed=2)
    assert report.computed.get("images", 0) == 0
    assert [name in line for lines in report.failed.values() for line in lines] == [True] * len(report.failed)
    path.write_bytes(encoded(picture(99), "GIF" if name.endswith("gif") else "PNG"))
    assert go(project).computed == {"photos": 1, "images": 1}
    assert len(open_node(project / "pipeline.yaml", "images")) == len(GOOD) + 1


def test_rows_that_were_allowed_to_fail_are_no_lack(project: Path) -> None:
    (project / "photos" / "broken.png").write_bytes(BAD["truncated.png"][0])
    assert sum(map(len, go(project, allowed=1).failed.values())) == 1
    file = project / "pipeline.yaml"
    names = {path.name for path in (project / "photos").iterdir()} - {"broken.png"}
    assert names == set(GOOD)
    assert len(open_node(file, "images")) == len(GOOD)
    file.write_text(PIPELINE.format(allowed=0))
    with pytest.raises(TouchstoneError, match=r"^\w+ lacks 1 row; `touchstone run \w+` computes what is missing$"):
        [open_node(file, node) for node in ("photos", "images")]


def test_a_directory_with_the_name_of_an_image_is_named(project: Path) -> None:
    (project / "photos" / "folder.png").mkdir()
    with pytest.raises(FailedRowsError, match=r"folder\.png.*(directory|folder)"):
        go(project)


def test_a_name_that_is_not_utf8_is_computed(project: Path) -> None:
    place = os.fsencode(project / "photos") + b"/caf\xe9.png"
    with open(place, "wb") as file:
        file.write(encoded(picture(8)))
    assert go(project).computed["images"] == len(GOOD) + 1


def test_an_unreadable_file_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.ingest import Ingest

    (project / "photos" / "plain.png").write_bytes(encoded(picture(1, size=(128, 128))))
    assert (project / "photos" / "plain.png").stat().st_size > SMALL  # opened once more, for its pixels
    before = Ingest.read

    def refuse(self: Ingest, config: object, location: str) -> bytes:  # permissions do not bind root: injected
        if location.endswith("plain.png"):
            raise PermissionError(13, "Permission denied")
        return before(self, config, location)  # type: ignore[arg-type]

    monkeypatch.setattr(Ingest, "read", refuse)
    with pytest.raises(FailedRowsError, match=r"plain\.png.*Permission denied"):
        go(project)
    monkeypatch.undo()
    assert go(project).computed == {"photos": 1, "images": 1}


def test_equal_content_in_two_splits_is_refused_before_anything_is_computed(project: Path) -> None:
    (project / "photos" / "twin.png").write_bytes(GOOD["plain.png"])
    lines = ["file,split", "plain.png,train", "twin.png,test"]
    (project / "photos" / "photos.csv").write_text("\n".join(lines) + "\n")
    text = "nodes:\n  photos: {stage: ingest, manifest: photos/photos.csv}\n"
    (project / "pipeline.yaml").write_text(text)
    with pytest.raises(SourceError, match=r"two splits.*plain\.png.*train.*twin\.png.*test|two splits.*twin"):
        run(load_pipeline(project / "pipeline.yaml"), [], 1)
    assert not list((project / "store").glob("ingest/*/*.zarr"))


@pytest.mark.parametrize("path", ["../outside.png", "/etc/outside.png"])
def test_a_path_outside_the_root_is_refused(project: Path, path: str) -> None:
    (project / "outside.png").write_bytes(GOOD["plain.png"])
    (project / "photos" / "photos.csv").write_text(f"file\n{path}\n")
    (project / "pipeline.yaml").write_text("nodes:\n  photos: {stage: ingest, manifest: photos/photos.csv}\n")
    with pytest.raises((ConfigError, SourceError), match=r"photos\.csv:2.*outside"):
        run(load_pipeline(project / "pipeline.yaml"), [], 1)


def test_a_link_out_of_the_root_is_refused(project: Path) -> None:
    (project / "outside.png").write_bytes(GOOD["plain.png"])
    (project / "photos" / "link.png").symlink_to(project / "outside.png")
    with pytest.raises(SourceError, match=r"link\.png.*outside"):
        go(project)


def test_weights_that_change_during_a_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    file = CheckedFile(path, hashlib.sha256(b"one").hexdigest())
    file.check("fakes")
    path.write_bytes(b"other")
    with pytest.raises(StageError, match=r"^fakes: .*weights was changed while the run went on; run again"):
        file.check("fakes")
