"""A project made from the page on writing a detector."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def photographs(folder: Path) -> None:
    """A manifest of a few photographs in all three splits."""
    lines = (ROOT / "manifests" / "photos.csv").read_text(encoding="utf-8").splitlines()
    of_split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for line in lines[1:]:
        file, _, _, split = line.split(",")[:4]
        of_split[split].append(f"{file},{split}")
    chosen = [line for split, count in (("train", 6), ("val", 4), ("test", 4)) for line in of_split[split][:count]]
    (folder / "photos.csv").write_text("\n".join(["file,split", *chosen]) + "\n", encoding="utf-8")
    text = f"{{name: few, root: {ROOT / 'manifests'}, licence: CC0-1.0, rows: photos.csv}}\n"
    (folder / "manifest.yaml").write_text(text, encoding="utf-8")
    (folder / "photos").symlink_to(ROOT / "manifests" / "photos")


def detector_project(folder: Path) -> Path:
    """The example detector beside a pipeline file with the example's nodes."""
    text = (ROOT / "docs" / "writing_a_detector.md").read_text(encoding="utf-8")
    code, nodes = re.search(r"```python\n(.*?)```", text, re.S), re.search(r"```yaml\n(  mine:.*?)```", text, re.S)
    assert code
    assert nodes
    folder.mkdir(exist_ok=True)
    (folder / "nearest_mean.py").write_text(code[1], encoding="utf-8")
    photographs(folder)
    file = folder / "pipeline.yaml"
    file.write_text(
        textwrap.dedent("""
        nodes:
          photos: {stage: ingest, manifest: manifest.yaml}
          images: {stage: equalize, of: photos, size: 32}
          fakes: {stage: upsample, of: images, method: nearest}
          spectra: {stage: spectrum, of: [images, fakes], features: [profile]}
        """)
        + nodes[1]
    )
    return file
