"""Translate an ONNX file into a `Graph` of supported operators, for one image size.

Everything that does not depend on the image is computed once, at import. Exporters write out shape arithmetic operator
by operator (Swin-T has thousands of such operators). With the image size fixed, every value that is the same for two
and for three images is a constant; so are tables that are permuted or interpolated before use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashshield.errors import CheckpointError
from hashshield.models.graph import Graph, Node, output_width, rehearse
from hashshield.models.onnx_file import OnnxFile, packages, read_file
from hashshield.models.operators import OPERATORS
from hashshield.text import clean

__all__ = [
    "POOLINGS",
    "fold",
    "read_onnx",
]


_BATCHES = (2, 3)
"""Batch sizes of the two rehearsals; values equal in both do not depend on the batch size."""
_MOST_WORK = 1_000_000_000
"""Most multiplications spent on constants."""
_MOST_ELEMENTS = 1 << 24
"""Most values of one computed constant; all together may have twice as many."""


def fold(graph: Graph, *, side: int) -> Graph:
    """Return an equivalent graph for images of `side` pixels, with everything independent of the image as constants.

    Raises ValueError if the graph cannot run, needs more memory or time than a hash network may, or does not depend on
    the image.
    """
    # Unneeded nodes count too, because onnxruntime, the reference, may run them.
    runs = [rehearse(graph, images=images, side=side) for images in ((1,) if graph.one_by_one else _BATCHES)]
    constants, kept = dict(graph.constants), []
    work = made = 0
    for index, node in enumerate(graph.nodes):
        known = [run.known.get(node.output) for run in runs]
        agreed = _same(known)
        if agreed is not None:
            constants[node.output] = agreed
            continue
        effort, size = max(run.work[index] for run in runs), max(run.elements[index] for run in runs)
        can_be = all(name in constants or not name for name in node.inputs)
        if not can_be or size > _MOST_ELEMENTS or made + size > 2 * _MOST_ELEMENTS or work + effort > _MOST_WORK:
            kept.append(node)
            continue
        work, made = work + effort, made + size
        constants[node.output] = _computed(node, constants)
    if graph.output in constants:
        raise ValueError("its output does not depend on the picture")
    return _tidied(Graph(tuple(kept), constants, graph.input, graph.output, graph.one_by_one))


def _same(values: list[Tensor | None]) -> Tensor | None:
    """Return the value if all runs know it and agree, else None."""
    first = values[0]
    if first is None or not all(other is not None and torch.equal(first, other) for other in values[1:]):
        return None
    return first


@torch.no_grad()
def _computed(node: Node, constants: dict[str, Tensor]) -> Tensor:
    try:
        return OPERATORS[node.op](node.attributes, *(constants[name] if name else None for name in node.inputs))
    except (RuntimeError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error


def _needed(graph: Graph) -> Graph:
    """Return the graph without nodes and constants that the output does not depend on."""
    needed, nodes = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.append(node)
    constants = {name: value for name, value in graph.constants.items() if name in needed}
    return graph._replace(nodes=tuple(reversed(nodes)), constants=constants)


def _tidied(graph: Graph) -> Graph:
    """Return the graph with unneeded parts removed, one name per value, and separate memory for each constant."""
    names: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = node._replace(inputs=tuple(names.get(name, name) for name in node.inputs))
        if node.op in ("Identity", "Dropout") and node.output != graph.output:
            names[node.output] = node.inputs[0]
        else:
            nodes.append(node)
    first: dict[int, str] = {}
    for name, value in graph.constants.items():
        names[name] = first.setdefault(id(value), name)
    nodes = [node._replace(inputs=tuple(names.get(name, name) for name in node.inputs)) for node in nodes]
    found = _needed(graph._replace(nodes=tuple(nodes)))
    seen: set[int] = set()
    constants = {}
    for name, value in found.constants.items():
        memory = value.untyped_storage().data_ptr()
        constants[name] = _finite(value.clone() if memory in seen else value).contiguous()
        seen.add(memory)
    return found._replace(constants=constants)


def _finite(value: Tensor) -> Tensor:
    """Return `value` with infinities (as in attention masks) clamped to the dtype's range: checkpoints have none."""
    if not value.is_floating_point() or not bool(torch.isinf(value).any()):
        return value
    limits = torch.finfo(value.dtype)
    return value.clamp(limits.min, limits.max)


_OPSETS = range(9, 29)
_LONGEST_MESSAGE = 600
"""Most characters of an error message after the path."""
_MOST_IN_FILE = 12_000
"""Most operators of a file before shape arithmetic is folded; Swin-T has 6,300."""
_SOFTMAX_OF_AXIS = 13
"""First opset in which Softmax runs over a single axis."""
POOLINGS = ("", "first", "mean")
"""How an output (N, T, D) of T tokens becomes features: all values, the first token, or the mean over tokens."""


