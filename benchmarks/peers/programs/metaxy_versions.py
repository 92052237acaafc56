"""Metaxy as a planner: what is new or stale of some rows and of two features above them; no value is computed.

    python metaxy_versions.py FOLDER|COUNT [--write]

FOLDER: rows are its files, with their sizes and times in place of their content (the cheapest that notices a change);
COUNT: that many numbers. It ends with the number of rows that are not up to date.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    import metaxy as mx
    import polars as pl
    from metaxy.ext.polars.handlers.delta import DeltaMetadataStore

    def spec(key, above):
        return mx.FeatureSpec(
            key=key, id_columns=["name"], deps=[mx.FeatureDep(feature=one) for one in above],
            fields=[mx.FieldSpec(key="value", code_version="1")],
        )  # fmt: skip

    class Rows(mx.BaseFeature, spec=spec("rows", [])):
        name: str

    class Sizes(mx.BaseFeature, spec=spec("sizes", [Rows])):
        name: str

    class Joined(mx.BaseFeature, spec=spec("joined", [Rows, Sizes])):
        name: str

    given, write = sys.argv[1], "--write" in sys.argv
    if given.isdigit():
        names = pl.Series([f"{number:09d}" for number in range(int(given))])
        versions = names
    else:
        with os.scandir(given) as entries:
            files = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)
        names = pl.Series([name for name, _, _ in files])
        versions = pl.Series([f"{size} {time}" for _, size, time in files])
    samples = pl.DataFrame({"name": names, "value": versions}).select(
        "name", pl.struct("value").alias("metaxy_provenance_by_field")
    )
    mx.init()
    left = 0
    features = (Rows, Sizes, Joined) if given.isdigit() else (Rows, Sizes)
    with DeltaMetadataStore(root_path=str(Path("metaxy_store").absolute())).open("w") as store:
        for feature in features:
            found = store.resolve_update(feature, samples=samples if feature is Rows else None).to_polars()
            left += len(found.new) + len(found.stale)
            if write and len(found.new):
                store.write(feature, found.new)
    print(left)


if __name__ == "__main__":
    main()
