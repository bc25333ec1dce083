"""Read an ONNX file safely: check its size and structure before parsing, and leave large tensors in the mapped file.

The file is memory-mapped. Its message is parsed without the data of large initializers, which become views of the
mapping, so a file that is refused later costs no memory. External data is read only from regular files in the
network's own folder, named without a path; all files together may have `LARGEST_FILE` bytes.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashshield.errors import CheckpointError

__all__ = ["LARGEST_FILE", "OnnxFile", "check_wire", "packages", "read_file", "without_data"]

LARGEST_FILE = 512 * 2**20
"""Most bytes of a network with its external data, or of a projection."""
_MAX_FIELDS = 200_000
"""Most protobuf fields of a file; 12,000 operators have about ten each, and a tensor's data is one field."""
_MAX_PACKED = 16 << 20
"""Most bytes of packed integers, each of which takes eight bytes once parsed; networks store shapes so."""
_MAX_PARSED = 96 << 20
"""Most bytes to parse: everything but the data of large initializers."""
_LARGE = 4096
"""Least bytes of an initializer's data that stay in the file."""
_MAX_DEPTH = 64
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_GRAPH, _INITIALIZER, _RAW = 7, 5, (9, _LENGTH)
"""Field numbers from a ModelProto to an initializer's bytes (onnx.proto): graph, initializer, (raw_data, wire type)."""
_KINDS = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
"""ONNX tensor type -> numpy dtype, for the types that are supported."""


def packages() -> tuple[ModuleType, ModuleType]:
    """Return the modules onnx and onnxruntime. Raises CheckpointError naming what to install."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(
            f"importing ONNX needs the packages onnx and onnxruntime ({error}); install hashshield[onnx]"
        ) from error
    return onnx, onnxruntime


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """A parsed ONNX network, with the data of large initializers kept apart."""

    path: Path
    message: Any
    """The ModelProto; initializers in `weights` have no data in it."""
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Initializer name -> data, as a view of the mapped file."""

    @property
    def half(self) -> bool:
        """Whether it has 16-bit weights or a 16-bit input."""
        half = 10
        return any(tensor.data_type == half for tensor in self.message.graph.initializer) or any(
            value.type.tensor_type.elem_type == half for value in self.message.graph.input
        )

    def session(self, runtime: ModuleType, options: Any) -> Any:
        """Return an onnxruntime session of the network that opens no file. Raises whatever onnxruntime raises."""
        message = type(self.message)()
        message.CopyFrom(self.message)
        for tensor in message.graph.initializer:
            if tensor.name in self.weights:
                tensor.data_location = tensor.EXTERNAL
                tensor.external_data.add(key="location", value="weights")
        # onnxruntime drops initializers that no node reads, and rejects data for them.
        read = {name for node in message.graph.node for name in node.input}
        names = [
            tensor.name for tensor in message.graph.initializer if tensor.name in self.weights and tensor.name in read
        ]
        values = [runtime.OrtValue.ortvalue_from_numpy(self.weights[name]) for name in names]
        options.add_external_initializers(names, values)
        return runtime.InferenceSession(message.SerializeToString(), options, providers=["CPUExecutionProvider"])


def read_file(path: Path) -> OnnxFile:
    """Map, check and parse an ONNX file.

    Raises CheckpointError for a file that is too large, is not ONNX, or keeps data in places that are not allowed.
    """
    onnx, _ = packages()
    from google.protobuf.message import DecodeError

    data = _mapped(path, LARGEST_FILE)
    view = memoryview(data)
    try:
        check_wire(view, onnx.ModelProto.DESCRIPTOR)
        skeleton, spans = without_data(view)
        message = onnx.ModelProto.FromString(skeleton)
        parts = list(_parts(message))
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: not an ONNX file ({error}); export the network again") from error
    tensors = message.graph.initializer
    outside = [tensor for index, tensor in enumerate(tensors) if _is_outside(tensor) and index not in spans]
    allowed = set(map(id, outside))
    for part in parts:
        kind = part.DESCRIPTOR.name
        if kind == "TensorProto" and _is_outside(part) and id(part) not in allowed:
            raise CheckpointError(
                f"{path}: tensor {part.name!r} keeps its data in another file, which only the weights of a network "
                "may; save it with that data inside"
            )
        if kind in ("SparseTensorProto", "FunctionProto", "TrainingInfoProto"):
            raise CheckpointError(
                f"{path}: holds a {kind}, which is not imported; export a plain network for inference"
            )
    weights = {tensors[index].name: _array(data, *span, tensors[index], path) for index, span in spans.items()}
    weights |= _outside(path, outside, LARGEST_FILE - len(data))
    _check(onnx, message, path, weights)
    return OnnxFile(path, message, weights)


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == tensor.EXTERNAL


