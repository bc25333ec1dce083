"""ONNX files as graphs: parsed without following what they say, refused where that could reach beyond the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashshield.errors import CheckpointError
from hashshield.models.graph import MOST_NODES, Graph, GraphTrunk, Node

__all__ = ["LARGEST_FILE", "packages", "read_onnx"]

LARGEST_FILE = 512 * 2**20
"""Bytes of a network, or of a projection."""
_OPSETS = range(9, 29)


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
    return data, *_translated(onnx, _parsed(onnx, data, path), path, side)


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
        message = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise CheckpointError(f"{path}: not an ONNX file ({error}); export the network again") from error
    for part in _parts(message):
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
    """Every message inside, wherever it stands: in attributes, in subgraphs, in kinds that are not known yet."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += value if not hasattr(value, "ListFields") else [value]


def _translated(onnx: ModuleType, message: Any, path: Path, side: int) -> tuple[Graph, int]:
    """The network as data and the length of its output. Raises CheckpointError."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in message.opset_import}
    if opsets.get("ai.onnx") not in _OPSETS:
        raise CheckpointError(
            f"{path}: operator set {opsets.get('ai.onnx')}; {_OPSETS[0]} to {_OPSETS[-1]} are read, export it for one"
        )
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
    if len(message.graph.node) > MOST_NODES:
        raise CheckpointError(f"{path}: {len(message.graph.node)} operators; up to {MOST_NODES} are imported")
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
    if shape[0] > 1:
        raise CheckpointError(f"{path}: made for batches of {shape[0]}; export it for 1 or for any number")
    return graph, _width(graph, path, side)


def _width(graph: Graph, path: Path, side: int) -> int:
    try:
        with torch.inference_mode():
            features: Tensor = GraphTrunk(graph)(torch.zeros(2, 3, side, side))
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path}: cannot be run on {side} x {side} pixels ({first}); export it again") from error
    return features.shape[1]


def _tensor(onnx: ModuleType, tensor: Any, path: Path) -> Tensor:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor.data_type not in kinds:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise CheckpointError(f"{path}: tensor {tensor.name!r} is of type {kind}; export the network in float32")
    try:
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
    except ValueError as error:
        raise CheckpointError(f"{path}: tensor {tensor.name!r} does not hold its shape ({error})") from error


def _node(onnx: ModuleType, node: Any, path: Path) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise CheckpointError(
            f"{path}: the operator {node.domain}.{node.op_type} is no standard one; export without it"
        )
    attributes: dict[str, Any] = {}
    for entry in node.attribute:
        value = onnx.helper.get_attribute_value(entry)
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
    (entry,) = node.attribute
    if entry.name == "value":
        return _tensor(onnx, entry.t, path)
    if entry.name in ("value_int", "value_ints", "value_float", "value_floats"):
        dtype = torch.int64 if "int" in entry.name else torch.float32
        return torch.tensor(onnx.helper.get_attribute_value(entry), dtype=dtype)
    raise CheckpointError(f"{path}: a constant of kind {entry.name} is not known here")
