"""`make fuzz_detectors`: damaged files of published detectors. A file is read or refused with a WeightsError alone.

Each case takes a small container of the golden set (torch zip and legacy, npz and HDF5 of Keras), changes it in one to
three ways as `fuzz_checkpoints` does, or changes the state dict that was read, and then does what `touchstone
checkpoint` and `train` do with it: all networks that fit are looked for, and one is read strictly. Case k of seed s is
always the same: `--seed s --only k` repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stress.fuzz_checkpoints import Sample, changed, peak_mebibytes, sample, too_slow

from pipeline.errors import StageError
from stages.training.pretrained import read_weights
from stages.weights.detector_entries import read_entries
from stages.weights.detector_inspection import SHIPPED
from stages.weights.detectors import fitting_detectors, misfit, state_dicts
from stages.weights.weights_file import WeightsError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fuzz_detectors.json"
SUFFIXES = (".pth", ".npz", ".h5")
LARGEST = 256 << 10
SIDES = (0, 1, 2, 3, 8, 24, 768, 10**6, 2**31, 2**40)


def golden_files(folder: Path) -> dict[str, bytes]:
    """Containers that are read, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.stat().st_size <= LARGEST:
            try:
                state_dicts(path)
            except WeightsError:
                continue
            found[path.name] = path.read_bytes()
    if not found:
        raise FileNotFoundError(f"{folder} has no container of a detector of at most {LARGEST} bytes")
    return found


class Fuzzer:
    """Files, how they are changed, and what is done with them; `place`: a folder for the file of a case."""

    def __init__(self, files: Mapping[str, bytes], place: Path) -> None:
        self.place = place
        self.files = dict(files)
        self.samples: dict[str, Sample] = {}
        for name, data in files.items():
            self.samples[name] = sample(name, data) if name.endswith(".pth") else Sample(name, data, pickled=data)
        self.weights = [1 / len(data) ** 0.5 for data in files.values()]  # small files are as good, and quicker
        self.configs = {}
        for name, entry in read_entries(SHIPPED).items():
            if entry.network in ("tiny_ladeda", "univfd_head", "rine_2class", "mesoinception4", "he_pixel"):
                try:
                    self.configs.setdefault(entry.network, entry.config(name))
                except ValueError:
                    continue
        for name, data in files.items():
            self.attempt(name, data)  # imports everything before memory is measured

    def case(self, seed: int, number: int) -> tuple[str, list[str], bytes | dict[str, tuple[int, ...]]]:
        """Name of a file, names of the changes, and the changed file, or changed shapes of what was read."""
        chance = random.Random(f"{seed} {number}")
        name = chance.choices(list(self.files), self.weights)[0]
        one, other = self.samples[name], self.samples[chance.choice(list(self.files))]
        if chance.random() < 0.1:
            (self.place / name).write_bytes(one.data)
            return name, ["shapes"], changed_shapes(state_dicts(self.place / name)[0].shapes, chance)
        if name.endswith((".pth", ".npz")) and one.data.startswith(b"PK") and chance.random() < 0.8:
            return name, *inside(one, other, chance)
        changes, data = changed(one.data, one if one.opcodes else None, other.data, chance)
        return name, changes, data

    def attempt(self, name: str, data: bytes | dict[str, tuple[int, ...]]) -> str:
        """Look for networks that fit, and read the file for one of them."""
        if isinstance(data, dict):
            return "fits" if fitting_detectors(data) else "fits nothing"
        path = self.place / f"case{Path(name).suffix}"
        path.write_bytes(data)
        try:
            states = state_dicts(path)
        except WeightsError as error:
            return self._checked(path, str(error), "refused")
        fitting = {network for state in states for network in fitting_detectors(state.shapes)}
        outcome = "fits" if fitting else "fits nothing"
        for network in sorted(fitting & self.configs.keys()) or ["tiny_ladeda"]:
            try:
                read_weights(self.configs[network], path)
            except StageError as error:
                outcome = self._checked(path, str(error), "refused strictly")
        for state in states:
            misfit(state.shapes, {})
        return outcome

    @staticmethod
    def _checked(path: Path, sentence: str, outcome: str) -> str:
        if not sentence.startswith(str(path)) or "\n" in sentence or len(sentence) > 2000:
            raise AssertionError(f"no sentence about the file: {sentence[:200]!r}")
        return outcome

    def run(self, seed: int, numbers: range, seconds_per_case: float, seconds: float, raising: bool) -> dict[str, Any]:
        """Outcomes of the cases, as far as `seconds` of the clock allow."""
        tally: Counter[str] = Counter()
        errors: list[dict[str, Any]] = []
        slowest, begun, before = 0.0, time.monotonic(), peak_mebibytes()
        done = 0
        for number in numbers:
            if time.monotonic() - begun > seconds:
                break
            name, changes, data = self.case(seed, number)
            start = time.process_time()
            signal.signal(signal.SIGPROF, too_slow)
            signal.setitimer(signal.ITIMER_PROF, seconds_per_case)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    tally[self.attempt(name, data)] += 1
            except Exception as error:
                found = f"{type(error).__name__}: {str(error)[:200]}"
                errors.append({"case": number, "file": name, "changes": changes, "error": found})
                if raising:
                    raise
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, time.process_time() - start)
            done += 1
        return {
            "seed": seed,
            "cases": done,
            **{outcome.replace(" ", "_"): count for outcome, count in sorted(tally.items())},
            "other_errors": errors[:50],
            "other_errors_in_all": len(errors),
            "slowest_case_s": round(slowest, 2),
            "peak_memory_growth_mib": peak_mebibytes() - before,
            "seconds": round(time.monotonic() - begun, 1),
        }


