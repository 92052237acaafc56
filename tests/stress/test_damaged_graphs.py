"""Damaged graphs and checkpoints of TensorFlow are read or refused with a WeightsError, in little time and memory."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from checkpoint_files import MEBIBYTE, little_memory
from glow_cases import variables
from tensorflow_files import HEADER, checkpoint, entry, graph, table

from stages.generators import official
from stages.weights.weights_file import WeightsError

pytestmark = pytest.mark.stress

CASES = 1000
EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to three changes: bits, bytes, pieces lost, doubled or moved, an end cut off."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if not found:
            break
        at, size = chance.randrange(len(found)), chance.choice((1, 2, 4, 16, 200))
        kind = chance.randrange(6)
        if kind == 0:
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            found[at] = chance.choice((*EDGES, chance.randrange(256)))
        elif kind == 2:
            del found[at : at + size]
        elif kind == 3:
            found[at:at] = found[at : at + size]
        elif kind == 4:
            there = chance.randrange(len(found))
            found[at:at] = found[there : there + size]
        elif at > 8:
            del found[at:]
    return bytes(found)


def attempt(path: Path) -> bool:
    """Whether it is read and converted."""
    start = time.process_time()
    said = ""
    try:
        official.open_checkpoint(path)
    except WeightsError as error:
        said = str(error)
    assert "\n" not in said
    assert time.process_time() - start < 5
    return not said


def test_damaged_graphs(tmp_path: Path) -> None:
    data, chance, read = graph(variables(levels=1, depth=1, width=2)), random.Random(1), 0
    with little_memory(4 * MEBIBYTE):
        for _ in range(CASES):
            (tmp_path / "g.pb").write_bytes(damaged(data, chance))
            read += attempt(tmp_path / "g.pb")
    assert 0 < read < CASES  # most changes are of numbers, and make a Glow with others


def test_damaged_checkpoints(tmp_path: Path) -> None:
    """Half of them with checksums that are right again, so that more than these is reached."""
    given, chance, read = variables(levels=1, depth=1, width=2), random.Random(2), 0
    path = checkpoint(tmp_path, given)
    whole, entries, offset = path.read_bytes(), [(b"", HEADER)], 0
    for name in sorted(given):
        entries.append((name.encode(), entry(given[name], 0, offset)))
        offset += given[name].nbytes
    with little_memory(4 * MEBIBYTE):
        for number in range(CASES):
            if number % 2:
                path.write_bytes(damaged(whole, chance))
            else:
                place = chance.randrange(len(entries))
                key, value = entries[place]
                changed = [*entries[:place], (key, damaged(value, chance)), *entries[place + 1 :]]
                path.write_bytes(table(changed, per_block=chance.choice((1, 4, 100))))
            read += attempt(path)
    assert 0 < read < CASES