def _mapped(path: Path, largest: int, *, beside: Path | None = None) -> mmap.mmap | bytes:
    """Return the bytes of a regular file of at most `largest` bytes, mapped copy-on-write.

    `beside` is the network that the file holds data of; then links are not followed. Raises CheckpointError.
    """
    follow, named = beside is None, str(path) if beside is None else f"{beside}: its data file {path.name}"
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        # A network's data files must not be links to files elsewhere.
        descriptor = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointError(f"{named}: is not a regular file; copy the network again, with all its files")
            if found.st_size > largest:
                raise CheckpointError(
                    f"{named}: {found.st_size} bytes; networks of up to {LARGEST_FILE} are imported, all data counted"
                )
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) if found.st_size else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(f"{named}: cannot be read ({error.strerror})") from error


def _array(data: mmap.mmap | bytes, start: int, size: int, tensor: Any, path: Path) -> NDArray[Any]:
    """Return a tensor's data as a view of `data`. Raises CheckpointError if its size does not match its shape."""
    kind = _KINDS.get(tensor.data_type)
    if kind is None:
        raise CheckpointError(f"{path}: tensor {tensor.name!r} is of a type that is not read; export it in float32")
    dtype, wanted = np.dtype(kind), 1
    for side in tensor.dims:
        wanted *= side
        if side < 0 or wanted * dtype.itemsize > size:
            break
    if min(tensor.dims, default=0) < 0 or wanted * dtype.itemsize != size:
        raise CheckpointError(f"{path}: tensor {tensor.name!r} does not hold its shape ({size} bytes of data)")
    return np.frombuffer(data, dtype, count=wanted, offset=start).reshape(tuple(tensor.dims))


class _Entry(NamedTuple):
    location: str
    offset: int
    length: int


def _outside(path: Path, tensors: list[Any], left: int) -> dict[str, NDArray[Any]]:
    """Return name -> data of tensors in external files of at most `left` bytes together. Raises CheckpointError."""
    files: dict[str, mmap.mmap | bytes] = {}
    found = {}
    for tensor in tensors:
        entry = _entry(tensor, path)
        if entry.location not in files:
            files[entry.location] = _mapped(path.parent / entry.location, left, beside=path)
            left -= len(files[entry.location])
        data = files[entry.location]
        length = entry.length or len(data) - entry.offset
        if not 0 <= entry.offset <= entry.offset + length <= len(data):
            raise CheckpointError(
                f"{path}: tensor {tensor.name!r} is said to lie beyond the end of {entry.location}; "
                "copy both files again"
            )
        found[tensor.name] = _array(data, entry.offset, length, tensor, path)
    return found


def _entry(tensor: Any, path: Path) -> _Entry:
    said = {entry.key: entry.value for entry in tensor.external_data}
    name = said.get("location", "")
    if not name or name != Path(name).name or set(name) & set("\\/:\0") or name in (".", ".."):
        raise CheckpointError(
            f"{path}: tensor {tensor.name!r} keeps its data in another file, {name!r}, which could be any file of "
            "yours; only plain file names beside the network are followed: save it with all its data inside"
        )
    numbers = [said.get(key) or "0" for key in ("offset", "length")]
    if tensor.raw_data or not all(number.isascii() and number.isdigit() and len(number) < 16 for number in numbers):
        raise CheckpointError(f"{path}: tensor {tensor.name!r} does not say where its data lies; export it again")
    return _Entry(name, *map(int, numbers))


def _check(onnx: ModuleType, message: Any, path: Path, weights: dict[str, NDArray[Any]]) -> None:
    """Run onnx's checker on the message, with the tensors of `weights` as empty ones. Raises CheckpointError."""
    elsewhere = [tensor for tensor in message.graph.initializer if tensor.name in weights]
    dims = [list(tensor.dims) for tensor in elsewhere]
    for tensor in elsewhere:
        tensor.dims[:] = [0]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    try:
        onnx.checker.check_model(message)
    except onnx.checker.ValidationError as error:
        first = str(error).splitlines()[0][:200]
        raise CheckpointError(f"{path}: not a valid ONNX network ({first}); export it again") from error
    for tensor, shape in zip(elsewhere, dims, strict=True):
        tensor.dims[:] = shape


def _parts(message: Any) -> Iterator[Any]:
    """Yield every message nested inside, at any depth and of any type.

    Raises ValueError for a string that is not UTF-8.
    """
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        for each, value in part.ListFields():
            if each.message_type is not None:
                waiting += value if not hasattr(value, "ListFields") else [value]
            elif each.type == each.TYPE_STRING:
                texts = [value] if isinstance(value, (str, bytes)) else value
                # The parser returns invalid UTF-8 as bytes or raises.
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError(f"its {each.name} is no text in UTF-8")


