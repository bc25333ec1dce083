"""ONNX files as graphs: counted before they are parsed, never followed to other files, refused if that could happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashshield.errors import CheckpointError
from hashshield.models.graph import MOST_NODES, Graph, Node, output_width
from hashshield.text import clean

__all__ = ["LARGEST_FILE", "check_wire", "packages", "read_onnx"]

_MAX_FIELDS = 200_000
"""Fields of a file; 5,000 operators have some 20 each, and tensors keep their data in one."""
_MAX_PACKED = 16 << 20
"""Bytes of whole numbers written one by one, each of which becomes eight; networks keep shapes so."""
_MAX_DEPTH = 64
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def check_wire(data: bytes, descriptor: Any) -> None:
    """Walk the fields of a message and of those inside it, as its protobuf `descriptor` names them.

    Raises ValueError for what is no such message, and for more fields, numbers or levels than a network has.
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
    """Read a number of seven bits a byte; return it and where it ends."""
    found = shift = 0
    for byte in view[at : min(end, at + _LONGEST_VARINT)]:
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise ValueError("a number is cut short")


LARGEST_FILE = 512 * 2**20
"""Bytes of a network, or of a projection."""
_OPSETS = range(9, 29)
_LONGEST_MESSAGE = 600
"""Characters behind the file's name."""


def packages() -> tuple[ModuleType, ModuleType]:
    """Modules onnx and onnxruntime. Raises CheckpointError naming what to install."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise CheckpointError(
            f"importing ONNX needs the packages onnx and onnxruntime ({error}); install hashshield[onnx]"
        ) from error
    return onnx, onnxruntime


def read_onnx(path: Path, *, side: int) -> tuple[bytes, Graph, int]:
    """The file's bytes, its network as a graph for images of `side` pixels, and the length of its output.

    Raises CheckpointError for anything that is not one plain network from float32 images to one vector each.
    """
    onnx, _ = packages()
    data = _bytes_of(path)
    try:
        return data, *_translated(onnx, _parsed(onnx, data, path), path, side)
    except CheckpointError as error:
        # Names in it are the file's: they may hold line ends, and be of any length.
        raise CheckpointError(clean(str(error))[: len(str(path)) + _LONGEST_MESSAGE]) from error


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise CheckpointError(f"{path}: {size} bytes; networks of up to {LARGEST_FILE} are imported")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _parsed(onnx: ModuleType, data: bytes, path: Path) -> Any:
    """The message in the file, looked through before anything follows what it says: parsing alone opens no file."""
    from google.protobuf.message import DecodeError

    try:
        check_wire(data, onnx.ModelProto.DESCRIPTOR)
        message = onnx.ModelProto.FromString(data)
        parts = list(_parts(message))
    except (DecodeError, ValueError) as error:
        raise CheckpointError(f"{path}: not an ONNX file ({error}); export the network again") from error
    for part in parts:
        kind = part.DESCRIPTOR.name
        if kind == "TensorProto" and (part.external_data or part.data_location == part.EXTERNAL):
            raise CheckpointError(
                f"{path}: tensor {part.name!r} keeps its data in another file, which could be any file of yours; "
                "save the network with all its data inside"
            )
        if kind in ("SparseTensorProto", "FunctionProto", "TrainingInfoProto"):
            raise CheckpointError(
                f"{path}: holds a {kind}, which is not imported; export a plain network for inference"
            )
    try:
        onnx.checker.check_model(message)
    except onnx.checker.ValidationError as error:
        first = str(error).splitlines()[0][:200]
        raise CheckpointError(f"{path}: not a valid ONNX network ({first}); export it again") from error
    return message


def _parts(message: Any) -> Iterator[Any]:
    """Yield every message inside, wherever it stands: in attributes, in subgraphs, in kinds that are not known yet.

    Raises ValueError for a text that is not UTF-8.
    """
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += value if not hasattr(value, "ListFields") else [value]
            elif field.type == field.TYPE_STRING:
                texts = [value] if isinstance(value, (str, bytes)) else value
                # The parser hands out as bytes, or as an error, what is no text.
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError(f"its {field.name} is no text in UTF-8")


def _translated(onnx: ModuleType, message: Any, path: Path, side: int) -> tuple[Graph, int]:
    """The network as data and the length of its output. Raises CheckpointError."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in message.opset_import}
    if opsets.get("ai.onnx") not in _OPSETS:
        raise CheckpointError(
            f"{path}: operator set {opsets.get('ai.onnx')}; {_OPSETS[0]} to {_OPSETS[-1]} are read, export it for one"
        )
    if len(message.graph.node) > MOST_NODES:
        raise CheckpointError(f"{path}: {len(message.graph.node)} operators; up to {MOST_NODES} are imported")
    constants = {t.name: _tensor(onnx, t, path) for t in message.graph.initializer}
    inputs = [value for value in message.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(message.graph.output) != 1:
        raise CheckpointError(
            f"{path}: {len(inputs)} inputs and {len(message.graph.output)} outputs; a hash network has one of each"
        )
    tensor_type = inputs[0].type.tensor_type
    shape = [dim.dim_value for dim in tensor_type.shape.dim]
    fits = len(shape) == 4 and all(
        found in (0, wanted) for found, wanted in zip(shape[1:], (3, side, side), strict=True)
    )
    if tensor_type.elem_type != onnx.TensorProto.FLOAT or not fits:
        raise CheckpointError(
            f"{path}: reads {[d or '?' for d in shape]} of type {tensor_type.elem_type}; the card says float32 (1) "
            f"images [N, 3, {side}, {side}], so correct its crop or export the network with channels first"
        )
    nodes = []
    for found in message.graph.node:
        node = _node(onnx, found, path)
        if node.op == "Constant":
            constants[node.output] = _constant(onnx, found, path)
        else:
            nodes.append(node)
        if node.op == "Softmax" and opsets["ai.onnx"] < 13:
            raise CheckpointError(f"{path}: Softmax means another thing before operator set 13; export it anew")
    graph = Graph(tuple(nodes), constants, inputs[0].name, message.graph.output[0].name, one_by_one=shape[0] != 0)
    if fault := graph.fault():
        raise CheckpointError(f"{path}: {fault}")
    if shape[0] not in (0, 1):
        raise CheckpointError(f"{path}: made for batches of {shape[0]}; export it for 1 or for any number")
    return graph, _width(graph, path, side)


def _width(graph: Graph, path: Path, side: int) -> int:
    try:
        return output_width(graph, side=side)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be run on {side} x {side} pixels ({error}); export it again") from error


def _tensor(onnx: ModuleType, tensor: Any, path: Path) -> Tensor:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor.data_type not in kinds:
        names = dict(zip(onnx.TensorProto.DataType.values(), onnx.TensorProto.DataType.keys(), strict=True))
        kind = names.get(tensor.data_type, f"number {tensor.data_type}")
        raise CheckpointError(f"{path}: tensor {tensor.name!r} is of type {kind}; export the network in float32")
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"a dimension of {min(tensor.dims)}")
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: tensor {tensor.name!r} does not hold its shape ({error})") from error


