"""WebDataset: tar files of samples, each ID.png and ID.json, a set of files for each split."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.exporting.contract import ATTRIBUTED, COLUMNS, Format, Given, png
from stages.exporting.croissant import file_object, file_set, record_field, record_set

SAMPLES = 10_000
"""In one file, at most."""


def _write(given: Given, folder: Path) -> Iterator[int]:
    for split, some in given.by_split():
        starts = range(0, len(some.rows), SAMPLES)
        for number, start in enumerate(starts):
            part = some.part(start, start + SAMPLES)
            yield from _write_file(part, folder / f"{split}-{number:05d}-of-{len(starts):05d}.tar")


def _write_file(given: Given, path: Path) -> Iterator[int]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for positions in given.blocks():
            told = given.told(positions, (*COLUMNS, *ATTRIBUTED))
            for number, values in enumerate(given.rows.array(given.picture, positions)):
                about = {name: texts[number] for name, texts in told.items()}
                text = json.dumps(about, ensure_ascii=False, sort_keys=True)
                _add(archive, f"{about['id']}.png", png(values))
                _add(archive, f"{about['id']}.json", text.encode())
            yield len(positions)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member that names no owner and no time: the same rows give the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    archive.addfile(info, io.BytesIO(content))


def _describe(given: Given, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    names = [path.name for path in sorted(folder.glob("*.tar"))]
    archives = [file_object(name, "application/x-tar", "samples ID.png and ID.json") for name in names]
    pictures = file_set("pictures", "image/png", "*.png", names)
    samples = file_set("samples", "application/json", "*.json", names)
    name: dict[str, Any] = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "filename"}}
    name["transform"] = {"regex": "(.+)[.]png$"}
    content = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "content"}}
    fields = [
        record_field("id", COLUMNS["id"], "sc:Text", name),
        record_field(given.picture, "the picture; ID.json has the columns", "sc:ImageObject", content),
    ]
    return [*archives, pictures, samples], [record_set(fields)]


FORMAT = Format(
    "tar files of ID.png and ID.json, for fields of 8-bit pictures",
    _write,
    _describe,
    """\
```yaml
photos: {stage: ingest, tar: EXPORT}
```

Splits are told by the files' names and classes by `label` of ID.json, where groups are, too.""",
    pictures=True,
)
