"""Files of Keras: what is read of them, and what leads out of them or into memory is refused."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.weights.detectors import state_dicts
from stages.weights.keras_files import read_hdf5, read_npz
from stages.weights.weights_file import WeightsError

KERNEL = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def keras_file(path: Path, change: Any = None, root: str = "/") -> Path:
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [b"pool", b"conv2d"]
        for layer in ("pool", "conv2d"):
            group.create_group(layer).attrs["weight_names"] = []
        group["conv2d"].attrs["weight_names"] = [b"conv2d/kernel:0"]
        group["conv2d"].create_dataset("conv2d/kernel:0", data=KERNEL)
        if change is not None:
            change(file)
    return path


@pytest.mark.parametrize("root", ["/", "model_weights"])
def test_weights_get_the_axes_of_torch(root: str, tmp_path: Path) -> None:
    (state,) = state_dicts(keras_file(tmp_path / "some.h5", root=root))
    assert list(state.tensors) == ["conv2d.weight"]
    for o, i, y, x in np.ndindex(4, 3, 1, 2):
        assert state.tensors["conv2d.weight"][o, i, y, x] == KERNEL[y, x, i, o]


@pytest.mark.filterwarnings("error")
def test_an_array_with_the_header_of_python_2_is_read(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + np.array([1, 2], np.float32).tobytes()
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
        archive.writestr("bias.npy", array)
    assert read_npz(tmp_path / "some.npz")["bias"].tolist() == [1.0, 2.0]


def test_a_damaged_header_of_an_npz_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", kernel=KERNEL)
    with zipfile.ZipFile(tmp_path / "some.npz") as archive:
        data = archive.read("kernel.npy")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("kernel.npy", data.replace(b"}", b" ", 1))
    with pytest.raises(WeightsError, match=r"bad\.npz is a damaged archive, download it again"):
        read_npz(tmp_path / "bad.npz")


def external_link(file: h5py.File) -> None:
    del file["conv2d/conv2d/kernel:0"]
    file["conv2d/conv2d/kernel:0"] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file: h5py.File) -> None:
    del file["conv2d/conv2d/kernel:0"]
    file["conv2d/conv2d/kernel:0"] = h5py.SoftLink("/conv2d")


def huge(file: h5py.File) -> None:
    del file["conv2d/conv2d/kernel:0"]
    file["conv2d/conv2d"].create_dataset("kernel:0", (1 << 20, 1 << 14), np.float32, chunks=(1024, 1024))


def text(file: h5py.File) -> None:
    del file["conv2d/conv2d/kernel:0"]
    file["conv2d/conv2d"].create_dataset("kernel:0", data=[b"some text"])


def nameless(file: h5py.File) -> None:
    del file["conv2d"].attrs["weight_names"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (external_link, r"has no 'conv2d/kernel:0' of its own"),
        (soft_link, r"has no 'conv2d/kernel:0' of its own"),
        (huge, "would need 68719476736 bytes of memory"),
        (text, "that is no array of numbers"),
        (nameless, "lacks weight_names"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_files_are_refused(change: Any, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(b"")
    path = keras_file(tmp_path / "some.h5", change)
    with pytest.raises(WeightsError, match=rf"some\.h5 .*{sentence}"):
        read_hdf5(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = keras_file(tmp_path / "some.h5")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(WeightsError, match=r"some\.h5 is no weights file of Keras 2, or a damaged one"):
        read_hdf5(path)


def test_the_library_is_asked_for_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keras_file(tmp_path / "some.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r"is an HDF5 file, and h5py cannot be imported .*the extra keras"):
        state_dicts(path)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_arrays_of_archives_are_read(tmp_path: Path) -> None:
    arrays = {"dense/kernel:0": KERNEL[0, 0], "dense/bias:0": np.asfortranarray(KERNEL[0])}
    found = read_npz(archive(tmp_path / "a.npz", {f"{name}.npy": npy(value) for name, value in arrays.items()}))
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (npy(np.array([{"a": 1}], dtype=object)), "that are no objects"),
        (npy(KERNEL)[:-4], "of 92 bytes that are no float32s"),
        (npy(KERNEL).replace(b"(1, 2, 3, 4)", b"(9**9, 1,4)"), "is a damaged archive"),
        (b"no array", "is a damaged archive"),
        (bytes(1 << 20), "packed more than 200 times"),
    ],
    ids=["object", "cut", "expression", "text", "bomb"],
)
def test_hostile_archives_are_refused(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"a\.npz .*{sentence}"):
        read_npz(archive(tmp_path / "a.npz", {"x.npy": data}))


def test_other_arrays_are_no_weights(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"images.npy": npy(KERNEL)})
    with pytest.raises(WeightsError, match=r"a\.npz holds other things than weights: 'images' is no weight"):
        state_dicts(path)
