"""Keep what the upsampling lab shows: the transfer between methods, and the peaks of their mean spectra.

    python -m experiments.upsampling_result

reads the store of experiments/upsampling.yaml, which `touchstone run` must have filled, and writes
experiments/results/upsampling.json. Peaks are differences of mean ln |FFT| to the mean of the photographs, in gray,
where checkerboards and copies of the spectrum stand: at half the sampling frequency.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import Dataset
from pipeline.open import open_artifact, open_node

KEPT = ("detector", "trained_on", "source", "n_real", "n_fake", "auc", "auc_interval", "accuracy", "tpr", "tnr")


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the report's table, rounded, without what all of them share."""
    kept = [{name: rounded(row[name]) for name in KEPT} for row in rows]
    return sorted(kept, key=lambda row: (row["detector"], len(row["trained_on"]), row["trained_on"], row["source"]))


def rounded(value: Any) -> Any:
    """Floats to four digits."""
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def peaks(spectra: Dataset) -> dict[str, dict[str, float]]:
    """Source -> place -> mean ln |FFT| of the source's test rows less that of the photographs."""
    test = spectra.split("test")
    sources = test.column("source")
    means = {
        str(source): test.array("fft2d", np.flatnonzero(sources == source)).mean(axis=(0, 1), dtype=np.float64)
        for source in np.unique(sources)
    }
    reals = means.pop("photos")
    half, quarter = (reals.shape[0] // share for share in (2, 4))
    places = {"N/2 across": (0, half), "N/2 down": (half, 0), "N/2 both": (half, half), "N/4 both": (quarter, quarter)}
    return {
        source: {name: rounded(float(mean[place] - reals[place])) for name, place in places.items()}
        for source, mean in means.items()
    }


def text(result: dict[str, Any]) -> str:
    """JSON with a line per row of the table."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["transfer"])
    head = json.dumps({"what": result["what"], "peaks": result["peaks"]}, indent=1).removesuffix("\n}")
    return f'{head},\n "transfer": [\n{rows}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=Path("experiments/upsampling.yaml"))
    parser.add_argument("--out", type=Path, default=Path("experiments/results/upsampling.json"))
    arguments = parser.parse_args()
    result = {
        "what": "test photographs of manifests/photos.yaml, 128 px, against themselves, halved and enlarged",
        "transfer": table(report_rows(arguments.pipeline)),
        "peaks": peaks(open_node(arguments.pipeline, "spectra")),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text(result), encoding="utf-8")
    print(f"{len(result['transfer'])} rows in {arguments.out}")


def report_rows(file: Path) -> list[dict[str, Any]]:
    """The table of the pipeline's report."""
    text = (open_artifact(file, "report") / "table.json").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)["rows"]
    return rows


if __name__ == "__main__":
    main()
