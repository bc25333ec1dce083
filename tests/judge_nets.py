"""Small ONNX files that read and answer as the networks of `bench.judges` do: the colours of sixteen fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["detector_file", "residual_file"]


def residual_file(folder: Path) -> Path:
    """(N, 224, 224, 3) float -> two shares that add up to 1; 48 features go into the only matrix product."""
    nodes = [
        helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[56, 56], strides=[56, 56]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "weight"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["outputs"], axis=1),
    ]
    weight = numpy_helper.from_array(np.linspace(-0.01, 0.01, 96, dtype=np.float32).reshape(48, 2), "weight")
    return _written(
        folder / "residual.onnx",
        nodes,
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 224, 224, 3]),
        helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", 2]),
        [weight],
    )


def detector_file(folder: Path) -> Path:
    """(N, H, W, 3) uint8 -> (N, 48)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "grey"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[72, 72], strides=[72, 72]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    return _written(
        folder / "detector.onnx",
        nodes,
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 48]),
        [numpy_helper.from_array(np.array(128, np.float32), "grey")],
    )


def _written(
    path: Path,
    nodes: list[onnx.NodeProto],
    taken: onnx.ValueInfoProto,
    given: onnx.ValueInfoProto,
    constants: list[onnx.TensorProto],
) -> Path:
    graph = helper.make_graph(nodes, "judge", [taken], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
