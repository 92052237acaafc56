"""Pixeltable: a table of files with two computed columns; rows are inserted, and a column of another gain is added.

It refuses functions of a script, so `main` is called by `python -c`.
"""

import sys
from pathlib import Path

import numpy as np
import pixeltable as pxt
from picture_work import curve, decode


@pxt.udf
def image_of(path: str) -> pxt.Array[(64, 64, 3), np.uint8]:
    return decode(Path(path).read_bytes())


@pxt.udf
def curve_of(image: pxt.Array[(64, 64, 3), np.uint8], gain: float) -> pxt.Array[(32,), np.float32]:
    return curve(image, gain)


def main() -> None:
    gain = float(sys.argv[1])
    table = pxt.create_table("pictures", {"path": pxt.String}, if_exists="ignore")
    column = f"curve_{str(gain).replace('.', '_')}"
    names = table.columns() if callable(table.columns) else list(table.columns)
    if "image" not in names:
        table.add_computed_column(image=image_of(table.path))
    if column not in names:
        table.add_computed_column(**{column: curve_of(table.image, gain)})
    known = {row["path"] for row in table.select(table.path).collect()}
    fresh = [{"path": str(path)} for path in sorted(Path("photos").absolute().iterdir()) if str(path) not in known]
    if fresh:
        table.insert(fresh)
