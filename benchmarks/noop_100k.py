"""Claim: a run with nothing to do over 100,000 files takes at most 0.15 of DVC's time, 0.20 of Metaxy's, and 150 MiB.

Ours: `ingest` of 100,000 tiny distinct PNGs and one map that reads each file; measured is the whole `touchstone run`
process, walk of the folder included. DVC 3.67: the same folder as dependency of one stage, `dvc repro`. Metaxy 0.1.11:
names, sizes and times of the same files as a feature and one feature above it, of which it finds nothing stale. All are
warm and take turns in one run. Also measured: the time per further row (against 1,000 files) and per further node (six
maps against one). DVC and Metaxy have environments of their own, made once (`make peers` uses the same).

    python -m benchmarks.noop_100k [--environments DIR]
"""

from __future__ import annotations

import argparse
import statistics
import struct
import sys
import tempfile
import zlib
from pathlib import Path

from benchmarks.measure import alternate, emit, in_turn
from benchmarks.peers.environments import FOLDER, environment
from benchmarks.peers.tools import TOOLS
from benchmarks.peers.versions import Metaxy, metaxy
from benchmarks.processes import Ran, run_process, touchstone, write_pipeline

FILES, FEW, MAPS, ROUNDS = 100_000, 1_000, 6, 5
GOALS = "0.15, 0.20 of Metaxy, 150 MiB, 10 us per further row, 0.1 s per further node"

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
    parser.add_argument("--environments", type=Path, default=FOLDER, help="folder of the environments of peers")
    environments = parser.parse_args().environments.absolute()
    requirements = next(one.requirements for one in TOOLS if one.name == "DVC")
    python = environment("dvc", requirements, environments)
    if isinstance(python, str):
        raise SystemExit(python)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_photos(base / "photos", FILES)
        write_photos(base / "few", FEW)
        dvc = Dvc(python.parent / "dvc", base)
        print(f"{dvc.call('--version').text.strip()}: first repro {dvc.repro().seconds:.1f} s")
        peer: Metaxy | str = metaxy(base, str(base / "photos"), environments)
        one = Ours(base / "one", "../photos", 1)
        print(f"first run with one map {one.cold.seconds:.1f} s")
        others = [] if isinstance(peer, str) else [peer.plan]
        seconds, theirs, *rest = in_turn([one.run, dvc.repro, *others], ROUNDS)
        few = Ours(base / "small", "../few", 1)
        six = Ours(base / "six", "../photos", MAPS)
        base_seconds, small_seconds = alternate(one.run, few.run, ROUNDS)
        again_seconds, six_seconds = alternate(one.run, six.run, ROUNDS)
    cpu, their_cpu = statistics.median(one.cpu_seconds), statistics.median(dvc.cpu_seconds[1:])
    print(f"ours {seconds:.2f} s, DVC {theirs:.2f} s, peak {max(one.peaks):.0f} MiB, six maps {max(six.peaks):.0f} MiB")
    facts = {
        "cpu_s": round(cpu, 3),
        "dvc_cpu_s": round(their_cpu, 3),
        "peak_mib": round(max(one.peaks), 1),
        "row_us": round((base_seconds - small_seconds) / (FILES - FEW) * 1e6, 2),
        "node_s": round((six_seconds - again_seconds) / (MAPS - 1), 4),
    }
    if isinstance(peer, str):
        print(peer)
    else:
        print(f"Metaxy {rest[0]:.2f} s, peak {peer.peak_mib:.0f} MiB")
        facts |= {"of_metaxy": round(seconds / rest[0], 3), "metaxy_s": round(rest[0], 3), "metaxy_cpu_s": peer.cpu_s}
    print(facts)
    name = f"run with nothing to do, {FILES:,} files and one map, seconds"
    emit(name, seconds, seconds / theirs, f"dvc repro of one stage, {theirs:.2f} s (claim: {GOALS})", FILES, **facts)


if __name__ == "__main__":
    main()
