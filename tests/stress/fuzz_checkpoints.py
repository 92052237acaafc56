"""`make fuzz`: damaged checkpoints of every container. A file is read or refused with a WeightsError, nothing else.

Each case takes a golden file (or a small one made here), changes it in one to three ways and reads and converts it.
Changes know the format: opcodes and lengths of pickles, members of archives (whose checksums are made right again),
torch files nested in pickles. A quarter of the cases change what was read instead (settings, names, shapes), which
damaged bytes seldom reach. Case k of seed s is always the same: `--seed s --only k` repeats it.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import math
import os
import pickletools
import random
import resource
import signal
import struct
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoint_files import MEBIBYTE, progan_bytes, torch_bytes

from stages.generators import official
from stages.generators.stargan2 import Generator
from stages.generators.stargan2_discriminator import Discriminator
from stages.generators.weights import WeightsError
from stages.weights.checkpoints import Contents, read_bytes
from stages.weights.pickle_machine import Budget
from stages.weights.pickles import settings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fuzz_checkpoints.json"
SUFFIXES = (".pkl", ".pth", ".pt", ".model", ".ckpt")
OPCODES = bytes(ord(opcode.code) for opcode in pickletools.opcodes)
EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
NESTED = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"  # start of a torch file of the older form
TEXTS = {"X": 4, "\x8c": 1}  # bytes of their length
NUMBERS = {"K": "<B", "M": "<H", "J": "<i", "G": ">d"}
VALUES = {*TEXTS, *NUMBERS, "N", "\x88", "\x89", ")"}
SPAN = 6  # bytes behind an opcode that hold its lengths and numbers


def golden_files(folder: Path, largest: int) -> dict[str, bytes]:
    """Golden checkpoints up to a size, unpacked."""
    found = {}
    for path in sorted(folder.iterdir()):
        packed = path.suffix == ".gz"
        if path.name.removesuffix(".gz").endswith(SUFFIXES):
            data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
            if len(data) <= largest:
                found[path.name] = data
    if not found:
        raise FileNotFoundError(f"{folder} has no golden checkpoint of at most {largest} bytes")
    return found


def made_files() -> dict[str, bytes]:
    """Small files of forms whose golden ones are large or missing."""
    torch.manual_seed(0)
    widths: dict[str, Any] = {"resolution": 64, "width": 4, "max_width": 4, "z_dim": 4, "w_dim": 4, "c_dim": 2}
    network = Generator(**widths, mapping_width=8, w_hpf=0.0)
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in network.state_dict().items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor
    judge = Discriminator(resolution=64, width=4, max_width=4, c_dim=2).state_dict()
    nets = {**parts, "discriminator": {f"module.{name}": tensor for name, tensor in judge.items()}}
    return {
        "made progan": progan_bytes(4),
        "made progan, protocol 2": progan_bytes(2),
        "made stargan2": torch_bytes(parts),
        "made stargan2 with discriminator, older file": torch_bytes(nets, zipped=False),
    }


@dataclass
class Sample:
    """A file with the places in it that are worth a change."""

    name: str
    data: bytes
    root: str = ""  # of a torch archive
    members: Mapping[str, bytes] = field(default_factory=dict)
    pickled: bytes = b""
    opcodes: list[int] = field(default_factory=list)
    values: list[tuple[str, int]] = field(default_factory=list)  # code and place of numbers, constants and texts
    nested: list[int] = field(default_factory=list)
    contents: Contents | None = None


def sample(name: str, data: bytes) -> Sample:
    made = Sample(name, data, pickled=data)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            made.members = {member: archive.read(member) for member in archive.namelist()}
        made.root = next(member for member in made.members if member.endswith("/data.pkl"))
        made.pickled = made.members[made.root]
    position = 0
    for _ in range(5 if NESTED[2:] in data[:23] else 1):
        for kind, _, place in pickletools.genops(io.BytesIO(made.pickled[position:])):
            assert place is not None
            made.opcodes.append(position + place)
            if kind.code in VALUES:
                made.values.append((kind.code, position + place))
        position = made.opcodes[-1] + 1
    place = made.pickled.find(NESTED, 1)
    while place >= 0:
        made.nested.append(place)
        place = made.pickled.find(NESTED, place + 1)
    made.contents = read_bytes(data)
    return made


class Fuzzer:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.samples = [sample(name, data) for name, data in {**files, **made_files()}.items()]
        self.weights = [1 / len(one.data) ** 0.5 for one in self.samples]  # small files are as good, and quicker
        for one in self.samples:
            attempt(one.data)  # imports everything before memory is measured

    def case(self, seed: int, number: int) -> tuple[str, list[str], bytes | Contents]:
        """Name of a file, names of the changes, and the changed file or the changed contents."""
        chance = random.Random(f"{seed} {number}")
        one = chance.choices(self.samples, self.weights)[0]
        other = chance.choice(self.samples)
        if chance.random() < 0.25:
            assert one.contents is not None
            with np.errstate(all="ignore"):
                names, contents = changed_contents(one.contents, chance)
            return one.name, names, contents
        if one.members and chance.random() < 0.8:
            return self._inside_archive(one, other, chance)
        names, data = changed(one.data, one, other.data, chance)
        return one.name, names, data

    def _inside_archive(self, one: Sample, other: Sample, chance: random.Random) -> tuple[str, list[str], bytes]:
        """Members are changed, and the archive around them is right."""
        members = dict(one.members)
        kind = chance.random()
        if kind < 0.75:
            names, members[one.root] = changed(one.pickled, one, other.pickled, chance)
        elif kind < 0.85:
            name = chance.choice(list(members))
            names, members[name] = changed(members[name], None, other.pickled, chance)
        elif kind < 0.95:
            name, twin = chance.choice(list(members)), chance.choice(list(members))
            names, members[name] = ["member of another"], members[twin]
        else:
            name = chance.choice(list(members))
            names = ["member lost"]
            del members[name]
        made = io.BytesIO()
        method = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(made, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return one.name, [f"inside: {name}" for name in names], made.getvalue()

    def run(self, seed: int, count: int, seconds_per_case: float, only: int | None = None) -> dict[str, Any]:
        """Outcomes of cases 0 to count - 1 (or of one)."""
        tally: Counter[str] = Counter()
        errors: list[dict[str, Any]] = []
        slowest = 0.0
        begun, before = time.monotonic(), peak_mebibytes()
        for number in range(count) if only is None else [only]:
            name, changes, data = self.case(seed, number)
            start = time.process_time()
            signal.signal(signal.SIGPROF, too_slow)
            signal.setitimer(signal.ITIMER_PROF, seconds_per_case)  # of work: other programs may keep the machine busy
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    tally[attempt(data)] += 1
            except Exception as error:
                found = f"{type(error).__name__}: {str(error)[:200]}"
                errors.append({"case": number, "file": name, "changes": changes, "error": found})
                if only is not None:
                    raise
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, time.process_time() - start)
        return {
            "seed": seed,
            "cases": count,
            "refused": tally["refused"],
            "read_and_refused_in_conversion": tally["refused in conversion"],
            "converted": tally["converted"],
            "other_errors": errors[:50],
            "other_errors_in_all": len(errors),
            "slowest_case_s": round(slowest, 2),
            "peak_memory_growth_mib": peak_mebibytes() - before,
            "seconds": round(time.monotonic() - begun, 1),
        }


def too_slow(number: int, frame: Any) -> None:
    raise TimeoutError("the case takes too long")


def peak_mebibytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def attempt(data: bytes | Contents) -> str:
    """Read and convert a file; only WeightsError may come out."""
    try:
        contents = read_bytes(data) if isinstance(data, bytes) else data
        for network in contents.networks.values():
            settings(network.settings, Budget(0))  # as the reader does; changed contents have not been looked at
    except WeightsError:
        return "refused"
    outcome = "converted"
    for convert in (official.generator, official.judge):
        try:
            convert(Path("case"), contents)
        except WeightsError:
            outcome = "refused in conversion"
    return outcome


# Changes of contents


STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 64, 1000, 10**6, 10**9, 1 << 70, 0.5, -2.5, 1e300, math.nan, math.inf, "",
    "skip", "orig", "resnet", "text", [], {}, [1, 3, 3, 1], [[1]], {"a": {}},
)  # fmt: skip


def changed_contents(contents: Contents, chance: random.Random) -> tuple[list[str], Contents]:
    """One to three changes of settings, names, shapes or values."""
    networks, extra = dict(contents.networks), dict(contents.extra)
    names = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        key = chance.choice(list(networks))
        one = networks[key]
        kind = chance.choice(("setting", "setting", "attribute", "tensor", "tensor", "class", "network", "extra"))
        if kind in ("setting", "attribute"):
            given = copy.deepcopy(dict(one.settings if kind == "setting" else one.attributes))
            place = given
            while inner := [value for value in place.values() if isinstance(value, dict) and chance.random() < 0.7]:
                place = chance.choice(inner)
            name = chance.choice([*place, "fmap_base", "mapping_layers", "resolution", "truncation_psi"])
            new = chance.choice(STRANGE)
            text_or_nested = isinstance(place.get(name, 0), dict | str) or isinstance(new, dict | list)
            if place is given and kind == "attribute" and text_or_nested:
                continue  # the reader keeps texts as texts, and no nested values there
            place[name] = new
            kind = f"{kind} {name} {place[name]!r}"
            part = {"settings": given} if kind.startswith("setting") else {"attributes": given}
            networks[key] = replace(one, **part)  # type: ignore[arg-type]
        elif kind == "tensor":
            tensors = dict(one.tensors)
            name = chance.choice(list(tensors))
            array = tensors.pop(name)
            shape = tuple(chance.choice((0, 1, 2, 3, side, side + 1)) for side in array.shape)
            kind = chance.choice(("lost", "renamed", "turned", "other shape", "other axes", "not finite", "other type"))
            others = {
                "turned": array.T,
                "other shape": np.zeros(shape, array.dtype),
                "other axes": np.zeros((1,) * chance.randrange(6), array.dtype),
                "not finite": np.full(array.shape, chance.choice((np.nan, np.inf, 1e30)), np.float32),
                "other type": array.astype(chance.choice(("f2", "f8", "i8", "u1", "b1"))),
            }
            if kind == "renamed":
                tensors[name[: chance.randrange(len(name) + 1)] + chance.choice(("", "0", "/x", ".y"))] = array
            elif kind in others:
                tensors[name] = others[kind]
            kind = f"{name} {kind}"
            if tensors:
                networks[key] = replace(one, tensors=tensors)
        elif kind == "class":
            networks[key] = replace(one, class_name=chance.choice([each.class_name for each in networks.values()]))
        elif kind == "network":
            networks[chance.choice(("G", "D", "Gs", "generator", "g_ema", "discriminator", ""))] = networks.pop(key)
        else:
            extra[chance.choice([*extra, "latent_avg", "config", "args"])] = chance.choice(STRANGE)
        names.append(kind)
    return names, replace(contents, networks=networks, extra=extra)


# Changes of bytes


Change = Callable[[bytearray, int, bytes, random.Random], None]


def changed(data: bytes, one: Sample | None, other: bytes, chance: random.Random) -> tuple[list[str], bytes]:
    """One to three changes, most of them at an opcode or inside a nested file."""
    result = bytearray(data)
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not result:
            break
        kind = chance.random()
        if one is not None and one.values and kind < 0.4:
            value(result, *chance.choice(one.values), chance)
            names.append("value")
            continue
        if one is not None and one.opcodes and kind < 0.7:
            place = chance.choice(one.opcodes)
            place += 0 if chance.random() < 0.4 else chance.randrange(SPAN)
        elif one is not None and one.nested and kind < 0.85:
            place = chance.choice(one.nested) + chance.randrange(300)
        else:
            place = chance.randrange(len(result))
        name = chance.choice(list(CHANGES))
        CHANGES[name](result, min(place, len(result) - 1), other, chance)
        names.append(name)
    return names, bytes(result)


def value(data: bytearray, code: str, place: int, chance: random.Random) -> None:
    """Another number, constant or letter: the pickle stays readable, what it says does not."""
    if place + 10 > len(data):  # behind an earlier cut
        return
    if code in TEXTS:
        size = TEXTS[code]
        length = int.from_bytes(data[place + 1 : place + 1 + size], "little")
        letter = place + 1 + size + chance.randrange(max(length, 1))
        if letter < len(data):
            data[letter] = chance.choice(b"0123456789abwGDx_./")
    elif code in NUMBERS:
        size = struct.calcsize(NUMBERS[code])
        chosen = chance.choice((chance.choice(EDGES), chance.randrange(1 << 8 * size), chance.randrange(40)))
        data[place + 1 : place + 1 + size] = (chosen % (1 << 8 * size)).to_bytes(size, chance.choice(("little", "big")))
    else:
        data[place] = ord(chance.choice("N\x88\x89])}"))


def flip(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    data[place] ^= 1 << chance.randrange(8)


def put(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    data[place] = chance.randrange(256)


def opcode(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    data[place] = chance.choice(OPCODES)


def length(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    code = chance.choice(("<B", "<H", "<I", "<Q", ">Q"))
    size = struct.calcsize(code)
    if place + size <= len(data):
        old = struct.unpack_from(code, data, place)[0]
        new = chance.choice((chance.choice(EDGES), old + 1, old - 1, old * 2))
        struct.pack_into(code, data, place, new % (1 << 8 * size))


def cut(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    del data[place:]


def delete(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    del data[place : place + chance.choice((1, 2, 4, 16, 200))]


def double(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    data[place:place] = data[place : place + chance.choice((1, 2, 4, 16, 200))]


def splice(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    start = chance.randrange(len(other))
    piece = other[start : start + chance.choice((1, 4, 16, 64, 1000))]
    end = place + (len(piece) if chance.random() < 0.5 else 0)
    data[place:end] = piece


def swap(data: bytearray, place: int, other: bytes, chance: random.Random) -> None:
    size, there = chance.choice((1, 2, 8, 40)), chance.randrange(len(data))
    first, second = bytes(data[place : place + size]), bytes(data[there : there + size])
    if len(first) == len(second):
        data[place : place + size], data[there : there + size] = second, first


CHANGES: dict[str, Change] = {
    "flip": flip,
    "byte": put,
    "opcode": opcode,
    "length": length,
    "cut": cut,
    "delete": delete,
    "double": double,
    "splice": splice,
    "swap": swap,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden" / "generators")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--only", type=int, help="repeat one case and show its traceback")
    parser.add_argument("--memory-mib", type=int, default=1024, help="address space beyond what the start takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fuzzer = Fuzzer(golden_files(options.golden, largest=MEBIBYTE))
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = used + (options.memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    outcome = fuzzer.run(options.seed, options.count, seconds_per_case=20, only=options.only)
    if options.only is not None:
        print(json.dumps(outcome, indent=2))
        return
    command = f"make fuzz FUZZ_SEED={options.seed} FUZZ_COUNT={options.count}"
    files = [one.name for one in fuzzer.samples]
    facts = {"command": command, **outcome, "memory_limit_mib": options.memory_mib, "files": files}
    facts |= {"cpus": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=2))
    if outcome["other_errors_in_all"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