def read_onnx(path: Path, *, side: int, output: str = "", pooling: str = "") -> tuple[OnnxFile, Graph, int]:
    """Return the file, its network as a folded graph for images of `side` pixels, and the length of its output.

    `output` chooses one of several outputs; `pooling` is one of `POOLINGS`. Raises CheckpointError for anything but a
    network that maps float images to one vector each.
    """
    onnx, _ = packages()
    file = read_file(path)
    try:
        if output:
            _keep_only(file.message.graph, output, path)
        return file, *_translated(onnx, file, side, pooling)
    except CheckpointError as error:
        # Names in the message come from the file: they may hold line breaks and be of any length.
        raise CheckpointError(clean(str(error))[: len(str(path)) + _LONGEST_MESSAGE]) from error


def _keep_only(graph: Any, output: str, path: Path) -> None:
    """Reduce an ONNX graph to what its output `output` needs. Raises CheckpointError if there is no such output."""
    chosen = [value for value in graph.output if value.name == output]
    if not chosen:
        names = ", ".join(value.name for value in graph.output)
        raise CheckpointError(f"{path}: has no output {output!r}; the card may name one of {names}")
    needed, keep = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            keep.append(node)
    for field, values in (
        ("node", reversed(keep)),
        ("output", chosen[:1]),
        ("input", [value for value in graph.input if value.name in needed]),
        ("initializer", [tensor for tensor in graph.initializer if tensor.name in needed]),
    ):
        kept = [type(value).FromString(value.SerializeToString()) for value in values]
        graph.ClearField(field)
        getattr(graph, field).extend(kept)
    graph.ClearField("value_info")


def _translated(onnx: ModuleType, file: OnnxFile, side: int, pooling: str) -> tuple[Graph, int]:
    """Return the network as a folded graph, and the length of its output. Raises CheckpointError."""
    path, message = file.path, file.message
    opset = {entry.domain or "ai.onnx": entry.version for entry in message.opset_import}.get("ai.onnx")
    if opset is None or opset not in _OPSETS:
        raise CheckpointError(
            f"{path}: operator set {opset}; {_OPSETS[0]} to {_OPSETS[-1]} are read, export it for one"
        )
    if len(message.graph.node) > _MOST_IN_FILE:
        raise CheckpointError(f"{path}: {len(message.graph.node)} operators; up to {_MOST_IN_FILE} are imported")
    constants = {
        t.name: _weights(file.weights[t.name]) if t.name in file.weights else _tensor(onnx, t, path)
        for t in message.graph.initializer
    }
    images, batch = _input(onnx, message, path, side, constants)
    nodes: list[Node] = []
    for found in message.graph.node:
        parts = _nodes(onnx, found, path, opset)
        if found.op_type == "Constant":
            constants[found.output[0]] = _constant(onnx, found, path)
        else:
            nodes += parts
    output = message.graph.output[0].name
    if pooling:
        output = _pooled(nodes, constants, output, pooling)
    graph = Graph(tuple(nodes), constants, images, output, one_by_one=batch != 0)
    if fault := graph.fault(_MOST_IN_FILE):
        raise CheckpointError(f"{path}: {fault}")
    if batch not in (0, 1):
        raise CheckpointError(f"{path}: made for batches of {batch}; export it for 1 or for any number")
    try:
        graph = fold(graph, side=side)
        if fault := graph.fault():
            raise ValueError(fault)
        return graph, output_width(graph, side=side)
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be run on {side} x {side} pixels ({error}); export it again") from error


