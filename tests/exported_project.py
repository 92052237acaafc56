"""Six photographs of several licences, groups and splits, and what is made of them, to be exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from reader_rows import picture
from toy_project import Project

PIPELINE = """
nodes:
  photos: {stage: ingest, manifest: list.yaml}
  reals: {stage: equalize, of: photos, size: 16}
  fakes: {stage: upsample, of: reals, method: nearest}
  images: {stage: equalize, of: [reals, fakes], size: 16}
  both: {stage: equalize, matrix: {resample: [lanczos, bicubic]}, of: reals, size: 16, resample: "{resample}"}
  sizes: {stage: equalize, matrix: {size: [8, 16]}, of: reals, size: "{size}"}
  spectra: {stage: spectrum, of: images, features: [profile, dct2d]}
"""
SPLIT_OF = ("train", "train", "val", "test", "train", "train")


def exported_project(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """The project, with its files, all computed."""
    found = Project(folder, patch, PIPELINE)
    (folder / "photos").mkdir()
    lines = ["name: six", "licence: CC-BY-4.0", "root: photos", "rows:"]
    for number, split in enumerate(SPLIT_OF):
        (folder / "photos" / f"{number}.png").write_bytes(picture(f"export {number}", (20, 18)))
        more = 'licence: MIT, author: "Ann, B.", url: "https://x.org/4"' if number == 4 else "source: album"
        group = f"g{number // 2}" if number < 2 else f"g{number}"
        lines.append(f"  - {{file: {number}.png, split: {split}, group: {group}, domain: cats, {more}}}")
    (folder / "list.yaml").write_text("\n".join(lines))
    found.run()
    return found
