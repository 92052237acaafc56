"""Ten mistakes of the first day: each is answered with one sentence that has the way out."""

from __future__ import annotations

import pytest
from documented import pictures
from user_at_work import UserAtWork

GOOD = """
nodes:
  photos: {stage: ingest, folder: photos}
  images: {stage: equalize, of: photos, size: 16}
  spectra: {stage: spectrum, of: images, features: [profile]}
  svm: {stage: train, on: spectra, detector: profile-svm}
  pixels: {stage: train, on: images, detector: pixel-cnn}
"""

MISTAKES = {
    "a misspelled setting": (("size: 16", "sise: 16"), "run", 2, "pipeline.yaml:4 nodes.images.sise"),
    "a word for a number": (("size: 16", "size: big"), "run", 2, "expected a valid integer"),
    "an unclosed brace": (("size: 16}", "size: 16"), "run", 2, "pipeline.yaml:"),
    "a key twice": (("size: 16", "size: 16, size: 32"), "run", 2, "pipeline.yaml:4"),
    "a folder that is not there": (("folder: photos", "folder: fotos"), "run", 2, "fotos"),
    "a node that is not there": (("", ""), "run spectre", 2, "did you mean 'spectra'?"),
    "a verb that is not there": (("", ""), "trian", 2, "'trian'"),
    "a setting of nothing": (("", ""), "run --set nodes.image.size=32", 2, "images"),
    "no fakes": (("", ""), "run svm", 2, "fake"),
    "rows that are not computed": (("", ""), "export images --to npz --out rows", 1, "`touchstone run images`"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_1_step(user: UserAtWork, mistake: str) -> None:
    (old, new), words, code, way_out = MISTAKES[mistake]
    pictures(user.folder / "photos", 0, 8)
    (user.folder / "pipeline.yaml").write_text(GOOD.replace(old, new) if old else GOOD)
    said = user.types(f"touchstone {words}", code=code)
    sentence = said.err.strip().splitlines()[-1]
    assert way_out in sentence, sentence
    assert not list((user.folder / "store").glob("*/*/*.zarr"))


def test_a_broken_picture_is_named_in_1_step(user: UserAtWork) -> None:
    pictures(user.folder / "photos", 0, 8)
    (user.folder / "photos" / "3.png").write_bytes(b"no picture")
    (user.folder / "pipeline.yaml").write_text(GOOD)
    said = user.types("touchstone run images", code=1)
    assert "3.png" in said.err
    assert "max_failed_rows" in said.err
