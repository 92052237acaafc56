"""Claim: images are read in any order from LMDB, Parquet and tar at 0.8 or more of the speed of the bare library.

Both sides give the same encoded bytes in the same order, and neither decodes them. Ours is `Ingest.read` by the
locations that `ingest` lists; the bare side calls lmdb, pyarrow or tarfile on a file that is open already: a read in a
transaction of its own, a row group that is read for one row, a member that is extracted by its header. `value` and
`ratio` are those of the slowest of the three.

    python -m benchmarks.random_reads [--images N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow
import pyarrow.parquet

from benchmarks.measure import alternate, emit
from pipeline.inputs.scan import Scan
from stages.images.readers.crc32c import crc32c, masked
from stages.ingest import Ingest, IngestConfig

BYTES, GROUP, ROUNDS = 20_000, 50, 9
RECORDS = 100_000
Read = Callable[[int], bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="in each file")
    count: int = parser.parse_args().images
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = [np.random.default_rng(number).bytes(BYTES) for number in range(count)]
        kinds = {"lmdb": _lmdb(folder, images), "parquet": _parquet(folder, images), "tar": _tar(folder, images)}
        found = {kind: _compared(folder, kind, bare, count) for kind, bare in kinds.items()}
        listed_s = _listing(folder)
    worst = min(found, key=lambda kind: found[kind][1] / found[kind][0])
    ours, limit = found[worst]
    ratios = {f"{kind}_ratio": round(bare / mine, 3) for kind, (mine, bare) in found.items()}
    emit(
        f"encoded images of 20 kB read at random from {worst}, per second",
        count / ours,
        limit / ours,
        f"the bare library of {worst}, the same bytes in the same order, without decoding",
        count,
        **ratios,
        tfrecord_100k_listed_cpu_s=round(listed_s, 2),
    )


def _compared(folder: Path, kind: str, bare: Read, count: int) -> tuple[float, float]:
    """Seconds of our reads and of the bare ones."""
    stage = Ingest()
    config = IngestConfig.model_validate({kind: str(folder / f"a.{kind}"), "label": "real"})
    locations = list(stage.discover(config, Scan(folder, None)).payload["location"])
    order = np.random.default_rng(1).permutation(count).tolist()
    assert all(stage.read(config, locations[row]) == bare(row) for row in order[:20])

    def ours() -> None:
        for row in order:
            stage.read(config, locations[row])

    def theirs() -> None:
        for row in order:
            bare(row)

    return alternate(ours, theirs, ROUNDS)


def _lmdb(folder: Path, images: list[bytes]) -> Read:
    path = folder / "a.lmdb"
    with (
        lmdb.open(str(path), map_size=2 * BYTES * len(images) + 2**20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number, content in enumerate(images):
            transaction.put(f"{number:040x}".encode(), content)
    twin = path.with_name("twin.lmdb")  # a process opens a database once
    twin.mkdir()
    shutil.copy(path / "data.mdb", twin)
    bare = lmdb.open(str(twin), readonly=True, lock=False, readahead=False)

    def read(row: int) -> bytes:
        with bare.begin() as transaction:
            return bytes(transaction.get(f"{row:040x}".encode()) or b"")

    return read


def _parquet(folder: Path, images: list[bytes]) -> Read:
    path = folder / "a.parquet"
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    column = pyarrow.array([{"bytes": content, "path": None} for content in images], kind)
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), path, row_group_size=GROUP)
    bare = pyarrow.parquet.ParquetFile(path, memory_map=True)

    def read(row: int) -> bytes:
        group = bare.read_row_group(row // GROUP, columns=["image"])["image"]
        content: bytes = group[row % GROUP].as_py()["bytes"]
        return content

    return read


def _tar(folder: Path, images: list[bytes]) -> Read:
    path = folder / "a.tar"
    with tarfile.open(path, "w") as archive:
        for number, content in enumerate(images):
            entry = tarfile.TarInfo(f"{number:08d}.png")
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    bare = tarfile.open(path)  # noqa: SIM115
    members = bare.getmembers()

    def read(row: int) -> bytes:
        file: Any = bare.extractfile(members[row])
        content: bytes = file.read()
        return content

    return read


def _listing(folder: Path) -> float:
    """Seconds of CPU time until `RECORDS` records of 4 x 4 pixels are listed with their ids."""

    def piece(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def summed(data: bytes) -> bytes:
        return data + masked(crc32c(data)).to_bytes(4, "little")

    pixels = 48
    shape = piece(1, piece(1, b"shape") + piece(2, piece(3, piece(1, bytes([3, 4, 4])))))
    data = piece(1, piece(1, b"data") + piece(2, piece(1, piece(1, bytes(pixels)))))
    before = piece(1, shape + data)[:-pixels]
    head = summed((len(before) + pixels).to_bytes(8, "little"))
    records = (head + summed(before + number.to_bytes(4, "little") * 12) for number in range(RECORDS))
    (folder / "a.tfrecords").write_bytes(b"".join(records))
    start = time.process_time()
    rows = Ingest().discover(IngestConfig(tfrecord=str(folder / "a.tfrecords")), Scan(folder, None))
    assert len(rows.id) == RECORDS
    return time.process_time() - start


if __name__ == "__main__":
    main()
