"""Claim: `touchstone audit` of 2,000 + 2,000 JPEG files of 256 px ends within 3 minutes on two cores.

A whole process, imports included; `decode_s` are the seconds in which Pillow alone decodes the same files on one core,
`peak_mib` is what the process held at most. No other tool answers the question, so that the ratio is to the goal.

    python -m benchmarks.audit_speed [--pairs N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import emit
from benchmarks.processes import run_process, touchstone

PAIRS, SIDE, GOAL_S = 2000, 256, 180.0

WRITE = f"""
import sys
from pathlib import Path
import numpy as np
from PIL import Image
random = np.random.default_rng(4)
for kind in ("real", "fake"):
    Path(kind).mkdir()
    for index in range(int(sys.argv[1])):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(({SIDE}, {SIDE}), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"{{kind}}/{{index:05}}.jpg", quality=85 + index % 11)
"""
"""In a process of its own: what the parent holds counts among the peak of its children."""

DECODE = """
from pathlib import Path
from PIL import Image
for file in sorted(Path(".").rglob("*.jpg")):
    Image.open(file).load()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_process([sys.executable, "-c", WRITE, str(pairs)], folder)
        decoded = run_process([sys.executable, "-c", DECODE], folder)
        asked = touchstone("audit", "real", "fake", "--json", folder=folder)
    emit(
        f"audit of {pairs:,} pairs at {SIDE} px, seconds",
        asked.seconds,
        asked.seconds / GOAL_S,
        f"the goal itself, {GOAL_S:g} s",
        2 * pairs,
        cpu_s=round(asked.cpu_seconds, 1),
        decode_s=round(decoded.seconds, 2),
        peak_mib=round(asked.peak_mib, 1),
    )


if __name__ == "__main__":
    main()
