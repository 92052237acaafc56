"""PNG files in folders SPLIT/LABEL, and a manifest that `ingest` reads with the same classes, splits and groups."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.exporting.contract import ATTRIBUTED, COLUMNS, Format, Given, png
from stages.exporting.croissant import column_fields, file_object, file_set, record_field, record_set

MANIFEST = "manifest.csv"
HEAD = ("file", "sha256", "size", "label", "split", "group", "domain", "licence", "author", "url", "source")
"""Columns of a manifest (`stages.images.manifests`); `source` there is where an image comes from."""


def _write(given: Given, folder: Path) -> Iterator[int]:
    with open(folder / MANIFEST, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEAD)
        for positions in given.blocks():
            told = given.told(positions, (*COLUMNS, *ATTRIBUTED))
            pictures = given.rows.array(given.picture, positions)
            for number, values in enumerate(pictures):
                one = {name: texts[number] for name, texts in told.items()}
                name, content = f"{one['split']}/{one['label']}/{one['id']}.png", png(values)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
                came = "; ".join(text for text in (one["source"], one["file"], one["provenance"]) if text)
                rest = (one[key] for key in HEAD[3:-1])
                table.writerow([name, hashlib.sha256(content).hexdigest(), len(content), *rest, came])
            yield len(positions)


def _describe(given: Given, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    manifest = file_object(MANIFEST, "text/csv", "a line for each picture")
    pictures = file_set("pictures", "image/png", "*/*/*.png")
    name = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "filename"}}
    content = {"fileSet": {"@id": "pictures"}, "extract": {"fileProperty": "content"}}
    file, *fields = column_fields({"fileObject": {"@id": MANIFEST}}, HEAD)
    file["source"]["transform"] = {
        "regex": "(?:.*/)?([^/]+)$"
    }  # the last part names a picture: folders come by their columns
    fields = [
        {**file, "references": name},
        *fields,
        record_field(given.picture, "the picture", "sc:ImageObject", content),
    ]
    return [manifest, pictures], [record_set(fields)]


FORMAT = Format(
    "PNG files in folders SPLIT/LABEL, for fields of 8-bit pictures",
    _write,
    _describe,
    """\
```yaml
photos: {stage: ingest, manifest: EXPORT/manifest.csv}
```

Any program that takes a folder per class reads `EXPORT/train`, `EXPORT/val` and `EXPORT/test`; groups are in the
manifest alone.""",
    pictures=True,
)