def _node(onnx: ModuleType, node: Any, path: Path) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise CheckpointError(
            f"{path}: the operator {node.domain}.{node.op_type} is no standard one; export without it"
        )
    attributes: dict[str, Any] = {}
    if not node.output:
        raise CheckpointError(f"{path}: {node.op_type} gives nothing; export the network again")
    for entry in node.attribute:
        try:
            value = onnx.helper.get_attribute_value(entry)
        except ValueError as error:
            raise CheckpointError(f"{path}: {node.op_type} has an attribute {entry.name} of no known kind") from error
        if entry.type in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT):
            attributes[entry.name] = value
        elif entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
            attributes[entry.name] = list(value)
        elif entry.type == onnx.AttributeProto.STRING:
            attributes[entry.name] = value.decode(errors="replace")
        elif node.op_type != "Constant":
            raise CheckpointError(f"{path}: {node.op_type} has an attribute {entry.name} of a kind not known here")
    if node.op_type == "BatchNormalization" and attributes.get("training_mode"):
        raise CheckpointError(f"{path}: its batch norms are in training mode; export the network for inference")
    return Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _constant(onnx: ModuleType, node: Any, path: Path) -> Tensor:
    if len(node.attribute) != 1:
        raise CheckpointError(f"{path}: a constant has {len(node.attribute)} values; export the network again")
    (entry,) = node.attribute
    if entry.name == "value" and entry.type == onnx.AttributeProto.TENSOR:
        return _tensor(onnx, entry.t, path)
    if entry.name in ("value_int", "value_ints", "value_float", "value_floats"):
        dtype = torch.int64 if "int" in entry.name else torch.float32
        try:
            return torch.tensor(onnx.helper.get_attribute_value(entry), dtype=dtype)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CheckpointError(f"{path}: a constant's {entry.name} holds something else ({error})") from error
    raise CheckpointError(f"{path}: a constant of kind {entry.name} is not known here")