def changed_shapes(shapes: dict[str, tuple[int, ...]], chance: random.Random) -> dict[str, tuple[int, ...]]:
    """One to three tensors lost, renamed, or of other shapes; sizes of networks are told by shapes."""
    result = dict(shapes)
    for _ in range(chance.choice((1, 1, 2, 3))):
        name = chance.choice(list(result))
        shape = result.pop(name)
        kind = chance.random()
        if kind < 0.3:
            result[chance.choice(("alpha", "weight", "bias", "conv1.0.weight", "proj1.1.weight", f"{name}x"))] = shape
        elif kind < 0.9:
            result[name] = tuple(chance.choice((side, side + 1, *SIDES)) for side in shape)[: chance.randrange(6)]
        if not result:
            result[name] = shape
    return result


def inside(one: Sample, other: Sample, chance: random.Random) -> tuple[list[str], bytes]:
    """Members of an archive are changed, and the archive around them is right."""
    with zipfile.ZipFile(io.BytesIO(one.data)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    name = one.root if one.root and chance.random() < 0.75 else chance.choice(list(members))
    if chance.random() < 0.1:
        names, members[name] = ["member of another"], members[chance.choice(list(members))]
    else:
        names, members[name] = changed(members[name], one if name == one.root else None, other.data, chance)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return [f"inside: {change}" for change in names], made.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden" / "detectors" / "containers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of the clock, after which it ends")
    parser.add_argument("--only", type=int, help="repeat one case and show its traceback")
    parser.add_argument("--memory-mib", type=int, default=1024, help="address space beyond what the start takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(golden_files(options.golden), Path(folder))
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + (options.memory_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
        outcome = fuzzer.run(options.seed, numbers, 20, options.seconds, options.only is not None)
    command = f"make fuzz_detectors FUZZ_SEED={options.seed} FUZZ_DETECTORS={options.count}"
    facts = {"command": command, **outcome, "memory_limit_mib": options.memory_mib, "files": list(fuzzer.files)}
    facts |= {"cpus": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    if options.only is None:
        RESULTS.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=2))
    if outcome["other_errors_in_all"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
