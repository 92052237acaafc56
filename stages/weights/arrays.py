"""Numpy arrays and torch tensors inside a pickle: what the symbols that make them mean here.

Each function stands for one symbol of numpy or torch and makes plain numpy arrays out of bytes, after checking that
dtype, shape and bytes belong together. Torch files have two forms, a zip archive and an older row of pickles; both also
occur nested, as a byte string that holds the storage of one tensor.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.sentences import listed, printable, shown
from stages.weights.pickle_machine import Budget, Call, PickleMachine, Stub, Symbol, put_items, scalars
from stages.weights.weights_file import WeightsError

DTYPES = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))
STORAGES = {
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "DoubleStorage": "f8",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
    "BFloat16Storage": "bf16",  # numpy has no such type: widened to float32
}
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
DEEPEST = 2  # files in files
DEFLATE_RATIO = 200
MEMBER = 1000  # bytes charged for what zipfile keeps of a member
ENTRY = 120  # bytes charged for an entry of a dictionary or set
ARRAY = 240  # bytes charged for an array beside its values


class DataType(Stub):
    """Stands for numpy.dtype."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or code not in DTYPES:
            raise WeightsError(f"it has an array of dtype {shown(code)}; expected one of {', '.join(sorted(DTYPES))}")
        self.dtype = np.dtype("<" + code)

    def set_state(self, state: Any) -> None:
        if not (
            isinstance(state, tuple)
            and len(state) >= 5
            and state[1] in ("<", ">", "|", "=")
            and state[2:5] == (None,) * 3
        ):
            raise WeightsError("it has an array of a structured or unknown dtype; expected plain numbers")
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")

    def read(self, data: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """The array of these bytes; they must be exactly as many as the shape needs."""
        size = math.prod(shape) * self.dtype.itemsize
        if isinstance(data, str) and len(data) == size:  # Python 2 has one type for text and bytes
            data = latin1(data, "latin1")
        if not isinstance(data, bytes | memoryview) or len(data) != size:
            found = f"{len(data)} bytes" if isinstance(data, bytes | memoryview) else type(data).__name__
            raise WeightsError(f"it has an array of shape {shape} that needs {size} bytes and has {found}")
        return np.frombuffer(data, dtype=self.dtype).reshape(shape)


class NumpyArray(Stub):
    """Stands for an array that `_reconstruct` made empty and whose state is its content."""

    array: NDArray[Any] | None = None
    named = False

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def named_array(self) -> NDArray[Any] | None:
        """The array as a tensor of a network; each further name of the same array costs its bytes again."""
        if self.named and self.array is not None:
            self.budget.spend(self.array.nbytes)
        self.named = True
        return self.array

    def set_state(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], DataType)):
            raise WeightsError("it has a numpy array whose state is not version, shape, dtype, order and bytes")
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, axes(shape), bool(fortran))

    def fill(self, data: Any, dtype: DataType, shape: tuple[int, ...], fortran: bool) -> None:
        array = dtype.read(data, shape[::-1]).T if fortran else dtype.read(data, shape)
        self.budget.spend(array.nbytes)
        self.array = np.ascontiguousarray(array, dtype=dtype.dtype.newbyteorder("<")).reshape(shape)


class Storage:
    """Numbers of a torch file; their bytes come later in the older form."""

    def __init__(self, budget: Budget, code: str, count: int) -> None:
        self.budget, self.code, self.count, self.values = budget, code, count, None
        self.item_bytes = 2 if code == "bf16" else int(code[1])

    values: NDArray[Any] | None

    def fill(self, data: memoryview) -> None:
        if len(data) != self.count * self.item_bytes:
            raise WeightsError(
                f"a storage of {self.count} values has {len(data)} bytes, not {self.count * self.item_bytes}"
            )
        if self.code == "bf16":
            self.budget.spend(4 * self.count)
            self.values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            self.values = np.frombuffer(data, "<" + self.code)


