"""Metaxy: versions of three features in a Delta store; it says which rows are stale, the program keeps the values.

A parameter stands in the version that its user writes beside the code (`code_version`).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def main() -> None:
    import metaxy as mx
    import numpy as np
    import polars as pl
    from metaxy.ext.polars.handlers.delta import DeltaMetadataStore
    from picture_work import curve, decode

    gain = float(sys.argv[1])

    class Pictures(
        mx.BaseFeature, spec=mx.FeatureSpec(key="pictures", id_columns=["name"], fields=[mx.FieldSpec(key="file")])
    ):
        name: str

    class Images(
        mx.BaseFeature,
        spec=mx.FeatureSpec(
            key="images", id_columns=["name"], deps=[mx.FeatureDep(feature=Pictures)],
            fields=[mx.FieldSpec(key="image", code_version="1")],
        ),
    ):  # fmt: skip
        name: str

    class Curves(
        mx.BaseFeature,
        spec=mx.FeatureSpec(
            key="curves", id_columns=["name"], deps=[mx.FeatureDep(feature=Images)],
            fields=[mx.FieldSpec(key="curve", code_version=f"gain {gain}")],
        ),
    ):  # fmt: skip
        name: str

    def compute(found, work):
        for name in found["name"]:
            work(name)

    def image_of(name):
        np.save(images / f"{name}.npy", decode((Path("photos") / name).read_bytes()))

    def curve_of(name):
        np.save(curves / f"{name}.npy", curve(np.load(images / f"{name}.npy"), gain))

    images, curves = Path("images"), Path("curves")
    images.mkdir(exist_ok=True)
    curves.mkdir(exist_ok=True)
    files = sorted(Path("photos").iterdir())
    digests = [{"file": hashlib.sha256(path.read_bytes()).hexdigest()} for path in files]
    samples = pl.DataFrame({"name": [path.name for path in files], "metaxy_provenance_by_field": digests})
    mx.init()
    store = DeltaMetadataStore(root_path=str(Path("metaxy_store").absolute()))
    with store.open("w"):
        for feature, given, work in ((Pictures, samples, None), (Images, None, image_of), (Curves, None, curve_of)):
            found = store.resolve_update(feature, samples=given).to_polars()
            for rows in (found.new, found.stale):
                if len(rows):
                    if work is not None:
                        compute(rows, work)
                    store.write(feature, rows)


if __name__ == "__main__":
    main()
