"""Weights of Keras networks by their names: files of HDF5, as Keras 2 writes them, and .npz archives. Data alone.

HDF5 needs the extra `keras` (h5py). Of its links only those inside the file are followed, of its types only numbers are
read, and nothing is read whose size the file itself cannot account for.
"""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import shown
from stages.weights.pickle_machine import SMALLEST_BUDGET
from stages.weights.weights_file import WeightsError

HDF5_START = b"\x89HDF\r\n\x1a\n"
RATIO = 200  # largest share that packing saves
MOST = 10_000  # weights in a file


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of numbers of an .npz archive by name; raises WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST or any(m.file_size > RATIO * max(m.compress_size, 1) for m in members):
                raise WeightsError(f"{path} says that it is packed more than {RATIO} times, or has too many members")
            _bounded(path, sum(member.file_size for member in members))
            return {member.filename.removesuffix(".npy"): _member(path, archive, member) for member in members}
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except (
        zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError, tokenize.TokenError
    ) as error:  # fmt: skip
        raise WeightsError(f"{path} is a damaged archive, download it again: {shown(str(error))}") from error


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise WeightsError(f"{path} has an array {shown(member.filename)} with a header of version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a header as Python 2 wrote it is read all the same
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    if dtype.kind not in "fiub" or dtype.itemsize * math.prod(shape) != len(data):
        raise WeightsError(f"{path} has an array {shown(member.filename)} of {len(data)} bytes that are no {dtype}s")
    values = np.frombuffer(data, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    """Weights of a Keras 2 file, `<layer>/<part>:0`, in the order that it lists them; raises WeightsError."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f"{path} is an HDF5 file, and h5py cannot be imported ({error}); install h5py (the extra keras)"
        ) from error
    found: dict[str, NDArray[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
            for layer in _names(path, root, "layer_names"):
                group = _inside(path, root, layer, h5py)
                for name in _names(path, group, "weight_names"):
                    data = _inside(path, group, name, h5py)
                    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiub":
                        raise WeightsError(f"{path} has a weight {shown(name)} that is no array of numbers")
                    _bounded(path, data.nbytes)
                    found[name] = np.asarray(data[()])
    except WeightsError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} is no weights file of Keras 2, or a damaged one: {shown(str(error))}") from error
    return found


def _names(path: Path, group: Any, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        raise WeightsError(f"{path} lacks {attribute}, which weights files of Keras 2 have; save the weights alone")
    values = np.atleast_1d(group.attrs[attribute]).tolist()
    names = [value.decode() if isinstance(value, bytes) else value for value in values]
    if len(names) > MOST or not all(isinstance(name, str) and name for name in names):
        raise WeightsError(f"{path} has {attribute} that are no names")
    return names


def _inside(path: Path, group: Any, name: str, h5py: Any) -> Any:
    """What lies under a name, if no part of it leads out of the file."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path} has no {shown(name)} of its own")
        group = group[part]
    return group


def _bounded(path: Path, count: int) -> None:
    limit = max(4 * path.stat().st_size, SMALLEST_BUDGET)
    if count > limit:
        raise WeightsError(f"{path} would need {count} bytes of memory, too much for a file of its size")