class Tensor:
    """A view of a storage, made into an array when the file is read to its end."""

    def __init__(self, budget: Budget, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> None:
        size, stride, (offset,) = axes(size), sizes(stride), sizes((offset,))
        if not isinstance(storage, Storage) or len(size) != len(stride) or len(rest) > 3:
            raise WeightsError("it has a tensor without storage, or with a stride that is not of its shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and (last >= storage.count or count > storage.count):
            raise WeightsError(
                f"it has a tensor of shape {size}, stride {stride}, offset {offset} on {storage.count} values"
            )
        budget.spend(count * storage.item_bytes)
        self.budget, self.named = budget, False
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> NDArray[Any]:
        """The values in order; a view of the file's bytes where they stand in order. A second call costs again."""
        values = self.storage.values
        if values is None:
            raise WeightsError("it has a tensor whose storage is not in the file")
        self.budget.spend(ARRAY + (math.prod(self.size) * values.itemsize if self.named else 0))
        self.named = True
        if not math.prod(self.size):
            return np.zeros(self.size, values.dtype)
        steps = [step * values.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.size, steps, writeable=False)
        return np.ascontiguousarray(view).reshape(self.size)


class Record(Stub):
    """Stands for an object of settings that belongs to a training program, as a dictionary of its attributes."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise WeightsError("it has a record of settings whose state is no dictionary")
        self.state = state


def sizes(value: Any) -> tuple[int, ...]:
    """`value` as a shape, stride or offset: at most 32 integers from 0 to 2**48."""
    if not isinstance(value, tuple) or len(value) > 32 or not all(type(n) is int and 0 <= n < 1 << 48 for n in value):
        found = ", ".join(shown(n) for n in value[:8]) if isinstance(value, tuple) else shown(value)
        raise WeightsError(f"it has an array of shape, stride or offset ({found}); expected integers >= 0")
    return value


def axes(value: Any) -> tuple[int, ...]:
    """`value` as a shape that numpy can have, even where one side is 0."""
    checked = sizes(value)
    if math.prod(max(n, 1) for n in checked) > 1 << 56:
        raise WeightsError(f"it has an array of shape {checked}, which no computer can hold")
    return checked


def dictionary(budget: Budget, pairs: Any = ()) -> dict[Any, Any]:
    """Stands for collections.OrderedDict (the order is kept by dict)."""
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise WeightsError("it has a dictionary that is not made of pairs")
    budget.spend(ENTRY * len(pairs))
    made: dict[Any, Any] = {}
    put_items(made, [tuple(pair) for pair in pairs])
    return made


def set_of(budget: Budget, items: Any = ()) -> set[Any]:
    """A set of numbers and texts from a list; raises WeightsError for anything else."""
    if not isinstance(items, list | tuple):
        raise WeightsError("it has a set that is not made of a list")
    budget.spend(ENTRY * len(items))
    return set(scalars(items))


def latin1(text: Any, encoding: Any) -> bytes:
    """Stands for _codecs.encode, by which Python 2 style pickles hold bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise WeightsError("it encodes text in a way that weights do not need")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise WeightsError("it has a byte string with characters that are no bytes") from error


def scalar(dtype: Any, data: Any) -> Any:
    """Stands for numpy.core.multiarray.scalar; a numpy number."""
    if not isinstance(dtype, DataType):
        raise WeightsError("it has a number without a dtype")
    return dtype.read(data, ())[()]


def numpy_calls(budget: Budget) -> dict[tuple[str, str], Call]:
    """Symbols of numpy 1 and 2."""

    def encode(text: Any, encoding: Any) -> bytes:
        budget.spend(len(text) if isinstance(text, str) else 0)
        return latin1(text, encoding)

    def reconstruct(kind: Any, shape: Any, code: Any) -> NumpyArray:
        if kind != Symbol("numpy", "ndarray") or shape != (0,):
            raise WeightsError("it makes a numpy array of an unknown class")
        return NumpyArray(budget)

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
        if not isinstance(dtype, DataType) or order not in ("C", "F"):
            raise WeightsError("it has a numpy array without a dtype or order")
        made = NumpyArray(budget)
        made.fill(data, dtype, axes(shape), order == "F")
        return made

    calls: dict[tuple[str, str], Call] = {("numpy", "dtype"): DataType, ("_codecs", "encode"): encode}
    for core in ("numpy.core", "numpy._core"):
        calls[f"{core}.multiarray", "_reconstruct"] = reconstruct
        calls[f"{core}.multiarray", "scalar"] = scalar
        calls[f"{core}.numeric", "_frombuffer"] = from_buffer
    return calls


NUMPY_NAMES = frozenset({("numpy", "ndarray")})
RECORDS = (("argparse", "Namespace"), ("models.utils.config", "BaseConfig"))
TORCH_NAMES = NUMPY_NAMES | frozenset(("torch", name) for name in STORAGES)


def tensor_calls(budget: Budget) -> dict[tuple[str, str], Call]:
    """Symbols of tensors and of the dictionaries that hold them."""

    def parameter(tensor: Any, *rest: Any) -> Tensor:
        if not isinstance(tensor, Tensor):
            raise WeightsError("it has a parameter that is no tensor")
        return tensor

    return {
        ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: Tensor(budget, *arguments),
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("collections", "OrderedDict"): lambda *arguments: dictionary(budget, *arguments),
    }


def file_calls(budget: Budget) -> dict[tuple[str, str], Call]:
    """All symbols that may be called in a torch file."""
    return {**numpy_calls(budget), **tensor_calls(budget), **dict.fromkeys(RECORDS, Record)}


def read_torch(data: memoryview, budget: Budget, depth: int) -> Any:
    """Object of a torch file of either form: containers, numbers, `Storage` and `Tensor`. `depth` 0: outermost."""
    if depth > DEEPEST:
        raise WeightsError(f"it has files in files more than {DEEPEST} deep")
    return _read_zip(data, budget) if bytes(data[:4]) == b"PK\x03\x04" else _read_legacy(data, budget)


def _storage(identity: Any, fields: int) -> tuple[str, str, int]:
    """dtype code, key and number of values of a persistent id; the device that it names is ignored."""
    if not isinstance(identity, tuple) or len(identity) != fields or identity[0] != "storage":
        raise WeightsError("it refers to something other than a torch storage")
    kind, key, rest = identity[1], identity[2], identity[5:]
    if (
        not isinstance(kind, Symbol)
        or kind.name not in STORAGES
        or not isinstance(key, str)
        or rest not in ((), (None,))
    ):
        raise WeightsError("it refers to a torch storage in an unknown way")
    (count,) = sizes((identity[4],))
    return STORAGES[kind.name], key, count


def _read_legacy(data: memoryview, budget: Budget) -> Any:
    """The older form: magic number, version, facts of the machine, object, list of storages; then their bytes."""
    found: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        code, key, count = _storage(identity, 6)
        made = found.setdefault(key, Storage(budget, code, count))
        if (made.code, made.count) != (code, count) or made.count * made.item_bytes > len(data):
            raise WeightsError(
                f"a storage of {count} values is larger than the file around it, or is named in two ways"
            )
        return made

    machine = PickleMachine(data, budget, file_calls(budget), storage, TORCH_NAMES)
    magic = machine.load()
    version = machine.load(machine.position)
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL:
        raise WeightsError("it holds something that is no torch file")
    facts = machine.load(machine.position)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise WeightsError("its torch file was written by a big-endian machine, which is not read")
    result = machine.load(machine.position)
    keys = machine.load(machine.position)
    if not isinstance(keys, list) or sorted(scalars(keys), key=str) != sorted(found):
        raise WeightsError("its torch file lists other storages than its tensors need")
    for key in keys:
        count = int.from_bytes(machine.take(8), "little")
        if count != found[key].count:
            raise WeightsError(
                f"its torch file has a storage of {count} values where {found[key].count} were announced"
            )
        found[key].fill(machine.take(count * found[key].item_bytes))
    return result


def _read_zip(data: memoryview, budget: Budget) -> Any:
    """The zip form: NAME/data.pkl and one member NAME/data/KEY per storage."""
    whole = data.obj if isinstance(data.obj, bytes) and len(data.obj) == len(data) else bytes(data)
    budget.spend((0 if whole is data.obj else len(data)) + MEMBER * whole.count(b"PK\x01\x02"))
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:  # shares the bytes
            return _read_members(data, archive, budget)
    except WeightsError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError) as error:
        reason = printable(str(error))
        raise WeightsError(f"its torch file is a damaged or cut archive, download it again: {reason}") from error
    except (zlib.error, struct.error) as error:
        raise WeightsError(f"its torch file is a damaged archive, download it again: {error}") from error


def _member(data: memoryview, archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: Budget) -> memoryview:
    """Bytes of a member; a view where they are not packed, as torch writes them. Their checksum is verified."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WeightsError(f"its member {shown(member.filename)} is packed in a way that torch files do not use")
    if member.file_size > DEFLATE_RATIO * max(member.compress_size, 1):
        raise WeightsError(f"its member {shown(member.filename)} says it is packed more than {DEFLATE_RATIO} times")
    if member.compress_type == zipfile.ZIP_DEFLATED:
        budget.spend(member.file_size)
        with archive.open(member) as file:
            return memoryview(file.read(member.file_size))
    head = bytes(data[member.header_offset : member.header_offset + 30])
    if len(head) < 30 or head[:4] != b"PK\x03\x04" or member.flag_bits & 1:
        raise WeightsError(f"its member {shown(member.filename)} is not where the archive's directory says")
    start = member.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    content = data[start : start + member.file_size]
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise WeightsError(f"its member {shown(member.filename)} is damaged: its checksum differs; download it again")
    return content


def _read_members(data: memoryview, archive: zipfile.ZipFile, budget: Budget) -> Any:
    members = {member.filename: member for member in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in members):
        raise WeightsError(
            "it is a TorchScript program; save the state dict of its module: "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if members and all(name.endswith(".npy") for name in members):
        raise WeightsError(
            "it is an npz archive of numpy arrays, which no official checkpoint is; take one that docs/checkpoints.md "
            "names"
        )
    if len(roots) != 1 or len(members) != len(archive.infolist()):
        raise WeightsError(
            "its archive is no torch file (it needs exactly one data.pkl, and each member once); it holds "
            f"{listed(members, 3) or 'nothing'}; unpack it and give the checkpoint in it"
        )

    left = len(data)

    def read(name: str) -> memoryview:
        nonlocal left
        if name not in members:
            raise WeightsError(f"its torch file lacks {shown(name.removeprefix(roots[0]))}")
        left -= members[name].compress_size
        if left < 0:
            raise WeightsError("its archive has members that lie over each other")
        return _member(data, archive, members[name], budget)

    if roots[0] + "byteorder" in members and bytes(read(roots[0] + "byteorder")).strip() != b"little":
        raise WeightsError("its torch file was written by a big-endian machine, which is not read")
    found: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        code, key, count = _storage(identity, 5)
        if key not in found:
            made = Storage(budget, code, count)
            member = members.get(f"{roots[0]}data/{key}")
            if member is None or member.file_size != count * made.item_bytes:
                size = "no" if member is None else str(member.file_size)
                raise WeightsError(f"a storage of {count} values has {size} bytes in its torch file")
            made.fill(read(member.filename))
            found[key] = made
        if (found[key].code, found[key].count) != (code, count):
            raise WeightsError(f"its storage {shown(key)} is named in two ways")
        return found[key]

    return PickleMachine(read(roots[0] + "data.pkl"), budget, file_calls(budget), storage, TORCH_NAMES).load()
