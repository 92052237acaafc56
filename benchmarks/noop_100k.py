"""Claim: a run with nothing to do over 100,000 files takes at most 1.5 s and 150 MiB, and a third of DVC 3.67's time.

Ours: `ingest` of 100,000 tiny distinct PNGs and one map that reads each file; measured is the whole `touchstone run`
process, walk of the folder included. DVC: the same folder as dependency of one stage, `dvc repro`. Both are warm and
take turns. Also measured: the time per further row (against 1,000 files) and per further node (six maps against one).
DVC is installed into a temporary environment, unless --dvc names its executable.

    python -m benchmarks.noop_100k [--dvc PATH]
"""

from __future__ import annotations

import argparse
import statistics
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from benchmarks.measure import alternate, emit
from benchmarks.processes import Ran, run_process, touchstone, write_pipeline

FILES, FEW, MAPS, ROUNDS = 100_000, 1_000, 6, 5
GOALS = "1.5 s, 150 MiB, 10 us per further row, 0.1 s per further node"

PIPELINE = """\
nodes:
  photos: {{stage: ingest, folder: {folder}}}
  sizes:
    stage: "benchmarks.stand_ins:Size"
    matrix: {{unit: {units}}}
    of: photos
    unit: "{{unit}}"
"""

DVC_STAGE = """\
stages:
  size:
    cmd: {python} size.py
    deps: [size.py, photos]
    outs: [sizes.txt]
"""

DVC_SCRIPT = """\
import os

with open("sizes.txt", "w") as out:
    for name in sorted(os.listdir("photos")):
        with open(os.path.join("photos", name), "rb") as file:
            out.write(f"{len(file.read())}\\n")
"""


def png(number: int) -> bytes:
    """A valid PNG of 2 x 2 pixels, a different one for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"\0" + number.to_bytes(6, "big") + b"\0" + bytes(6)  # two lines: filter type, then RGB twice
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write_photos(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06d}.png").write_bytes(png(number))


def install_dvc(folder: Path) -> Path:
    """DVC 3.67 in an environment of its own."""
    run_process([sys.executable, "-m", "venv", str(folder / "dvc")], folder)
    run_process([str(folder / "dvc" / "bin" / "pip"), "install", "--quiet", "dvc==3.67.*"], folder)
    return folder / "dvc" / "bin" / "dvc"


class Dvc:
    """One stage over the photographs, hashed and run once."""

    def __init__(self, executable: Path, folder: Path) -> None:
        self.executable = executable
        self.folder = folder
        (folder / "dvc.yaml").write_text(DVC_STAGE.format(python=sys.executable))
        (folder / "size.py").write_text(DVC_SCRIPT)
        self.call("init", "--no-scm")
        self.call("config", "core.analytics", "false")
        self.call("config", "core.check_update", "false")
        self.cpu_seconds: list[float] = []

    def call(self, *arguments: str) -> Ran:
        return run_process([str(self.executable), *arguments], self.folder, {"DVC_NO_ANALYTICS": "1"})

    def repro(self) -> Ran:
        ran = self.call("repro")
        self.cpu_seconds.append(ran.cpu_seconds)
        return ran


class Ours:
    """A pipeline over a folder of photographs with some maps, computed once."""

    def __init__(self, folder: Path, photos: str, maps: int) -> None:
        self.folder = folder
        self.peaks: list[float] = []
        self.cpu_seconds: list[float] = []
        write_pipeline(folder, PIPELINE.format(folder=photos, units=list(range(1, maps + 1))))
        self.cold = touchstone("run", folder=folder)

    def run(self) -> None:
        ran = touchstone("run", folder=self.folder)
        if "nothing to compute" not in ran.text:
            raise SystemExit(f"{self.folder.name}: expected nothing to compute, the run said: {ran.text}")
        self.peaks.append(ran.peak_mib)
        self.cpu_seconds.append(ran.cpu_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dvc", type=Path, help="executable of DVC 3.67; default: install it into a temporary folder")
    given = parser.parse_args().dvc
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        executable = given.absolute() if given else install_dvc(base)
        write_photos(base / "photos", FILES)
        write_photos(base / "few", FEW)
        dvc = Dvc(executable, base)
        print(f"{dvc.call('--version').text.strip()}: first repro {dvc.repro().seconds:.1f} s")
        one = Ours(base / "one", "../photos", 1)
        print(f"first run with one map {one.cold.seconds:.1f} s")
        seconds, theirs = alternate(one.run, dvc.repro, ROUNDS)
        few = Ours(base / "small", "../few", 1)
        six = Ours(base / "six", "../photos", MAPS)
        base_seconds, small_seconds = alternate(one.run, few.run, ROUNDS)
        again_seconds, six_seconds = alternate(one.run, six.run, ROUNDS)
    cpu, their_cpu = statistics.median(one.cpu_seconds), statistics.median(dvc.cpu_seconds[1:])
    print(f"processor time: ours {cpu:.2f} s, DVC {their_cpu:.2f} s")
    row_us = (base_seconds - small_seconds) / (FILES - FEW) * 1e6
    node_s = (six_seconds - again_seconds) / (MAPS - 1)
    print(
        f"ours {seconds:.2f} s, DVC {theirs:.2f} s, peak {max(one.peaks):.0f} MiB (six maps {max(six.peaks):.0f} MiB)"
    )
    print(f"per further row {row_us:.1f} us, per further node {node_s:.3f} s")
    facts = {
        "cpu_s": round(cpu, 3),
        "dvc_cpu_s": round(their_cpu, 3),
        "peak_mib": round(max(one.peaks), 1),
        "row_us": round(row_us, 2),
        "node_s": round(node_s, 4),
    }
    name = f"run with nothing to do, {FILES:,} files and one map, seconds"
    against = f"dvc repro of one stage, {theirs:.2f} s (claim: {GOALS}, ratio 0.33)"
    emit(name, seconds, seconds / theirs, against, FILES, **facts)


if __name__ == "__main__":
    main()