def _input(onnx: ModuleType, message: Any, path: Path, side: int, constants: dict[str, Tensor]) -> tuple[str, int]:
    """Return name and batch size (0: any) of the only input. Raises CheckpointError."""
    inputs = [value for value in message.graph.input if value.name not in constants]
    outputs = [value.name for value in message.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join([value.name for value in inputs] + outputs)
        raise CheckpointError(
            f"{path}: {len(inputs)} inputs and {len(outputs)} outputs; a hash network has one of each: name the one "
            f"to use as `output` in the card, or export it alone ({names})"
        )
    tensor_type = inputs[0].type.tensor_type
    shape = [dim.dim_value for dim in tensor_type.shape.dim]
    fits = len(shape) == 4 and all(
        found in (0, wanted) for found, wanted in zip(shape[1:], (3, side, side), strict=True)
    )
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    if tensor_type.elem_type not in floats or not fits:
        raise CheckpointError(
            f"{path}: reads {[d or '?' for d in shape]} of type {tensor_type.elem_type}; the card says float32 (1) "
            f"images [N, 3, {side}, {side}], so correct its crop or export the network with channels first"
        )
    return inputs[0].name, shape[0]


def _pooled(nodes: list[Node], constants: dict[str, Tensor], output: str, pooling: str) -> str:
    """Append a node that pools the tokens of `output`; return the name of its result."""
    pooled, which = f"{output}/{pooling}", f"{output}/{pooling}/axis"
    if pooling == "first":
        constants[which] = torch.tensor(0)
        nodes.append(Node("Gather", (output, which), pooled, {"axis": 1}))
    else:
        constants[which] = torch.tensor([1])
        nodes.append(Node("ReduceMean", (output, which), pooled, {"keepdims": 0}))
    return pooled


def _tensor(onnx: ModuleType, tensor: Any, path: Path) -> Tensor:
    kinds = onnx.TensorProto
    read = (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.INT64, kinds.INT32, kinds.UINT8, kinds.INT8, kinds.BOOL)
    if tensor.data_type not in read:
        names = dict(zip(kinds.DataType.values(), kinds.DataType.keys(), strict=True))
        kind = names.get(tensor.data_type, f"number {tensor.data_type}")
        raise CheckpointError(f"{path}: tensor {tensor.name!r} is of type {kind}; export the network in float32")
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"a dimension of {min(tensor.dims)}")
        return _weights(np.array(onnx.numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path}: tensor {tensor.name!r} does not hold its shape ({error})") from error


def _weights(values: Any) -> Tensor:
    """Return an array as a tensor: floats as float32, integers as int32 or int64. It may share the file's memory."""
    tensor = torch.from_numpy(values)
    if tensor.is_floating_point():
        return tensor.float()
    return tensor if tensor.dtype in (torch.int64, torch.bool) else tensor.int()


def _nodes(onnx: ModuleType, node: Any, path: Path, opset: int) -> list[Node]:
    """Return an ONNX node as nodes with one output each: one per output of Split, else one for the first output."""
    if node.domain not in ("", "ai.onnx"):
        raise CheckpointError(
            f"{path}: the operator {node.domain}.{node.op_type} is not a standard ONNX operator; export the network "
            "without it"
        )
    if not node.output:
        raise CheckpointError(f"{path}: {node.op_type} has no output; export the network again")
    attributes = _attributes(onnx, node, path)
    if node.op_type == "BatchNormalization" and attributes.get("training_mode"):
        raise CheckpointError(f"{path}: its batch norms are in training mode; export the network for inference")
    if node.op_type == "Softmax" and opset < _SOFTMAX_OF_AXIS:
        attributes["flattened"] = 1
    inputs = tuple(node.input)
    if node.op_type == "Split":
        parts: Sequence[tuple[int, str]] = [(part, name) for part, name in enumerate(node.output) if name]
        return [
            Node("Split", inputs, name, {**attributes, "part": part, "parts": len(node.output)}) for part, name in parts
        ]
    return [Node(node.op_type, inputs, node.output[0], attributes)]


def _attributes(onnx: ModuleType, node: Any, path: Path) -> dict[str, Any]:
    """Return a node's attributes: numbers, lists of numbers and strings. Raises CheckpointError for other kinds."""
    attributes: dict[str, Any] = {}
    kinds = onnx.AttributeProto
    for entry in node.attribute:
        try:
            value = onnx.helper.get_attribute_value(entry)
        except ValueError as error:
            raise CheckpointError(f"{path}: {node.op_type} has an attribute {entry.name} of an unknown type") from error
        if entry.type in (kinds.INT, kinds.FLOAT):
            attributes[entry.name] = value
        elif entry.type in (kinds.INTS, kinds.FLOATS):
            attributes[entry.name] = list(value)
        elif entry.type == kinds.STRING:
            attributes[entry.name] = value.decode(errors="replace")
        elif (node.op_type, entry.name, entry.type) == ("ConstantOfShape", "value", kinds.TENSOR):
            filling = _tensor(onnx, entry.t, path)
            if filling.numel() != 1:
                raise CheckpointError(f"{path}: ConstantOfShape of {filling.numel()} values; export it again")
            attributes |= {"value": filling.reshape(()).item(), "type": entry.t.data_type}
        elif node.op_type != "Constant":
            raise CheckpointError(f"{path}: {node.op_type} has an attribute {entry.name} of an unsupported type")
    return attributes


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
    raise CheckpointError(f"{path}: a constant of kind {entry.name} is not supported")