def check_wire(data: bytes | memoryview, descriptor: Any) -> None:
    """Walk the fields of a serialised message and of its submessages, as protobuf `descriptor` describes them.

    Raises ValueError for a malformed message, and for more fields, packed integers or nesting than a network has.
    """
    view = memoryview(data)
    fields = packed = 0
    waiting = [(0, len(data), descriptor, 0)]
    while waiting:
        at, end, kind, depth = waiting.pop()
        while at < end:
            fields += 1
            if fields > _MAX_FIELDS:
                raise ValueError(f"it has more than {_MAX_FIELDS:,} fields")
            tag, at = _varint(view, at, end)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(view, at, end)
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            elif wire == _LENGTH:
                size, at = _varint(view, at, end)
                if size > end - at:
                    raise ValueError("a field runs past the end")
                field = kind.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    if depth == _MAX_DEPTH:
                        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
                    waiting.append((at, at + size, field.message_type, depth + 1))
                elif field is not None and field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
                    packed += size
                    if packed > _MAX_PACKED:
                        raise ValueError(f"it has more than {_MAX_PACKED >> 20} MB of whole numbers written one by one")
                at += size
            else:
                raise ValueError(f"a field is of the unknown kind {wire}")
        if at > end:
            raise ValueError("a field runs past the end")


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return the varint at `at` and the offset after it. Raises ValueError if it is cut short."""
    found = shift = 0
    for byte in view[at : min(end, at + _LONGEST_VARINT)]:
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise ValueError("a number is cut short")


def without_data(view: memoryview) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Return a serialised ModelProto without the data of large initializers, and where that data is.

    The second value maps an initializer's number to (start, size) in bytes. `view` must have passed `check_wire`.
    Raises ValueError if more than 96 MB remain.
    """
    spans: dict[int, tuple[int, int]] = {}
    out, number, left = bytearray(), 0, _MAX_PARSED
    for tag, wire, begin, start, end in _fields(view, 0, len(view)):
        if (tag, wire) != (_GRAPH, _LENGTH):
            left = _take(left, end - begin)
            out += view[begin:end]
            continue
        # protobuf merges repeated graph fields, so numbering continues across them.
        graph = bytearray()
        for inner, kind, first, inside, last in _fields(view, start, end):
            if (inner, kind) != (_INITIALIZER, _LENGTH):
                left = _take(left, last - first)
                graph += view[first:last]
                continue
            raw = sum(end - at for tag, wire, _, at, end in _fields(view, inside, last) if (tag, wire) == _RAW)
            left = _take(left, last - inside - (raw if raw >= _LARGE else 0))
            tensor, span = _emptied(view, inside, last)
            graph += _length_field(_INITIALIZER, tensor)
            if span is not None:
                spans[number] = span
            number += 1
        out += _length_field(_GRAPH, graph)
    return bytes(out), spans


def _take(left: int, size: int) -> int:
    """Return `left` minus `size`. Raises ValueError if that is negative."""
    if size > left:
        raise ValueError(f"it has more than {_MAX_PARSED >> 20} MB besides the raw data of its initializers")
    return left - size


def _emptied(view: memoryview, start: int, end: int) -> tuple[bytearray | memoryview, tuple[int, int] | None]:
    """Return a serialised tensor without its raw data, and the data's (start, size).

    A tensor with little data is returned unchanged, with None.
    """
    fields = list(_fields(view, start, end))
    raw = [(begin, last) for tag, wire, _, begin, last in fields if (tag, wire) == _RAW]
    if sum(last - begin for begin, last in raw) < _LARGE:
        return view[start:end], None
    out = bytearray()
    for tag, wire, first, _, last in fields:
        if (tag, wire) != _RAW:
            out += view[first:last]
    # Of repeated fields protobuf takes the last.
    return out, (raw[-1][0], raw[-1][1] - raw[-1][0])


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (number, wire type, begin, start of the payload, end) of each field."""
    while at < end:
        begin = at
        tag, at = _varint(view, at, end)
        start = at
        if tag & 7 == _VARINT:
            _, at = _varint(view, at, end)
        elif tag & 7 in (_FIXED32, _FIXED64):
            at += 4 if tag & 7 == _FIXED32 else 8
        else:
            size, start = _varint(view, at, end)
            at = start + size
        yield tag >> 3, tag & 7, begin, start, at


def _length_field(number: int, payload: bytearray | memoryview) -> bytes:
    size, head = len(payload), bytearray([number << 3 | _LENGTH])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(head) + bytes([size]) + bytes(payload)
